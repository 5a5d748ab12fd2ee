//! Owns the handing over of a PNG to the `png` crate: 8 bits of each sample, the default image of an animation, checked to its IEND.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::decode::{Kind, Pixels};
use super::orient::Orientation;
use crate::inference::image_head::Head;

/// Into `pixels`, which is cleared before.
pub(super) fn decode(image: &[u8], head: &Head, pixels: &mut Vec<u8>) -> Result<Pixels, &'static str> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(image), Limits { bytes: CHUNK_BYTES_MAX });
    // The upper half of 16 bits, a palette's colors, a full range of fewer bits.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    // Compressed: of no use here, and a few bytes of it are as long as one likes.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|_| BROKEN)?;
    let (color, depth) = reader.output_color_type();
    if reader.info().size() != (head.width, head.height) || depth != BitDepth::Eight {
        return Err(BROKEN);
    }
    // W3C PNG 3 §11.2.2. The decoder takes it for granted, and panics where it is not so (png 0.18.1, on a palette of one byte).
    let is_palette =
        |palette: &[u8]| (3..=256 * 3).contains(&palette.len()) && palette.len().is_multiple_of(3);
    if !reader.info().palette.as_deref().is_none_or(is_palette) {
        return Err("a broken PNG: its palette does not have 1 to 256 whole colors");
    }
    pixels.clear();
    pixels.resize(reader.output_buffer_size().ok_or(BROKEN)?, 0);
    let frame = reader.next_frame(pixels).map_err(|_| BROKEN)?;
    if (frame.width, frame.height) != (head.width, head.height) {
        return Err("a broken PNG: its default image is not as large as it says");
    }
    // Also for the EXIF, which may stand behind the pixels.
    reader.finish().map_err(|_| BROKEN)?;
    let exif = reader.info().exif_metadata.as_deref();
    let kind = match color {
        ColorType::Grayscale => Kind::Gray,
        ColorType::GrayscaleAlpha => Kind::GrayAlpha,
        ColorType::Rgb => Kind::Rgb,
        ColorType::Rgba => Kind::Rgba,
        ColorType::Indexed => return Err(BROKEN),
    };
    Ok(Pixels { kind, orientation: exif.map_or(Orientation::default(), Orientation::of_exif) })
}

/// All that is held of chunks without pixels; the largest of use is an EXIF.
pub(super) const CHUNK_BYTES_MAX: usize = 1 << 20;

const BROKEN: &str = "a broken or truncated PNG: its pixels cannot be decoded";
