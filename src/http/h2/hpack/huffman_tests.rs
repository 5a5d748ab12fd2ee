//! Owns the tests of the Huffman code.

use super::super::support::{Random, hex};
use super::{CODE_LENGTHS, CODES, decode, encode, encoded_len};

fn encoded(text: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    encode(text, encoded_len(text), &mut code);
    code
}

fn decoded(code: &[u8]) -> Option<Vec<u8>> {
    let mut text = b"before".to_vec();
    decode(code, &mut text).ok()?;
    Some(text.strip_prefix(b"before").unwrap().to_vec())
}

/// The bytes of these bits, and how many bits are missing in the last byte.
fn packed(bits: &str, fill: char) -> Vec<u8> {
    let mut bits = bits.to_owned();
    while !bits.len().is_multiple_of(8) {
        bits.push(fill);
    }
    let byte = |at| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
    (0..bits.len()).step_by(8).map(byte).collect()
}

fn code_of(symbol: u8) -> String {
    format!("{:0width$b}", CODES[symbol as usize], width = CODE_LENGTHS[symbol as usize].into())
}

#[test]
fn codes_of_rfc_7541_appendix_b() {
    for (symbol, code, length) in [
        (b'0', 0x0, 5),
        (b'a', 0x3, 5),
        (b' ', 0x14, 6),
        (b':', 0x5c, 7),
        (b'z', 0x7b, 7),
        (b'&', 0xf8, 8),
        (b'X', 0xfc, 8),
        (b'!', 0x3f8, 10),
        (b'|', 0x7fc, 11),
        (b'#', 0xffa, 12),
        (0, 0x1ff8, 13),
        (b'^', 0x3ffc, 14),
        (b'{', 0x7ffe, 15),
        (b'\\', 0x7fff0, 19),
        (128, 0xfffe6, 20),
        (9, 0xffffea, 24),
        (255, 0x3ffffee, 26),
        (2, 0xfffffe2, 28),
        (10, 0x3ffffffc, 30),
        (22, 0x3ffffffe, 30),
    ] {
        assert_eq!((CODES[symbol as usize], CODE_LENGTHS[symbol as usize]), (code, length), "{symbol}");
    }
}

#[test]
fn known_strings() {
    for (text, code) in [
        ("www.example.com", "f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        ("no-cache", "a8eb 1064 9cbf"),
        ("302", "6402"),
        ("Mon, 21 Oct 2013 20:13:21 GMT", "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"),
        ("", ""),
    ] {
        assert_eq!(encoded(text.as_bytes()), hex(code));
        assert_eq!(decoded(&hex(code)).unwrap(), text.as_bytes());
    }
}

/// Each symbol behind each number of bits, and with each number of symbols behind it.
#[test]
fn every_byte_at_every_place() {
    for symbol in 0..=255 {
        for before in 0..20 {
            for behind in [0, 1, 2, 9, 30] {
                let text =
                    [&b"aaaaaaa:::::::::::::"[20 - before..], &[symbol], &b"o".repeat(behind)].concat();
                assert_eq!(decoded(&encoded(&text)), Some(text));
            }
        }
    }
}

#[test]
fn every_pair_of_bytes() {
    for first in 0..=255 {
        for second in 0..=255 {
            let text = [first, second, first, second, b'x', second, first, first, b'-'];
            assert_eq!(decoded(&encoded(&text)).as_deref(), Some(&text[..]));
        }
    }
}

#[test]
fn random_strings() {
    let mut random = Random(1);
    for round in 0..20_000 {
        let len = random.below(if round % 50 == 0 { 3000 } else { 60 });
        let text = if round % 2 == 0 { random.bytes(len) } else { random.text(len) };
        let bits: usize = text.iter().map(|&byte| CODE_LENGTHS[byte as usize] as usize).sum();
        let code = encoded(&text);
        assert_eq!(code.len(), bits.div_ceil(8));
        assert_eq!(decoded(&code), Some(text));
    }
}

/// A reader of single bits, as simple as can be: what it says of random bytes is what `decode` says.
#[test]
fn random_codes_against_a_reader_of_bits() {
    let symbols: std::collections::HashMap<String, u8> =
        (0..=255).map(|symbol| (code_of(symbol), symbol)).collect();
    let by_bits = |code: &[u8]| {
        let (mut text, mut pending) = (Vec::new(), String::new());
        for bit in code.iter().flat_map(|byte| format!("{byte:08b}").chars().collect::<Vec<_>>()) {
            pending.push(bit);
            if let Some(&symbol) = symbols.get(&pending) {
                text.push(symbol);
                pending.clear();
            }
        }
        (pending.len() < 8 && !pending.contains('0')).then_some(text)
    };
    let mut random = Random(2);
    let mut accepted = 0;
    for round in 0..20_000 {
        let len = random.below(24);
        let mut code = random.bytes(len);
        if round % 3 != 0 {
            code.iter_mut().for_each(|byte| *byte &= random.next() as u8 | random.next() as u8 & 0x7f);
        }
        if round % 4 == 0 {
            code.extend(vec![0xff; random.below(5)]);
        }
        let expected = by_bits(&code);
        accepted += usize::from(expected.is_some());
        assert_eq!(decoded(&code), expected, "{code:x?}");
    }
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn padding_of_up_to_7_ones() {
    for (text, padding) in [("a", 3), ("aa", 6), ("aaa", 1), ("0:", 4), ("%", 2), (":", 1), ("1aaaaaaa", 0)] {
        let bits: String = text.bytes().map(code_of).collect();
        assert_eq!(packed(&bits, '1').len() * 8 - bits.len(), padding);
        assert_eq!(decoded(&packed(&bits, '1')).unwrap(), text.as_bytes());
    }
    let bits =
        code_of(b'&') + &code_of(b' ') + &code_of(b'!') + &code_of(b'a') + &code_of(b'a') + &code_of(b':');
    assert_eq!(bits.len() % 8, 1, "a padding of 7");
    assert_eq!(decoded(&packed(&bits, '1')).unwrap(), b"& !aa:");
}

#[test]
fn longer_padding_is_refused() {
    for len in 0..40 {
        let text = b"w".repeat(len);
        for ones in 1..20 {
            let code = [encoded(&text), vec![0xff; ones]].concat();
            assert_eq!(decoded(&code), None, "{len} symbols and {ones} bytes of ones");
        }
    }
}

#[test]
fn padding_with_zeros_is_refused() {
    for len in 1..40 {
        let text = b"g".repeat(len);
        let bits: String = text.iter().map(|&byte| code_of(byte)).collect();
        match bits.len() % 8 {
            0 => assert_eq!(decoded(&packed(&bits, '0')), Some(text)),
            // Five zeros or more are the symbol 0 first.
            _ => assert_eq!(decoded(&packed(&bits, '0')), None),
        }
    }
}

#[test]
fn end_of_string_is_refused() {
    let end_of_string = "1".repeat(30);
    for before in 0..20 {
        for behind in 0..20 {
            let bits = code_of(b'e').repeat(before) + &end_of_string + &code_of(b'e').repeat(behind);
            assert_eq!(decoded(&packed(&bits, '1')), None, "{before} before, {behind} behind");
        }
    }
}

#[test]
fn ends_inside_long_symbols_are_refused() {
    for symbol in (0..=255).filter(|&symbol| CODE_LENGTHS[symbol as usize] > 15) {
        for before in 0..30 {
            let bits = code_of(b'i').repeat(before) + &code_of(symbol);
            let whole = packed(&bits, '1');
            assert!(decoded(&whole).is_some());
            assert_eq!(decoded(&whole[..whole.len() - 1]), None, "{symbol} after {before}");
        }
    }
}
