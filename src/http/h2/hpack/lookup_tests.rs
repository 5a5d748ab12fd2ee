//! Owns the tests of the encoder's lookup.

use super::super::support::Random;
use super::{Lookup, hash};

/// Free slots pass for entries with tag 0, which the comparison refuses: these hashes have other tags.
const FIRST: u64 = 1 << 48;
const SECOND: u64 = 2 << 48;

#[test]
fn what_is_noted_is_found() {
    let mut lookup = Lookup::new();
    assert_eq!(lookup.find(FIRST, 0, |_| true), None);
    lookup.note(FIRST, 1, 128);
    lookup.note(SECOND, 2, 128);
    assert_eq!(lookup.find(FIRST, 2, |_| true), Some(1));
    assert_eq!(lookup.find(SECOND, 2, |_| true), Some(0));
    assert_eq!(lookup.find(FIRST, 2, |_| false), None);
    assert_eq!(lookup.find(FIRST | 1, 2, |_| true), None);
    assert_eq!(lookup.find(3 << 48, 2, |_| true), None);
}

#[test]
fn oldest_of_a_bucket_is_replaced() {
    let mut lookup = Lookup::new();
    for number in 1..=5 {
        lookup.note(u64::from(number) << 48, number, 128);
    }
    let place = |number: u64| lookup.find(number << 48, 5, |_| true);
    assert_eq!([1, 2, 3, 4, 5].map(place), [None, Some(3), Some(2), Some(1), Some(0)]);
}

#[test]
fn newest_of_one_hash_may_not_be_first_but_is_found() {
    let mut lookup = Lookup::new();
    (1..=3).for_each(|number| lookup.note(FIRST, number, 128));
    assert_eq!(lookup.find(FIRST, 3, |place| place == 0), Some(0));
    assert_eq!(lookup.find(FIRST, 3, |place| place == 2), Some(2));
}

#[test]
fn numbers_wrap_around() {
    let mut lookup = Lookup::new();
    lookup.note(FIRST, u16::MAX, 128);
    lookup.note(SECOND | 1, 0, 128);
    assert_eq!(lookup.find(FIRST, 1, |_| true), Some(2));
    assert_eq!(lookup.find(SECOND | 1, 1, |_| true), Some(1));
}

/// Each byte and the length count, whatever the length.
#[test]
fn hashes_differ() {
    let random = &mut Random(5);
    let mut seen = std::collections::HashSet::new();
    for len in 0..40 {
        let text = random.bytes(len);
        assert!(seen.insert(hash(0, &text)));
        assert!(seen.insert(hash(1, &text)));
        for at in 0..len {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(seen.insert(hash(0, &other)), "byte {at} of {len}");
        }
    }
}
