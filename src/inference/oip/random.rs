//! Owns random messages for the proofs of what is written and read again. The same seed makes the same ones.

use bytes::Bytes;

use super::model::{Carried, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput};
use crate::inference::tensor::{Datatype, Tensor, element_count};

pub(super) struct Random(u64);

/// What tensors and parameters may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    Any,
    /// What JSON can say, and tells apart.
    Json,
}

impl Random {
    pub(super) fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }

    pub(super) fn one_in(&mut self, rarity: usize) -> bool {
        self.below(rarity) == 0
    }

    pub(super) fn text(&mut self) -> String {
        const CHARS: [char; 12] = ['a', 'Z', '0', ' ', '"', '\\', '\n', '\0', 'é', '本', '🦀', '\u{7f}'];
        let length = if self.one_in(8) { 80 } else { 6 };
        (0..self.below(length)).map(|_| CHARS[self.below(CHARS.len())]).collect()
    }

    fn some_text(&mut self) -> Option<String> {
        (!self.one_in(3)).then(|| self.text() + "x")
    }

    fn parameters(&mut self, contents: Contents) -> Parameters {
        (0..self.below(4))
            .map(|number| (format!("{number}{}", self.text()), self.parameter(contents)))
            .collect()
    }

    fn parameter(&mut self, contents: Contents) -> Parameter {
        match self.below(5) {
            0 => Parameter::Bool(self.one_in(2)),
            1 => Parameter::Int64(self.next() as i64),
            // JSON tells them from others only where they are larger.
            2 => Parameter::Uint64(self.next() | 1 << 63),
            3 => Parameter::Text(self.text()),
            _ => Parameter::Double(self.double(contents)),
        }
    }

    /// Never NaN, which is not even equal to itself.
    fn double(&mut self, contents: Contents) -> f64 {
        match f64::from_bits(self.next()) {
            number if number.is_finite() => number,
            _ if contents == Contents::Json => -0.0,
            _ => f64::INFINITY,
        }
    }

    pub(super) fn tensor(&mut self, contents: Contents) -> Carried {
        let datatypes: Vec<Datatype> = Datatype::ALL
            .into_iter()
            .filter(|datatype| {
                contents == Contents::Any || !matches!(datatype, Datatype::Fp16 | Datatype::Bf16)
            })
            .collect();
        let datatype = datatypes[self.below(datatypes.len())];
        let shape: Vec<u64> = (0..self.below(4)).map(|_| self.below(5) as u64).collect();
        let elements = element_count(&shape).unwrap();
        let data: Vec<u8> = (0..elements).flat_map(|_| self.element(datatype, contents)).collect();
        let tensor = Tensor { name: self.text().into(), datatype, shape, data: Bytes::from(data) };
        Carried { tensor, parameters: self.parameters(contents) }
    }

    fn element(&mut self, datatype: Datatype, contents: Contents) -> Vec<u8> {
        let bits = self.next();
        match (datatype, contents) {
            (Datatype::Bool, _) => vec![(bits & 1) as u8],
            (Datatype::Bytes, Contents::Json) => prefixed(self.text().as_bytes()),
            (Datatype::Bytes, Contents::Any) => prefixed(&bits.to_le_bytes()[..(bits >> 61) as usize]),
            (Datatype::Fp32, Contents::Json) => match f32::from_bits(bits as u32) {
                number if number.is_finite() => number.to_le_bytes().to_vec(),
                _ => (-0.0f32).to_le_bytes().to_vec(),
            },
            (Datatype::Fp64, Contents::Json) => self.double(contents).to_le_bytes().to_vec(),
            _ => bits.to_le_bytes()[..datatype.size().unwrap()].to_vec(),
        }
    }

    pub(super) fn request(&mut self, contents: Contents) -> InferRequest {
        InferRequest {
            model: self.text() + "m",
            version: self.some_text(),
            id: self.some_text(),
            parameters: self.parameters(contents),
            inputs: (0..1 + self.below(3)).map(|_| self.tensor(contents)).collect(),
            outputs: (0..self.below(3))
                .map(|_| RequestedOutput {
                    name: self.text(),
                    parameters: self.parameters(contents),
                    is_binary: None,
                })
                .collect(),
            is_binary_output: None,
        }
    }

    pub(super) fn response(&mut self, contents: Contents) -> InferResponse {
        InferResponse {
            model_name: self.text(),
            model_version: self.some_text(),
            id: self.some_text(),
            parameters: self.parameters(contents),
            outputs: (0..self.below(3)).map(|_| self.tensor(contents)).collect(),
        }
    }
}

pub(super) fn prefixed(element: &[u8]) -> Vec<u8> {
    [&(element.len() as u32).to_le_bytes(), element].concat()
}
