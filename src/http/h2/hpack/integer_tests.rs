//! Owns the tests of integers.

use super::super::BlockError;
use super::{read, write};

fn written(value: usize, prefix_bits: u32, pattern: u8) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, prefix_bits, pattern, &mut out);
    out
}

/// The integer at the start of `bytes`, and how many bytes are behind it.
fn read_all(bytes: &[u8], prefix_bits: u32) -> Result<(usize, usize), BlockError> {
    let mut rest = &bytes[1..];
    let value = read(bytes[0], prefix_bits, &mut rest)?;
    Ok((value, rest.len()))
}

#[test]
fn examples_of_rfc_7541_c_1() {
    for (value, prefix_bits, bytes) in [(10, 5, &[10][..]), (1337, 5, &[31, 154, 10]), (42, 8, &[42])] {
        assert_eq!(written(value, prefix_bits, 0), bytes);
        assert_eq!(read_all(bytes, prefix_bits), Ok((value, 0)));
    }
}

#[test]
fn every_prefix_round_trips() {
    for prefix_bits in 1..=8 {
        let prefix_max = (1 << prefix_bits) - 1;
        let beyond = [0, 1, 126, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152, (1 << 28) - 1];
        let values = (0..=prefix_max).chain(beyond.map(|beyond| prefix_max + beyond));
        for value in values {
            let mut bytes = written(value, prefix_bits, 0);
            bytes.extend([1, 2, 3]);
            assert_eq!(read_all(&bytes, prefix_bits), Ok((value, 3)), "{value} in {prefix_bits} bits");
        }
    }
}

#[test]
fn pattern_is_kept_and_ignored() {
    for prefix_bits in 1..=7 {
        let pattern = !0 << prefix_bits;
        for value in [0, 1, (1 << prefix_bits) - 1, 1000] {
            let bytes = written(value, prefix_bits, pattern);
            assert_eq!(bytes[0] & pattern, pattern);
            assert_eq!(read_all(&bytes, prefix_bits), Ok((value, 0)));
        }
    }
}

#[test]
fn unfinished_ones_are_refused() {
    for bytes in [&[0x7f][..], &[0x7f, 0x80], &[0x7f, 0xff, 0xff], &[0x7f, 0xff, 0xff, 0xff]] {
        assert_eq!(read_all(bytes, 7), Err(BlockError::Malformed("integer cut off")));
    }
}

#[test]
fn large_ones_are_refused() {
    let largest = [0x7f, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(read_all(&largest, 7), Ok((127 + (1 << 28) - 1, 0)));
    for bytes in [
        &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x01][..],
        &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00],
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x7f, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(read_all(bytes, 7), Err(BlockError::Malformed("integer too large")));
    }
}

#[test]
fn padding_with_zeros_within_bounds_is_read() {
    assert_eq!(read_all(&[0x7f, 0x80, 0x80, 0x00], 7), Ok((127, 0)));
}
