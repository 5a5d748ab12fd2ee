//! An encoded image becomes the data of a tensor: judged by its head, decoded, set upright, scaled, and written as the model wants it.
//! Owns that order, its bounds, and the room it works in. Pure: no I/O, no thread, no clock; a caller brings the bytes and decides
//! where and when. A batch is for the caller, who appends one image after the other.
//!
//! ```text
//! head      image_head: valid, and within the limits          → Wrong, before any room is taken
//! decode    jpeg, png, webp → 8 bits of grey or RGB, as stored → decode
//! scale     the part that the fit leaves, to the plan's sides  → resize
//! turn      upright, by the EXIF's orientation, now that it is small → orient
//! write     each level's value by the plan's tables            → normalise
//! ```

mod decode;
mod float;
mod jpeg;
mod normalise;
mod orient;
mod plan;
mod png;
mod resize;
mod webp;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fast_image_resize::Resizer;

pub use self::plan::{Channels, Fit, Layout, Plan, Wanted};
use self::resize::Geometry;
use super::image_head::{Format, Head, Scanner, Seen};

/// How large an image may be, as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub pixels_max: u64,
    /// In pixels, of each side.
    pub side_max: u32,
}

/// Why there is no tensor. A retry with the same image changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Not a whole, valid image of its format: 400.
    Invalid(&'static str),
    /// One that is larger than the limits: 422.
    TooLarge { width: u32, height: u32 },
}

/// Room that one conversion leaves to the next. Between them it holds at most `4 * KEPT_BYTES_MAX`.
#[derive(Default)]
pub struct Scratch {
    /// A JPEG as its decoder sees it.
    prepared: Vec<u8>,
    /// As stored in the image.
    pixels: Vec<u8>,
    scaled: Vec<u8>,
    upright: Vec<u8>,
    resizer: Resizer,
}

/// Appends exactly `plan.element_bytes()` to `out`, or nothing.
pub fn to_tensor(
    encoded: &[u8],
    format: Format,
    plan: &Plan,
    limits: &Limits,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let head = head(encoded, format)?;
    limits.judge(&head)?;
    let start = out.len();
    // The decoders are others' code, and the bytes are anyone's. None of them is known to panic; were one found to, it costs one image.
    let caught = catch_unwind(AssertUnwindSafe(|| convert(encoded, &head, plan, scratch, out)));
    scratch.trim();
    let result = caught.unwrap_or(Err(DECODER_FAILED)).map_err(Wrong::Invalid);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Said of an image that made a decoder panic. Tests look for it.
pub const DECODER_FAILED: &str = "its decoder failed";

fn convert(
    encoded: &[u8],
    head: &Head,
    plan: &Plan,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let (channels, orientation) = decode::decode(encoded, head, plan.wanted.channels, scratch)?;
    let Scratch { pixels, scaled, upright, resizer, .. } = scratch;
    let sides = (head.width, head.height);
    let geometry = Geometry::of(&plan.wanted, orientation.turned(sides));
    let (from, to) = resize::stored(&geometry, orientation, orientation.turned(sides));
    resize::scale(resizer, pixels, sides, channels, from, to, scaled);
    let ready = match orientation == orient::Orientation::default() {
        true => scaled,
        false => {
            orientation.apply(scaled, to.0, channels, upright);
            upright
        }
    };
    normalise::write(plan, &geometry, ready, channels, out);
    Ok(())
}

/// The head of a whole image.
pub fn head(encoded: &[u8], format: Format) -> Result<Head, Wrong> {
    let mut scanner = Scanner::new(format);
    let seen = scanner.push(encoded).and_then(|seen| match seen {
        Seen::Head(head) => Ok(head),
        Seen::More => scanner.finish(),
    });
    seen.map_err(|invalid| Wrong::Invalid(invalid.0))
}

impl Limits {
    pub fn judge(&self, head: &Head) -> Result<(), Wrong> {
        let Head { width, height, .. } = *head;
        let pixels = u64::from(width) * u64::from(height);
        match width.max(height) > self.side_max || pixels > self.pixels_max {
            true => Err(Wrong::TooLarge { width, height }),
            false => Ok(()),
        }
    }
}

impl Scratch {
    /// Gives back what only a huge image needs, so that one does not cost each worker its room for good.
    fn trim(&mut self) {
        for room in [&mut self.prepared, &mut self.pixels, &mut self.scaled, &mut self.upright] {
            if room.capacity() > KEPT_BYTES_MAX {
                *room = Vec::new();
            }
        }
        if self.resizer.size_of_internal_buffers() > KEPT_BYTES_MAX {
            self.resizer.reset_internal_buffers();
        }
    }
}

/// Of each buffer: a photograph of 2.7 megapixels.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Bytes that converting this image takes at most, beside the encoded ones: pixels, what decoder and scaling hold, and the tensor. For
/// admission, before anything of it is taken. Cheap: of a JPEG it looks at the segments before the first scan.
pub fn memory_needed(encoded: &[u8], head: &Head, plan: &Plan) -> u64 {
    let (width, height) = (u64::from(head.width), u64::from(head.height));
    let pixels = width * height;
    let encoded_bytes = encoded.len() as u64;
    let decoding = match head.format {
        Format::Jpeg => encoded_bytes + jpeg::memory_needed(encoded, width, height),
        // RGBA; two rows of 16 bits, the widest there are, and a window of zlib.
        Format::Png => pixels * 4 + width * 8 * 3 + png::CHUNK_BYTES_MAX as u64 + FIXED_BYTES,
        // RGBA of an animation's canvas, frame and result, with the planes of lossy coding and the alpha beside them; the coded data.
        Format::Webp => encoded_bytes * 2 + (width + 16) * (height + 16) * 16 + FIXED_BYTES,
    };
    let (wide, high) = (u64::from(plan.wanted.width), u64::from(plan.wanted.height));
    // Rows scaled and columns not yet, all scaled, all upright; weights, of 8 and then 2 bytes, for up to three sources a pixel.
    let scaling = wide.max(high) * height * 3 + wide * high * 3 * 2 + (width + height + wide + high) * 3 * 32;
    decoding + scaling + plan.element_bytes() as u64
}

/// Tables, small buffers and what an allocator rounds up.
const FIXED_BYTES: u64 = 512 << 10;

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Invalid(words) => f.write_str(words),
            Wrong::TooLarge { width, height } => {
                write!(f, "an image of {width}x{height} pixels is larger than is allowed")
            }
        }
    }
}

impl std::error::Error for Wrong {}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
