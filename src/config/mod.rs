//! Owns the configuration plane: from the text of one TOML file to the immutable snapshot that the data path reads.
//!
//! ```text
//! reader      syntax, walking by the schema, places      → diagnostic::Report
//! value, pattern   what single values mean               → suggest
//! document, document_route   what a person wrote, typed  → schema
//! check, reach     what is wrong between the parts
//! compile     ids, references, addresses                 → registry → snapshot
//! effective   what is in force, for people               → redact
//! ```
//!
//! No file is opened and no name resolved here: `control` does both.

mod check;
pub mod compile;
pub mod diagnostic;
mod document;
mod document_auth;
mod document_health;
mod document_limit;
mod document_model;
mod document_route;
mod effective;
pub mod id_hash;
mod pattern;
mod reach;
mod reader;
pub mod redact;
pub mod registry;
mod route_name;
pub mod schema;
pub mod snapshot;
pub mod suggest;
pub mod tls;
pub mod value;

#[cfg(test)]
mod compile_tests;
#[cfg(test)]
mod error_tests;
#[cfg(test)]
mod schema_tests;

pub use compile::{Blueprint, Compiled, Resolutions, compile};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use effective::effective;
pub use registry::Registry;
pub use value::HostPort;
