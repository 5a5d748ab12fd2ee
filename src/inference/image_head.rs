//! Owns the look at the first bytes of an image as they pass by: whether they are a valid head of a JPEG (ITU-T T.81), PNG (W3C
//! PNG 3) or WebP (RFC 9649), and how large the image says it is. Reads from left to right, in pieces of any size, and judges each
//! field as soon as it is whole. Decodes no pixels, allocates nothing, bounds nothing: how large an image may be is for the caller,
//! and whether what follows a head fits it is for the decoder.

use std::fmt;

/// What the bytes are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Jpeg,
    Png,
    Webp,
}

/// What a valid head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub format: Format,
    /// In pixels, as stored: an EXIF orientation that swaps the sides is not applied. For an extended WebP it is the canvas.
    pub width: u32,
    pub height: u32,
}

/// How far the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Head(Head),
    /// So far nothing is wrong, and more bytes are needed.
    More,
}

/// What is wrong, in words. More bytes cannot mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid(pub &'static str);

/// Reads one image. The same bytes lead to the same answer however they are cut.
#[derive(Debug)]
pub struct Scanner {
    format: Format,
    /// What the next step needs and is not whole yet.
    held: [u8; HELD_BYTES_MAX],
    held_bytes: usize,
    /// Of a JPEG's segment, what is still to pass.
    skip: usize,
    /// Of a JPEG, that it begins as one has been seen.
    has_begun: bool,
    /// The last word: nothing is read any more.
    judged: Option<Result<Head, Invalid>>,
}

/// The longest that has to be whole at once: the signature and IHDR of a PNG.
const HELD_BYTES_MAX: usize = 33;

impl Scanner {
    pub fn new(format: Format) -> Scanner {
        Scanner { format, held: [0; HELD_BYTES_MAX], held_bytes: 0, skip: 0, has_begun: false, judged: None }
    }

    /// Takes the next piece of the image. An error is final, and so is a head.
    pub fn push(&mut self, piece: &[u8]) -> Result<Seen, Invalid> {
        let mut rest = piece;
        while self.judged.is_none() {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = &rest[skipped..];
            let room = &mut self.held[self.held_bytes..];
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            self.held_bytes += count;
            rest = &rest[count..];
            match self.step() {
                Ok(Step::Size((width, height))) => {
                    self.judged = Some(Ok(Head { format: self.format, width, height }));
                }
                Ok(Step::Passed { taken, skip }) => self.pass(taken, skip),
                Err(Stop::Invalid(words)) => self.judged = Some(Err(Invalid(words))),
                // Nothing has to be held as long as `HELD_BYTES_MAX` without a step, so that the piece is used up.
                Err(Stop::More) => return Ok(Seen::More),
            }
        }
        self.judged.map_or(Ok(Seen::More), |judged| judged.map(Seen::Head))
    }

    /// The image is over. Its head must have come.
    pub fn finish(&mut self) -> Result<Head, Invalid> {
        *self.judged.get_or_insert(Err(Invalid("it ends before it says how large the image is")))
    }

    fn step(&self) -> Judged<Step> {
        let held = &self.held[..self.held_bytes];
        match self.format {
            Format::Jpeg => jpeg(Bytes(held), self.has_begun),
            Format::Png => png(held).map(Step::Size),
            Format::Webp => webp(Bytes(held)).map(Step::Size),
        }
    }

    /// `taken` of what is held are done with, and so are `skip` behind them.
    fn pass(&mut self, taken: usize, skip: usize) {
        self.has_begun = true;
        let held_too = skip.min(self.held_bytes - taken);
        self.held.copy_within(taken + held_too..self.held_bytes, 0);
        self.held_bytes -= taken + held_too;
        self.skip = skip - held_too;
    }
}

impl Format {
    /// Of a media type without parameters, in any case. `None`: not one of ours.
    pub fn of_media_type(essence: &[u8]) -> Option<Self> {
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        match () {
            // Not registered, but sent.
            () if is("image/jpeg") || is("image/jpg") => Some(Self::Jpeg),
            () if is("image/png") => Some(Self::Png),
            () if is("image/webp") => Some(Self::Webp),
            () => None,
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Invalid {}

/// Width and height.
type Size = (u32, u32);
type Judged<T> = Result<T, Stop>;

/// Why reading goes no further.
enum Stop {
    More,
    Invalid(&'static str),
}

enum Step {
    Size(Size),
    /// A part that says nothing of the size.
    Passed {
        taken: usize,
        skip: usize,
    },
}

/// T.81 §B.2.1: one of the markers with its segment, up to the frame header.
fn jpeg(held: Bytes, has_begun: bool) -> Judged<Step> {
    let mut rest = held.clone();
    if !has_begun {
        rest.expect(&[0xff, 0xd8], NO_JPEG)?;
        // Of the marker that follows: without it, it is something else rather than a broken JPEG.
        rest.clone().expect(&[0xff], NO_JPEG)?;
        return Ok(Step::Passed { taken: 2, skip: 0 });
    }
    // §B.1.1.2: FF, as many more of it as there are, and a code.
    rest.expect(&[0xff], "a broken JPEG: where a marker has to be, there is none")?;
    let fill = rest.0.iter().take_while(|&&byte| byte == 0xff).count();
    if fill > 0 {
        return Ok(Step::Passed { taken: fill, skip: 0 });
    }
    match rest.u8()? {
        // Baseline, extended and progressive, all with Huffman coding.
        0xc0..=0xc2 => frame(rest).map(Step::Size),
        // TEM and RSTn have no segment. The latter have no place here, but decoders pass over them.
        0x01 | 0xd0..=0xd7 => Ok(Step::Passed { taken: 2, skip: 0 }),
        // DHT, DAC, DQT, DRI, APPn (EXIF, ICC), COM.
        0xc4 | 0xcc | 0xdb | 0xdd | 0xe0..=0xef | 0xfe => {
            let skip = segment_bytes(&mut rest)?;
            Ok(Step::Passed { taken: 4, skip })
        }
        other => Err(Stop::Invalid(why_not(other))),
    }
}

/// The bytes of a segment behind its length, which counts itself.
fn segment_bytes(rest: &mut Bytes) -> Judged<usize> {
    let length = usize::from(u16::from_be_bytes(rest.array()?));
    length.checked_sub(2).ok_or(Stop::Invalid("a broken JPEG: a segment's length is below 2"))
}

/// §B.2.2, behind the marker.
fn frame(mut rest: Bytes) -> Judged<Size> {
    const LENGTH: &str = "a broken JPEG: the length of its frame header fits neither 1, 3 nor 4 components";
    rest.expect(&[0], LENGTH)?;
    let components = match rest.u8()? {
        11 => 1,
        17 => 3,
        20 => 4,
        _ => return Err(Stop::Invalid(LENGTH)),
    };
    rest.expect(&[8], "a JPEG that few decoders take: its samples do not have 8 bits")?;
    let height = u32::from(u16::from_be_bytes(rest.array()?));
    require(
        height > 0,
        "a JPEG that few decoders take: its height is 0, to be said behind the first scan (DNL)",
    )?;
    let width = u32::from(u16::from_be_bytes(rest.array()?));
    require(width > 0, "a broken JPEG: its width is 0")?;
    rest.expect(&[components], "a broken JPEG: its frame header has a length for more or fewer components")?;
    for _ in 0..components {
        // Any identifier.
        rest.u8()?;
        let sampling = rest.u8()?;
        let is_factor = |factor: u8| matches!(factor, 1..=4);
        require(
            is_factor(sampling >> 4) && is_factor(sampling & 0x0f),
            "a broken JPEG: a sampling factor is not between 1 and 4",
        )?;
        require(rest.u8()? <= 3, "a broken JPEG: a component's quantization table is none of the four")?;
    }
    Ok((width, height))
}

/// Of a marker that may not stand before the frame header, or is a frame header of a kind that is not taken.
fn why_not(marker: u8) -> &'static str {
    match marker {
        0xc3 => "a JPEG that few decoders take: its coding is lossless",
        0xc9 | 0xca => "a JPEG that few decoders take: its coding is arithmetic",
        0xcb => "a JPEG that few decoders take: its coding is lossless and arithmetic",
        0xc5..=0xc7 | 0xcd..=0xcf | 0xde | 0xdf => {
            "a JPEG that few decoders take: its coding is hierarchical"
        }
        0xd8 => "a broken JPEG: it begins a second time (SOI) before its frame header",
        0xd9 => "a broken JPEG: it ends (EOI) before its frame header",
        0xda => "a broken JPEG: a scan begins (SOS) before its frame header",
        0xdc => "a broken JPEG: a number of lines (DNL) comes before its frame header",
        0x00 => "a broken JPEG: where a marker has to be, there is a stuffed FF",
        _ => "a broken JPEG: it has a reserved marker before its frame header",
    }
}

/// PNG 3 §5.2 and §11.2.1: the signature and the whole of IHDR.
fn png(bytes: &[u8]) -> Judged<Size> {
    let mut rest = Bytes(bytes);
    rest.expect(b"\x89PNG\r\n\x1a\n", "no PNG: it does not begin with 89 50 4E 47 0D 0A 1A 0A")?;
    rest.expect(b"\0\0\0\x0dIHDR", "a broken PNG: its first chunk is not an IHDR of 13 bytes")?;
    let size = (png_side(&mut rest)?, png_side(&mut rest)?);
    let depth = rest.u8()?;
    require(matches!(depth, 1 | 2 | 4 | 8 | 16), "a broken PNG: its bit depth is not 1, 2, 4, 8 or 16")?;
    let depths: &[u8] = match rest.u8()? {
        // Grey.
        0 => &[1, 2, 4, 8, 16],
        // RGB, grey with alpha, RGBA.
        2 | 4 | 6 => &[8, 16],
        // A palette.
        3 => &[1, 2, 4, 8],
        _ => return Err(Stop::Invalid("a broken PNG: its color type is not 0, 2, 3, 4 or 6")),
    };
    require(depths.contains(&depth), "a broken PNG: its color type does not come with its bit depth")?;
    rest.expect(&[0], "a broken PNG: its compression method is not 0")?;
    rest.expect(&[0], "a broken PNG: its filter method is not 0")?;
    require(rest.u8()? <= 1, "a broken PNG: its interlace method is neither 0 nor 1")?;
    let checked = bytes.get(IHDR_CHECKED).ok_or(Stop::More)?;
    rest.expect(&crc32(checked).to_be_bytes(), "a broken PNG: the CRC of its IHDR is wrong")?;
    Ok(size)
}

/// Type and data of IHDR, behind the signature and a length.
const IHDR_CHECKED: std::ops::Range<usize> = 8 + 4..8 + 4 + 4 + 13;

/// §7.1: between 1 and 2^31 - 1.
fn png_side(rest: &mut Bytes) -> Judged<u32> {
    let highest = rest.u8()?;
    require(highest < 0x80, "a broken PNG: its width or height is above 2^31 - 1")?;
    let [b, c, d] = rest.array()?;
    let side = u32::from_be_bytes([highest, b, c, d]);
    require(side > 0, "a broken PNG: its width or height is 0")?;
    Ok(side)
}

/// §5.5 (ISO 3309), bit by bit: 17 bytes do not want a table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// RFC 9649 §2.3 to §2.7: the RIFF header and the first chunk, as far as it says a size.
fn webp(mut rest: Bytes) -> Judged<Size> {
    rest.expect(b"RIFF", NO_WEBP)?;
    let riff = u32::from_le_bytes(rest.array()?);
    // Counted from behind this field. The shortest chunk that says a size is lossless.
    let Some(room) = riff.checked_sub(RIFF_BYTES_BEFORE_CHUNK).filter(|&room| room >= LOSSLESS_BYTES_MIN)
    else {
        return Err(Stop::Invalid("a broken WebP: its RIFF size leaves no room for an image"));
    };
    require(riff <= RIFF_BYTES_MAX, "a broken WebP: its RIFF size is above 2^32 - 10")?;
    rest.expect(b"WEBP", NO_WEBP)?;
    rest.expect(b"VP8", FIRST_CHUNK)?;
    match rest.u8()? {
        b' ' => {
            let chunk = chunk_bytes(&mut rest, LOSSY_BYTES_MIN, room)?;
            lossy(rest, chunk)
        }
        b'L' => {
            chunk_bytes(&mut rest, LOSSLESS_BYTES_MIN, room)?;
            lossless(rest)
        }
        b'X' => {
            require(room >= EXTENDED_BYTES, CHUNK_TOO_LARGE)?;
            rest.expect(
                &EXTENDED_BYTES.to_le_bytes(),
                "a broken WebP: its VP8X chunk does not have 10 bytes",
            )?;
            extended(rest)
        }
        _ => Err(Stop::Invalid(FIRST_CHUNK)),
    }
}

/// The size of the first chunk, where the RIFF size has `room` for it.
fn chunk_bytes(rest: &mut Bytes, least: u32, room: u32) -> Judged<u32> {
    require(room >= least, CHUNK_TOO_LARGE)?;
    let chunk = u32::from_le_bytes(rest.array()?);
    require(chunk >= least, "a broken WebP: its first chunk is too short for its header")?;
    require(chunk <= room, CHUNK_TOO_LARGE)?;
    Ok(chunk)
}

/// RFC 6386 §9.1: a key frame's header. `chunk`: the bytes of the chunk it begins.
fn lossy(mut rest: Bytes, chunk: u32) -> Judged<Size> {
    let tag = rest.u8()?;
    require(tag & 1 == 0, "a broken WebP: its VP8 frame is no key frame")?;
    require(tag >> 1 & 7 <= 3, "a broken WebP: its VP8 version is above 3")?;
    require(tag >> 4 & 1 == 1, "a broken WebP: its VP8 frame is not to be shown")?;
    let [b, c] = rest.array()?;
    let partition = u32::from_le_bytes([tag, b, c, 0]) >> 5;
    require(partition < chunk, "a broken WebP: its first VP8 partition is longer than its chunk")?;
    rest.expect(&[0x9d, 0x01, 0x2a], "a broken WebP: its VP8 frame has no start code 9D 01 2A")?;
    Ok((lossy_side(&mut rest)?, lossy_side(&mut rest)?))
}

/// 14 bits; the two above them ask for scaling, which decoders leave to who shows it.
fn lossy_side(rest: &mut Bytes) -> Judged<u32> {
    let side = u32::from(u16::from_le_bytes(rest.array()?) & 0x3fff);
    require(side > 0, "a broken WebP: its width or height is 0")?;
    Ok(side)
}

/// RFC 9649 §3.4: from the lowest bit, each side less one in 14, whether alpha is used, and a version in 3.
fn lossless(mut rest: Bytes) -> Judged<Size> {
    rest.expect(&[0x2f], "a broken WebP: its VP8L chunk does not begin with 2F")?;
    let bits = u32::from_le_bytes(rest.array()?);
    require(bits >> 29 == 0, "a broken WebP: its VP8L version is not 0")?;
    Ok(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
}

/// §2.7.1. What is reserved is to be ignored.
fn extended(mut rest: Bytes) -> Judged<Size> {
    let [_flags, _, _, _] = rest.array()?;
    let [a, b, c] = rest.array()?;
    let width = u32::from_le_bytes([a, b, c, 0]) + 1;
    let [a, b, c] = rest.array()?;
    let height = u32::from_le_bytes([a, b, c, 0]) + 1;
    require(width.checked_mul(height).is_some(), "a broken WebP: its canvas has more than 2^32 - 1 pixels")?;
    Ok((width, height))
}

/// What is left to read.
#[derive(Clone)]
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> Judged<()> {
        self.0 = self.0.get(count..).ok_or(Stop::More)?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Judged<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Stop::More)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Judged<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Takes `wanted`. What is there of it is compared even where it is not all there.
    fn expect(&mut self, wanted: &[u8], otherwise: &'static str) -> Judged<()> {
        require(self.0.iter().zip(wanted).all(|(byte, wanted)| byte == wanted), otherwise)?;
        self.take(wanted.len())
    }
}

fn require(is_so: bool, otherwise: &'static str) -> Judged<()> {
    if is_so { Ok(()) } else { Err(Stop::Invalid(otherwise)) }
}

const NO_JPEG: &str = "no JPEG: it does not begin with FF D8 FF";
const NO_WEBP: &str = "no WebP: it does not begin with \"RIFF\", a size and \"WEBP\"";
const FIRST_CHUNK: &str = "a broken WebP: its first chunk is not VP8, VP8L or VP8X";
const CHUNK_TOO_LARGE: &str = "a broken WebP: its first chunk is larger than its RIFF size allows";

/// RFC 9649 §2.4.
const RIFF_BYTES_MAX: u32 = u32::MAX - 9;
/// "WEBP", and the type and size of the first chunk.
const RIFF_BYTES_BEFORE_CHUNK: u32 = 4 + 8;
/// Frame tag, start code, sides.
const LOSSY_BYTES_MIN: u32 = 3 + 3 + 4;
/// Signature, and sides with version.
const LOSSLESS_BYTES_MIN: u32 = 1 + 4;
const EXTENDED_BYTES: u32 = 10;

#[cfg(test)]
#[path = "image_head_tests.rs"]
mod tests;
