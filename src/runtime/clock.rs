//! Owns the moment that shared states count from: numbers instead of instants, so that they fit atomics.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Milliseconds since that moment.
pub type Millis = u64;

/// Nanoseconds. Never 0, which is when nothing has happened.
pub fn nanos(now: Instant) -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = *BEGIN.get_or_init(|| now);
    now.saturating_duration_since(begin).as_nanos() as u64 + FIRST_NANOS
}

/// Milliseconds. Never 0.
pub fn millis(now: Instant) -> Millis {
    nanos(now) / 1_000_000
}

/// How many milliseconds that is.
pub fn span(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const FIRST_NANOS: u64 = 1 << 20;
