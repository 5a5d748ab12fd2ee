//! Owns the atomics and locks of the lock-free policies: those of the standard library. They have a name of ours so that `loom/`, which
//! compiles the same files, can put in its own, which try every interleaving.

pub use std::sync::atomic::{AtomicU8, AtomicU64, fence};
pub use std::sync::{Mutex, MutexGuard};
