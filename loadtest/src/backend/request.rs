//! Reads what the backend needs of a request: target, framing, and whether to keep the connection.
//! Not a validator: malformed input gets some answer or a close, because only proxies talk to it.

/// How a request's body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

pub struct Request<'a> {
    pub is_head: bool,
    pub target: &'a str,
    pub framing: Framing,
    pub close: bool,
    pub expects_continue: bool,
}

impl<'a> Request<'a> {
    /// `head` runs up to and with its empty line.
    pub fn parse(head: &'a [u8]) -> Option<Self> {
        let mut lines =
            head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut first = lines.next()?.split(|&byte| byte == b' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        let mut request = Self {
            is_head: method == b"HEAD",
            target: std::str::from_utf8(target).ok()?,
            framing: Framing::None,
            close: version == b"HTTP/1.0",
            expects_continue: false,
        };
        for line in lines {
            // Only four names matter, so most lines cost one comparison.
            match line.first().map(u8::to_ascii_lowercase) {
                Some(b'c' | b't' | b'e') => request.apply(line),
                _ => continue,
            }
        }
        Some(request)
    }

    fn apply(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"connection") {
            self.close = value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.framing = Framing::Length(length.unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case(b"expect") {
            self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
    }
}

/// Length of the first head in `bytes`, its empty line included.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

/// Follows a chunked body without keeping it.
///
/// `Size` → `Data` → `DataEnd` → `Size` …, and after the last chunk `Trailer` until an empty line.
#[derive(Clone, Copy)]
pub enum Chunks {
    Size { bytes: u64, digits_over: bool },
    Data { left: u64 },
    DataEnd,
    Trailer { line_empty: bool },
    Done,
}

impl Chunks {
    pub const START: Self = Self::Size { bytes: 0, digits_over: false };

    /// Takes input up to the body's end. Returns (bytes used, body bytes among them).
    pub fn feed(&mut self, input: &[u8]) -> (usize, u64) {
        let (mut used, mut body) = (0, 0);
        while used < input.len() && !matches!(self, Self::Done) {
            if let Self::Data { left } = *self {
                let taken = left.min((input.len() - used) as u64);
                used += taken as usize;
                body += taken;
                *self = if taken == left { Self::DataEnd } else { Self::Data { left: left - taken } };
            } else {
                *self = self.framing_byte(input[used]);
                used += 1;
            }
        }
        (used, body)
    }

    fn framing_byte(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { bytes: 0, .. }, b'\n') => Self::Trailer { line_empty: true },
            (Self::Size { bytes, .. }, b'\n') => Self::Data { left: bytes },
            (Self::Size { bytes, digits_over }, _) => match char::from(byte).to_digit(16) {
                Some(digit) if !digits_over => {
                    Self::Size { bytes: bytes.wrapping_mul(16) + u64::from(digit), digits_over }
                }
                _ => Self::Size { bytes, digits_over: true },
            },
            (Self::DataEnd, b'\n') => Self::START,
            (Self::Trailer { line_empty: true }, b'\n') => Self::Done,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { line_empty: true },
            (Self::Trailer { line_empty }, b'\r') => Self::Trailer { line_empty },
            (Self::Trailer { .. }, _) => Self::Trailer { line_empty: false },
            (state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_matters() {
        let request = Request::parse(
            b"POST /upload?x=1 HTTP/1.1\r\nhost: a\r\nContent-Length: 12\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
        assert_eq!((request.target, request.framing), ("/upload?x=1", Framing::Length(12)));
        assert!(request.close && request.expects_continue && !request.is_head);
    }

    #[test]
    fn chunked_bodies_are_counted_at_every_split() {
        let body = b"5\r\nhello\r\n1a;ext=1\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx-sum: 1\r\n\r\nGET";
        for split in 0..body.len() {
            let (mut chunks, mut counted, mut used) = (Chunks::START, 0, 0);
            for part in [&body[..split], &body[split..]] {
                let (taken, bytes) = chunks.feed(part);
                used += taken;
                counted += bytes;
            }
            assert!(matches!(chunks, Chunks::Done), "split {split}");
            assert_eq!((counted, used), (31, body.len() - 3), "split {split}");
        }
    }
}
