//! Owns byte classes: how many bytes at the start of some text belong to a field name, a field value, a
//! target or a host. Knows no grammar and reports no errors: the caller looks at the byte behind them.
//! Values are scanned 16 bytes at a time, the rest by a table; a SIMD version belongs behind these same
//! functions.

/// RFC 9110 §5.5: VCHAR, obs-text, SP and HTAB. Everything else would end or corrupt a line.
#[inline(always)]
pub fn value_len(text: &[u8]) -> usize {
    let len = plain_len(text);
    match text.get(len) {
        None | Some(b'\r') => len,
        Some(_) => uncommon_value_len(text, len),
    }
}

/// Passes HTAB and obs-text, so rare that `plain_len` does not tell them from what is not allowed.
#[cold]
fn uncommon_value_len(text: &[u8], plain: usize) -> usize {
    let mut len = plain;
    while let Some(b'\t' | 0x80..) = text.get(len) {
        len += 1;
        len += plain_len(&text[len..]);
    }
    len
}

/// RFC 9110 §5.6.2 token.
#[inline(always)]
pub fn name_len(text: &[u8]) -> usize {
    class_len::<TOKEN>(text)
}

/// The path of a request target, up to its `?`. See `is_target` for what is accepted; `\` is not, since some
/// servers read it as `/`, and browsers never send it in a path.
#[inline(always)]
pub fn path_len(text: &[u8]) -> usize {
    class_len::<PATH>(text)
}

/// The query of a request target.
#[inline(always)]
pub fn query_len(text: &[u8]) -> usize {
    class_len::<QUERY>(text)
}

/// Is it all letters, digits, `-` and `.`, as nearly every host name is?
#[inline]
pub fn is_plain_host(text: &[u8]) -> bool {
    let common =
        |bytes: &[u8]| bytes.iter().fold(PLAIN_HOST, |common, &byte| common & CLASSES[byte as usize]);
    // The last whole chunk overlaps the one before it, so that no bytes are left over.
    match text.last_chunk::<WORD>() {
        Some(last) => {
            text.as_chunks::<WORD>().0.iter().fold(common(last), |all, chunk| all & common(chunk)) != 0
        }
        None => common(text) != 0,
    }
}

/// Everything before the first LF.
pub fn line_len(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<WORD>();
    for (index, word) in words.iter().enumerate() {
        let zero_at_newline = u64::from_le_bytes(*word) ^ repeat(b'\n');
        let stops = zero_at_newline.wrapping_sub(repeat(1)) & !zero_at_newline & HIGH_BITS;
        if stops != 0 {
            return index * WORD + first(stops);
        }
    }
    text.len() - rest.len() + rest.iter().take_while(|&&byte| byte != b'\n').count()
}

/// RFC 9110 §5.6.2 tchar.
#[inline(always)]
pub fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const PLAIN_HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        let at = byte as usize;
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            table[at] |= TOKEN;
        }
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"-.") {
            table[at] |= PLAIN_HOST;
        }
        if is_target(byte) {
            table[at] |= QUERY;
        }
        if is_target(byte) && !is_one_of(byte, b"\\?") {
            table[at] |= PATH;
        }
        byte += 1;
    }
    table
}

/// Printable ASCII without `"`, `#`, `<` and `>`.
///
/// RFC 3986 also excludes `[ ] ^ | { }`, the backtick and `\`, but browsers send those raw in queries (the
/// WHATWG URL query set leaves them alone), some of them in paths too, and nginx and HAProxy pass them on:
/// refusing them would break working sites, and none of them can end a target. The four refused here are
/// always percent-encoded by browsers, and `#` would split one URL into two readings.
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !is_one_of(byte, b"\"#<>")
}

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

#[inline(always)]
fn class_len<const CLASS: u8>(text: &[u8]) -> usize {
    let mut rest = text;
    // Eight at a time, so that the bounds are checked once for them.
    while let Some((chunk, more)) = rest.split_first_chunk::<WORD>() {
        for (index, &byte) in chunk.iter().enumerate() {
            if CLASSES[byte as usize] & CLASS == 0 {
                return text.len() - rest.len() + index;
            }
        }
        rest = more;
    }
    while let [byte, more @ ..] = rest
        && CLASSES[*byte as usize] & CLASS != 0
    {
        rest = more;
    }
    text.len() - rest.len()
}

/// Printable ASCII and nothing else.
#[inline(always)]
fn plain_len(text: &[u8]) -> usize {
    let mut rest = text;
    if let Some((word, more)) = rest.split_first_chunk() {
        let stops = not_plain(u64::from_le_bytes(*word));
        if stops != 0 {
            return first(stops);
        }
        rest = more;
    }
    // LLVM makes a few vector instructions of this test. Which byte it was is left to the words.
    while let Some((block, more)) = rest.split_first_chunk::<BLOCK>() {
        if block.iter().fold(false, |any, &byte| any | !is_plain(byte)) {
            break;
        }
        rest = more;
    }
    while let Some((word, more)) = rest.split_first_chunk() {
        let stops = not_plain(u64::from_le_bytes(*word));
        if stops != 0 {
            return text.len() - rest.len() + first(stops);
        }
        rest = more;
    }
    while let [b' '..=b'~', more @ ..] = rest {
        rest = more;
    }
    text.len() - rest.len()
}

#[inline(always)]
fn is_plain(byte: u8) -> bool {
    byte.wrapping_sub(b' ') < 0x5f
}

/// The high bit of each byte that is not printable ASCII. Subtraction borrows from
/// later bytes only where this one is a control, and addition carries into them only where it is 0xff: the
/// first stop is always right.
#[inline(always)]
fn not_plain(word: u64) -> u64 {
    (word.wrapping_sub(repeat(b' ')) | word.wrapping_add(repeat(1))) & HIGH_BITS
}

const WORD: usize = 8;
const BLOCK: usize = 32;
const HIGH_BITS: u64 = repeat(0x80);

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD])
}

/// The index of the first byte, in memory order, whose high bit is set.
#[inline(always)]
fn first(stops: u64) -> usize {
    (stops.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scanner, and the class it should implement, byte by byte.
    type Case = (fn(&[u8]) -> usize, fn(u8) -> bool);

    const CASES: [Case; 5] = [
        (value_len, |byte| byte >= 0x20 && byte != 0x7f || byte == b'\t'),
        (name_len, |byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)),
        (path_len, |byte| byte.is_ascii_graphic() && !b"\"#<>\\?".contains(&byte)),
        (query_len, |byte| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte)),
        (line_len, |byte| byte != b'\n'),
    ];

    #[test]
    fn every_byte_stops_or_passes_at_every_place_and_length() {
        for (class_len, is_in_class) in CASES {
            for byte in 0..=255 {
                for len in 1..36 {
                    for place in 0..len {
                        let mut bytes = vec![b'a'; len];
                        bytes[place] = byte;
                        let expected = if is_in_class(byte) { len } else { place };
                        assert_eq!(class_len(&bytes), expected, "{byte:#x} at {place} of {len}");
                        assert_eq!(
                            class_len(&bytes[place..]),
                            expected - place,
                            "{byte:#x} from {place} of {len}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_of_a_stop_do_not_move_it() {
        for (class_len, is_in_class) in CASES {
            for first in 0..=255 {
                for second in 0..=255 {
                    let mut bytes = [b'a'; 17];
                    (bytes[7], bytes[8]) = (first, second);
                    let expected = bytes.iter().position(|&byte| !is_in_class(byte)).unwrap_or(17);
                    assert_eq!(class_len(&bytes), expected, "{first:#x} {second:#x}");
                    assert_eq!(class_len(&bytes[..16]), expected.min(16), "{first:#x} {second:#x}");
                }
            }
        }
    }

    #[test]
    fn a_plain_host_is_plain_at_every_place() {
        for byte in 0..=255u8 {
            for len in 1..20 {
                for place in 0..len {
                    let mut host = vec![b'a'; len];
                    host[place] = byte;
                    let expected = byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
                    assert_eq!(is_plain_host(&host), expected, "{byte:#x} at {place} of {len}");
                }
            }
        }
    }
}
