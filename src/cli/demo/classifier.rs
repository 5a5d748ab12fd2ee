//! Owns the Open Inference Protocol v2 (REST) of the demo's classifier: its metadata, and inference from JSON or tensors in binary to either.
//! Reads and writes with the library's own codec; paths are `server`'s, the computation is `colors`'s.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Variant;
use super::colors::{self, CLASSES};
use super::oip::Refused;
use crate::inference::oip::declared::{self, Declared};
use crate::inference::oip::json::{self, Body};
use crate::inference::oip::limits::Limits;
use crate::inference::oip::model::{Carried, InferRequest, InferResponse, Parameters};
use crate::inference::tensor::{Datatype, Tensor};

/// `POST /v2/models/classifier/infer`; `header_length`: the field that says that tensors in binary follow.
pub fn infer(header_length: Option<&[u8]>, body: &Bytes) -> Result<Body, Refused> {
    let header = header_length.map(|value| json::header_length(value, body.len())).transpose();
    let header = header.map_err(|refused| refused.to_string())?;
    let limits = Limits { data_bytes: TENSOR_BYTES_MAX, ..Limits::default() };
    let request = json::read_request(body, header, &limits).map_err(|refused| refused.to_string())?;
    declared::check(&request, &[input()]).map_err(|mismatch| mismatch.to_string())?;
    if let Some(unknown) = request.outputs.iter().find(|asked| asked.name != OUTPUT) {
        return Err(format!("the model has no output {:?}", unknown.name));
    }
    let response = response(&request);
    json::write_response(&response, |output| request.wants_binary(&output.name))
        .map_err(|unwritable| unwritable.to_string())
}

/// `GET /v2/models/classifier`
pub fn metadata() -> Value {
    let input = input();
    json!({
        "name": MODEL,
        "versions": [Variant::Classifier.model_version()],
        "platform": "tidegate-demo",
        "inputs": [{ "name": input.name, "datatype": input.datatype.name(), "shape": input.shape }],
        "outputs": [{ "name": OUTPUT, "datatype": "FP32", "shape": [-1, CLASSES] }],
    })
}

fn input() -> Declared {
    let side = SIDE as i64;
    Declared { name: "input".into(), datatype: Datatype::Fp32, shape: vec![-1, 3, side, side] }
}

/// Of a request that has been checked.
fn response(request: &InferRequest) -> InferResponse {
    let images = request.inputs.iter().flat_map(|carried| carried.tensor.data.chunks_exact(IMAGE_BYTES));
    let scores: Vec<[f32; CLASSES]> = images.map(|planes| colors::scores(planes, SIDE * SIDE)).collect();
    let tensor = Tensor {
        name: OUTPUT.into(),
        datatype: Datatype::Fp32,
        shape: vec![scores.len() as u64, CLASSES as u64],
        data: scores.as_flattened().iter().flat_map(|score| score.to_le_bytes()).collect(),
    };
    InferResponse {
        model_name: MODEL.into(),
        model_version: Some(Variant::Classifier.model_version().into()),
        id: request.id.clone(),
        outputs: vec![Carried { tensor, parameters: Parameters::new() }],
        ..InferResponse::default()
    }
}

/// The one model there is.
pub const MODEL: &str = "classifier";
const OUTPUT: &str = "output";
/// Of an image, in pixels.
const SIDE: usize = 224;
const IMAGE_BYTES: usize = 3 * SIDE * SIDE * size_of::<f32>();
/// 27 images.
const TENSOR_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A plane each of red, green and blue, all of one normalised value, for each image.
    fn images(values: &[[f32; 3]]) -> Vec<u8> {
        let planes = values.iter().flatten();
        planes.flat_map(|value| value.to_le_bytes().repeat(SIDE * SIDE)).collect()
    }

    /// A request in binary, and what its header says.
    fn request(change: impl FnOnce(&mut Value), data: &[u8]) -> (String, Bytes) {
        let count = data.len() / IMAGE_BYTES;
        let mut request = json!({ "id": "7", "inputs": [{
            "name": "input", "shape": [count, 3, SIDE, SIDE], "datatype": "FP32",
            "parameters": { "binary_data_size": data.len() },
        }]});
        change(&mut request);
        let header = request.to_string();
        (header.len().to_string(), [header.as_bytes(), data].concat().into())
    }

    fn infer_in_binary(change: impl FnOnce(&mut Value), data: &[u8]) -> Result<Body, Refused> {
        let (length, body) = request(change, data);
        infer(Some(length.as_bytes()), &body)
    }

    fn best(scores: &[Value]) -> &'static str {
        let score = |class: usize| scores[class].as_f64().unwrap();
        let best = (0..CLASSES).max_by(|&one, &other| score(one).total_cmp(&score(other)));
        colors::LABELS[best.unwrap()]
    }

    #[test]
    fn a_batch_has_a_row_for_each_image() {
        let data = images(&[[2.0, -2.0, -1.8], [-2.0, -1.0, 2.0]]);
        let answer = infer_in_binary(|_| {}, &data).unwrap();
        assert!(!answer.is_binary);
        let answer: Value = serde_json::from_slice(&answer.into_vec()).unwrap();
        assert_eq!((&answer["model_name"], &answer["id"]), (&json!("classifier"), &json!("7")));
        let output = &answer["outputs"][0];
        assert_eq!(output["shape"], json!([2, CLASSES]));
        let scores = output["data"].as_array().unwrap();
        assert_eq!([&scores[..CLASSES], &scores[CLASSES..]].map(best), ["red", "blue"]);
    }

    #[test]
    fn scores_come_in_binary_if_that_is_asked() {
        let data = images(&[[2.0, -2.0, -1.8]]);
        let ask = |request: &mut Value| request["parameters"] = json!({ "binary_data_output": true });
        let answer = infer_in_binary(ask, &data).unwrap();
        assert!(answer.is_binary);
        assert_eq!(answer.tail[0].len(), CLASSES * 4);
    }

    #[test]
    fn the_same_in_json_is_the_same() {
        let values = vec![0.5; 3 * SIDE * SIDE];
        let text = json!({ "id": "7", "inputs": [{
            "name": "input", "shape": [1, 3, SIDE, SIDE], "datatype": "FP32", "data": values,
        }]});
        let answer = infer(None, &text.to_string().into()).unwrap();
        assert_eq!(Ok(answer), infer_in_binary(|_| {}, &images(&[[0.5; 3]])));
    }

    #[test]
    fn what_is_no_image_is_refused_with_a_reason() {
        let data = images(&[[0.0; 3]]);
        let short = &data[..IMAGE_BYTES - 4];
        let wrong: [(&str, Result<Body, Refused>); 5] = [
            ("was not expected", infer_in_binary(|r| r["inputs"][0]["name"] = json!("x"), &data)),
            ("no output \"x\"", infer_in_binary(|r| r["outputs"] = json!([{ "name": "x" }]), &data)),
            (
                "[1, 3, 448, 112]",
                infer_in_binary(|r| r["inputs"][0]["shape"] = json!([1, 3, 448, 112]), &data),
            ),
            ("bytes", infer_in_binary(|r| r["inputs"][0]["shape"] = json!([1, 3, SIDE, SIDE]), short)),
            ("Inference-Header-Content-Length", infer(Some(b"9"), &Bytes::from_static(b"{}"))),
        ];
        for (reason, result) in wrong {
            let refused = result.unwrap_err();
            assert!(refused.contains(reason), "{refused} should say {reason}");
        }
    }
}
