//! Tests of orientations: every value of the tag on pixels and on areas, and EXIF that is broken.

use super::*;

/// Two columns, three rows:
/// ```text
/// a b
/// c d
/// e f
/// ```
const STORED: &[u8] = b"abcdef";

/// What is seen for the tag's values 1 to 8, and how wide it is (EXIF 2.32 §4.6.4, where row 0 and column 0 are said to be).
const SEEN: [(&[u8], u32); 8] = [
    (b"abcdef", 2),
    (b"badcfe", 2),
    (b"fedcba", 2),
    (b"efcdab", 2),
    (b"acebdf", 3),
    (b"ecafdb", 3),
    (b"fdbeca", 3),
    (b"bdface", 3),
];

#[test]
fn every_orientation_stands_upright() {
    for (value, (seen, width)) in (1u16..).zip(SEEN) {
        let orientation = Orientation::of_tag(value);
        let mut upright = vec![9; 3];
        orientation.apply(STORED, 2, 1, &mut upright);
        assert_eq!(upright, seen, "{value}");
        assert_eq!(orientation.turned((2, 3)), (width, 6 / width), "{value}");
        // Pixels move whole.
        let thrice: Vec<u8> = STORED.iter().flat_map(|&pixel| [pixel, pixel + 10, pixel + 20]).collect();
        orientation.apply(&thrice, 2, 3, &mut upright);
        let expected: Vec<u8> = seen.iter().flat_map(|&pixel| [pixel, pixel + 10, pixel + 20]).collect();
        assert_eq!(upright, expected, "{value}");
    }
}

#[test]
fn an_area_holds_the_same_pixels() {
    for (value, (seen, width)) in (1u16..).zip(SEEN) {
        let orientation = Orientation::of_tag(value);
        let sides = (width, 6 / width);
        for (at, pixel) in (0u32..).zip(seen) {
            let (x, y) = (f64::from(at % width), f64::from(at / width));
            let [left, top, right, bottom] = orientation.stored([x, y, x + 1.0, y + 1.0], sides);
            assert_eq!((right - left, bottom - top), (1.0, 1.0));
            assert_eq!(STORED[top as usize * 2 + left as usize], *pixel, "{value}");
        }
    }
}

/// A directory with another tag before the one that counts.
fn exif(is_little: bool, value: u16) -> Vec<u8> {
    let short = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let long = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut exif = if is_little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
    exif.extend(long(10));
    exif.extend([0, 0]);
    exif.extend(short(2));
    for (tag, value) in [(0x0100, 7), (0x0112, value)] {
        exif.extend(short(tag));
        exif.extend(short(3));
        exif.extend(long(1));
        exif.extend(short(value));
        exif.extend([0, 0]);
    }
    exif
}

#[test]
fn exif_is_read_in_both_orders() {
    for is_little in [true, false] {
        for value in 0..=9 {
            let read = Orientation::of_exif(&exif(is_little, value));
            assert_eq!(read, Orientation::of_tag(value));
        }
    }
}

#[test]
fn exif_that_is_broken_says_nothing() {
    let whole = exif(true, 6);
    // Up to the value itself: what pads it is not needed.
    for cut in 0..whole.len() - 2 {
        assert_eq!(Orientation::of_exif(&whole[..cut]), Orientation::default(), "{cut}");
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut exif = whole.clone();
        exif[at..at + bytes.len()].copy_from_slice(bytes);
        Orientation::of_exif(&exif)
    };
    assert_eq!(changed(0, b"IIII"), Orientation::default(), "no TIFF");
    assert_eq!(changed(4, &[0xff; 4]), Orientation::default(), "a directory beyond the end");
    assert_eq!(changed(10, &[1, 0]), Orientation::default(), "a directory that ends before the tag");
    assert_eq!(changed(10, &[0xff, 0xff]), Orientation::of_tag(6), "more entries than there are");
    assert_eq!(changed(26, &[4, 0]), Orientation::default(), "a LONG");
    assert_eq!(changed(28, &[2, 0]), Orientation::default(), "two of them");
}
