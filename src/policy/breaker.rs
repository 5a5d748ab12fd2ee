//! Owns the circuit breaker of a service: what part of its last requests failed, and so which are let through: all, half of them, or
//! none but a probe now and then. Shared by all cores; has no clock and draws no numbers.
//!
//! passing → shedding (failures above `shed_above`) → open (above `reject_above`) → half-open (a window later: one probe at a time) →
//! passing (all probes well) or open again. A state lasts a window at least unless it gets worse, so that it never flaps.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::window::Window;
use crate::runtime::clock::{Millis, span};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Whose requests count.
    pub window: Duration,
    /// Fewer requests in it say nothing.
    pub requests_min: u32,
    /// Failures in percent above which half of the requests are let through, and above which none are.
    pub shed_above: u32,
    pub reject_above: u32,
    /// In a row, that go well before all is well.
    pub probes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Passing,
    Shedding,
    Open,
    HalfOpen,
}

impl State {
    /// A stable word for metrics and the admin endpoint.
    pub fn word(self) -> &'static str {
        match self {
            State::Passing => "passing",
            State::Shedding => "shedding",
            State::Open => "open",
            State::HalfOpen => "half-open",
        }
    }

    pub const ALL: [State; 4] = [State::Passing, State::Shedding, State::Open, State::HalfOpen];
}

#[derive(Debug, Default)]
pub struct Breaker {
    window: Window,
    /// `State`, as a number, and since when: one word, so that nobody sees half of a change.
    state: AtomicU64,
    /// Of the half-open breaker: when its probe began, 0: none is under way.
    probe: AtomicU64,
    probes_well: AtomicU32,
    /// Who changes the state.
    changes: Mutex<()>,
    pub rejected_total: AtomicU64,
    pub opened_total: AtomicU64,
}

/// What is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    Counted,
    /// What becomes of it decides.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Until it is worth trying again.
    pub wait: Millis,
}

const STATE_BITS: u32 = 2;

impl Breaker {
    /// Whether one more request may go. `drawn` is a random number.
    pub fn admit(&self, policy: &BreakerPolicy, now: Millis, drawn: u64) -> Result<Pass, Rejected> {
        let (state, since) = self.state();
        let admitted = match state {
            State::Passing => return Ok(Pass::Counted),
            // Time alone makes it better, too: the failures grow old.
            State::Shedding if self.reconsider(policy, now) == State::Passing => Ok(Pass::Counted),
            State::Shedding if drawn & 1 == 0 => Ok(Pass::Counted),
            State::Shedding => Err(Rejected { wait: 0 }),
            State::Open => {
                let rest = (since + span(policy.window)).saturating_sub(now);
                if rest == 0 { self.probe(policy, now) } else { Err(Rejected { wait: rest }) }
            }
            State::HalfOpen => self.probe(policy, now),
        };
        if admitted.is_err() {
            self.rejected_total.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// One at a time. One that has been lost gives its place up after a window.
    fn probe(&self, policy: &BreakerPolicy, now: Millis) -> Result<Pass, Rejected> {
        let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        match self.state().0 {
            State::Open => self.enter(State::HalfOpen, now),
            State::HalfOpen => {}
            State::Passing | State::Shedding => return Ok(Pass::Counted),
        }
        let begun = self.probe.load(Relaxed);
        if begun != 0 && now < begun + span(policy.window) {
            return Err(Rejected { wait: 0 });
        }
        self.probe.store(now, Relaxed);
        Ok(Pass::Probe)
    }

    /// How a request went that was let through. Its own rejections are none.
    pub fn record(&self, policy: &BreakerPolicy, now: Millis, pass: Pass, failed: bool) {
        match pass {
            Pass::Counted => {
                let failures = self.window.count(policy.window, now, failed);
                if failures > 0 || self.state().0 == State::Shedding {
                    self.reconsider(policy, now);
                }
            }
            Pass::Probe => self.probed(policy, now, failed),
        }
    }

    /// Nothing is known of how a probe went: another one may go.
    pub fn forget(&self, pass: Pass) {
        if pass == Pass::Probe {
            self.probe.store(0, Relaxed);
        }
    }

    fn probed(&self, policy: &BreakerPolicy, now: Millis, failed: bool) {
        let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().0 != State::HalfOpen {
            return;
        }
        self.probe.store(0, Relaxed);
        if failed {
            return self.enter(State::Open, now);
        }
        if self.probes_well.fetch_add(1, Relaxed) + 1 >= policy.probes {
            self.window.clear();
            self.enter(State::Passing, now);
        }
    }

    /// What the window says now. Better than it was only after a window.
    fn reconsider(&self, policy: &BreakerPolicy, now: Millis) -> State {
        let wanted = self.wanted(policy, now);
        let is_changed = |(state, since): (State, Millis)| match state {
            State::Passing => wanted != State::Passing,
            State::Shedding => match wanted {
                State::Open => true,
                State::Passing => now >= since + span(policy.window),
                _ => false,
            },
            // Probes decide.
            State::Open | State::HalfOpen => false,
        };
        if is_changed(self.state()) {
            let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            if is_changed(self.state()) {
                self.enter(wanted, now);
            }
        }
        self.state().0
    }

    fn wanted(&self, policy: &BreakerPolicy, now: Millis) -> State {
        let (requests, failures) = self.counts(policy, now);
        let above = |percent: u32| failures * 100 > requests * u64::from(percent);
        if requests < u64::from(policy.requests_min) {
            State::Passing
        } else if above(policy.reject_above) {
            State::Open
        } else if above(policy.shed_above) {
            State::Shedding
        } else {
            State::Passing
        }
    }

    fn enter(&self, state: State, now: Millis) {
        if state == State::Open {
            self.opened_total.fetch_add(1, Relaxed);
        }
        self.probes_well.store(0, Relaxed);
        self.probe.store(0, Relaxed);
        self.state.store(now << STATE_BITS | state as u64, Relaxed);
    }

    /// The state, and since when.
    pub fn state(&self) -> (State, Millis) {
        let word = self.state.load(Relaxed);
        let states = (1 << STATE_BITS) - 1;
        (State::ALL[(word & states) as usize], word >> STATE_BITS)
    }

    /// Lets all through again, as if nothing had been.
    pub fn reset(&self, now: Millis) {
        let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.window.clear();
        self.enter(State::Passing, now);
    }

    /// Requests and failures of the window that ends now.
    pub fn counts(&self, policy: &BreakerPolicy, now: Millis) -> (u64, u64) {
        self.window.counts(policy.window, now)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
