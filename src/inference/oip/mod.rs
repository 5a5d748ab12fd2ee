//! What is asked of a model in the words of the Open Inference Protocol v2, and what it answers: one model of both (`model`), read from and
//! written as protobuf (`protobuf`), JSON with or without binary tensors (`json`), and the paths that ask (`rest`). `declared` compares what
//! came with what a model takes. Pure: bytes in, bytes out; does no I/O, knows no route, and picks no status.

pub mod declared;
pub mod json;
pub mod limits;
pub mod model;
pub mod protobuf;
pub mod refused;
pub mod rest;

mod data;

#[cfg(test)]
mod random;
