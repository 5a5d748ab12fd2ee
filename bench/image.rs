//! Backs the claim on what a JPEG costs that becomes a tensor: images a second on one core, beside decoding and scaling alone with the
//! same crates and no buffer allocated or cleared anew. Run: `cargo bench --bench image`; `bench/image_peers.py` does the same with
//! Pillow and OpenCV.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use tidegate::inference::image::{Fit, Layout, Limits, Plan, Scratch, Wanted, to_tensor};
use tidegate::inference::image_head::Format;
use tidegate::inference::tensor::Datatype;
use zune_core::bytestream::ZCursor;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Interleaved, so that what else runs on the machine is shared out.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(300);
const LIMITS: Limits = Limits { pixels_max: 1 << 24, side_max: 1 << 14 };
const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/images/photo-640x480.jpg");

type Call = Box<dyn FnMut()>;

fn main() {
    let photo = fs::read(PHOTO).expect("the photograph of the corpus");
    let float = Wanted {
        scale: 1.0 / 255.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        ..Wanted::default()
    };
    let plain = Wanted { datatype: Datatype::Uint8, layout: Layout::Nhwc, ..Wanted::default() };
    let mut cases: Vec<(&str, Call)> = vec![
        ("decoded and scaled, no more", bare(&photo)),
        ("FP32 NCHW", converted(&photo, float.clone())),
        ("FP32 NHWC", converted(&photo, Wanted { layout: Layout::Nhwc, ..float.clone() })),
        ("FP16 NCHW", converted(&photo, Wanted { datatype: Datatype::Fp16, ..float.clone() })),
        ("UINT8 NHWC", converted(&photo, plain)),
        ("FP32 NCHW, cut", converted(&photo, Wanted { fit: Fit::Crop, ..float.clone() })),
        ("FP32 NCHW, padded", converted(&photo, Wanted { fit: Fit::Letterbox { pad: 114 }, ..float })),
    ];
    let mut rates = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, call), rates) in cases.iter_mut().zip(&mut rates) {
            rates.push(rate(call));
        }
    }
    println!("640x480 JPEG (4:2:0, quality 85) to 224x224, images a second on one core");
    println!("  {:28} {:>8} {:>8}", "", "median", "best");
    for ((what, _), rates) in cases.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        println!("  {what:28} {:8.0} {:8.0}", rates[ROUNDS / 2], rates[ROUNDS - 1]);
    }
}

/// Calls a second, over one round.
fn rate(call: &mut dyn FnMut()) -> f64 {
    let (start, mut calls) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        call();
        calls += 1;
    }
    f64::from(calls) / start.elapsed().as_secs_f64()
}

fn converted(photo: &[u8], wanted: Wanted) -> Call {
    let (photo, plan) = (photo.to_vec(), Plan::new(wanted).expect("a plan"));
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    Box::new(move || {
        out.clear();
        to_tensor(black_box(&photo), Format::Jpeg, &plan, &LIMITS, &mut scratch, &mut out).expect("a tensor");
        black_box(&out);
    })
}

fn bare(photo: &[u8]) -> Call {
    let photo = photo.to_vec();
    let (mut pixels, mut scaled) = (vec![0; 640 * 480 * 3], vec![0; 224 * 224 * 3]);
    let mut resizer = Resizer::new();
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Box::new(move || {
        let photo = ZCursor::new(black_box(photo.as_slice()));
        let mut decoder = JpegDecoder::new_with_options(photo, DecoderOptions::new_fast());
        decoder.decode_into(&mut pixels).expect("an image");
        let from = TypedImageRef::<U8x3>::from_buffer(640, 480, &pixels).expect("pixels");
        let mut into = TypedImage::<U8x3>::from_buffer(224, 224, &mut scaled).expect("pixels");
        resizer.resize_typed(&from, &mut into, &options).expect("scaled");
        black_box(&scaled);
    })
}
