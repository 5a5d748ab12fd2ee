//! Owns the body of a REST message: JSON, and behind it tensors in binary if there are any. Sends nothing.

use bytes::Bytes;

use super::super::refused::Refused;

/// What is to be sent. The tensors of `tail` are those of the message, not copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub json: Vec<u8>,
    /// In order behind the JSON.
    pub tail: Vec<Bytes>,
    /// `binary_data_size` stands in the JSON, maybe of 0.
    pub is_binary: bool,
}

impl Body {
    pub fn len(&self) -> usize {
        self.json.len() + self.tail.iter().map(Bytes::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `Inference-Header-Content-Length` must say. `None`: it must not be there.
    pub fn header_bytes(&self) -> Option<usize> {
        self.is_binary.then_some(self.json.len())
    }

    pub fn content_type(&self) -> &'static str {
        if self.is_binary { "application/octet-stream" } else { "application/json" }
    }

    /// In one piece.
    pub fn into_vec(self) -> Vec<u8> {
        let mut whole = self.json;
        whole.reserve_exact(self.tail.iter().map(Bytes::len).sum());
        self.tail.iter().for_each(|tensor| whole.extend_from_slice(tensor));
        whole
    }
}

/// The value of `Inference-Header-Content-Length`: how much of a body of `body_bytes` is JSON.
pub fn header_length(value: &[u8], body_bytes: usize) -> Result<usize, Refused> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    let refused = |what: &'static str| Refused::invalid(what).within("Inference-Header-Content-Length");
    match length {
        Some(length) if length <= body_bytes => Ok(length),
        Some(_) => Err(refused("is more than the body has")),
        None => Err(refused("is no number of bytes")),
    }
}
