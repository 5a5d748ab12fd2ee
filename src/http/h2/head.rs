//! Owns what the fields of an HTTP/2 message have to be (RFC 9113 §8) before anybody acts on them, and their form as an
//! HTTP/1.1 head, which the same parser judges as every other: no request means one thing here and another there.
//! Decodes no HPACK (`hpack` does) and knows no streams.

use std::ops::Range;

use super::hpack::{FieldLine, Sink, TooLarge};
use crate::http::h1_body::is_forbidden_in_trailers;
use crate::http::head::{Name, Recognised};
use crate::http::scan::{Portable, Scan, TOKEN, VALUE, is_token};

/// The field lines of one header block, as HPACK gives them: each as an HTTP/1 line, end to end.
#[derive(Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// By the lengths of names and values, and 32 bytes for each (RFC 9113 §6.5.2).
    bytes: usize,
    /// All cookies count as none.
    fields: usize,
    limits: Limits,
    /// They are a server's: what frames them is judged, and space around values left to who reads them.
    of_server: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub bytes_max: usize,
    pub fields_max: usize,
    /// Of a request's trailers, all lines together.
    pub trailer_bytes_max: usize,
    pub trailer_fields_max: usize,
}

/// Room for a block's text that is kept.
const TEXT_BYTES_KEPT: usize = 4096;

#[derive(Debug, Clone)]
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

/// A stream error of type PROTOCOL_ERROR (RFC 9113 §8.1.1), in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What a request says besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// Of its content-length.
    pub length: Option<u64>,
}

/// What a response says besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Of the content that has to come.
    pub length: Option<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes_max: 32 * 1024,
            fields_max: 100,
            trailer_bytes_max: 16 * 1024,
            trailer_fields_max: 100,
        }
    }
}

impl Sink for Lines {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn field(&mut self, line: FieldLine) -> Result<(), TooLarge> {
        let FieldLine { name, value, .. } = line;
        self.bytes += name.len() + value.len() + 32;
        // Browsers send each cookie in a field of its own (RFC 9113 §8.2.3).
        if &self.text[name.clone()] != b"cookie" {
            self.fields += 1;
        }
        if self.bytes > self.limits.bytes_max || self.fields > self.limits.fields_max {
            return Err(TooLarge);
        }
        self.lines.push(Line { name, value });
        Ok(())
    }
}

impl Lines {
    /// `of_server`: those of responses. Servers let values end with a space (grpcio does in `grpc-message`), and a gateway that
    /// refused them would hide what they say; no HTTP/1.1 reader takes it for a part of the value.
    pub fn new(limits: Limits, of_server: bool) -> Lines {
        Lines { limits, of_server, ..Lines::default() }
    }

    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        (self.bytes, self.fields) = (0, 0);
        if self.text.capacity() > TEXT_BYTES_KEPT {
            // What an unusual block needed.
            (self.text, self.lines) = (Vec::new(), Vec::new());
        }
    }

    /// Appends the request as an HTTP/1.1 head to `out`. `is_whole`: no content follows.
    pub fn request(&self, is_whole: bool, out: &mut Vec<u8>) -> Result<Request, Malformed> {
        let pseudo = self.pseudo_fields()?;
        let regular = &self.lines[pseudo.count..];
        let scan = self.regular_fields(regular)?;
        pseudo.write_request_line(self, out)?;
        let host = scan.host.map(|line| self.value(line));
        match (pseudo.authority.map(|line| self.value(line)), host) {
            (Some(authority), Some(host)) if !pseudo.is_same_host(self, authority, host) => {
                return Err(Malformed("host differs from :authority"));
            }
            (Some(host), _) | (None, Some(host)) => field(out, b"host", host),
            (None, None) => {}
        }
        self.copy_fields(regular, scan.cookies, out);
        if scan.cookies > 1 {
            self.join_cookies(regular, out);
        }
        if let Some(protocol) = pseudo.protocol.map(|line| self.value(line)) {
            if is_whole || scan.length.is_some() {
                return Err(Malformed("a tunnel with a length"));
            }
            out.extend_from_slice(b"connection: upgrade\r\n");
            field(out, b"upgrade", protocol);
        }
        match scan.length {
            Some(1..) if is_whole => return Err(Malformed("content-length, and no content")),
            // What follows CONNECT is a tunnel's.
            None if !is_whole && !pseudo.is_connect(self) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n")
            }
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
        Ok(Request { length: scan.length })
    }

    /// Appends the response as an HTTP/1.1 head to `out`. `is_end`: nothing follows. `to_head`: it answers HEAD.
    pub fn response(&self, is_end: bool, to_head: bool, out: &mut Vec<u8>) -> Result<Response, Malformed> {
        let regular = match &self.lines[..] {
            [first, rest @ ..] if self.name(first) == b":status" => rest,
            _ => return Err(Malformed("no :status")),
        };
        let digits = self.value(&self.lines[0]);
        let status = decimal(digits).filter(|status| (100..=599).contains(status) && digits.len() == 3);
        let status = status.ok_or(Malformed(":status is no status"))? as u16;
        // It would be another protocol's (§8.6).
        if status == 101 || (status < 200 && is_end) {
            return Err(Malformed("an informational response that is none"));
        }
        let scan = self.regular_fields(regular)?;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(digits);
        out.extend_from_slice(b" \r\n");
        if let [first, .., last] | [first @ last] = regular {
            out.extend_from_slice(&self.text[first.name.start..last.value.end + 2]);
        }
        let has_content = !to_head && status >= 200 && !matches!(status, 204 | 304);
        if has_content && !is_end && scan.length.is_none() {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(Response { status, length: scan.length.filter(|_| has_content) })
    }

    /// Appends trailers as HTTP/1.1 lines to `out`.
    pub fn trailers(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.text.len() > self.limits.trailer_bytes_max
            || self.lines.len() > self.limits.trailer_fields_max
        {
            return Err(Malformed("trailers that are too large"));
        }
        for line in &self.lines {
            if self.name(line).first() == Some(&b':') {
                return Err(Malformed("a pseudo-header field in trailers"));
            }
            self.check(line)?;
            if is_forbidden_in_trailers(self.name(line)) {
                return Err(Malformed("a field that must not be in trailers"));
            }
            out.extend_from_slice(&self.text[line.name.start..line.value.end + 2]);
        }
        Ok(())
    }

    fn pseudo_fields(&self) -> Result<Pseudo<'_>, Malformed> {
        let mut pseudo = Pseudo::default();
        for line in &self.lines {
            let place = match self.name(line) {
                b":method" => &mut pseudo.method,
                b":scheme" => &mut pseudo.scheme,
                b":authority" => &mut pseudo.authority,
                b":path" => &mut pseudo.path,
                b":protocol" => &mut pseudo.protocol,
                [b':', ..] => return Err(Malformed("an unknown pseudo-header field")),
                _ => break,
            };
            if place.replace(line).is_some() {
                return Err(Malformed("a pseudo-header field twice"));
            }
            pseudo.count += 1;
        }
        Ok(pseudo)
    }

    fn regular_fields<'l>(&self, lines: &'l [Line]) -> Result<Regular<'l>, Malformed> {
        let mut seen = Regular::default();
        for line in lines {
            self.check(line)?;
            let value = self.value(line);
            match self.name(line) {
                b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                    return Err(Malformed("a field of HTTP/1.1 connections"));
                }
                b"te" if !value.eq_ignore_ascii_case(b"trailers") => {
                    return Err(Malformed("te with more than trailers"));
                }
                b"host" if seen.host.is_some() => return Err(Malformed("host twice")),
                b"host" => seen.host = Some(line),
                b"cookie" => seen.cookies += 1,
                b"content-length" => {
                    let length = decimal(value).ok_or(Malformed("content-length is no number"))?;
                    if seen.length.replace(length).is_some() {
                        return Err(Malformed("content-length twice"));
                    }
                }
                _ => {}
            }
        }
        Ok(seen)
    }

    /// Nothing that would be another line, another field or an end in HTTP/1.1 (RFC 9113 §8.2.1).
    fn check(&self, line: &Line) -> Result<(), Malformed> {
        let (name, value) = (self.name(line), self.value(line));
        if name.first() == Some(&b':') {
            return Err(Malformed("a pseudo-header field behind others"));
        }
        let is_token = !name.is_empty() && Portable.class_end::<TOKEN>(name, 0) == name.len();
        if !is_token || name.iter().any(u8::is_ascii_uppercase) {
            return Err(Malformed("a field name with forbidden characters"));
        }
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if !self.of_server && (is_space(value.first()) || is_space(value.last())) {
            return Err(Malformed("a field value that begins or ends with space"));
        }
        if Portable.class_end::<VALUE>(value, 0) != value.len() {
            return Err(Malformed("a field value with forbidden characters"));
        }
        Ok(())
    }

    /// In runs as long as possible, without what is written otherwise.
    fn copy_fields(&self, lines: &[Line], cookies: usize, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in lines {
            let stays = match self.name(line) {
                b"host" => false,
                b"cookie" => cookies == 1,
                _ => true,
            };
            let whole = line.name.start..line.value.end + 2;
            if stays && run.end == whole.start {
                run.end = whole.end;
            } else {
                out.extend_from_slice(&self.text[run]);
                run = if stays { whole } else { 0..0 };
            }
        }
        out.extend_from_slice(&self.text[run]);
    }

    /// RFC 9113 §8.2.3.
    fn join_cookies(&self, lines: &[Line], out: &mut Vec<u8>) {
        let mut prefix: &[u8] = b"cookie: ";
        for line in lines.iter().filter(|line| self.name(line) == b"cookie") {
            out.extend_from_slice(prefix);
            out.extend_from_slice(self.value(line));
            prefix = b"; ";
        }
        out.extend_from_slice(b"\r\n");
    }

    fn name(&self, line: &Line) -> &[u8] {
        &self.text[line.name.clone()]
    }

    fn value(&self, line: &Line) -> &[u8] {
        &self.text[line.value.clone()]
    }
}

/// What the regular fields of a request say.
#[derive(Default)]
struct Regular<'l> {
    host: Option<&'l Line>,
    cookies: usize,
    length: Option<u64>,
}

/// RFC 9113 §8.3.1.
#[derive(Default)]
struct Pseudo<'l> {
    method: Option<&'l Line>,
    scheme: Option<&'l Line>,
    authority: Option<&'l Line>,
    path: Option<&'l Line>,
    /// RFC 8441 §4.
    protocol: Option<&'l Line>,
    /// How many lines these are.
    count: usize,
}

impl Pseudo<'_> {
    /// But for case, and for the port that goes without saying (RFC 9110 §4.2.3).
    fn is_same_host(&self, lines: &Lines, one: &[u8], other: &[u8]) -> bool {
        let port: &[u8] = match self.scheme.map(|line| lines.value(line)) {
            Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => b":443",
            _ => b":80",
        };
        let name = |host: &'_ [u8]| {
            let end = host.strip_suffix(port).or(host.strip_suffix(b":")).map_or(host.len(), <[u8]>::len);
            host[..end].to_ascii_lowercase()
        };
        name(one) == name(other)
    }

    fn is_connect(&self, lines: &Lines) -> bool {
        self.method.is_some_and(|line| lines.value(line) == b"CONNECT")
    }

    fn write_request_line(&self, lines: &Lines, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let method = self.method.map(|line| lines.value(line)).ok_or(Malformed("no :method"))?;
        if method.is_empty() || Portable.class_end::<TOKEN>(method, 0) != method.len() {
            return Err(Malformed(":method is no token"));
        }
        if let Some(authority) = self.authority.map(|line| lines.value(line)) {
            is_graphic(authority, "a malformed :authority")?;
        }
        let protocol = self.protocol.map(|line| lines.value(line));
        if protocol
            .is_some_and(|protocol| protocol.is_empty() || !protocol.iter().all(|&byte| is_token(byte)))
        {
            return Err(Malformed(":protocol is no token"));
        }
        if protocol.is_some() && !self.is_connect(lines) {
            return Err(Malformed(":protocol without CONNECT"));
        }
        let target = if self.is_connect(lines) && protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() {
                return Err(Malformed("CONNECT with :scheme or :path"));
            }
            self.authority.map(|line| lines.value(line)).ok_or(Malformed("CONNECT without :authority"))?
        } else {
            let scheme = self.scheme.map(|line| lines.value(line)).ok_or(Malformed("no :scheme"))?;
            if !is_scheme(scheme) {
                return Err(Malformed("a malformed :scheme"));
            }
            let path = self.path.map(|line| lines.value(line)).ok_or(Malformed("no :path"))?;
            let is_all = path == b"*" && method == b"OPTIONS";
            if path.first() != Some(&b'/') && !is_all {
                return Err(Malformed(":path does not begin with a slash"));
            }
            path
        };
        is_graphic(target, "a malformed :path")?;
        // As HTTP/1.1 asks for a change of protocol.
        out.extend_from_slice(if protocol.is_some() { b"GET" } else { method });
        out.push(b' ');
        if let Some(scheme) = self.scheme.map(|line| lines.value(line)).filter(|scheme| !is_http(scheme)) {
            // Another one's, which HTTP/1.1 says in the target, and which is judged there.
            out.extend_from_slice(scheme);
            out.extend_from_slice(b"://");
            out.extend_from_slice(self.authority.map(|line| lines.value(line)).unwrap_or_default());
        }
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        Ok(())
    }
}

/// RFC 3986 §3.1.
fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

fn is_http(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
}

/// Nothing that would end a part of a request line.
fn is_graphic(text: &[u8], otherwise: &'static str) -> Result<(), Malformed> {
    if text.iter().all(u8::is_ascii_graphic) { Ok(()) } else { Err(Malformed(otherwise)) }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_number { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The fields of HTTP/1.1 lines that are valid already, without those that are a connection's own.
pub fn each_field(text: &[u8], mut visit: impl FnMut(&[u8], &[u8])) {
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_connections = matches!(
            Name::recognise(name),
            Recognised::Name(
                Name::Connection
                    | Name::KeepAlive
                    | Name::ProxyConnection
                    | Name::TransferEncoding
                    | Name::Upgrade
            )
        );
        if !is_connections {
            visit(name, value);
        }
    }
}
