//! Owns one armed readiness wait that outlives the request which started it. One poll per request then does
//! three jobs: it notices a peer that goes away while a response is prepared, wakes the reader of the next
//! message, and tells a stale pooled connection without a system call. Reads nothing.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::tcp::Stream;

/// ```text
/// Idle ──poll──▶ Armed ──kernel──▶ Fired ──clear──▶ Idle
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Armed,
    Fired,
}

/// Readiness to read of one stream, level-triggered at the moment of arming.
pub struct Watch {
    state: Rc<Cell<State>>,
    // One allocation per connection: the future loops over waits instead of being made anew for each.
    waits: Pin<Box<dyn Future<Output = ()>>>,
}

impl Watch {
    pub fn new(stream: Stream) -> Watch {
        let state = Rc::new(Cell::new(State::Idle));
        let waits = Box::pin(wait_again_and_again(stream, state.clone()));
        Watch { state, waits }
    }

    /// Ready once the stream has input, FIN or an error; stays ready until `clear`.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.state.get() != State::Fired {
            let _never_ends = self.waits.as_mut().poll(context);
        }
        if self.state.get() == State::Fired { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Arms the wait without a task to wake: for a connection that goes into the pool.
    pub fn arm(&mut self) -> bool {
        self.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    /// Forgets a readiness that was used up; the next poll arms anew.
    pub fn clear(&mut self) {
        if self.state.get() == State::Fired {
            self.state.set(State::Idle);
        }
    }
}

async fn wait_again_and_again(stream: Stream, state: Rc<Cell<State>>) {
    loop {
        state.set(State::Armed);
        // An error of the wait is an error of the socket: the read that follows names it.
        let _ = stream.readable().await;
        state.set(State::Fired);
        poll_fn(|_| if state.get() == State::Idle { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}
