//! Owns how inference requests and responses are written: tensors raw, whatever their datatype, and each copied once.

use bytes::Bytes;

use super::super::model::{Carried, InferRequest, InferResponse, Parameter, Parameters};
use super::wire::{put_bytes, put_choice, put_double, put_length, put_packed, put_text, varint_size};

/// Appends a `ModelInferRequest`, for which space is made beforehand. What REST alone has is left out.
pub fn encode_request(request: &InferRequest, out: &mut Vec<u8>) {
    let mut head = Vec::new();
    put_text(1, &request.model, &mut head);
    put_text(2, request.version.as_deref().unwrap_or_default(), &mut head);
    put_text(3, request.id.as_deref().unwrap_or_default(), &mut head);
    put_parameters(4, &request.parameters, &mut head);
    put_tensors(5, &request.inputs, &mut head);
    let mut output = Vec::new();
    for asked in &request.outputs {
        output.clear();
        put_text(1, &asked.name, &mut output);
        put_parameters(2, &asked.parameters, &mut output);
        put_bytes(6, &output, &mut head);
    }
    put_raw(7, &head, &request.inputs, out);
}

/// Appends a `ModelInferResponse`, for which space is made beforehand.
pub fn encode_response(response: &InferResponse, out: &mut Vec<u8>) {
    let mut head = Vec::new();
    put_text(1, &response.model_name, &mut head);
    put_text(2, response.model_version.as_deref().unwrap_or_default(), &mut head);
    put_text(3, response.id.as_deref().unwrap_or_default(), &mut head);
    put_parameters(4, &response.parameters, &mut head);
    put_tensors(5, &response.outputs, &mut head);
    put_raw(6, &head, &response.outputs, out);
}

fn put_tensors(number: u32, tensors: &[Carried], out: &mut Vec<u8>) {
    let mut message = Vec::new();
    for Carried { tensor, parameters } in tensors {
        message.clear();
        put_text(1, &tensor.name, &mut message);
        put_text(2, tensor.datatype.name(), &mut message);
        put_packed(3, tensor.shape.iter().copied(), &mut message);
        put_parameters(4, parameters, &mut message);
        put_bytes(number, &message, out);
    }
}

/// The head, and behind it the data of each tensor, also of those that are empty: they are told apart by their order.
fn put_raw(number: u32, head: &[u8], tensors: &[Carried], out: &mut Vec<u8>) {
    let size =
        |data: &Bytes| varint_size(u64::from(number) << 3) + varint_size(data.len() as u64) + data.len();
    let raw_bytes: usize = tensors.iter().map(|carried| size(&carried.tensor.data)).sum();
    out.reserve_exact(head.len() + raw_bytes);
    out.extend_from_slice(head);
    for carried in tensors {
        put_length(number, carried.tensor.data.len(), out);
        out.extend_from_slice(&carried.tensor.data);
    }
}

fn put_parameters(number: u32, parameters: &Parameters, out: &mut Vec<u8>) {
    let (mut entry, mut value) = (Vec::new(), Vec::new());
    for (name, parameter) in parameters {
        entry.clear();
        value.clear();
        match parameter {
            Parameter::Bool(is_true) => put_choice(1, (*is_true).into(), &mut value),
            Parameter::Int64(number) => put_choice(2, *number as u64, &mut value),
            Parameter::Text(text) => put_bytes(3, text.as_bytes(), &mut value),
            Parameter::Double(number) => put_double(4, *number, &mut value),
            Parameter::Uint64(number) => put_choice(5, *number, &mut value),
        }
        put_bytes(1, name.as_bytes(), &mut entry);
        put_bytes(2, &value, &mut entry);
        put_bytes(number, &entry, out);
    }
}
