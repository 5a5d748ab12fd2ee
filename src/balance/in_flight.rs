//! Owns the exact gauges of work under way: a guard that counts one request on an endpoint and its service,
//! and a permit that counts one retry against its service's budget. Both give back on drop, on every path.
//! Does not choose endpoints (`balance::pick`) and does not decide what may be retried (`proxy::retry`).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::snapshot::{EndpointState, RetryPolicy, ServiceState};

/// One request under way on one endpoint. Not `Clone`: a count is given back exactly once, when this drops.
#[derive(Debug)]
#[must_use = "dropping the guard at once counts nothing"]
pub struct InFlight {
    endpoint: Arc<EndpointState>,
    service: Arc<ServiceState>,
}

impl InFlight {
    /// Counts the request on both; take it after picking and before the first byte goes out.
    pub fn take(endpoint: &Arc<EndpointState>, service: &Arc<ServiceState>) -> InFlight {
        // Relaxed everywhere in this file: each gauge is read by itself and publishes no other memory.
        endpoint.in_flight.fetch_add(1, Relaxed);
        service.active.fetch_add(1, Relaxed);
        InFlight { endpoint: Arc::clone(endpoint), service: Arc::clone(service) }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let on_endpoint = self.endpoint.in_flight.fetch_sub(1, Relaxed);
        let on_service = self.service.active.fetch_sub(1, Relaxed);
        debug_assert!(on_endpoint > 0 && on_service > 0, "in-flight gauge below zero");
    }
}

/// One retry under way, within the budget of its service.
#[derive(Debug)]
#[must_use = "dropping the permit at once gives the retry back"]
pub struct RetryPermit {
    service: Arc<ServiceState>,
}

impl RetryPermit {
    /// A permit, or `None` if the budget is spent: at most `budget_percent` of the active requests, and always
    /// `budget_min`, may be retries at one time. Counts the retry; `refuse` counts one that is not made.
    pub fn try_take(service: &Arc<ServiceState>, policy: &RetryPolicy) -> Option<RetryPermit> {
        // Compare-and-swap, not add-then-check: a refused retry must never be visible in the gauge, or two cores
        // could refuse each other the last permit.
        let taken = service.retries_active.fetch_update(Relaxed, Relaxed, |retries| {
            (retries < retries_max(service.active.load(Relaxed), policy)).then(|| retries + 1)
        });
        taken.ok()?;
        service.retries_total.fetch_add(1, Relaxed);
        Some(RetryPermit { service: Arc::clone(service) })
    }

    /// The budget has kept a request from another try.
    pub fn refuse(service: &ServiceState) {
        service.retries_refused_total.fetch_add(1, Relaxed);
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        let before = self.service.retries_active.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "retry gauge below zero");
    }
}

/// Retries that may be under way at once while `active` requests are.
fn retries_max(active: u32, policy: &RetryPolicy) -> u32 {
    let share = u64::from(active) * u64::from(policy.budget_percent) / 100;
    policy.budget_min.max(u32::try_from(share).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    fn policy(budget_percent: u32, budget_min: u32) -> RetryPolicy {
        RetryPolicy {
            attempts_max: 2,
            on_status: Vec::new(),
            on_unavailable: true,
            budget_percent,
            budget_min,
        }
    }

    /// 8 threads × 100,000 guards, dropped early, late, in any order, by a panic, or on another thread.
    #[test]
    fn gauges_return_to_zero_wherever_a_request_is_killed() {
        let service = Arc::new(ServiceState::default());
        let endpoints: Vec<Arc<EndpointState>> = (0..3).map(|_| Arc::default()).collect();
        thread::scope(|scope| {
            for seed in 1..=8u64 {
                let (service, endpoints) = (&service, &endpoints);
                scope.spawn(move || kill_at_random(seed, service, endpoints));
            }
        });
        assert_eq!(service.active.load(Relaxed), 0);
        assert!(endpoints.iter().all(|endpoint| endpoint.in_flight.load(Relaxed) == 0));
    }

    fn kill_at_random(mut seed: u64, service: &Arc<ServiceState>, endpoints: &[Arc<EndpointState>]) {
        let mut held = Vec::new();
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let endpoint = &endpoints[(seed >> 33) as usize % endpoints.len()];
            let guard = InFlight::take(endpoint, service);
            assert!((1..=8 * 17).contains(&endpoint.in_flight.load(Relaxed)));
            match (seed >> 60, seed >> 58 & 3) {
                // `resume_unwind` unwinds as a panic does, without the message.
                (0, _) => drop(catch_unwind(AssertUnwindSafe(|| {
                    let _guard = guard;
                    std::panic::resume_unwind(Box::new("killed"));
                }))),
                (1, 0) if seed >> 50 & 15 == 0 => drop(thread::spawn(move || drop(guard)).join()),
                (1..8, _) => drop(guard),
                _ => held.push(guard),
            }
            if held.len() > 15 {
                drop(held.swap_remove((seed >> 40) as usize % 16));
            }
        }
    }

    #[test]
    fn the_retry_budget_is_a_share_and_a_minimum() {
        let service = Arc::new(ServiceState::default());
        for (active, percent, min, expected) in
            [(0, 20, 3, 3), (10, 20, 3, 3), (100, 20, 3, 20), (104, 20, 3, 20), (10, 0, 0, 0), (7, 100, 1, 7)]
        {
            service.active.store(active, Relaxed);
            let policy = policy(percent, min);
            let held: Vec<RetryPermit> =
                std::iter::from_fn(|| RetryPermit::try_take(&service, &policy)).collect();
            assert_eq!(held.len(), expected, "{active} active");
            drop(held);
            assert_eq!(service.retries_active.load(Relaxed), 0);
        }
        assert_eq!(service.retries_total.load(Relaxed), 3 + 3 + 20 + 20 + 7);
        assert_eq!(retries_max(u32::MAX, &policy(u32::MAX, 0)), u32::MAX);
    }

    #[test]
    fn the_retry_budget_holds_between_threads() {
        let service = Arc::new(ServiceState::default());
        service.active.store(25, Relaxed);
        let policy = policy(20, 3);
        let under_way = AtomicU32::new(0);
        let work = || {
            for _ in 0..50_000 {
                let Some(permit) = RetryPermit::try_take(&service, &policy) else {
                    RetryPermit::refuse(&service);
                    continue;
                };
                // Ours is an under-count of the permits out: raised after a take, lowered before a drop.
                assert!(under_way.fetch_add(1, Relaxed) < 5);
                assert!((1..=5).contains(&service.retries_active.load(Relaxed)));
                under_way.fetch_sub(1, Relaxed);
                drop(permit);
            }
        };
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(service.retries_active.load(Relaxed), 0);
        let counted = service.retries_total.load(Relaxed) + service.retries_refused_total.load(Relaxed);
        assert_eq!(counted, 8 * 50_000);
    }
}
