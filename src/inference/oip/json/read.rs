//! Owns how inference requests and responses are read from JSON, and how tensors that follow it in binary are cut from the body. How an array
//! becomes a tensor is with `tensor`.

use bytes::Bytes;

use super::super::data::{self, Budget};
use super::super::limits::Limits;
use super::super::model::{Carried, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput};
use super::super::refused::Refused;
use super::cursor::Cursor;
use super::number::{self, Number};
use super::tensor;
use crate::inference::tensor::{Datatype, Tensor};

/// A request's body. `header_bytes`: how much of it is JSON (`header_length`); `None`: all. Model and version stand in the path, and are
/// left empty here. Tensors in binary are slices of `body`.
pub fn read_request(
    body: &Bytes,
    header_bytes: Option<usize>,
    limits: &Limits,
) -> Result<InferRequest, Refused> {
    let mut tensors = Tensors::new(body, header_bytes, limits)?;
    let mut cursor = Cursor::new(header(body, header_bytes), limits.depth);
    let (mut request, mut members) =
        (InferRequest::default(), Members::of(&["id", "parameters", "inputs", "outputs"]));
    cursor.object(|cursor, name| {
        let member = members.named(name, cursor)?;
        let taken = match member {
            "id" => text_or_null(cursor).map(|id| request.id = id),
            "parameters" => parameters(cursor, limits).map(|parameters| request.parameters = parameters),
            "inputs" => tensors.list(cursor).map(|inputs| request.inputs = inputs),
            "outputs" => requested(cursor, limits).map(|outputs| request.outputs = outputs),
            _ => cursor.skip(),
        };
        taken.map_err(|refused| refused.within(member))
    })?;
    cursor.finish()?;
    if request.inputs.is_empty() {
        return Err(Refused::invalid("has no inputs"));
    }
    request.is_binary_output = take_bool(&mut request.parameters, "binary_data_output")
        .map_err(|refused| refused.within("parameters"))?;
    tensors.finish()?;
    Ok(request)
}

/// A response's body; `header_bytes` as for `read_request`. Tensors in binary are slices of `body`.
pub fn read_response(
    body: &Bytes,
    header_bytes: Option<usize>,
    limits: &Limits,
) -> Result<InferResponse, Refused> {
    let mut tensors = Tensors::new(body, header_bytes, limits)?;
    let mut cursor = Cursor::new(header(body, header_bytes), limits.depth);
    let mut response = InferResponse::default();
    let mut members = Members::of(&["model_name", "model_version", "id", "parameters", "outputs"]);
    cursor.object(|cursor, name| {
        let member = members.named(name, cursor)?;
        let taken = match member {
            "model_name" => text_or_null(cursor).map(|name| response.model_name = name.unwrap_or_default()),
            "model_version" => text_or_null(cursor).map(|version| response.model_version = version),
            "id" => text_or_null(cursor).map(|id| response.id = id),
            "parameters" => parameters(cursor, limits).map(|parameters| response.parameters = parameters),
            "outputs" => tensors.list(cursor).map(|outputs| response.outputs = outputs),
            _ => cursor.skip(),
        };
        taken.map_err(|refused| refused.within(member))
    })?;
    cursor.finish()?;
    if !members.has("outputs") {
        return Err(Refused::invalid("has no outputs"));
    }
    tensors.finish()?;
    Ok(response)
}

/// The part of the body that is JSON.
fn header(body: &Bytes, header_bytes: Option<usize>) -> &[u8] {
    header_bytes.and_then(|bytes| body.get(..bytes)).unwrap_or(body)
}

/// Which members have been there: each may be once.
struct Members {
    names: &'static [&'static str],
    /// A bit of each.
    seen: u16,
}

impl Members {
    fn of(names: &'static [&'static str]) -> Members {
        Members { names, seen: 0 }
    }

    /// The member of that name, whose value is next. Empty: one that is not known here.
    fn named(&mut self, name: &str, cursor: &Cursor<'_>) -> Result<&'static str, Refused> {
        let Some(index) = self.names.iter().position(|known| *known == name) else { return Ok("") };
        if self.seen >> index & 1 == 1 {
            return Err(Refused::invalid("stands twice").within(self.names[index]).at(cursor.at));
        }
        self.seen |= 1 << index;
        Ok(self.names[index])
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().position(|known| *known == name).is_some_and(|index| self.seen >> index & 1 == 1)
    }
}

/// The tensors of a message, and the binary part that is left for them.
struct Tensors<'l> {
    budget: Budget<'l>,
    is_json_alone: bool,
    tail: Bytes,
}

/// A tensor whose object is being read.
#[derive(Default)]
struct Draft<'t> {
    name: Option<String>,
    datatype: Option<Datatype>,
    shape: Option<Vec<u64>>,
    parameters: Parameters,
    data: Option<Vec<u8>>,
    /// Where the data begins, if it stood before what it needs.
    later: Option<Cursor<'t>>,
}

impl<'l> Tensors<'l> {
    fn new(body: &Bytes, header_bytes: Option<usize>, limits: &'l Limits) -> Result<Tensors<'l>, Refused> {
        let budget = Budget::new(limits);
        let at = header_bytes.unwrap_or(body.len());
        match at <= body.len() {
            true => Ok(Tensors { budget, is_json_alone: header_bytes.is_none(), tail: body.slice(at..) }),
            false => Err(Refused::invalid("the JSON is said to be longer than the body")),
        }
    }

    fn list(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Carried>, Refused> {
        let mut list = Vec::new();
        cursor.array(|cursor, index| {
            bounded(index, self.budget.limits.tensors, cursor)?;
            let at = cursor.at;
            let carried = self.carried(cursor);
            list.push(carried.map_err(|refused| refused.within(&format!("[{index}]")).at(at))?);
            Ok(())
        })?;
        Ok(list)
    }

    fn carried(&mut self, cursor: &mut Cursor<'_>) -> Result<Carried, Refused> {
        let mut members = Members::of(&["name", "datatype", "shape", "parameters", "data"]);
        let (mut draft, budget) = (Draft::default(), &mut self.budget);
        cursor.object(|cursor, name| {
            let member = members.named(name, cursor)?;
            let taken = match member {
                "name" => cursor.string().map(|name| draft.name = Some(name.into_owned())),
                "datatype" => datatype(cursor).map(|datatype| draft.datatype = Some(datatype)),
                "shape" => shape(cursor, budget.limits).map(|shape| draft.shape = Some(shape)),
                "parameters" => {
                    parameters(cursor, budget.limits).map(|parameters| draft.parameters = parameters)
                }
                "data" => draft.data_is_next(cursor, budget),
                _ => cursor.skip(),
            };
            taken.map_err(|refused| refused.within(member))
        })?;
        self.whole(draft)
    }

    fn whole(&mut self, mut draft: Draft<'_>) -> Result<Carried, Refused> {
        let name = draft.name.ok_or_else(|| Refused::invalid("has no name"))?;
        let datatype = draft.datatype.ok_or_else(|| Refused::invalid("has no datatype"))?;
        let shape = draft.shape.ok_or_else(|| Refused::invalid("has no shape"))?;
        if draft.parameters.contains_key("shared_memory_region") {
            return Err(Refused::invalid("is in shared memory, which is not within reach here"));
        }
        if let Some(mut cursor) = draft.later {
            let data = tensor::read(&mut cursor, datatype, &shape, &mut self.budget);
            draft.data = Some(data.map_err(|refused| refused.within("data"))?);
        }
        let data = match (draft.data, draft.parameters.remove("binary_data_size")) {
            (Some(data), None) => Bytes::from(data),
            (None, Some(size)) => self.cut(&size, datatype, &shape)?,
            (Some(_), Some(_)) => return Err(Refused::invalid("has data, and binary_data_size too")),
            (None, None) => return Err(Refused::invalid("has no data")),
        };
        Ok(Carried {
            tensor: Tensor { name: name.into(), datatype, shape, data },
            parameters: draft.parameters,
        })
    }

    /// The next tensor of the binary part.
    fn cut(&mut self, size: &Parameter, datatype: Datatype, shape: &[u64]) -> Result<Bytes, Refused> {
        let refused =
            |what: &'static str| Refused::invalid(what).within("binary_data_size").within("parameters");
        let size = match size {
            Parameter::Int64(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        let size = size.ok_or_else(|| refused("is no size"))?;
        if size > self.tail.len() {
            return Err(refused(match self.is_json_alone {
                true => "is given, but nothing says where the JSON ends (Inference-Header-Content-Length)",
                false => "reaches beyond the end of the body",
            }));
        }
        let elements = self.budget.elements(shape)?;
        self.budget.spend(size as u64)?;
        let data = self.tail.split_to(size);
        data::check(datatype, elements, &data).map_err(Refused::invalid)?;
        Ok(data)
    }

    fn finish(self) -> Result<(), Refused> {
        match self.tail.len() {
            0 => Ok(()),
            left => Err(Refused::invalid(format!("{left} bytes follow the last tensor"))),
        }
    }
}

impl<'t> Draft<'t> {
    fn data_is_next(&mut self, cursor: &mut Cursor<'t>, budget: &mut Budget<'_>) -> Result<(), Refused> {
        if cursor.takes_null()? {
            return Ok(());
        }
        match (self.datatype, &self.shape) {
            (Some(datatype), Some(shape)) => {
                self.data = Some(tensor::read(cursor, datatype, shape, budget)?);
                Ok(())
            }
            _ => {
                self.later = Some(cursor.again_from(cursor.at));
                cursor.skip()
            }
        }
    }
}

fn requested(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Vec<RequestedOutput>, Refused> {
    let mut outputs = Vec::new();
    if cursor.takes_null()? {
        return Ok(outputs);
    }
    cursor.array(|cursor, index| {
        bounded(index, limits.tensors, cursor)?;
        outputs.push(output(cursor, limits).map_err(|refused| refused.within(&format!("[{index}]")))?);
        Ok(())
    })?;
    Ok(outputs)
}

fn output(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<RequestedOutput, Refused> {
    let (mut members, mut name, mut given) = (Members::of(&["name", "parameters"]), None, Parameters::new());
    let at = cursor.at;
    cursor.object(|cursor, member| {
        let member = members.named(member, cursor)?;
        let taken = match member {
            "name" => cursor.string().map(|text| name = Some(text.into_owned())),
            "parameters" => parameters(cursor, limits).map(|parameters| given = parameters),
            _ => cursor.skip(),
        };
        taken.map_err(|refused| refused.within(member))
    })?;
    let name = name.ok_or_else(|| Refused::invalid("has no name").at(at))?;
    let is_binary = take_bool(&mut given, "binary_data").map_err(|refused| refused.within("parameters"))?;
    Ok(RequestedOutput { name, parameters: given, is_binary })
}

fn datatype(cursor: &mut Cursor<'_>) -> Result<Datatype, Refused> {
    cursor.peek();
    let at = cursor.at;
    let name = cursor.string()?;
    Datatype::of(&name).ok_or_else(|| Refused::invalid(format!("{name:.20?} is no datatype")).at(at))
}

fn shape(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Vec<u64>, Refused> {
    let mut shape = Vec::new();
    cursor.array(|cursor, index| {
        if index == limits.dimensions {
            return Err(Refused::too_large(format!("has more than {} dimensions", limits.dimensions)));
        }
        match cursor.peek() {
            Some(b'0'..=b'9') => u64::read(cursor).map(|side| shape.push(side)),
            _ => Err(Refused::invalid("is not an array of non-negative integers").at(cursor.at)),
        }
    })?;
    Ok(shape)
}

fn parameters(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Parameters, Refused> {
    let mut parameters = Parameters::new();
    if cursor.takes_null()? {
        return Ok(parameters);
    }
    cursor.object(|cursor, name| {
        let value = parameter(cursor).map_err(|refused| refused.within(name))?;
        let Some(value) = value else { return Ok(()) };
        if parameters.insert(name.to_owned(), value).is_some() {
            return Err(Refused::invalid("stands twice").within(name).at(cursor.at));
        }
        match parameters.len() > limits.parameters {
            true => Err(Refused::too_large(format!("are more than {}", limits.parameters))),
            false => Ok(()),
        }
    })?;
    Ok(parameters)
}

/// `None`: `null`.
fn parameter(cursor: &mut Cursor<'_>) -> Result<Option<Parameter>, Refused> {
    Ok(Some(match cursor.peek() {
        Some(b'"') => Parameter::Text(cursor.string()?.into_owned()),
        Some(b't' | b'f') => Parameter::Bool(cursor.boolean()?),
        Some(b'n') => return cursor.takes_null().map(|_| None),
        Some(b'{' | b'[') => {
            return Err(Refused::invalid("is neither a boolean nor a number nor a string").at(cursor.at));
        }
        _ => {
            let mut again = cursor.again_from(cursor.at);
            let token = number::token(cursor)?;
            match token.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
                true => Parameter::Double(f64::read(&mut again)?),
                false if token[0] == b'-' => Parameter::Int64(i64::read(&mut again)?),
                false => {
                    let number = u64::read(&mut again)?;
                    i64::try_from(number).map_or(Parameter::Uint64(number), Parameter::Int64)
                }
            }
        }
    }))
}

fn take_bool(parameters: &mut Parameters, name: &str) -> Result<Option<bool>, Refused> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Parameter::Bool(is_true)) => Ok(Some(is_true)),
        Some(_) => Err(Refused::invalid("is not a boolean").within(name)),
    }
}

fn text_or_null(cursor: &mut Cursor<'_>) -> Result<Option<String>, Refused> {
    if cursor.takes_null()? {
        return Ok(None);
    }
    cursor.string().map(|text| Some(text.into_owned()))
}

fn bounded(index: usize, most: usize, cursor: &Cursor<'_>) -> Result<(), Refused> {
    match index < most {
        true => Ok(()),
        false => Err(Refused::too_large(format!("are more than {most}")).at(cursor.at)),
    }
}
