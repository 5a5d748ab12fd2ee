//! Owns the classifier's computation: which color an image mostly has. Pure numbers; knows nothing of HTTP or of the protocol (`classifier`).
//!
//! Source of the classes: Berlin and Kay, "Basic Color Terms" (1969), the eleven that English has. Each pixel counts for one of them by its
//! hue, chroma and value; a class's score is the logarithm of its share of the pixels, so that a softmax gives the shares back.

/// In the order of examples/colors.txt.
pub const LABELS: [&str; CLASSES] =
    ["black", "gray", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink"];
pub const CLASSES: usize = 11;

/// Scores of one image: a plane of `pixels` for red, green and blue each, in little-endian FP32, normalised by `MEAN` and `STD`.
pub fn scores(planes: &[u8], pixels: usize) -> [f32; CLASSES] {
    let (values, _) = planes.as_chunks::<4>();
    let level = |channel: usize, pixel: usize| {
        let value = values.get(channel * pixels + pixel).map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
        (value * STD[channel] + MEAN[channel]).clamp(0.0, 1.0)
    };
    let mut counts = [0u32; CLASSES];
    for pixel in 0..pixels {
        counts[class([0, 1, 2].map(|channel| level(channel, pixel)))] += 1;
    }
    // Each counts one more than it has: the logarithm of none is no score.
    let all = (pixels + CLASSES) as f32;
    counts.map(|count| ((count + 1) as f32 / all).ln())
}

/// Of ImageNet's images, whose levels are from 0 to 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The place in `LABELS` of a color of these levels.
fn class([red, green, blue]: [f32; 3]) -> usize {
    let value = red.max(green).max(blue);
    let chroma = value - red.min(green).min(blue);
    if value < 0.2 {
        return BLACK;
    }
    if chroma < 0.12 {
        return if value < 0.85 { GRAY } else { WHITE };
    }
    let sector = match () {
        () if value == red => (green - blue) / chroma,
        () if value == green => (blue - red) / chroma + 2.0,
        () => (red - green) / chroma + 4.0,
    };
    let hue = (sector * 60.0).rem_euclid(360.0);
    let is_pale = chroma < 0.55 * value && value > 0.7;
    match hue {
        15.0..45.0 if value < 0.65 => BROWN,
        15.0..45.0 => ORANGE,
        45.0..70.0 => YELLOW,
        70.0..170.0 => GREEN,
        170.0..255.0 => BLUE,
        255.0..290.0 => PURPLE,
        290.0..345.0 if value < 0.7 => PURPLE,
        290.0..345.0 => PINK,
        _ if is_pale => PINK,
        _ => RED,
    }
}

const BLACK: usize = 0;
const GRAY: usize = 1;
const WHITE: usize = 2;
const RED: usize = 3;
const ORANGE: usize = 4;
const BROWN: usize = 5;
const YELLOW: usize = 6;
const GREEN: usize = 7;
const BLUE: usize = 8;
const PURPLE: usize = 9;
const PINK: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// As a client has it that knows how the model wants its pixels.
    fn planes(pixels: &[[u8; 3]]) -> Vec<u8> {
        let value = |channel: usize, level: u8| (f32::from(level) / 255.0 - MEAN[channel]) / STD[channel];
        let plane = |channel: usize| pixels.iter().map(move |pixel| value(channel, pixel[channel]));
        (0..3).flat_map(plane).flat_map(f32::to_le_bytes).collect()
    }

    fn best(scores: &[f32; CLASSES]) -> &'static str {
        LABELS[(0..CLASSES).max_by(|&one, &other| scores[one].total_cmp(&scores[other])).unwrap()]
    }

    #[test]
    fn every_color_has_its_name() {
        for (pixel, name) in [
            ([5, 5, 20], "black"),
            ([128, 128, 135], "gray"),
            ([250, 250, 245], "white"),
            ([220, 20, 30], "red"),
            ([255, 140, 0], "orange"),
            ([130, 75, 30], "brown"),
            ([255, 230, 20], "yellow"),
            ([30, 140, 60], "green"),
            ([30, 90, 220], "blue"),
            ([110, 40, 180], "purple"),
            ([255, 170, 190], "pink"),
        ] {
            assert_eq!(best(&scores(&planes(&[pixel]), 1)), name, "{pixel:?}");
        }
    }

    #[test]
    fn scores_are_the_shares_of_the_pixels() {
        let mut pixels = vec![[255, 140, 0]; 3000];
        pixels.extend([[30, 90, 220]; 1000]);
        let shares = scores(&planes(&pixels), pixels.len()).map(f32::exp);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{shares:?}");
        assert!((shares[ORANGE] - 0.75).abs() < 0.01 && (shares[BLUE] - 0.25).abs() < 0.01, "{shares:?}");
    }

    #[test]
    fn what_is_no_color_is_some_class_too() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let planes: Vec<u8> = [value; 3].into_iter().flat_map(f32::to_le_bytes).collect();
            assert!(scores(&planes, 1).iter().all(|score| score.is_finite()), "{value}");
        }
    }

    #[test]
    fn the_example_has_these_labels() {
        let lines: Vec<&str> = include_str!("../../../examples/colors.txt").lines().collect();
        assert_eq!(lines, LABELS);
    }
}
