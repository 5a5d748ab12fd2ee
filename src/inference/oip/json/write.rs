//! Owns how inference requests and responses are written as JSON, and which of their tensors follow it in binary. Sends nothing.
//!
//! Numbers are the shortest that read back as the same FP32 or FP64. NaN and infinities are no JSON numbers: a tensor that holds one is
//! refused, for its reader would fail at it or, worse, take something else. (Triton's writer lets `NaN` and `Infinity` out.) In binary they
//! are fine, as are FP16, BF16, and BYTES that are no UTF-8.

use std::fmt;

use bytes::Bytes;

use super::super::data::{self, Elements};
use super::super::model::{Carried, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput};
use super::body::Body;
use crate::inference::tensor::{Datatype, Tensor, element_count};

/// What JSON has no way to say, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritable {
    /// Of the inputs or outputs. `None`: it is a parameter.
    pub tensor: Option<usize>,
    pub what: &'static str,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tensor {
            Some(index) => write!(formatter, "tensor {index} {}", self.what),
            None => write!(formatter, "a parameter {}", self.what),
        }
    }
}

impl std::error::Error for Unwritable {}

/// The body of a request. `is_binary`: whether this input goes in binary. Model and version go into the path.
pub fn write_request(
    request: &InferRequest,
    is_binary: impl Fn(&Tensor) -> bool,
) -> Result<Body, Unwritable> {
    let mut writer = Writer::with_space_for(&request.inputs, &is_binary);
    writer.text("id", request.id.as_deref());
    writer.parameters(
        &request.parameters,
        "binary_data_output",
        request.is_binary_output.map(Parameter::Bool),
    )?;
    writer.tensors("inputs", &request.inputs, is_binary)?;
    if !request.outputs.is_empty() {
        writer.requested(&request.outputs)?;
    }
    Ok(writer.finish())
}

/// The body of a response. `is_binary`: whether this output goes in binary, as `InferRequest::wants_binary` tells.
pub fn write_response(
    response: &InferResponse,
    is_binary: impl Fn(&Tensor) -> bool,
) -> Result<Body, Unwritable> {
    let mut writer = Writer::with_space_for(&response.outputs, &is_binary);
    writer.text("model_name", Some(&response.model_name));
    writer.text("model_version", response.model_version.as_deref());
    writer.text("id", response.id.as_deref());
    writer.parameters(&response.parameters, "binary_data_output", None)?;
    writer.tensors("outputs", &response.outputs, is_binary)?;
    Ok(writer.finish())
}

struct Writer {
    json: Vec<u8>,
    tail: Vec<Bytes>,
    is_binary: bool,
}

impl Writer {
    /// Some room, so that large arrays are moved seldom.
    fn with_space_for(tensors: &[Carried], is_binary: &impl Fn(&Tensor) -> bool) -> Writer {
        let in_json = tensors.iter().map(|carried| &carried.tensor).filter(|tensor| !is_binary(tensor));
        let text_bytes: usize = in_json.map(|tensor| tensor.data.len().saturating_mul(3)).sum();
        let mut json = Vec::with_capacity(256 + text_bytes);
        json.push(b'{');
        Writer { json, tail: Vec::new(), is_binary: false }
    }

    fn finish(mut self) -> Body {
        self.json.push(b'}');
        Body { json: self.json, tail: self.tail, is_binary: self.is_binary }
    }

    /// A member's name, behind a comma if it is not the first.
    fn member(&mut self, name: &str) {
        if !matches!(self.json.last(), Some(b'{' | b'[')) {
            self.json.push(b',');
        }
        put_string(name, &mut self.json);
        self.json.push(b':');
    }

    fn text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.member(name);
            put_string(text, &mut self.json);
        }
    }

    /// Nothing if there are none. One name is ours to give: what a message of gRPC has under it means nothing, or worse, in REST.
    fn parameters(
        &mut self,
        parameters: &Parameters,
        ours: &str,
        value: Option<Parameter>,
    ) -> Result<(), Unwritable> {
        let others =
            parameters.iter().map(|(name, value)| (name.as_str(), value)).filter(|(name, _)| *name != ours);
        let mut all = others.chain(value.as_ref().map(|value| (ours, value))).peekable();
        if all.peek().is_none() {
            return Ok(());
        }
        self.member("parameters");
        self.json.push(b'{');
        for (name, value) in all {
            self.member(name);
            put_parameter(value, &mut self.json)?;
        }
        self.json.push(b'}');
        Ok(())
    }

    fn tensors(
        &mut self,
        list: &str,
        tensors: &[Carried],
        is_binary: impl Fn(&Tensor) -> bool,
    ) -> Result<(), Unwritable> {
        self.member(list);
        self.json.push(b'[');
        for (index, carried) in tensors.iter().enumerate() {
            self.open_item();
            let is_binary = is_binary(&carried.tensor);
            let written = self.tensor(carried, is_binary);
            written.map_err(|unwritable| Unwritable { tensor: Some(index), ..unwritable })?;
            self.json.push(b'}');
        }
        self.json.push(b']');
        Ok(())
    }

    fn tensor(&mut self, carried: &Carried, is_binary: bool) -> Result<(), Unwritable> {
        let tensor = &carried.tensor;
        self.text("name", Some(&tensor.name));
        self.text("datatype", Some(tensor.datatype.name()));
        self.member("shape");
        list(&tensor.shape, &mut self.json, |side, out| put_integer(*side, out));
        let size = is_binary.then(|| Parameter::Int64(tensor.data.len() as i64));
        self.parameters(&carried.parameters, "binary_data_size", size)?;
        match is_binary {
            true => {
                self.is_binary = true;
                self.tail.push(tensor.data.clone());
                Ok(())
            }
            false => {
                self.member("data");
                put_data(tensor, &mut self.json).map_err(|what| Unwritable { tensor: None, what })
            }
        }
    }

    fn requested(&mut self, outputs: &[RequestedOutput]) -> Result<(), Unwritable> {
        self.member("outputs");
        self.json.push(b'[');
        for output in outputs {
            self.open_item();
            self.text("name", Some(&output.name));
            self.parameters(&output.parameters, "binary_data", output.is_binary.map(Parameter::Bool))?;
            self.json.push(b'}');
        }
        self.json.push(b']');
        Ok(())
    }

    fn open_item(&mut self) {
        if self.json.last() != Some(&b'[') {
            self.json.push(b',');
        }
        self.json.push(b'{');
    }
}

/// The elements, flat.
fn put_data(tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let elements = element_count(&tensor.shape).unwrap_or(u64::MAX);
    data::check(tensor.datatype, elements, &tensor.data).map_err(|_| "holds other than its shape has")?;
    let data = &tensor.data[..];
    match tensor.datatype {
        Datatype::Bool => list(data, out, |byte, out| {
            out.extend_from_slice(if *byte == 0 { b"false" } else { b"true" });
        }),
        Datatype::Uint8 => list(data, out, |byte, out| put_integer(*byte, out)),
        Datatype::Int8 => list(data, out, |byte, out| put_integer(*byte as i8, out)),
        Datatype::Uint16 => {
            list(data.as_chunks().0, out, |bytes, out| put_integer(u16::from_le_bytes(*bytes), out))
        }
        Datatype::Int16 => {
            list(data.as_chunks().0, out, |bytes, out| put_integer(i16::from_le_bytes(*bytes), out))
        }
        Datatype::Uint32 => {
            list(data.as_chunks().0, out, |bytes, out| put_integer(u32::from_le_bytes(*bytes), out))
        }
        Datatype::Int32 => {
            list(data.as_chunks().0, out, |bytes, out| put_integer(i32::from_le_bytes(*bytes), out))
        }
        Datatype::Uint64 => {
            list(data.as_chunks().0, out, |bytes, out| put_integer(u64::from_le_bytes(*bytes), out))
        }
        Datatype::Int64 => {
            list(data.as_chunks().0, out, |bytes, out| put_integer(i64::from_le_bytes(*bytes), out))
        }
        Datatype::Fp32 => return put_floats(data.as_chunks().0, f32::from_le_bytes, f32::is_finite, out),
        Datatype::Fp64 => return put_floats(data.as_chunks().0, f64::from_le_bytes, f64::is_finite, out),
        Datatype::Bytes => return put_texts(data, out),
        Datatype::Fp16 => return Err("is FP16, which JSON has no numbers for: it goes in binary only"),
        Datatype::Bf16 => return Err("is BF16, which JSON has no numbers for: it goes in binary only"),
    }
    Ok(())
}

#[inline]
fn list<T>(items: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for item in items {
        put(item, out);
        out.push(b',');
    }
    close_list(out);
}

/// In place of the last comma.
fn close_list(out: &mut Vec<u8>) {
    match out.last_mut() {
        Some(last @ b',') => *last = b']',
        _ => out.push(b']'),
    }
}

fn put_floats<T: zmij::Float + Copy, const N: usize>(
    items: &[[u8; N]],
    of: impl Fn([u8; N]) -> T,
    is_finite: impl Fn(T) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let mut buffer = zmij::Buffer::new();
    out.push(b'[');
    for item in items {
        let number = of(*item);
        if !is_finite(number) {
            return Err("holds NaN or an infinity, which JSON has no numbers for: it goes in binary only");
        }
        out.extend_from_slice(buffer.format_finite(number).as_bytes());
        out.push(b',');
    }
    close_list(out);
    Ok(())
}

fn put_texts(data: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    const NO_TEXT: &str = "holds BYTES that are no UTF-8: it goes in binary only";
    out.push(b'[');
    for element in Elements(data) {
        let text = element.and_then(|element| str::from_utf8(element).ok()).ok_or(NO_TEXT)?;
        put_string(text, out);
        out.push(b',');
    }
    close_list(out);
    Ok(())
}

fn put_parameter(parameter: &Parameter, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    match parameter {
        Parameter::Bool(is_true) => out.extend_from_slice(if *is_true { b"true" } else { b"false" }),
        Parameter::Int64(number) => put_integer(*number, out),
        Parameter::Uint64(number) => put_integer(*number, out),
        Parameter::Text(text) => put_string(text, out),
        Parameter::Double(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(*number).as_bytes());
        }
        Parameter::Double(_) => {
            return Err(Unwritable {
                tensor: None,
                what: "is NaN or an infinity, which JSON has no numbers for",
            });
        }
    }
    Ok(())
}

fn put_integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn put_string(text: &str, out: &mut Vec<u8>) {
    // A vector takes whatever is written to it, and a str is always a string.
    let _ = serde_json::to_writer(out, text);
}
