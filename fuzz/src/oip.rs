//! A request of the Open Inference Protocol is refused or read: what is read as JSON is JSON to another parser too and passes the shape check,
//! tensors have the bytes that their shapes say, and what was read is written so that it reads the same, in every format that can say it.

use bytes::Bytes;
use tidegate::inference::json_scan::{Rules, Scanner};
use tidegate::inference::oip::limits::Limits;
use tidegate::inference::oip::model::InferRequest;
use tidegate::inference::oip::{json, protobuf};
use tidegate::inference::tensor::element_count;

/// A body that is JSON alone.
pub fn oip_json(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let _ = json::read_response(&body, None, &LIMITS);
    let _ = (json::read_model_metadata(data), json::read_server_metadata(data), json::read_error(data));
    let Ok(request) = json::read_request(&body, None, &LIMITS) else { return };
    match serde_json::from_slice::<serde_json::Value>(data) {
        Ok(value) => assert!(value["inputs"].is_array()),
        // In members that are ignored; its numbers are bounded by what a float holds, ours only by their form.
        Err(error) => assert!(error.to_string().contains("number out of range"), "{error}"),
    }
    let mut scanner = Scanner::new(Rules { depth_max: 100, peek: None, is_inference: true });
    assert!(scanner.push(data).and_then(|()| scanner.finish()).is_ok());
    check(&request);
}

/// The first two bytes say how much of the rest is JSON; tensors may follow it.
pub fn oip_binary(data: &[u8]) {
    let Some((header_bytes, body)) = data.split_first_chunk::<2>() else { return };
    let (header_bytes, body) = (usize::from(u16::from_le_bytes(*header_bytes)), Bytes::copy_from_slice(body));
    let _ = json::read_response(&body, Some(header_bytes), &LIMITS);
    if let Ok(request) = json::read_request(&body, Some(header_bytes), &LIMITS) {
        check(&request);
    }
}

/// A message of gRPC.
pub fn oip_protobuf(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let _ = (protobuf::decode_response(&message, &LIMITS), protobuf::decode_tensor(&message, &LIMITS));
    let _ = (protobuf::decode_model_metadata(data, &LIMITS), protobuf::decode_server_metadata(data));
    let _ = (protobuf::decode_named(data), protobuf::decode_flag(data));
    if let Ok(request) = protobuf::decode_request(&message, &LIMITS) {
        check(&request);
    }
}

const LIMITS: Limits =
    Limits { depth: 64, tensors: 64, dimensions: 16, elements: 1 << 16, data_bytes: 1 << 20, parameters: 64 };

fn check(request: &InferRequest) {
    for input in &request.inputs {
        let tensor = &input.tensor;
        let elements = element_count(&tensor.shape).expect("within the limits");
        if let Some(size) = tensor.datatype.size() {
            assert_eq!(tensor.data.len() as u64, elements * size as u64);
        }
    }
    let mut message = Vec::new();
    protobuf::encode_request(request, &mut message);
    let again = protobuf::decode_request(&message.into(), &LIMITS).expect("what we write can be read");
    assert_eq!(again.inputs.len(), request.inputs.len());
    if is_comparable(request) {
        // Protobuf has neither an empty text nor what REST alone has.
        assert_eq!((&again.inputs, &again.parameters), (&request.inputs, &request.parameters));
    }
    for is_binary in [true, false] {
        let Ok(body) = json::write_request(request, |_| is_binary) else { continue };
        let header_bytes = body.header_bytes();
        let again = json::read_request(&body.into_vec().into(), header_bytes, &LIMITS);
        match again {
            Ok(again) => assert!(again.inputs.iter().zip(&request.inputs).all(|(a, b)| {
                a.tensor.shape == b.tensor.shape
                    && (a.tensor.data == b.tensor.data || b.tensor.datatype.name() == "BOOL")
            })),
            // As one of gRPC may be.
            Err(refused) => assert_eq!(refused.what, "has no inputs"),
        }
    }
}

/// NaN, which only protobuf's parameters may be, is not equal to itself.
fn is_comparable(request: &InferRequest) -> bool {
    let copy = request.clone();
    copy == *request
}
