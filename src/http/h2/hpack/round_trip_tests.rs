//! Owns the tests that what one end encodes the other decodes, over many blocks and changes of the table's
//! size.

use super::support::{Kept, Owned, Random};
use super::{Decoder, Encoder, TooLarge};

/// Fields of a kind that exercises indexing: few names, some of them known, and few values for most.
fn random_field(random: &mut Random) -> Owned {
    const NAMES: [&str; 20] = [
        ":method",
        ":path",
        ":status",
        ":authority",
        "accept",
        "accept-encoding",
        "cookie",
        "set-cookie",
        "authorization",
        "content-type",
        "user-agent",
        "x-request-id",
        "x-a",
        "x-b",
        "x-custom-header",
        "date",
        "content-length",
        "x-api-key",
        "vary",
        "",
    ];
    let name = match random.below(8) {
        0 => {
            let len = random.below(30);
            random.text(len).to_ascii_lowercase()
        }
        1 => format!("x-{}", random.below(300)).into_bytes(),
        _ => NAMES[random.below(NAMES.len())].into(),
    };
    let value = match random.below(12) {
        0 => Vec::new(),
        1 => {
            let len = random.below(300);
            random.bytes(len)
        }
        2 => {
            let len = random.below(5000);
            random.text(len)
        }
        3 => b"/".to_vec(),
        4 => b"GET".to_vec(),
        5 => b"gzip, deflate".to_vec(),
        _ => format!("value {}", random.below(40)).into_bytes(),
    };
    (name, value, random.below(20) == 0)
}

fn encode(encoder: &mut Encoder, fields: &[Owned], random: &mut Random) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value, is_never_indexed) in fields {
        let name = if random.below(3) == 0 { name.to_ascii_uppercase() } else { name.clone() };
        if *is_never_indexed {
            encoder.field_never_indexed(&name, value, &mut block);
        } else {
            encoder.field(&name, value, &mut block);
        }
    }
    block
}

/// What both ends' settings may be, in bytes.
const TABLE_BYTES: [usize; 10] = [0, 31, 64, 100, 256, 1000, 4096, 5000, 16_384, 100_000];

#[test]
fn blocks_with_changing_tables() {
    for seed in 1..=60 {
        let random = &mut Random(seed);
        let mut encoder = Encoder::new(TABLE_BYTES[random.below(TABLE_BYTES.len())]);
        let mut decoder = Decoder::new(super::TABLE_BYTES_DEFAULT);
        for _ in 0..100 {
            for _ in 0..random.below(12).saturating_sub(8) {
                let table_bytes_max = TABLE_BYTES[random.below(TABLE_BYTES.len())];
                decoder.set_table_bytes_max(table_bytes_max);
                encoder.set_table_bytes_max(table_bytes_max);
            }
            let fields: Vec<Owned> = (0..random.below(30)).map(|_| random_field(random)).collect();
            let block = encode(&mut encoder, &fields, random);
            let mut kept = Kept::new(usize::MAX);
            assert_eq!(decoder.decode(&block, &mut kept), Ok(Ok(())));
            check_same(&kept.fields(), &fields);
            assert_eq!(decoder.table_bytes(), encoder.table_bytes());
        }
    }
}

/// The decoder says of what was marked that it was, and of credentials too.
fn check_same(decoded: &[Owned], fields: &[Owned]) {
    assert_eq!(decoded.len(), fields.len());
    for (decoded, field) in decoded.iter().zip(fields) {
        assert_eq!((&decoded.0, &decoded.1), (&field.0, &field.1));
        assert!(decoded.2 || !field.2);
    }
}

#[test]
fn refusing_sinks_leave_the_table_in_step() {
    for seed in 1..=40 {
        let random = &mut Random(seed);
        let mut encoder = Encoder::new(4096);
        let mut decoder = Decoder::new(super::TABLE_BYTES_DEFAULT);
        for _ in 0..100 {
            let fields: Vec<Owned> = (0..random.below(30)).map(|_| random_field(random)).collect();
            let block = encode(&mut encoder, &fields, random);
            let mut kept = Kept::new(random.below(6000));
            let outcome = decoder.decode(&block, &mut kept).unwrap();
            let decoded = kept.fields();
            check_same(&decoded, &fields[..decoded.len()]);
            assert_eq!(outcome, if decoded.len() == fields.len() { Ok(()) } else { Err(TooLarge) });
            assert_eq!(kept.calls_after_refusal, 0);
            assert_eq!(decoder.table_bytes(), encoder.table_bytes());
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let random = &mut Random(7);
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut decoder = Decoder::new(random.below(600));
        for _ in 0..30 {
            let len = random.below(40);
            let mut kept = Kept::new(300);
            if decoder.decode(&random.bytes(len), &mut kept).is_err() {
                break;
            }
            kept.fields();
            accepted += 1;
        }
    }
    assert!(accepted > 100, "{accepted}");
}

/// Real blocks with a few bytes changed reach further than random ones.
#[test]
fn damaged_blocks_never_panic() {
    let random = &mut Random(8);
    for _ in 0..300 {
        let mut encoder = Encoder::new(4096);
        let mut decoder = Decoder::new(4096);
        for _ in 0..20 {
            let fields: Vec<Owned> = (0..random.below(10)).map(|_| random_field(random)).collect();
            let mut block = encode(&mut encoder, &fields, random);
            for _ in 0..random.below(3) {
                if let Some(last) = block.len().checked_sub(1) {
                    block[random.below(last + 1)] = random.next() as u8;
                    block.truncate(last + 1 - random.below(2));
                }
            }
            if decoder.decode(&block, &mut Kept::new(2000)).is_err() {
                break;
            }
            assert!(decoder.table_bytes() <= 4096);
        }
    }
}
