//! Owns the tests of the decoder: malformed blocks, size updates, and what it does after a refusal.

use super::super::support::{Kept, decode, hex, malformed};
use super::super::{BlockError, Decoder, TooLarge};
use super::NAMES_BYTES_MAX;

const OUT_OF_PLACE: &str = "dynamic table size update out of place";
const ABOVE_LIMIT: &str = "dynamic table size update above the limit";
const MISSING: &str = "dynamic table size update missing";

#[test]
fn indexes_outside_of_the_tables_are_refused() {
    let outside = "index not in the tables";
    for block in ["80", "be", "ff00", "ffffffff7f", "7e 0161", "7f00 0161", "0f2f 0161", "1f2f 0161", "82 be"]
    {
        assert_eq!(malformed(&mut Decoder::new(4096), &hex(block)), outside, "{block}");
    }
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &hex("40 0161 0162"));
    decode(&mut decoder, &hex("be 7e 0163 bf"));
    assert_eq!(malformed(&mut decoder, &hex("c0")), outside);
}

#[test]
fn cut_off_blocks_are_refused() {
    for block in [
        "40 0a63 7573 746f 6d2d 6b65 790d 6375 7374 6f6d 2d68 6561 6465 72",
        "00 0a63 7573 746f 6d2d 6b65 790d 6375 7374 6f6d 2d68 6561 6465 72",
        "10 0a63 7573 746f 6d2d 6b65 790d 6375 7374 6f6d 2d68 6561 6465 72",
        "41 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "0f2d 86a8 eb10 649c bf",
    ] {
        let block = hex(block);
        decode(&mut Decoder::new(4096), &block);
        for len in 1..block.len() {
            let reason = malformed(&mut Decoder::new(4096), &block[..len]);
            assert!(["field cut off", "integer cut off"].contains(&reason), "{reason}");
        }
    }
}

#[test]
fn lengths_beyond_the_block_are_refused() {
    for block in ["41 03 6161", "41 83 1c64", "00 7f80 8001 61", "00 01 61 7f00", "04 ff80 8080 7f"] {
        assert_eq!(malformed(&mut Decoder::new(4096), &hex(block)), "field cut off", "{block}");
    }
    assert_eq!(malformed(&mut Decoder::new(4096), &hex("00 7fff ffff ffff ff0f")), "integer too large");
}

#[test]
fn bad_huffman_codes_are_refused() {
    for (block, reason) in [
        ("04 81 ff", "Huffman code has its end-of-string symbol or too much padding"),
        ("04 84 ffff ffff", "Huffman code has its end-of-string symbol or too much padding"),
        ("04 82 1fff", "Huffman code has its end-of-string symbol or too much padding"),
        ("04 81 18", "Huffman code ends inside a symbol"),
        ("00 81 18 00", "Huffman code ends inside a symbol"),
    ] {
        assert_eq!(malformed(&mut Decoder::new(4096), &hex(block)), reason, "{block}");
    }
}

#[test]
fn empty_blocks_names_and_values_are_fields_too() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, &[]), []);
    let empty = (Vec::new(), Vec::new(), false);
    assert_eq!(decode(&mut decoder, &hex("40 00 00 00 80 80 be")), vec![empty; 3]);
    assert_eq!(decoder.table_bytes(), 32);
}

#[test]
fn name_index_is_the_first_of_the_static_table() {
    let mut decoder = Decoder::new(4096);
    let mut indexes = |block: &str| {
        let mut kept = Kept::new(usize::MAX);
        decoder.decode(&hex(block), &mut kept).unwrap().unwrap();
        kept.fields();
        kept.lines.iter().map(|line| line.name_index).collect::<Vec<_>>()
    };
    // GET, POST, /index.html, status 500, and :path by its second index.
    assert_eq!(indexes("82 83 85 8e 05 01 61"), [2, 2, 4, 8, 4]);
    // Entered with a name of the static table, then found as a whole and by name.
    assert_eq!(indexes("54 01 61 be 7e 01 62"), [20, 20, 20]);
    // A name that is spelt out.
    assert_eq!(indexes("40 04 686f 7374 01 61 be"), [0, 0]);
}

#[test]
fn never_indexed_is_told_from_not_indexed() {
    let fields = decode(&mut Decoder::new(4096), &hex("1f08 0161 0f08 0161 57 0161 be"));
    let marks: Vec<bool> = fields.iter().map(|field| field.2).collect();
    assert_eq!(marks, [true, false, false, false]);
}

/// RFC 7541 §4.4: the name may be that of an entry that goes.
#[test]
fn name_of_an_evicted_entry_is_kept() {
    let mut decoder = Decoder::new(64);
    decode(&mut decoder, &hex("40 0161 1e616161616161616161616161616161616161616161616161616161616161"));
    assert_eq!(decoder.table_bytes(), 63);
    assert_eq!(decode(&mut decoder, &hex("7e 0162")), [(b"a".to_vec(), b"b".to_vec(), false)]);
    assert_eq!(decoder.entry(0), Some((&b"a"[..], &b"b"[..])));
    assert_eq!(decoder.entry(1), None);
}

#[test]
fn larger_field_than_the_table_is_decoded_and_empties_it() {
    let mut decoder = Decoder::new(64);
    decode(&mut decoder, &hex("40 0161 0162"));
    let mut block = hex("40 0161 3f");
    block.extend([b'v'; 63]);
    assert_eq!(decode(&mut decoder, &block), [(b"a".to_vec(), vec![b'v'; 63], false)]);
    assert_eq!((decoder.table_bytes(), decoder.entry(0)), (0, None));
}

#[test]
fn size_updates_at_the_start_are_followed() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &hex("40 0161 0162 40 0163 0164"));
    assert_eq!(decoder.table_bytes(), 68);
    decode(&mut decoder, &hex("3f03 be"));
    assert_eq!(decoder.table_bytes(), 34);
    decode(&mut decoder, &hex("20 3fe11f"));
    assert_eq!(decoder.table_bytes(), 0);
    decode(&mut decoder, &hex("3fe11f 40 0161 0162"));
    assert_eq!(decoder.table_bytes(), 34);
}

#[test]
fn size_updates_elsewhere_are_refused() {
    for block in ["82 20", "82 3fe11f 82", "20 20 20", "20 82 20", "40 0161 0162 3f03"] {
        assert_eq!(malformed(&mut Decoder::new(4096), &hex(block)), OUT_OF_PLACE, "{block}");
    }
}

#[test]
fn size_updates_above_the_limit_are_refused() {
    assert_eq!(malformed(&mut Decoder::new(4096), &hex("3fe21f")), ABOVE_LIMIT);
    assert_eq!(malformed(&mut Decoder::new(4096), &hex("20 3fe21f")), ABOVE_LIMIT);
    assert_eq!(malformed(&mut Decoder::new(0), &hex("21")), ABOVE_LIMIT);
    assert_eq!(malformed(&mut Decoder::new(4096), &hex("3fff ffff 7f")), ABOVE_LIMIT);
    assert_eq!(malformed(&mut Decoder::new(4096), &hex("3fff ffff ff0f")), "integer too large");
    assert_eq!(malformed(&mut Decoder::new(4096), &hex("3f")), "integer cut off");
    let mut decoder = Decoder::new(4096);
    decoder.set_table_bytes_max(8192);
    decode(&mut decoder, &hex("3fe13f 82"));
}

#[test]
fn reduction_of_the_limit_has_to_be_followed() {
    let reduced = |limits: &[usize]| {
        let mut decoder = Decoder::new(4096);
        decode(&mut decoder, &hex("40 0161 0162"));
        limits.iter().for_each(|&limit| decoder.set_table_bytes_max(limit));
        decoder
    };
    assert_eq!(malformed(&mut reduced(&[100]), &hex("82")), MISSING);
    assert_eq!(malformed(&mut reduced(&[100]), &hex("")), MISSING);
    assert_eq!(malformed(&mut reduced(&[100]), &hex("3f46 82")), ABOVE_LIMIT);
    decode(&mut reduced(&[100]), &hex("3f45 be"));
    decode(&mut reduced(&[100]), &hex("20 3f45 82"));
    // Lower and up again: the lowest has to come first.
    assert_eq!(malformed(&mut reduced(&[30, 4096]), &hex("be")), MISSING);
    assert_eq!(malformed(&mut reduced(&[30, 4096]), &hex("3fe11f")), ABOVE_LIMIT);
    assert_eq!(malformed(&mut reduced(&[30, 4096]), &hex("3e 3fe11f be")), "index not in the tables");
    decode(&mut reduced(&[30, 4096]), &hex("3e 82"));
    // Followed once, it is over; the limit stays.
    let mut decoder = reduced(&[100, 50, 80]);
    decode(&mut decoder, &hex("3f13 3f31"));
    decode(&mut decoder, &hex("82"));
    assert_eq!(malformed(&mut decoder, &hex("3f32")), ABOVE_LIMIT);
    // None is due where the table is no larger anyway.
    decode(&mut reduced(&[5000, 4096]), &hex("be"));
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &hex("20"));
    decoder.set_table_bytes_max(100);
    decode(&mut decoder, &hex("82"));
}

/// A field of 4 KiB in the table, and blocks that name it again and again.
fn bomb(times: usize) -> (Decoder, Vec<u8>) {
    let mut decoder = Decoder::new(4096);
    let mut block = hex("40 01 61 7f dd1d");
    block.extend([b'v'; 3932]);
    decode(&mut decoder, &block);
    (decoder, vec![0xbe; times])
}

#[test]
fn indexed_fields_after_a_refusal_are_not_copied() {
    let (mut decoder, block) = bomb(100_000);
    let mut kept = Kept::new(10_000);
    assert_eq!(decoder.decode(&block, &mut kept), Ok(Err(TooLarge)));
    assert_eq!(kept.lines.len(), 2);
    assert_eq!(kept.calls_after_refusal, 0);
    assert!(kept.text.capacity() < 20_000, "{}", kept.text.capacity());
    assert_eq!(decode(&mut decoder, &hex("be")).len(), 1, "the connection goes on");
}

#[test]
fn everything_after_a_refusal_is_checked_and_entered() {
    let behind = |block: &str| {
        let mut decoder = Decoder::new(4096);
        let outcome = decoder.decode(&[hex("82"), hex(block)].concat(), &mut Kept::new(0));
        (outcome, decoder)
    };
    let (outcome, mut decoder) = behind("82 40 0161 81 1f 54 0162 00 0163 0163 1f05 0163 7e 0164 bf");
    assert_eq!(outcome, Ok(Err(TooLarge)));
    let fields = decode(&mut decoder, &hex("be bf c0"));
    let values: Vec<&[u8]> = fields.iter().map(|field| &field.1[..]).collect();
    assert_eq!(values, [b"d", b"b", b"a"]);
    assert_eq!(fields[0].0, b"access-control-allow-origin");
    for block in
        ["80", "be", "7e 0161", "0f2f 0161", "41 0261", "00 81 18 00", "04 81 ff", "20", "00 0161", "40"]
    {
        assert!(matches!(behind(block).0, Err(BlockError::Malformed(_))), "{block}");
    }
}

/// A long name, copied into the table again and again by two bytes each time.
#[test]
fn costly_blocks_end_the_connection() {
    let mut decoder = Decoder::new(4096);
    let mut block = hex("40 7f 811e");
    block.extend([b'n'; 3968]);
    block.push(0);
    assert_eq!(decoder.decode(&block, &mut Kept::new(0)), Ok(Err(TooLarge)));
    let repeated = |times: usize| [hex("82"), [0x7e, 0].repeat(times)].concat();
    let times_max = NAMES_BYTES_MAX / 3968;
    assert_eq!(decoder.decode(&repeated(times_max), &mut Kept::new(0)), Ok(Err(TooLarge)));
    assert_eq!(decoder.decode(&repeated(times_max + 1), &mut Kept::new(0)), Err(BlockError::Excessive));
}
