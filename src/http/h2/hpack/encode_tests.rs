//! Owns the tests of the encoder: representations, what enters the table, and size updates.

use super::super::support::{decode, encode, hex, owned};
use super::super::{Decoder, Encoder};

/// Encodes `fields` twice in blocks of their own, and returns the representations' first bytes and the size
/// of the table. Each block has to have one field.
fn twice(name: &str, value: &str) -> ([u8; 2], usize) {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096);
    let firsts = [(); 2].map(|()| {
        let block = encode(&mut encoder, &[(name, value)]);
        let fields = decode(&mut decoder, &block);
        assert_eq!((&fields[0].0[..], &fields[0].1[..]), (name.as_bytes(), value.as_bytes()));
        assert_eq!(fields[0].2, block[0] & 0xf0 == 0x10);
        block[0]
    });
    (firsts, encoder.table_bytes())
}

#[test]
fn static_fields_are_one_byte() {
    for (name, value, index) in [
        (":method", "GET", 2),
        (":method", "POST", 3),
        (":path", "/", 4),
        (":scheme", "https", 7),
        (":status", "404", 13),
        ("accept-encoding", "gzip, deflate", 16),
        ("etag", "", 34),
    ] {
        assert_eq!(encode(&mut Encoder::new(4096), &[(name, value)]), [0x80 | index]);
    }
}

#[test]
fn every_status() {
    let mut decoder = Decoder::new(4096);
    let mut encoder = Encoder::new(4096);
    for _ in 0..2 {
        for status in 100..=999 {
            let mut block = Vec::new();
            encoder.status(status, &mut block);
            assert_eq!(decode(&mut decoder, &block), owned(&[(":status", &status.to_string())]));
            let mut by_name = Vec::new();
            encoder.field(b":status", status.to_string().as_bytes(), &mut by_name);
            assert_eq!(decode(&mut decoder, &by_name), owned(&[(":status", &status.to_string())]));
            assert_eq!(by_name.len(), 1, "{status} is in a table now");
        }
    }
}

#[test]
fn values_that_come_again_are_indexed() {
    assert_eq!(twice("content-type", "application/json"), ([0x40 | 31, 0x80 | 62], 12 + 16 + 32));
    assert_eq!(twice("x-model", "large"), ([0x40, 0x80 | 62], 7 + 5 + 32));
}

#[test]
fn values_that_do_not_are_not() {
    for (name, value, first) in [
        (":path", "/v1/chat", 4),
        ("content-length", "1234", 0x0f),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT", 0x0f),
        ("etag", "\"1\"", 0x0f),
        ("set-cookie", "a=b", 0x0f),
        ("cookie", "session=12345678901234567890", 0x0f),
    ] {
        assert_eq!(twice(name, value), ([first; 2], 0), "{name}");
    }
}

/// Their names enter the table, if the static table lacks them.
#[test]
fn names_of_values_that_do_not_come_again_are_indexed() {
    assert_eq!(twice("x-request-id", "1"), ([0x40, 0x0f], 12 + 1 + 32));
    let mut encoder = Encoder::new(4096);
    encode(&mut encoder, &[("x-request-id", "1")]);
    assert_eq!(encode(&mut encoder, &[("x-request-id", "2")]), hex("0f2f 0132"));
    assert_eq!(encode(&mut encoder, &[("x-ratelimit-reset-tokens", "1")])[0], 0x40);
    assert_eq!(encode(&mut encoder, &[("x-ratelimit-reset-tokens", "2")]), hex("0f2f 0132"));
}

#[test]
fn credentials_are_never_indexed() {
    for (name, value, first) in [
        ("authorization", "Bearer secret", 0x1f),
        ("proxy-authorization", "Basic c2VjcmV0", 0x1f),
        ("cookie", "pin=1234", 0x1f),
        ("x-api-key", "secret", 0x10),
        ("api-key", "secret", 0x10),
    ] {
        assert_eq!(twice(name, value), ([first; 2], 0), "{name}");
    }
}

#[test]
fn any_field_can_be_never_indexed() {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096);
    encode(&mut encoder, &[("x-secret", "old")]);
    decode(&mut decoder, &hex("40 0878 2d73 6563 7265 7403 6f6c 64"));
    let mut block = Vec::new();
    encoder.field_never_indexed(b"X-Secret", b"old", &mut block);
    encoder.field_never_indexed(b":Method", b"GET", &mut block);
    encoder.field_never_indexed(b"Other", b"", &mut block);
    let fields = decode(&mut decoder, &block);
    assert_eq!(
        fields,
        [("x-secret", "old"), (":method", "GET"), ("other", "")].map(|(name, value)| (
            name.into(),
            value.into(),
            true
        ))
    );
    assert_eq!(encoder.table_bytes(), 8 + 3 + 32);
}

#[test]
fn names_are_sent_in_lower_case() {
    let mut encoder = Encoder::new(4096);
    let block = encode(&mut encoder, &[("Content-Type", "Text"), ("X-Model-NAME[@", "Large")]);
    let expected = owned(&[("content-type", "Text"), ("x-model-name[@", "Large")]);
    assert_eq!(decode(&mut Decoder::new(4096), &block), expected);
    let again = encode(&mut encoder, &[("content-TYPE", "Text"), ("x-Model-name[@", "Large")]);
    assert_eq!(again, [0x80 | 63, 0x80 | 62]);
    assert_eq!(encode(&mut encoder, &[("content-type", "text")])[0], 0x40 | 31, "values keep their case");
    assert_eq!(encode(&mut encoder, &[("x-model-name{`", "Large")])[0], 0x40, "no letters");
}

#[test]
fn known_name_with_another_value_is_indexed_by_name() {
    let mut encoder = Encoder::new(4096);
    encode(&mut encoder, &[("x-a", "1"), ("x-b", "1")]);
    assert_eq!(encode(&mut encoder, &[("x-a", "2")]), hex("7f00 0132"));
    assert_eq!(encode(&mut encoder, &[("x-a", "1")]), [0x80 | 64]);
}

#[test]
fn strings_are_in_the_shorter_form() {
    let mut encoder = Encoder::new(0);
    assert_eq!(encode(&mut encoder, &[(":path", "/sample")])[..2], hex("20 04"));
    assert_eq!(encode(&mut encoder, &[("age", "aa")]), hex("0f06 0261 61"), "a tie");
    assert_eq!(encode(&mut encoder, &[("age", "aaa")]), hex("0f06 8218 c7"));
    assert_eq!(encode(&mut encoder, &[("age", "\u{1}\u{2}")]), hex("0f06 0201 02"));
}

#[test]
fn large_entries_are_not_indexed() {
    let name = "x-large";
    let fits = "v".repeat(2048 - 32 - name.len());
    assert_eq!(twice(name, &fits), ([0x40, 0x80 | 62], 2048));
    assert_eq!(twice(name, &(fits + "v")), ([0; 2], 0));
}

#[test]
fn evicted_entries_are_not_used() {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096);
    for round in 0..3 {
        for number in 0..1000 {
            let value = number.to_string();
            let fields = [("x-number", &value[..]), ("x-fixed", "1")];
            let block = encode(&mut encoder, &fields);
            assert_eq!(decode(&mut decoder, &block), owned(&fields), "{number} in round {round}");
        }
    }
}

/// The hash tables of the encoder have few buckets: fields that meet in one still find their entries.
#[test]
fn full_tables_are_used() {
    let mut encoder = Encoder::new(4096);
    let values: Vec<String> = (0..80).map(|number| format!("{number:04}")).collect();
    values.iter().for_each(|value| drop(encode(&mut encoder, &[("x-value", value)])));
    let found = values.iter().filter(|value| encode(&mut encoder, &[("x-value", value)]).len() <= 2).count();
    assert!(found >= 76, "{found} of 80");
}

#[test]
fn table_of_0_bytes_is_announced_and_not_used() {
    let mut encoder = Encoder::new(0);
    let fields = [("x-a", "1"), ("accept", "*/*")];
    let block = encode(&mut encoder, &fields);
    assert_eq!(block[..2], [0x20, 0x00]);
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, &block), owned(&fields));
    let block = encode(&mut encoder, &fields);
    assert_eq!(block[0], 0x00, "announced once");
    assert_eq!(decode(&mut decoder, &block), owned(&fields));
    encoder.set_table_bytes_max(8192);
    assert_eq!(encode(&mut encoder, &[]), [0; 0]);
}

#[test]
fn settings_are_announced() {
    let mut encoder = Encoder::new(10_000);
    assert_eq!(encode(&mut encoder, &[]), [0; 0], "the default, as the peer has said nothing");
    encoder.set_table_bytes_max(4096);
    assert_eq!(encode(&mut encoder, &[]), [0; 0]);
    encoder.set_table_bytes_max(30);
    assert_eq!(encode(&mut encoder, &[]), hex("3e"));
    encoder.set_table_bytes_max(1_000_000);
    assert_eq!(encode(&mut encoder, &[]), hex("3ff1 4d"), "what the encoder is willing to use");
    encoder.set_table_bytes_max(10_000);
    assert_eq!(encode(&mut encoder, &[]), [0; 0]);
}

#[test]
fn smallest_of_several_settings_is_announced_first() {
    let mut encoder = Encoder::new(4096);
    encode(&mut encoder, &[("x-a", "1")]);
    for size in [100, 20, 1000, 4096] {
        encoder.set_table_bytes_max(size);
    }
    assert_eq!(encode(&mut encoder, &[("x-a", "1")])[..5], hex("34 3fe11f 40"), "the entry is gone");
    for size in [100, 200, 300] {
        encoder.set_table_bytes_max(size);
    }
    assert_eq!(encode(&mut encoder, &[]), hex("3f45 3f8d02"));
}
