//! Owns the grammar and the framing rules of HTTP/1 heads (RFC 9112, RFC 9110): bytes in a buffer become a
//! `RequestHead` or a `ResponseHead` of offsets into that buffer. Strict: what two readers could understand
//! differently is an error, never a guess. Incremental: each byte is looked at a bounded number of times
//! however slowly a head arrives. Does no I/O, keeps no bytes, removes no fields and answers nobody.

mod framing;
pub mod host;
mod lines;

use std::fmt;

use super::head::{Framing, HeadLimits, Method, RequestHead, ResponseHead, Span, TargetForm, Version};
use super::scan::{self, BLOCK, Level, PATH, QUERY, Scan, Work};
pub(super) use lines::trailer_line;
use lines::{field_lines, value_end};

/// Why a head is refused. The connection cannot be used afterwards: where the message ends is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// Breaks the grammar or is ambiguous (400; 502 for a response).
    BadRequest(&'static str),
    /// Longer than `HeadLimits::head_bytes_max` (431).
    TooLarge,
    /// Target longer than `HeadLimits::target_bytes_max` (414).
    TargetTooLong,
    /// More than `HeadLimits::fields_max` field lines (431).
    TooManyFields,
    /// A well-formed HTTP version that is neither 1.0 nor 1.1 (505).
    Version,
    /// `Expect` says something else than `100-continue` (417).
    Expectation,
}

impl HeadError {
    /// What is wrong, for logs.
    pub const fn reason(self) -> &'static str {
        match self {
            HeadError::BadRequest(reason) => reason,
            HeadError::TooLarge => "head too large",
            HeadError::TargetTooLong => "request target too long",
            HeadError::TooManyFields => "too many fields",
            HeadError::Version => "HTTP version is neither 1.0 nor 1.1",
            HeadError::Expectation => "unknown expectation",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl std::error::Error for HeadError {}

/// How far one message has been parsed. Start each message with a default one (a completed parse leaves one
/// behind), and between calls for a message only append to its buffer.
#[derive(Debug, Default)]
pub struct Progress {
    /// Start of the first line that is not yet parsed; 0 until the start line is.
    line: usize,
    /// The unfinished line is known not to end before this. At most `line` if nothing is known.
    scanned: usize,
    /// Where the `?` of an unfinished target is; 0 if none was seen.
    question_mark: usize,
    seen: framing::Seen,
}

/// RFC 9110 §9.1 sets no bound; the registered methods have at most 16 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// Parses the request head at the start of `buffer`: `true` once `head` is complete, `false` if more bytes
/// are needed. `head` is cleared first, and means nothing until `true`.
pub fn parse_request(
    buffer: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<bool, HeadError> {
    parse_request_at(Level::best(), buffer, progress, limits, head)
}

/// `parse_request` with these instructions; they change nothing but its speed.
#[inline(always)]
pub fn parse_request_at(
    level: Level,
    buffer: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<bool, HeadError> {
    level.run(Parse { window: window(buffer, limits), progress, limits, head })
}

/// Parses the response head at the start of `buffer`, like `parse_request`.
pub fn parse_response(
    buffer: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    head: &mut ResponseHead,
) -> Result<bool, HeadError> {
    parse_response_at(Level::best(), buffer, progress, limits, head)
}

/// `parse_response` with these instructions; they change nothing but its speed.
#[inline(always)]
pub fn parse_response_at(
    level: Level,
    buffer: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    head: &mut ResponseHead,
) -> Result<bool, HeadError> {
    level.run(Parse { window: window(buffer, limits), progress, limits, head })
}

/// How the body after `head` is delimited, given the request it answers (RFC 9112 §6.3). After a 2xx to
/// CONNECT, and after 101, what follows is no body but a tunnel.
pub fn response_framing(head: &ResponseHead, request_method: Method) -> Framing {
    match (request_method, head.status) {
        (_, 100..=199 | 204 | 304) | (Method::Head, _) | (Method::Connect, 200..=299) => Framing::None,
        _ => head.framing,
    }
}

/// One call for one head.
struct Parse<'a, H> {
    window: &'a [u8],
    progress: &'a mut Progress,
    limits: &'a HeadLimits,
    head: &'a mut H,
}

impl Work for Parse<'_, RequestHead> {
    type Output = Result<bool, HeadError>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Result<bool, HeadError> {
        let Parse { window, progress, limits, head } = self;
        if progress.line == 0 {
            head.fields.clear();
            if !(S::IS_WIDE && usual_request_line(scan, window, progress, limits, head)
                || scan.apart(RequestLine { window, progress, limits, head })?)
            {
                return unfinished(window, limits);
            }
        } else if !may_be_complete(window, progress) {
            return unfinished(window, limits);
        }
        let fields = &mut head.fields;
        if !field_lines::<S, true>(scan, window, progress, limits, head.version, fields)? {
            return unfinished(window, limits);
        }
        framing::finish_request(window, &progress.seen, progress.line, head)?;
        *progress = Progress::default();
        Ok(true)
    }
}

impl Work for Parse<'_, ResponseHead> {
    type Output = Result<bool, HeadError>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Result<bool, HeadError> {
        let Parse { window, progress, limits, head } = self;
        if progress.line == 0 {
            head.fields.clear();
            if !status_line(scan, window, progress, head)? {
                return unfinished(window, limits);
            }
        } else if !may_be_complete(window, progress) {
            return unfinished(window, limits);
        }
        let fields = &mut head.fields;
        if !field_lines::<S, false>(scan, window, progress, limits, head.version, fields)? {
            return unfinished(window, limits);
        }
        framing::finish_response(window, &progress.seen, progress.line, head)?;
        *progress = Progress::default();
        Ok(true)
    }
}

/// The part of the buffer that a head may occupy. Offsets are u16, whatever the configured limit.
fn window<'a>(buffer: &'a [u8], limits: &HeadLimits) -> &'a [u8] {
    &buffer[..buffer.len().min(limits.head_bytes_max).min(u16::MAX as usize)]
}

/// A window that is full without holding a whole head never will.
#[cold]
fn unfinished(window: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
    if window.len() == limits.head_bytes_max.min(u16::MAX as usize) {
        Err(HeadError::TooLarge)
    } else {
        Ok(false)
    }
}

/// Offsets stay below `window`'s bound of 65,535.
#[inline(always)]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u16, len: (end - start) as u16 }
}

/// A request line as nearly all are, all of it there; `false` says nothing.
#[inline(always)]
fn usual_request_line<S: Scan>(
    scan: S,
    window: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> bool {
    // What was looked at before is not looked at again.
    if progress.scanned != 0 || window.len() < BLOCK {
        return false;
    }
    let Some((method, method_len)) = usual_method(window) else { return false };
    let target = method_len + 1;
    let path_end = scan.class_end::<PATH>(window, target);
    let has_query = window.get(path_end) == Some(&b'?');
    let target_end = if has_query { scan.class_end::<QUERY>(window, path_end) } else { path_end };
    let rest = window.get(target_end..).and_then(|rest| rest.first_chunk());
    if rest != Some(b" HTTP/1.1\r\n")
        || window[target] != b'/'
        || target_end - target > limits.target_bytes_max
    {
        return false;
    }
    head.method = method;
    head.method_span = span(0, method_len);
    head.target = span(target, target_end);
    head.version = Version::Http11;
    head.has_query = has_query;
    head.path = span(target, path_end);
    head.query = if has_query { span(path_end + 1, target_end) } else { Span::default() };
    head.target_form = TargetForm::Origin;
    head.authority = Span::default();
    progress.line = target_end + 1 + VERSION_LINE_LEN;
    true
}

/// Any other request line.
struct RequestLine<'a> {
    window: &'a [u8],
    progress: &'a mut Progress,
    limits: &'a HeadLimits,
    head: &'a mut RequestHead,
}

impl Work for RequestLine<'_> {
    type Output = Result<bool, HeadError>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Result<bool, HeadError> {
        request_line(scan, self.window, self.progress, self.limits, self.head)
    }
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3), with exactly these spaces.
#[inline(always)]
fn request_line<S: Scan>(
    scan: S,
    window: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<bool, HeadError> {
    // RFC 9112 §2.2: a server should ignore at least one empty line before the request line.
    let start = match window {
        [b'\r', b'\n', ..] => 2,
        [] | [b'\r'] => return Ok(false),
        _ => 0,
    };
    let Some((method, method_len)) = method(&window[start..])? else { return Ok(false) };
    let target = start + method_len + 1;
    let Some(target_end) = target_end(scan, window, target, progress, limits)? else { return Ok(false) };
    let Some(version) = request_version(&window[target_end + 1..])? else { return Ok(false) };

    head.method = method;
    head.method_span = span(start, start + method_len);
    head.target = span(target, target_end);
    head.version = version;
    head.has_query = progress.question_mark != 0;
    let path_end = if head.has_query { progress.question_mark } else { target_end };
    head.path = span(target, path_end);
    head.query = if head.has_query { span(path_end + 1, target_end) } else { Span::default() };
    if method != Method::Connect && window[target] == b'/' {
        head.target_form = TargetForm::Origin;
        head.authority = Span::default();
    } else {
        uncommon_target(window, head)?;
    }
    progress.line = target_end + 1 + VERSION_LINE_LEN;
    Ok(true)
}

/// The two most common methods, with their lengths.
#[inline(always)]
fn usual_method(line: &[u8]) -> Option<(Method, usize)> {
    // `==` compares whole words; patterns would be matched byte by byte.
    let text = line.first_chunk();
    if text == Some(b"GET ") {
        Some((Method::Get, 3))
    } else if text == Some(b"POST") && line.get(4) == Some(&b' ') {
        Some((Method::Post, 4))
    } else {
        None
    }
}

/// The method and its length, once the space after it is there. Methods are case-sensitive (RFC 9110 §9.1).
fn method(line: &[u8]) -> Result<Option<(Method, usize)>, HeadError> {
    let len = line.iter().take(METHOD_BYTES_MAX + 1).take_while(|&&byte| scan::is_token(byte)).count();
    if len > METHOD_BYTES_MAX {
        return Err(HeadError::BadRequest("method too long"));
    }
    match line.get(len) {
        None => return Ok(None),
        Some(b' ') if len > 0 => {}
        Some(_) if len == 0 => {
            return Err(HeadError::BadRequest("request line does not begin with a method"));
        }
        Some(_) => return Err(HeadError::BadRequest("forbidden byte in method")),
    }
    let method = match &line[..len] {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"CONNECT" => Method::Connect,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"PATCH" => Method::Patch,
        _ => Method::Other,
    };
    Ok(Some((method, len)))
}

/// The index of the space after the target, once it is there; notes where the query begins.
#[inline(always)]
fn target_end<S: Scan>(
    scan: S,
    window: &[u8],
    target: usize,
    progress: &mut Progress,
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    let mut end = target.max(progress.scanned).min(window.len());
    if progress.question_mark == 0 {
        end = scan.class_end::<PATH>(window, end);
        if window.get(end) == Some(&b'?') {
            progress.question_mark = end;
        }
    }
    if progress.question_mark != 0 {
        end = scan.class_end::<QUERY>(window, end);
    }
    if end - target > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    progress.scanned = end;
    match window.get(end) {
        Some(b' ') if end > target => Ok(Some(end)),
        None => Ok(None),
        Some(&byte) => Err(target_error(byte)),
    }
}

#[cold]
fn target_error(byte: u8) -> HeadError {
    HeadError::BadRequest(match byte {
        b' ' => "two spaces before the target",
        b'\r' | b'\n' => "no version in request line",
        b'#' => "fragment in target",
        b'\\' => "backslash in path",
        _ => "forbidden byte in target",
    })
}

/// `HTTP/1.1` and CRLF.
const VERSION_LINE_LEN: usize = 10;

#[inline(always)]
fn request_version(rest: &[u8]) -> Result<Option<Version>, HeadError> {
    // `==` compares whole words; patterns would be matched byte by byte.
    let line = rest.first_chunk::<VERSION_LINE_LEN>();
    if line == Some(b"HTTP/1.1\r\n") {
        Ok(Some(Version::Http11))
    } else if line == Some(b"HTTP/1.0\r\n") {
        Ok(Some(Version::Http10))
    } else {
        uncommon_version(rest, b"\r\n")
    }
}

/// Tells a version that is cut short from one that is malformed or unknown. `after` is what follows it.
#[cold]
fn uncommon_version(rest: &[u8], after: &[u8]) -> Result<Option<Version>, HeadError> {
    for (index, &byte) in rest.iter().enumerate().take(8 + after.len()) {
        let expected = match index {
            0..5 => byte == b"HTTP/"[index],
            5 | 7 => byte.is_ascii_digit(),
            6 => byte == b'.',
            _ => byte == after[index - 8],
        };
        if !expected {
            return Err(HeadError::BadRequest(version_error(index, byte)));
        }
    }
    if rest.len() < 8 + after.len() { Ok(None) } else { Err(HeadError::Version) }
}

fn version_error(index: usize, byte: u8) -> &'static str {
    match (index, byte) {
        (0, b' ') => "two spaces before the version",
        (0, b'\r' | b'\n') => "empty line where a version belongs",
        (8.., b'\n') => "bare LF",
        (9.., _) => "bare CR",
        _ => "malformed HTTP version",
    }
}

/// Absolute-, authority- and asterisk-form (RFC 9112 §3.2.2 to §3.2.4), each only where it is allowed.
fn uncommon_target(window: &[u8], head: &mut RequestHead) -> Result<(), HeadError> {
    let target = head.target.of(window);
    if head.method == Method::Connect {
        // RFC 9110 §9.3.6: CONNECT needs a host and a valid port; there is no default one.
        let authority = host::parse(target).map_err(HeadError::BadRequest)?;
        if authority.port.unwrap_or(0) == 0 {
            return Err(HeadError::BadRequest("CONNECT needs a host and a port"));
        }
        head.target_form = TargetForm::Authority;
        head.authority = head.target;
        head.path = Span::default();
        return Ok(());
    }
    if target == b"*" {
        head.target_form = TargetForm::Asterisk;
        head.authority = Span::default();
        return match head.method {
            Method::Options => Ok(()),
            _ => Err(HeadError::BadRequest("target * with another method than OPTIONS")),
        };
    }
    absolute_target(window, head)
}

/// `http://authority[/path][?query]`. Its authority replaces Host (RFC 9112 §3.2.2), so it has to be valid.
fn absolute_target(window: &[u8], head: &mut RequestHead) -> Result<(), HeadError> {
    let target = head.target.of(window);
    let begins_with =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|text| text.eq_ignore_ascii_case(scheme));
    let scheme_len = match () {
        _ if begins_with(b"http://") => 7,
        _ if begins_with(b"https://") => 8,
        _ => return Err(HeadError::BadRequest("target is neither a path nor an http URI")),
    };
    let rest = &target[scheme_len..];
    let authority_len = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    host::check(&rest[..authority_len]).map_err(HeadError::BadRequest)?;
    let authority = head.target.start as usize + scheme_len;
    head.target_form = TargetForm::Absolute;
    head.authority = span(authority, authority + authority_len);
    head.path = span(authority + authority_len, head.path.end());
    Ok(())
}

/// `HTTP-version SP status-code SP [ reason-phrase ] CRLF` (RFC 9112 §4). The space before an absent reason
/// may be absent too, as old servers leave it out and nothing is ambiguous without it.
#[inline(always)]
fn status_line<S: Scan>(
    scan: S,
    window: &[u8],
    progress: &mut Progress,
    head: &mut ResponseHead,
) -> Result<bool, HeadError> {
    if !may_be_complete(window, progress) {
        return Ok(false);
    }
    // `==` compares whole words; patterns would be matched byte by byte.
    let text = window.first_chunk::<9>();
    head.version = if text == Some(b"HTTP/1.1 ") {
        Version::Http11
    } else if text == Some(b"HTTP/1.0 ") {
        Version::Http10
    } else {
        match uncommon_version(window, b" ")? {
            Some(version) => version,
            None => return Ok(false),
        }
    };
    let Some(status) = status_code(&window[9..])? else { return Ok(false) };
    let (reason, end) = match window.get(12) {
        None => return Ok(false),
        Some(b' ') => (13, value_end(scan, window, 13)),
        Some(b'\r') => (12, 12),
        Some(b'\n') => return Err(HeadError::BadRequest("bare LF")),
        Some(_) => return Err(HeadError::BadRequest("malformed status code")),
    };
    if !line_ends(window, end)? {
        progress.scanned = window.len();
        return Ok(false);
    }
    head.status = status;
    head.reason = span(reason, end);
    progress.line = end + 2;
    Ok(true)
}

/// RFC 9110 §15: values outside 100 to 599 are invalid. A gateway that relayed them would have its client
/// choose what they mean.
#[inline(always)]
fn status_code(rest: &[u8]) -> Result<Option<u16>, HeadError> {
    match rest {
        [hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Ok(Some(digit(*hundreds) * 100 + digit(*tens) * 10 + digit(*ones)))
        }
        _ => no_status_code(rest),
    }
}

#[cold]
fn no_status_code(rest: &[u8]) -> Result<Option<u16>, HeadError> {
    let digits = &rest[..rest.len().min(3)];
    match digits {
        [b'0' | b'6'..=b'9', ..] => Err(HeadError::BadRequest("status code outside 100 to 599")),
        _ if digits.iter().all(u8::is_ascii_digit) => Ok(None),
        _ => Err(HeadError::BadRequest("malformed status code")),
    }
}

/// After a line was found cut short, it is parsed again only when its LF is there: otherwise a head that
/// arrives byte by byte would cost the square of its length.
#[inline(always)]
fn may_be_complete(window: &[u8], progress: &mut Progress) -> bool {
    progress.scanned <= progress.line || finds_newline(window, progress)
}

#[cold]
fn finds_newline(window: &[u8], progress: &mut Progress) -> bool {
    progress.scanned += window.get(progress.scanned..).map_or(0, scan::line_len);
    progress.scanned < window.len()
}

/// Is there a whole line end at `end`, which is where a value stopped?
#[inline(always)]
fn line_ends(window: &[u8], end: usize) -> Result<bool, HeadError> {
    let rest = &window[end..];
    if rest.first_chunk() == Some(b"\r\n") { Ok(true) } else { no_line_end(rest) }
}

#[cold]
fn no_line_end(rest: &[u8]) -> Result<bool, HeadError> {
    match rest {
        [] | [b'\r'] => Ok(false),
        [byte, ..] => Err(value_error(*byte)),
    }
}

fn value_error(byte: u8) -> HeadError {
    HeadError::BadRequest(match byte {
        b'\r' => "bare CR",
        b'\n' => "bare LF",
        0 => "NUL in field value",
        _ => "control byte in field value",
    })
}

#[cfg(test)]
#[path = "h1_parse_tests.rs"]
mod tests;
