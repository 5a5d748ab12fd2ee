//! Owns the integers of HPACK (RFC 7541 §5.1). Gives them no meaning.

use super::decode::BlockError;

/// Continuation bytes that are read, at most. 28 bits exceed every length, index and table size in use, and
/// leave no room for overflow or for padding with zeros.
const CONTINUATION_BYTES_MAX: u32 = 4;

/// Takes the integer whose first byte is `first`, of which the low `prefix_bits` (1 to 8) belong to it;
/// `rest` starts behind `first`. An error if it does not end in `rest`, or is beyond the prefix by 2^28 or
/// more.
#[inline(always)]
pub(super) fn read(first: u8, prefix_bits: u32, rest: &mut &[u8]) -> Result<usize, BlockError> {
    let prefix_max = 0xff >> (8 - prefix_bits);
    let prefix = first & prefix_max;
    if prefix < prefix_max { Ok(prefix as usize) } else { read_continuation(prefix, rest) }
}

fn read_continuation(prefix: u8, rest: &mut &[u8]) -> Result<usize, BlockError> {
    let mut value = u32::from(prefix);
    for place in 0..CONTINUATION_BYTES_MAX {
        let Some((&byte, behind)) = rest.split_first() else {
            return Err(BlockError::Malformed("integer cut off"));
        };
        *rest = behind;
        value += u32::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value as usize);
        }
    }
    Err(BlockError::Malformed("integer too large"))
}

/// Appends `value` with a prefix of `prefix_bits` (1 to 8); `pattern` holds the bits above the prefix.
#[inline(always)]
pub(super) fn write(value: usize, prefix_bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let prefix_max = 0xff >> (8 - prefix_bits);
    if value < prefix_max {
        out.push(pattern | value as u8);
    } else {
        out.push(pattern | prefix_max as u8);
        write_continuation(value - prefix_max, out);
    }
}

fn write_continuation(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
#[path = "integer_tests.rs"]
mod tests;
