//! Owns when an endpoint is ejected for what its requests say: after failures in a row, never the last one that is usable, and never
//! more than a part of them. One core at a time decides for a service, so that two never eject both of two.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use crate::config::snapshot::{Endpoint, Service, ServiceState};
use crate::runtime::clock::Millis;

use super::health::Standing;

impl Service {
    /// A request to this endpoint failed by its fault. Returns for how long it is ejected, if it is now.
    pub fn endpoint_failed(&self, endpoint: &Endpoint, now: Millis) -> Option<Duration> {
        let policy = self.health.outlier.as_ref()?;
        let health = &endpoint.state.health;
        if !health.failed(policy) {
            return None;
        }
        let _one_at_a_time = self.state.ejections.lock().unwrap_or_else(PoisonError::into_inner);
        if health.standing(now) != Standing::Usable {
            return None;
        }
        let standings = || {
            let others = self.endpoints.iter().filter(|other| other.weight > 0 && other.id != endpoint.id);
            others.map(|other| other.state.health.standing(now))
        };
        let ejected = standings().filter(|standing| *standing == Standing::Ejected).count() + 1;
        let most = ((standings().count() + 1) * policy.percent_max as usize / 100).max(1);
        let is_last = !standings().any(|standing| standing == Standing::Usable);
        if is_last || ejected > most {
            return None;
        }
        let ejection = health.eject(policy, now);
        self.state.health_changed();
        Some(ejection)
    }

    /// Whether a request that an endpoint does not answer may go to another one.
    pub fn has_usable(&self, now: Millis, mut fits: impl FnMut(&Endpoint) -> bool) -> bool {
        let mut endpoints = self.endpoints.iter().filter(|endpoint| endpoint.weight > 0 && fits(endpoint));
        endpoints.any(|endpoint| endpoint.state.health.standing(now) == Standing::Usable)
    }
}

impl ServiceState {
    /// Every core looks again.
    pub fn health_changed(&self) {
        self.health_version.fetch_add(1, Release);
    }
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
