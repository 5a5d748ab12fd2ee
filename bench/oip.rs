//! Backs the claims on what tensors cost as JSON and as protobuf: one of 3 x 224 x 224 FP32, read and written, beside serde_json over the same
//! text. Run: `cargo bench --bench oip`.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use tidegate::inference::oip::limits::Limits;
use tidegate::inference::oip::model::{Carried, InferRequest, Parameters};
use tidegate::inference::oip::{json, protobuf};
use tidegate::inference::tensor::{Datatype, Tensor};

const SHAPE: [u64; 4] = [1, 3, 224, 224];
const ELEMENTS: usize = 150_528;
const ROUNDS: usize = 21;

fn main() {
    println!("{ELEMENTS} elements, the median of {ROUNDS} rounds");
    // As Python writes an FP32: all the digits of the FP64 that it became.
    texts("FP32, 17 digits", Datatype::Fp32, |pixel| format!("{}", f64::from(pixel as f32 / 255.0)));
    texts("FP32, shortest", Datatype::Fp32, |pixel| format!("{:?}", pixel as f32 / 255.0));
    texts("FP32, normalised", Datatype::Fp32, |pixel| {
        format!("{}", f64::from((pixel as f32 / 255.0 - 0.485) / 0.229))
    });
    texts("FP32, spaced", Datatype::Fp32, |pixel| format!(" {}", f64::from(pixel as f32 / 255.0)));
    texts("FP64, 17 digits", Datatype::Fp64, |pixel| format!("{}", f64::from(pixel as f32 / 255.0)));
    texts("FP64, 4 digits", Datatype::Fp64, |pixel| format!("{:.4}", f64::from(pixel as f32 / 255.0)));
    texts("UINT8", Datatype::Uint8, |pixel| pixel.to_string());
    writing();
}

/// Reading: ours, and serde_json into a vector of the same numbers.
fn texts(what: &str, datatype: Datatype, number: impl Fn(u8) -> String) {
    let numbers: Vec<String> = pixels().map(number).collect();
    let data = format!("[{}]", numbers.join(","));
    let name = datatype.name();
    let body =
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,3,224,224],"datatype":"{name}","data":{data}}}]}}"#);
    let body = Bytes::from(body);
    let limits = Limits::default();
    let ours =
        median(|| json::read_request(&body, None, &limits).expect("a request").inputs[0].tensor.data.len());
    let text = data.as_bytes();
    let theirs = median(|| match datatype {
        Datatype::Fp32 => serde_json::from_slice::<Vec<f32>>(text).expect("numbers").len(),
        Datatype::Fp64 => serde_json::from_slice::<Vec<f64>>(text).expect("numbers").len(),
        _ => serde_json::from_slice::<Vec<u8>>(text).expect("numbers").len(),
    });
    told(&format!("read {what}"), ours, data.len());
    told(&format!("  serde_json {what}"), theirs, data.len());
}

fn writing() {
    let floats: Vec<f32> = pixels().map(|pixel| (f32::from(pixel) / 255.0 - 0.485) / 0.229).collect();
    let data: Bytes = floats.iter().flat_map(|float| float.to_le_bytes()).collect::<Vec<u8>>().into();
    let tensor = Tensor { name: "x".into(), datatype: Datatype::Fp32, shape: SHAPE.to_vec(), data };
    let inputs = vec![Carried { tensor, parameters: Parameters::new() }];
    let request = InferRequest { model: "m".to_owned(), inputs, ..InferRequest::default() };
    let text_bytes = json::write_request(&request, |_| false).expect("finite").len();
    told(
        "write FP32 as JSON",
        median(|| json::write_request(&request, |_| false).expect("finite").len()),
        text_bytes,
    );
    told("  serde_json", median(|| serde_json::to_vec(&floats).expect("numbers").len()), text_bytes);
    let encode = || {
        let mut message = Vec::new();
        protobuf::encode_request(&request, &mut message);
        message
    };
    let message = Bytes::from(encode());
    told("write as protobuf", median(|| encode().len()), message.len());
    let limits = Limits::default();
    let decode = || protobuf::decode_request(&message, &limits).expect("a request").inputs.len();
    told("read from protobuf", median(decode), message.len());
    let body = json::write_request(&request, |_| true).expect("binary");
    let header_bytes = body.header_bytes();
    let body = Bytes::from(body.into_vec());
    let read = || json::read_request(&body, header_bytes, &limits).expect("a request").inputs.len();
    told("read with a binary tensor", median(read), body.len());
}

fn pixels() -> impl Iterator<Item = u8> {
    let mut seed = 1u64;
    std::iter::repeat_with(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(ELEMENTS)
}

/// Nanoseconds of one call.
fn median(mut call: impl FnMut() -> usize) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(call());
            start.elapsed().as_nanos() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn told(what: &str, nanos: f64, bytes: usize) {
    let (each, rate) = (nanos / ELEMENTS as f64, bytes as f64 / nanos * 1000.0);
    println!("  {what:34} {each:8.2} ns an element {rate:10.0} MB/s {:10.1} us", nanos / 1000.0);
}
