//! Owns what a model server's answer says: a response of the model, or why there is none. Trusts nothing of it.

use bytes::Bytes;

use super::{Model, Speaks, limits};
use crate::http::grpc;
use crate::inference::oip::json;
use crate::inference::oip::model::{Carried, InferResponse, ModelMetadata, Parameters, ServerMetadata};
use crate::inference::oip::protobuf;
use crate::inference::oip::refused::Refused;
use crate::inference::oip::rest::Ask;
use crate::inference::tensor::{Datatype, Tensor, element_count};

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    pub status: u16,
    /// Of `inference-header-content-length`.
    pub header_length: Option<Vec<u8>>,
    /// Of a call: its status and message, wherever they stood.
    pub call: Option<(u8, String)>,
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The server says so, and this: an HTTP status, and words for the client.
    Said(u16, String),
    /// It is not what it should be.
    Unreadable(String),
}

/// What is known of a server or a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    Is(bool),
    Server(ServerMetadata),
    Model(ModelMetadata),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Failed {
        Failed::Unreadable(refused.to_string())
    }
}

/// What the model has answered.
pub fn response(model: &Model, came: &Incoming) -> Result<InferResponse, Failed> {
    match model.speaks {
        Speaks::Grpc => {
            let message = message(came)?;
            Ok(protobuf::decode_response(&message, &limits(message.len()))?)
        }
        Speaks::Rest | Speaks::Binary => {
            well(came)?;
            let header = came.header_length.as_deref();
            let header = header.map(|value| json::header_length(value, came.body.len())).transpose()?;
            Ok(json::read_response(&came.body, header, &limits(came.body.len()))?)
        }
        Speaks::Tensor { .. } => {
            well(came)?;
            bare(model, &came.body)
        }
    }
}

/// What it has said of itself or of a model.
pub fn known(speaks: &Speaks, ask: &Ask, came: &Incoming) -> Result<Known, Failed> {
    if *speaks == Speaks::Grpc {
        let message = message(came)?;
        return Ok(match ask {
            Ask::ServerMetadata => Known::Server(protobuf::decode_server_metadata(&message)?),
            Ask::ModelMetadata(_) => {
                Known::Model(protobuf::decode_model_metadata(&message, &limits(message.len()))?)
            }
            _ => Known::Is(protobuf::decode_flag(&message)?.0),
        });
    }
    match ask {
        // The status tells, and most servers have nothing more to say.
        Ask::ServerLive | Ask::ServerReady | Ask::ModelReady(_) if came.status < 500 => {
            Ok(Known::Is((200..300).contains(&came.status)))
        }
        Ask::ServerMetadata => {
            well(came).and_then(|()| Ok(Known::Server(json::read_server_metadata(&came.body)?)))
        }
        Ask::ModelMetadata(_) => {
            well(came).and_then(|()| Ok(Known::Model(json::read_model_metadata(&came.body)?)))
        }
        _ => well(came).map(|()| Known::Is(true)),
    }
}

/// Of a REST answer: it is none of an error.
fn well(came: &Incoming) -> Result<(), Failed> {
    if (200..300).contains(&came.status) {
        return Ok(());
    }
    let words = json::read_error(&came.body).unwrap_or_else(|| "the model server has refused it".into());
    match came.status {
        400..=599 => Err(Failed::Said(came.status, words)),
        status => Err(Failed::Unreadable(format!("it answers with {status}"))),
    }
}

/// The only message of a unary call's answer.
fn message(came: &Incoming) -> Result<Bytes, Failed> {
    match &came.call {
        Some((0, _)) => {}
        Some((status, words)) => return Err(Failed::Said(grpc::http_status(*status), words.clone())),
        None => return Err(Failed::Unreadable("it ends without a status".into())),
    }
    grpc::only_message(&came.body).map_err(|words| Failed::Unreadable(words.into()))
}

/// Named and typed by what was declared.
fn bare(model: &Model, body: &Bytes) -> Result<InferResponse, Failed> {
    let came = protobuf::decode_tensor(body, &limits(body.len()))?;
    let output = model.outputs.first();
    let datatype = output.and_then(|output| output.datatype).unwrap_or(Datatype::Fp32);
    let count = element_count(&came.shape);
    let fits = datatype.size().is_none_or(|size| {
        count.and_then(|count| count.checked_mul(size as u64)) == Some(came.data.len() as u64)
    });
    if !fits {
        let (name, bytes) = (datatype.name(), came.data.len());
        return Err(Failed::Unreadable(format!("{bytes} bytes are no {name} {:?}", came.shape)));
    }
    let name = output.map_or("output", |output| &output.name).into();
    let tensor = Tensor { name, datatype, shape: came.shape, data: came.data };
    let outputs = vec![Carried { tensor, parameters: Parameters::new() }];
    Ok(InferResponse { model_name: model.name.to_string(), outputs, ..InferResponse::default() })
}
