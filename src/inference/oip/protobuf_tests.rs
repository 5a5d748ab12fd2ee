//! Owns the proofs that what is written as protobuf reads the same, that typed contents become what raw ones would have been, and that what
//! is broken is refused. What Python's protobuf says of it is in `tests/the_open_inference_protocol_is_spoken.rs`.

use bytes::Bytes;

use super::super::limits::Limits;
use super::super::model::{ModelMetadata, Parameter, ServerMetadata, TensorMetadata};
use super::super::random::{Contents, Random};
use super::super::refused::Kind;
use super::wire::{put_bytes, put_choice, put_length, put_packed, put_varint};
use super::*;
use crate::inference::tensor::Datatype;

const LIMITS: Limits =
    Limits { depth: 8, tensors: 4, dimensions: 4, elements: 1000, data_bytes: 4096, parameters: 8 };

fn request_of(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

/// `InferInputTensor` in the field `inputs`.
fn input(datatype: &str, shape: &[u64], contents: Option<&[u8]>) -> Vec<u8> {
    let (mut message, mut out) = (Vec::new(), Vec::new());
    put_bytes(1, b"x", &mut message);
    put_bytes(2, datatype.as_bytes(), &mut message);
    put_packed(3, shape.iter().copied(), &mut message);
    if let Some(contents) = contents {
        put_bytes(5, contents, &mut message);
    }
    put_bytes(5, &message, &mut out);
    out
}

fn raw(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(7, data, &mut out);
    out
}

fn told(message: &[&[u8]]) -> String {
    decode_request(&request_of(message), &LIMITS).unwrap_err().to_string()
}

#[test]
fn random_messages_are_read_as_they_were_written() {
    let mut random = Random::new();
    for _ in 0..2_000 {
        let request = random.request(Contents::Any);
        let mut message = vec![7; random.below(9)];
        let before = message.len();
        encode_request(&request, &mut message);
        let message = Bytes::from(message).slice(before..);
        assert_eq!(decode_request(&message, &Limits::default()).as_ref(), Ok(&request));

        let response = random.response(Contents::Any);
        let mut message = Vec::new();
        encode_response(&response, &mut message);
        assert_eq!(message.capacity(), message.len(), "space is made once");
        assert_eq!(decode_response(&message.into(), &Limits::default()).as_ref(), Ok(&response));
    }
}

#[test]
fn raw_tensors_are_slices_of_the_message() {
    // Contents that are there and empty are none.
    for contents in [None, Some(&b""[..])] {
        let message = request_of(&[&input("UINT8", &[3], contents), &raw(b"abc")]);
        let request = decode_request(&message, &LIMITS).unwrap();
        assert!(message.as_ptr_range().contains(&request.inputs[0].tensor.data.as_ptr()));
    }
}

/// A message that is cut is refused, or says less: fields that are missing are left out. It never says more, and never panics.
#[test]
fn no_cut_and_no_flip_panics() {
    let mut random = Random::new();
    for _ in 0..150 {
        let request = random.request(Contents::Any);
        let mut message = Vec::new();
        encode_request(&request, &mut message);
        let whole = Bytes::from(message);
        for end in 0..whole.len() {
            if let Ok(less) = decode_request(&whole.slice(..end), &Limits::default()) {
                // Tensors without elements are what they are also where their raw contents are cut off.
                let is_empty = request.inputs.iter().all(|input| input.tensor.data.is_empty());
                assert!((is_empty || less != request) && less.inputs.len() <= request.inputs.len());
            }
        }
        for _ in 0..200 {
            let mut broken = whole.to_vec();
            let at = random.below(broken.len());
            broken[at] = random.next() as u8;
            let _ = decode_request(&broken.clone().into(), &LIMITS);
            let _ = decode_response(&broken.into(), &LIMITS);
        }
    }
}

/// Every cut of a request whose raw contents end it is an error.
#[test]
fn every_cut_of_raw_contents_is_an_error() {
    let message = request_of(&[&input("INT32", &[2], None), &raw(&[1; 8])]);
    for end in 1..message.len() {
        assert!(decode_request(&message.slice(..end), &LIMITS).is_err(), "{end}");
    }
}

#[test]
fn typed_contents_become_raw_ones() {
    let varints = |number, values: &[u64]| {
        let (mut packed, mut single) = (Vec::new(), Vec::new());
        put_packed(number, values.iter().copied(), &mut packed);
        values.iter().for_each(|&value| put_choice(number, value, &mut single));
        (packed, single)
    };
    let minus = |number: i64| number as u64;
    let cases: [(&str, u32, &[u64], Vec<u8>); 8] = [
        ("BOOL", 1, &[1, 0, 7], vec![1, 0, 1]),
        ("INT8", 2, &[5, minus(-128)], vec![5, 0x80]),
        ("INT16", 2, &[minus(-2), 300], [(-2i16).to_le_bytes(), 300i16.to_le_bytes()].concat()),
        ("INT32", 2, &[minus(-70_000)], (-70_000i32).to_le_bytes().to_vec()),
        ("INT64", 3, &[minus(i64::MIN)], i64::MIN.to_le_bytes().to_vec()),
        ("UINT8", 4, &[255, 0], vec![255, 0]),
        ("UINT32", 4, &[u32::MAX.into()], u32::MAX.to_le_bytes().to_vec()),
        ("UINT64", 5, &[u64::MAX], u64::MAX.to_le_bytes().to_vec()),
    ];
    for (datatype, number, values, expected) in cases {
        let (packed, single) = varints(number, values);
        for contents in [packed, single] {
            let message = request_of(&[&input(datatype, &[values.len() as u64], Some(&contents))]);
            let request = decode_request(&message, &LIMITS).unwrap();
            assert_eq!(request.inputs[0].tensor.data, expected, "{datatype}");
        }
    }
    let mut floats = Vec::new();
    put_bytes(6, &[1.5f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat(), &mut floats);
    put_varint(6 << 3 | 5, &mut floats);
    floats.extend_from_slice(&3.5f32.to_le_bytes());
    let request = decode_request(&request_of(&[&input("FP32", &[3], Some(&floats))]), &LIMITS).unwrap();
    assert_eq!(request.inputs[0].tensor.data, [1.5f32, 2.0, 3.5].map(f32::to_le_bytes).concat());
    let mut texts = Vec::new();
    put_bytes(8, b"ab", &mut texts);
    put_bytes(8, b"", &mut texts);
    let request = decode_request(&request_of(&[&input("BYTES", &[2], Some(&texts))]), &LIMITS).unwrap();
    assert_eq!(request.inputs[0].tensor.data, b"\x02\0\0\0ab\0\0\0\0"[..]);
    let request = decode_request(&request_of(&[&input("FP16", &[0], None)]), &LIMITS).unwrap();
    assert!(request.inputs[0].tensor.data.is_empty());
}

/// MLServer puts contents without elements beside raw ones, and KServe a parameter of REST.
#[test]
fn what_says_nothing_is_passed_over() {
    let message = request_of(&[&input("INT8", &[2], Some(b"")), &raw(b"ab")]);
    assert_eq!(decode_request(&message, &LIMITS).unwrap().inputs[0].tensor.data, b"ab"[..]);
    let (mut choice, mut entry, mut tensor, mut message) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    put_choice(2, 1, &mut choice);
    put_bytes(1, b"binary_data_size", &mut entry);
    put_bytes(2, &choice, &mut entry);
    for (number, bytes) in [(1, &b"x"[..]), (2, b"INT8"), (4, &entry)] {
        put_bytes(number, bytes, &mut tensor);
    }
    put_packed(3, [1].into_iter(), &mut tensor);
    put_bytes(5, &tensor, &mut message);
    put_bytes(6, b"a", &mut message);
    assert_eq!(decode_response(&message.into(), &LIMITS).unwrap().outputs[0].parameters.len(), 0);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let contents = |number, value| {
        let mut out = Vec::new();
        put_choice(number, value, &mut out);
        out
    };
    let three = input("INT8", &[3], None);
    for (message, expected) in [
        (
            vec![&three[..], &raw(b"ab")],
            "inputs[0]: holds 2 bytes, and INT8 of its shape takes 3 (at byte 16)",
        ),
        (vec![&three, &raw(b"abc"), &raw(b"abc")], "has 2 raw contents for 1 inputs"),
        (vec![&three, &three, &raw(b"abc")], "has 1 raw contents for 2 inputs"),
        (vec![&three], "inputs[0]: holds 0 bytes, and INT8 of its shape takes 3"),
        (
            vec![&input("INT8", &[1], Some(&contents(2, 1))), &raw(b"a")],
            "inputs[0]: has contents of its own beside the raw ones",
        ),
        (vec![&input("FP8", &[1], None)], "inputs[0]: has an unknown datatype, \"FP8\""),
        (vec![&input("INT8", &[u64::MAX], None)], "inputs[0]: has a negative dimension (at byte 13)"),
    ] {
        assert_eq!(told(&message), expected);
    }
    for (datatype, number, value, expected) in [
        ("INT8", 2, 128, "an element is out of its datatype's range"),
        ("UINT8", 4, 256, "an element is out of its datatype's range"),
        ("INT32", 2, 1 << 31, "an element is out of its datatype's range"),
        ("INT8", 4, 1, "has contents that are not of INT8"),
        ("FP32", 2, 1, "has contents that are not of FP32"),
        ("FP16", 2, 1, "is FP16, which comes as raw contents only"),
        ("FP32", 6, 1, "field 6 has another type"),
    ] {
        let told = told(&[&input(datatype, &[1], Some(&contents(number, value)))]);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn limits_are_kept() {
    let is_too_large = |message: &[&[u8]]| {
        let refused = decode_request(&request_of(message), &LIMITS).unwrap_err();
        assert_eq!(refused.kind, Kind::TooLarge, "{refused}");
    };
    let empty = input("INT8", &[0], None);
    is_too_large(&[&empty, &empty, &empty, &empty, &empty]);
    is_too_large(&[&raw(b""), &raw(b""), &raw(b""), &raw(b""), &raw(b"")]);
    is_too_large(&[&input("INT8", &[1, 1, 1, 1, 1], None)]);
    is_too_large(&[&input("INT8", &[1001], None), &raw(b"")]);
    is_too_large(&[&input("INT64", &[513], None), &raw(&[0; 513 * 8])]);
    // A varint of one byte is eight of the tensor.
    let mut varints = Vec::new();
    put_packed(3, std::iter::repeat_n(1, 600), &mut varints);
    is_too_large(&[&input("INT64", &[600], Some(&varints))]);
    let mut parameters = Vec::new();
    for number in 0..9 {
        let mut entry = vec![10, 1, b'a' + number];
        put_bytes(2, &[8, 1], &mut entry);
        put_bytes(4, &entry, &mut parameters);
    }
    is_too_large(&[&parameters]);
}

#[test]
fn broken_encodings_are_refused() {
    for (message, expected) in [
        (&b"\x0a"[..], "it ends in the middle (at byte 1)"),
        (b"\x0a\x05abc", "a length reaches beyond the end (at byte 1)"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a length reaches beyond the end (at byte 1)"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a varint is longer than 64 bits (at byte 1)"),
        (b"\x78\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", "a varint is longer than 64 bits (at byte 1)"),
        (b"\x78\x80\x80", "it ends in the middle (at byte 1)"),
        (b"\x02a", "no field has such a number (at byte 0)"),
        (b"\x82\x80\x80\x80\x80\x01a", "no field has such a number (at byte 0)"),
        (b"\x7b\x7c", "no field has such a wire type (at byte 0)"),
        (b"\x7c", "no field has such a wire type (at byte 0)"),
        (b"\x7e", "no field has such a wire type (at byte 0)"),
        (b"\x08\x01", "field 1 has another type (at byte 0)"),
        (b"\x0a\x02a\xff", "field 1 is not UTF-8 (at byte 3)"),
        (b"\x22\x03\x0a\x01a", "parameter \"a\" has no value (at byte 2)"),
        (b"\x79\x00\x00\x00\x00\x00\x00\x00", "it ends in the middle (at byte 1)"),
        (b"\x7d\x00\x00\x00", "it ends in the middle (at byte 1)"),
    ] {
        assert_eq!(told(&[message]), expected, "{}", message.escape_ascii());
    }
}

#[test]
fn the_last_of_a_field_counts_and_unknown_ones_are_skipped() {
    let unknown = b"\x78\x05\x79\x00\x00\x00\x00\x00\x00\x00\x00\x7a\x02hi\x7d\x00\x00\x00\x00";
    let message = request_of(&[
        unknown,
        b"\x0a\x01a\x0a\x01b\x1a\x00",
        b"\x22\x0b\x0a\x01k\x12\x06\x08\x01\x18\x05\x10\x07",
        unknown,
    ]);
    // `\x18\x05` is a string parameter of another type.
    assert!(decode_request(&message, &LIMITS).is_err());
    let message = request_of(&[
        unknown,
        b"\x0a\x01a\x0a\x01b\x1a\x00",
        b"\x22\x09\x0a\x01k\x12\x04\x08\x01\x10\x07",
        unknown,
    ]);
    let request = decode_request(&message, &LIMITS).unwrap();
    assert_eq!((request.model.as_str(), request.id, request.version), ("b", None, None));
    assert_eq!(request.parameters["k"], Parameter::Int64(7));
}

/// Unknown fields are not entered, so that nothing grows with their depth.
#[test]
fn depth_costs_nothing() {
    let mut nested = Vec::new();
    for _ in 0..200 {
        let inner = std::mem::take(&mut nested);
        put_length(15, inner.len(), &mut nested);
        nested.extend_from_slice(&inner);
    }
    assert!(decode_request(&nested.into(), &LIMITS).is_ok());
}

#[test]
fn small_messages_are_read_as_they_were_written() {
    for flag in [Flag(true), Flag(false)] {
        assert_eq!(decode_flag(&encode_flag(flag)), Ok(flag));
    }
    assert_eq!((encode_flag(Flag(true)), encode_flag(Flag(false))), (vec![8, 1], vec![]));
    for version in [None, Some("3".to_owned())] {
        let named = Named { name: "m".to_owned(), version };
        assert_eq!(decode_named(&encode_named(&named)).as_ref(), Ok(&named));
    }
    let extensions = vec!["binary_tensor_data".to_owned(), String::new()];
    let server = ServerMetadata { name: "s".to_owned(), version: "1".to_owned(), extensions };
    assert_eq!(decode_server_metadata(&encode_server_metadata(&server)).as_ref(), Ok(&server));
    let tensor = |shape: &[i64]| TensorMetadata {
        name: "x".to_owned(),
        datatype: Datatype::Fp32.name().to_owned(),
        shape: shape.to_vec(),
    };
    let model = ModelMetadata {
        name: "m".to_owned(),
        versions: vec!["1".to_owned(), "2".to_owned()],
        platform: "onnx_onnxv1".to_owned(),
        inputs: vec![tensor(&[-1, 3, 224, 224]), tensor(&[])],
        outputs: vec![tensor(&[i64::MAX])],
    };
    let message = encode_model_metadata(&model);
    assert_eq!(decode_model_metadata(&message, &LIMITS).as_ref(), Ok(&model));
    for end in 0..message.len() {
        assert_ne!(decode_model_metadata(&message[..end], &LIMITS).as_ref(), Ok(&model));
    }
    for data in [&b""[..], b"abcdef"] {
        let tensor = BareTensor { data: Bytes::from_static(data), shape: vec![2, 3, i32::MAX as u64] };
        let mut message = Vec::new();
        encode_tensor(&tensor, &mut message).unwrap();
        assert_eq!(decode_tensor(&message.into(), &LIMITS).as_ref(), Ok(&tensor));
    }
    let large = BareTensor { data: Bytes::new(), shape: vec![1 << 31] };
    assert!(encode_tensor(&large, &mut Vec::new()).is_err());
    assert!(
        decode_tensor(&Bytes::from_static(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &LIMITS).is_err()
    );
}
