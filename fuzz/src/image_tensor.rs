//! Any bytes, taken for an image, become a whole tensor or nothing, and no decoder panics over them. Chunks of a PNG have their CRC mended
//! before, which a mutation would hardly hit.

use tidegate::inference::image::{
    Channels, DECODER_FAILED, Fit, Layout, Limits, Plan, Scratch, Wanted, Wrong, head, memory_needed, to_tensor,
};
use tidegate::inference::image_head::Format;
use tidegate::inference::tensor::Datatype;

const LIMITS: Limits = Limits { pixels_max: 1 << 16, side_max: 1 << 13 };

pub fn image_tensor(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let pick = usize::from(first);
    let format = [Format::Jpeg, Format::Png, Format::Webp][pick % 3];
    let fit = [Fit::Stretch, Fit::Letterbox { pad: 114 }, Fit::Crop][pick / 3 % 3];
    let channels = [Channels::Rgb, Channels::Bgr, Channels::Gray][pick / 9 % 3];
    let (datatype, layout) = [
        (Datatype::Uint8, Layout::Nhwc),
        (Datatype::Fp16, Layout::Nchw),
        (Datatype::Fp32, Layout::Nhwc),
    ][pick / 27 % 3];
    let wanted = Wanted { width: 9, height: 7, fit, channels, datatype, layout, ..Wanted::default() };
    let plan = Plan::new(wanted).expect("a plan");
    let mut bytes = bytes.to_vec();
    if format == Format::Png {
        mend(&mut bytes);
    }
    let mut out = vec![1, 2, 3];
    let result = to_tensor(&bytes, format, &plan, &LIMITS, &mut Scratch::default(), &mut out);
    let head = head(&bytes, format);
    match result {
        Ok(()) => {
            assert_eq!(out.len(), 3 + plan.element_bytes());
            let head = head.expect("one with pixels has a head");
            assert!(LIMITS.judge(&head).is_ok());
            assert!(memory_needed(&bytes, &head, &plan) > plan.element_bytes() as u64);
        }
        Err(Wrong::Invalid(words)) => assert!(out.len() == 3 && words != DECODER_FAILED),
        Err(too_large) => assert!(out.len() == 3 && LIMITS.judge(&head.expect("a head")) == Err(too_large)),
    }
    assert_eq!(out[..3], [1, 2, 3]);
}

fn mend(png: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = png.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(end) = length.checked_add(at + 8).filter(|&end| end + 4 <= png.len()) else { return };
        let crc = crc32(&png[at + 4..end]);
        png[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        at = end + 4;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
