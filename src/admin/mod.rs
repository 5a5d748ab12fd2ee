//! The admin endpoint over HTTP, with TLS or without, for operators, scrapers and their programs: what the gateway is and does, and the few
//! things that can be changed while it runs.
//! `admin::server` speaks HTTP, to whom `access` lets ask; what it tells and does comes from an `AdminBackend`, which `control` implements.
//! Knows nothing of workers or snapshots and never touches a request of the data plane.

pub mod access;
mod browser;
mod change;
mod endpoint;
mod peer;
pub mod server;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use server::serve;

use crate::config::tls::ListenerTls;

/// What an operator may change while the gateway runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The share of a route's canary.
    Canary { route: String, millionths: u32 },
    /// Whether an endpoint, named as in the config or by its address, has new requests.
    Drain { service: String, endpoint: String, is_drained: bool },
    /// A service's breaker lets all through again.
    ResetBreaker { service: String },
}

/// What an endpoint asks of the gateway. Shared by all admin connections.
pub trait AdminBackend: Send + Sync + 'static {
    /// The Prometheus page: asks every worker.
    fn metrics(&self) -> Answer<'_, String>;

    fn readiness(&self) -> Readiness;

    /// Reloads the configuration. `Ok` is a report for people, `Err` all diagnostics; either way as text. Runs
    /// to its end even if the client that asked goes away. Two at once are the backend's to order.
    fn reload(&self) -> Answer<'_, Result<String, String>>;

    /// What came of the last reload, as JSON.
    fn last_reload(&self) -> String;

    /// The configuration in force, as JSON: what is left out of it by its default, no secret.
    fn config(&self) -> Answer<'_, Result<String, String>>;

    /// All routes in their order, as JSON.
    fn routes(&self) -> Answer<'_, Result<String, String>>;

    /// All canaries, as JSON.
    fn canaries(&self) -> String;

    /// All services, as JSON: their endpoints, how these stand, the breakers, and how long answers take. Asks every worker.
    fn services(&self) -> Answer<'_, String>;

    /// What has happened lately, as JSON.
    fn events(&self) -> String;

    /// Changes something until it is changed again; false if there is no such thing.
    fn change(&self, change: &Change) -> bool;

    /// Generation of the configuration in use.
    fn generation(&self) -> u64;

    /// As the configuration in use has it. Whether there is any, and whether it asks for certificates, never changes.
    fn tls(&self) -> Option<Arc<ListenerTls>>;
}

/// A future that a trait object can return.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether a load balancer should send traffic here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not all listeners serve yet; the reason is told.
    Starting(String),
    /// No new connections are wanted; those there are served to their end.
    Draining,
}
