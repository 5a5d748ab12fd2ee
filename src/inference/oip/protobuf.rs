//! Owns the protocol's messages as protobuf (`proto/open_inference.proto`), and one tensor in a message of its own (`proto/tensor.proto`):
//! reading here and in `read`, `contents`, `metadata` and `tensor`, writing in `write`, over the encoding itself in `wire`.
//! Knows nothing of gRPC's framing.
//!
//! Read strictly: groups, fields of another type than theirs, overlong varints and lengths beyond the end are refused; unknown fields are
//! skipped unread. Tensors are slices of the message where they came raw. Written always raw.

mod contents;
mod metadata;
mod read;
mod tensor;
mod wire;
mod write;

pub use metadata::{
    Flag, Named, decode_flag, decode_model_metadata, decode_named, decode_server_metadata, encode_flag,
    encode_model_metadata, encode_named, encode_server_metadata,
};
pub use read::{decode_request, decode_response};
pub use tensor::{BareTensor, decode_tensor, encode_tensor};
pub use write::{encode_request, encode_response};

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
