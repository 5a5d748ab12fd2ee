//! Owns the protocol's messages as JSON, alone or with tensors in binary behind it (Triton's binary tensor data extension): requests and
//! responses are read in `read` and written in `write`, with bodies of both kinds in `body`; tensors are made from the text in `tensor`, over
//! `number` and `cursor`; `metadata` has what is small. Knows nothing of HTTP but the one header's value.
//!
//! Read strictly (RFC 8259): members that stand twice are refused, unknown ones ignored, and `null` counts as left out. Numbers become what
//! is nearest to them in the tensor's own datatype; integers are exact or refused. No tree is built: an array goes straight into the bytes of
//! its tensor, at once where datatype and shape stand before it, and else after it was looked over.

mod body;
mod cursor;
mod metadata;
mod number;
mod read;
mod tensor;
mod write;

pub use body::{Body, header_length};
pub use metadata::{
    read_error, read_model_metadata, read_ready, read_server_metadata, write_error, write_live,
    write_model_metadata, write_model_ready, write_ready, write_server_metadata,
};
pub use read::{read_request, read_response};
pub use write::{Unwritable, write_request, write_response};

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
