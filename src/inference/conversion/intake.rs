//! Owns the way from a client's body to an inference request, by what the body is said to be: an inference request itself, JSON of the
//! client's own making, images, a form of several parts, a protobuf, or bytes. What comes out is what the model was declared to take.

use bytes::Bytes;
use serde_json::Value;

use super::elements::{self, Encoded};
use super::{Form, Input, Model, Wrong, data_bytes_max, limits, multipart};
use crate::inference::image::Scratch;
use crate::inference::image_head::Format;
use crate::inference::oip::declared;
use crate::inference::oip::json;
use crate::inference::oip::model::{Carried, InferRequest, Parameters};
use crate::inference::oip::protobuf;
use crate::inference::tensor::Tensor;
use crate::policy::memory::Part;

/// What a client has sent.
#[derive(Debug, Clone)]
pub struct Came {
    /// Of `content-type`; empty if it says nothing.
    pub content_type: Vec<u8>,
    /// Of `inference-header-content-length`.
    pub header_length: Option<Vec<u8>>,
    pub body: Bytes,
    /// Its path, or who sent it, says that it is an inference request of the protocol's REST.
    pub is_protocol: bool,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Image(Format),
    Form,
    Protobuf,
    Bytes,
}

impl Kind {
    fn of(content_type: &[u8]) -> Kind {
        let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        if let Some(format) = Format::of_media_type(essence) {
            return Kind::Image(format);
        }
        let ends_in_json = essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json");
        match () {
            () if is("application/json") || is("text/json") || ends_in_json => Kind::Json,
            () if is("multipart/form-data") => Kind::Form,
            () if is("application/protobuf") || is("application/x-protobuf") => Kind::Protobuf,
            () => Kind::Bytes,
        }
    }
}

/// The request for the model. `room` has been widened to the body; what the request takes is added before it is made.
pub fn request(
    model: &Model,
    came: &Came,
    room: &mut Part,
    scratch: &mut Scratch,
) -> Result<InferRequest, Wrong> {
    let kind = Kind::of(&came.content_type);
    let mut request = match kind {
        Kind::Json | Kind::Bytes if came.header_length.is_some() => protocol(came, room)?,
        Kind::Json if came.is_protocol || !model.reads_members() => protocol(came, room)?,
        Kind::Json => members(model, came, room, scratch)?,
        Kind::Image(format) => {
            let image = Encoded { format, bytes: came.body.clone() };
            of_inputs(vec![elements::of_images(model, image_input(model)?, &[image], room, scratch)?])
        }
        Kind::Form => form(model, came, room, scratch)?,
        Kind::Protobuf => of_message(&came.body, room)?,
        // Said to be for the model's own protocol, and nothing it has.
        Kind::Bytes if came.is_protocol && came.content_type.is_empty() => protocol(came, room)?,
        Kind::Bytes => of_inputs(vec![elements::of_raw(value_input(model)?, &came.body)?]),
    };
    // A message names the model as its client knows it.
    request.model = model.name.to_string();
    request.version = model.version.as_deref().map(str::to_owned).or(request.version);
    judge(model, &request)?;
    Ok(request)
}

/// A message of the protocol's gRPC, for whatever model.
pub fn message(model: &Model, body: &Bytes, room: &mut Part) -> Result<InferRequest, Wrong> {
    let request = of_message(body, room)?;
    if model.is_called(&request.model, request.version.as_deref()) {
        judge(model, &request)?;
    }
    Ok(request)
}

/// Tensors are slices of the message, unless their elements stand there one by one: then they take more than it does.
fn of_message(body: &Bytes, room: &mut Part) -> Result<InferRequest, Wrong> {
    let request = protobuf::decode_request(body, &limits(body.len()))?;
    let tensors: usize = request.inputs.iter().map(|carried| carried.tensor.data.len()).sum();
    room.widen(room.bytes() + tensors.saturating_sub(body.len()) as u64)?;
    Ok(request)
}

/// An inference request of the protocol's REST, for whatever model.
pub fn protocol(came: &Came, room: &mut Part) -> Result<InferRequest, Wrong> {
    let header_bytes = came.header_length.as_deref();
    let header_bytes = header_bytes.map(|value| json::header_length(value, came.body.len())).transpose()?;
    room.widen(room.bytes() + data_bytes_max(header_bytes.unwrap_or(came.body.len())))?;
    Ok(json::read_request(&came.body, header_bytes, &limits(came.body.len()))?)
}

/// Whether these are the inputs that the model was declared to take, if any were.
fn judge(model: &Model, request: &InferRequest) -> Result<(), Wrong> {
    if model.inputs.is_empty() {
        return Ok(());
    }
    declared::check(request, &model.declared()).map_err(|mismatch| Wrong::Invalid(mismatch.to_string()))
}

fn of_inputs(tensors: Vec<Tensor>) -> InferRequest {
    let carried = |tensor| Carried { tensor, parameters: Parameters::new() };
    InferRequest { inputs: tensors.into_iter().map(carried).collect(), ..InferRequest::default() }
}

/// Where a body that is an image goes.
fn image_input(model: &Model) -> Result<&Input, Wrong> {
    let none = || Wrong::Type("the model takes no image".into());
    let mut inputs = model.image_inputs();
    let input = inputs.next().ok_or_else(none)?;
    match inputs.next() {
        None if model.inputs.len() == 1 => Ok(input),
        _ => Err(Wrong::Type("the model takes more than an image: send a form, or JSON".into())),
    }
}

/// Where a body that is nothing else goes.
fn value_input(model: &Model) -> Result<&Input, Wrong> {
    match &model.inputs[..] {
        [Input { form: Form::Value, .. }] => Ok(&model.inputs[0]),
        [_] => Err(Wrong::Type("the model takes an image: say which by the content type".into())),
        _ => Err(Wrong::Type("nothing can be made of a body of this type".into())),
    }
}

/// JSON in which each input has a place, unless it is an inference request after all.
fn members(
    model: &Model,
    came: &Came,
    room: &mut Part,
    scratch: &mut Scratch,
) -> Result<InferRequest, Wrong> {
    // A tree of values takes some times the text.
    room.widen(room.bytes() + TREE_SHARE * came.body.len() as u64)?;
    let read = serde_json::from_slice::<Value>(&came.body);
    let value = read.map_err(|error| Wrong::Invalid(format!("the body is no JSON: {error}")))?;
    let is_request = value.get("inputs").and_then(Value::as_array).is_some_and(|inputs| {
        inputs.first().is_some_and(|input| input.get("datatype").is_some() && input.get("name").is_some())
    });
    if is_request {
        return protocol(came, room);
    }
    let mut tensors = Vec::new();
    for input in &model.inputs {
        let Some(pointer) = &input.pointer else {
            return Err(Wrong::Invalid(format!("the input {:?} has no place in such JSON", input.name)));
        };
        let found = value.pointer(pointer).filter(|found| !found.is_null());
        let missing =
            || Wrong::Invalid(format!("there is nothing at {pointer:?}, for the input {:?}", input.name));
        tensors.push(elements::of_value(model, input, found.ok_or_else(missing)?, room, scratch)?);
    }
    Ok(of_inputs(tensors))
}

/// What serde_json's values take of memory, at most, for each byte of text: `[],` is a value of 32; and the text that an input becomes for
/// the protocol's reader, twice, and its tensor.
const TREE_SHARE: u64 = 11 + 2 + 4;

/// Parts by the names of inputs; images may have any name if one input takes images.
fn form(model: &Model, came: &Came, room: &mut Part, scratch: &mut Scratch) -> Result<InferRequest, Wrong> {
    let parts =
        multipart::parts(&came.content_type, &came.body).map_err(|words| Wrong::Invalid(words.into()))?;
    let mut tensors = Vec::new();
    let mut taken = 0;
    let is_only = model.image_inputs().count() == 1;
    for input in &model.inputs {
        let is_for = |part: &&multipart::Part| {
            *part.name == *input.name || (is_only && input.takes_images() && part.is_image())
        };
        let own: Vec<&multipart::Part> = parts.iter().filter(is_for).collect();
        taken += own.len();
        tensors.push(match input.form {
            Form::Value => of_part(input, &own, room)?,
            Form::Image(_) | Form::Encoded => {
                let images: Result<Vec<_>, Wrong> = own.into_iter().map(encoded).collect();
                elements::of_images(model, input, &images?, room, scratch)?
            }
        });
    }
    match parts.len() > taken {
        true => Err(Wrong::Invalid("the form has a part that is for none of the model's inputs".into())),
        false => Ok(of_inputs(tensors)),
    }
}

fn encoded(part: &multipart::Part) -> Result<Encoded, Wrong> {
    let said = Format::of_media_type(&part.content_type);
    let format = said.or_else(|| elements::format_of(&part.body));
    let none = || Wrong::Invalid(format!("the part {:?} is no JPEG, PNG or WebP", part.name));
    Ok(Encoded { format: format.ok_or_else(none)?, bytes: part.body.clone() })
}

/// JSON if it says so, or if it is of numbers; else the bytes as they are.
fn of_part(input: &Input, parts: &[&multipart::Part], room: &mut Part) -> Result<Tensor, Wrong> {
    let [part] = parts else {
        let words = format!("the input {:?} needs one part, and there are {}", input.name, parts.len());
        return Err(Wrong::Invalid(words));
    };
    let is_text = part.content_type.is_empty() || part.content_type.starts_with(b"text/");
    if Kind::of(&part.content_type) == Kind::Json || (is_text && input.datatype.size().is_some()) {
        room.widen(room.bytes() + TREE_SHARE * part.body.len() as u64)?;
        let read = serde_json::from_slice::<Value>(&part.body);
        let value =
            read.map_err(|error| Wrong::Invalid(format!("the part {:?} is no JSON: {error}", part.name)))?;
        return elements::of_values(input, &value);
    }
    elements::of_raw(input, &part.body)
}
