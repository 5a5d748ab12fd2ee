//! Owns what is needed of a JPEG's segments before its pixels are decoded (where it ends, how it is coded, how it stands), and the
//! handing over to `zune-jpeg`, which is lenient where we are not: a scan that ends early is an error here, never a grey half.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::FIXED_BYTES;
use super::decode::{Kind, Pixels};
use super::orient::Orientation;
use crate::inference::image_head::Head;

/// The segments of one image, in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) orientation: Orientation,
    has_exif: bool,
    has_jfif: bool,
    has_tables: bool,
    /// The offset of the color transform in an Adobe segment (APP14), and the transform.
    adobe: Option<(usize, u8)>,
    components: u8,
    /// By the names of its components, which the decoder goes by before all else.
    is_named_rgb: bool,
    is_subsampled_down: bool,
    is_progressive: bool,
    scans: usize,
    /// Components of the first scan, and of all.
    interleaved: u8,
    scanned: usize,
    /// The offset of EOI.
    end: usize,
}

impl Segments {
    /// To the end of the image; what follows it (another image, of phones) is not looked at. Reads each byte of the scans once.
    pub(super) fn read(image: &[u8]) -> Result<Segments, &'static str> {
        let mut segments = Segments::default();
        // SOI, which the head was judged by.
        let mut at = 2;
        loop {
            if image.get(at).ok_or(TRUNCATED)? != &0xff {
                return Err("a broken JPEG: where a marker has to be, there is none");
            }
            let fill = image[at..].iter().take_while(|&&byte| byte == 0xff).count();
            at += fill;
            let marker = *image.get(at).ok_or(TRUNCATED)?;
            at += 1;
            match marker {
                0x01 | 0xd0..=0xd7 => continue,
                0xd9 => {
                    segments.end = at - 2;
                    return segments.judged();
                }
                0x00 | 0x02..=0xbf | 0xd8 => {
                    return Err("a broken JPEG: it has a marker that may not be there");
                }
                _ => {}
            }
            let length = image.get(at..at + 2).ok_or(TRUNCATED)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let body = image.get(at..at + length).ok_or(TRUNCATED)?;
            let body = body.get(2..).ok_or("a broken JPEG: a segment's length is below 2")?;
            segments.note(marker, body, at + 2);
            at += length;
            if marker == 0xda {
                at = scan_end(image, at).ok_or(TRUNCATED)?;
            }
        }
    }

    /// `at`: the offset of `body`.
    fn note(&mut self, marker: u8, body: &[u8], at: usize) {
        match (marker, body) {
            (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => self.has_jfif = true,
            (0xe1, [b'E', b'x', b'i', b'f', 0, 0, exif @ ..]) if !self.has_exif => {
                self.has_exif = true;
                self.orientation = Orientation::of_exif(exif);
            }
            (0xee, [b'A', b'd', b'o', b'b', b'e', ..]) if body.len() > ADOBE_TRANSFORM => {
                self.adobe = Some((at + ADOBE_TRANSFORM, body[ADOBE_TRANSFORM]));
            }
            (0xc0..=0xc2, [_, _, _, _, _, components, each @ ..]) => {
                self.is_progressive = marker == 0xc2;
                self.components = *components;
                let each = each.as_chunks::<3>().0;
                self.is_named_rgb = each.iter().map(|&[name, _, _]| name).eq(*b"RGB");
                self.is_subsampled_down = each.iter().any(|&[_, factors, _]| factors & 0x0f > 1);
            }
            (0xc4, _) => self.has_tables = true,
            (0xda, &[components, ..]) => {
                self.scans += 1;
                self.scanned += usize::from(components);
                if self.scans == 1 {
                    self.interleaved = components;
                }
            }
            _ => {}
        }
    }

    fn judged(self) -> Result<Segments, &'static str> {
        match self.scans {
            0 => Err("a broken JPEG: it has no scan"),
            // Each costs a pass over the image, for a few bytes of who sends it.
            scans if scans > SCANS_MAX => Err("a JPEG with more scans than any encoder makes"),
            _ if self.is_progressive => Ok(self),
            _ if self.scanned != usize::from(self.components) => {
                Err("a broken JPEG: its baseline scans do not have each component once")
            }
            // The decoder reads too few rows of such a one, and does not notice.
            scans if scans > 1 && self.is_subsampled_down => Err(
                "a JPEG that few decoders take: a baseline scan for each component, and vertical subsampling",
            ),
            _ => Ok(self),
        }
    }

    /// Whether all of the image is held as coefficients before there are pixels.
    pub(super) fn needs_coefficients(&self) -> bool {
        self.is_progressive || self.interleaved < self.components
    }

    /// The colors that the decoder is asked for, and what there is of samples then. CMYK and YCCK become RGB, taken as stored upside
    /// down, as Adobe does and everyone therefore assumes.
    fn colors(&self) -> (ColorSpace, Kind) {
        match (self.components, self.adobe) {
            (1, _) => (ColorSpace::Luma, Kind::Gray),
            // RGB itself, unless JFIF says otherwise: `prepare` calls it YCbCr, so that the samples come as they are.
            (3, Some((_, 0))) if !self.has_jfif && !self.is_named_rgb => (ColorSpace::YCbCr, Kind::Rgb),
            _ => (ColorSpace::RGB, Kind::Rgb),
        }
    }

    /// Writes the image as the decoder is to see it.
    fn prepare(&self, image: &[u8], prepared: &mut Vec<u8>) {
        prepared.clear();
        prepared.extend_from_slice(&image[..self.end]);
        if let Some((at, transform)) = self.adobe {
            match self.components {
                // The decoder would take a grey image for what the segment says; without its name it is none.
                1 => prepared[at - ADOBE_TRANSFORM] = b'a',
                3 => prepared[at] = 1,
                // As libjpeg does: what is not 0 is YCCK.
                _ => prepared[at] = if transform == 0 { 0 } else { 2 },
            }
        }
        if !self.has_tables {
            // Of a camera's motion JPEG, which leaves out the tables that everyone knows. The name has them filled in.
            prepared.splice(2..2, *b"\xff\xe0\0\x07AVI1\0");
        }
        match self.is_progressive {
            // Its decoder looks for the marker.
            true => prepared.extend_from_slice(b"\xff\xd9"),
            // Ones, which no Huffman code consists of (T.81 §C): where the scan is short of blocks, this fails. At EOI the
            // decoder would go on with zeros.
            false => prepared.extend_from_slice(&[0xff, 0].repeat(16)),
        }
    }
}

/// Behind the coded data that begins at `at`: where the next marker stands that is neither a restart nor a stuffed FF.
fn scan_end(image: &[u8], mut at: usize) -> Option<usize> {
    loop {
        // Sixteen at a time, as most of a scan is not FF.
        let clean = image[at..].chunks_exact(16).take_while(|chunk| !chunk.contains(&0xff)).count();
        at += clean * 16;
        at += image[at..].iter().position(|&byte| byte == 0xff)?;
        match image.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

/// Into `pixels`, which is cleared before. `prepared` is room that the decoder reads from.
pub(super) fn decode(
    image: &[u8],
    head: &Head,
    prepared: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Pixels, &'static str> {
    let segments = Segments::read(image)?;
    segments.prepare(image, prepared);
    let (colors, kind) = segments.colors();
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(head.width as usize)
        .set_max_height(head.height as usize)
        .jpeg_set_max_scans(SCANS_MAX)
        .jpeg_set_out_colorspace(colors);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(prepared.as_slice()), options);
    decoder.decode_headers().map_err(|_| BROKEN)?;
    if decoder.dimensions() != Some((head.width as usize, head.height as usize)) {
        return Err(BROKEN);
    }
    // Zeroed, not only made as long: the decoder may leave rows of a broken image as they were, and they were another's.
    pixels.clear();
    pixels.resize(decoder.output_buffer_size().ok_or(BROKEN)?, 0);
    decoder.decode_into(pixels).map_err(|_| BROKEN)?;
    Ok(Pixels { kind, orientation: segments.orientation })
}

/// Bytes that decoding takes at most, beside the encoded ones. `FIXED_BYTES` are in it.
pub(super) fn memory_needed(image: &[u8], width: u64, height: u64) -> u64 {
    // Units of up to 4 x 4 blocks.
    let padded = (width + 31) * (height + 31);
    let coefficients = match Segments::read(image).is_ok_and(|segments| !segments.needs_coefficients()) {
        true => 0,
        false => padded * 2 * 4,
    };
    // Pixels of up to four samples, and a row of units as samples of 16 bits, upsampled, and what upsampling works in.
    width * height * 4 + coefficients + (width + 31) * 32 * 2 * 4 * 3 + FIXED_BYTES
}

/// Behind the name, a version and two words of flags.
const ADOBE_TRANSFORM: usize = 11;
/// Encoders make about ten.
const SCANS_MAX: usize = 64;

const TRUNCATED: &str = "a truncated JPEG: it ends before its end of image (EOI)";
const BROKEN: &str = "a broken JPEG: its pixels cannot be decoded";

#[cfg(test)]
#[path = "jpeg_tests.rs"]
mod tests;
