//! Owns how single values and images become a tensor: values of JSON by way of the protocol's own reader, so that both are judged alike,
//! and images one after the other into one batch.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::{Form, Input, Model, Wrong, limits};
use crate::inference::image::{self, Scratch};
use crate::inference::image_head::Format;
use crate::inference::oip::json;
use crate::inference::tensor::{Datatype, Tensor};
use crate::policy::memory::Part;

/// An image as it came.
pub struct Encoded {
    pub format: Format,
    pub bytes: Bytes,
}

/// The format of an image that does not say it, by its first bytes.
pub fn format_of(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [0xff, 0xd8, ..] => Some(Format::Jpeg),
        [0x89, b'P', b'N', b'G', ..] => Some(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::Webp),
        _ => None,
    }
}

/// One batch. `room` is widened before an image is decoded, by what that takes.
pub fn of_images(
    model: &Model,
    input: &Input,
    images: &[Encoded],
    room: &mut Part,
    scratch: &mut Scratch,
) -> Result<Tensor, Wrong> {
    if images.is_empty() {
        return Err(Wrong::Invalid(format!("there is no image for the input {:?}", input.name)));
    }
    if !input.is_batched && images.len() > 1 {
        let words = format!("the input {:?} takes one image, and {} came", input.name, images.len());
        return Err(Wrong::Invalid(words));
    }
    let batch = input.is_batched.then_some(images.len() as u64);
    match &input.form {
        Form::Image(plan) => {
            let data = pixels(model, plan, images, room, scratch)?;
            let shape = batch.into_iter().chain(plan.shape()).collect();
            Ok(Tensor { name: input.name.clone(), datatype: input.datatype, shape, data })
        }
        Form::Encoded | Form::Value => {
            let mut elements = Vec::new();
            for image in images {
                model.images.judge(&image::head(&image.bytes, image.format)?)?;
                put_bytes(&image.bytes, &mut elements);
            }
            let shape = batch.into_iter().chain(sides(&input.shape)).collect();
            Ok(Tensor { name: input.name.clone(), datatype: Datatype::Bytes, shape, data: elements.into() })
        }
    }
}

fn pixels(
    model: &Model,
    plan: &image::Plan,
    images: &[Encoded],
    room: &mut Part,
    scratch: &mut Scratch,
) -> Result<Bytes, Wrong> {
    let element = plan.element_bytes();
    let mut decoding = 0;
    for image in images {
        let head = image::head(&image.bytes, image.format)?;
        model.images.judge(&head)?;
        decoding = decoding.max(image::memory_needed(&image.bytes, &head, plan));
    }
    let tensor = element as u64 * images.len() as u64;
    room.widen(room.bytes() + tensor + decoding)?;
    let mut data = Vec::with_capacity(element * images.len());
    for image in images {
        image::to_tensor(&image.bytes, image.format, plan, &model.images, scratch, &mut data)?;
    }
    Ok(data.into())
}

/// Of a declared shape all of whose sides must be known: one that is open is 1.
fn sides(shape: &[i64]) -> impl Iterator<Item = u64> {
    shape.iter().map(|&side| u64::try_from(side).unwrap_or(1))
}

fn put_bytes(element: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(element.len() as u32).to_le_bytes());
    out.extend_from_slice(element);
}

/// Of what stands at the input's place in JSON.
pub fn of_value(
    model: &Model,
    input: &Input,
    value: &Value,
    room: &mut Part,
    scratch: &mut Scratch,
) -> Result<Tensor, Wrong> {
    if !input.takes_images() {
        return of_values(input, value);
    }
    let texts: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    };
    let images: Result<Vec<_>, Wrong> = texts.into_iter().map(|text| of_base64(input, text)).collect();
    of_images(model, input, &images?, room, scratch)
}

fn of_base64(input: &Input, value: &Value) -> Result<Encoded, Wrong> {
    let wrong = |words: &str| Wrong::Invalid(format!("the input {:?} {words}", input.name));
    let text = value.as_str().ok_or_else(|| wrong("takes an image as text of base64"))?;
    // "data:image/png;base64,", as browsers have it.
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").ok_or_else(|| wrong("has a URL of data without base64"))?.1,
        None => text,
    };
    let bytes = STANDARD.decode(text).map_err(|_| wrong("is no base64"))?;
    let format = format_of(&bytes).ok_or_else(|| wrong("is no JPEG, PNG or WebP"))?;
    Ok(Encoded { format, bytes: bytes.into() })
}

/// Numbers, truth values and texts, in arrays or alone.
pub fn of_values(input: &Input, value: &Value) -> Result<Tensor, Wrong> {
    let dimensions = dimensions(value);
    let rank = input.shape.len() + usize::from(input.is_batched);
    // Dimensions that are left out are of one: a text alone is a batch of one.
    let missing = rank.saturating_sub(dimensions.len());
    // A list of single values is a batch of them.
    let is_list = missing == 1 && input.is_batched && input.shape == [1] && dimensions.len() == 1;
    let shape: Vec<u64> = match is_list {
        true => vec![dimensions[0], 1],
        false => std::iter::repeat_n(1, missing).chain(dimensions).collect(),
    };
    let mut data = String::new();
    match (value, missing) {
        (Value::Array(_), 0) => data = value.to_string(),
        // Flat, since the shape has more dimensions than it.
        _ => {
            data.push('[');
            put_flat(value, &mut data);
            data.push(']');
        }
    }
    let (name, datatype) = (Value::from(&*input.name), input.datatype.name());
    let inputs = format!(r#"[{{"name":{name},"datatype":"{datatype}","shape":{shape:?},"data":{data}}}]"#);
    drop(data);
    let body = Bytes::from(format!(r#"{{"inputs":{inputs}}}"#));
    let read = json::read_request(&body, None, &limits(body.len())).map_err(|refused| {
        let place = refused.path.trim_start_matches("inputs[0]").trim_start_matches(".data").to_owned();
        let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
        Wrong::Invalid(format!("the input {:?}{at}: {}", input.name, refused.what))
    })?;
    let carried = read.inputs.into_iter().next();
    carried.map(|carried| carried.tensor).ok_or_else(|| Wrong::Invalid("there is no value".into()))
}

/// As far as the first of each array's items tells.
fn dimensions(value: &Value) -> Vec<u64> {
    let mut sides = Vec::new();
    let mut at = value;
    while let Value::Array(items) = at {
        sides.push(items.len() as u64);
        let Some(first) = items.first() else { break };
        at = first;
    }
    sides
}

fn put_flat(value: &Value, out: &mut String) {
    let Value::Array(items) = value else {
        // Behind another one.
        if !out.ends_with('[') {
            out.push(',');
        }
        return out.push_str(&value.to_string());
    };
    items.iter().for_each(|item| put_flat(item, out));
}

/// Of a body that is the input's elements as they are.
pub fn of_raw(input: &Input, body: &Bytes) -> Result<Tensor, Wrong> {
    let batch = input.is_batched.then_some(1);
    let Some(size) = input.datatype.size() else {
        let mut data = Vec::with_capacity(body.len() + 4);
        put_bytes(body, &mut data);
        let shape = batch.into_iter().chain(sides(&input.shape)).collect();
        return Ok(Tensor { name: input.name.clone(), datatype: input.datatype, shape, data: data.into() });
    };
    let sides = input.shape.iter().filter_map(|&side| u64::try_from(side).ok());
    // More than can be counted are more than came.
    let known = sides.fold(1u64, u64::saturating_mul);
    let open = input.shape.iter().filter(|&&side| side < 0).count() + usize::from(input.is_batched);
    let elements = body.len() as u64 / size as u64;
    let fits =
        !body.is_empty() && body.len().is_multiple_of(size) && known > 0 && elements.is_multiple_of(known);
    // One open side is told by the length, and the batch is the first that is.
    if !fits || (open == 0 && elements != known) {
        let (name, datatype, shape) = (&input.name, input.datatype.name(), &input.declared().shape);
        let words = format!("the input {name:?} is {datatype} {shape:?}, which {} bytes are not", body.len());
        return Err(Wrong::Invalid(words));
    }
    let mut left = Some(elements / known);
    let mut side = |declared: i64| u64::try_from(declared).unwrap_or_else(|_| left.take().unwrap_or(1));
    let shape = input.declared().shape.into_iter().map(&mut side).collect();
    Ok(Tensor { name: input.name.clone(), datatype: input.datatype, shape, data: body.clone() })
}
