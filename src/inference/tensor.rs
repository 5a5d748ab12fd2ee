//! Owns what a tensor is to all that reads or writes one: a name, a datatype of the Open Inference Protocol, a shape, and its elements as
//! they lie in `raw_input_contents`. Reads no wire format.

use bytes::Bytes;

/// Open Inference Protocol v2, "Tensor Data Types", and BF16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// Elements are row-major and little-endian; one of BYTES is its length in four bytes, and itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: Box<str>,
    pub datatype: Datatype,
    /// Of no dimension: one element.
    pub shape: Vec<u64>,
    pub data: Bytes,
}

impl Datatype {
    pub const ALL: [Datatype; 14] = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
    ];

    /// As the protocol spells it.
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }

    /// Of a name that is spelled as the protocol does.
    pub fn of(name: &str) -> Option<Datatype> {
        Datatype::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// Bytes of one element. `None`: they differ.
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }
}

/// How many elements a tensor of this shape has. `None`: more than can be counted.
pub fn element_count(shape: &[u64]) -> Option<u64> {
    // A dimension of zero makes the tensor empty, however large the others are.
    match shape.contains(&0) {
        true => Some(0),
        false => shape.iter().try_fold(1u64, |count, &side| count.checked_mul(side)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::of(datatype.name()), Some(datatype));
        }
        assert_eq!(Datatype::of("fp32"), None);
    }

    #[test]
    fn elements_are_counted_without_overflow() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 3, 4]), Some(24));
        assert_eq!(element_count(&[u64::MAX, 0, u64::MAX]), Some(0));
        assert_eq!(element_count(&[u64::MAX, 2]), None);
    }
}
