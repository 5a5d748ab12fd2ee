//! Owns what may be tried again: only before a byte of the response went out, only what is safe to repeat,
//! within attempts and budget. Pure decisions; `forward` acts on them.

use std::sync::Arc;

use crate::balance::in_flight::RetryPermit;
use crate::config::snapshot::{Service, StableId};
use crate::error::{Error, Kind, Sent};
use crate::http::head::Method;

/// Endpoints that one request may try in all, whatever the config says.
pub const ATTEMPTS_MAX: usize = 8;

/// The tries of one request so far.
#[derive(Default)]
pub struct Tries {
    tried: Vec<StableId>,
    made: u32,
    /// Held while a retry is under way: the budget counts retries that run, not retries that ran.
    permit: Option<RetryPermit>,
    /// A pooled connection died under this request: its next try opens a new one.
    pub fresh_connection: bool,
}

/// What is asked when a try fails.
pub struct Failure<'a> {
    pub error: &'a Error,
    pub method: Method,
    /// The request has no body, or all of it is still at hand.
    pub is_replayable: bool,
    /// The failed connection came from the pool.
    pub was_pooled: bool,
    /// The client has been sent a byte of the response.
    pub is_answered: bool,
}

impl Tries {
    /// Endpoints not to pick again.
    pub fn tried(&self) -> &[StableId] {
        &self.tried
    }

    pub fn begin(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    /// Whether to try again after `failure` on `endpoint`; takes a permit of the budget if so.
    pub fn again(&mut self, failure: &Failure<'_>, endpoint: StableId, service: &Arc<Service>) -> bool {
        if failure.is_answered || !failure.is_replayable || !is_repeatable(failure) {
            return false;
        }
        // A pooled connection that the upstream closed says nothing about the endpoint: try it once more on
        // a new connection, at no one's expense.
        if failure.was_pooled && !self.fresh_connection && failure.error.kind == Kind::UpstreamClosed {
            self.fresh_connection = true;
            return true;
        }
        if !self.has_attempts_left(service) || !self.take_permit(service) {
            return false;
        }
        self.tried.push(endpoint);
        true
    }

    /// Whether a response with this status is given up for another try (opt-in, idempotent requests only).
    pub fn again_for_status(
        &mut self,
        status: u16,
        method: Method,
        is_replayable: bool,
        endpoint: StableId,
        service: &Arc<Service>,
    ) -> bool {
        let asked = service.retry.on_status.contains(&status) && method.is_idempotent() && is_replayable;
        if !asked || !self.has_attempts_left(service) || !self.take_permit(service) {
            return false;
        }
        self.tried.push(endpoint);
        true
    }

    /// The response has come: what follows is no retry under way any more.
    pub fn settle(&mut self) {
        self.permit = None;
    }

    /// All endpoints were tried but attempts are left: begin again with any of them.
    pub fn forget_tried(&mut self) -> bool {
        let had = !self.tried.is_empty();
        self.tried.clear();
        had
    }

    fn has_attempts_left(&self, service: &Service) -> bool {
        self.made < service.retry.attempts_max.min(ATTEMPTS_MAX as u32)
    }

    fn take_permit(&mut self, service: &Arc<Service>) -> bool {
        // The try that failed gives its own permit back first: one request runs one retry at a time.
        self.permit = None;
        self.permit = RetryPermit::try_take(&service.state, &service.retry);
        self.permit.is_some()
    }
}

/// Nothing was sent: anything may be repeated. Something was: idempotent requests only, and only when the
/// upstream went away without an answer. A timeout is no reason: the upstream may be at work on it.
fn is_repeatable(failure: &Failure<'_>) -> bool {
    match (failure.error.kind, failure.error.sent) {
        (Kind::ConnectFailed | Kind::ConnectTimeout | Kind::UpstreamClosed, Sent::Nothing) => true,
        (Kind::UpstreamClosed, Sent::Something) => failure.method.is_idempotent(),
        _ => false,
    }
}
