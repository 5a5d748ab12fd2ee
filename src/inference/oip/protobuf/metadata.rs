//! Owns the messages of health and metadata: whether a server or a model is live or ready, and what they say of themselves.

use super::super::limits::Limits;
use super::super::model::{ModelMetadata, ServerMetadata, TensorMetadata};
use super::super::refused::Refused;
use super::wire::{Piece, put_bytes, put_number, put_packed, put_text};

/// `ServerLiveResponse`, `ServerReadyResponse` and `ModelReadyResponse`, which are written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

/// `ModelReadyRequest` and `ModelMetadataRequest`, which are written alike. The requests about servers are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    pub name: String,
    pub version: Option<String>,
}

pub fn decode_flag(message: &[u8]) -> Result<Flag, Refused> {
    let (mut rest, mut flag) = (Piece::whole(message), Flag(false));
    while let Some(field) = rest.field()? {
        if field.number == 1 {
            flag.0 = field.bool()?;
        }
    }
    Ok(flag)
}

pub fn encode_flag(flag: Flag) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(1, flag.0.into(), &mut out);
    out
}

pub fn decode_named(message: &[u8]) -> Result<Named, Refused> {
    let (mut rest, mut named) = (Piece::whole(message), Named::default());
    while let Some(field) = rest.field()? {
        match field.number {
            1 => named.name = field.text()?.to_owned(),
            2 => named.version = Some(field.text()?).filter(|text| !text.is_empty()).map(str::to_owned),
            _ => {}
        }
    }
    Ok(named)
}

pub fn encode_named(named: &Named) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(1, &named.name, &mut out);
    put_text(2, named.version.as_deref().unwrap_or_default(), &mut out);
    out
}

pub fn decode_server_metadata(message: &[u8]) -> Result<ServerMetadata, Refused> {
    let (mut rest, mut server) = (Piece::whole(message), ServerMetadata::default());
    while let Some(field) = rest.field()? {
        match field.number {
            1 => server.name = field.text()?.to_owned(),
            2 => server.version = field.text()?.to_owned(),
            3 => push_name(field.text()?, &mut server.extensions)?,
            _ => {}
        }
    }
    Ok(server)
}

pub fn encode_server_metadata(server: &ServerMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(1, &server.name, &mut out);
    put_text(2, &server.version, &mut out);
    put_texts(3, &server.extensions, &mut out);
    out
}

pub fn decode_model_metadata(message: &[u8], limits: &Limits) -> Result<ModelMetadata, Refused> {
    let (mut rest, mut model) = (Piece::whole(message), ModelMetadata::default());
    while let Some(field) = rest.field()? {
        match field.number {
            1 => model.name = field.text()?.to_owned(),
            2 => push_name(field.text()?, &mut model.versions)?,
            3 => model.platform = field.text()?.to_owned(),
            4 => push_tensor(field.piece()?, limits, "inputs", &mut model.inputs)?,
            5 => push_tensor(field.piece()?, limits, "outputs", &mut model.outputs)?,
            _ => {}
        }
    }
    Ok(model)
}

pub fn encode_model_metadata(model: &ModelMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(1, &model.name, &mut out);
    put_texts(2, &model.versions, &mut out);
    put_text(3, &model.platform, &mut out);
    for (number, tensors) in [(4, &model.inputs), (5, &model.outputs)] {
        for tensor in tensors {
            let mut message = Vec::new();
            put_text(1, &tensor.name, &mut message);
            put_text(2, &tensor.datatype, &mut message);
            put_packed(3, tensor.shape.iter().map(|&side| side as u64), &mut message);
            put_bytes(number, &message, &mut out);
        }
    }
    out
}

/// Of extensions, and of versions: an empty one takes two bytes of a message, and more of memory.
const NAMES_MAX: usize = 4096;

fn push_name(name: &str, names: &mut Vec<String>) -> Result<(), Refused> {
    if names.len() == NAMES_MAX {
        return Err(Refused::too_large(format!("lists more than {NAMES_MAX} names")));
    }
    names.push(name.to_owned());
    Ok(())
}

/// Texts of a list, of which an empty one is one too.
fn put_texts(number: u32, texts: &[String], out: &mut Vec<u8>) {
    for text in texts {
        put_bytes(number, text.as_bytes(), out);
    }
}

fn push_tensor(
    mut rest: Piece<'_>,
    limits: &Limits,
    list: &'static str,
    tensors: &mut Vec<TensorMetadata>,
) -> Result<(), Refused> {
    if tensors.len() == limits.tensors {
        return Err(Refused::too_large(format!("there are more than {}", limits.tensors)).within(list));
    }
    let mut tensor = TensorMetadata::default();
    while let Some(field) = rest.field()? {
        match field.number {
            1 => tensor.name = field.text()?.to_owned(),
            2 => tensor.datatype = field.text()?.to_owned(),
            3 => field.varints(|side| {
                if tensor.shape.len() == limits.dimensions {
                    let what = format!("has more than {} dimensions", limits.dimensions);
                    return Err(Refused::too_large(what).within(list));
                }
                tensor.shape.push(side as i64);
                Ok(())
            })?,
            _ => {}
        }
    }
    tensors.push(tensor);
    Ok(())
}
