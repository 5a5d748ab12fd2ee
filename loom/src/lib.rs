//! Owns the product's lock-free policies as loom sees them: the shipped files, compiled on loom's atomics and locks. Their models are in
//! `tests/`, one file for each; what they share is in `model`.

pub mod model;
pub mod sync;

/// The directory of this name is a link to the product's.
pub mod policy {
    pub mod calendar;
    pub mod concurrency;
    pub mod quota;
    pub mod rate_limit;
}
