//! Owns the Open Inference Protocol v2 (REST) as the demo's iris models speak it: metadata, and inference from JSON to JSON.
//! Pure functions of bytes and values; sockets and paths are `server`'s, the computation is `model`'s, the classifier is `classifier`'s.
//! No binary tensor extension: a request that uses it is refused.

use serde_json::{Map, Value, json};

use super::Variant;
use super::model::{CLASSES, FEATURES, Features, Prediction, predict};

/// What a client is told with status 400.
pub type Refused = String;

/// `POST /v2/models/iris/infer`
pub fn infer(variant: Variant, body: &[u8]) -> Result<Value, Refused> {
    let request: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let input = only_input(&request)?;
    let flowers = flowers(input)?;
    let predictions: Vec<Prediction> = flowers.iter().map(|features| predict(variant, features)).collect();
    let outputs = wanted_outputs(&request, outputs(variant, &predictions))?;
    let mut answer = Map::new();
    answer.insert("model_name".into(), MODEL.into());
    answer.insert("model_version".into(), variant.model_version().into());
    if let Some(id) = request.get("id") {
        answer.insert("id".into(), id.clone());
    }
    answer.insert("outputs".into(), outputs.into());
    Ok(answer.into())
}

/// `GET /v2`
pub fn server_metadata(variant: Variant) -> Value {
    let extensions: &[&str] = if variant == Variant::Classifier { &["binary_tensor_data"] } else { &[] };
    json!({
        "name": format!("tidegate-demo-{}", variant.name()),
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": extensions,
    })
}

/// `GET /v2/models/iris`
pub fn model_metadata(variant: Variant) -> Value {
    let mut outputs = vec![
        json!({ "name": "probabilities", "datatype": "FP64", "shape": [-1, CLASSES] }),
        json!({ "name": "label", "datatype": "BYTES", "shape": [-1] }),
    ];
    if variant == Variant::V2 {
        outputs.push(json!({ "name": "entropy", "datatype": "FP64", "shape": [-1] }));
    }
    json!({
        "name": MODEL,
        "versions": [variant.model_version()],
        "platform": "tidegate-demo",
        "inputs": [{ "name": "features", "datatype": "FP64", "shape": [-1, FEATURES] }],
        "outputs": outputs,
    })
}

fn only_input(request: &Value) -> Result<&Value, Refused> {
    match request.get("inputs").and_then(Value::as_array).map(Vec::as_slice) {
        Some([input]) => Ok(input),
        Some(inputs) => Err(format!("the model has one input, the request has {}", inputs.len())),
        None => Err("\"inputs\" must be an array".into()),
    }
}

fn flowers(input: &Value) -> Result<Vec<Features>, Refused> {
    if !matches!(input.get("name").and_then(Value::as_str), Some("features")) {
        return Err("the input's name must be \"features\"".into());
    }
    if !matches!(input.get("datatype").and_then(Value::as_str), Some("FP32" | "FP64")) {
        return Err("the input's datatype must be FP32 or FP64".into());
    }
    let count = batch(input.get("shape"))?;
    let mut numbers = Vec::with_capacity(count * FEATURES);
    flatten(input.get("data").unwrap_or(&Value::Null), &mut numbers)?;
    if numbers.len() != count * FEATURES {
        let wanted = count * FEATURES;
        return Err(format!("shape [{count},{FEATURES}] needs {wanted} numbers, data has {}", numbers.len()));
    }
    let (flowers, _) = numbers.as_chunks::<FEATURES>();
    Ok(flowers.to_vec())
}

/// The n of shape `[n, 4]`.
fn batch(shape: Option<&Value>) -> Result<usize, Refused> {
    let wrong = || format!("the input's shape must be [n,{FEATURES}] with n from 1 to {BATCH_MAX}");
    let sizes = shape.and_then(Value::as_array).ok_or_else(wrong)?;
    match sizes.iter().map(Value::as_u64).collect::<Vec<_>>()[..] {
        [Some(count), Some(features)] if features == FEATURES as u64 && (1..=BATCH_MAX).contains(&count) => {
            Ok(count as usize)
        }
        _ => Err(wrong()),
    }
}

/// The protocol allows a flat array and one nested like the shape. serde_json bounds the depth.
fn flatten(data: &Value, numbers: &mut Vec<f64>) -> Result<(), Refused> {
    match data {
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, numbers)),
        Value::Number(number) => {
            numbers.extend(number.as_f64());
            Ok(())
        }
        _ => Err("the input's data must be an array of numbers".into()),
    }
}

fn outputs(variant: Variant, predictions: &[Prediction]) -> Vec<Value> {
    let count = predictions.len();
    let probabilities: Vec<f64> = predictions.iter().flat_map(|p| p.probabilities).collect();
    let labels: Vec<&str> = predictions.iter().map(|p| p.label).collect();
    let mut outputs = vec![
        json!({ "name": "probabilities", "datatype": "FP64", "shape": [count, CLASSES], "data": probabilities }),
        json!({ "name": "label", "datatype": "BYTES", "shape": [count], "data": labels }),
    ];
    if variant == Variant::V2 {
        let entropies: Vec<f64> = predictions.iter().map(|p| p.entropy).collect();
        outputs.push(json!({ "name": "entropy", "datatype": "FP64", "shape": [count], "data": entropies }));
    }
    outputs
}

/// All of them, or those that the request names.
fn wanted_outputs(request: &Value, made: Vec<Value>) -> Result<Vec<Value>, Refused> {
    let Some(wanted) = request.get("outputs") else { return Ok(made) };
    let wanted = wanted.as_array().ok_or("\"outputs\" must be an array")?;
    if wanted.len() > made.len() {
        return Err(format!("the model has {} outputs, the request names {}", made.len(), wanted.len()));
    }
    let find = |want: &Value| {
        let name = want.get("name").and_then(Value::as_str).ok_or("each output must have a name")?;
        let found = made.iter().find(|output| output["name"] == name);
        found.cloned().ok_or_else(|| format!("the model has no output {name:?}"))
    };
    wanted.iter().map(find).collect()
}

/// The model of all variants but the classifier.
pub const MODEL: &str = "iris";
/// Flowers per request.
const BATCH_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut request = json!({ "id": "7", "inputs": [{
            "name": "features", "shape": [2, 4], "datatype": "FP32",
            "data": [5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5],
        }]});
        change(&mut request);
        request.to_string().into_bytes()
    }

    #[test]
    fn stable_answers_with_probabilities_and_labels() {
        let answer = infer(Variant::Stable, &request(|_| {})).unwrap();
        assert_eq!(answer["model_name"], "iris");
        assert_eq!(answer["model_version"], "1");
        assert_eq!(answer["id"], "7");
        assert_eq!(answer["outputs"][0]["shape"], json!([2, 3]));
        assert_eq!(answer["outputs"][0]["data"].as_array().unwrap().len(), 6);
        assert_eq!(answer["outputs"][1]["data"], json!(["setosa", "virginica"]));
        assert_eq!(answer["outputs"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn v2_also_tells_its_entropy() {
        let answer = infer(Variant::V2, &request(|_| {})).unwrap();
        assert_eq!(answer["model_version"], "2");
        assert_eq!(answer["outputs"][2]["name"], "entropy");
        assert_eq!(answer["outputs"][2]["data"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn nested_data_is_the_same_as_flat() {
        let nested =
            request(|r| r["inputs"][0]["data"] = json!([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]));
        assert_eq!(infer(Variant::V2, &nested), infer(Variant::V2, &request(|_| {})));
    }

    #[test]
    fn only_the_named_outputs_are_given() {
        let one = request(|r| r["outputs"] = json!([{ "name": "label" }]));
        let answer = infer(Variant::Stable, &one).unwrap();
        assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
        let missing = request(|r| r["outputs"] = json!([{ "name": "entropy" }]));
        assert!(infer(Variant::Stable, &missing).unwrap_err().contains("entropy"));
    }

    #[test]
    fn every_wrong_request_is_refused_with_a_reason() {
        let wrong: [(&str, Vec<u8>); 11] = [
            ("not JSON", b"{".to_vec()),
            ("\"inputs\"", b"{}".to_vec()),
            ("one input", request(|r| r["inputs"] = json!([]))),
            ("name", request(|r| r["inputs"][0]["name"] = json!("x"))),
            ("datatype", request(|r| r["inputs"][0]["datatype"] = json!("INT8"))),
            ("shape", request(|r| r["inputs"][0]["shape"] = json!([2, 5]))),
            ("shape", request(|r| r["inputs"][0]["shape"] = json!([-1, 4]))),
            ("shape", request(|r| r["inputs"][0]["shape"] = json!([4_000_000_000_u64, 4]))),
            ("needs 12 numbers", request(|r| r["inputs"][0]["shape"] = json!([3, 4]))),
            ("array of numbers", request(|r| r["inputs"][0]["data"] = json!(["a"]))),
            ("outputs", request(|r| r["outputs"] = json!(3))),
        ];
        for (reason, body) in wrong {
            let refused = infer(Variant::Stable, &body).unwrap_err();
            assert!(refused.contains(reason), "{refused} should say {reason}");
        }
    }

    #[test]
    fn metadata_tells_the_variants_apart() {
        assert_ne!(server_metadata(Variant::Stable), server_metadata(Variant::V2));
        assert_ne!(model_metadata(Variant::Stable), model_metadata(Variant::V2));
    }
}
