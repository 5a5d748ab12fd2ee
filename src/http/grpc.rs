//! Owns what gRPC says on the wire besides its messages' content: timeouts, statuses, and where messages begin
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). Reads no message and knows no connection.

use std::time::Duration;

use bytes::Bytes;

use super::h2::frame::Code;

/// How a call ended (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>); those that a gateway has use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Status {
    /// Of an HTTP status that the gateway would answer with.
    pub fn of_http(status: u16) -> Status {
        match status {
            401 => Status::Unauthenticated,
            403 => Status::PermissionDenied,
            404 => Status::NotFound,
            405 | 501 => Status::Unimplemented,
            408 | 504 => Status::DeadlineExceeded,
            409 => Status::Aborted,
            413 | 429 | 431 => Status::ResourceExhausted,
            499 => Status::Cancelled,
            502 | 503 => Status::Unavailable,
            500..=599 => Status::Internal,
            _ => Status::InvalidArgument,
        }
    }

    /// Of a stream that a server has reset.
    pub fn of_reset(code: Code) -> Status {
        match code {
            Code::RefusedStream => Status::Unavailable,
            Code::Cancel => Status::Cancelled,
            Code::EnhanceYourCalm => Status::ResourceExhausted,
            Code::InadequateSecurity => Status::PermissionDenied,
            _ => Status::Internal,
        }
    }
}

/// The HTTP status of a call that ended with this one, for whoever has asked by HTTP.
pub fn http_status(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// A call that is over because its endpoint has nothing for it now, and may have later.
pub const UNAVAILABLE: u8 = 14;

/// What a status that is no success of the server's says. The others are about what was asked, also DEADLINE_EXCEEDED: clients
/// choose their deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is not well: UNAVAILABLE, DATA_LOSS.
    Server,
    /// It may not be well: UNKNOWN and INTERNAL are also what servers answer to messages that they cannot read.
    Call,
}

impl Failure {
    pub fn of(status: u8) -> Option<Failure> {
        match status {
            14 | 15 => Some(Failure::Server),
            2 | 13 => Some(Failure::Call),
            _ => None,
        }
    }
}

/// The value of `grpc-status`. `None`: it is none.
pub fn status(value: &[u8]) -> Option<u8> {
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

/// Digits of a timeout.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// The value of `grpc-timeout`. `None`: it is none.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let is_number = (1..=TIMEOUT_DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Appends a value of `grpc-timeout` that is no longer than this, and as exact as it may be.
pub fn write_timeout(timeout: Duration, out: &mut Vec<u8>) {
    const MOST: u128 = 10u128.pow(TIMEOUT_DIGITS_MAX as u32) - 1;
    let units = [
        (timeout.as_micros(), b'u'),
        (timeout.as_millis(), b'm'),
        (timeout.as_secs().into(), b'S'),
        ((timeout.as_secs() / 3600).into(), b'H'),
    ];
    let (number, unit) = units.into_iter().find(|(number, _)| *number <= MOST).unwrap_or((MOST, b'H'));
    out.extend_from_slice(number.to_string().as_bytes());
    out.push(unit);
}

/// Appends a value of `grpc-message`: UTF-8, of which all but the printable ASCII is percent-encoded.
pub fn write_message(message: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in message.as_bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// The text of a value of `grpc-message`. What is not encoded well stays as it is.
pub fn percent_decoded(value: &[u8]) -> String {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, behind @ ..] = rest {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let pair = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        (text, rest) = match pair {
            Some((high, low)) => (pushed(text, (high << 4 | low) as u8), &behind[2..]),
            None => (pushed(text, *first), behind),
        };
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn pushed(mut text: Vec<u8>, byte: u8) -> Vec<u8> {
    text.push(byte);
    text
}

/// A message with its prefix, not compressed.
pub fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = vec![0; PREFIX_BYTES];
    write(&mut message);
    let length = (message.len() - PREFIX_BYTES) as u32;
    message[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    message
}

/// The message of a unary call's body. An error says in words what is there instead.
pub fn only_message(body: &Bytes) -> Result<Bytes, &'static str> {
    let Some((&[flags, a, b, c, d], message)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err("there is no message");
    };
    match (flags, message.len() == u32::from_be_bytes([a, b, c, d]) as usize) {
        (0, true) => Ok(body.slice(PREFIX_BYTES..)),
        (0, false) => Err("it is not of one message"),
        _ => Err("its message is compressed, which nobody asked for"),
    }
}

/// Follows one direction of a call from message to message: each has a flag, its length in four bytes, and so many bytes.
#[derive(Debug)]
pub struct Messages {
    bytes_max: u64,
    /// Of the message that has begun, what is still to come.
    left: u64,
    prefix: [u8; PREFIX_BYTES],
    /// Of the prefix, what is there.
    known: usize,
}

pub const PREFIX_BYTES: usize = 5;

/// A message is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl Messages {
    /// `bytes_max`: of one message, without its prefix.
    pub fn new(bytes_max: u64) -> Messages {
        Messages { bytes_max, left: 0, prefix: [0; PREFIX_BYTES], known: 0 }
    }

    /// Whether no message has begun that is not complete.
    pub fn is_between(&self) -> bool {
        self.left == 0 && self.known == 0
    }

    /// Takes note of the next bytes.
    pub fn see(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while !bytes.is_empty() {
            let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= passed as u64;
            bytes = &bytes[passed..];
            let count = (PREFIX_BYTES - self.known).min(bytes.len());
            if self.left > 0 || count == 0 {
                continue;
            }
            self.prefix[self.known..self.known + count].copy_from_slice(&bytes[..count]);
            self.known += count;
            bytes = &bytes[count..];
            if self.known == PREFIX_BYTES {
                let [_, a, b, c, d] = self.prefix;
                (self.left, self.known) = (u32::from_be_bytes([a, b, c, d]).into(), 0);
                if self.left > self.bytes_max {
                    return Err(TooLarge);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_strictly() {
        let cases: [(&[u8], Option<Duration>); 12] = [
            (b"1H", Some(Duration::from_secs(3600))),
            (b"2M", Some(Duration::from_secs(120))),
            (b"99999999S", Some(Duration::from_secs(99_999_999))),
            (b"5m", Some(Duration::from_millis(5))),
            (b"0u", Some(Duration::ZERO)),
            (b"7n", Some(Duration::from_nanos(7))),
            (b"123456789m", None),
            (b"m", None),
            (b"", None),
            (b"+1m", None),
            (b"1 m", None),
            (b"1s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(timeout(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn timeouts_are_never_written_longer_and_nearly_exact() {
        for nanos in (0..62).map(|power| 3u64 << power) {
            let asked = Duration::from_nanos(nanos);
            let mut text = Vec::new();
            write_timeout(asked, &mut text);
            let read = timeout(&text).expect("what we write can be read");
            assert!(read <= asked, "{asked:?} became {read:?}");
            assert!(asked - read < Duration::from_micros(1).max(asked / 10_000), "{asked:?} became {read:?}");
        }
        let mut text = Vec::new();
        write_timeout(Duration::MAX, &mut text);
        assert_eq!(text, b"99999999H");
    }

    #[test]
    fn messages_are_percent_encoded() {
        let mut text = Vec::new();
        write_message("100 % für\r\n", &mut text);
        assert_eq!(text, b"100 %25 f%C3%BCr%0D%0A");
    }

    /// However the bytes are cut, the same message is found to be too large, at its prefix.
    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let message = |length: u32| [&[0][..], &length.to_be_bytes(), &vec![1; length as usize]].concat();
        let good = [message(0), message(10), message(3), message(0), message(10)].concat();
        let bad = [good.clone(), [&[1][..], &11u32.to_be_bytes()].concat()].concat();
        for size in 1..=bad.len() {
            let mut messages = Messages::new(10);
            assert!(good.chunks(size).all(|piece| messages.see(piece).is_ok()), "{size}");
            let mut messages = Messages::new(10);
            assert!(bad.chunks(size).any(|piece| messages.see(piece).is_err()), "{size}");
        }
    }
}
