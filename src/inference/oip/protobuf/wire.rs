//! Owns protobuf's encoding (<https://protobuf.dev/programming-guides/encoding/>): varints, tags, lengths, packed and unpacked lists. Knows
//! no message.

use super::super::refused::Refused;

/// A part of a message, and where it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'m> {
    pub(super) bytes: &'m [u8],
    pub(super) at: usize,
}

/// A field's value, as its wire type says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'m> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Piece<'m>),
}

/// A field, and where it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'m> {
    pub(super) number: u32,
    value: Value<'m>,
    at: usize,
}

const WIRE_VARINT: u64 = 0;
const WIRE_FIXED64: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_FIXED32: u64 = 5;

impl<'m> Piece<'m> {
    pub(super) fn whole(bytes: &'m [u8]) -> Piece<'m> {
        Piece { bytes, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next field of a message. `None`: it is over.
    pub(super) fn field(&mut self) -> Result<Option<Field<'m>>, Refused> {
        if self.is_empty() {
            return Ok(None);
        }
        let at = self.at;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or_else(|| Refused::malformed(at, "no field has such a number"))?;
        let value = match tag & 7 {
            WIRE_VARINT => Value::Varint(self.varint()?),
            WIRE_FIXED64 => Value::Fixed64(self.fixed()?),
            WIRE_BYTES => Value::Bytes(self.delimited()?),
            WIRE_FIXED32 => Value::Fixed32(self.fixed()?),
            // Also groups, which proto3 has none of.
            _ => return Err(Refused::malformed(at, "no field has such a wire type")),
        };
        Ok(Some(Field { number, value, at }))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Refused> {
        match self.bytes.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                (self.bytes, self.at) = (rest, self.at + 1);
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Refused> {
        let mut value = 0;
        for (place, &byte) in self.bytes.iter().enumerate().take(VARINT_BYTES_MAX) {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                if place + 1 == VARINT_BYTES_MAX && byte > 1 {
                    break;
                }
                self.skip(place + 1);
                return Ok(value);
            }
        }
        let is_cut =
            self.bytes.len() < VARINT_BYTES_MAX && self.bytes.last().is_none_or(|&last| last >= 0x80);
        Err(Refused::malformed(self.at, if is_cut { CUT } else { "a varint is longer than 64 bits" }))
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let value = *self.bytes.first_chunk().ok_or_else(|| Refused::malformed(self.at, CUT))?;
        self.skip(N);
        Ok(value)
    }

    fn delimited(&mut self) -> Result<Piece<'m>, Refused> {
        let at = self.at;
        let length = usize::try_from(self.varint()?).ok();
        let bytes = length.and_then(|length| self.bytes.get(..length));
        let bytes = bytes.ok_or_else(|| Refused::malformed(at, "a length reaches beyond the end"))?;
        let piece = Piece { bytes, at: self.at };
        self.skip(bytes.len());
        Ok(piece)
    }

    fn skip(&mut self, count: usize) {
        (self.bytes, self.at) = (&self.bytes[count..], self.at + count);
    }
}

const VARINT_BYTES_MAX: usize = 10;
const CUT: &str = "it ends in the middle";

impl<'m> Field<'m> {
    fn mistyped(&self) -> Refused {
        Refused::malformed(self.at, format!("field {} has another type", self.number))
    }

    pub(super) fn varint(&self) -> Result<u64, Refused> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.mistyped()),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, Refused> {
        Ok(self.varint()? != 0)
    }

    pub(super) fn double(&self) -> Result<f64, Refused> {
        match self.value {
            Value::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(self.mistyped()),
        }
    }

    /// Bytes, or a message.
    pub(super) fn piece(&self) -> Result<Piece<'m>, Refused> {
        match self.value {
            Value::Bytes(piece) => Ok(piece),
            _ => Err(self.mistyped()),
        }
    }

    pub(super) fn text(&self) -> Result<&'m str, Refused> {
        let piece = self.piece()?;
        str::from_utf8(piece.bytes).map_err(|error| {
            Refused::malformed(piece.at + error.valid_up_to(), format!("field {} is not UTF-8", self.number))
        })
    }

    /// One number of a list of varints, or all of them, packed.
    #[inline]
    pub(super) fn varints(&self, mut each: impl FnMut(u64) -> Result<(), Refused>) -> Result<(), Refused> {
        match self.value {
            Value::Varint(value) => each(value).map_err(|refused| refused.at(self.at)),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    let at = packed.at;
                    each(packed.varint()?).map_err(|refused| refused.at(at))?;
                }
                Ok(())
            }
            _ => Err(self.mistyped()),
        }
    }

    /// One number of a list of fixed size, or all of them, packed: the bytes as they are.
    pub(super) fn fixed_list(&self, size: usize) -> Result<Vec<u8>, Refused> {
        match self.value {
            Value::Fixed32(bytes) if size == 4 => Ok(bytes.to_vec()),
            Value::Fixed64(bytes) if size == 8 => Ok(bytes.to_vec()),
            Value::Bytes(packed) if packed.bytes.len().is_multiple_of(size) => Ok(packed.bytes.to_vec()),
            Value::Bytes(_) => Err(Refused::malformed(self.at, "a packed list ends in the middle")),
            _ => Err(self.mistyped()),
        }
    }
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a varint.
pub(super) fn varint_size(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Nothing if it is zero, which it is anyway.
pub(super) fn put_number(number: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        put_choice(number, value, out);
    }
}

/// Also zero: of several fields this one is chosen.
pub(super) fn put_choice(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | WIRE_VARINT, out);
    put_varint(value, out);
}

pub(super) fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | WIRE_FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// What stands before so many bytes.
pub(super) fn put_length(number: u32, length: usize, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | WIRE_BYTES, out);
    put_varint(length as u64, out);
}

pub(super) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_length(number, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Nothing if it is empty, which it is anyway.
pub(super) fn put_text(number: u32, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(number, text.as_bytes(), out);
    }
}

/// A list of numbers, packed.
pub(super) fn put_packed(number: u32, values: impl Iterator<Item = u64> + Clone, out: &mut Vec<u8>) {
    let length: usize = values.clone().map(varint_size).sum();
    if length > 0 {
        put_length(number, length, out);
        values.for_each(|value| put_varint(value, out));
    }
}
