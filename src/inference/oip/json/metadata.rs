//! Owns the small messages of REST: metadata of servers and models, health, and errors. They are few and short, so a tree is built of each.

use serde_json::{Value, json};

use super::super::model::{ModelMetadata, ServerMetadata, TensorMetadata};
use super::super::refused::Refused;

/// `GET /v2`
pub fn write_server_metadata(server: &ServerMetadata) -> Vec<u8> {
    let ServerMetadata { name, version, extensions } = server;
    json!({ "name": name, "version": version, "extensions": extensions }).to_string().into_bytes()
}

pub fn read_server_metadata(body: &[u8]) -> Result<ServerMetadata, Refused> {
    let object = object(body)?;
    Ok(ServerMetadata {
        name: text(&object, "name")?,
        version: text(&object, "version")?,
        extensions: texts(&object, "extensions")?,
    })
}

/// `GET /v2/models/{model}`
pub fn write_model_metadata(model: &ModelMetadata) -> Vec<u8> {
    let ModelMetadata { name, versions, platform, inputs, outputs } = model;
    let tensor = |tensor: &TensorMetadata| json!({ "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape });
    let inputs: Vec<Value> = inputs.iter().map(tensor).collect();
    let outputs: Vec<Value> = outputs.iter().map(tensor).collect();
    json!({ "name": name, "versions": versions, "platform": platform, "inputs": inputs, "outputs": outputs })
        .to_string()
        .into_bytes()
}

pub fn read_model_metadata(body: &[u8]) -> Result<ModelMetadata, Refused> {
    let object = object(body)?;
    Ok(ModelMetadata {
        name: text(&object, "name")?,
        versions: texts(&object, "versions")?,
        platform: text(&object, "platform")?,
        inputs: tensors(&object, "inputs")?,
        outputs: tensors(&object, "outputs")?,
    })
}

/// `GET /v2/health/live`
pub fn write_live(is_live: bool) -> Vec<u8> {
    json!({ "live": is_live }).to_string().into_bytes()
}

/// `GET /v2/health/ready`
pub fn write_ready(is_ready: bool) -> Vec<u8> {
    json!({ "ready": is_ready }).to_string().into_bytes()
}

/// `GET /v2/models/{model}/ready`
pub fn write_model_ready(model: &str, is_ready: bool) -> Vec<u8> {
    json!({ "name": model, "ready": is_ready }).to_string().into_bytes()
}

/// What an answer about health says. `None`: nothing, and its status alone counts, as with servers that answer without a body.
pub fn read_ready(body: &[u8]) -> Option<bool> {
    let object = object(body).ok()?;
    // The protocol's page has `live` also for readiness.
    ["ready", "live"].into_iter().find_map(|name| object[name].as_bool())
}

/// `{"error": "..."}`
pub fn write_error(message: &str) -> Vec<u8> {
    json!({ "error": message }).to_string().into_bytes()
}

/// What an error says. `None`: it is not one of the protocol's.
pub fn read_error(body: &[u8]) -> Option<String> {
    object(body).ok()?["error"].as_str().map(str::to_owned)
}

fn object(body: &[u8]) -> Result<Value, Refused> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refused { at: None, ..Refused::malformed(0, format!("not JSON: {error}")) })?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Refused::invalid("is not an object")),
    }
}

/// Left out, it is empty: servers leave out what they have nothing to say of.
fn text(object: &Value, name: &str) -> Result<String, Refused> {
    match &object[name] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(Refused::invalid("is not a string").within(name)),
    }
}

fn list<T>(
    object: &Value,
    name: &str,
    item: impl Fn(&Value) -> Result<T, Refused>,
) -> Result<Vec<T>, Refused> {
    let items = match &object[name] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        _ => return Err(Refused::invalid("is not an array").within(name)),
    };
    let indexed =
        |(index, value)| item(value).map_err(|refused| refused.within(&format!("[{index}]")).within(name));
    items.iter().enumerate().map(indexed).collect()
}

fn texts(object: &Value, name: &str) -> Result<Vec<String>, Refused> {
    list(object, name, |item| {
        item.as_str().map(str::to_owned).ok_or_else(|| Refused::invalid("is not a string"))
    })
}

fn tensors(object: &Value, name: &str) -> Result<Vec<TensorMetadata>, Refused> {
    list(object, name, |tensor| {
        Ok(TensorMetadata {
            name: text(tensor, "name")?,
            datatype: text(tensor, "datatype")?,
            shape: list(tensor, "shape", |side| {
                side.as_i64().ok_or_else(|| Refused::invalid("is not an integer"))
            })?,
        })
    })
}
