//! Owns when a canary is given up: its requests fail more often than those beside it, or the slowest of them take longer, by a factor.
//! Shared by all cores; has no clock, and sets no share.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use super::window::Window;
use crate::runtime::clock::{Millis, span};

#[derive(Debug, Clone, PartialEq)]
pub struct RollbackPolicy {
    /// Whose requests count.
    pub window: Duration,
    /// On each side; fewer say nothing.
    pub requests_min: u32,
    /// How many times the other side's part of failures, which counts as 1 % at least. `None`: it does not matter.
    pub errors: Option<f64>,
    /// How many times the other side's 99th percentile of the time to the answer's head.
    pub latency: Option<f64>,
}

/// A part of failures that nobody minds.
const ERRORS_MIN: f64 = 0.01;
/// A difference that nobody minds.
const LATENCY_MIN: Duration = Duration::from_millis(10);
/// Between two looks.
const LOOK_EVERY: Millis = 250;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Stable,
    Canary,
}

/// Why it is given up.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Parts of all requests.
    Errors {
        canary: f64,
        stable: f64,
    },
    Latency {
        canary: Duration,
        stable: Duration,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Errors { canary, stable } => {
                write!(
                    f,
                    "{:.1} % of its requests fail, {:.1} % of the others",
                    100.0 * canary,
                    100.0 * stable
                )
            }
            Reason::Latency { canary, stable } => {
                let [canary, stable] = [canary, stable].map(Duration::as_millis);
                write!(f, "its 99th percentile is {canary} ms, that of the others {stable} ms")
            }
        }
    }
}

/// Both sides of a route.
#[derive(Debug, Default)]
pub struct Sides {
    stable: Counts,
    canary: Counts,
    looked_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    window: Window,
    latencies: Latencies,
}

impl Sides {
    /// Counts a request that is over, or whose answer has begun; says whether the canary is to be given up.
    pub fn record(
        &self,
        policy: &RollbackPolicy,
        now: Millis,
        side: Side,
        failed: bool,
        latency: Duration,
    ) -> Option<Reason> {
        let counts = if side == Side::Canary { &self.canary } else { &self.stable };
        counts.window.count(policy.window, now, failed);
        if !failed {
            counts.latencies.add(policy.window, now, latency);
        }
        let looked_at = self.looked_at.load(Relaxed);
        let is_due = side == Side::Canary && now >= looked_at + LOOK_EVERY;
        if !is_due || self.looked_at.compare_exchange(looked_at, now, Relaxed, Relaxed).is_err() {
            return None;
        }
        self.judge(policy, now)
    }

    fn judge(&self, policy: &RollbackPolicy, now: Millis) -> Option<Reason> {
        let [stable, canary] =
            [&self.stable, &self.canary].map(|side| side.window.counts(policy.window, now));
        if stable.0.min(canary.0) < u64::from(policy.requests_min) {
            return None;
        }
        let part = |(requests, failures): (u64, u64)| failures as f64 / requests as f64;
        let [stable, canary] = [stable, canary].map(part);
        if policy.errors.is_some_and(|factor| canary > factor * stable.max(ERRORS_MIN)) {
            return Some(Reason::Errors { canary, stable });
        }
        let [stable, canary] =
            [&self.stable, &self.canary].map(|side| side.latencies.p99(policy.window, now));
        let (stable, canary, factor) = (stable?, canary?, policy.latency?);
        let is_slow = canary.as_secs_f64() > factor * stable.as_secs_f64() && canary >= stable + LATENCY_MIN;
        is_slow.then_some(Reason::Latency { canary, stable })
    }

    /// Begins anew: what was is no reason any more.
    pub fn clear(&self) {
        for side in [&self.stable, &self.canary] {
            side.window.clear();
            side.latencies.halves.iter().for_each(Half::clear);
        }
    }
}

/// Four buckets for each doubling, from 0.1 ms to 100 s: right to a fifth.
const BUCKETS: usize = 80;
const FIRST_SECONDS: f64 = 0.0001;
const PER_DOUBLING: f64 = 4.0;

/// Of the last half of a window to a whole one.
#[derive(Debug, Default)]
struct Latencies {
    halves: [Half; 2],
}

#[derive(Debug)]
struct Half {
    number: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Half {
    fn default() -> Half {
        Half { number: AtomicU64::new(0), counts: [const { AtomicU32::new(0) }; BUCKETS] }
    }
}

impl Half {
    fn clear(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
    }
}

impl Latencies {
    fn add(&self, window: Duration, now: Millis, latency: Duration) {
        let number = half_number(window, now);
        let half = &self.halves[(number % 2) as usize];
        if half.number.swap(number, Relaxed) != number {
            // What others count meanwhile may be lost: a few of many.
            half.clear();
        }
        half.counts[bucket(latency)].fetch_add(1, Relaxed);
    }

    /// `None`: there are none.
    fn p99(&self, window: Duration, now: Millis) -> Option<Duration> {
        let number = half_number(window, now);
        let is_recent = |half: &&Half| half.number.load(Relaxed) + 1 >= number;
        let mut sums = [0u64; BUCKETS];
        for half in self.halves.iter().filter(is_recent) {
            sums.iter_mut().zip(&half.counts).for_each(|(sum, count)| *sum += u64::from(count.load(Relaxed)));
        }
        let all: u64 = sums.iter().sum();
        let mut left = all - all * 99 / 100;
        for (at, count) in sums.iter().enumerate().rev().filter(|(_, count)| **count > 0) {
            if *count >= left {
                return Some(Duration::from_secs_f64(
                    FIRST_SECONDS * ((at + 1) as f64 / PER_DOUBLING).exp2(),
                ));
            }
            left -= count;
        }
        None
    }
}

fn half_number(window: Duration, now: Millis) -> u64 {
    // From 2, so that none is of before.
    2 + now / (span(window) / 2).max(1)
}

fn bucket(latency: Duration) -> usize {
    let doublings = (latency.as_secs_f64() / FIRST_SECONDS).max(1.0).log2();
    ((PER_DOUBLING * doublings) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RollbackPolicy {
        RollbackPolicy {
            window: Duration::from_secs(60),
            requests_min: 50,
            errors: Some(2.0),
            latency: Some(2.0),
        }
    }

    /// So many requests on both sides, of which so many of a hundred fail; each takes so many milliseconds.
    fn judged(policy: &RollbackPolicy, requests: u64, failing: [u64; 2], taking: [u64; 2]) -> Option<Reason> {
        let sides = Sides::default();
        for number in 0..requests {
            for (side, (part, ms)) in
                [Side::Stable, Side::Canary].into_iter().zip(failing.into_iter().zip(taking))
            {
                let failed = number * part / 100 < (number + 1) * part / 100;
                // At one moment: nobody looks yet.
                assert_eq!(sides.record(policy, 0, side, failed, Duration::from_millis(ms)), None);
            }
        }
        sides.record(policy, 1_000, Side::Canary, false, Duration::from_millis(taking[1]))
    }

    #[test]
    fn one_that_fails_more_is_given_up() {
        let judge = |failing| judged(&policy(), 1_000, failing, [5, 5]);
        assert!(matches!(judge([0, 3]), Some(Reason::Errors { .. })));
        assert_eq!(judge([0, 1]), None, "one in a hundred is nothing");
        assert_eq!(judge([10, 19]), None);
        assert!(matches!(judge([10, 25]), Some(Reason::Errors { .. })));
        assert_eq!(judge([100, 100]), None, "no worse than the others");
        let reason = judge([1, 50]).unwrap().to_string();
        assert_eq!(reason, "50.0 % of its requests fail, 1.0 % of the others");
    }

    #[test]
    fn one_that_is_slow_is_given_up() {
        let judge = |taking| judged(&policy(), 1_000, [0, 0], taking);
        assert!(matches!(judge([20, 80]), Some(Reason::Latency { .. })));
        assert_eq!(judge([20, 30]), None);
        assert_eq!(judge([1, 8]), None, "a few milliseconds are nothing");
        let Some(Reason::Latency { canary, stable }) = judge([100, 1_000]) else { panic!() };
        assert!(canary.as_secs_f64() / 1.0 < 1.25 && canary.as_secs_f64() >= 1.0, "{canary:?}");
        assert!(stable.as_secs_f64() / 0.1 < 1.25 && stable.as_secs_f64() >= 0.1, "{stable:?}");
    }

    #[test]
    fn few_say_nothing_and_what_is_off_is_off() {
        assert_eq!(judged(&policy(), 49, [0, 100], [5, 5]), None);
        let off = RollbackPolicy { errors: None, latency: None, ..policy() };
        assert_eq!(judged(&off, 1_000, [0, 100], [5, 5_000]), None);
    }

    #[test]
    fn what_is_old_or_cleared_is_forgotten() {
        let sides = Sides::default();
        let record =
            |now, side, failed, ms| sides.record(&policy(), now, side, failed, Duration::from_millis(ms));
        for _ in 0..100 {
            record(0, Side::Stable, false, 5);
            record(0, Side::Canary, true, 5);
        }
        assert_eq!(record(70_000, Side::Canary, true, 5), None, "a minute later");
        for _ in 0..100 {
            record(70_000, Side::Stable, false, 5);
            record(70_000, Side::Canary, true, 5);
        }
        sides.clear();
        assert_eq!(record(71_000, Side::Canary, true, 5), None);
        assert_eq!(sides.canary.latencies.p99(Duration::from_secs(60), 71_000), None);
    }

    #[test]
    fn the_slowest_of_a_hundred_is_found() {
        let latencies = Latencies::default();
        let window = Duration::from_secs(60);
        for ms in 1..=1_000 {
            latencies.add(window, 1_000, Duration::from_millis(ms));
        }
        let found = latencies.p99(window, 2_000).unwrap().as_secs_f64();
        assert!((0.99..0.99 * 1.2).contains(&found), "{found}");
        assert_eq!(latencies.p99(window, 120_000), None);
    }
}
