//! Owns sockets as the data plane uses them. Nothing outside `net` and `runtime` names monoio.
//! Parses nothing and decides nothing.

pub mod listener;
pub mod proxy_protocol;
pub mod readiness;
pub mod ready_set;
pub mod sni;
pub mod splice;
pub mod tcp;
pub mod tls;
pub mod udp;
