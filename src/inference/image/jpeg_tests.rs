//! Tests of the walk over a JPEG's segments: what it notes, where it ends, and what it refuses before anything is decoded.

use super::*;

const SOI: &[u8] = b"\xff\xd8";
const EOI: &[u8] = b"\xff\xd9";
const FRAME: &[u8] = b"\xff\xc0\0\x11\x08\0\x08\0\x08\x03\x01\x22\0\x02\x11\x01\x03\x11\x01";
const PROGRESSIVE: &[u8] = b"\xff\xc2\0\x11\x08\0\x08\0\x08\x03\x01\x11\0\x02\x11\x01\x03\x11\x01";
const SCAN: &[u8] = b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0";
const SCAN_OF_ONE: &[u8] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0";

#[test]
fn a_scan_ends_at_its_next_marker() {
    for length in 0..70 {
        let mut scan = vec![7; length];
        scan.extend_from_slice(b"\xff\0\xff\xd0\x12\xff\xff\xd3\xff\0\x11\xff\xff\xd9");
        assert_eq!(scan_end(&scan, 0), Some(scan.len() - 2), "{length}");
        for cut in 0..scan.len() {
            assert_eq!(scan_end(&scan[..cut], 0), None);
        }
    }
}

#[test]
fn the_first_end_counts() {
    let image = [SOI, FRAME, SCAN, b"\x12\xff\0\x34", EOI, SOI, FRAME].concat();
    let segments = Segments::read(&image).expect("a JPEG");
    assert_eq!(segments.end, image.len() - SOI.len() - FRAME.len() - EOI.len());
    assert!(!segments.needs_coefficients() && segments.components == 3);
    // An end in a segment, as of a thumbnail, does not.
    let thumbnail = b"\xff\xe1\0\x08\xff\xd8\xff\xd9\0\0";
    let image = [SOI, thumbnail.as_slice(), FRAME, SCAN, b"\x12", EOI].concat();
    assert_eq!(Segments::read(&image).expect("a JPEG").end, image.len() - EOI.len());
}

#[test]
fn what_comes_short_is_truncated() {
    let image = [SOI, FRAME, SCAN, b"\x12\xff\0\x34", EOI].concat();
    for cut in 2..image.len() {
        assert_eq!(Segments::read(&image[..cut]).err(), Some(TRUNCATED), "{cut}");
    }
}

#[test]
fn scans_are_as_they_have_to_be() {
    let read = |parts: &[&[u8]]| Segments::read(&parts.concat()).map(|segments| segments.scans);
    assert!(read(&[SOI, FRAME, EOI]).is_err(), "none");
    assert!(read(&[SOI, FRAME, SCAN, SCAN, EOI]).is_err(), "one too many");
    assert!(read(&[SOI, FRAME, SCAN_OF_ONE, EOI]).is_err(), "two are missing");
    assert!(read(&[SOI, FRAME, SCAN_OF_ONE, SCAN_OF_ONE, SCAN_OF_ONE, EOI]).is_err(), "with subsampling");
    assert_eq!(read(&[SOI, PROGRESSIVE, SCAN, SCAN_OF_ONE, EOI]), Ok(2));
    let many = |count| [[SOI, PROGRESSIVE].concat(), SCAN_OF_ONE.repeat(count), EOI.to_vec()].concat();
    assert_eq!(read(&[&many(SCANS_MAX)]), Ok(SCANS_MAX));
    assert!(read(&[&many(SCANS_MAX + 1)]).is_err());
}

#[test]
fn a_marker_is_where_it_has_to_be() {
    for (wrong, what) in [
        (b"\x12".as_slice(), "none"),
        (b"\xff\xd8", "a second beginning"),
        (b"\xff\x02\0\x02", "a reserved one"),
        (b"\xff\0", "a stuffed one"),
        (b"\xff\xe0\0\x01", "a length below 2"),
    ] {
        let image = [SOI, FRAME, wrong, SCAN, b"\x12", EOI].concat();
        assert!(Segments::read(&image).is_err(), "{what}");
    }
    let image = [SOI, FRAME, b"\xff\xff\xff\xe0\0\x02\xff\x01", SCAN, b"\x12", EOI].concat();
    assert!(Segments::read(&image).is_ok(), "fill, and a marker without a segment");
}

#[test]
fn admission_knows_what_a_progressive_one_costs() {
    let baseline = [SOI, FRAME, SCAN, b"\x12", EOI].concat();
    let progressive = [SOI, PROGRESSIVE, SCAN, b"\x12", EOI].concat();
    let pixels = 4000 * 3000;
    let needed = |image: &[u8]| memory_needed(image, 4000, 3000);
    assert!((pixels * 4..pixels * 5).contains(&needed(&baseline)));
    assert!((pixels * 12..pixels * 13).contains(&needed(&progressive)));
    assert_eq!(needed(&baseline[..9]), needed(&progressive), "what is broken is taken for the worst");
}
