//! Seeing it: what a core counts, how long things took, and one log line per request.
//! Each worker owns a `CoreMetrics` and an `AccessLog` and shares neither; a scrape asks every worker for a
//! `CoreReport` and the control thread merges and renders them. Nothing here waits for long (`events` for standard error, on the
//! control thread), and nothing here decides.

pub mod access_log;
pub mod clock;
pub mod events;
pub mod histogram;
pub mod json;
pub mod log_writer;
pub mod metrics;
pub mod names;
pub mod process;
pub mod prometheus;
pub mod report;
pub mod stderr;
pub mod tcp;
pub mod udp;

pub use access_log::{AccessLog, LogLine};
pub use events::{Event, EventKind, Events, Teller};
pub use log_writer::LogWriter;
pub use metrics::{CoreMetrics, ListenerIndex, Outcome};
pub use names::Names;
pub use process::ProcessStats;
pub use prometheus::{ComputeStats, GatewayStats, Scrape, Stuck, render};
pub use report::{CoreReport, Handshake};
pub use tcp::TcpSeries;
