//! Owns the look at a TLS ClientHello that is passed on unread otherwise: which server name it asks for. Takes it in whatever
//! pieces it comes, records and packets; keeps what it has looked at. Decrypts nothing, answers nobody, and is no stricter
//! than it must be: what an endpoint would make of the rest is for the endpoint.

/// Bytes of the message. Post-quantum key shares make some of 2 KiB; nothing known makes more than a few.
pub const HELLO_BYTES_MAX: usize = 48 * 1024;

/// RFC 8446 §5.1: a record's header, and the most that it carries.
const HEADER_BYTES: usize = 5;
const RECORD_BYTES_MAX: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 6066 §3.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// How far a ClientHello has been looked at.
#[derive(Debug, Default)]
pub struct Peek {
    /// Where in what was received the next record begins.
    at: usize,
    /// What the records so far carried.
    message: Vec<u8>,
}

/// What a whole ClientHello asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// In lower case. `None` where no name is sent.
    pub server_name: Option<Box<str>>,
}

/// Why there is no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHello {
    /// Something else, or one that breaks its own framing.
    Malformed,
    TooLarge,
}

impl Peek {
    /// Looks on. `bytes` is all that was received since the connection began, or since its PROXY header. `None`: more is
    /// needed.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Option<Hello>, NoHello> {
        loop {
            if let Some(hello) = self.whole_message()? {
                return hello_in(hello).map(Some).ok_or(NoHello::Malformed);
            }
            let Some(rest) = bytes.get(self.at..) else { return Ok(None) };
            let Some(record) = record(rest)? else { return Ok(None) };
            self.message.extend_from_slice(record);
            self.at += HEADER_BYTES + record.len();
        }
    }

    /// The body of the handshake message, once all of it is there.
    fn whole_message(&self) -> Result<Option<&[u8]>, NoHello> {
        let mut rest = Bytes(&self.message);
        match rest.u8() {
            None => return Ok(None),
            Some(CLIENT_HELLO) => {}
            Some(_) => return Err(NoHello::Malformed),
        }
        let Some(length) = rest.take(3) else { return Ok(None) };
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if length > HELLO_BYTES_MAX {
            return Err(NoHello::TooLarge);
        }
        Ok(rest.take(length))
    }
}

/// What the record at the start of `bytes` carries. `None`: it is not all there, but nothing is wrong so far.
fn record(bytes: &[u8]) -> Result<Option<&[u8]>, NoHello> {
    // The version is 3.1 or 3.3 and means nothing (RFC 8446 §5.1).
    let is_wrong = |at: usize, wanted: u8| bytes.get(at).is_some_and(|&byte| byte != wanted);
    if is_wrong(0, HANDSHAKE) || is_wrong(1, 3) {
        return Err(NoHello::Malformed);
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > RECORD_BYTES_MAX {
        return Err(NoHello::Malformed);
    }
    Ok(rest.get(..length))
}

/// RFC 8446 §4.1.2. `None` if a length in it is wrong, or a name is none.
fn hello_in(message: &[u8]) -> Option<Hello> {
    let mut rest = Bytes(message);
    // Version and random.
    rest.take(2 + 32)?;
    let session = rest.u8()?;
    rest.take(usize::from(session))?;
    let suites = rest.u16()?;
    rest.take(usize::from(suites))?;
    let compressions = rest.u8()?;
    rest.take(usize::from(compressions))?;
    let mut hello = Hello { server_name: None };
    // Before TLS 1.3 there may be none.
    if rest.0.is_empty() {
        return Some(hello);
    }
    let length = rest.u16()?;
    let mut extensions = Bytes(rest.take(usize::from(length))?);
    if !rest.0.is_empty() {
        return None;
    }
    let mut is_named = false;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let content = extensions.take(usize::from(length))?;
        if kind != SERVER_NAME {
            continue;
        }
        // Two of them could be read as either.
        if std::mem::replace(&mut is_named, true) {
            return None;
        }
        hello.server_name = Some(host_name(content)?);
    }
    Some(hello)
}

/// The one host name of a server name list.
fn host_name(content: &[u8]) -> Option<Box<str>> {
    let mut content = Bytes(content);
    let length = content.u16()?;
    let mut list = Bytes(content.take(usize::from(length))?);
    let is_host = list.u8()? == HOST_NAME;
    let length = list.u16()?;
    let name = list.take(usize::from(length))?;
    // Not allowed, but some endpoints take it for the same name.
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_whole = content.0.is_empty() && list.0.is_empty();
    if !is_host || !is_whole || name.is_empty() || name.len() > NAME_BYTES_MAX || !name.iter().all(is_name) {
        return None;
    }
    Some(String::from_utf8_lossy(name).to_ascii_lowercase().into())
}

/// RFC 1035 §3.1, in text.
const NAME_BYTES_MAX: usize = 253;

/// What is left to read.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
#[path = "sni_tests.rs"]
mod tests;
