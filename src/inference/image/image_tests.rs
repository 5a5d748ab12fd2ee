//! Tests of a conversion as a whole: each value where it belongs, exactly as computed in f32; bounds; and that an error leaves no trace.

use ::png::{BitDepth, ColorType, Encoder};

use super::*;
use crate::inference::tensor::Datatype;

const LIMITS: Limits = Limits { pixels_max: 1 << 20, side_max: 1 << 12 };
const SIDES: (u32, u32) = (5, 3);

/// All different.
fn pixels() -> Vec<u8> {
    (0..SIDES.0 * SIDES.1 * 3).map(|at| (at * 5 + 3) as u8).collect()
}

fn png(pixels: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(pixels).expect("pixels");
    writer.finish().expect("a file");
    file
}

fn wanted() -> Wanted {
    let (width, height) = SIDES;
    let (scale, mean, std) = (1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Wanted { width, height, scale, mean, std, ..Wanted::default() }
}

fn convert(wanted: Wanted) -> Vec<u8> {
    let plan = Plan::new(wanted).expect("a plan");
    let mut out = b"before".to_vec();
    let file = png(&pixels(), SIDES);
    to_tensor(&file, Format::Png, &plan, &LIMITS, &mut Scratch::default(), &mut out).expect("a tensor");
    assert_eq!(out.len(), 6 + plan.element_bytes());
    out.split_off(6)
}

/// By the formula, one value after the other in the order of the tensor.
fn expected(wanted: &Wanted) -> Vec<f32> {
    let value = |x: u32, y: u32, channel: usize| {
        let sample = if wanted.channels == Channels::Bgr { 2 - channel } else { channel };
        let level = pixels()[(y * SIDES.0 + x) as usize * 3 + sample];
        (f32::from(level) * wanted.scale - wanted.mean[channel]) / wanted.std[channel]
    };
    let places = || (0..SIDES.1).flat_map(|y| (0..SIDES.0).map(move |x| (x, y)));
    match wanted.layout {
        Layout::Nchw => (0..3).flat_map(|c| places().map(move |(x, y)| value(x, y, c))).collect(),
        Layout::Nhwc => places().flat_map(|(x, y)| [0, 1, 2].map(|c| value(x, y, c))).collect(),
    }
}

#[test]
fn values_are_those_of_the_formula() {
    for channels in [Channels::Rgb, Channels::Bgr] {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let wanted = Wanted { channels, layout, ..wanted() };
            let values = expected(&wanted);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(convert(wanted.clone()), bytes);
            let bytes: Vec<u8> =
                values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
            assert_eq!(convert(Wanted { datatype: Datatype::Fp16, ..wanted.clone() }), bytes);
            let bytes: Vec<u8> =
                values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
            assert_eq!(convert(Wanted { datatype: Datatype::Bf16, ..wanted }), bytes);
        }
    }
}

#[test]
fn bytes_are_the_pixels_and_grey_is_their_luma() {
    let plain = Wanted { scale: 1.0, mean: [0.0; 3], std: [1.0; 3], datatype: Datatype::Uint8, ..wanted() };
    let pixels = pixels();
    assert_eq!(convert(Wanted { layout: Layout::Nhwc, ..plain.clone() }), pixels);
    let luma =
        |p: &[u8]| (f64::from(p[0]) * 0.299 + f64::from(p[1]) * 0.587 + f64::from(p[2]) * 0.114).round();
    let gray: Vec<u8> = pixels.chunks(3).map(|pixel| luma(pixel) as u8).collect();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        assert_eq!(convert(Wanted { channels: Channels::Gray, layout, ..plain.clone() }), gray);
    }
}

#[test]
fn bars_have_the_value_of_their_level() {
    let wanted = Wanted { height: 7, fit: Fit::Letterbox { pad: 114 }, ..wanted() };
    let image = expected(&wanted);
    let bar = [0, 1, 2].map(|c| (114.0 * wanted.scale - wanted.mean[c]) / wanted.std[c]);
    let row = SIDES.0 as usize;
    let planes = image.chunks(row * 3).zip(bar).flat_map(|(plane, bar)| {
        let bars = vec![bar; row * 2];
        [bars.as_slice(), plane, bars.as_slice()].concat()
    });
    let bytes: Vec<u8> = planes.flat_map(f32::to_le_bytes).collect();
    assert_eq!(convert(wanted.clone()), bytes);
    // The same, with channels side by side: of each pixel of the bars, all three.
    let nhwc = convert(Wanted { layout: Layout::Nhwc, ..wanted });
    let first: Vec<u8> = bar.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(nhwc[..row * 2 * 12], first.repeat(row * 2));
}

#[test]
fn shapes_are_those_of_the_layout() {
    let plan = |layout, channels| Plan::new(Wanted { layout, channels, ..wanted() }).expect("a plan");
    assert_eq!(plan(Layout::Nchw, Channels::Rgb).shape(), [3, 3, 5]);
    assert_eq!(plan(Layout::Nhwc, Channels::Bgr).shape(), [3, 5, 3]);
    assert_eq!(plan(Layout::Nhwc, Channels::Gray).shape(), [3, 5, 1]);
    assert_eq!(plan(Layout::Nchw, Channels::Gray).element_bytes(), 60);
}

#[test]
fn a_plan_that_cannot_be_is_refused() {
    let plain = Wanted::default();
    let refused = [
        Wanted { width: 0, ..plain.clone() },
        Wanted { height: 8193, ..plain.clone() },
        Wanted { datatype: Datatype::Int32, ..plain.clone() },
        Wanted { datatype: Datatype::Uint8, scale: 0.5, ..plain.clone() },
        Wanted { datatype: Datatype::Uint8, mean: [0.0, 0.0, 1.0], ..plain.clone() },
        Wanted { std: [1.0, 0.0, 1.0], ..plain.clone() },
        Wanted { scale: f32::NAN, ..plain.clone() },
        Wanted { mean: [f32::INFINITY; 3], ..plain.clone() },
        // 255 * 300 is more than 65504.
        Wanted { datatype: Datatype::Fp16, scale: 300.0, ..plain.clone() },
    ];
    for wanted in refused {
        assert!(Plan::new(wanted.clone()).is_err(), "{wanted:?}");
    }
    assert!(Plan::new(Wanted { datatype: Datatype::Bf16, scale: 300.0, ..plain }).is_ok());
}

#[test]
fn an_error_leaves_nothing_behind() {
    let plan = Plan::new(wanted()).expect("a plan");
    let mut scratch = Scratch::default();
    let mut out = b"before".to_vec();
    let file = png(&pixels(), SIDES);
    let mut run = |bytes: &[u8], format, limits: &Limits| {
        let result = to_tensor(bytes, format, &plan, limits, &mut scratch, &mut out);
        (result, out.len())
    };
    for cut in 0..file.len() {
        let (result, length) = run(&file[..cut], Format::Png, &LIMITS);
        assert!(matches!(result, Err(Wrong::Invalid(_))) && length == 6, "{cut}");
    }
    assert!(matches!(run(&file, Format::Jpeg, &LIMITS), (Err(Wrong::Invalid(_)), 6)));
    let too_large = (Err(Wrong::TooLarge { width: 5, height: 3 }), 6);
    assert_eq!(run(&file, Format::Png, &Limits { side_max: 4, ..LIMITS }), too_large);
    assert_eq!(run(&file, Format::Png, &Limits { pixels_max: 14, ..LIMITS }), too_large);
    assert_eq!(run(&file, Format::Png, &Limits { pixels_max: 15, side_max: 5 }), (Ok(()), 6 + 180));
}

#[test]
fn a_huge_image_leaves_no_room_taken() {
    let sides = (2000, 1500);
    let file = png(&vec![7; sides.0 as usize * sides.1 as usize * 3], sides);
    let plan = Plan::new(wanted()).expect("a plan");
    let mut scratch = Scratch::default();
    let limits = Limits { pixels_max: 3_000_000, side_max: 2000 };
    to_tensor(&file, Format::Png, &plan, &limits, &mut scratch, &mut Vec::new()).expect("a tensor");
    assert_eq!(scratch.pixels.capacity(), 0);
    let file = png(&pixels(), SIDES);
    to_tensor(&file, Format::Png, &plan, &limits, &mut scratch, &mut Vec::new()).expect("a tensor");
    assert!(scratch.pixels.capacity() > 0);
}
