//! Owns one tensor in a message of its own (`proto/tensor.proto`): `TensorRequest` and `TensorResponse`, which are written alike. Of what
//! datatype it is, is agreed beforehand.

use bytes::Bytes;

use super::super::limits::Limits;
use super::super::refused::Refused;
use super::read::dimensions;
use super::wire::{Piece, put_length, put_packed, varint_size};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BareTensor {
    pub data: Bytes,
    /// Each side is an `int32` of at least 0.
    pub shape: Vec<u64>,
}

/// Its data is a slice of `message`. Not compared with the shape: the datatype is not known here.
pub fn decode_tensor(message: &Bytes, limits: &Limits) -> Result<BareTensor, Refused> {
    let (mut rest, mut tensor) = (Piece::whole(message), BareTensor::default());
    while let Some(field) = rest.field()? {
        match field.number {
            1 => tensor.data = message.slice_ref(field.piece()?.bytes),
            2 => dimensions(&field, limits, &mut tensor.shape).map_err(|refused| refused.within("shape"))?,
            _ => {}
        }
    }
    match tensor.shape.iter().find(|&&side| side > SIDE_MAX) {
        Some(side) => Err(Refused::invalid(format!("{side} is out of range")).within("shape")),
        None => Ok(tensor),
    }
}

/// Appends the message, for which space is made beforehand.
pub fn encode_tensor(tensor: &BareTensor, out: &mut Vec<u8>) -> Result<(), Refused> {
    if let Some(side) = tensor.shape.iter().find(|&&side| side > SIDE_MAX) {
        return Err(Refused::invalid(format!("{side} is out of range")).within("shape"));
    }
    let mut shape = Vec::new();
    put_packed(2, tensor.shape.iter().copied(), &mut shape);
    out.reserve_exact(1 + varint_size(tensor.data.len() as u64) + tensor.data.len() + shape.len());
    if !tensor.data.is_empty() {
        put_length(1, tensor.data.len(), out);
        out.extend_from_slice(&tensor.data);
    }
    out.extend_from_slice(&shape);
    Ok(())
}

const SIDE_MAX: u64 = i32::MAX as u64;
