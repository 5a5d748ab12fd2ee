//! Owns the check of a WebP's container (RFC 9649 §2) before anything of it is decoded, and the handing over to `image-webp`: every
//! chunk is whole, and every frame as large as is said outside of it, as the decoder allocates by the word of either.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::decode::{Kind, Pixels};
use super::orient::Orientation;
use crate::inference::image_head::Head;

/// Into `pixels`, which is cleared before.
pub(super) fn decode(image: &[u8], head: &Head, pixels: &mut Vec<u8>) -> Result<Pixels, &'static str> {
    let container = Container::read(image, head)?;
    let mut decoder = WebPDecoder::new(Cursor::new(container.image)).map_err(|_| BROKEN)?;
    if decoder.dimensions() != (head.width, head.height) {
        return Err(BROKEN);
    }
    pixels.clear();
    pixels.resize(decoder.output_buffer_size().ok_or(BROKEN)?, 0);
    decoder.read_image(pixels).map_err(|_| BROKEN)?;
    let kind = if decoder.has_alpha() { Kind::Rgba } else { Kind::Rgb };
    Ok(Pixels { kind, orientation: container.orientation })
}

struct Container<'i> {
    /// Without what stands behind it.
    image: &'i [u8],
    orientation: Orientation,
}

impl<'i> Container<'i> {
    fn read(image: &'i [u8], head: &Head) -> Result<Self, &'static str> {
        // "RIFF", a size, "WEBP", which the head was judged by.
        let size = image.get(4..8).and_then(|size| size.try_into().ok()).map(u32::from_le_bytes);
        let end = size.and_then(|size| (size as usize).checked_add(8)).ok_or(TRUNCATED)?;
        let image = image.get(..end).ok_or(TRUNCATED)?;
        let mut chunks = Chunks(&image[RIFF_BYTES.min(image.len())..]);
        let mut orientation = None;
        while let Some((name, body)) = chunks.next()? {
            match &name {
                b"EXIF" if orientation.is_none() => {
                    orientation = Some(Orientation::of_exif(body.strip_prefix(b"Exif\0\0").unwrap_or(body)));
                }
                b"ANMF" => frame(body, head)?,
                _ => still(&name, body, (head.width, head.height))?,
            }
        }
        Ok(Container { image, orientation: orientation.unwrap_or_default() })
    }
}

/// §2.7.1.1: a frame of an animation lies within the canvas, and what is in it is as large as it.
fn frame(body: &[u8], head: &Head) -> Result<(), &'static str> {
    let three =
        |at: usize| Some(u32::from_le_bytes([*body.get(at)?, *body.get(at + 1)?, *body.get(at + 2)?, 0]));
    let sides = || Some((three(0)? * 2, three(3)? * 2, three(6)? + 1, three(9)? + 1));
    let (x, y, width, height) = sides().ok_or(FRAME)?;
    if x + width > head.width || y + height > head.height {
        return Err(FRAME);
    }
    let mut chunks = Chunks(body.get(FRAME_BYTES..).ok_or(FRAME)?);
    while let Some((name, body)) = chunks.next()? {
        still(&name, body, (width, height))?;
    }
    Ok(())
}

/// A chunk with pixels is of this size; of others nothing is said.
fn still(name: &[u8; 4], body: &[u8], sides: (u32, u32)) -> Result<(), &'static str> {
    let said = match (name, body) {
        // RFC 6386 §9.1: a frame tag, a start code, and 14 bits of each side.
        (b"VP8 ", &[_, _, _, _, _, _, a, b, c, d, ..]) => {
            (u32::from(u16::from_le_bytes([a, b]) & 0x3fff), u32::from(u16::from_le_bytes([c, d]) & 0x3fff))
        }
        // RFC 9649 §3.4: 14 bits of each side less one, behind a signature.
        (b"VP8L", &[_, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([a, b, c, d]);
            ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
        }
        (b"VP8 " | b"VP8L", _) => return Err(FRAME),
        _ => return Ok(()),
    };
    if said == sides { Ok(()) } else { Err(FRAME) }
}

/// A name and what it names.
type Chunk<'i> = ([u8; 4], &'i [u8]);

/// Whole ones only. The last may lack its padding.
struct Chunks<'i>(&'i [u8]);

impl<'i> Chunks<'i> {
    fn next(&mut self) -> Result<Option<Chunk<'i>>, &'static str> {
        let Some((name, rest)) = self.0.split_first_chunk::<4>() else {
            return if self.0.is_empty() { Ok(None) } else { Err(TRUNCATED) };
        };
        let (size, rest) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        let size = u32::from_le_bytes(*size) as usize;
        let body = rest.get(..size).ok_or(TRUNCATED)?;
        self.0 = rest.get(size.next_multiple_of(2)..).unwrap_or_default();
        Ok(Some((*name, body)))
    }
}

/// "RIFF", a size, "WEBP".
const RIFF_BYTES: usize = 12;
/// Place, sides, duration and flags of a frame.
const FRAME_BYTES: usize = 16;

const TRUNCATED: &str = "a truncated WebP: it ends before its RIFF size or a chunk's is reached";
const FRAME: &str = "a broken WebP: a frame is not as large as is said outside of it";
const BROKEN: &str = "a broken WebP: its pixels cannot be decoded";
