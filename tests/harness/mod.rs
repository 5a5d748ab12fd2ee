//! Owns what every black-box test needs: a gateway process, a recording backend, a raw client, and the two
//! strict readers (HTTP/1 messages, Prometheus text) that judge what they said. Shares no code with the gateway,
//! so that a bug in its parser cannot hide in its test. Holds no test of its own.
// Each test file compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod backend;
pub mod client;
pub mod gateway;
pub mod http2;
pub mod http2_server;
pub mod process;
pub mod prom;
pub mod schema;
pub mod tls;
pub mod tls_front;
pub mod wire;

use std::time::{Duration, Instant};

pub use backend::{Backend, Conn, Ended};
pub use client::{Client, get};
pub use gateway::{Gateway, Setup};
pub use wire::{Fault, Framing, Head, Request, Response, Wire};

/// How long anything that must happen may take before a test calls it a failure. Generous: a property, not a speed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the long proofs run (`TIDEGATE_PROOF=1`); `cargo test` alone runs a quick version of the same property.
pub fn proof() -> bool {
    std::env::var_os("TIDEGATE_PROOF").is_some_and(|value| value == "1")
}

/// Polls until `holds` answers `Some`, and panics with `what` once patience has run out.
pub fn eventually<T>(what: &str, holds: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, holds).unwrap_or_else(|| panic!("never happened within {PATIENCE:?}: {what}"))
}

/// Polls until `holds` answers `Some`; `None` once the time is over.
pub fn within<T>(limit: Duration, mut holds: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = holds() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Polls until the condition is true.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Bytes as a person reads them in a failure message, cut to a screen.
pub fn show(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(600)];
    let more = if bytes.len() > 600 { format!(" …({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", shown.escape_ascii())
}

/// A small, seeded generator (xorshift64*), so that a random test can be run again.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}
