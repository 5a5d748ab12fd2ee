//! Owns the request table of `framing_is_never_guessed`: raw bytes and what RFC 9112 and RFC 9110 (and, where they
//! leave a choice, the product's strictness) say must become of them. Data only: the test file runs it.

mod chunked;
mod fields;
mod hosts;
mod length;
mod limits;
mod line;
mod transfer_coding;

/// One raw request and its fate.
pub struct Case {
    pub name: String,
    pub raw: Vec<u8>,
    pub want: Want,
    /// Another request may follow on the same connection.
    pub keeps_alive: bool,
}

pub enum Want {
    /// One of these statuses, a close, and no byte of it at the backend.
    Refused(&'static [u16]),
    /// The body is wrong: a status and a close; the backend may see a beginning, never a whole request.
    Broken(&'static [u16]),
    /// Exactly this request arrives, and is answered.
    Forwarded(Shape),
    /// The standards allow both; but if it arrives, it arrives like this.
    Either(&'static [u16], Shape),
    /// As `Either`, with the doubt in the body: refused, it may have arrived in part.
    EitherBroken(Shape),
}

#[derive(Clone)]
pub struct Shape {
    pub method: &'static str,
    pub target: String,
    pub host: &'static str,
    pub body: Vec<u8>,
    /// The sender used chunked framing, and so must the gateway.
    pub chunked: bool,
}

pub const BAD: &[u16] = &[400];
pub const HOST: &str = "test.example";

/// All cases, each under its own name.
pub fn all() -> Vec<Case> {
    let mut table = Table(Vec::new());
    line::add(&mut table);
    hosts::add(&mut table);
    fields::add(&mut table);
    length::add(&mut table);
    transfer_coding::add(&mut table);
    chunked::add(&mut table);
    limits::add(&mut table);
    table.0
}

pub struct Table(Vec<Case>);

impl Table {
    pub fn refuse(&mut self, name: &str, raw: impl Into<Vec<u8>>) {
        self.refuse_as(name, BAD, raw);
    }

    pub fn refuse_as(&mut self, name: &str, statuses: &'static [u16], raw: impl Into<Vec<u8>>) {
        self.add(name, raw, Want::Refused(statuses));
    }

    pub fn broken(&mut self, name: &str, raw: impl Into<Vec<u8>>) {
        self.broken_as(name, BAD, raw);
    }

    pub fn broken_as(&mut self, name: &str, statuses: &'static [u16], raw: impl Into<Vec<u8>>) {
        self.add(name, raw, Want::Broken(statuses));
    }

    pub fn pass(&mut self, name: &str, raw: impl Into<Vec<u8>>, shape: Shape) {
        self.add(name, raw, Want::Forwarded(shape));
    }

    pub fn either(&mut self, name: &str, raw: impl Into<Vec<u8>>, shape: Shape) {
        self.add(name, raw, Want::Either(&[400, 403, 404, 405, 411, 413, 414, 417, 431, 501, 505], shape));
    }

    pub fn either_broken(&mut self, name: &str, raw: impl Into<Vec<u8>>, shape: Shape) {
        self.add(name, raw, Want::EitherBroken(shape));
    }

    /// The connection ends after the case just added, whatever its fate.
    pub fn last(&mut self) {
        self.0.last_mut().expect("a case was added").keeps_alive = false;
    }

    fn add(&mut self, name: &str, raw: impl Into<Vec<u8>>, want: Want) {
        self.0.push(Case { name: name.into(), raw: raw.into(), want, keeps_alive: true });
    }
}

/// A GET of `/case` that arrives without a body.
pub fn plain() -> Shape {
    Shape { method: "GET", target: "/case".into(), host: HOST, body: Vec::new(), chunked: false }
}

pub fn posted(body: &[u8]) -> Shape {
    Shape { method: "POST", body: body.to_vec(), ..plain() }
}

pub fn chunked(body: &[u8]) -> Shape {
    Shape { chunked: true, ..posted(body) }
}

/// A GET of `/case` with these more field lines (each with its CRLF).
pub fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /case HTTP/1.1\r\nHost: test.example\r\n", fields.as_ref(), b"\r\n"].concat()
}

/// A POST to `/case` with these more field lines and this body.
pub fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /case HTTP/1.1\r\nHost: test.example\r\n", fields.as_ref(), b"\r\n", body.as_ref()].concat()
}

/// A chunked POST with this raw body.
pub fn post_chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A request with this start line (without CRLF) and a Host.
pub fn with_line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: test.example\r\n\r\n"].concat()
}
