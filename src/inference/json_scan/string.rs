//! Owns the inside of strings (RFC 8259 §7): escapes, surrogate pairs, control characters and UTF-8, also where a
//! piece ends amid one of them. Keeps what a string says only where it is asked to, and never much.

use super::TEXT_BYTES_MAX;
use super::automaton::{self, BITS, STOP, Table};
use super::invalid::{Fault, What};

/// What the string under way expects.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chars {
    /// Any character, or the rest of one.
    Plain(Utf8),
    /// What a backslash escapes.
    Escape,
    /// This many hexadecimal digits more.
    Hex { left: u8, code: u16, high: Option<u16> },
    /// The backslash of a low surrogate, as a high one was there.
    LowEscape { high: u16 },
    /// And its `u`.
    LowLetter { high: u16 },
}

/// A pair of escapes makes one character.
const LONE: &str = "a surrogate stands alone";

impl Chars {
    pub(super) const PLAIN: Chars = Chars::Plain(Utf8(WHOLE));

    /// Reads on to the closing quote: how many bytes that took, it included, and whether it was there.
    pub(super) fn advance(&mut self, rest: &[u8], text: &mut Text) -> Result<(usize, bool), Fault> {
        let mut at = 0;
        loop {
            if let Chars::Plain(utf8) = self {
                at += utf8.advance(&rest[at..], text);
            }
            let Some(&byte) = rest.get(at) else { return Ok((at, false)) };
            if let (Chars::Plain(Utf8(WHOLE)), b'"') = (*self, byte) {
                return Ok((at + 1, true));
            }
            *self = self.next(byte, text).map_err(|reason| Fault { what: What::Syntax(reason), at })?;
            at += 1;
        }
    }

    /// A byte that does not stand for itself.
    fn next(self, byte: u8, text: &mut Text) -> Result<Chars, &'static str> {
        match self {
            Chars::Plain(Utf8(WHOLE)) if byte == b'\\' => Ok(Chars::Escape),
            Chars::Plain(Utf8(WHOLE)) if byte < b' ' => Err("a control character is not escaped"),
            Chars::Plain(_) => Err("not UTF-8"),
            Chars::Escape if byte == b'u' => Ok(Chars::Hex { left: 4, code: 0, high: None }),
            Chars::Escape => {
                text.keep(&[escaped(byte).ok_or("no such escape")?]);
                Ok(Chars::PLAIN)
            }
            Chars::Hex { left, code, high } => {
                let digit = char::from(byte).to_digit(16).ok_or("not four hexadecimal digits")?;
                let code = code << 4 | digit as u16;
                match left {
                    1 => unit(code, high, text),
                    _ => Ok(Chars::Hex { left: left - 1, code, high }),
                }
            }
            Chars::LowEscape { high } if byte == b'\\' => Ok(Chars::LowLetter { high }),
            Chars::LowLetter { high } if byte == b'u' => {
                Ok(Chars::Hex { left: 4, code: 0, high: Some(high) })
            }
            Chars::LowEscape { .. } | Chars::LowLetter { .. } => Err(LONE),
        }
    }
}

/// How far a character has come. Each state but the first is what continuation bytes are to follow (RFC 3629 §4): no
/// overlong forms, no surrogates, nothing above U+10FFFF, which the first of them tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Utf8(u8);

const WHOLE: u8 = 0;
const ONE: u8 = BITS;
const TWO: u8 = 2 * BITS;
const THREE: u8 = 3 * BITS;
const TWO_FROM_A0: u8 = 4 * BITS;
const TWO_TO_9F: u8 = 5 * BITS;
const THREE_FROM_90: u8 = 6 * BITS;
const THREE_TO_8F: u8 = 7 * BITS;

impl Utf8 {
    /// Takes characters that stand for themselves. Behind them is a quote, a backslash, a control character, a byte
    /// that is not UTF-8, or nothing.
    fn advance(&mut self, rest: &[u8], text: &mut Text) -> usize {
        let mut at = 0;
        loop {
            if self.0 == WHOLE {
                at += ascii_blocks(&rest[at..]);
            }
            let block = &rest[at..rest.len().min(at + BLOCK)];
            let (taken, state) = automaton::run(&TABLE, self.0, block);
            self.0 = state;
            at += taken;
            if taken < BLOCK {
                text.keep(&rest[..at]);
                return at;
            }
        }
    }
}

/// What is looked at in one step: the compiler makes two vectors of it.
const BLOCK: usize = 32;

/// Bytes in whole blocks at the start that are ASCII and stand for themselves.
#[inline]
fn ascii_blocks(rest: &[u8]) -> usize {
    let is_other = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\') | (byte >= 0x80);
    let is_plain =
        |block: &[u8; BLOCK]| !block.iter().fold(false, |has_other, &byte| has_other | is_other(byte));
    let (blocks, _) = rest.as_chunks();
    BLOCK * blocks.iter().take_while(|block| is_plain(block)).count()
}

static TABLE: Table = table();

const fn table() -> Table {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut state = WHOLE;
        while state < STOP {
            table[byte] |= (next(state, byte as u8) as u64) << state;
            state += BITS;
        }
        byte += 1;
    }
    table
}

const fn next(state: u8, byte: u8) -> u8 {
    match (state, byte) {
        (WHOLE, b'"' | b'\\') => STOP,
        (WHOLE, b' '..=0x7f) | (ONE, 0x80..=0xbf) => WHOLE,
        (WHOLE, 0xc2..=0xdf) => ONE,
        (TWO, 0x80..=0xbf) | (TWO_FROM_A0, 0xa0..=0xbf) | (TWO_TO_9F, 0x80..=0x9f) => ONE,
        (WHOLE, 0xe0) => TWO_FROM_A0,
        (WHOLE, 0xed) => TWO_TO_9F,
        (WHOLE, 0xe1..=0xef) => TWO,
        (THREE, 0x80..=0xbf) | (THREE_FROM_90, 0x90..=0xbf) | (THREE_TO_8F, 0x80..=0x8f) => TWO,
        (WHOLE, 0xf0) => THREE_FROM_90,
        (WHOLE, 0xf1..=0xf3) => THREE,
        (WHOLE, 0xf4) => THREE_TO_8F,
        _ => STOP,
    }
}

fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// The four digits of an escape are there.
fn unit(code: u16, high: Option<u16>, text: &mut Text) -> Result<Chars, &'static str> {
    if let (None, 0xd800..=0xdbff) = (high, code) {
        return Ok(Chars::LowEscape { high: code });
    }
    let units = [high.unwrap_or(code), code];
    let units = if high.is_some() { &units[..] } else { &units[1..] };
    for char in char::decode_utf16(units.iter().copied()) {
        let char = char.map_err(|_| LONE)?;
        text.keep(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(Chars::PLAIN)
}

/// What a string says, its escapes resolved.
#[derive(Debug)]
pub(super) struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    len: usize,
    is_kept: bool,
    is_too_long: bool,
}

impl Default for Text {
    fn default() -> Self {
        Text { bytes: [0; TEXT_BYTES_MAX], len: 0, is_kept: false, is_too_long: false }
    }
}

impl Text {
    /// Another string.
    pub(super) fn begin(&mut self, is_kept: bool) {
        (self.len, self.is_kept, self.is_too_long) = (0, is_kept, false);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// `None`: longer than `TEXT_BYTES_MAX`. Only a whole string may be asked for.
    pub(super) fn as_str(&self) -> Option<&str> {
        // Always UTF-8: `Chars` has let nothing else pass to the end of a string.
        str::from_utf8(&self.bytes[..self.len]).ok().filter(|_| !self.is_too_long)
    }

    #[inline]
    fn keep(&mut self, bytes: &[u8]) {
        if self.is_kept {
            match self.bytes.get_mut(self.len..self.len + bytes.len()) {
                Some(space) if !self.is_too_long => {
                    space.copy_from_slice(bytes);
                    self.len += bytes.len();
                }
                _ => self.is_too_long = true,
            }
        }
    }
}
