//! The admin endpoint: metrics, health, readiness and reload over plain HTTP, for operators and scrapers.
//! `admin::server` speaks HTTP; what it tells and does comes from an `AdminBackend`, which `control` implements.
//! Knows nothing of workers or snapshots and never touches a request of the data plane.

pub mod server;

use std::future::Future;
use std::pin::Pin;

pub use server::serve;

/// What an endpoint asks of the gateway. Shared by all admin connections.
pub trait AdminBackend: Send + Sync + 'static {
    /// The Prometheus page: asks every worker.
    fn metrics(&self) -> Answer<'_, String>;

    fn readiness(&self) -> Readiness;

    /// Reloads the configuration. `Ok` is a report for people, `Err` all diagnostics; either way as text. Runs
    /// to its end even if the client that asked goes away. Two at once are the backend's to order.
    fn reload(&self) -> Answer<'_, Result<String, String>>;

    /// All canaries, as JSON.
    fn canaries(&self) -> String;

    /// Sets the share of a route's canary, in millionths; `None` if there is no such canary, else all of them.
    fn set_canary(&self, route: &str, millionths: u32) -> Option<String>;

    /// Generation of the configuration in use.
    fn generation(&self) -> u64;
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
