//! Owns what a client gets for a model's response: an inference response as JSON, with tensors in binary, or as protobuf, or the best
//! classes of an image, by what it accepts and what it has asked.

use serde_json::{Map, Value};

use super::incoming::Known;
use super::{Model, classes};
use crate::http::grpc::framed;
use crate::inference::oip::json::{self, Body};
use crate::inference::oip::model::{InferRequest, InferResponse};
use crate::inference::oip::protobuf::{self, Flag};
use crate::inference::oip::rest::Ask;
use crate::inference::tensor::Tensor;

/// What a client is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The classes, if the model gives some, or else a response as JSON.
    Plain,
    /// A response of the protocol as JSON, each tensor in the way that the request says.
    Protocol,
    /// With all tensors in binary.
    Binary,
    Protobuf,
    /// Of a call.
    Message,
}

impl Wanted {
    /// By `accept` (RFC 9110 §12.5.1), of which the best that there is counts; who accepts nothing that there is gets JSON. `is_protocol`: it
    /// has asked by the protocol.
    pub fn of(accept: &[&[u8]], is_protocol: bool) -> Wanted {
        let json = if is_protocol { Wanted::Protocol } else { Wanted::Plain };
        let ranges = accept.iter().flat_map(|value| value.split(|&byte| byte == b','));
        let mut best = (0u16, json);
        for range in ranges {
            let mut words = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = words.next().unwrap_or_default().to_ascii_lowercase();
            let wanted = match &name[..] {
                b"application/json" | b"application/*" | b"*/*" => json,
                b"application/octet-stream" => Wanted::Binary,
                b"application/x-protobuf" | b"application/protobuf" => Wanted::Protobuf,
                _ => continue,
            };
            let quality = words.find_map(quality).unwrap_or(1000);
            if quality > best.0 {
                best = (quality, wanted);
            }
        }
        best.1
    }
}

/// In thousandths.
fn quality(word: &[u8]) -> Option<u16> {
    let value = word.strip_prefix(b"q=").or_else(|| word.strip_prefix(b"Q="))?;
    let number: f32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some((number.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub content_type: &'static str,
    /// For `inference-header-content-length`.
    pub header_bytes: Option<usize>,
    pub body: Vec<u8>,
}

/// `asked`: what the request said of its outputs. An error says what the model's response has that cannot be told.
pub fn response(
    model: &Model,
    wanted: Wanted,
    asked: &InferRequest,
    mut response: InferResponse,
) -> Result<Given, String> {
    if response.id.is_none() {
        response.id = asked.id.clone();
    }
    match wanted {
        Wanted::Plain if model.outputs.iter().any(|output| output.classes.is_some()) => {
            told(model, &response)
        }
        Wanted::Plain => as_json(&response, |_| false),
        Wanted::Protocol => as_json(&response, |tensor| asked.wants_binary(&tensor.name)),
        Wanted::Binary => as_json(&response, |_| true),
        Wanted::Protobuf => {
            let mut body = Vec::new();
            protobuf::encode_response(&response, &mut body);
            Ok(Given { content_type: "application/x-protobuf", header_bytes: None, body })
        }
        Wanted::Message => Ok(message(|out| protobuf::encode_response(&response, out))),
    }
}

/// What is known of a server or a model, in the words of REST, or as a message.
pub fn known(ask: &Ask, known: &Known, is_call: bool) -> (u16, Given) {
    if is_call {
        let written = match known {
            Known::Is(is) => protobuf::encode_flag(Flag(*is)),
            Known::Server(server) => protobuf::encode_server_metadata(server),
            Known::Model(model) => protobuf::encode_model_metadata(model),
        };
        return (200, message(|out| out.extend_from_slice(&written)));
    }
    let (status, body) = match (known, ask) {
        (Known::Server(server), _) => (200, json::write_server_metadata(server)),
        (Known::Model(model), _) => (200, json::write_model_metadata(model)),
        (Known::Is(is), Ask::ServerLive) => (status_of(*is), json::write_live(*is)),
        (Known::Is(is), Ask::ModelReady(name)) => (status_of(*is), json::write_model_ready(&name.model, *is)),
        (Known::Is(is), _) => (status_of(*is), json::write_ready(*is)),
    };
    (status, Given { content_type: "application/json", header_bytes: None, body })
}

/// Of health: probes look at nothing else.
fn status_of(is: bool) -> u16 {
    if is { 200 } else { 503 }
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Given {
    Given { content_type: "application/grpc", header_bytes: None, body: framed(write) }
}

fn as_json(response: &InferResponse, is_binary: impl Fn(&Tensor) -> bool) -> Result<Given, String> {
    let is_raw_only = |tensor: &Tensor| {
        use crate::inference::tensor::Datatype::{Bf16, Fp16};
        matches!(tensor.datatype, Fp16 | Bf16) || is_binary(tensor)
    };
    let body: Body =
        json::write_response(response, is_raw_only).map_err(|unwritable| unwritable.to_string())?;
    let (content_type, header_bytes) = (body.content_type(), body.header_bytes());
    Ok(Given { content_type, header_bytes, body: body.into_vec() })
}

/// `{"model": ..., "predictions": [[{"index", "label", "score"}, ...], ...]}`: a list for each image. Of several outputs with classes each
/// has its own, by its name.
fn told(model: &Model, response: &InferResponse) -> Result<Given, String> {
    let mut lists = Map::new();
    for output in &model.outputs {
        let Some(classes) = &output.classes else { continue };
        let carried = response.outputs.iter().find(|carried| *carried.tensor.name == *output.name);
        let carried = carried.ok_or_else(|| format!("the model's answer has no output {:?}", output.name))?;
        lists.insert(output.name.to_string(), Value::Array(classes::best(classes, &carried.tensor)?));
    }
    let mut all = Map::new();
    all.insert("model".into(), Value::from(&*response.model_name));
    if let Some(version) = &response.model_version {
        all.insert("version".into(), Value::from(&**version));
    }
    if let Some(id) = &response.id {
        all.insert("id".into(), Value::from(&**id));
    }
    let only = if lists.len() == 1 { lists.values().next().cloned() } else { None };
    all.insert("predictions".into(), only.unwrap_or(Value::Object(lists)));
    let mut body = Value::Object(all).to_string().into_bytes();
    body.push(b'\n');
    Ok(Given { content_type: "application/json", header_bytes: None, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_a_client_accepts_counts() {
        let of = |accept: &str, is_protocol| Wanted::of(&[accept.as_bytes()], is_protocol);
        assert_eq!(Wanted::of(&[], false), Wanted::Plain);
        assert_eq!(Wanted::of(&[], true), Wanted::Protocol);
        assert_eq!(of("*/*", false), Wanted::Plain);
        assert_eq!(of("application/json", true), Wanted::Protocol);
        assert_eq!(of("application/octet-stream", false), Wanted::Binary);
        assert_eq!(of("text/html, application/x-protobuf;q=0.9, */*;q=0.1", false), Wanted::Protobuf);
        assert_eq!(of("application/protobuf ; Q=0.2, application/json", false), Wanted::Plain);
        assert_eq!(of("application/octet-stream;q=0", true), Wanted::Protocol);
        assert_eq!(of("text/html", false), Wanted::Plain);
        assert_eq!(Wanted::of(&[b"text/html", b"application/octet-stream"], false), Wanted::Binary);
    }
}
