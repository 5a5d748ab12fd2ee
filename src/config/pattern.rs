//! Owns what the patterns and texts of a route mean: hosts, paths, methods, field tests, regexes, replacements,
//! templates, header names and values. Like `value`, one at a time: a `Problem` says what is wrong and where.
//! Does not match requests (`proxy::route`).

use regex::bytes::{Regex, RegexBuilder};
use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::suggest;
use crate::config::value::{self, Parsed, is_token, shown};
use crate::proxy::path::{self, Normalised};
use crate::proxy::rule::{FieldTest, HostMatch, PathMatch, Segment};
use crate::proxy::template::{self, Template};

/// `"api.example.com"`, `"*.example.com"`, `"[::1]"`.
pub fn host(value: &DeValue<'_>) -> Parsed<HostMatch> {
    let text =
        value.as_str().ok_or_else(|| value::wrong_type("a host such as \"api.example.com\"", value))?;
    let problem = || Problem::new(format!("\"{}\" is not a host to match", shown(text)));
    if text == "*" {
        return Err(problem().help("leave `host` out to match every host"));
    }
    let (suffix, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if name.contains('*') {
        return Err(problem().help("`*.` stands only in front: \"*.example.com\""));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or("");
        return Err(problem().help(format!("a host has no scheme; write \"{}\"", shown(host))));
    }
    let in_brackets = name.starts_with('[') && name.ends_with(']');
    if !in_brackets && let Some((host, _)) = name.split_once(':') {
        return Err(problem().help(format!("hosts are compared without port; write \"{}\"", shown(host))));
    }
    check_host(name).map_err(|help| problem().help(help))?;
    let name = name.to_ascii_lowercase();
    Ok(if suffix { HostMatch::Suffix(format!(".{name}").into()) } else { HostMatch::Exact(name.into()) })
}

fn check_host(name: &str) -> Result<(), String> {
    if let Some(inside) = name.strip_prefix('[') {
        let address = inside.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        return if address { Ok(()) } else { Err("in brackets stands an IPv6 address".to_owned()) };
    }
    if !name.is_ascii() {
        return Err("write international names as clients send them: \"xn--...\"".to_owned());
    }
    if name.is_empty() || name.split('.').any(str::is_empty) {
        return Err("a host is names with single dots between them, and none at the end".to_owned());
    }
    match name.chars().find(|&c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        Some(bad) => Err(format!("`{}` is not allowed in a host", bad.escape_debug())),
        None => Ok(()),
    }
}

/// `"/x"`, `"/x/**"`, `"/a/{name}/b"`, `"~regex"`.
pub fn path_match(value: &DeValue<'_>) -> Parsed<PathMatch> {
    let text = value.as_str().ok_or_else(|| value::wrong_type("a path such as \"/v2/**\"", value))?;
    if let Some(pattern) = text.strip_prefix('~') {
        return regex(pattern, 1).map(PathMatch::Regex);
    }
    check_path_text(text)?;
    if let Some(prefix) = text.strip_suffix("/**").filter(|prefix| !prefix.contains(['*', '{', '}'])) {
        return Ok(PathMatch::Prefix(prefix.into()));
    }
    if !text.contains(['*', '{', '}']) {
        return Ok(PathMatch::Exact(text.into()));
    }
    segments(text).map(PathMatch::Segments)
}

/// What a path in a config may be made of, whatever its wildcards mean: what a request's path can be after
/// `proxy::path::normalise`, or the route would never match.
fn check_path_text(text: &str) -> Parsed<()> {
    let problem = || Problem::new(format!("\"{}\" is not a path", shown(text)));
    if !text.starts_with('/') {
        let help = match text {
            "" | "*" | "**" => "write \"/**\" for every path".to_owned(),
            _ if text.starts_with('^') => format!("a regex starts with `~`: \"~{}\"", shown(text)),
            _ if text.contains("://") => "a path has no scheme and no host; use `match.host`".to_owned(),
            _ => format!("a path starts with `/`: \"/{}\"", shown(text)),
        };
        return Err(problem().help(help));
    }
    if let Some((at, mark)) = text.char_indices().find(|&(_, c)| c == '?' || c == '#') {
        let help = if mark == '?' {
            "use `match.query` for what follows the `?`"
        } else {
            "clients never send what follows a `#`"
        };
        return Err(problem().help(help).at(at));
    }
    if let Some((at, bad)) = text.char_indices().find(|&(_, c)| !c.is_ascii_graphic()) {
        let escaped: String = bad.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        return Err(problem()
            .help(format!("write `{}` as clients send it: `{escaped}`", bad.escape_debug()))
            .at(at));
    }
    let mut normal = Vec::new();
    match path::normalise(text.as_bytes(), &mut normal) {
        Normalised::Same => Ok(()),
        Normalised::Changed => {
            let normal = String::from_utf8_lossy(&normal);
            Err(problem().help(format!("requests are compared in normal form; write \"{}\"", shown(&normal))))
        }
        Normalised::Invalid => {
            Err(problem().help("an escape is `%` and two hex digits, never `%00`, and `..` cannot leave `/`"))
        }
    }
}

/// Segments of one pattern.
const SEGMENTS_MAX: usize = 64;

fn segments(text: &str) -> Parsed<Vec<Segment>> {
    let mut found: Vec<Segment> = Vec::new();
    let mut at = 1;
    let last = text[1..].split('/').count() - 1;
    if last >= SEGMENTS_MAX {
        return Err(Problem::new(format!("a path has at most {SEGMENTS_MAX} segments")));
    }
    for (index, part) in text[1..].split('/').enumerate() {
        let segment = segment(part, index == last).map_err(|problem| problem.at(at))?;
        if let Segment::Named(name) = &segment
            && found.iter().any(|other| matches!(other, Segment::Named(earlier) if earlier == name))
        {
            return Err(Problem::new(format!("`{{{name}}}` stands twice in this path"))
                .at(at)
                .help("give each segment its own name"));
        }
        found.push(segment);
        at += part.len() + 1;
    }
    Ok(found)
}

fn segment(part: &str, last: bool) -> Parsed<Segment> {
    match part {
        "*" => return Ok(Segment::Any),
        "**" if last => return Ok(Segment::Rest),
        "**" => {
            return Err(Problem::new("`**` stands only at the end of a path")
                .help("use `*` for one segment, or a regex: \"~^/a/.*/b$\""));
        }
        _ => {}
    }
    if !part.contains(['*', '{', '}']) {
        return Ok(Segment::Literal(part.into()));
    }
    let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        let problem = Problem::new(format!("`{}` mixes text and a wildcard", shown(part)));
        return Err(problem.help(
            "`*` and `{name}` stand for a whole segment; use a regex for a part of one: \"~^/img-[0-9]+$\"",
        ));
    };
    if name.is_empty() || !name.bytes().all(template::is_segment_name_byte) {
        let problem = Problem::new(format!("`{{{}}}` is not the name of a segment", shown(name)));
        return Err(problem.help("use letters, digits, `-` and `_`, or `*` for a segment without name"));
    }
    Ok(Segment::Named(name.into()))
}

/// `"GET"`: any token of at most 32 bytes, as on the wire.
pub fn method(value: &DeValue<'_>) -> Parsed<Box<str>> {
    const METHOD_BYTES_MAX: usize = 32;
    let text = value.as_str().ok_or_else(|| value::wrong_type("a method such as \"GET\"", value))?;
    let problem = Problem::new(format!("\"{}\" is not a method", shown(text)));
    if !is_token(text) || text == "*" || text.len() > METHOD_BYTES_MAX {
        let help = if text == "*" {
            "leave `method` out to match every method"
        } else {
            "a method is letters, at most 32"
        };
        return Err(problem.help(help));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(problem.help(format!("methods are in upper case: \"{upper}\"")));
    }
    Ok(text.into())
}

/// `"v2"`, `"v2*"`, `"~regex"`, `true`, `false`.
pub fn field_test(value: &DeValue<'_>) -> Parsed<FieldTest> {
    if let Some(present) = value.as_bool() {
        return Ok(if present { FieldTest::Present } else { FieldTest::Absent });
    }
    let Some(text) = value.as_str() else {
        let help = match value {
            DeValue::Array(_) => Some("for one of several, use a regex: \"~^(a|b)$\"".to_owned()),
            DeValue::Integer(number) => Some(format!("write \"{}\"", shown(number.as_str()))),
            _ => None,
        };
        return Err(value::wrong_type("a text, `true` or `false`", value).help_if(help));
    };
    if let Some(pattern) = text.strip_prefix('~') {
        return regex(pattern, 1).map(FieldTest::Regex);
    }
    if let Some((at, _)) = text.char_indices().find(|&(_, c)| c.is_control()) {
        return Err(Problem::new("a control character never stands in a request").at(at));
    }
    match text.strip_suffix('*') {
        Some("") => Ok(FieldTest::Present),
        Some(prefix) => match prefix.find('*') {
            Some(at) => Err(Problem::new("`*` stands only at the end")
                .at(at)
                .help("use a regex for the rest: \"~^a.*b$\"")),
            None => Ok(FieldTest::Prefix(prefix.into())),
        },
        None => Ok(FieldTest::Equals(text.into())),
    }
}

/// Bytes of one compiled regex, so that a config cannot take all memory.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// `skipped`: bytes of the value in front of the pattern, for the place of an error.
pub fn regex(pattern: &str, skipped: usize) -> Parsed<Regex> {
    let trimmed = pattern.trim_start_matches(' ');
    let skipped = skipped + pattern.len() - trimmed.len();
    if trimmed.is_empty() {
        return Err(Problem::new("an empty regex matches everything").help("leave it out instead"));
    }
    RegexBuilder::new(trimmed).size_limit(REGEX_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::Syntax(words) => {
            let (reason, offset) = regex_words(&words, trimmed);
            Problem {
                offset: offset.map(|at| at + skipped),
                ..Problem::new(format!("this regex is wrong: {reason}"))
            }
        }
        _ => Problem::new("this regex is too large once compiled")
            .help("use smaller repetitions, or `[0-9]` instead of `\\d`"),
    })
}

/// The reason, and the byte it is about, out of the text that `regex` makes of an error: the pattern with four
/// spaces in front, a line of carets below it, and `error: reason` last.
fn regex_words(words: &str, pattern: &str) -> (String, Option<usize>) {
    let reason =
        words.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it cannot be read");
    let carets = words.lines().find(|line| line.contains('^') && line.trim_matches([' ', '^']).is_empty());
    let column = carets.and_then(|line| line.find('^')).and_then(|at| at.checked_sub(4));
    let one_line = !pattern.contains('\n');
    let offset = column
        .filter(|_| one_line)
        .map(|column| pattern.char_indices().nth(column).map_or(pattern.len(), |(at, _)| at));
    (reason.to_owned(), offset)
}

/// The replacement for a regex: its `$1` and `${name}` must be groups of it.
pub fn check_replacement(text: &str, regex: &Regex) -> Parsed<()> {
    if let Some((at, _)) = text.char_indices().find(|&(_, c)| !c.is_ascii_graphic()) {
        return Err(Problem::new("a path has only visible ASCII")
            .at(at)
            .help("write other characters as `%` and two hex digits"));
    }
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let at = text.len() - rest.len() + dollar;
        let after = &rest[dollar + 1..];
        if let Some(literal) = after.strip_prefix('$') {
            rest = literal;
            continue;
        }
        let group = match after.strip_prefix('{') {
            Some(inside) => inside.split('}').next().unwrap_or(""),
            None => after.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or(""),
        };
        check_group(group, after, regex).map_err(|problem| problem.at(at))?;
        rest = &after[group.len()..];
    }
    Ok(())
}

fn check_group(group: &str, after: &str, regex: &Regex) -> Parsed<()> {
    if group.is_empty() {
        return Err(Problem::new("`$` names no group").help("write `$$` for a dollar sign"));
    }
    let known = match group.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|name| name == group),
    };
    if known {
        return Ok(());
    }
    let problem = Problem::new(format!("the regex has no group `{}`", shown(group)));
    // "$1x" is the group "1x".
    let digits = group.len() - group.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 && digits < group.len() && !after.starts_with('{') {
        return Err(problem.help(format!("write `${{{}}}{}`", &group[..digits], shown(&group[digits..]))));
    }
    let meant = suggest::nearest(group, regex.capture_names().flatten());
    Err(problem.help_if(meant.map(|meant| format!("did you mean `${{{meant}}}`?"))))
}

/// Text with `{...}` in it.
pub fn template(value: &DeValue<'_>) -> Parsed<Template> {
    let text = value.as_str().ok_or_else(|| value::wrong_type("a text in quotes", value))?;
    if text.is_empty() {
        return Err(Problem::new("this text is empty"));
    }
    Template::parse(text).map_err(|error| Problem::new(error.message).at(error.offset))
}

/// A path with `{...}` in it.
pub fn path_template(value: &DeValue<'_>) -> Parsed<Template> {
    let template = template(value)?;
    let text = value.as_str().unwrap_or("");
    if !text.starts_with('/') && !text.starts_with("{path}") && !text.starts_with("{uri}") {
        return Err(Problem::new("a path starts with `/`").help(format!("write \"/{}\"", shown(text))));
    }
    match text.char_indices().find(|&(_, c)| !c.is_ascii_graphic() || c == '?' || c == '#') {
        Some((at, bad)) => {
            Err(Problem::new(format!("`{}` cannot stand in a path", bad.escape_debug())).at(at))
        }
        None => Ok(template),
    }
}

/// The place that a redirect names: an absolute URL or a path.
pub fn location(value: &DeValue<'_>) -> Parsed<Template> {
    let template = template(value)?;
    let text = value.as_str().unwrap_or("");
    if let Some((at, bad)) = text.char_indices().find(|&(_, c)| !c.is_ascii_graphic()) {
        return Err(Problem::new(format!("`{}` cannot stand in a URL", bad.escape_debug())).at(at));
    }
    if text.starts_with(['/', '{']) || text.contains("://") {
        return Ok(template);
    }
    let problem = Problem::new(format!("\"{}\" is neither a URL nor a path", shown(text)));
    Err(problem.help(format!("write \"https://{}\" or \"/{}\"", shown(text), shown(text))))
}

/// The value of a header that is set or added.
pub fn header_value(value: &DeValue<'_>) -> Parsed<Template> {
    let text = value.as_str().ok_or_else(|| match value {
        DeValue::Integer(number) => {
            value::wrong_type("a text in quotes", value).help(format!("write \"{}\"", shown(number.as_str())))
        }
        _ => value::wrong_type("a text in quotes", value),
    })?;
    if let Some((at, bad)) = text.char_indices().find(|&(_, c)| c.is_control() && c != '\t') {
        return Err(Problem::new(format!("`{}` cannot stand in a header", bad.escape_debug())).at(at));
    }
    if text.trim_matches([' ', '\t']) != text {
        return Err(Problem::new("a header's value has no space at its ends"));
    }
    template(value)
}

/// Which way a header is edited, and how; both bound what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    RequestSet,
    RequestAdd,
    RequestRemove,
    ResponseSet,
    ResponseAdd,
    ResponseRemove,
}

/// The name of a header to edit: a token, and none that the gateway itself must say, since a wrong one breaks the
/// framing of the message (RFC 9112 §6) or speaks for another hop (RFC 9110 §7.6.1).
pub fn check_edited_header(name: &str, edit: Edit) -> Parsed<()> {
    check_header_name(name)?;
    let lower = name.to_ascii_lowercase();
    let problem = Problem::new(format!("`{lower}` cannot be changed"));
    if FRAMING.contains(&lower.as_str()) {
        return Err(problem.help("the gateway says itself how a message is framed and kept"));
    }
    match (lower.as_str(), edit) {
        ("host", Edit::RequestSet) => Ok(()),
        ("host", Edit::RequestAdd | Edit::RequestRemove) => {
            Err(problem.help("a request has one `host`; use `set` to replace it"))
        }
        _ => Ok(()),
    }
}

pub fn check_header_name(name: &str) -> Parsed<()> {
    if is_token(name) {
        return Ok(());
    }
    let problem = Problem::new(format!("\"{}\" is not the name of a header", shown(name)));
    let help = if name.ends_with(':') { "write it without the colon" } else { "use letters, digits and `-`" };
    Err(problem.help(help))
}

const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header name in a list: a text that is one.
pub fn header_name<'v>(value: &'v DeValue<'_>) -> Parsed<&'v str> {
    let text = value.as_str().ok_or_else(|| value::wrong_type("the name of a header", value))?;
    check_header_name(text)?;
    Ok(text)
}
