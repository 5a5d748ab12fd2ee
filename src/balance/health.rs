//! Owns whether an endpoint may have requests: what they say themselves (an ejection after failures in a row), what checks say, and what
//! an operator says. Has no clock, and does not pick (`balance::view` makes of it what picking reads).

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use crate::runtime::clock::{Millis, span};

/// When an endpoint is ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// In a row.
    pub failures: u32,
    /// The first time; the second time in a row it is twice as long, and so on.
    pub ejection: Duration,
    /// Of a service's endpoints that may be ejected at once. One may always be, if another is left.
    pub percent_max: u32,
}

/// An ejection is at most so many times as long as the first.
const EJECTION_FACTOR_MAX: u32 = 10;

/// What is known of one endpoint, by all cores.
#[derive(Debug, Default)]
pub struct Health {
    /// Failed requests in a row.
    failures: AtomicU32,
    /// 0: not ejected, or long ago.
    ejected_until: AtomicU64,
    /// How often in a row, each soon after the other.
    ejections: AtomicU32,
    checked: AtomicU8,
    drained: AtomicBool,
    /// When it came, or came back. 0: when the process began.
    began: AtomicU64,
    pub ejections_total: AtomicU64,
    pub checks_total: AtomicU64,
    pub failed_checks_total: AtomicU64,
}

/// What checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Checked {
    /// Nothing yet, or there are none.
    Unknown,
    Up,
    Down,
}

/// Why an endpoint has no requests, or that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Usable,
    Ejected,
    Down,
    Drained,
}

impl Standing {
    /// A stable word for metrics and the admin endpoint.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Usable => "up",
            Standing::Ejected => "ejected",
            Standing::Down => "down",
            Standing::Drained => "drained",
        }
    }
}

impl Health {
    pub fn standing(&self, now: Millis) -> Standing {
        if self.drained.load(Relaxed) {
            Standing::Drained
        } else if self.checked() == Checked::Down {
            Standing::Down
        } else if now < self.ejected_until.load(Relaxed) {
            Standing::Ejected
        } else {
            Standing::Usable
        }
    }

    pub fn checked(&self) -> Checked {
        match self.checked.load(Relaxed) {
            1 => Checked::Up,
            2 => Checked::Down,
            _ => Checked::Unknown,
        }
    }

    /// When its standing changes by itself.
    pub fn changes_at(&self, now: Millis) -> Option<Millis> {
        Some(self.ejected_until.load(Relaxed)).filter(|&until| now < until)
    }

    /// Since when it has been in use without a break.
    pub fn began(&self) -> Millis {
        self.began.load(Relaxed).max(self.ejected_until.load(Relaxed))
    }

    /// A request went well: what was before does not count any more.
    pub fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// A request failed; says whether it is time to eject. Now and then again, if that was not possible before.
    pub fn failed(&self, policy: &OutlierPolicy) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        failures.is_multiple_of(policy.failures.max(1))
    }

    /// Ejects it; returns for how long. The first failure afterwards does it again. One at a time: `Service::endpoint_failed`.
    pub fn eject(&self, policy: &OutlierPolicy, now: Millis) -> Duration {
        let before = self.ejected_until.load(Relaxed);
        let so_far = self.ejections.load(Relaxed);
        let lasted = span(policy.ejection) * u64::from(so_far.max(1));
        // Who has been well for as long as it was out begins anew.
        let is_again = before != 0 && now.saturating_sub(before) <= lasted;
        let ejections = if is_again { (so_far + 1).min(EJECTION_FACTOR_MAX) } else { 1 };
        let ejection = policy.ejection * ejections;
        self.ejections.store(ejections, Relaxed);
        self.failures.store(policy.failures.max(1) - 1, Relaxed);
        self.ejected_until.store(now + span(ejection).max(1), Relaxed);
        self.ejections_total.fetch_add(1, Relaxed);
        ejection
    }

    /// A verdict of checks; says whether it is another one. Who comes up again begins anew.
    pub fn set_checked(&self, checked: Checked, now: Millis) -> bool {
        let before = self.checked();
        self.checked.store(checked as u8, Relaxed);
        if before == Checked::Down && checked != Checked::Down {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
            self.began.store(now, Relaxed);
        }
        before != checked
    }

    pub fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// An operator takes it out, or back in; says whether that is news.
    pub fn set_drained(&self, drained: bool, now: Millis) -> bool {
        let before = self.drained.swap(drained, Relaxed);
        if before && !drained {
            self.began.store(now, Relaxed);
        }
        before != drained
    }

    /// It is there since now, while others have been before.
    pub fn begin(&self, now: Millis) {
        self.began.store(now, Relaxed);
    }
}

/// When checks say something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// Good checks in a row until an endpoint is up again.
    pub healthy: u32,
    /// Bad ones in a row until it is down.
    pub unhealthy: u32,
}

/// The checks of one endpoint so far.
#[derive(Debug)]
pub struct Checks {
    thresholds: Thresholds,
    verdict: Checked,
    /// In a row, against the verdict.
    against: u32,
}

impl Checks {
    pub fn new(thresholds: Thresholds, verdict: Checked) -> Checks {
        Checks { thresholds, verdict, against: 0 }
    }

    /// The verdict with one more check. The first decides by itself: nothing was known before.
    pub fn add(&mut self, is_good: bool) -> Checked {
        let (now, needed) = match is_good {
            true => (Checked::Up, self.thresholds.healthy),
            false => (Checked::Down, self.thresholds.unhealthy),
        };
        if self.verdict == now {
            self.against = 0;
            return now;
        }
        self.against += 1;
        if self.against >= needed || self.verdict == Checked::Unknown {
            self.verdict = now;
            self.against = 0;
        }
        self.verdict
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
