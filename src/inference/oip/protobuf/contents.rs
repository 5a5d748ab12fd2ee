//! Owns what typed contents (`InferTensorContents`) become: the tensor's bytes as they would have come raw. Does not compare them with a
//! shape.

use super::super::data::Budget;
use super::super::refused::Refused;
use super::wire::{Field, Piece};
use crate::inference::tensor::Datatype;

/// All elements of a tensor, from the pieces of its contents.
pub(super) fn read(
    pieces: &[Piece<'_>],
    datatype: Datatype,
    budget: &mut Budget<'_>,
) -> Result<Vec<u8>, Refused> {
    let mut data = Vec::new();
    let expected = field_of(datatype);
    for &piece in pieces {
        let mut rest = piece;
        while let Some(field) = rest.field()? {
            if field.number > BYTES_CONTENTS {
                continue;
            }
            if Some(field.number) != expected {
                return Err(Refused::invalid(misplaced(datatype)).at(piece.at));
            }
            let before = data.len();
            append(&field, datatype, budget.bytes_left() + before as u64, &mut data)?;
            budget.spend((data.len() - before) as u64)?;
        }
    }
    Ok(data)
}

const BYTES_CONTENTS: u32 = 8;

/// `None`: it comes raw or not at all.
fn field_of(datatype: Datatype) -> Option<u32> {
    Some(match datatype {
        Datatype::Bool => 1,
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => 2,
        Datatype::Int64 => 3,
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => 4,
        Datatype::Uint64 => 5,
        Datatype::Fp32 => 6,
        Datatype::Fp64 => 7,
        Datatype::Bytes => BYTES_CONTENTS,
        Datatype::Fp16 | Datatype::Bf16 => return None,
    })
}

fn misplaced(datatype: Datatype) -> String {
    match field_of(datatype) {
        None => format!("is {}, which comes as raw contents only", datatype.name()),
        Some(_) => format!("has contents that are not of {}", datatype.name()),
    }
}

/// `bytes_max`: of `data`. A varint of one byte may become eight.
fn append(field: &Field<'_>, datatype: Datatype, bytes_max: u64, data: &mut Vec<u8>) -> Result<(), Refused> {
    match datatype {
        Datatype::Bool => numbers(field, bytes_max, data, |value| Some([u8::from(value != 0)])),
        Datatype::Int8 => {
            numbers(field, bytes_max, data, |value| Some(i8::try_from(int32(value)?).ok()?.to_le_bytes()))
        }
        Datatype::Int16 => {
            numbers(field, bytes_max, data, |value| Some(i16::try_from(int32(value)?).ok()?.to_le_bytes()))
        }
        Datatype::Int32 => numbers(field, bytes_max, data, |value| Some(int32(value)?.to_le_bytes())),
        Datatype::Uint8 => {
            numbers(field, bytes_max, data, |value| Some(u8::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Uint16 => {
            numbers(field, bytes_max, data, |value| Some(u16::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Uint32 => {
            numbers(field, bytes_max, data, |value| Some(u32::try_from(value).ok()?.to_le_bytes()))
        }
        Datatype::Int64 | Datatype::Uint64 => {
            numbers(field, bytes_max, data, |value| Some(value.to_le_bytes()))
        }
        Datatype::Fp32 => {
            data.append(&mut field.fixed_list(4)?);
            Ok(())
        }
        Datatype::Fp64 => {
            data.append(&mut field.fixed_list(8)?);
            Ok(())
        }
        Datatype::Bytes => {
            let element = field.piece()?.bytes;
            let length =
                u32::try_from(element.len()).map_err(|_| Refused::too_large("an element is over 4 GiB"))?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(element);
            Ok(())
        }
        // Refused before: `field_of` names no field for them.
        Datatype::Fp16 | Datatype::Bf16 => Ok(()),
    }
}

/// Negative ones come as 64 bits.
fn int32(value: u64) -> Option<i32> {
    i32::try_from(value as i64).ok()
}

#[inline]
fn numbers<const N: usize>(
    field: &Field<'_>,
    bytes_max: u64,
    data: &mut Vec<u8>,
    narrow: impl Fn(u64) -> Option<[u8; N]>,
) -> Result<(), Refused> {
    field.varints(|value| {
        let element =
            narrow(value).ok_or_else(|| Refused::invalid("an element is out of its datatype's range"))?;
        if data.len() as u64 + N as u64 > bytes_max {
            return Err(Refused::too_large("the tensors are larger than allowed"));
        }
        data.extend_from_slice(&element);
        Ok(())
    })
}
