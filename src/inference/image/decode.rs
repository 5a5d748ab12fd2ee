//! Owns decoding of any format to what scaling takes: one or three channels of 8 bits. Colors go the way of Pillow's `convert("RGB")`:
//! alpha is dropped, not blended.

use super::orient::Orientation;
use super::plan::Channels;
use super::{Scratch, jpeg, png, webp};
use crate::inference::image_head::{Format, Head};

/// What a decoder leaves in `Scratch::pixels`.
pub(super) struct Pixels {
    pub(super) kind: Kind,
    pub(super) orientation: Orientation,
}

/// The samples of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
}

/// Leaves the pixels as stored in `scratch.pixels`; says how many channels they have, and how they stand. Three channels are RGB.
pub(super) fn decode(
    image: &[u8],
    head: &Head,
    wanted: Channels,
    scratch: &mut Scratch,
) -> Result<(usize, Orientation), &'static str> {
    let pixels = &mut scratch.pixels;
    let decoded = match head.format {
        Format::Jpeg => jpeg::decode(image, head, &mut scratch.prepared, pixels)?,
        Format::Png => png::decode(image, head, pixels)?,
        Format::Webp => webp::decode(image, head, pixels)?,
    };
    match (decoded.kind, wanted) {
        // Grey stays so until it is written: the same values for a third of the scaling.
        (Kind::Gray, _) => {}
        (Kind::GrayAlpha, _) => repack(pixels, |&[gray, _]| [gray]),
        (Kind::Rgb, Channels::Gray) => repack(pixels, |&[r, g, b]| [luma(r, g, b)]),
        (Kind::Rgb, _) => {}
        (Kind::Rgba, Channels::Gray) => repack(pixels, |&[r, g, b, _]| [luma(r, g, b)]),
        (Kind::Rgba, _) => repack(pixels, |&[r, g, b, _]| [r, g, b]),
    }
    let is_gray = wanted == Channels::Gray || matches!(decoded.kind, Kind::Gray | Kind::GrayAlpha);
    Ok((if is_gray { 1 } else { 3 }, decoded.orientation))
}

/// Each pixel with fewer samples, in place.
fn repack<const FROM: usize, const TO: usize>(pixels: &mut Vec<u8>, make: impl Fn(&[u8; FROM]) -> [u8; TO]) {
    const { assert!(TO <= FROM, "a pixel is never written over one that is yet to be read") };
    let count = pixels.len() / FROM;
    for at in 0..count {
        let Some(pixel) = pixels[at * FROM..].first_chunk::<FROM>() else { break };
        let made = make(pixel);
        pixels[at * TO..][..TO].copy_from_slice(&made);
    }
    pixels.truncate(count * TO);
}

/// ITU-R 601, in 16 bits of fraction, rounded.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}
