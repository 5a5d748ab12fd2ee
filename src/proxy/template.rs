//! Owns text with placeholders, such as `model-service-{header:x-model-version}`: parsed once with the config,
//! rendered per request into a caller's buffer. Does not know where values come from (`TemplateValues`), decodes
//! nothing, and never lets a control character through into a header or a name.

use std::fmt;

use crate::config::suggest;

/// Literal pieces and sources, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Source(Source),
}

/// Where the text of a placeholder comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `{header:NAME}`: first value of the request header; the name in lower case.
    Header(Box<str>),
    /// `{query:NAME}`: first value of the query parameter, as sent.
    Query(Box<str>),
    /// `{path:NAME}`: what the named segment of the route's path matched, as sent.
    PathSegment(Box<str>),
    /// `{host}`: as sent, without port.
    Host,
    /// `{path}`
    Path,
    /// `{method}`
    Method,
    /// `{scheme}`: of the client's connection.
    Scheme,
    /// `{client.ip}`
    ClientIp,
    /// `{request.id}`
    RequestId,
    /// `{route}`: the route's name.
    Route,
    /// `{cookie:NAME}`
    Cookie(Box<str>),
    /// `{claim:NAME}`: first text of a claim that the route's `auth` has verified.
    Claim(Box<str>),
    /// `{model}`: what the JSON body names as its model.
    Model,
    /// `{uri}`: path, and `?query` if there is one.
    Uri,
}

/// Gives a request's values to a template.
pub trait TemplateValues {
    /// Appends the value of `source`; false, with `out` as it was, if the request has none.
    fn write(&self, source: &Source, out: &mut Vec<u8>) -> bool;
}

/// What is wrong with a template, and at which byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    pub message: String,
    pub offset: usize,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// No service name is longer, so no rendered one that is can name a service.
pub const SERVICE_NAME_BYTES_MAX: usize = 256;

impl Template {
    /// Reads `text`; `{{` and `}}` stand for single braces.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find(['{', '}']) {
            let brace = at + found;
            literal.push_str(&text[at..brace]);
            let after = &text[brace + 1..];
            if after.as_bytes().first() == Some(&text.as_bytes()[brace]) {
                literal.push_str(&after[..1]);
                at = brace + 2;
                continue;
            }
            if text.as_bytes()[brace] == b'}' {
                return Err(error(brace, "`}` without `{`; write `}}` for a brace".into()));
            }
            let Some(len) = after.find('}') else {
                return Err(error(brace, "`{` is never closed; write `{{` for a brace".into()));
            };
            push_literal(&mut parts, &mut literal);
            parts.push(Part::Source(parse_source(&after[..len], brace)?));
            at = brace + 1 + len + 1;
        }
        literal.push_str(&text[at..]);
        push_literal(&mut parts, &mut literal);
        check_literals(&parts)?;
        Ok(Template { parts })
    }

    /// Appends the rendered text. False if a source was missing, empty or unfit for a header; such a source adds
    /// nothing, the rest is there all the same.
    pub fn render(&self, values: &impl TemplateValues, out: &mut Vec<u8>) -> bool {
        let mut complete = true;
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Source(source) => complete &= write_checked(source, values, out),
            }
        }
        complete
    }

    /// Renders a service's name into `out` (cleared first). False if it can name none: a source was missing or
    /// empty, or the name is over `SERVICE_NAME_BYTES_MAX`.
    pub fn render_service_name(&self, values: &impl TemplateValues, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.render(values, out) && out.len() <= SERVICE_NAME_BYTES_MAX
    }

    /// The text itself if it has no placeholders.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The sources used, in order: `config::compile` checks `{path:NAME}` against the route's paths.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Source(source) => Some(source),
            Part::Literal(_) => None,
        })
    }
}

/// Values come from validated heads, but a header that smuggles a line break must be impossible here and not only
/// elsewhere: a value with a control character counts as missing.
fn write_checked(source: &Source, values: &impl TemplateValues, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let written = values.write(source, out) && out.len() > start;
    if !written || out[start..].iter().any(|byte| byte.is_ascii_control()) {
        out.truncate(start);
        return false;
    }
    true
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal).into_boxed_str()));
    }
}

fn check_literals(parts: &[Part]) -> Result<(), TemplateError> {
    let control = parts.iter().any(|part| match part {
        Part::Literal(text) => text.bytes().any(|byte| byte.is_ascii_control()),
        Part::Source(_) => false,
    });
    if control { Err(error(0, "control characters are not allowed here".into())) } else { Ok(()) }
}

/// `text` is what stands between the braces; `offset` is where the opening one is.
fn parse_source(text: &str, offset: usize) -> Result<Source, TemplateError> {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("header", Some(name)) => named(name, offset, is_token_byte, "header")
            .map(|name| Source::Header(name.to_ascii_lowercase().into())),
        ("query", Some(name)) => {
            named(name, offset, |byte| byte.is_ascii_graphic() && !b"&=#{".contains(&byte), "query parameter")
                .map(|name| Source::Query(name.into()))
        }
        ("path", Some(name)) => named(name, offset, is_segment_name_byte, "path segment")
            .map(|name| Source::PathSegment(name.into())),
        ("cookie", Some(name)) => {
            named(name, offset, is_token_byte, "cookie").map(|name| Source::Cookie(name.into()))
        }
        ("claim", Some(name)) => {
            let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b'{';
            named(name, offset, is_name, "claim").map(|name| Source::Claim(name.into()))
        }
        ("host", None) => Ok(Source::Host),
        ("path", None) => Ok(Source::Path),
        ("method", None) => Ok(Source::Method),
        ("scheme", None) => Ok(Source::Scheme),
        ("client.ip", None) => Ok(Source::ClientIp),
        ("request.id", None) => Ok(Source::RequestId),
        ("route", None) => Ok(Source::Route),
        ("uri", None) => Ok(Source::Uri),
        ("model", None) => Ok(Source::Model),
        _ => Err(unknown(text, kind, name, offset)),
    }
}

fn named<'t>(
    name: &'t str,
    offset: usize,
    allowed: impl Fn(u8) -> bool,
    what: &str,
) -> Result<&'t str, TemplateError> {
    if name.is_empty() {
        return Err(error(offset, format!("the name of the {what} is missing")));
    }
    if !name.bytes().all(allowed) {
        return Err(error(offset, format!("`{name}` is not the name of a {what}")));
    }
    Ok(name)
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Names of path segments: what `{NAME}` in a route's path may hold.
pub fn is_segment_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn unknown(text: &str, kind: &str, name: Option<&str>, offset: usize) -> TemplateError {
    let mut message = format!("unknown source `{{{text}}}`");
    let takes_name = ["header", "query", "cookie", "claim"].contains(&kind);
    if takes_name && name.is_none() {
        message = format!("`{{{kind}}}` needs a name, as in `{{{kind}:NAME}}`");
    } else if SOURCES.contains(&kind) {
        message = format!("`{{{kind}}}` takes no name");
    } else if let Some(near) = nearest(kind) {
        message += &format!("; did you mean `{}`?", shown(near));
    }
    let valid: Vec<String> = SOURCES.iter().map(|source| shown(source)).collect();
    message += &format!(" (valid: {}, {{path:NAME}})", valid.join(", "));
    error(offset, message)
}

fn shown(source: &str) -> String {
    match source {
        "header" | "query" | "cookie" | "claim" => format!("{{{source}:NAME}}"),
        _ => format!("{{{source}}}"),
    }
}

/// The source that `word` most likely meant: a usual other name for it, or one with nearly its letters.
fn nearest(word: &str) -> Option<&'static str> {
    let usual = match word.to_ascii_lowercase().as_str() {
        "hostname" | "authority" => Some("host"),
        "remote_addr" | "client_ip" | "ip" | "client.address" | "client" | "remote" => Some("client.ip"),
        "request_id" | "requestid" | "id" => Some("request.id"),
        "headers" | "hdr" | "http" => Some("header"),
        "arg" | "args" | "param" => Some("query"),
        "request_uri" | "url" => Some("uri"),
        _ => None,
    };
    usual.or_else(|| suggest::nearest(word, SOURCES))
}

fn error(offset: usize, message: String) -> TemplateError {
    TemplateError { message, offset }
}

const SOURCES: [&str; 13] = [
    "header",
    "query",
    "cookie",
    "claim",
    "host",
    "path",
    "method",
    "scheme",
    "client.ip",
    "request.id",
    "route",
    "uri",
    "model",
];

#[cfg(test)]
mod tests {
    use super::*;

    struct Request;

    impl TemplateValues for Request {
        fn write(&self, source: &Source, out: &mut Vec<u8>) -> bool {
            let value: &[u8] = match source {
                Source::Header(name) if &**name == "x-model-version" => b"v2",
                Source::Header(name) if &**name == "empty" => b"",
                Source::Header(name) if &**name == "split" => b"a\r\nset-cookie: b",
                Source::Header(name) if &**name == "long" => &[b'a'; SERVICE_NAME_BYTES_MAX],
                Source::PathSegment(name) if &**name == "model" => b"resnet%2F50",
                Source::Query(name) if &**name == "Q" => b"\xc3\xa9",
                Source::Host => b"api.example.com",
                Source::Uri => b"/v2?x=1",
                _ => return false,
            };
            out.extend_from_slice(value);
            true
        }
    }

    fn render(text: &str) -> (bool, String) {
        let mut out = Vec::new();
        let complete = Template::parse(text).unwrap().render(&Request, &mut out);
        (complete, String::from_utf8(out).unwrap())
    }

    #[test]
    fn renders_values_between_literals() {
        for (text, expected) in [
            ("model-service-{header:x-model-version}", "model-service-v2"),
            ("{header:X-Model-Version}{header:x-model-version}", "v2v2"),
            ("https://{host}{uri}", "https://api.example.com/v2?x=1"),
            ("/m/{path:model}", "/m/resnet%2F50"),
            ("{query:Q}", "é"),
            ("{{{header:x-model-version}}}", "{v2}"),
            ("{{}}", "{}"),
            ("é", "é"),
            ("", ""),
        ] {
            assert_eq!(render(text), (true, expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_missing_empty_or_unsafe_value_is_incomplete_and_adds_nothing() {
        for text in
            ["a{header:none}b", "a{header:empty}b", "a{header:split}b", "a{query:q}b", "a{path:none}b"]
        {
            assert_eq!(render(text), (false, "ab".to_owned()), "{text}");
        }
    }

    #[test]
    fn no_service_has_an_overlong_name() {
        let mut out = b"before".to_vec();
        let name = |text| Template::parse(text).unwrap();
        assert!(name("{header:long}").render_service_name(&Request, &mut out));
        assert_eq!(out.len(), SERVICE_NAME_BYTES_MAX);
        assert!(!name("m{header:long}").render_service_name(&Request, &mut out));
        assert!(!name("m{header:none}").render_service_name(&Request, &mut out));
    }

    #[test]
    fn literals_are_told_from_templates() {
        let literal = |text| Template::parse(text).unwrap().as_literal().map(str::to_owned);
        assert_eq!(literal("stable"), Some("stable".to_owned()));
        assert_eq!(literal(""), Some(String::new()));
        assert_eq!(literal("a{{b}}"), Some("a{b}".to_owned()));
        assert_eq!(literal("{host}"), None);
        let template = Template::parse("{path:model}-{host}").unwrap();
        assert!(template.sources().eq(&[Source::PathSegment("model".into()), Source::Host]));
    }

    #[test]
    fn errors_say_where_what_and_what_instead() {
        for (text, offset, words) in [
            ("ab{header:x", 2, "never closed"),
            ("ab}", 2, "without `{`"),
            ("a{{b}", 4, "without `{`"),
            ("{}", 0, "unknown source `{}`"),
            ("{header}", 0, "`{header:NAME}`"),
            ("{header:}", 0, "name of the header is missing"),
            ("{header:a b}", 0, "`a b` is not the name of a header"),
            ("{path:a/b}", 0, "`a/b` is not the name of a path segment"),
            ("{host:x}", 0, "`{host}` takes no name"),
            ("x{haeder:a}", 1, "did you mean `{header:NAME}`?"),
            ("{client_ip}", 0, "did you mean `{client.ip}`?"),
            ("{request_uri}", 0, "did you mean `{uri}`?"),
            ("{clam:sub}", 0, "did you mean `{claim:NAME}`?"),
            (
                "{user:sub}",
                0,
                "valid: {header:NAME}, {query:NAME}, {cookie:NAME}, {claim:NAME}, {host}, {path}",
            ),
            ("a\nb", 0, "control characters"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }
}
