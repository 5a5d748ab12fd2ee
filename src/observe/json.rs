//! Owns JSON text made by hand, for the access log: strings from arbitrary bytes, and numbers.
//! Parses nothing, and does not know what a log line holds (`observe::access_log`).

/// Appends `"..."`. Invalid UTF-8 becomes U+FFFD, one per maximal invalid piece; at most `bytes_max` bytes of
/// the value are read, and `…` stands for what was cut off.
pub fn append_string(value: &[u8], bytes_max: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    if value.len() <= bytes_max {
        append_escaped(value, out);
    } else {
        append_escaped(&value[..bytes_max], out);
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn append_escaped(value: &[u8], out: &mut Vec<u8>) {
    // Nearly every value is plain ASCII: one scan, one copy.
    if is_plain(value) {
        out.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        append_escaped_str(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn append_escaped_str(value: &str, out: &mut Vec<u8>) {
    for &byte in value.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            // RFC 8259 asks for C0 only; DEL is escaped too, for those who read logs in a terminal.
            0..0x20 | 0x7f => {
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
            // Also the bytes of longer characters: the str is valid UTF-8 and goes out unchanged.
            byte => out.push(byte),
        }
    }
}

/// Whether no byte needs escaping or checking: printable ASCII without `"` and `\`. Eight bytes at a time, since
/// most values are too short for SIMD to begin; the last eight overlap those before.
fn is_plain(value: &[u8]) -> bool {
    let Some(last) = value.last_chunk::<8>() else {
        return value.iter().all(|&byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
    };
    let (words, _) = value.as_chunks::<8>();
    let odd = words.iter().fold(0, |odd, word| odd | odd_bytes(u64::from_le_bytes(*word)));
    odd | odd_bytes(u64::from_le_bytes(*last)) == 0
}

/// Not 0 if any of the eight bytes is not plain. `(x - n) & !x & 0x80` in each byte is the classic test for
/// "less than n" (n up to 128); a borrow can only add marks above a true one, so zero stays exact.
fn odd_bytes(word: u64) -> u64 {
    let less_than = |word: u64, n: u8| word.wrapping_sub(EACH_BYTE * u64::from(n)) & !word;
    let equal = |byte: u8| less_than(word ^ (EACH_BYTE * u64::from(byte)), 1);
    (word | less_than(word, 0x20) | equal(b'"') | equal(b'\\') | equal(0x7f)) & (EACH_BYTE << 7)
}

pub fn append_u64(mut number: u64, out: &mut Vec<u8>) {
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0; U64_DIGITS_MAX];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a number of thousandths as a decimal: 12_345 becomes `12.345`.
pub fn append_thousandths(number: u64, out: &mut Vec<u8>) {
    append_u64(number / 1000, out);
    let rest = (number % 1000) as u16;
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
/// 18446744073709551615
const U64_DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn string(value: &[u8], bytes_max: usize) -> String {
        let mut out = Vec::new();
        append_string(value, bytes_max, &mut out);
        String::from_utf8(out).expect("always valid UTF-8")
    }

    #[test]
    fn plain_and_escaped() {
        assert_eq!(string(b"", 9), r#""""#);
        assert_eq!(string(b"/a?b=c", 9), r#""/a?b=c""#);
        assert_eq!(string(b"a\"b\\c\n\x01\x7f", 99), r#""a\"b\\c\u000a\u0001\u007f""#);
        assert_eq!(string("grüße 🌊".as_bytes(), 99), "\"grüße 🌊\"");
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(string(b"a\xffb", 9), "\"a\u{fffd}b\"");
        assert_eq!(string(b"\xe2\x82", 9), "\"\u{fffd}\"");
        assert_eq!(string(b"\xc0\x80", 9), "\"\u{fffd}\u{fffd}\"");
    }

    #[test]
    fn long_values_are_cut_even_inside_a_character() {
        assert_eq!(string(b"abcdef", 3), "\"abc…\"");
        assert_eq!(string("aü".as_bytes(), 2), "\"a\u{fffd}…\"");
    }

    /// Every one and two byte value, and random longer ones, read back by serde_json as from_utf8_lossy.
    #[test]
    fn any_bytes_are_read_back_by_a_json_parser() {
        let check = |value: &[u8]| {
            let parsed: String = serde_json::from_str(&string(value, usize::MAX)).unwrap();
            assert_eq!(parsed, String::from_utf8_lossy(value), "{value:?}");
        };
        for a in 0..=255u8 {
            check(&[a]);
            (0..=255u8).for_each(|b| check(&[a, b]));
        }
        let mut seed = 1u64;
        for length in 0..2000 {
            let next = |_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            };
            check(&(0..length % 64).map(next).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn one_odd_byte_anywhere_is_found() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut value = vec![b'a'; length];
                    value[at] = byte;
                    let plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&value), plain, "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn numbers() {
        let text = |append: fn(u64, &mut Vec<u8>), number| {
            let mut out = Vec::new();
            append(number, &mut out);
            String::from_utf8(out).unwrap()
        };
        for number in [0, 9, 10, 12345, u64::MAX] {
            assert_eq!(text(append_u64, number), number.to_string());
        }
        for (number, expected) in
            [(0, "0.000"), (7, "0.007"), (70, "0.070"), (12_345, "12.345"), (1_000, "1.000")]
        {
            assert_eq!(text(append_thousandths, number), expected);
        }
    }
}
