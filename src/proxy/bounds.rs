//! Owns what a try keeps of the configuration once it has let go of the snapshot: timeouts and limits. Decides nothing.

use std::ops::Deref;
use std::rc::Rc;

use crate::config::snapshot::{ClientTimeouts, PoolLimits, Settings, SplicePolicy, UpstreamTimeouts};
use crate::http::h1_body::ChunkLimits;
use crate::http::head::HeadLimits;

/// What all requests that see one configuration share on a core.
pub struct Shared {
    pub client_timeouts: ClientTimeouts,
    pub head_limits: HeadLimits,
    pub chunk_limits: ChunkLimits,
    pub pool: PoolLimits,
    pub splice: SplicePolicy,
}

impl From<&Settings> for Shared {
    fn from(settings: &Settings) -> Shared {
        Shared {
            client_timeouts: settings.client_timeouts,
            head_limits: settings.head_limits,
            chunk_limits: settings.chunk_limits,
            pool: settings.pool,
            splice: settings.splice,
        }
    }
}

/// One try's.
pub struct Bounds {
    pub shared: Rc<Shared>,
    pub upstream_timeouts: UpstreamTimeouts,
    /// Of the request's body, by its route; of each message, if it is a gRPC call.
    pub body_bytes_max: u64,
    /// Of a message of the answer to a gRPC call.
    pub message_bytes_max: u64,
}

impl Deref for Bounds {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
