//! Owns the orientation of an image: read from its EXIF (CIPA DC-008 §4.6, a TIFF 6.0 directory), carried over to boxes and sides,
//! and applied to pixels. Knows no image format: where the EXIF lies is for `jpeg`, `png` and `webp`.

/// What is to be done to the stored image, in this order, so that it stands upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation {
    /// Rows become columns.
    pub(super) transposes: bool,
    /// Left and right, then top and bottom, change places.
    pub(super) mirrors_x: bool,
    pub(super) mirrors_y: bool,
}

/// A part of an image, in pixels: left, top, right, bottom.
pub(super) type Area = [f64; 4];

impl Orientation {
    /// Of an EXIF without its `Exif\0\0`. What cannot be understood says nothing.
    pub(super) fn of_exif(exif: &[u8]) -> Orientation {
        Orientation::of_tag(tag(exif).unwrap_or(1))
    }

    /// By the value of the tag: where the stored row 0 and column 0 are seen.
    fn of_tag(value: u16) -> Orientation {
        let [transposes, mirrors_x, mirrors_y] = match value {
            2 => [false, true, false],
            3 => [false, true, true],
            4 => [false, false, true],
            5 => [true, false, false],
            6 => [true, true, false],
            7 => [true, true, true],
            8 => [true, false, true],
            // 1, and what is reserved.
            _ => [false, false, false],
        };
        Orientation { transposes, mirrors_x, mirrors_y }
    }

    /// The sides of one as those of the other.
    pub(super) fn turned(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.transposes { (height, width) } else { (width, height) }
    }

    /// Where an area of the upright image, which has these sides, lies in the stored one.
    pub(super) fn stored(self, [left, top, right, bottom]: Area, (width, height): (u32, u32)) -> Area {
        let flip = |mirrors: bool, low: f64, high: f64, side: u32| match mirrors {
            true => (f64::from(side) - high, f64::from(side) - low),
            false => (low, high),
        };
        let (left, right) = flip(self.mirrors_x, left, right, width);
        let (top, bottom) = flip(self.mirrors_y, top, bottom, height);
        if self.transposes { [top, left, bottom, right] } else { [left, top, right, bottom] }
    }

    /// Writes the stored pixels upright into `upright`. `width` is that of `stored`, whose pixels have so many channels.
    pub(super) fn apply(self, stored: &[u8], width: u32, channels: usize, upright: &mut Vec<u8>) {
        let width = width as usize;
        let height = stored.len() / channels / width;
        let (across, down) = if self.transposes { (height, width) } else { (width, height) };
        upright.clear();
        upright.reserve(stored.len());
        for y in 0..down {
            let y = if self.mirrors_y { down - 1 - y } else { y };
            for x in 0..across {
                let x = if self.mirrors_x { across - 1 - x } else { x };
                let (column, row) = if self.transposes { (y, x) } else { (x, y) };
                let at = (row * width + column) * channels;
                upright.extend_from_slice(&stored[at..at + channels]);
            }
        }
    }
}

/// The value of tag 0x0112 of the first directory.
fn tag(exif: &[u8]) -> Option<u16> {
    let is_little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let count = usize::from(short(directory)?);
    let first = directory.checked_add(2)?;
    let at = (0..count).map(|entry| first + entry * ENTRY_BYTES).find(|&at| short(at) == Some(0x0112))?;
    // One SHORT, which stands in the entry itself.
    (short(at + 2)? == 3 && long(at + 4)? == 1).then(|| short(at + 8))?
}

/// Tag, type, count, value.
const ENTRY_BYTES: usize = 12;

#[cfg(test)]
#[path = "orient_tests.rs"]
mod tests;
