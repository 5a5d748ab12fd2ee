//! Owns a request from its head to its last byte. `pipeline` names the stages; every other file is one stage
//! or what stages share. Parses no bytes.

pub mod balance;
pub mod body;
pub mod bounds;
pub mod canary;
pub mod client;
pub mod cors;
pub mod deadline;
pub mod end;
pub mod exchange;
pub mod forward;
pub mod grpc;
pub mod http2;
pub mod identify;
pub mod input;
pub mod known;
pub mod l4;
pub mod limits;
pub mod path;
pub mod pipeline;
pub mod problem;
pub mod proxy_header;
pub mod relay;
pub mod request_id;
pub mod respond;
pub mod retry;
pub mod route;
pub mod routed;
pub mod rule;
pub mod splice;
pub mod status;
pub mod template;
pub mod transform;
pub mod tunnel;
mod turn;
pub mod udp;
mod ways;
