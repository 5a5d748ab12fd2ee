//! Owns how a mistake in a config file is told: where it is (line, column, the line itself with a caret), what is
//! wrong, and what to write instead. Collects all of them for one file, sorted and bounded.
//! Does not decide what is a mistake: `reader`, `value`, `document` and `check` do.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::config::redact;
use crate::config::tls::TlsFile;
use crate::config::value::shown;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken, but something in it will surprise.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing to change. Its `Display` is several lines, the first of which is `file:line:column: error: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The dotted path of the key that this is about, such as `service.models.endpoints`; may be empty.
    pub key: String,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    excerpt: Excerpt,
}

/// The part of a source line that is shown, without secrets, and where the caret goes in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Excerpt {
    shown: String,
    /// In characters of `shown`.
    caret_start: usize,
    caret_len: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: {}", self.file, self.line, self.column, self.severity, self.message)?;
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(self.excerpt.caret_start);
        let carets = "^".repeat(self.excerpt.caret_len);
        write!(f, "\n{gutter} |\n{number} | {}\n{gutter} | {indent}{carets}", self.excerpt.shown)?;
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// Everything there is to say about one file, in the order of its lines.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    entries: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// Shown at most; the rest is counted.
    pub const SHOWN_MAX: usize = 100;

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Found, shown or not.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// Found, shown or not.
    pub fn warning_count(&self) -> usize {
        self.warnings
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.entries.iter()
    }

    /// How many were found beyond [`Self::SHOWN_MAX`].
    pub fn left_out(&self) -> usize {
        self.errors + self.warnings - self.entries.len()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// All diagnostics, then a line that counts them. Empty when there is nothing to say.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.entries {
            writeln!(f, "{diagnostic}\n")?;
        }
        if self.left_out() > 0 {
            writeln!(f, "... and {} more\n", self.left_out())?;
        }
        match (self.errors, self.warnings) {
            (0, 0) => Ok(()),
            (errors, 0) => write!(f, "{}", counted(errors, "error")),
            (0, warnings) => write!(f, "{}", counted(warnings, "warning")),
            (errors, warnings) => write!(f, "{}, {}", counted(errors, "error"), counted(warnings, "warning")),
        }
    }
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// What is wrong with one value, before it is known where the value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub help: Option<String>,
    /// Byte offset inside the string that is wrong, where that is known.
    pub offset: Option<usize>,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Problem { message: message.into(), help: None, offset: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn help_if(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }
}

/// The text of a config file, with its lines found.
#[derive(Debug)]
pub struct Source<'a> {
    pub text: &'a str,
    file: Arc<str>,
    /// Byte offset of the start of each line.
    line_starts: Vec<usize>,
}

const BYTE_ORDER_MARK: char = '\u{feff}';
/// Characters of a line shown before and after the caret.
const EXCERPT_BEFORE_MAX: usize = 60;
const EXCERPT_AFTER_MAX: usize = 100;

impl<'a> Source<'a> {
    pub fn new(file: &Path, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Source { text, file: file.display().to_string().into(), line_starts }
    }

    /// Line and column, from 1, of a byte offset. An offset beyond the text means its end.
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let offset = self.boundary(offset);
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let before = self.text[self.line_starts[line - 1]..offset].trim_start_matches(BYTE_ORDER_MARK);
        (line as u32, before.chars().count() as u32 + 1)
    }

    /// Where byte `offset` of the string written at `span` stands in the text; the value's start if the
    /// string was written with escapes, so that offsets do not agree.
    pub fn inside_string(&self, span: &Range<usize>, content: &str, offset: usize) -> Range<usize> {
        let raw = self.text.get(span.clone()).unwrap_or("");
        let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
        let body = raw.get(quotes..).unwrap_or("");
        let skipped = if quotes == 3 { body.len() - body.trim_start_matches(['\r', '\n']).len() } else { 0 };
        if !body[skipped..].starts_with(content) || offset > content.len() {
            return span.clone();
        }
        let at = span.start + quotes + skipped + offset;
        at..at + 1
    }

    fn boundary(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }

    fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = self.boundary(span.start);
        let line = self.line_starts.partition_point(|&at| at <= start);
        let line_end = self.line_starts.get(line).map_or(self.text.len(), |&next| next - 1);
        let begin = self.line_starts[line - 1];
        let whole = redact::line(&self.text[begin..line_end.max(start)]);
        // What a string of several lines is for stands lines before.
        let is_within =
            ["\"\"\"", "'''"].iter().any(|mark| self.text[..begin].matches(mark).count() % 2 == 1);
        let whole = if is_within { redact::stars(&whole) } else { whole };
        let (before, after) = whole.split_at(at_character(&whole, self.text[begin..start].chars().count()));
        let (before, after) = (before.trim_start_matches(BYTE_ORDER_MARK), after.trim_end());
        let marked =
            self.text.get(start..span.end.clamp(start, line_end.max(start))).unwrap_or("").trim_end();
        let skipped = before.chars().count().saturating_sub(EXCERPT_BEFORE_MAX);
        let shown_before: String = before.chars().skip(skipped).map(printable).collect();
        let shown_after: String = after.chars().take(EXCERPT_AFTER_MAX).map(printable).collect();
        let lead = if skipped > 0 { "..." } else { "" };
        let tail = if after.chars().nth(EXCERPT_AFTER_MAX).is_some() { "..." } else { "" };
        Excerpt {
            caret_start: lead.len() + shown_before.chars().count(),
            caret_len: marked.chars().count().clamp(1, EXCERPT_AFTER_MAX),
            shown: format!("{lead}{shown_before}{shown_after}{tail}"),
        }
    }
}

/// Where the character of this number begins.
fn at_character(text: &str, number: usize) -> usize {
    text.char_indices().nth(number).map_or(text.len(), |(at, _)| at)
}

/// Keeps one column per character, and a hostile file from steering the terminal.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}

/// A message may quote what is in the file: bounded, and without control characters, whoever made it.
fn one_line(message: &str) -> String {
    const MESSAGE_CHARS_MAX: usize = 600;
    let mut line: String = message.chars().take(MESSAGE_CHARS_MAX).map(printable).collect();
    if message.chars().nth(MESSAGE_CHARS_MAX).is_some() {
        line.push_str("...");
    }
    line
}

/// Collects diagnostics while a file is read.
#[derive(Debug)]
pub struct Report<'a> {
    pub source: Source<'a>,
    entries: RefCell<Vec<Diagnostic>>,
    errors: Cell<usize>,
    warnings: Cell<usize>,
    /// Lines with an error of the syntax. What was read from them is not what their author meant, so nothing
    /// else is said about them.
    broken_lines: RefCell<HashSet<u32>>,
    /// Other files that the config names and that were read with it.
    tls_files: RefCell<Vec<TlsFile>>,
}

/// Kept while collecting; more are only counted.
const COLLECTED_MAX: usize = 1000;

impl<'a> Report<'a> {
    pub fn new(source: Source<'a>) -> Self {
        Report {
            source,
            entries: RefCell::default(),
            errors: Cell::new(0),
            warnings: Cell::new(0),
            broken_lines: RefCell::default(),
            tls_files: RefCell::default(),
        }
    }

    /// This file was read, too.
    pub fn note_file(&self, file: TlsFile) {
        let mut files = self.tls_files.borrow_mut();
        if !files.contains(&file) {
            files.push(file);
        }
    }

    pub fn tls_files(&self) -> Vec<TlsFile> {
        self.tls_files.borrow().clone()
    }

    pub fn error(&self, span: Range<usize>, key: impl Into<String>, problem: Problem) {
        self.push(Severity::Error, span, key.into(), problem);
    }

    pub fn warning(&self, span: Range<usize>, key: impl Into<String>, problem: Problem) {
        self.push(Severity::Warning, span, key.into(), problem);
    }

    /// An error that something is not there. Silent once the file's syntax was found broken: what is missing
    /// may well be written on the line that could not be read.
    pub fn absent(&self, span: Range<usize>, key: impl Into<String>, problem: Problem) {
        if self.broken_lines.borrow().is_empty() {
            self.error(span, key, problem);
        }
    }

    /// Errors of the TOML syntax itself: one a line, since what follows the first is mostly its echo.
    pub fn syntax(&self, span: Range<usize>, problem: Problem) {
        let line = self.source.position(span.start).0;
        self.error(span, "", problem);
        self.broken_lines.borrow_mut().insert(line);
    }

    pub fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    pub fn error_count(&self) -> usize {
        self.errors.get()
    }

    /// Nobody is told what is written for a secret, also where it is wrong.
    fn without_secrets(&self, problem: Problem, span: &Range<usize>, key: &str) -> Problem {
        let written = self.source.text.get(span.clone()).unwrap_or_default();
        let name = key.rsplit('.').next().unwrap_or_default();
        // A span of the name itself is about the key.
        let is_secret = (redact::is_secret_key(name) || name == "jwt") && written != name;
        let hide = |text: String| {
            let text = match written.strip_prefix(['"', '\'']) {
                Some(text_of_it) if is_secret => {
                    let value = shown(text_of_it.trim_matches(['"', '\'', '\r', '\n']));
                    text.replace(&format!("\"{value}\""), redact::REDACTED)
                }
                None if is_secret && !written.is_empty() => text.replace(&*shown(written), redact::REDACTED),
                _ => text,
            };
            let text = match redact::user_of(written) {
                Some(user) => text.replace(&format!("{user}@"), &format!("{}@", redact::REDACTED)),
                None => text,
            };
            redact::urls(&text)
        };
        Problem { message: hide(problem.message), help: problem.help.map(hide), ..problem }
    }

    fn push(&self, severity: Severity, span: Range<usize>, key: String, problem: Problem) {
        let (line, column) = self.source.position(span.start);
        if self.broken_lines.borrow().contains(&line) {
            return;
        }
        let count = if severity == Severity::Error { &self.errors } else { &self.warnings };
        count.set(count.get() + 1);
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= COLLECTED_MAX {
            return;
        }
        let problem = self.without_secrets(problem, &span, &key);
        entries.push(Diagnostic {
            severity,
            file: self.source.file.clone(),
            line,
            column,
            key,
            message: one_line(&problem.message),
            help: problem.help.as_deref().map(one_line),
            excerpt: self.source.excerpt(&span),
        });
    }

    /// Errors before warnings where not all can be shown, then in the order of the file.
    pub fn finish(self) -> Diagnostics {
        let mut entries = self.entries.into_inner();
        entries.sort_by_key(|entry| (entry.severity, entry.line, entry.column));
        entries.truncate(Diagnostics::SHOWN_MAX);
        entries.sort_by_key(|entry| (entry.line, entry.column, entry.severity));
        Diagnostics { entries, errors: self.errors.get(), warnings: self.warnings.get() }
    }
}

/// The text of a config file, or a diagnostic that points at the first byte that is not UTF-8.
pub fn decode<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, Diagnostics> {
    std::str::from_utf8(bytes).map_err(|error| {
        let readable = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or("");
        let report = Report::new(Source::new(file, readable));
        let problem =
            Problem::new("the file is not UTF-8").help("save it as UTF-8; TOML has no other encoding");
        report.error(readable.len()..readable.len() + 1, "", problem);
        report.finish()
    })
}
