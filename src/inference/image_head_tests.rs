//! Heads of real files and made by hand: whole, in every prefix, with each rule broken, mutated. The real files are of
//! Pillow 13.0, in hex, at the end.

use super::*;

fn look(format: Format, bytes: &[u8]) -> Result<Seen, Invalid> {
    let whole = Scanner::new(format).push(bytes);
    let mut single = Scanner::new(format);
    let mut last = Ok(Seen::More);
    bytes.iter().for_each(|byte| last = single.push(&[*byte]));
    assert_eq!(last, whole, "{format:?}: {bytes:02x?}");
    whole
}

fn seen(format: Format, width: u32, height: u32) -> Result<Seen, Invalid> {
    Ok(Seen::Head(Head { format, width, height }))
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A segment of a JPEG with its length.
fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(content.len() as u16 + 2).to_be_bytes(), content].concat()
}

/// A frame header of 8 bits, 300 wide and 200 high.
fn sof(marker: u8, components: u8) -> Vec<u8> {
    let each = (1..=components).flat_map(|id| [id, 0x22, 1]).collect::<Vec<_>>();
    segment(marker, &[&[8, 0, 200, 1, 44, components][..], &each].concat())
}

/// SOI, and these behind it.
fn jpeg_of(parts: &[&[u8]]) -> Vec<u8> {
    [&[0xff, 0xd8][..], &parts.concat()].concat()
}

/// A PNG up to its IHDR, whose CRC is right.
fn png_of(width: u32, height: u32, rest: [u8; 5]) -> Vec<u8> {
    let checked = [&b"IHDR"[..], &width.to_be_bytes(), &height.to_be_bytes(), &rest].concat();
    [&b"\x89PNG\r\n\x1a\n\0\0\0\x0d"[..], &checked, &crc32(&checked).to_be_bytes()].concat()
}

/// A WebP of this RIFF size, with one chunk that says it has `chunk` bytes.
fn webp_of(riff: u32, kind: &[u8; 4], chunk: u32, content: &[u8]) -> Vec<u8> {
    [b"RIFF", &riff.to_le_bytes()[..], b"WEBP", kind, &chunk.to_le_bytes(), content].concat()
}

/// A VP8 frame header with its scaling bits set, whose first partition has 9 bytes.
fn vp8(width: u16, height: u16) -> Vec<u8> {
    let side = |side: u16| (side | 0xc000).to_le_bytes();
    [&[0x30, 0x01, 0, 0x9d, 0x01, 0x2a][..], &side(width), &side(height)].concat()
}

fn vp8l(width: u32, height: u32, above: u32) -> Vec<u8> {
    [&[0x2f][..], &((width - 1) | (height - 1) << 14 | above << 28).to_le_bytes()].concat()
}

fn vp8x(width: u32, height: u32) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    // All flags and all that is reserved.
    [&[0xff; 4][..], &side(width), &side(height)].concat()
}

fn samples() -> Vec<(Vec<u8>, Head)> {
    let mut samples = Vec::new();
    let mut add = |format, bytes, width, height| samples.push((bytes, Head { format, width, height }));

    add(Format::Jpeg, unhex(BASELINE), 37, 21);
    add(Format::Jpeg, unhex(PROGRESSIVE), 50, 33);
    for marker in 0xc0..=0xc2 {
        for components in [1, 3, 4] {
            add(Format::Jpeg, jpeg_of(&[&sof(marker, components)]), 300, 200);
        }
    }
    let largest = segment(0xc0, &[8, 0xff, 0xff, 0xff, 0xff, 1, 0, 0x41, 3]);
    add(Format::Jpeg, jpeg_of(&[&largest]), 65_535, 65_535);
    let mut before: Vec<Vec<u8>> = [0xc4, 0xcc, 0xdb, 0xdd, 0xfe].map(|it| segment(it, &[1, 2])).into();
    before.extend((0xe0..=0xef).map(|app| segment(app, b"\xff\xd9\xff\xda")));
    before.push(segment(0xfe, &[]));
    before.push(vec![0xff, 0x01, 0xff, 0xd0, 0xff, 0xd7]);
    before.push(vec![0xff; 9]);
    before.push(sof(0xc0, 3));
    add(Format::Jpeg, jpeg_of(&[&before.concat()]), 300, 200);

    add(Format::Png, unhex(PNG), 19, 7);
    for (color, depths) in
        [(0, &[1, 2, 4, 8, 16][..]), (2, &[8, 16]), (3, &[1, 2, 4, 8]), (4, &[8, 16]), (6, &[8, 16])]
    {
        for &depth in depths {
            add(Format::Png, png_of(300, 200, [depth, color, 0, 0, 1]), 300, 200);
        }
    }
    add(Format::Png, png_of(1, 0x7fff_ffff, [8, 6, 0, 0, 0]), 1, 0x7fff_ffff);

    add(Format::Webp, unhex(LOSSY), 37, 21);
    add(Format::Webp, unhex(LOSSLESS), 300, 200);
    add(Format::Webp, unhex(EXTENDED), 33, 45);
    add(Format::Webp, webp_of(22, b"VP8 ", 10, &vp8(1, 0x3fff)), 1, 0x3fff);
    add(Format::Webp, webp_of(17, b"VP8L", 5, &vp8l(1, 1 << 14, 0)), 1, 1 << 14);
    add(Format::Webp, webp_of(18, b"VP8L", 5, &vp8l(1 << 14, 1, 1)), 1 << 14, 1);
    add(Format::Webp, webp_of(22, b"VP8X", 10, &vp8x(1 << 24, 255)), 1 << 24, 255);
    add(Format::Webp, webp_of(0xffff_fff6, b"VP8X", 10, &vp8x(65_535, 65_537)), 65_535, 65_537);
    samples
}

#[test]
fn every_prefix_says_more_and_then_the_same_head() {
    for (bytes, head) in samples() {
        let answers: Vec<_> =
            (0..=bytes.len()).map(|end| look(head.format, &bytes[..end]).unwrap()).collect();
        let first = answers.iter().position(|answer| *answer != Seen::More).expect("a head");
        assert!(answers[first..].iter().all(|answer| *answer == Seen::Head(head)), "{head:?}");
    }
}

#[test]
fn a_head_ends_where_its_last_rule_does() {
    for (bytes, format, wanted) in [
        (jpeg_of(&[&sof(0xc2, 3)]), Format::Jpeg, 2 + 2 + 17),
        (png_of(1, 1, [1, 0, 0, 0, 0]), Format::Png, 33),
        (unhex(LOSSY), Format::Webp, 30),
        (unhex(LOSSLESS), Format::Webp, 25),
        (unhex(EXTENDED), Format::Webp, 30),
    ] {
        assert_eq!(look(format, &bytes[..wanted - 1]), Ok(Seen::More));
        assert!(matches!(look(format, &bytes[..wanted]), Ok(Seen::Head(_))), "{format:?}");
    }
}

/// Several ICC segments of the greatest length: walked over, whatever they hold.
#[test]
fn long_segments_before_the_frame_header_are_walked_over() {
    let icc = segment(0xe2, &[0xff; 65_533]);
    let bytes = jpeg_of(&[&icc, &icc, &icc, &sof(0xc0, 3)]);
    assert_eq!(look(Format::Jpeg, &bytes[..64 * 1024]), Ok(Seen::More));
    assert_eq!(look(Format::Jpeg, &bytes[..3 * icc.len()]), Ok(Seen::More));
    assert_eq!(look(Format::Jpeg, &bytes), seen(Format::Jpeg, 300, 200));
}

/// The last byte is what is wrong: without it the answer is still "more".
fn assert_told_at_the_last_byte(format: Format, bytes: &[u8], words: &str) {
    let Err(invalid) = look(format, bytes) else { panic!("taken: {words}: {bytes:02x?}") };
    assert!(invalid.to_string().contains(words), "{invalid}, not {words}: {bytes:02x?}");
    assert_eq!(look(format, &bytes[..bytes.len() - 1]), Ok(Seen::More), "{words}: {bytes:02x?}");
    let longer = [bytes, &[0xff; 100]].concat();
    assert_eq!(look(format, &longer), Err(invalid), "more bytes do not mend it");
}

#[test]
fn a_jpeg_is_refused_at_the_byte_that_breaks_a_rule() {
    let no_jpeg = "no JPEG: it does not begin with FF D8 FF";
    let told = |bytes: &[u8], words| assert_told_at_the_last_byte(Format::Jpeg, bytes, words);
    told(b"\x89", no_jpeg);
    told(b"\xff\xff", no_jpeg);
    told(b"\xff\xd8\x00", no_jpeg);
    let after_soi = |rest: &[u8], words| told(&jpeg_of(&[rest]), words);
    after_soi(&[&segment(0xe0, b"JFIF")[..], &[0]].concat(), "where a marker has to be, there is none");
    after_soi(&[0xff, 0xff, 0x00], "stuffed FF");
    after_soi(&[0xff, 0xe1, 0, 1], "length is below 2");
    after_soi(&[0xff, 0xe1, 0, 0], "length is below 2");
    after_soi(&[0xff, 0xd8], "SOI");
    after_soi(&[0xff, 0xd9], "EOI");
    after_soi(&[0xff, 0xff, 0xda], "SOS");
    after_soi(&[0xff, 0xdc], "DNL");
    after_soi(&[0xff, 0xc3], "lossless");
    after_soi(&[0xff, 0xcb], "lossless and arithmetic");
    for marker in [0xc9, 0xca] {
        after_soi(&[0xff, marker], "arithmetic");
    }
    for marker in [0xc5, 0xc6, 0xc7, 0xcd, 0xce, 0xcf, 0xde, 0xdf] {
        after_soi(&[0xff, marker], "hierarchical");
    }
    for marker in (0x02..=0xbf).chain([0xc8]).chain(0xf0..=0xfd) {
        after_soi(&[0xff, marker], "reserved");
    }
}

#[test]
fn a_frame_header_is_refused_at_the_byte_that_breaks_a_rule() {
    let told = |rest: &[u8], words| {
        let bytes = jpeg_of(&[&segment(0xe0, b"JFIF"), &[0xff, 0xc0], rest]);
        assert_told_at_the_last_byte(Format::Jpeg, &bytes, words);
    };
    told(&[1], "fits neither 1, 3 nor 4 components");
    for length in (0..=255).filter(|length| ![11, 17, 20].contains(length)) {
        told(&[0, length], "fits neither 1, 3 nor 4 components");
    }
    for precision in [0, 2, 12, 16] {
        told(&[0, 17, precision], "8 bits");
    }
    told(&[0, 17, 8, 0, 0], "DNL");
    told(&[0, 17, 8, 0, 1, 0, 0], "its width is 0");
    told(&[0, 17, 8, 0, 1, 0, 1, 1], "more or fewer components");
    told(&[0, 11, 8, 0, 1, 0, 1, 3], "more or fewer components");
    told(&[0, 20, 8, 0, 1, 0, 1, 0], "more or fewer components");
    for sampling in [0x00, 0x01, 0x10, 0x15, 0x51, 0xff] {
        told(&[0, 11, 8, 0, 1, 0, 1, 1, 7, sampling], "sampling factor");
    }
    told(&[0, 17, 8, 0, 1, 0, 1, 3, 1, 0x22, 0, 2, 0x11, 4], "quantization table");
}

#[test]
fn a_png_is_refused_at_the_byte_that_breaks_a_rule() {
    let told = |bytes: &[u8], words| assert_told_at_the_last_byte(Format::Png, bytes, words);
    let whole = png_of(300, 200, [8, 2, 0, 0, 0]);
    for at in 0..8 {
        told(&[&whole[..at], &[whole[at] ^ 0x20]].concat(), "no PNG: it does not begin with 89 50 4E 47");
    }
    for at in 8..16 {
        told(&[&whole[..at], &[whole[at] ^ 0x20]].concat(), "first chunk is not an IHDR of 13 bytes");
    }
    for at in 29..33 {
        told(&[&whole[..at], &[whole[at] ^ 1]].concat(), "the CRC of its IHDR is wrong");
    }
    let cut = |width, height, rest, end: usize, words| told(&png_of(width, height, rest)[..end], words);
    let valid = [8, 2, 0, 0, 0];
    cut(0, 1, valid, 20, "width or height is 0");
    cut(1, 0, valid, 24, "width or height is 0");
    cut(0x8000_0000, 1, valid, 17, "above 2^31 - 1");
    cut(1, u32::MAX, valid, 21, "above 2^31 - 1");
    cut(1, 1, [8, 2, 1, 0, 0], 27, "compression method");
    cut(1, 1, [8, 2, 0, 1, 0], 28, "filter method");
    cut(1, 1, [8, 2, 0, 0, 2], 29, "interlace method");
    for depth in [0, 3, 5, 12, 32] {
        cut(1, 1, [depth, 2, 0, 0, 0], 25, "bit depth is not");
    }
    for color in [1, 5, 7, 255] {
        cut(1, 1, [8, color, 0, 0, 0], 26, "color type is not");
    }
    for (color, depth) in [(2, 1), (2, 2), (2, 4), (3, 16), (4, 1), (4, 2), (4, 4), (6, 1), (6, 2), (6, 4)] {
        cut(1, 1, [depth, color, 0, 0, 0], 26, "does not come with its bit depth");
    }
}

#[test]
fn a_webp_is_refused_at_the_byte_that_breaks_a_rule() {
    let told = |bytes: &[u8], words| assert_told_at_the_last_byte(Format::Webp, bytes, words);
    let head = |riff: u32| [&b"RIFF"[..], &riff.to_le_bytes()].concat();
    for wrong in [&b"r"[..], b"RIFX", b"RIFF\x64\0\0\0A", b"RIFF\x64\0\0\0WAVE"] {
        let end = wrong.iter().zip(b"RIFF\x64\0\0\0WEBP").position(|(a, b)| a != b).unwrap();
        told(&wrong[..=end], "no WebP: it does not begin with \"RIFF\", a size and \"WEBP\"");
    }
    for riff in [0, 4, 11, 12, 16] {
        told(&head(riff), "no room");
    }
    told(&head(0xffff_fff7), "above 2^32 - 10");
    told(&head(u32::MAX), "above 2^32 - 10");
    for kind in [&b"A"[..], b"VQ", b"VP9", b"VP8l", b"VP8\0"] {
        told(&[&head(100)[..], b"WEBP", kind].concat(), "first chunk is not VP8");
    }
    for kind in [b"VP8X", b"VP8 "] {
        told(&[&head(21)[..], b"WEBP", kind].concat(), "larger than its RIFF size allows");
    }
    told(&webp_of(100, b"VP8 ", 9, &[]), "too short");
    told(&webp_of(100, b"VP8 ", 89, &[]), "larger than its RIFF size allows");
    told(&webp_of(100, b"VP8L", 4, &[]), "too short");
    told(&webp_of(100, b"VP8L", u32::MAX, &[]), "larger than its RIFF size allows");
}

#[test]
fn a_webp_chunk_is_refused_at_the_byte_that_breaks_a_rule() {
    let told = |kind, content: &[u8], words| {
        assert_told_at_the_last_byte(Format::Webp, &webp_of(100, kind, 10, content), words);
    };
    told(b"VP8 ", &[0x11], "no key frame");
    told(b"VP8 ", &[0x18], "version is above 3");
    told(b"VP8 ", &[0x00], "not to be shown");
    told(b"VP8 ", &[0x50, 0x01, 0], "longer than its chunk");
    for at in 3..6 {
        let whole = vp8(1, 1);
        told(b"VP8 ", &[&whole[..at], &[whole[at] ^ 0x80]].concat(), "no start code 9D 01 2A");
    }
    told(b"VP8 ", &vp8(0, 1)[..8], "width or height is 0");
    told(b"VP8 ", &vp8(1, 0), "width or height is 0");
    told(b"VP8L", &[0x2e], "does not begin with 2F");
    for version in 1..8 {
        told(b"VP8L", &vp8l(1, 1, version << 1), "version is not 0");
    }
    told(b"VP8X", &vp8x(65_536, 65_536), "more than 2^32 - 1 pixels");
    told(b"VP8X", &vp8x(1 << 24, 256)[..10], "more than 2^32 - 1 pixels");
    for length in [9u32, 11, 18] {
        let bytes = &webp_of(100, b"VP8X", length, &[])[..17];
        assert_told_at_the_last_byte(Format::Webp, bytes, "does not have 10 bytes");
    }
}

#[test]
fn one_format_is_not_taken_for_another() {
    for (bytes, head) in samples() {
        for format in [Format::Jpeg, Format::Png, Format::Webp] {
            assert_eq!(look(format, &bytes[..1]).is_ok(), format == head.format);
        }
    }
}

/// An xorshift: the same numbers each time, below what is asked.
fn random() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % below
    }
}

/// Whatever the bytes, no panic; and an answer for a prefix is one that more bytes keep.
#[test]
fn mutations_are_answered_and_no_answer_is_taken_back() {
    let mut random = random();
    let samples = samples();
    let mut counts = [0; 3];
    for _ in 0..200_000 {
        let (sample, head) = &samples[random(samples.len())];
        let mut bytes = sample.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len().min(48));
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.insert(at, [0, 0xff][random(2)]),
                _ => drop(bytes.remove(at)),
            }
        }
        let whole = look(head.format, &bytes);
        let part = look(head.format, &bytes[..random(bytes.len() + 1)]);
        assert!(part == Ok(Seen::More) || part == whole, "{part:?}, then {whole:?}: {bytes:02x?}");
        counts[match whole {
            Ok(Seen::Head(head)) => {
                assert!(head.width > 0 && head.height > 0);
                0
            }
            Ok(Seen::More) => 1,
            Err(_) => 2,
        }] += 1;
    }
    assert!(counts.iter().all(|&count| count > 2_000), "all of head, more, invalid: {counts:?}");
}

#[test]
fn the_crc_is_that_of_png() {
    // The check value of CRC-32/ISO-HDLC, and the CRC of every IEND.
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b"IEND"), 0xae42_6082);
}

#[test]
fn a_media_type_names_a_format_in_any_case() {
    for (media_type, format) in [
        ("image/jpeg", Some(Format::Jpeg)),
        ("IMAGE/JPG", Some(Format::Jpeg)),
        ("image/PNG", Some(Format::Png)),
        ("image/webp", Some(Format::Webp)),
        ("image/gif", None),
        ("image/jpeg2000", None),
        ("image", None),
        ("", None),
    ] {
        assert_eq!(Format::of_media_type(media_type.as_bytes()), format, "{media_type:?}");
    }
    for format in [Format::Jpeg, Format::Png, Format::Webp] {
        assert_eq!(Format::of_media_type(format.media_type().as_bytes()), Some(format));
    }
}

const BASELINE: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb0043001b12141714111b1716171e1c1b2028422b28252528513a\
    3d3042605565645f555d5b6a7899816a7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffdb0043011c1e\
    1e2823284e2b2b4ea46e5d6ea4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4\
    a4a4a4a4a4a4a4a4a4a4a4a4a4a4ffc00011080015002503012200021101031101ffc400150001010000000000000000\
    0000000000000004ffc40014100100000000000000000000000000000000ffc400160101010100000000000000000000\
    000000000305ffc40014110100000000000000000000000000000000ffda000c03010002110311003f0084041b000000\
    0000000000ffd9";

const PROGRESSIVE: &str = "\
    ffd8ffe000104a46494600010100000100010000ffe1002e4578696600004d4d002a000000080002010f000200000002\
    6800000001120003000000010006000000000000ffdb0043001b12141714111b1716171e1c1b2028422b28252528513a\
    3d3042605565645f555d5b6a7899816a7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffc2000b080021\
    003201011100ffc4001500010100000000000000000000000000000004ffda00080101000000019c00000000ffc40014\
    100100000000000000000000000000000050ffda00080101000105020fffc40014100100000000000000000000000000\
    000050ffda0008010100063f020fffc40014100100000000000000000000000000000050ffda0008010100013f210fff\
    da0008010100000010ff00ff00ff00ff00ff00ffc40014100100000000000000000000000000000050ffda0008010100\
    013f100fffd9";

const PNG: &str = "\
    89504e470d0a1a0a0000000d49484452000000130000000708020000006575e1160000001c4944415478da6364606060\
    65602403b130b03332309083467512420022f90122496f3ed00000000049454e44ae426082";

const LOSSY: &str = "\
    52494646440000005745425056503820380000003003009d012a250015003f399ac55baf2b27a4256801e027096700d1\
    440f0a79d00000fee1c3741f195dff6a7e567bbf4b58022810000000";

const LOSSLESS: &str = "\
    5249464628000000574542505650384c1c0000002f2bc13100075081540820000a9afec70050a4ffff29a2ffa9ff5f03";

const EXTENDED: &str = "\
    524946469000000057454250565038580a000000180000002000002c0000414c504810000000010750b288080009e1ff\
    7935a2ffe907565038202c0000007003009d012a21002d003f399cc75caf2b2824a38801e02709690016df40e6a12154\
    ac0000feef4c4000000045584946260000004d4d002a000000080002010f000200000002680000000112000300000001\
    0006000000000000";
