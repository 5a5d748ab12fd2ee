//! Owns JSON's structure and strings (RFC 8259) in a text that is all there: where values are, and what strings say. Numbers are with
//! `number`. Knows no member.

use std::borrow::Cow;

use super::super::refused::Refused;
use super::number;

/// Where reading stands.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    pub(super) text: &'t [u8],
    pub(super) at: usize,
    /// Arrays and objects that may still be opened.
    depth_left: u8,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t [u8], depth_max: u8) -> Cursor<'t> {
        Cursor { text, at: 0, depth_left: depth_max }
    }

    /// Over the same text, from there on.
    pub(super) fn again_from(&self, at: usize) -> Cursor<'t> {
        Cursor { text: self.text, at, depth_left: self.depth_left }
    }

    #[cold]
    pub(super) fn wrong(&self, what: &'static str) -> Refused {
        match self.at >= self.text.len() {
            true => Refused::malformed(self.text.len(), "it ends in the middle"),
            false => Refused::malformed(self.at, what),
        }
    }

    /// The byte behind white space, not taken.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Whether that byte is next behind white space; takes it if so.
    #[inline]
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Refused> {
        if self.takes(byte) { Ok(()) } else { Err(self.wrong(what)) }
    }

    /// Nothing but white space is left.
    pub(super) fn finish(&mut self) -> Result<(), Refused> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("something follows the value")),
        }
    }

    pub(super) fn deepen(&mut self) -> Result<(), Refused> {
        match self.depth_left.checked_sub(1) {
            Some(left) => {
                self.depth_left = left;
                Ok(())
            }
            None => Err(Refused::too_large("nested too deep").at(self.at)),
        }
    }

    pub(super) fn rise(&mut self) {
        self.depth_left += 1;
    }

    /// An object: `each` takes the value of the member that it is told.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        self.deepen()?;
        self.expect(b'{', "an object is missing")?;
        if !self.takes(b'}') {
            loop {
                if self.peek() != Some(b'"') {
                    return Err(self.wrong("a member's name is missing"));
                }
                let name = self.string()?;
                self.expect(b':', "a colon is missing")?;
                each(self, &name)?;
                if self.takes(b'}') {
                    break;
                }
                self.expect(b',', "a comma is missing")?;
            }
        }
        self.rise();
        Ok(())
    }

    /// An array: `each` takes the item of the index that it is told.
    pub(super) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        self.deepen()?;
        self.expect(b'[', "an array is missing")?;
        if !self.takes(b']') {
            for index in 0.. {
                each(self, index)?;
                if self.takes(b']') {
                    break;
                }
                self.expect(b',', "a comma is missing")?;
            }
        }
        self.rise();
        Ok(())
    }

    /// Takes a value of any kind, and only sees to it that it is JSON.
    pub(super) fn skip(&mut self) -> Result<(), Refused> {
        match self.peek() {
            Some(b'{') => self.object(|cursor, _| cursor.skip()),
            Some(b'[') => self.array(|cursor, _| cursor.skip()),
            Some(b'"') => self.string().map(drop),
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') => self.null(),
            _ => number::token(self).map(drop),
        }
    }

    /// Whether `null` is next; takes it if so.
    pub(super) fn takes_null(&mut self) -> Result<bool, Refused> {
        match self.peek() {
            Some(b'n') => self.null().map(|()| true),
            _ => Ok(false),
        }
    }

    fn null(&mut self) -> Result<(), Refused> {
        if self.takes_word(b"null") { Ok(()) } else { Err(self.wrong(NO_LITERAL)) }
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Refused> {
        self.peek();
        if self.takes_word(b"true") {
            return Ok(true);
        }
        if self.takes_word(b"false") {
            return Ok(false);
        }
        Err(self.wrong("neither true nor false"))
    }

    #[inline]
    fn takes_word(&mut self, word: &[u8]) -> bool {
        let is_there = self.text[self.at..].starts_with(word);
        self.at += if is_there { word.len() } else { 0 };
        is_there
    }

    /// A string; without escapes it is a part of the text.
    pub(super) fn string(&mut self) -> Result<Cow<'t, str>, Refused> {
        self.expect(b'"', "a string is missing")?;
        let first = self.plain_run()?;
        if self.text.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(first));
        }
        let mut bytes = first.as_bytes().to_vec();
        self.rest_of_string(&mut bytes)?;
        // Of valid pieces and whole characters.
        String::from_utf8(bytes).map(Cow::Owned).map_err(|_| self.wrong("not UTF-8"))
    }

    /// Appends what the string says.
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.expect(b'"', "a string is missing")?;
        self.rest_of_string(out)
    }

    fn rest_of_string(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        loop {
            out.extend_from_slice(self.plain_run()?.as_bytes());
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    let char = self.escape()?;
                    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(self.wrong("a control character is not escaped")),
            }
        }
    }

    /// Characters that stand for themselves.
    fn plain_run(&mut self) -> Result<&'t str, Refused> {
        let rest = &self.text[self.at..];
        let blocks = plain_blocks(rest);
        let tail = rest[blocks..].iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\');
        let run = &rest[..tail.map_or(rest.len(), |tail| blocks + tail)];
        let text = str::from_utf8(run)
            .map_err(|error| Refused::malformed(self.at + error.valid_up_to(), "not UTF-8"))?;
        self.at += run.len();
        Ok(text)
    }

    /// A backslash is next.
    fn escape(&mut self) -> Result<char, Refused> {
        self.at += 1;
        let char = match self.text.get(self.at) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.wrong("no such escape")),
        };
        self.at += 1;
        Ok(char)
    }

    /// The `u` is next; a pair of surrogates makes one character.
    fn unicode(&mut self) -> Result<char, Refused> {
        let first = self.hex()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first.into()).ok_or_else(|| self.wrong(LONE));
        }
        if !self.takes_word(b"\\") || self.text.get(self.at) != Some(&b'u') {
            return Err(self.wrong(LONE));
        }
        let pair = [first, self.hex()?];
        char::decode_utf16(pair).next().and_then(Result::ok).ok_or_else(|| self.wrong(LONE))
    }

    /// The `u` and four digits.
    fn hex(&mut self) -> Result<u16, Refused> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.text.get(self.at).and_then(|&byte| char::from(byte).to_digit(16));
            let digit = digit.ok_or_else(|| self.wrong("not four hexadecimal digits"))?;
            (code, self.at) = (code << 4 | digit as u16, self.at + 1);
        }
        Ok(code)
    }
}

const NO_LITERAL: &str = "neither true, false nor null";
const LONE: &str = "a surrogate stands alone";

/// What is looked at in one step: the compiler makes two vectors of it.
const BLOCK: usize = 32;

/// Bytes in whole blocks at the start that end no run.
fn plain_blocks(rest: &[u8]) -> usize {
    let is_end = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    let is_plain = |block: &[u8; BLOCK]| !block.iter().fold(false, |ends, &byte| ends | is_end(byte));
    let (blocks, _) = rest.as_chunks();
    BLOCK * blocks.iter().take_while(|block| is_plain(block)).count()
}
