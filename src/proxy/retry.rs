//! Owns what may be tried again: only before a byte of the response went out, only what is safe to repeat,
//! within attempts and budget. `forward` acts on what it decides.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::balance::in_flight::RetryPermit;
use crate::config::snapshot::{Service, StableId};
use crate::error::{Error, Kind, Sent};
use crate::http::head::Method;
use crate::runtime::clock::Millis;

use super::deadline::Deadline;

/// Endpoints that one request may try in all, whatever the config says.
pub const ATTEMPTS_MAX: usize = 8;

/// Retries that run end soon, mostly: for so long a request waits for one of them to make room in the budget, and looks
/// every now and then.
const ROOM_WAIT: Duration = Duration::from_millis(50);
const ROOM_LOOK: Duration = Duration::from_millis(5);

/// What becomes of a request whose try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    Again,
    /// It may be tried again once fewer retries are under way: see `Tries::room`.
    OverBudget,
    Over,
}

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
    pub now: Millis,
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

    /// Whether to try again after `failure` on `endpoint`; takes a permit of the budget if it needs one.
    pub fn again(&mut self, failure: &Failure<'_>, endpoint: StableId, service: &Arc<Service>) -> Verdict {
        let again = Again::after(failure);
        if failure.is_answered || !failure.is_replayable || again == Again::Never {
            return Verdict::Over;
        }
        // A pooled connection that the upstream closed says nothing about the endpoint: try it once more on
        // a new connection, at no one's expense.
        if self.is_stale(failure) {
            self.fresh_connection = true;
            return Verdict::Again;
        }
        if !self.has_attempts_left(service)
            || (again == Again::Elsewhere && !self.has_another(endpoint, service, failure.now))
        {
            return Verdict::Over;
        }
        self.tried.push(endpoint);
        let is_allowed =
            if again == Again::Unseen { self.count_unseen(service) } else { self.take_permit(service) };
        if is_allowed { Verdict::Again } else { Verdict::OverBudget }
    }

    /// A pooled connection that the endpoint had closed meanwhile has failed.
    pub fn is_stale(&self, failure: &Failure<'_>) -> bool {
        failure.was_pooled && !self.fresh_connection && failure.error.kind == Kind::UpstreamClosed
    }

    /// Waits a little for a permit of the budget; false if there was none. Without this, half of the clients of a
    /// service fail in the moment in which one of its two endpoints stops, although the other would answer at once.
    pub async fn room(&mut self, service: &Arc<Service>, deadline: &Deadline) -> bool {
        let looks = ROOM_WAIT.as_millis() / ROOM_LOOK.as_millis();
        for _ in 0..if service.retry.allows_any() { looks } else { 0 } {
            deadline.start(Kind::RequestTimeout, ROOM_LOOK);
            poll_fn(|context| deadline.poll(context)).await;
            if self.take_permit(service) {
                return true;
            }
        }
        RetryPermit::refuse(&service.state);
        false
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
        if !asked || !self.has_attempts_left(service) {
            return false;
        }
        if !self.take_permit(service) {
            RetryPermit::refuse(&service.state);
            return false;
        }
        self.tried.push(endpoint);
        true
    }

    /// Whether an answer that says that the endpoint is unavailable, and nothing else, is given up for another endpoint's.
    pub fn again_for_unavailable(
        &mut self,
        is_replayable: bool,
        endpoint: StableId,
        service: &Arc<Service>,
        now: Millis,
    ) -> bool {
        if !service.retry.on_unavailable
            || !is_replayable
            || !self.has_attempts_left(service)
            || !self.has_another(endpoint, service, now)
        {
            return false;
        }
        if !self.take_permit(service) {
            RetryPermit::refuse(&service.state);
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

    /// A usable endpoint that this request has not tried, `current` included.
    fn has_another(&self, current: StableId, service: &Service, now: Millis) -> bool {
        service.has_usable(now, |other| other.id != current && !self.tried.contains(&other.id))
    }

    /// A request that nobody has seen is no load repeated: a dead endpoint must not spend the budget that
    /// guards the living ones from repetitions.
    fn count_unseen(&mut self, service: &Service) -> bool {
        self.permit = None;
        service.state.retries_total.fetch_add(1, Relaxed);
        true
    }

    fn take_permit(&mut self, service: &Arc<Service>) -> bool {
        // The try that failed gives its own permit back first: one request runs one retry at a time.
        self.permit = None;
        self.permit = RetryPermit::try_take(&service.state, &service.retry);
        self.permit.is_some()
    }
}

/// What a failed try allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Never,
    /// No endpoint has seen the request: any request may go to another one.
    Unseen,
    /// An endpoint may have seen it, and went away without an answer.
    Repeated,
    /// An endpoint has it and says nothing: it may be at work on it, so that asking it again only adds to that.
    Elsewhere,
}

impl Again {
    fn after(failure: &Failure<'_>) -> Again {
        match (failure.error.kind, failure.error.sent) {
            (
                Kind::ConnectFailed | Kind::ConnectTimeout | Kind::UpstreamTlsFailed | Kind::UpstreamClosed,
                Sent::Nothing,
            ) => Again::Unseen,
            // It is there, and has too much to do: what is sent to it again counts.
            (Kind::UpstreamRefused, _) => Again::Repeated,
            (Kind::UpstreamClosed | Kind::UpstreamReset, Sent::Something)
                if failure.method.is_idempotent() =>
            {
                Again::Repeated
            }
            (Kind::FirstByteTimeout, _) if failure.method.is_idempotent() => Again::Elsewhere,
            _ => Again::Never,
        }
    }
}
