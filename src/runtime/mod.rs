//! Owns the threads of the data plane: one pinned worker per core with its own driver, timers, buffers and
//! mailbox. Knows nothing of HTTP; `worker` hands accepted sockets to `proxy`.

pub mod buffer;
pub mod clock;
pub mod complaints;
pub mod compute;
pub mod core;
pub mod cpus;
pub mod driver;
pub mod limits;
pub mod mailbox;
pub mod memory;
pub mod panics;
pub mod peers;
pub mod timer;
pub mod turns;
pub mod waiters;
pub mod worker;
