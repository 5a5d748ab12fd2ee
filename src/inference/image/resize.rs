//! Owns the geometry of a conversion (which part of the image goes where in the tensor) and the scaling. Scaling is Pillow's
//! `resize` with BILINEAR: a triangle as wide as the reduction, along rows and then columns, each rounded to 8 bits.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::orient::{Area, Orientation};
use super::plan::{Fit, Wanted};

/// In pixels of upright images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Geometry {
    /// Of the image.
    pub(super) from: Area,
    /// Of the tensor, where it goes: left, top, and sides.
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Geometry {
    /// For an image of these sides.
    pub(super) fn of(wanted: &Wanted, (width, height): (u32, u32)) -> Geometry {
        let all = [0.0, 0.0, f64::from(width), f64::from(height)];
        let stretched = Geometry { from: all, left: 0, top: 0, width: wanted.width, height: wanted.height };
        match wanted.fit {
            Fit::Stretch => stretched,
            Fit::Letterbox { .. } => letterbox(stretched, (width, height)),
            Fit::Crop => Geometry { from: crop((wanted.width, wanted.height), (width, height)), ..stretched },
        }
    }
}

/// Rounds as `ImageOps.pad` does: a side, and then a bar, to the nearest, ties to even.
fn letterbox(stretched: Geometry, (width, height): (u32, u32)) -> Geometry {
    let (wide, high) = (f64::from(stretched.width), f64::from(stretched.height));
    let (ratio, wanted_ratio) = (f64::from(width) / f64::from(height), wide / high);
    // An image so thin that it would vanish keeps a pixel.
    let side = |length: f64| (length.round_ties_even() as u32).max(1);
    let bar = |room: u32| (f64::from(room) * 0.5).round_ties_even() as u32;
    match () {
        () if ratio > wanted_ratio => {
            let height = side(f64::from(height) / f64::from(width) * wide);
            Geometry { top: bar(stretched.height - height), height, ..stretched }
        }
        () if ratio < wanted_ratio => {
            let width = side(ratio * high);
            Geometry { left: bar(stretched.width - width), width, ..stretched }
        }
        () => stretched,
    }
}

/// The part of the image that remains. As torchvision does, the longer side of the scaled image is rounded down, and the first cut to
/// the nearest, ties to even. Scaling this part alone yields the same pixels as scaling all and cutting then.
fn crop((wide, high): (u32, u32), (width, height): (u32, u32)) -> Area {
    let [wide, high, width, height] = [wide, high, width, height].map(u64::from);
    // Whether the width is what just covers.
    let (scaled_wide, scaled_high) = match wide * height >= high * width {
        true => (wide, wide * height / width),
        false => (high * width / height, high),
    };
    let part = |side: u64, scaled: u64, wanted: u64| {
        let cut = ((scaled - wanted) as f64 / 2.0).round_ties_even();
        let step = side as f64 / scaled as f64;
        (cut * step, ((cut + wanted as f64) * step).min(side as f64))
    };
    let (left, right) = part(width, scaled_wide, wide);
    let (top, bottom) = part(height, scaled_high, high);
    [left, top, right, bottom]
}

/// Scales the area of an image into `scaled`, which becomes as large as `to` asks. `sides` are those of `pixels`, which have one or
/// three channels.
pub(super) fn scale(
    resizer: &mut Resizer,
    pixels: &[u8],
    sides: (u32, u32),
    channels: usize,
    from: Area,
    to: (u32, u32),
    scaled: &mut Vec<u8>,
) {
    scaled.clear();
    scaled.resize(to.0 as usize * to.1 as usize * channels, 0);
    match channels {
        1 => scale_typed::<U8>(resizer, pixels, sides, from, to, scaled),
        _ => scale_typed::<U8x3>(resizer, pixels, sides, from, to, scaled),
    }
}

fn scale_typed<P: InnerPixel + PixelTrait>(
    resizer: &mut Resizer,
    pixels: &[u8],
    sides: (u32, u32),
    [left, top, right, bottom]: Area,
    to: (u32, u32),
    scaled: &mut [u8],
) {
    // The buffers are as large as their sides say, and `from` lies within the image: both are of our own making.
    let from =
        TypedImageRef::<P>::from_buffer(sides.0, sides.1, pixels).expect("as many pixels as its sides say");
    let mut into = TypedImage::<P>::from_buffer(to.0, to.1, scaled).expect("as many pixels as its sides say");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        left,
        top,
        right - left,
        bottom - top,
    );
    resizer.resize_typed(&from, &mut into, &options).expect("a part of the image");
}

/// The area and sides in the stored image that an upright geometry takes.
pub(super) fn stored(
    geometry: &Geometry,
    orientation: Orientation,
    upright: (u32, u32),
) -> (Area, (u32, u32)) {
    (orientation.stored(geometry.from, upright), orientation.turned((geometry.width, geometry.height)))
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
