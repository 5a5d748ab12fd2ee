//! What is decided about a request before it is sent on: who asks, by `jwt` and `identity`. Decides, and does no I/O.

pub mod claims;
pub mod identity;
pub mod jwt;
