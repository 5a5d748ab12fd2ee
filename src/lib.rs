//! Tidegate: an edge gateway for model servers. This file is the module map; nothing lives here.
//!
//! The path of a request, stage by stage (`proxy::pipeline` is the same list in code):
//!
//! ```text
//! runtime::worker     one pinned thread per core, accepts          → net::tcp
//! http::h1_conn       reads a head into a pooled buffer            → http::h1_parse
//! proxy::pipeline     route → admit → transform → balance → forward → observe
//! proxy::route        first match in the snapshot's table          → config::snapshot
//! balance             picks an endpoint, takes a pooled connection → balance::{pick, pool}
//! proxy::forward      sends the request, relays the response       → http::h1_body
//! observe             counts it on this core, logs it              → observe::{metrics, access_log}
//! ```
//!
//! `control` (one thread, tokio) does signals, DNS, admin and reload, and reaches the workers only through a
//! published `config::snapshot::Snapshot`, atomics and `runtime::mailbox`.

pub mod admin;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod error;
pub mod http;
pub mod inference;
pub mod net;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod runtime;
mod sync;
