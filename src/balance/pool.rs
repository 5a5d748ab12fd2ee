//! Owns the idle upstream connections of one worker. Bounded in all and per endpoint; last in, first out, so
//! that surplus ages and is closed. A connection waits with its readiness armed: one that the upstream closed
//! is noticed without a system call. Opens none.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::time::Instant;

use crate::config::id_hash::IdHash;
use crate::config::snapshot::{PoolLimits, StableId};
use crate::http::h1_conn::Reader;
use crate::runtime::limits::is_scarce;

#[derive(Default)]
pub struct UpstreamPool {
    by_endpoint: RefCell<HashMap<StableId, VecDeque<Idle>, IdHash>>,
    idle: Cell<usize>,
}

struct Idle {
    reader: Reader,
    since: Instant,
}

impl UpstreamPool {
    /// The connection that waited shortest and is still good.
    pub fn take(&self, endpoint: StableId) -> Option<Reader> {
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        let waiting = by_endpoint.get_mut(&endpoint)?;
        while let Some(idle) = waiting.pop_back() {
            self.idle.set(self.idle.get() - 1);
            if idle.reader.is_fit_to_idle() {
                return Some(idle.reader);
            }
        }
        None
    }

    /// Keeps a connection whose last response is complete, if it is fit and there is room in all. Of one endpoint
    /// more than its share may wait until the next `sweep`: with more requests under way than that, each of them
    /// would otherwise close a connection that the next one opens again.
    pub fn put(&self, endpoint: StableId, mut reader: Reader, limits: &PoolLimits, now: Instant) {
        let has_room = self.idle.get() < limits.idle_max && limits.idle_per_endpoint_max > 0;
        if !has_room || is_scarce(&reader.stream.as_fd()) || !reader.begin_idle() {
            return;
        }
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        by_endpoint.entry(endpoint).or_default().push_back(Idle { reader, since: now });
        self.idle.set(self.idle.get() + 1);
    }

    /// Idle connections now.
    pub fn len(&self) -> usize {
        self.idle.get()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes what waited longest beyond an endpoint's share, what waited too long, what the upstream closed, and
    /// all of endpoints that are not `wanted` any more. Called about once a second and after a reload.
    pub fn sweep(&self, now: Instant, limits: &PoolLimits, wanted: impl Fn(StableId) -> bool) {
        let mut kept = 0;
        self.by_endpoint.borrow_mut().retain(|&endpoint, waiting| {
            if wanted(endpoint) {
                let is_fresh = |idle: &Idle| now.saturating_duration_since(idle.since) < limits.idle_timeout;
                waiting.retain(|idle| is_fresh(idle) && idle.reader.is_fit_to_idle());
                waiting.drain(..waiting.len().saturating_sub(limits.idle_per_endpoint_max));
            } else {
                waiting.clear();
            }
            kept += waiting.len();
            !waiting.is_empty()
        });
        self.idle.set(kept);
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
