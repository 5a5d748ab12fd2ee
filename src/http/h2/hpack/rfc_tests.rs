//! Owns the tests against the examples of RFC 7541 Appendix C: blocks, fields and the dynamic table after
//! each.

use super::support::{decode, encode, hex, owned};
use super::{Decoder, Encoder};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Decodes `block` to `fields`; then the table has these entries, newest first, and this size.
#[track_caller]
fn check(decoder: &mut Decoder, block: &str, fields: Fields<'_>, entries: Fields<'_>, table_bytes: usize) {
    assert_eq!(decode(decoder, &hex(block)), owned(fields));
    for (place, (name, value)) in entries.iter().enumerate() {
        assert_eq!(decoder.entry(place), Some((name.as_bytes(), value.as_bytes())));
    }
    assert_eq!(decoder.entry(entries.len()), None);
    assert_eq!(decoder.table_bytes(), table_bytes);
}

#[test]
fn c_2_representations() {
    let custom = ("custom-key", "custom-header");
    let block = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut Decoder::new(4096), block, &[custom], &[custom], 55);

    let block = "040c 2f73 616d 706c 652f 7061 7468";
    check(&mut Decoder::new(4096), block, &[(":path", "/sample/path")], &[], 0);

    let block = hex("1008 7061 7373 776f 7264 0673 6563 7265 74");
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, &block), [(b"password".to_vec(), b"secret".to_vec(), true)]);
    assert_eq!(decoder.table_bytes(), 0);

    check(&mut Decoder::new(4096), "82", &[(":method", "GET")], &[], 0);
}

const REQUEST_1: Fields<'_> =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
const REQUEST_2: Fields<'_> = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
    ("cache-control", "no-cache"),
];
const REQUEST_3: Fields<'_> = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];
const HUFFMAN_REQUESTS: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

fn check_requests(blocks: [&str; 3]) {
    let authority = (":authority", "www.example.com");
    let cache_control = ("cache-control", "no-cache");
    let custom = ("custom-key", "custom-value");
    let mut decoder = Decoder::new(4096);
    check(&mut decoder, blocks[0], REQUEST_1, &[authority], 57);
    check(&mut decoder, blocks[1], REQUEST_2, &[cache_control, authority], 110);
    check(&mut decoder, blocks[2], REQUEST_3, &[custom, cache_control, authority], 164);
}

#[test]
fn c_3_requests_without_huffman() {
    check_requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn c_4_requests_with_huffman() {
    check_requests(HUFFMAN_REQUESTS);
}

#[test]
fn c_4_requests_with_huffman_encoded() {
    let mut encoder = Encoder::new(4096);
    for ((fields, block), table_bytes) in
        [REQUEST_1, REQUEST_2, REQUEST_3].iter().zip(HUFFMAN_REQUESTS).zip([57, 110, 164])
    {
        assert_eq!(encode(&mut encoder, fields), hex(block));
        assert_eq!(encoder.table_bytes(), table_bytes);
    }
}

const DATE_21: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const DATE_22: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const PRIVATE: (&str, &str) = ("cache-control", "private");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const COOKIE: (&str, &str) = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
const RESPONSE_1: Fields<'_> = &[(":status", "302"), PRIVATE, DATE_21, LOCATION];
const RESPONSE_2: Fields<'_> = &[(":status", "307"), PRIVATE, DATE_21, LOCATION];
const RESPONSE_3: Fields<'_> = &[(":status", "200"), PRIVATE, DATE_22, LOCATION, GZIP, COOKIE];

fn check_responses(blocks: [&str; 3]) {
    let mut decoder = Decoder::new(256);
    check(&mut decoder, blocks[0], RESPONSE_1, &[LOCATION, DATE_21, PRIVATE, (":status", "302")], 222);
    check(&mut decoder, blocks[1], RESPONSE_2, &[(":status", "307"), LOCATION, DATE_21, PRIVATE], 222);
    check(&mut decoder, blocks[2], RESPONSE_3, &[COOKIE, GZIP, DATE_22], 215);
}

#[test]
fn c_5_responses_without_huffman() {
    check_responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133
         3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a
         6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d
         6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ]);
}

#[test]
fn c_6_responses_with_huffman() {
    check_responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d
         29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d
         d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106
         3d50 07",
    ]);
}

/// The encoder's policy differs from the examples' (they index dates), its strings do not.
#[test]
fn c_6_responses_with_huffman_encoded() {
    let mut encoder = Encoder::new(256);
    let mut decoder = Decoder::new(4096);
    let first = encode(&mut encoder, RESPONSE_1);
    assert_eq!(
        first,
        hex("3fe1 01 4882 6402 5885 aec3 771a 4b0f 1296 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff
             0f1f 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3")
    );
    assert_eq!(decode(&mut decoder, &first), owned(RESPONSE_1));
    for fields in [RESPONSE_2, RESPONSE_3] {
        assert_eq!(decode(&mut decoder, &encode(&mut encoder, fields)), owned(fields));
    }
}
