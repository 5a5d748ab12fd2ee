//! Owns how a model server is asked: path, fields and body, in the words that it reads. Sends nothing.

use super::{Model, Speaks, Wrong};
use crate::http::grpc::framed;
use crate::inference::oip::json::{self, Body};
use crate::inference::oip::model::InferRequest;
use crate::inference::oip::protobuf::{self, BareTensor, Named};
use crate::inference::oip::rest::{Ask, ModelName};
use crate::inference::tensor::{Datatype, Tensor};

/// A request to a model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub method: &'static str,
    pub path: String,
    /// Empty: there is no body.
    pub content_type: &'static str,
    /// For `inference-header-content-length`.
    pub header_bytes: Option<usize>,
    pub is_grpc: bool,
    pub body: Vec<u8>,
}

/// What asking it takes at most, beside the request.
pub fn bytes_max(speaks: &Speaks, request: &InferRequest) -> u64 {
    let each = request.inputs.iter().map(|carried| {
        let bytes = carried.tensor.data.len() as u64;
        match (speaks, carried.tensor.datatype.size()) {
            // "-128," for a byte, or an escape of a letter; for larger ones at most 25 letters for eight bytes.
            (Speaks::Rest, None | Some(1)) => 6 * bytes,
            (Speaks::Rest, Some(_)) => 4 * bytes,
            _ => bytes,
        }
    });
    each.sum::<u64>() + 4096
}

/// Asks the model to infer.
pub fn infer(model: &Model, request: InferRequest) -> Result<Outgoing, Wrong> {
    let name = ModelName { model: request.model.clone(), version: request.version.clone() };
    match &model.speaks {
        Speaks::Grpc => Ok(call(&Ask::Infer(name), |out| protobuf::encode_request(&request, out))),
        Speaks::Rest => rest(name, as_json(request)?),
        Speaks::Binary => rest(name, in_binary(request)?),
        Speaks::Tensor { path } => bare(path, request),
    }
}

/// Asks anything else. `None`: the server knows no such question.
pub fn ask(speaks: &Speaks, ask: &Ask) -> Option<Outgoing> {
    match speaks {
        Speaks::Grpc => Some(call(ask, |out| match ask {
            Ask::ModelMetadata(name) | Ask::ModelReady(name) | Ask::Infer(name) => {
                let named = Named { name: name.model.clone(), version: name.version.clone() };
                out.extend_from_slice(&protobuf::encode_named(&named));
            }
            Ask::ServerMetadata | Ask::ServerLive | Ask::ServerReady => {}
        })),
        Speaks::Rest | Speaks::Binary => Some(Outgoing {
            method: ask.method(),
            path: ask.path(),
            content_type: "",
            header_bytes: None,
            is_grpc: false,
            body: Vec::new(),
        }),
        Speaks::Tensor { .. } => None,
    }
}

fn call(ask: &Ask, write: impl FnOnce(&mut Vec<u8>)) -> Outgoing {
    Outgoing {
        method: "POST",
        path: ask.grpc_path().to_owned(),
        content_type: "application/grpc",
        header_bytes: None,
        is_grpc: true,
        body: framed(write),
    }
}

fn rest(name: ModelName, body: Body) -> Result<Outgoing, Wrong> {
    Ok(Outgoing {
        method: "POST",
        path: Ask::Infer(name).path(),
        content_type: body.content_type(),
        header_bytes: body.header_bytes(),
        is_grpc: false,
        body: body.into_vec(),
    })
}

/// What JSON has no way to say goes behind it, and so may the answer.
fn as_json(mut request: InferRequest) -> Result<Body, Wrong> {
    let is_raw_only = |tensor: &Tensor| matches!(tensor.datatype, Datatype::Fp16 | Datatype::Bf16);
    let is_partly_raw = request.inputs.iter().any(|carried| is_raw_only(&carried.tensor));
    wants_binary(&mut request, is_partly_raw.then_some(true));
    match json::write_request(&request, is_raw_only) {
        Ok(body) => Ok(body),
        Err(unwritable) if unwritable.tensor.is_some() => in_binary(request),
        unwritable => written(unwritable),
    }
}

fn in_binary(mut request: InferRequest) -> Result<Body, Wrong> {
    wants_binary(&mut request, Some(true));
    written(json::write_request(&request, |_| true))
}

/// Of all outputs: of those that are named each says it, since Triton then heeds nothing else.
fn wants_binary(request: &mut InferRequest, is_binary: Option<bool>) {
    request.is_binary_output = is_binary;
    request.outputs.iter_mut().for_each(|output| output.is_binary = is_binary);
}

fn written(body: Result<Body, json::Unwritable>) -> Result<Body, Wrong> {
    body.map_err(|unwritable| Wrong::Invalid(unwritable.to_string()))
}

fn bare(path: &str, request: InferRequest) -> Result<Outgoing, Wrong> {
    let count = request.inputs.len();
    let mut inputs = request.inputs.into_iter();
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(Wrong::Invalid(format!("the model takes one tensor, and {count} came")));
    };
    let Tensor { shape, data, .. } = input.tensor;
    let mut body = Vec::new();
    protobuf::encode_tensor(&BareTensor { data, shape }, &mut body)?;
    Ok(Outgoing {
        method: "POST",
        path: path.to_owned(),
        content_type: "application/x-protobuf",
        header_bytes: None,
        is_grpc: false,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::oip::model::{Carried, Parameters, RequestedOutput};

    fn request(datatype: Datatype, data: &'static [u8], output: Option<&str>) -> InferRequest {
        let data = data.into();
        let tensor = Tensor { name: "x".into(), datatype, shape: vec![1], data };
        let named = |name: &str| RequestedOutput {
            name: name.into(),
            parameters: Parameters::new(),
            is_binary: None,
        };
        InferRequest {
            inputs: vec![Carried { tensor, parameters: Parameters::new() }],
            outputs: output.into_iter().map(named).collect(),
            ..InferRequest::default()
        }
    }

    #[test]
    fn an_answer_in_json_is_asked_for_where_json_can_say_it() {
        let asked = |request| String::from_utf8(as_json(request).unwrap().json).unwrap();
        let one = asked(request(Datatype::Fp32, &[0, 0, 0x80, 0x3f], Some("y")));
        assert!(one.ends_with(r#""data":[1.0]}],"outputs":[{"name":"y"}]}"#), "{one}");
        for (datatype, data) in [
            (Datatype::Fp16, &[0, 0][..]),
            (Datatype::Fp32, &[0, 0, 0xc0, 0x7f]),
            (Datatype::Bytes, &[1, 0, 0, 0, 0xff]),
        ] {
            let all = asked(request(datatype, data, None));
            assert!(all.contains(r#""binary_data_output":true"#), "{all}");
            let named = asked(request(datatype, data, Some("y")));
            assert!(named.contains(r#"{"name":"y","parameters":{"binary_data":true}}"#), "{named}");
        }
    }
}
