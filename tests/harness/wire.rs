//! Owns a strict reader of HTTP/1 messages over any byte source: what it accepts is what RFC 9112 lets a sender
//! generate, nothing more. Judges both what the gateway sends to backends and what it sends to clients.
//! Writes nothing and knows no gateway.

use std::io::{self, Read};

/// Why a message could not be read in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The peer closed where a message could have started.
    Closed,
    /// The peer closed inside a message.
    Truncated(String),
    Reset,
    Timeout,
    Malformed(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Fault::Timeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fault::Reset,
            _ => Fault::Malformed(format!("i/o: {error}")),
        }
    }
}

/// A start line and its fields, names in lower case, bytes above 127 as Latin-1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
    }
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub head: Head,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Trailers,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Trailers,
    /// The 1xx heads that came before.
    pub interim: Vec<Head>,
}

impl Response {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// The fields after a chunked body, names in lower case.
pub type Trailers = Vec<(String, String)>;

/// A byte source with the bytes read ahead of the message under way.
pub struct Wire<R> {
    pub source: R,
    pub buffer: Vec<u8>,
    /// Every chunk-size line seen, for tests that ask how a body was framed.
    pub chunk_lines: Vec<String>,
}

const HEAD_BYTES_MAX: usize = 512 * 1024;

impl<R: Read> Wire<R> {
    pub fn new(source: R) -> Wire<R> {
        Wire { source, buffer: Vec::new(), chunk_lines: Vec::new() }
    }

    /// Reads once; false at the end of the stream.
    pub fn fill(&mut self) -> Result<bool, Fault> {
        let mut piece = [0u8; 64 * 1024];
        loop {
            match self.source.read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn read_request(&mut self) -> Result<Request, Fault> {
        let head = self.read_head()?;
        let (method, target, version) = split_request_line(&head.start)?;
        let framing = request_framing(&head)?;
        let mut request =
            Request { method, target, version, framing, body: Vec::new(), trailers: Vec::new(), head };
        (request.body, request.trailers) = self.read_body(framing)?;
        Ok(request)
    }

    /// The final response to a request of this method, with the interim ones before it.
    pub fn read_response(&mut self, method: &str) -> Result<Response, Fault> {
        let mut response = self.read_response_head(method)?;
        (response.body, response.trailers) = self.read_body(response.framing)?;
        Ok(response)
    }

    /// As `read_response`, with the body left unread.
    pub fn read_response_head(&mut self, method: &str) -> Result<Response, Fault> {
        let mut interim = Vec::new();
        loop {
            let head = self.read_head()?;
            let status = split_status_line(&head.start)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            let framing = response_framing(&head, status, method)?;
            return Ok(Response { status, head, framing, body: Vec::new(), trailers: Vec::new(), interim });
        }
    }

    pub fn read_head(&mut self) -> Result<Head, Fault> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return parse_head(&raw).map_err(Fault::Malformed);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("endless head"));
            }
            if !self.fill()? {
                return Err(self.ended("a head"));
            }
        }
    }

    pub fn read_body(&mut self, framing: Framing) -> Result<(Vec<u8>, Trailers), Fault> {
        match framing {
            Framing::None => Ok(Default::default()),
            Framing::Length(length) => Ok((self.take(length as usize)?, Vec::new())),
            Framing::Chunked => self.read_chunked(),
            Framing::Close => {
                while self.fill()? {}
                Ok((std::mem::take(&mut self.buffer), Vec::new()))
            }
        }
    }

    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        while self.buffer.len() < count {
            if !self.fill()? {
                return Err(Fault::Truncated(format!("{} of {count} body bytes", self.buffer.len())));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    pub fn read_chunked(&mut self) -> Result<(Vec<u8>, Trailers), Fault> {
        let mut body = Vec::new();
        loop {
            let size = self.read_chunk_size()?;
            if size == 0 {
                return Ok((body, self.read_trailers()?));
            }
            body.extend(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(malformed("no CRLF after chunk data"));
            }
        }
    }

    /// One chunk-size line.
    pub fn read_chunk_size(&mut self) -> Result<usize, Fault> {
        let line = self.line("a chunk size")?;
        let digits = line.split(';').next().unwrap_or_default().to_owned();
        self.chunk_lines.push(line);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed(format!("chunk size {digits:?}")));
        }
        usize::from_str_radix(&digits, 16).map_err(|_| malformed(format!("chunk size {digits:?}")))
    }

    fn read_trailers(&mut self) -> Result<Vec<(String, String)>, Fault> {
        let mut fields = Vec::new();
        loop {
            let line = self.line("trailers")?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.push(parse_field(&line).map_err(Fault::Malformed)?);
        }
    }

    fn line(&mut self, place: &str) -> Result<String, Fault> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = &raw[..end];
                if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                    return Err(malformed(format!("bare CR, LF or NUL in {place}")));
                }
                return Ok(latin1(text));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed(format!("endless line in {place}")));
            }
            if !self.fill()? {
                return Err(Fault::Truncated(place.into()));
            }
        }
    }

    fn ended(&self, place: &str) -> Fault {
        if self.buffer.is_empty() {
            return Fault::Closed;
        }
        Fault::Truncated(format!("{place}: {}", super::show(&self.buffer)))
    }
}

/// Every request in `bytes`; an error if they are not a whole number of strictly formed requests.
pub fn requests_in(bytes: &[u8]) -> Result<Vec<Request>, Fault> {
    let mut wire = Wire::new(bytes);
    let mut found = Vec::new();
    loop {
        match wire.read_request() {
            Ok(request) => found.push(request),
            Err(Fault::Closed) => return Ok(found),
            Err(fault) => return Err(fault),
        }
    }
}

/// How many whole requests `bytes` start with, whatever follows them.
pub fn complete_requests_in(bytes: &[u8]) -> usize {
    let mut wire = Wire::new(bytes);
    std::iter::from_fn(|| wire.read_request().ok()).count()
}

pub fn parse_head(raw: &[u8]) -> Result<Head, String> {
    let text = raw.strip_suffix(b"\r\n\r\n").ok_or("no empty line")?;
    let mut lines = split_crlf(text).into_iter();
    let start = latin1(lines.next().unwrap_or_default());
    let mut fields = Vec::new();
    for line in lines {
        fields.push(parse_field(&latin1(line))?);
    }
    let head = Head { start, fields };
    match raw.contains(&0) || has_bare_line_end(raw) {
        true => Err(format!("NUL, bare CR or bare LF in a head: {}", super::show(raw))),
        false => Ok(head),
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn parse_field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
    if !is_token(name) {
        return Err(format!("field name {name:?}"));
    }
    if value.chars().any(|c| (c < ' ' && c != '\t') || c == '\x7f') {
        return Err(format!("control character in {line:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

fn split_request_line(line: &str) -> Result<(String, String, String), Fault> {
    let parts: Vec<&str> = line.split(' ').collect();
    match parts[..] {
        [method, target, version]
            if is_token(method) && !target.is_empty() && version.starts_with("HTTP/1.") =>
        {
            Ok((method.into(), target.into(), version.into()))
        }
        _ => Err(malformed(format!("request line {line:?}"))),
    }
}

fn split_status_line(line: &str) -> Result<u16, Fault> {
    let mut parts = line.splitn(3, ' ');
    let (version, code, reason) = (parts.next(), parts.next(), parts.next());
    match (version, code, reason) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(code), Some(_)) if code.len() == 3 => {
            code.parse().map_err(|_| malformed(format!("status line {line:?}")))
        }
        _ => Err(malformed(format!("status line {line:?}"))),
    }
}

fn request_framing(head: &Head) -> Result<Framing, Fault> {
    match declared_framing(head)? {
        Some(framing) => Ok(framing),
        None => Ok(Framing::None),
    }
}

fn response_framing(head: &Head, status: u16, method: &str) -> Result<Framing, Fault> {
    let declared = declared_framing(head)?;
    let tunnel = method == "CONNECT" && (200..300).contains(&status);
    if matches!(status, 204 | 101) && declared.is_some_and(|framing| framing != Framing::Length(0)) {
        return Err(malformed(format!("body framing on a {status}")));
    }
    if method == "HEAD" || matches!(status, 101 | 204 | 304) || tunnel {
        return Ok(Framing::None);
    }
    Ok(declared.unwrap_or(Framing::Close))
}

/// What Content-Length and Transfer-Encoding say together; anything a careful sender would not send is an error.
fn declared_framing(head: &Head) -> Result<Option<Framing>, Fault> {
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(|length| Some(Framing::Length(length)))
            .map_err(|_| malformed("length overflow")),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(malformed(format!("ambiguous framing: lengths {lengths:?}, codings {codings:?}"))),
    }
}

fn split_crlf(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn has_bare_line_end(raw: &[u8]) -> bool {
    let bare_lf = raw.iter().enumerate().any(|(i, b)| *b == b'\n' && (i == 0 || raw[i - 1] != b'\r'));
    let bare_cr = raw.iter().enumerate().any(|(i, b)| *b == b'\r' && raw.get(i + 1) != Some(&b'\n'));
    bare_lf || bare_cr
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| *byte as char).collect()
}

fn malformed(reason: impl Into<String>) -> Fault {
    Fault::Malformed(reason.into())
}
