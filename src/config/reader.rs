//! Owns walking a parsed TOML file by the schema: opens tables, refuses keys that the schema does not have, reads
//! values with their places, and reports every mistake on the way. Does not know what a key means: `value` and
//! `pattern` parse single values, `document` puts them together.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Problem, Report, Source};
use crate::config::redact;
use crate::config::schema;
use crate::config::suggest;
use crate::config::value::{self, Parsed};

/// Something with the place where it was written.
#[derive(Debug, Clone)]
pub struct Located<T> {
    pub span: Range<usize>,
    pub value: T,
}

/// Parses the syntax. All of its errors are in the report; what could be read is in the table.
pub fn parse<'a>(file: &Path, text: &'a str) -> (Report<'a>, DeTable<'a>) {
    let report = Report::new(Source::new(file, text));
    let (document, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        report.syntax(span, syntax_problem(error.message()));
    }
    (report, document.into_inner())
}

/// The parser's words, with what usually is the reason.
fn syntax_problem(message: &str) -> Problem {
    let help = if message.starts_with("duplicate key") {
        Some("a key or table stands only once in a file; remove or rename one of them")
    } else if message.starts_with("string values must be quoted") || message.starts_with("invalid float") {
        Some("text, addresses, durations and sizes stand in quotes: \"10s\"")
    } else if message.starts_with("key with no value") {
        Some("a line is `key = value` or `[section]`")
    } else if message.contains("basic string") || message.contains("literal string") {
        Some("a text begins and ends with the same quote, on one line")
    } else {
        None
    };
    // "expected nothing" says nothing.
    Problem::new(message.trim_end_matches(", expected nothing")).help_if(help.map(str::to_owned))
}

/// What the schema says a key is when it is not written.
fn default_of<T>(path: &str, key: &str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> T {
    let written =
        schema::section(path).and_then(|section| section.keys.iter().find(|known| known.name == key));
    let node = written.and_then(|known| DeValue::parse(known.default).ok());
    // `config::schema_tests` parses every default in the table, and an empty file reads most of them.
    node.and_then(|node| parse(node.get_ref()).ok()).expect("the schema's defaults are valid")
}

/// One table of the file, opened at its place in the schema.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    report: &'a Report<'a>,
    /// Where the schema has it; `*` stands for `name`.
    path: &'static str,
    name: &'a str,
    table: &'a DeTable<'a>,
    /// Where the table begins: a missing key is reported there.
    start: (usize, usize),
}

impl<'a> Section<'a> {
    pub fn root(report: &'a Report<'a>, table: &'a DeTable<'a>) -> Self {
        let section = Section { report, path: "", name: "", table, start: (0, 1) };
        section.refuse_unknown();
        section
    }

    fn open(
        self,
        path: &'static str,
        name: &'a str,
        node: &'a Spanned<DeValue<'a>>,
        table: &'a DeTable<'a>,
    ) -> Self {
        let span = node.span();
        let section = Section { report: self.report, path, name, table, start: (span.start, span.end) };
        section.refuse_unknown();
        section
    }

    pub fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// Where the table begins.
    pub fn span(&self) -> Range<usize> {
        self.start.0..self.start.1
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where a key's name is written; the table's start if it is not there.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or_else(|| self.span(), |(key, _)| key.span())
    }

    /// Reads a value that may be missing. `None` also if it is wrong, which is reported then.
    pub fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Parsed<T>,
    ) -> Option<Located<T>> {
        debug_assert!(schema::knows(self.path, key), "{}.{key} is not in the schema", self.path);
        let node = self.table.get(key)?;
        self.parsed(key, node, parse)
    }

    /// Reads a value that has a default in the schema. Also what is wrong has it, once it is reported.
    pub fn value<T>(&self, key: &'static str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> T {
        self.located(key, parse).value
    }

    /// The same with its place; for a default, that of the table.
    pub fn located<T>(&self, key: &'static str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Located<T> {
        let written = self.optional(key, &parse);
        written.unwrap_or_else(|| Located { span: self.span(), value: default_of(self.path, key, parse) })
    }

    /// Reads a value that must be there.
    pub fn required<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Parsed<T>,
    ) -> Option<Located<T>> {
        if !self.has(key) {
            self.absent(key);
        }
        self.optional(key, parse)
    }

    /// Says that a key is missing, unless the table has another word for it: that is told already.
    pub fn absent(&self, key: &str) {
        if self.misnames(key) {
            return;
        }
        let example = match (self.path, key) {
            ("listen.*", "address") => Some("add `address = \"0.0.0.0:8080\"`"),
            ("listen.*", "to") => Some("add `to = \"SERVICE\"`: where its connections go"),
            ("listen.*", "tls") => Some("add `tls = { certificate = \"edge.pem\", key = \"edge.key\" }`"),
            ("listen.*.proxy_protocol", "trusted") => Some("add `trusted = [\"10.0.0.0/8\"]`"),
            ("auth.*.api_keys.quota", "file") => Some("add `file = \"keys.used\"`, which the gateway writes"),
            ("service.*", "endpoints") => Some("add `endpoints = [\"10.0.0.5:8000\"]`"),
            _ => None,
        };
        let problem =
            Problem::new(format!("{} has no `{key}`", self.title())).help_if(example.map(str::to_owned));
        self.report.absent(self.span(), self.key_path(key), problem);
    }

    /// One value, or a list of them. Every item is read, so that all mistakes are found.
    pub fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&'a DeValue<'a>) -> Parsed<T>,
    ) -> Vec<Located<T>> {
        debug_assert!(schema::knows(self.path, key), "{}.{key} is not in the schema", self.path);
        let nodes = self.nodes(key);
        nodes.iter().filter_map(|node| self.parsed(key, node, &parse)).collect()
    }

    /// The same without reading them.
    pub fn nodes(&self, key: &str) -> &'a [Spanned<DeValue<'a>>] {
        match self.table.get(key) {
            None => &[],
            Some(node) => match node.get_ref() {
                DeValue::Array(items) => items,
                _ => std::slice::from_ref(node),
            },
        }
    }

    /// A table inside this one; an empty one if it is not there, so that every key in it has its default.
    pub fn table_or_empty(&self, key: &'static str) -> Section<'a> {
        self.table(key).unwrap_or_else(|| self.defaults_of(key))
    }

    /// A table inside this one as it is when nothing is written in it.
    pub fn defaults_of(&self, key: &'static str) -> Section<'a> {
        static EMPTY: OnceLock<DeTable<'static>> = OnceLock::new();
        Section { path: schema::child(self.path, key), table: EMPTY.get_or_init(DeTable::new), ..*self }
    }

    /// A table inside this one, if it is there.
    pub fn table(&self, key: &'static str) -> Option<Section<'a>> {
        let node = self.table.get(key)?;
        self.table_of(key, node)
    }

    /// A node of this section as a table; `key` is its schema name below this section.
    pub fn table_of(&self, key: &'static str, node: &'a Spanned<DeValue<'a>>) -> Option<Section<'a>> {
        let path = schema::child(self.path, key);
        match node.get_ref() {
            DeValue::Table(table) => Some(self.open(path, self.name, node, table)),
            other => {
                let expected = format!("a table such as `{key} = {{ ... }}`");
                self.error(node.span(), key, value::wrong_type(&expected, other));
                None
            }
        }
    }

    /// The tables `[key.NAME]`, in the order of the file.
    pub fn named(&self, key: &'static str) -> Vec<(Located<&'a str>, Section<'a>)> {
        let Some(node) = self.table.get(key) else { return Vec::new() };
        let DeValue::Table(tables) = node.get_ref() else {
            let problem = value::wrong_type(&format!("tables with names: `[{key}.NAME]`"), node.get_ref());
            let array = matches!(node.get_ref(), DeValue::Array(_));
            let help =
                array.then(|| format!("write `[{key}.NAME]` with single brackets, once for each {key}"));
            self.error(node.span(), key, problem.help_if(help));
            return Vec::new();
        };
        debug_assert_eq!(self.path, "", "named tables stand at the top");
        let path = schema::child(key, "*");
        let mut found: Vec<_> =
            tables.iter().filter_map(|(name, node)| self.named_table(key, path, name, node)).collect();
        found.sort_by_key(|(name, _)| name.span.start);
        found
    }

    fn named_table(
        &self,
        key: &'static str,
        path: &'static str,
        name: &'a Spanned<std::borrow::Cow<'a, str>>,
        node: &'a Spanned<DeValue<'a>>,
    ) -> Option<(Located<&'a str>, Section<'a>)> {
        if let Err(problem) = value::check_name(name.get_ref()) {
            self.error(name.span(), key, Problem { offset: None, ..problem });
            return None;
        }
        let DeValue::Table(table) = node.get_ref() else {
            let expected = format!("a table `[{key}.{}]`", name.get_ref());
            let problem = match redact::is_secret(name.get_ref()) {
                true => Problem::new(format!("expected {expected}")),
                false => value::wrong_type(&expected, node.get_ref()),
            };
            let forgotten = schema::knows(path, name.get_ref());
            let help = forgotten.then(|| format!("each {key} has a name: put this below `[{key}.NAME]`"));
            self.error(name.span(), key, problem.help_if(help));
            return None;
        };
        let name = Located { span: name.span(), value: &**name.get_ref() };
        Some((name.clone(), self.open(path, name.value, node, table)))
    }

    /// The nodes of `[[key]]`, in the order of the file, to be opened with `table_of`.
    pub fn tables(&self, key: &'static str) -> &'a [Spanned<DeValue<'a>>] {
        let Some(node) = self.table.get(key) else { return &[] };
        if let DeValue::Array(items) = node.get_ref() {
            return items;
        }
        let problem = value::wrong_type("a list of tables", node.get_ref());
        self.error(node.span(), key, problem.help(format!("write `[[{key}]]` with double brackets")));
        &[]
    }

    /// All keys and values of a table whose keys are free names, in the order of the file.
    pub fn entries(&self) -> Vec<(Located<&'a str>, &'a Spanned<DeValue<'a>>)> {
        let mut found: Vec<_> = self
            .table
            .iter()
            .map(|(key, node)| (Located { span: key.span(), value: &**key.get_ref() }, node))
            .collect();
        found.sort_by_key(|(key, _)| key.span.start);
        found
    }

    /// Reads one node, and reports it if it is wrong.
    pub fn parsed<T>(
        &self,
        key: &str,
        node: &'a Spanned<DeValue<'a>>,
        parse: impl FnOnce(&'a DeValue<'a>) -> Parsed<T>,
    ) -> Option<Located<T>> {
        match parse(node.get_ref()) {
            Ok(value) => Some(Located { span: node.span(), value }),
            Err(problem) => {
                let content = node.get_ref().as_str().unwrap_or("");
                let inside =
                    problem.offset.map(|at| self.report.source.inside_string(&node.span(), content, at));
                self.error(inside.unwrap_or_else(|| node.span()), key, problem);
                None
            }
        }
    }

    pub fn error(&self, span: Range<usize>, key: &str, problem: Problem) {
        self.report.error(span, self.key_path(key), problem);
    }

    pub fn warning(&self, span: Range<usize>, key: &str, problem: Problem) {
        self.report.warning(span, self.key_path(key), problem);
    }

    /// `service.models.endpoints`.
    fn key_path(&self, key: &str) -> String {
        let path = self.path.replacen('*', self.name, 1);
        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
    }

    /// What to call this table in a message.
    fn title(&self) -> String {
        match self.path {
            "" => "the file".to_owned(),
            "route" => "this route".to_owned(),
            path => format!("`{}`", path.replacen('*', self.name, 1)),
        }
    }

    fn refuse_unknown(&self) {
        let known = schema::names(self.path);
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if known.iter().any(|known| *known == name || *known == "*") {
                continue;
            }
            if let Some(what) = schema::later(self.path, name) {
                let problem =
                    Problem::new(format!("`{}` is not supported in this version", value::shown(name)));
                self.error(key.span(), name, problem.help(format!("{what}: in a later version")));
                continue;
            }
            let place = if self.path.is_empty() { String::new() } else { format!(" in {}", self.title()) };
            let problem = Problem::new(format!("unknown key `{}`{place}", value::shown(name)));
            self.error(key.span(), name, problem.help(self.unknown_help(name)));
        }
    }

    /// Whether an unknown key of this table is another word for `key`.
    pub fn misnames(&self, key: &str) -> bool {
        let unknown = self.table.keys().filter(|name| !schema::knows(self.path, name.get_ref()));
        unknown.map(|name| self.meant(name.get_ref())).any(|meant| meant == Some(key))
    }

    fn meant(&self, name: &str) -> Option<&'static str> {
        let near = || suggest::nearest(name, schema::names(self.path).iter().copied());
        suggest::synonym(self.path, name).or_else(near)
    }

    fn unknown_help(&self, name: &str) -> String {
        let known = schema::names(self.path);
        if let Some(meant) = self.meant(name) {
            return format!("did you mean `{meant}`?");
        }
        if let Some(section) = schema::elsewhere(self.path, name) {
            return match section.path {
                "" => format!("`{name}` stands at the top of the file, before the first section"),
                _ => format!("`{name}` belongs to `{}`", section.header),
            };
        }
        format!("known here: {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    }
}
