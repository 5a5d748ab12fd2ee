//! Owns whether a tensor's bytes are as many as its shape and datatype say, and the walk over elements of BYTES. Changes none.

use std::borrow::Cow;

use super::limits::Limits;
use super::refused::Refused;
use crate::inference::tensor::{Datatype, element_count};

/// Bytes before an element of BYTES.
pub(super) const PREFIX_BYTES: usize = 4;

/// What a message's tensors may still hold.
#[derive(Debug)]
pub(super) struct Budget<'l> {
    pub(super) limits: &'l Limits,
    bytes_left: u64,
}

impl<'l> Budget<'l> {
    pub(super) fn new(limits: &'l Limits) -> Budget<'l> {
        Budget { limits, bytes_left: limits.data_bytes }
    }

    /// How many elements this shape has, if that is allowed.
    pub(super) fn elements(&self, shape: &[u64]) -> Result<u64, Refused> {
        if shape.len() > self.limits.dimensions {
            return Err(Refused::too_large(format!("has more than {} dimensions", self.limits.dimensions)));
        }
        match element_count(shape) {
            Some(count) if count <= self.limits.elements => Ok(count),
            _ => Err(Refused::too_large(format!("has more than {} elements", self.limits.elements))),
        }
    }

    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), Refused> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(Refused::too_large(format!(
                "the tensors are larger than {} bytes",
                self.limits.data_bytes
            ))),
        }
    }

    pub(super) fn bytes_left(&self) -> u64 {
        self.bytes_left
    }
}

/// Raw data of a tensor. What is wrong with it, as `Refused::what`.
pub(super) fn check(datatype: Datatype, elements: u64, data: &[u8]) -> Result<(), Cow<'static, str>> {
    let Some(size) = datatype.size() else { return check_bytes(elements, data) };
    // An element count is below 2^28 by default, and never so large that a body could hold so much.
    let expected = elements.saturating_mul(size as u64);
    match data.len() as u64 == expected {
        true => Ok(()),
        false => {
            Err(format!("holds {} bytes, and {} of its shape takes {expected}", data.len(), datatype.name())
                .into())
        }
    }
}

fn check_bytes(elements: u64, data: &[u8]) -> Result<(), Cow<'static, str>> {
    let mut count = 0;
    for element in Elements(data) {
        if element.is_none() {
            return Err("an element of BYTES ends behind the data".into());
        }
        count += 1;
    }
    match count == elements {
        true => Ok(()),
        false => Err(format!("holds {count} elements of BYTES, and its shape has {elements}").into()),
    }
}

/// Elements of BYTES. `None`, and then no more: it is cut off.
pub(super) struct Elements<'d>(pub(super) &'d [u8]);

impl<'d> Iterator for Elements<'d> {
    type Item = Option<&'d [u8]>;

    fn next(&mut self) -> Option<Option<&'d [u8]>> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.0.split_first_chunk::<PREFIX_BYTES>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        self.0 = split.map_or(&[][..], |(_, rest)| rest);
        Some(split.map(|(element, _)| element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_compared_with_shapes() {
        assert!(check(Datatype::Fp32, 2, &[0; 8]).is_ok());
        assert_eq!(
            check(Datatype::Fp32, 3, &[0; 8]).unwrap_err(),
            "holds 8 bytes, and FP32 of its shape takes 12"
        );
        assert!(check(Datatype::Uint64, u64::MAX, &[0; 8]).is_err());
        let two = b"\x01\0\0\0a\0\0\0\0";
        assert!(check(Datatype::Bytes, 2, two).is_ok());
        assert_eq!(
            check(Datatype::Bytes, 3, two).unwrap_err(),
            "holds 2 elements of BYTES, and its shape has 3"
        );
        for end in 1..two.len() {
            assert!(check(Datatype::Bytes, 2, &two[..end]).is_err(), "{end}");
        }
        assert!(check(Datatype::Bytes, 1, b"\xff\xff\xff\xffa").is_err());
        assert!(check(Datatype::Bytes, 0, b"").is_ok());
    }

    #[test]
    fn a_budget_is_spent_once() {
        let limits = Limits { data_bytes: 10, elements: 100, dimensions: 2, ..Limits::default() };
        let mut budget = Budget::new(&limits);
        assert_eq!(budget.elements(&[10, 10]), Ok(100));
        assert!(budget.elements(&[10, 11]).is_err() && budget.elements(&[u64::MAX, 2]).is_err());
        assert!(budget.elements(&[1, 1, 1]).is_err());
        assert!(budget.spend(6).is_ok() && budget.spend(5).is_err() && budget.spend(4).is_ok());
    }
}
