//! Owns header compression for HTTP/2 (HPACK, RFC 7541): header blocks to field lines and back, with the two
//! dynamic tables that this needs. One `Decoder` and one `Encoder` per connection, each fed every block of
//! the connection in order. Does no I/O, knows no frames, and judges no field: names in upper case, unknown
//! pseudo-header fields and control characters pass, and are the caller's to refuse (RFC 9113 §8.2).

mod decode;
mod encode;
mod huffman;
mod integer;
mod lookup;
mod static_table;
mod table;

pub use decode::{BlockError, Decoder, FieldLine, Sink, TooLarge};
pub use encode::Encoder;

/// The size of both tables of a connection, in bytes, until its SETTINGS say otherwise
/// (SETTINGS_HEADER_TABLE_SIZE, RFC 9113 §6.5.2).
pub const TABLE_BYTES_DEFAULT: usize = 4096;

#[cfg(test)]
#[path = "hpack/support_tests.rs"]
mod support;

#[cfg(test)]
#[path = "hpack/rfc_tests.rs"]
mod rfc_tests;

#[cfg(test)]
#[path = "hpack/round_trip_tests.rs"]
mod round_trip_tests;
