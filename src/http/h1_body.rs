//! Owns how HTTP/1 bodies are delimited once their head is known: `ChunkedDecoder` validates chunk framing
//! and trailers (RFC 9112 §7.1) and says how much of the input may be passed on as it stands, `LengthBody`
//! counts. Neither keeps bytes, copies payload nor does I/O; a body that ends early is the caller's to see.

use std::fmt;

use super::h1_parse::{HeadError, trailer_line};
use super::head::{Name, Recognised, is_alike};
use super::scan;

/// Bounds of one chunked message.
#[derive(Debug, Clone, Copy)]
pub struct ChunkLimits {
    /// Bytes of all chunk extensions of the message together.
    pub extension_bytes_max: usize,
    /// Bytes of all trailer lines together. At most 65,535 count.
    pub trailer_bytes_max: usize,
    pub trailer_fields_max: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        ChunkLimits { extension_bytes_max: 4096, trailer_bytes_max: 16 * 1024, trailer_fields_max: 100 }
    }
}

/// Why a chunked body is refused. Where the message ends is unknown then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// Not `1*HEXDIG` of at most 16 digits directly followed by `;` or CRLF.
    Size,
    /// A malformed chunk extension.
    Extension,
    /// More than `ChunkLimits::extension_bytes_max`.
    ExtensionsTooLarge,
    /// The payload of a chunk is not followed by CRLF.
    DataEnd,
    /// A malformed trailer line.
    Trailer(&'static str),
    /// A field that must not be in trailers.
    TrailerName,
    /// More than `ChunkLimits::trailer_bytes_max`.
    TrailersTooLarge,
    /// More than `ChunkLimits::trailer_fields_max`.
    TooManyTrailers,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            ChunkError::Size => "malformed chunk size",
            ChunkError::Extension => "malformed chunk extension",
            ChunkError::ExtensionsTooLarge => "chunk extensions too large",
            ChunkError::DataEnd => "chunk is not followed by CRLF",
            ChunkError::Trailer(reason) => return write!(formatter, "malformed trailer: {reason}"),
            ChunkError::TrailerName => "field is forbidden in trailers",
            ChunkError::TrailersTooLarge => "trailers too large",
            ChunkError::TooManyTrailers => "too many trailer fields",
        })
    }
}

impl std::error::Error for ChunkError {}

/// What one call of `ChunkedDecoder::advance` got done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// Bytes of the input that are valid and done with. Present the rest again, with more behind it.
    pub consumed: usize,
    /// The message ends right behind the consumed bytes.
    pub complete: bool,
}

/// ```text
///            1*HEXDIG            ;                 "
///   Size ───────────────► Size ─────► Extension ◄─────► Quoted ◄──► QuotedPair
///    ▲                     │ CR           │ CR
///    │                     └──► SizeLf ◄──┘
///    │ CRLF            size > 0 │    │ size = 0
///  DataEnd ◄────────── Data ◄───┘    └──► Trailers ──────► Complete
///           payload                       field lines  CRLF
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension(Extension),
    SizeLf,
    Data,
    DataEnd,
    Trailers,
    Complete,
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )` (RFC 9112 §7.1.1): the last thing that was read. White
/// space around `;` and `=` is in the grammar only for old senders, and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    Semicolon,
    Name,
    Equals,
    Value,
    Quoted,
    QuotedPair,
    QuoteEnd,
}

/// Validates one chunked body. Bytes it has seen but not consumed are not looked at twice, except that a
/// trailer line that is cut short is parsed a second time when its end is there.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the current chunk: its size while that is read, then what is left of its payload.
    remaining: u64,
    /// Bytes of the unfinished line that were looked at, but not consumed.
    pending: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    payload_bytes: u64,
    limits: ChunkLimits,
}

impl ChunkedDecoder {
    pub fn new(limits: ChunkLimits) -> Self {
        ChunkedDecoder {
            state: State::Size { digits: 0 },
            remaining: 0,
            pending: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            payload_bytes: 0,
            limits,
        }
    }

    /// Decodes as much of `input` as is whole: size lines, line ends and trailer lines are consumed once they
    /// are there and valid, payload as it comes, each piece handed to `payload`. `input` begins at the first
    /// byte that was not consumed before. After an error the decoder must not be used.
    pub fn advance(&mut self, input: &[u8], mut payload: impl FnMut(&[u8])) -> Result<Advance, ChunkError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let step = match self.state {
                State::Size { .. } | State::Extension(_) | State::SizeLf => self.size_line(rest)?,
                State::Data => self.data(rest, &mut payload),
                State::DataEnd => self.data_end(rest)?,
                State::Trailers => self.trailer_line(rest)?,
                State::Complete => return Ok(Advance { consumed, complete: true }),
            };
            match step {
                0 => return Ok(Advance { consumed, complete: false }),
                step => consumed += step,
            }
        }
    }

    /// Payload bytes handed out or passed so far.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Payload bytes that the message has at least: those handed out, and what is left of the chunk whose size
    /// line was read.
    pub fn payload_bytes_announced(&self) -> u64 {
        self.payload_bytes.saturating_add(self.chunk_bytes_left())
    }

    /// Payload bytes that the chunk under way still lacks; 0 between chunks.
    pub fn chunk_bytes_left(&self) -> u64 {
        if self.state == State::Data { self.remaining } else { 0 }
    }

    /// Payload bytes went by elsewhere, at most `chunk_bytes_left` of them.
    pub fn pass(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.chunk_bytes_left());
        self.payload_bytes += bytes;
        self.remaining -= bytes;
        if self.state == State::Data && self.remaining == 0 {
            self.state = State::DataEnd;
        }
    }

    /// The whole message was consumed.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// `chunk-size [ chunk-ext ] CRLF`; its length once it is whole.
    fn size_line(&mut self, rest: &[u8]) -> Result<usize, ChunkError> {
        while let Some(&byte) = rest.get(self.pending) {
            self.pending += 1;
            self.state = match (self.state, byte) {
                (State::Size { digits }, _) => self.size_byte(digits, byte)?,
                (State::Extension(at), _) => self.extension_byte(at, byte)?,
                (_, b'\n') => {
                    self.state = if self.remaining == 0 { State::Trailers } else { State::Data };
                    return Ok(std::mem::take(&mut self.pending));
                }
                _ => return Err(ChunkError::Size),
            };
        }
        Ok(0)
    }

    #[inline]
    fn size_byte(&mut self, digits: u8, byte: u8) -> Result<State, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeLf),
            b';' if digits > 0 => return self.extension_byte(Extension::QuoteEnd, byte),
            _ => return Err(ChunkError::Size),
        };
        // 16 digits are 64 bits, so nothing overflows; zeros in front count as digits.
        if digits == 16 {
            return Err(ChunkError::Size);
        }
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    fn extension_byte(&mut self, at: Extension, byte: u8) -> Result<State, ChunkError> {
        let next = match (at, byte) {
            (Extension::Quoted, b'"') => Extension::QuoteEnd,
            (Extension::Quoted, b'\\') => Extension::QuotedPair,
            (Extension::Quoted | Extension::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Extension::Quoted,
            (Extension::Quoted | Extension::QuotedPair, _) => return Err(ChunkError::Extension),
            (Extension::Name | Extension::Value | Extension::QuoteEnd, b'\r') => return Ok(State::SizeLf),
            (Extension::Name | Extension::Value | Extension::QuoteEnd, b';') => Extension::Semicolon,
            (Extension::Name, b'=') => Extension::Equals,
            (Extension::Equals, b'"') => Extension::Quoted,
            (Extension::Semicolon | Extension::Name, _) if scan::is_token(byte) => Extension::Name,
            (Extension::Equals | Extension::Value, _) if scan::is_token(byte) => Extension::Value,
            _ => return Err(ChunkError::Extension),
        };
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.extension_bytes_max {
            return Err(ChunkError::ExtensionsTooLarge);
        }
        Ok(State::Extension(next))
    }

    fn data(&mut self, rest: &[u8], payload: &mut impl FnMut(&[u8])) -> usize {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
        if len > 0 {
            payload(&rest[..len]);
        }
        self.pass(len as u64);
        len
    }

    fn data_end(&mut self, rest: &[u8]) -> Result<usize, ChunkError> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = State::Size { digits: 0 };
                Ok(2)
            }
            [] | [b'\r'] => Ok(0),
            _ => Err(ChunkError::DataEnd),
        }
    }

    /// One `field-line CRLF`, or the CRLF that ends the message; its length once it is whole.
    fn trailer_line(&mut self, rest: &[u8]) -> Result<usize, ChunkError> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = State::Complete;
                return Ok(2);
            }
            [] | [b'\r'] => return Ok(0),
            _ => {}
        }
        if self.trailer_fields >= self.limits.trailer_fields_max {
            return Err(ChunkError::TooManyTrailers);
        }
        let window = &rest[..rest.len().min(self.trailer_bytes_left())];
        let line = match self.may_be_whole(window) {
            true => trailer_line(window).map_err(trailer_error)?,
            false => None,
        };
        let Some(line) = line else {
            self.pending = window.len();
            // A window that is full without a whole line never holds one.
            let full = window.len() == self.trailer_bytes_left();
            return if full { Err(ChunkError::TrailersTooLarge) } else { Ok(0) };
        };
        if is_forbidden_in_trailers(&window[..line.name_end]) {
            return Err(ChunkError::TrailerName);
        }
        self.trailer_fields += 1;
        self.trailer_bytes += line.end;
        self.pending = 0;
        Ok(line.end)
    }

    /// Bytes of the trailer lines consumed so far.
    pub fn trailer_bytes(&self) -> usize {
        self.trailer_bytes
    }

    fn trailer_bytes_left(&self) -> usize {
        self.limits.trailer_bytes_max.min(u16::MAX as usize) - self.trailer_bytes
    }

    /// A line that was found cut short is parsed again only when its LF is there.
    fn may_be_whole(&self, window: &[u8]) -> bool {
        self.pending == 0 || window.get(self.pending..).is_some_and(|rest| scan::line_len(rest) < rest.len())
    }
}

#[cold]
fn trailer_error(error: HeadError) -> ChunkError {
    ChunkError::Trailer(error.reason())
}

/// RFC 9110 §6.5.1: a sender must not put into trailers what is needed before the content: framing, routing,
/// modifiers, authentication and content format. A recipient that merged them into the head would be
/// deceived, and so would a next hop that reads `_` as `-`.
pub(super) fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    match Name::recognise(name) {
        // Names that the gateway acts on, in any spelling. Only Date could be harmless, late as it is.
        Recognised::Name(Name::Other) => FORBIDDEN_IN_TRAILERS.iter().any(|known| is_alike(name, known)),
        Recognised::Name(_) | Recognised::LookAlike(_) => true,
    }
}

/// Lower case.
#[rustfmt::skip]
const FORBIDDEN_IN_TRAILERS: [&[u8]; 34] = [
    // Content: how the bytes already passed on were to be read.
    b"content-encoding", b"content-type", b"content-range", b"content-disposition", b"content-location",
    b"content-language", b"mime-version",
    // Request modifiers (RFC 9110 §10.1, §13.1, §14) and caching.
    b"cache-control", b"pragma", b"max-forwards", b"range", b"if-match", b"if-none-match",
    b"if-modified-since", b"if-unmodified-since", b"if-range", b"vary", b"age", b"expires", b"warning",
    // Response control.
    b"location", b"retry-after", b"allow", b"refresh",
    // Authentication and state.
    b"authorization", b"www-authenticate", b"authentication-info", b"proxy-authentication-info",
    b"cookie", b"set-cookie", b"strict-transport-security",
    // The client's identity, as other gateways write it.
    b"x-real-ip", b"x-forwarded-port", b"x-original-url",
];

/// Counts a body of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthBody {
    pub remaining: u64,
}

impl LengthBody {
    pub fn new(length: u64) -> Self {
        LengthBody { remaining: length }
    }

    /// How many of `available` bytes belong to the body; the rest is the next message's.
    pub fn advance(&mut self, available: usize) -> usize {
        let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(available);
        self.remaining -= taken as u64;
        taken
    }

    pub fn is_complete(&self) -> bool {
        self.remaining == 0
    }
}

#[cfg(test)]
#[path = "h1_body_tests.rs"]
mod tests;
