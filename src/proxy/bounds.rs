//! Owns what a try keeps of the configuration once it has let go of the snapshot: timeouts and limits by value.
//! Decides nothing.

use crate::config::snapshot::{
    ClientTimeouts, PoolLimits, Service, Settings, SplicePolicy, UpstreamTimeouts,
};
use crate::http::h1_body::ChunkLimits;
use crate::http::head::HeadLimits;

pub struct Bounds {
    pub client_timeouts: ClientTimeouts,
    pub upstream_timeouts: UpstreamTimeouts,
    pub head_limits: HeadLimits,
    pub chunk_limits: ChunkLimits,
    pub pool: PoolLimits,
    pub splice: SplicePolicy,
    /// Of the request's body, by its route.
    pub body_bytes_max: u64,
}

impl Bounds {
    pub fn new(settings: &Settings, service: &Service, body_bytes_max: u64) -> Bounds {
        Bounds {
            client_timeouts: settings.client_timeouts,
            upstream_timeouts: service.timeouts,
            head_limits: settings.head_limits,
            chunk_limits: settings.chunk_limits,
            pool: settings.pool,
            splice: settings.splice,
            body_bytes_max,
        }
    }
}
