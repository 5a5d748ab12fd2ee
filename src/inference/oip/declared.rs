//! Owns whether what came is what a model takes: the inputs of a request against those that are declared, and the declared ones against what a
//! live server says of its model. Reads no configuration.

use std::fmt;

use super::model::{InferRequest, ModelMetadata};
use crate::inference::tensor::Datatype;

/// An input that a model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub datatype: Datatype,
    /// -1: any.
    pub shape: Vec<i64>,
}

/// What was expected, and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    Missing(Declared),
    Unexpected(String),
    Twice(String),
    Datatype { expected: Declared, came: Datatype },
    Shape { expected: Declared, came: Vec<u64> },
}

/// Whether a request has these inputs, in any order, and no others.
pub fn check(request: &InferRequest, declared: &[Declared]) -> Result<(), Mismatch> {
    for (index, carried) in request.inputs.iter().enumerate() {
        let tensor = &carried.tensor;
        if request.inputs[..index].iter().any(|before| before.tensor.name == tensor.name) {
            return Err(Mismatch::Twice(tensor.name.to_string()));
        }
        let expected = declared.iter().find(|declared| *declared.name == *tensor.name);
        let expected = expected.ok_or_else(|| Mismatch::Unexpected(tensor.name.to_string()))?;
        if expected.datatype != tensor.datatype {
            return Err(Mismatch::Datatype { expected: expected.clone(), came: tensor.datatype });
        }
        if !allows(&expected.shape, &tensor.shape) {
            return Err(Mismatch::Shape { expected: expected.clone(), came: tensor.shape.clone() });
        }
    }
    let is_missing =
        |declared: &&Declared| !request.inputs.iter().any(|carried| *carried.tensor.name == *declared.name);
    match declared.iter().find(is_missing) {
        Some(missing) => Err(Mismatch::Missing(missing.clone())),
        None => Ok(()),
    }
}

/// Where a live model's inputs are not as declared, a sentence each. A side that one of the two leaves open agrees with any.
pub fn differences(declared: &[Declared], live: &ModelMetadata) -> Vec<String> {
    let mut found = Vec::new();
    for expected in declared {
        let name = &expected.name;
        let Some(input) = live.inputs.iter().find(|input| input.name == *name) else {
            found.push(format!("the model has no input {name:?}"));
            continue;
        };
        if input.datatype != expected.datatype.name() {
            found.push(format!(
                "input {name:?} is declared as {}, and is {}",
                expected.datatype.name(),
                input.datatype
            ));
        }
        if !agree(&expected.shape, &input.shape) {
            found.push(format!(
                "input {name:?} is declared as {:?}, and is {:?}",
                expected.shape, input.shape
            ));
        }
    }
    for input in &live.inputs {
        if !declared.iter().any(|declared| declared.name == input.name) {
            found.push(format!("the model has an input {:?}, which is not declared", input.name));
        }
    }
    found
}

fn allows(expected: &[i64], shape: &[u64]) -> bool {
    expected.len() == shape.len()
        && expected
            .iter()
            .zip(shape)
            .all(|(&expected, &side)| expected == ANY || i64::try_from(side) == Ok(expected))
}

fn agree(declared: &[i64], live: &[i64]) -> bool {
    declared.len() == live.len()
        && declared
            .iter()
            .zip(live)
            .all(|(&declared, &live)| declared == ANY || live == ANY || declared == live)
}

const ANY: i64 = -1;

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Missing(expected) => {
                let Declared { name, datatype, shape } = expected;
                write!(formatter, "input {name:?} is missing: {} {shape:?} was expected", datatype.name())
            }
            Mismatch::Unexpected(name) => write!(formatter, "input {name:?} was not expected"),
            Mismatch::Twice(name) => write!(formatter, "input {name:?} came twice"),
            Mismatch::Datatype { expected, came } => {
                let (name, expected, came) = (&expected.name, expected.datatype.name(), came.name());
                write!(formatter, "input {name:?}: {expected} was expected, and {came} came")
            }
            Mismatch::Shape { expected, came } => {
                let (name, expected) = (&expected.name, &expected.shape);
                write!(formatter, "input {name:?}: the shape {expected:?} was expected, and {came:?} came")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::model::{Carried, Parameters, TensorMetadata};
    use super::*;
    use crate::inference::tensor::Tensor;

    fn declared(name: &str, datatype: Datatype, shape: &[i64]) -> Declared {
        Declared { name: name.to_owned(), datatype, shape: shape.to_vec() }
    }

    fn request(inputs: &[(&str, Datatype, &[u64])]) -> InferRequest {
        let carried = |(name, datatype, shape): &(&str, Datatype, &[u64])| Carried {
            tensor: Tensor {
                name: (*name).into(),
                datatype: *datatype,
                shape: shape.to_vec(),
                data: Bytes::new(),
            },
            parameters: Parameters::new(),
        };
        InferRequest { inputs: inputs.iter().map(carried).collect(), ..InferRequest::default() }
    }

    #[test]
    fn requests_are_held_against_what_is_declared() {
        let both = [declared("image", Datatype::Fp32, &[-1, 3]), declared("mask", Datatype::Bool, &[])];
        let (image, mask): (_, (_, _, &[u64])) =
            (("image", Datatype::Fp32, &[8u64, 3][..]), ("mask", Datatype::Bool, &[]));
        let told = |inputs: &[_]| check(&request(inputs), &both).err().map(|mismatch| mismatch.to_string());
        let cases: [(&[_], Option<&str>); 7] = [
            (&[image, mask], None),
            (&[mask, image], None),
            (&[image], Some("input \"mask\" is missing: BOOL [] was expected")),
            (&[image, mask, ("x", Datatype::Bool, &[])], Some("input \"x\" was not expected")),
            (&[image, mask, mask], Some("input \"mask\" came twice")),
            (
                &[mask, ("image", Datatype::Fp16, &[8, 3])],
                Some("input \"image\": FP32 was expected, and FP16 came"),
            ),
            (
                &[mask, ("image", Datatype::Fp32, &[8, 4])],
                Some("input \"image\": the shape [-1, 3] was expected, and [8, 4] came"),
            ),
        ];
        for (inputs, expected) in cases {
            assert_eq!(told(inputs).as_deref(), expected);
        }
        assert!(check(&request(&[mask, ("image", Datatype::Fp32, &[3])]), &both).is_err());
        assert!(check(&request(&[mask, ("image", Datatype::Fp32, &[u64::MAX, 3])]), &both).is_ok());
    }

    #[test]
    fn a_live_model_is_held_against_what_is_declared() {
        let input = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        let live =
            |inputs: &[TensorMetadata]| ModelMetadata { inputs: inputs.to_vec(), ..ModelMetadata::default() };
        let both = [declared("a", Datatype::Fp32, &[1, -1]), declared("b", Datatype::Bytes, &[1])];
        assert!(
            differences(&both, &live(&[input("b", "BYTES", &[-1]), input("a", "FP32", &[1, 7])])).is_empty()
        );
        assert_eq!(
            differences(&both, &live(&[input("a", "INT8", &[2, 7]), input("c", "BOOL", &[])])),
            [
                "input \"a\" is declared as FP32, and is INT8",
                "input \"a\" is declared as [1, -1], and is [2, 7]",
                "the model has no input \"b\"",
                "the model has an input \"c\", which is not declared",
            ]
        );
    }
}
