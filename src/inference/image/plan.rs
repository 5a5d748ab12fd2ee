//! Owns what a model wants of an image, checked and compiled once when a config is loaded: size, channels, layout, datatype, and the
//! tensor value of each of a pixel's 256 levels. Touches no image.

use super::float::{to_bf16, to_f16};
use crate::inference::tensor::Datatype;

/// What a person may write of a model's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// In pixels, of the tensor.
    pub width: u32,
    pub height: u32,
    pub channels: Channels,
    pub fit: Fit,
    /// UINT8, FP16, BF16 or FP32.
    pub datatype: Datatype,
    pub layout: Layout,
    /// A value is `(level * scale - mean) / std`, in f32, of a level between 0 and 255. `mean` and `std` stand in the order of
    /// the tensor's channels: of BGR, blue is first. Grey has the first only. UINT8 has the levels as they are.
    pub scale: f32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    Rgb,
    Bgr,
    /// ITU-R 601 luma of RGB, taken before the image is scaled.
    Gray,
}

/// How an image of one aspect ratio becomes one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Each side scaled by itself.
    Stretch,
    /// All of it, scaled evenly and centred between bars of this level (Pillow's `ImageOps.pad`).
    Letterbox { pad: u8 },
    /// Scaled evenly until it covers, and what stands over cut off on both sides (torchvision's `Resize` and `CenterCrop`).
    Crop,
}

/// Where the channels stand; rows from the top, pixels from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A plane for each channel.
    Nchw,
    /// A pixel's channels side by side.
    Nhwc,
}

/// What every image of a model is turned into.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) wanted: Wanted,
    pub(super) levels: Levels,
}

/// The value of each level, for each channel of the tensor, so that neither arithmetic nor rounding is left for the images.
#[derive(Debug, Clone)]
pub(super) enum Levels {
    Same,
    Bits16(Box<[[u16; 256]; 3]>),
    Bits32(Box<[[f32; 256]; 3]>),
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            width: 224,
            height: 224,
            channels: Channels::Rgb,
            fit: Fit::Stretch,
            datatype: Datatype::Fp32,
            layout: Layout::Nchw,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }
}

impl Plan {
    /// An error says what of it cannot be had.
    pub fn new(wanted: Wanted) -> Result<Plan, &'static str> {
        let is_side = |side: u32| (1..=SIDE_MAX).contains(&side);
        if !is_side(wanted.width) || !is_side(wanted.height) {
            return Err("a side of an image tensor is between 1 and 8192 pixels");
        }
        let levels = Levels::of(&wanted)?;
        Ok(Plan { wanted, levels })
    }

    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Bytes of one image in the tensor.
    pub fn element_bytes(&self) -> usize {
        let size = match self.levels {
            Levels::Same => 1,
            Levels::Bits16(_) => 2,
            Levels::Bits32(_) => 4,
        };
        self.pixels() * self.wanted.channels.count() * size
    }

    /// Of one image, without the dimension of the batch.
    pub fn shape(&self) -> [u64; 3] {
        let (width, height) = (u64::from(self.wanted.width), u64::from(self.wanted.height));
        let channels = self.wanted.channels.count() as u64;
        match self.wanted.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }

    pub(super) fn pixels(&self) -> usize {
        self.wanted.width as usize * self.wanted.height as usize
    }
}

impl Channels {
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Gray => 1,
        }
    }
}

impl Levels {
    fn of(wanted: &Wanted) -> Result<Levels, &'static str> {
        let plain = Wanted { scale: 1.0, mean: [0.0; 3], std: [1.0; 3], ..wanted.clone() };
        match wanted.datatype {
            Datatype::Uint8 if *wanted == plain => Ok(Levels::Same),
            Datatype::Uint8 => Err("UINT8 has the pixels as they are: no scale, mean or std goes with it"),
            Datatype::Fp32 => values(wanted, |value| value, f32::is_finite).map(Levels::Bits32),
            Datatype::Fp16 => values(wanted, to_f16, |bits| bits & 0x7c00 != 0x7c00).map(Levels::Bits16),
            Datatype::Bf16 => values(wanted, to_bf16, |bits| bits & 0x7f80 != 0x7f80).map(Levels::Bits16),
            _ => Err("an image becomes a tensor of UINT8, FP16, BF16 or FP32"),
        }
    }
}

/// In the order of the operations of numpy on f32, so that a value is what it would be in training.
fn values<T: Copy + Default>(
    wanted: &Wanted,
    convert: impl Fn(f32) -> T,
    is_finite: impl Fn(T) -> bool,
) -> Result<Box<[[T; 256]; 3]>, &'static str> {
    let mut values = Box::new([[T::default(); 256]; 3]);
    for (channel, values) in values.iter_mut().enumerate() {
        let (mean, std) = (wanted.mean[channel], wanted.std[channel]);
        for (level, value) in values.iter_mut().enumerate() {
            *value = convert((level as f32 * wanted.scale - mean) / std);
            if !is_finite(*value) {
                return Err(
                    "with this scale, mean and std, not every pixel is a finite value of the datatype",
                );
            }
        }
    }
    Ok(values)
}

/// In pixels: a tensor of 768 MiB.
const SIDE_MAX: u32 = 8192;
