//! Owns the one running clock of a connection: which phase it is in, what error its end means, and the bound
//! of the whole request above all phases. Also the way a piece of work is supervised by it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::runtime::timer::Timer;

pub struct Deadline {
    timer: Timer,
    phase: Cell<Kind>,
    /// End of the whole request, if its route bounds it.
    request_end: Cell<Option<Instant>>,
}

impl Deadline {
    pub fn new(timer: Timer) -> Deadline {
        Deadline { timer, phase: Cell::new(Kind::Internal), request_end: Cell::new(None) }
    }

    /// Begins a phase; `kind` is the error if it lasts longer than `bound`.
    pub fn start(&self, kind: Kind, bound: Duration) {
        self.start_at(self.timer.timers.now(), kind, bound);
    }

    /// `start` for who has not waited since the clock was read last on this core.
    pub fn start_lately(&self, kind: Kind, bound: Duration) {
        self.start_at(self.timer.timers.lately(), kind, bound);
    }

    fn start_at(&self, now: Instant, kind: Kind, bound: Duration) {
        let (kind, bound) = match self.request_end.get() {
            Some(end) if end < now + bound => (Kind::RequestTimeout, end.saturating_duration_since(now)),
            _ => (kind, bound),
        };
        self.phase.set(kind);
        self.timer.set(now, bound);
    }

    /// No phase is running; only the whole request's bound holds.
    pub fn pause(&self) {
        match self.request_end.get() {
            Some(end) => {
                let now = Instant::now();
                self.phase.set(Kind::RequestTimeout);
                self.timer.set(now, end.saturating_duration_since(now));
            }
            None => self.timer.clear(),
        }
    }

    /// Bounds the whole request from now on; `None` lifts it.
    pub fn bound_request(&self, bound: Option<Duration>) {
        self.request_end.set(bound.map(|bound| Instant::now() + bound));
    }

    /// When the whole request has to be over.
    pub fn request_end(&self) -> Option<Instant> {
        self.request_end.get()
    }

    /// Bounds the whole request by this, too.
    pub fn end_request_by(&self, end: Instant) {
        let earlier = self.request_end.get().map_or(end, |known| known.min(end));
        self.request_end.set(Some(earlier));
    }

    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Error> {
        self.timer.poll(context).map(|()| Error::new(self.phase.get()))
    }
}

/// Drives `work` until it ends, `beside` ends it, or the deadline's phase runs out.
///
/// Takes its futures pinned where the caller made them: passed by value they would be moved, and a request's are
/// kilobytes.
pub fn supervised<'a, T>(
    mut work: Pin<&'a mut impl Future<Output = Result<T, Error>>>,
    mut beside: Pin<&'a mut impl Future<Output = Error>>,
    deadline: &'a Deadline,
) -> impl Future<Output = Result<T, Error>> + 'a {
    poll_fn(move |context| {
        // Work first: a response that is there counts even if the client left at the same moment.
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if let Poll::Ready(error) = beside.as_mut().poll(context) {
            return Poll::Ready(Err(error));
        }
        deadline.poll(context).map(Err)
    })
}

/// Drives `work` until it ends or the deadline's phase runs out.
pub fn bounded<'a, T>(
    mut work: Pin<&'a mut impl Future<Output = Result<T, Error>>>,
    deadline: &'a Deadline,
) -> impl Future<Output = Result<T, Error>> + 'a {
    poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => deadline.poll(context).map(Err),
    })
}
