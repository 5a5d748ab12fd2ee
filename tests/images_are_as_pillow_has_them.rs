//! An image becomes the tensor that Pillow and numpy make of it, within a few levels that are stated here for each format; what is cut
//! off anywhere becomes none. The images and what Pillow makes of them are `corpus/images`, written by its `make.py`.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::inference::image::{
    Channels, DECODER_FAILED, Fit, Layout, Limits, Plan, Scratch, Wanted, Wrong, to_tensor,
};
use tidegate::inference::image_head::Format;
use tidegate::inference::tensor::Datatype;

/// As in make.py.
const TARGET: (u32, u32) = (12, 9);
const PAD: u8 = 114;

/// What Pillow takes and we do not: baseline, a scan for each component, with vertical subsampling.
const REFUSED: &[&str] = &["scans-420.jpg"];

const LIMITS: Limits = Limits { pixels_max: 1 << 24, side_max: 1 << 14 };

/// Of 256 levels: the most that one sample is off, and all of an image on average.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    worst: u8,
    mean: f64,
}

/// Decoded, and no more. PNG and WebP, lossy or not, say what each pixel is. Of a JPEG, decoders differ in how they round the inverse
/// DCT, and in how they go from a few samples of color to many: of an image with less than 8 pixels of a side and subsampled color, the
/// edges may be off by ten levels, which the corpus leaves out.
fn decoded(name: &str) -> Tolerance {
    match name.ends_with(".jpg") {
        true => Tolerance { worst: 3, mean: 0.4 },
        false => Tolerance { worst: 0, mean: 0.0 },
    }
}

/// Decoded and scaled: both sides round twice, but Pillow does rows first, and we columns.
fn scaled(name: &str) -> Tolerance {
    match name.ends_with(".jpg") {
        true => Tolerance { worst: 3, mean: 0.4 },
        false => Tolerance { worst: 1, mean: 0.25 },
    }
}

#[test]
fn every_image_is_as_pillow_has_it() {
    let mut wrong = Vec::new();
    for case in taken() {
        let whole = Wanted { width: case.sides.0, height: case.sides.1, ..levels() };
        let fits = [Fit::Stretch, Fit::Letterbox { pad: PAD }, Fit::Crop];
        let fitted = fits.map(|fit| Wanted { width: TARGET.0, height: TARGET.1, fit, ..levels() });
        let plans = [whole].into_iter().chain(fitted);
        for (at, (wanted, expected)) in plans.zip(&case.expected).enumerate() {
            let tolerance = if at == 0 { decoded(&case.name) } else { scaled(&case.name) };
            let step = ["whole", "stretched", "padded", "cut"][at];
            match convert(&case, wanted) {
                Ok(pixels) => {
                    let (worst, mean) = difference(&pixels, expected);
                    if worst > tolerance.worst || mean > tolerance.mean {
                        wrong.push(format!("{} {step}: off by {worst}, {mean:.3} on average", case.name));
                    }
                }
                Err(why) => wrong.push(format!("{} {step}: {why}", case.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_cannot_be_decoded_well_is_refused() {
    for case in cases().iter().filter(|case| REFUSED.contains(&case.name.as_str())) {
        let refused = convert(case, levels());
        assert!(matches!(refused, Err(Wrong::Invalid(words)) if words != DECODER_FAILED), "{}", case.name);
    }
}

#[test]
fn a_truncated_image_is_none() {
    for case in taken() {
        let length = case.encoded.len();
        let percents = (0..100).map(|percent| length * percent / 100);
        for cut in percents.chain(length.saturating_sub(16)..length) {
            let part = Case { encoded: case.encoded[..cut].to_vec(), ..case.clone() };
            let refused = convert(&part, levels());
            let is_refused = matches!(refused, Err(Wrong::Invalid(words)) if words != DECODER_FAILED);
            assert!(is_refused, "{} of {} bytes of {}", cut, length, case.name);
        }
    }
}

/// As a proxy or a camera leaves it that breaks off and then says that it is done. Of a progressive one, the first scans are an image.
#[test]
fn a_jpeg_that_ends_early_but_orderly_is_none() {
    let is_baseline = |case: &Case| case.encoded.windows(2).any(|pair| pair == b"\xff\xc0");
    for case in taken().into_iter().filter(|case| case.format == Format::Jpeg && is_baseline(case)) {
        let whole = convert(&case, levels()).expect("an image");
        let scan = case.encoded.windows(2).position(|pair| pair == b"\xff\xda").expect("a scan") + 14;
        let length = case.encoded.len() - 2 - scan;
        for percent in 0..100 {
            let mut part = case.clone();
            part.encoded.truncate(scan + length * percent / 100);
            part.encoded.extend_from_slice(b"\xff\xd9");
            // What is missing may be no more than the bits that fill the last byte.
            let is_taken = convert(&part, levels()).is_ok_and(|pixels| pixels != whole);
            assert!(!is_taken, "{percent} % of {}", case.name);
        }
    }
}

/// The pixels themselves.
fn levels() -> Wanted {
    Wanted { datatype: Datatype::Uint8, layout: Layout::Nhwc, channels: Channels::Rgb, ..Wanted::default() }
}

#[derive(Clone)]
struct Case {
    name: String,
    format: Format,
    encoded: Vec<u8>,
    /// Of the upright image.
    sides: (u32, u32),
    /// Whole, stretched, padded, cut.
    expected: [Vec<u8>; 4],
}

fn taken() -> Vec<Case> {
    cases().into_iter().filter(|case| !REFUSED.contains(&case.name.as_str())).collect()
}

fn corpus() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/images")).to_owned()
}

fn cases() -> Vec<Case> {
    let read = |name: &str| fs::read(corpus().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (index, expected) = (String::from_utf8(read("index.txt")).expect("text"), read("expected.raw"));
    let mut rest = expected.as_slice();
    let mut image = |(width, height): (u32, u32)| {
        let (image, behind) = rest.split_at(width as usize * height as usize * 3);
        rest = behind;
        image.to_vec()
    };
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    let cases = lines.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, width, height] = words[..] else { panic!("{line}") };
        let sides = (width.parse().expect("a width"), height.parse().expect("a height"));
        let format = match name.rsplit('.').next() {
            Some("jpg") => Format::Jpeg,
            Some("png") => Format::Png,
            _ => Format::Webp,
        };
        let expected = [image(sides), image(TARGET), image(TARGET), image(TARGET)];
        Case { name: name.to_owned(), format, encoded: read(name), sides, expected }
    });
    let cases: Vec<Case> = cases.collect();
    assert!(cases.len() > 50 && rest.is_empty());
    cases
}

fn convert(case: &Case, wanted: Wanted) -> Result<Vec<u8>, Wrong> {
    let plan = Plan::new(wanted).expect("a plan");
    let mut out = Vec::new();
    to_tensor(&case.encoded, case.format, &plan, &LIMITS, &mut Scratch::default(), &mut out)?;
    assert_eq!(out.len(), plan.element_bytes());
    Ok(out)
}

/// The worst, and the mean.
fn difference(one: &[u8], other: &[u8]) -> (u8, f64) {
    assert_eq!(one.len(), other.len());
    let differences = one.iter().zip(other).map(|(one, other)| one.abs_diff(*other));
    let sum: u64 = differences.clone().map(u64::from).sum();
    (differences.max().unwrap_or(0), sum as f64 / one.len() as f64)
}
