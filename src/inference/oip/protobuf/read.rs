//! Owns how inference requests and responses are read. What their typed contents become is with `contents`.

use bytes::Bytes;

use super::super::data::{self, Budget};
use super::super::limits::Limits;
use super::super::model::{Carried, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput};
use super::super::refused::Refused;
use super::contents;
use super::wire::{Field, Piece};
use crate::inference::tensor::{Datatype, Tensor};

/// A `ModelInferRequest`. Its tensors are slices of `message` where they came raw.
pub fn decode_request(message: &Bytes, limits: &Limits) -> Result<InferRequest, Refused> {
    let (mut request, mut inputs, mut raw) = (InferRequest::default(), Vec::new(), Vec::new());
    let mut rest = Piece::whole(message);
    while let Some(field) = rest.field()? {
        match field.number {
            1 => request.model = field.text()?.to_owned(),
            2 => request.version = some_text(&field)?,
            3 => request.id = some_text(&field)?,
            4 => parameter(&field, limits, &mut request.parameters)?,
            5 => inputs.push(tensor(&field, limits, "inputs", inputs.len())?),
            6 => {
                let output = requested(field.piece()?, limits);
                request
                    .outputs
                    .push(output.map_err(|refused| indexed(refused, "outputs", request.outputs.len()))?);
                bounded(request.outputs.len(), limits, "outputs")?;
            }
            7 => raw.push(field.piece()?),
            _ => {}
        }
        bounded(raw.len(), limits, "raw_input_contents")?;
    }
    request.inputs = filled(inputs, raw, message, limits, "inputs")?;
    Ok(request)
}

/// A `ModelInferResponse`. Its tensors are slices of `message` where they came raw.
pub fn decode_response(message: &Bytes, limits: &Limits) -> Result<InferResponse, Refused> {
    let (mut response, mut outputs, mut raw) = (InferResponse::default(), Vec::new(), Vec::new());
    let mut rest = Piece::whole(message);
    while let Some(field) = rest.field()? {
        match field.number {
            1 => response.model_name = field.text()?.to_owned(),
            2 => response.model_version = some_text(&field)?,
            3 => response.id = some_text(&field)?,
            4 => parameter(&field, limits, &mut response.parameters)?,
            5 => outputs.push(tensor(&field, limits, "outputs", outputs.len())?),
            6 => raw.push(field.piece()?),
            _ => {}
        }
        bounded(raw.len(), limits, "raw_output_contents")?;
    }
    response.outputs = filled(outputs, raw, message, limits, "outputs")?;
    Ok(response)
}

/// Of one tensor's contents. Writers make one; a piece takes two bytes of a message, and more of memory.
const PIECES_MAX: usize = 64;

/// A tensor as its own message says, before raw contents are known.
struct Head<'m> {
    name: &'m str,
    datatype: Datatype,
    shape: Vec<u64>,
    parameters: Parameters,
    /// Pieces of one message: protobuf joins those that stand apart.
    contents: Vec<Piece<'m>>,
}

fn tensor<'m>(
    field: &Field<'m>,
    limits: &Limits,
    list: &'static str,
    index: usize,
) -> Result<Head<'m>, Refused> {
    bounded(index + 1, limits, list)?;
    head(field.piece()?, limits).map_err(|refused| indexed(refused, list, index))
}

fn head<'m>(mut rest: Piece<'m>, limits: &Limits) -> Result<Head<'m>, Refused> {
    let (mut name, mut datatype) = ("", "");
    let (mut shape, mut parameters, mut contents) = (Vec::new(), Parameters::new(), Vec::new());
    while let Some(field) = rest.field()? {
        match field.number {
            1 => name = field.text()?,
            2 => datatype = field.text()?,
            3 => dimensions(&field, limits, &mut shape)?,
            4 => parameter(&field, limits, &mut parameters)?,
            5 if contents.len() == PIECES_MAX => {
                return Err(Refused::too_large("has contents in too many pieces"));
            }
            // An empty one says nothing: MLServer puts one beside raw contents.
            5 => contents.extend(Some(field.piece()?).filter(|piece| !piece.bytes.is_empty())),
            _ => {}
        }
    }
    let known = Datatype::of(datatype);
    let datatype =
        known.ok_or_else(|| Refused::invalid(format!("has an unknown datatype, {datatype:.20?}")))?;
    if parameters.contains_key("shared_memory_region") {
        return Err(Refused::invalid("is in shared memory, which is not within reach here"));
    }
    // Of REST, which KServe lets out here too: beside data it would be wrong.
    parameters.remove("binary_data_size");
    Ok(Head { name, datatype, shape, parameters, contents })
}

/// Of a shape: none is negative.
pub(super) fn dimensions(field: &Field<'_>, limits: &Limits, shape: &mut Vec<u64>) -> Result<(), Refused> {
    field.varints(|side| {
        if side > i64::MAX as u64 {
            return Err(Refused::invalid("has a negative dimension"));
        }
        if shape.len() == limits.dimensions {
            return Err(Refused::too_large(format!("has more than {} dimensions", limits.dimensions)));
        }
        shape.push(side);
        Ok(())
    })
}

/// Gives each tensor its data.
fn filled(
    heads: Vec<Head<'_>>,
    raw: Vec<Piece<'_>>,
    message: &Bytes,
    limits: &Limits,
    list: &'static str,
) -> Result<Vec<Carried>, Refused> {
    if !raw.is_empty() && raw.len() != heads.len() {
        let (raw, count) = (raw.len(), heads.len());
        return Err(Refused::invalid(format!("has {raw} raw contents for {count} {list}")));
    }
    let mut budget = Budget::new(limits);
    let mut carried = Vec::with_capacity(heads.len());
    for (index, head) in heads.into_iter().enumerate() {
        let data = contents_of(&head, raw.get(index), message, &mut budget);
        let data = data.map_err(|refused| indexed(refused, list, index))?;
        let tensor = Tensor { name: head.name.into(), datatype: head.datatype, shape: head.shape, data };
        carried.push(Carried { tensor, parameters: head.parameters });
    }
    Ok(carried)
}

fn contents_of(
    head: &Head<'_>,
    raw: Option<&Piece<'_>>,
    message: &Bytes,
    budget: &mut Budget<'_>,
) -> Result<Bytes, Refused> {
    let elements = budget.elements(&head.shape)?;
    let (data, at) = match raw {
        Some(raw) if head.contents.is_empty() => {
            budget.spend(raw.bytes.len() as u64)?;
            (message.slice_ref(raw.bytes), Some(raw.at))
        }
        Some(_) => return Err(Refused::invalid("has contents of its own beside the raw ones")),
        None => {
            let data = contents::read(&head.contents, head.datatype, budget)?;
            (Bytes::from(data), head.contents.first().map(|piece| piece.at))
        }
    };
    data::check(head.datatype, elements, &data).map_err(|what| Refused { at, ..Refused::invalid(what) })?;
    Ok(data)
}

fn requested(mut rest: Piece<'_>, limits: &Limits) -> Result<RequestedOutput, Refused> {
    let mut output = RequestedOutput { name: String::new(), parameters: Parameters::new(), is_binary: None };
    while let Some(field) = rest.field()? {
        match field.number {
            1 => output.name = field.text()?.to_owned(),
            2 => parameter(&field, limits, &mut output.parameters)?,
            _ => {}
        }
    }
    Ok(output)
}

/// One entry of a map of parameters. Of those of one name the last counts.
fn parameter(field: &Field<'_>, limits: &Limits, parameters: &mut Parameters) -> Result<(), Refused> {
    let (mut rest, mut name, mut value) = (field.piece()?, "", None);
    let at = rest.at;
    while let Some(field) = rest.field()? {
        match field.number {
            1 => name = field.text()?,
            2 => value = choice(field.piece()?)?.or(value),
            _ => {}
        }
    }
    let value = value.ok_or_else(|| Refused::malformed(at, format!("parameter {name:?} has no value")))?;
    parameters.insert(name.to_owned(), value);
    match parameters.len() > limits.parameters {
        true => {
            Err(Refused::too_large(format!("there are more than {} parameters", limits.parameters)).at(at))
        }
        false => Ok(()),
    }
}

fn choice(mut rest: Piece<'_>) -> Result<Option<Parameter>, Refused> {
    let mut value = None;
    while let Some(field) = rest.field()? {
        value = match field.number {
            1 => Some(Parameter::Bool(field.bool()?)),
            2 => Some(Parameter::Int64(field.varint()? as i64)),
            3 => Some(Parameter::Text(field.text()?.to_owned())),
            4 => Some(Parameter::Double(field.double()?)),
            5 => Some(Parameter::Uint64(field.varint()?)),
            _ => value,
        };
    }
    Ok(value)
}

/// Protobuf cannot tell an empty text from none.
fn some_text(field: &Field<'_>) -> Result<Option<String>, Refused> {
    Ok(Some(field.text()?).filter(|text| !text.is_empty()).map(str::to_owned))
}

fn bounded(count: usize, limits: &Limits, list: &'static str) -> Result<(), Refused> {
    match count > limits.tensors {
        true => Err(Refused::too_large(format!("there are more than {}", limits.tensors)).within(list)),
        false => Ok(()),
    }
}

#[cold]
fn indexed(refused: Refused, list: &'static str, index: usize) -> Refused {
    refused.within(&format!("{list}[{index}]"))
}
