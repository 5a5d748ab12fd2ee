//! Owns the last step: the pixels of the scaled image become the values of the tensor, channel by channel, between bars where the image
//! does not fill it. Values come from the plan's tables; nothing is computed here.

use super::plan::{Channels, Fit, Layout, Levels, Plan};
use super::resize::Geometry;

/// Appends the tensor's bytes. `pixels` are those of the geometry's place, upright, with one or three channels.
pub(super) fn write(plan: &Plan, geometry: &Geometry, pixels: &[u8], channels: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + plan.element_bytes(), 0);
    let out = &mut out[start..];
    let place = Place { plan, geometry, pixels, channels };
    match &plan.levels {
        Levels::Same => {
            place.write(&std::array::from_fn(|_| std::array::from_fn(|level| [level as u8])), out)
        }
        Levels::Bits16(values) => place.write(&values.map(|channel| channel.map(u16::to_le_bytes)), out),
        Levels::Bits32(values) => place.write(&values.map(|channel| channel.map(f32::to_le_bytes)), out),
    }
}

struct Place<'p> {
    plan: &'p Plan,
    geometry: &'p Geometry,
    pixels: &'p [u8],
    channels: usize,
}

/// The bytes of each level's value, for each channel of the tensor.
type Values<const N: usize> = [[[u8; N]; 256]; 3];

impl Place<'_> {
    fn write<const N: usize>(&self, values: &Values<N>, out: &mut [u8]) {
        let out = out.as_chunks_mut::<N>().0;
        let wanted = &self.plan.wanted;
        let is_full = self.geometry.width == wanted.width && self.geometry.height == wanted.height;
        if let (Fit::Letterbox { pad }, false) = (wanted.fit, is_full) {
            self.pad(values, pad, out);
        }
        match (wanted.layout, wanted.channels) {
            (_, Channels::Gray) => self.plane(out, &values[0], 0),
            (Layout::Nchw, _) => {
                for (channel, plane) in out.chunks_exact_mut(self.plan.pixels()).enumerate() {
                    self.plane(plane, &values[channel], self.sample(channel));
                }
            }
            (Layout::Nhwc, _) => self.interleaved(out.as_chunks_mut::<3>().0, values),
        }
    }

    /// The sample of a pixel that a channel of the tensor shows.
    fn sample(&self, channel: usize) -> usize {
        match self.plan.wanted.channels {
            _ if self.channels == 1 => 0,
            Channels::Bgr => 2 - channel,
            Channels::Rgb | Channels::Gray => channel,
        }
    }

    /// All of the tensor, as the image is written over it.
    fn pad<const N: usize>(&self, values: &Values<N>, pad: u8, out: &mut [[u8; N]]) {
        let bar = values.each_ref().map(|channel| channel[usize::from(pad)]);
        match self.plan.wanted.layout {
            Layout::Nchw => {
                let planes = out.chunks_exact_mut(self.plan.pixels());
                planes.zip(bar).for_each(|(plane, bar)| plane.fill(bar));
            }
            Layout::Nhwc => {
                let count = self.plan.wanted.channels.count();
                out.chunks_exact_mut(count).for_each(|pixel| pixel.copy_from_slice(&bar[..count]));
            }
        }
    }

    fn plane<const N: usize>(&self, plane: &mut [[u8; N]], values: &[[u8; N]; 256], sample: usize) {
        for (row, pixels) in self.rows(plane) {
            match self.channels {
                1 => row.iter_mut().zip(pixels).for_each(|(out, &level)| *out = values[usize::from(level)]),
                _ => {
                    let pixels = pixels.as_chunks::<3>().0;
                    row.iter_mut()
                        .zip(pixels)
                        .for_each(|(out, pixel)| *out = values[usize::from(pixel[sample])]);
                }
            }
        }
    }

    fn interleaved<const N: usize>(&self, out: &mut [[[u8; N]; 3]], values: &Values<N>) {
        let [a, b, c] = [0, 1, 2].map(|channel| self.sample(channel));
        for (row, pixels) in self.rows(out) {
            for (out, pixel) in row.iter_mut().zip(pixels.chunks_exact(self.channels)) {
                let levels = [pixel[a], pixel[b], pixel[c]].map(usize::from);
                *out = [values[0][levels[0]], values[1][levels[1]], values[2][levels[2]]];
            }
        }
    }

    /// The image's part of each of its rows, and the row's pixels.
    fn rows<'o, T>(&self, out: &'o mut [T]) -> impl Iterator<Item = (&'o mut [T], &[u8])> {
        let Geometry { left, top, width, .. } = *self.geometry;
        let (left, width) = (left as usize, width as usize);
        let rows = out.chunks_exact_mut(self.plan.wanted.width as usize).skip(top as usize);
        rows.map(move |row| &mut row[left..left + width]).zip(self.pixels.chunks_exact(width * self.channels))
    }
}
