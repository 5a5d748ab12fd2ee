//! Owns what the tests of HPACK share: a sink that keeps the fields, random numbers, hex. Tests nothing.

use super::{BlockError, Decoder, Encoder, FieldLine, Sink, TooLarge};

/// A name, a value, and whether the field is never indexed.
pub(super) type Owned = (Vec<u8>, Vec<u8>, bool);

/// Keeps what it gets, and refuses the field that makes `text` longer than `bytes_max`.
#[derive(Debug)]
pub(super) struct Kept {
    pub text: Vec<u8>,
    pub lines: Vec<FieldLine>,
    pub bytes_max: usize,
    pub calls_after_refusal: usize,
    refused: bool,
}

impl Kept {
    pub fn new(bytes_max: usize) -> Kept {
        Kept { text: Vec::new(), lines: Vec::new(), bytes_max, calls_after_refusal: 0, refused: false }
    }

    /// The fields, after checking that `text` has them as HTTP/1 lines and nothing else.
    pub fn fields(&self) -> Vec<Owned> {
        let mut end = 0;
        let mut fields = Vec::new();
        for line in &self.lines {
            let (name, value) = (&self.text[line.name.clone()], &self.text[line.value.clone()]);
            assert_eq!(line.name.start, end);
            end = line.value.end + 2;
            assert_eq!(self.text[line.name.start..end], [name, b": ", value, b"\r\n"].concat());
            if line.name_index != 0 {
                let known = super::static_table::get(line.name_index.into()).unwrap();
                assert_eq!(known.name(), name);
                assert_eq!(known.name_index, line.name_index, "the first with this name");
            }
            fields.push((name.to_vec(), value.to_vec(), line.never_indexed));
        }
        assert_eq!(end, self.text.len());
        fields
    }
}

impl Sink for Kept {
    fn text(&mut self) -> &mut Vec<u8> {
        self.calls_after_refusal += usize::from(self.refused);
        &mut self.text
    }

    fn field(&mut self, line: FieldLine) -> Result<(), TooLarge> {
        self.calls_after_refusal += usize::from(self.refused);
        if self.text.len() > self.bytes_max {
            self.text.truncate(line.name.start);
            self.refused = true;
            return Err(TooLarge);
        }
        self.lines.push(line);
        Ok(())
    }
}

/// The fields of a block that has to be in order.
#[track_caller]
pub(super) fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<Owned> {
    let mut kept = Kept::new(usize::MAX);
    assert_eq!(decoder.decode(block, &mut kept), Ok(Ok(())));
    kept.fields()
}

/// The error of a block that has to be malformed.
#[track_caller]
pub(super) fn malformed(decoder: &mut Decoder, block: &[u8]) -> &'static str {
    match decoder.decode(block, &mut Kept::new(usize::MAX)) {
        Err(BlockError::Malformed(reason)) => reason,
        other => panic!("{other:?} for {block:x?}"),
    }
}

/// A block of these fields.
pub(super) fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in fields {
        encoder.field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

/// Fields as `decode` returns them, none of them never indexed.
pub(super) fn owned(fields: &[(&str, &str)]) -> Vec<Owned> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec(), false)).collect()
}

/// The bytes of hex digits, between which there may be spaces.
pub(super) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Deterministic random numbers (xorshift64).
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize) % end
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    /// Text as it is in most values.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_/.=%; ,:ABCXYZ(\"~";
        (0..len).map(|_| LETTERS[self.below(LETTERS.len())]).collect()
    }
}
