//! What a conversion allocates is no more than `memory_needed` says, and an image that is too large or lies about its size costs
//! nothing. Counts the allocations of a test's own thread, which is all that a conversion runs on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use png::{BitDepth, ColorType, Encoder};
use tidegate::inference::image::{
    Channels, Fit, Limits, Plan, Scratch, Wanted, Wrong, head, memory_needed, to_tensor,
};
use tidegate::inference::image_head::Format;

struct Counting;

thread_local! {
    /// Bytes. Below zero where this thread gives back what another took.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    HELD.set(HELD.get() + change);
    PEAK.set(PEAK.get().max(HELD.get()));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: each call is handed on to `System` as it came, and its answer back; counting touches cells of this thread, which are
// there without being allocated.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: what the caller promises of `layout` is what `System` asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: what the caller promises of `pointer` and `layout` is what `System` asks for.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; `pointer` came from `System`, as all do here.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What `call` holds at most, beside what was held before.
fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = call();
    (result, (PEAK.get() - before) as usize)
}

const LIMITS: Limits = Limits { pixels_max: 1 << 22, side_max: 1 << 14 };

fn convert(encoded: &[u8], format: Format, plan: &Plan, limits: &Limits) -> (Result<(), Wrong>, usize) {
    peak(|| to_tensor(encoded, format, plan, limits, &mut Scratch::default(), &mut Vec::new()))
}

fn corpus() -> Vec<(String, Format, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/images"));
    let files = fs::read_dir(folder).expect("the corpus").flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().expect("a name");
        let format = match name.rsplit('.').next() {
            Some("jpg") => Format::Jpeg,
            Some("png") => Format::Png,
            Some("webp") => Format::Webp,
            _ => return None,
        };
        Some((name, format, fs::read(entry.path()).expect("a file")))
    });
    files.collect()
}

#[test]
fn a_conversion_needs_no_more_than_it_says() {
    let plans = [
        Wanted { width: 224, height: 224, fit: Fit::Stretch, ..Wanted::default() },
        Wanted { width: 7, height: 600, fit: Fit::Letterbox { pad: 0 }, ..Wanted::default() },
        Wanted { width: 600, height: 7, fit: Fit::Crop, channels: Channels::Gray, ..Wanted::default() },
    ];
    let plans = plans.map(|wanted| Plan::new(wanted).expect("a plan"));
    let mut images = corpus();
    images.push(("large.png".into(), Format::Png, png(ColorType::Rgba, 700, 450, 8)));
    images.push(("large-16.png".into(), Format::Png, png(ColorType::Rgba, 450, 700, 16)));
    images.push(("large.webp".into(), Format::Webp, webp(400, 350)));
    for (name, format, encoded) in images {
        for plan in &plans {
            let head = head(&encoded, format).expect("a head");
            let said = memory_needed(&encoded, &head, plan);
            let (_, needed) = convert(&encoded, format, plan, &LIMITS);
            assert!(needed as u64 <= said, "{name}: {needed} of {said} bytes");
        }
    }
}

/// Of zeros, which compress a thousandfold.
fn png(color: ColorType, width: u32, height: u32, depth: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::from_u8(depth).expect("a depth"));
    let mut writer = encoder.write_header().expect("a header");
    let row = color.samples() * usize::from(depth) / 8 * width as usize;
    writer.write_image_data(&vec![0; row * height as usize]).expect("pixels");
    writer.finish().expect("a file");
    file
}

/// Lossless, of noise.
fn webp(width: u32, height: u32) -> Vec<u8> {
    let mut seed = 1u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    let pixels: Vec<u8> = noise.take(width as usize * height as usize * 3).collect();
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.encode(&pixels, width, height, image_webp::ColorType::Rgb8).expect("a file");
    file
}

fn plan() -> Plan {
    Plan::new(Wanted::default()).expect("a plan")
}

/// One of each format with sides as large as it can say, and nothing behind its head.
fn bombs() -> Vec<(Format, Vec<u8>, u32)> {
    let file = |name: &str| {
        let found = corpus().into_iter().find(|(known, _, _)| known == name).expect("in the corpus");
        found.2
    };
    let mut jpeg = file("420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == b"\xff\xc0").expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    let mut progressive = file("progressive-420.jpg");
    let frame = progressive.windows(2).position(|pair| pair == b"\xff\xc2").expect("a frame header");
    progressive[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    let png = png_of_zeros_that_says(65_535);
    let mut lossy = file("lossy.webp");
    lossy[26..30].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    let mut lossless = file("lossless.webp");
    lossless[21..25].copy_from_slice(&0x0fff_ffffu32.to_le_bytes());
    let mut canvas = file("animated.webp");
    canvas[24..30].copy_from_slice(&[0xfe, 0xff, 0, 0xfe, 0xff, 0]);
    vec![
        (Format::Jpeg, jpeg, 65_535),
        (Format::Jpeg, progressive, 65_535),
        (Format::Png, png, 65_535),
        (Format::Webp, lossy, 16_383),
        (Format::Webp, lossless, 16_384),
        (Format::Webp, canvas, 65_535),
    ]
}

/// Its pixels are a stream that inflates to far more than a small image has.
fn png_of_zeros_that_says(side: u32) -> Vec<u8> {
    let mut file = png(ColorType::Grayscale, 4000, 4000, 8);
    file[16..20].copy_from_slice(&side.to_be_bytes());
    file[20..24].copy_from_slice(&side.to_be_bytes());
    let crc = !file[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    file[29..33].copy_from_slice(&crc.to_be_bytes());
    file
}

#[test]
fn an_image_beyond_the_limits_costs_nothing() {
    let plan = plan();
    for (format, bomb, side) in bombs() {
        let (result, needed) = convert(&bomb, format, &plan, &LIMITS);
        assert_eq!(result, Err(Wrong::TooLarge { width: side, height: side }), "{format:?}");
        assert_eq!(needed, 0, "{format:?}");
    }
}

#[test]
fn a_stream_that_inflates_beyond_its_image_is_not_followed() {
    let plan = plan();
    let (_, needed) = convert(&png_of_zeros_that_says(8), Format::Png, &plan, &LIMITS);
    assert!(needed < 2 << 20, "{needed}");
}

/// The sides outside of a frame are small, those inside of it huge, or the other way round.
#[test]
fn a_webp_that_contradicts_itself_costs_nothing() {
    let plan = plan();
    let find = |bytes: &[u8], name: &[u8]| {
        bytes.windows(name.len()).position(|found| found == name).expect("a chunk")
    };
    for (name, _, bytes) in corpus().into_iter().filter(|(name, format, _)| {
        *format == Format::Webp && (name.contains("alpha") || name.contains("animated"))
    }) {
        let mut bytes = bytes;
        if bytes.windows(4).any(|found| found == b"VP8 ") {
            let at = find(&bytes, b"VP8 ") + 8;
            bytes[at + 6..at + 10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
        } else if bytes.windows(4).any(|found| found == b"VP8X") {
            let at = find(&bytes, b"VP8L") + 8;
            bytes[at + 1..at + 5].copy_from_slice(&0x0fff_ffffu32.to_le_bytes());
        } else {
            continue;
        }
        let (result, needed) = convert(&bytes, Format::Webp, &plan, &LIMITS);
        assert!(matches!(result, Err(Wrong::Invalid(_))), "{name}: {result:?}");
        assert_eq!(needed, 0, "{name}");
    }
}

/// A worker that has seen the usual image takes no room of its own for the next; decoders do.
#[test]
fn the_second_image_takes_little() {
    let plan = plan();
    let (_, _, photo) =
        corpus().into_iter().find(|(name, _, _)| name.starts_with("photo")).expect("a photograph");
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let mut run = || {
        out.clear();
        to_tensor(&photo, Format::Jpeg, &plan, &LIMITS, &mut scratch, &mut out).expect("a tensor");
    };
    run();
    let ((), needed) = peak(&mut run);
    assert!(needed < 256 << 10, "{needed}");
}
