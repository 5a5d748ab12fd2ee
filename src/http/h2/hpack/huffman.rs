//! Owns the Huffman code of HPACK (RFC 7541 §5.2, Appendix B). Knows no lengths and no fields around it.

use super::decode::BlockError;

/// Appends what `code` stands for to `out`. An error if `code` contains the end-of-string symbol, ends inside
/// a symbol, or is padded with more than 7 bits or with other bits than ones; then `out` ends anyhow.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), BlockError> {
    let mut end = out.len();
    out.resize(end + 8 * code.len() / CODE_BITS_MIN + ROOM, 0);
    let mut bits = Bits { code, loaded: 0, window: 0, count: 0 };
    while let Some(room) = out[end..].first_chunk_mut() {
        bits.refill();
        let left = bits.left();
        if left < REFILLED_BITS {
            end += last_symbols(bits.window, left, room)?;
            break;
        }
        end += symbols(&mut bits, room)?;
    }
    out.truncate(end);
    Ok(())
}

/// The length of the code for `text`, in bytes, its padding included.
#[inline]
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| CODE_LENGTHS[byte as usize] as usize).sum();
    bits.div_ceil(8)
}

/// Appends the code for `text` to `out`: `len` bytes, which `encoded_len` has counted.
pub(super) fn encode(text: &[u8], len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len, 0);
    let mut words = out[start..].chunks_exact_mut(4);
    // The lowest `count` bits of `window` are not yet written; fewer than 32 between symbols.
    let (mut window, mut count) = (0_u64, 0);
    for &byte in text {
        let length = u32::from(CODE_LENGTHS[byte as usize]);
        window = window << length | u64::from(CODES[byte as usize]);
        count += length;
        if count >= u32::BITS {
            count -= u32::BITS;
            if let Some(word) = words.next() {
                word.copy_from_slice(&((window >> count) as u32).to_be_bytes());
            }
        }
    }
    let end = ((window << 8 | 0xff) << (u64::BITS - 8 - count)).to_be_bytes();
    let last = words.next().unwrap_or_default();
    last.copy_from_slice(&end[..last.len()]);
    let rest = words.into_remainder();
    rest.copy_from_slice(&end[last.len()..last.len() + rest.len()]);
}

/// Valid bits after a refill, at least.
const REFILLED_BITS: u32 = 56;
/// Bytes of space for what one refill decodes to. It exceeds that, as pairs are written whole.
const ROOM: usize = 16;
const CODE_BITS_MIN: usize = 5;
const CODE_BITS_MAX: u32 = 30;

/// Reads a code from its first bit to its last.
struct Bits<'a> {
    code: &'a [u8],
    /// So many bytes are counted in `count`. Those behind the end of `code` are all ones.
    loaded: usize,
    /// The `count` next bits, the first one highest. Below are zeros, or bits that the next refill sets
    /// again.
    window: u64,
    count: u32,
}

impl Bits<'_> {
    #[inline(always)]
    fn refill(&mut self) {
        let behind = self.code.get(self.loaded..).unwrap_or_default();
        let next = behind.first_chunk().copied().unwrap_or_else(|| with_ones(behind));
        self.window |= u64::from_be_bytes(next) >> self.count;
        self.loaded += ((63 - self.count) / 8) as usize;
        self.count |= REFILLED_BITS;
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.window <<= bits;
        self.count -= bits;
    }

    /// How many bits there are until the end of the code, but at most `REFILLED_BITS`. From that many on,
    /// all of `count` are before the end, as the two differ by whole bytes.
    #[inline(always)]
    fn left(&self) -> u32 {
        let left = 8 * self.code.len() + self.count as usize - 8 * self.loaded;
        left.min(REFILLED_BITS as usize) as u32
    }
}

/// `end`, which is shorter than 8 bytes, and ones behind it.
#[inline]
fn with_ones(end: &[u8]) -> [u8; 8] {
    let mut word = [0xff; 8];
    for (to, &from) in word.iter_mut().zip(end) {
        *to = from;
    }
    word
}

/// Decodes refilled bits, as far as they are sure to contain whole symbols. Returns how many bytes of `room`
/// are used.
#[inline(always)]
fn symbols(bits: &mut Bits<'_>, room: &mut [u8; ROOM]) -> Result<usize, BlockError> {
    let mut len = 0;
    for _ in 0..REFILLED_BITS / PAIR_BITS {
        let pair = pair(bits.window);
        if pair.bits == 0 {
            if bits.count < CODE_BITS_MAX {
                break;
            }
            let (symbol, length) = long_symbol(bits.window).ok_or(END_OF_STRING)?;
            room[len % ROOM] = symbol;
            bits.skip(length);
            return Ok(len + 1);
        }
        room[len % ROOM] = pair.first;
        room[(len + 1) % ROOM] = pair.second;
        len += pair.len();
        bits.skip(pair.bits.into());
    }
    Ok(len)
}

/// Decodes the last `left` bits, fewer than `REFILLED_BITS`. Returns how many bytes of `room` are used.
#[inline(always)]
fn last_symbols(window: u64, mut left: u32, room: &mut [u8; ROOM]) -> Result<usize, BlockError> {
    let mut window = window | u64::MAX >> left;
    let mut len = 0;
    loop {
        let pair = pair(window);
        let (used, length) = if pair.bits == 0 {
            let Some((symbol, length)) = long_symbol(window) else { break };
            room[len % ROOM] = symbol;
            (1, length)
        } else if left >= PAIR_BITS {
            room[len % ROOM] = pair.first;
            room[(len + 1) % ROOM] = pair.second;
            (pair.len(), pair.bits.into())
        } else {
            room[len % ROOM] = pair.first;
            (1, pair.first_bits.into())
        };
        if length > left {
            break;
        }
        left -= length;
        len += used;
        window = !(!window << length);
    }
    match (left, window) {
        (0..8, u64::MAX) => Ok(len),
        (_, u64::MAX) => Err(END_OF_STRING),
        _ => Err(BlockError::Malformed("Huffman code ends inside a symbol")),
    }
}

const END_OF_STRING: BlockError =
    BlockError::Malformed("Huffman code has its end-of-string symbol or too much padding");

/// How many bits select a `Pair`. 12 find nearly all pairs of letters and digits, in 16 KiB; 11 made decoding
/// whole blocks a fifth slower.
const PAIR_BITS: u32 = 12;

/// The first one or two symbols of a window.
#[derive(Clone, Copy)]
struct Pair {
    first: u8,
    second: u8,
    /// Those of both symbols; 0 if not even one is complete in `PAIR_BITS`.
    bits: u8,
    /// Those of the first symbol.
    first_bits: u8,
}

impl Pair {
    #[inline(always)]
    fn len(self) -> usize {
        1 + usize::from(self.bits != self.first_bits)
    }
}

#[inline(always)]
fn pair(window: u64) -> Pair {
    PAIRS[(window >> (u64::BITS - PAIR_BITS)) as usize]
}

/// The first symbol of a window and its length, if that is above `PAIR_BITS`; none if it is end-of-string.
fn long_symbol(window: u64) -> Option<(u8, u32)> {
    symbol_from(PAIR_BITS as usize + 1, (window >> (u64::BITS - CODE_BITS_MAX)) as u32)
}

/// The first symbol of a window of `CODE_BITS_MAX`, if it has `length` bits or more. The code is canonical:
/// sorted by length and then by symbol, codes are consecutive numbers, so one comparison a length tells.
const fn symbol_from(mut length: usize, window: u32) -> Option<(u8, u32)> {
    while length < CODE_BITS_MAX as usize {
        let code = window >> (CODE_BITS_MAX as usize - length);
        if code < CANONICAL.first_codes[length] + CANONICAL.counts[length] {
            break;
        }
        length += 1;
    }
    let code = window >> (CODE_BITS_MAX as usize - length);
    let index = CANONICAL.first_indexes[length] + code - CANONICAL.first_codes[length];
    // The end-of-string symbol is the last of all.
    if index < 256 { Some((CANONICAL.symbols[index as usize], length as u32)) } else { None }
}

/// The code by length.
struct Canonical {
    /// By length of code, in bits.
    first_codes: [u32; CODE_BITS_MAX as usize + 1],
    /// By length, where in `symbols` the first one is.
    first_indexes: [u32; CODE_BITS_MAX as usize + 1],
    counts: [u32; CODE_BITS_MAX as usize + 1],
    /// By length, then by value.
    symbols: [u8; 256],
}

static CANONICAL: Canonical = canonical();

const fn canonical() -> Canonical {
    const LENGTHS: usize = CODE_BITS_MAX as usize + 1;
    let (mut first_codes, mut first_indexes) = ([0; LENGTHS], [0; LENGTHS]);
    let (mut counts, mut symbols) = ([0; LENGTHS], [0; 256]);
    let (mut length, mut index, mut code) = (1, 0, 0);
    while length < LENGTHS {
        code <<= 1;
        (first_codes[length], first_indexes[length]) = (code, index as u32);
        let mut symbol = 0;
        while symbol < 256 {
            if CODE_LENGTHS[symbol] as usize == length {
                symbols[index] = symbol as u8;
                index += 1;
                code += 1;
            }
            symbol += 1;
        }
        counts[length] = index as u32 - first_indexes[length];
        length += 1;
    }
    assert!(code == (1 << CODE_BITS_MAX) - 1, "all but one code, that of end-of-string, are in use");
    Canonical { first_codes, first_indexes, counts, symbols }
}

static PAIRS: [Pair; 1 << PAIR_BITS] = {
    let mut pairs = [Pair { first: 0, second: 0, bits: 0, first_bits: 0 }; 1 << PAIR_BITS];
    let mut index = 0;
    while index < pairs.len() {
        let window = (index as u32) << (CODE_BITS_MAX - PAIR_BITS);
        if let Some((first, first_bits)) = symbol_from(1, window)
            && first_bits <= PAIR_BITS
        {
            let mut pair = Pair { first, second: 0, bits: first_bits as u8, first_bits: first_bits as u8 };
            let behind = window << first_bits & ((1 << CODE_BITS_MAX) - 1);
            if let Some((second, second_bits)) = symbol_from(1, behind)
                && first_bits + second_bits <= PAIR_BITS
            {
                pair.second = second;
                pair.bits += second_bits as u8;
            }
            pairs[index] = pair;
        }
        index += 1;
    }
    pairs
};

/// By symbol, its code, right-aligned.
static CODES: [u32; 256] = {
    let mut codes = [0; 256];
    let mut length = 1;
    while length <= CODE_BITS_MAX as usize {
        let mut place = 0;
        while place < CANONICAL.counts[length] {
            let symbol = CANONICAL.symbols[(CANONICAL.first_indexes[length] + place) as usize];
            codes[symbol as usize] = CANONICAL.first_codes[length] + place;
            place += 1;
        }
        length += 1;
    }
    codes
};

/// By symbol, the length of its code in bits (RFC 7541 Appendix B). As the code is canonical, this is all of
/// it.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
#[path = "huffman_tests.rs"]
mod tests;
