//! Owns what a model is asked and what it answers, whatever format that came in. Neither reads nor writes any.

use std::collections::BTreeMap;

use crate::inference::tensor::Tensor;

/// By name, in the order of names, so that equal messages are written alike.
pub type Parameters = BTreeMap<String, Parameter>;

/// JSON tells no width: its integers come as `Int64`, or as `Uint64` where only that holds them.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    Bool(bool),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InferRequest {
    pub model: String,
    /// `None`: the server chooses.
    pub version: Option<String>,
    pub id: Option<String>,
    pub parameters: Parameters,
    pub inputs: Vec<Carried>,
    /// None: all that the model gives.
    pub outputs: Vec<RequestedOutput>,
    /// `binary_data_output`, of REST alone: outputs that do not say otherwise are wanted in binary.
    pub is_binary_output: Option<bool>,
}

/// A tensor in a message. `binary_data_size` is never among its parameters: it says how the tensor came, not what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    pub tensor: Tensor,
    pub parameters: Parameters,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RequestedOutput {
    pub name: String,
    pub parameters: Parameters,
    /// `binary_data`, of REST alone. `None`: as the request says of all.
    pub is_binary: Option<bool>,
}

/// What a model answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InferResponse {
    pub model_name: String,
    pub model_version: Option<String>,
    pub id: Option<String>,
    pub parameters: Parameters,
    pub outputs: Vec<Carried>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerMetadata {
    pub name: String,
    pub version: String,
    pub extensions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelMetadata {
    pub name: String,
    pub versions: Vec<String>,
    pub platform: String,
    pub inputs: Vec<TensorMetadata>,
    pub outputs: Vec<TensorMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorMetadata {
    pub name: String,
    /// As the server spells it; servers have datatypes of their own.
    pub datatype: String,
    /// -1: any.
    pub shape: Vec<i64>,
}

impl InferRequest {
    /// Whether the client wants the output of this name in binary.
    pub fn wants_binary(&self, output: &str) -> bool {
        let asked = self.outputs.iter().find(|asked| asked.name == output).and_then(|asked| asked.is_binary);
        asked.or(self.is_binary_output).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_its_own_say() {
        let output = |name: &str, is_binary| RequestedOutput {
            name: name.into(),
            parameters: Parameters::new(),
            is_binary,
        };
        let outputs = vec![output("yes", Some(true)), output("no", Some(false)), output("silent", None)];
        let mut request = InferRequest { outputs, ..InferRequest::default() };
        let wanted =
            |request: &InferRequest| ["yes", "no", "silent", "other"].map(|name| request.wants_binary(name));
        assert_eq!(wanted(&request), [true, false, false, false]);
        request.is_binary_output = Some(true);
        assert_eq!(wanted(&request), [true, false, true, true]);
    }
}
