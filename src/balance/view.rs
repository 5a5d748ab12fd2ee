//! Owns what a core knows of the endpoints of a service until something changes: which may be picked, how much of their share those have
//! that begin slowly, and which priority's turn it is. Reads the health that all cores share, and changes none of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use crate::config::snapshot::{Endpoint, Service};
use crate::runtime::clock::{Millis, span};

use super::health::Standing;

/// Made anew when the service's health has changed, or with time.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Of the list of endpoints (`Picker::serial`) and of their health, which this is of.
    of: (u64, u32),
    /// Changes with time alone from then on.
    until: Millis,
    /// In the order of the endpoints: 0 has no requests, `WHOLE` its share. Empty: all have theirs, whatever their priority.
    shares: Vec<u8>,
    /// Ascending; with the part of the requests, of `LEVELS`, that each and those before it have. Empty: there is but one.
    levels: Vec<(u8, u32)>,
    /// Of those that have requests, if not all do.
    pub weight_sum: u64,
}

pub const WHOLE: u8 = u8::MAX;
/// Of a request's part in the choice of a priority.
pub const LEVELS: u32 = 1 << 16;

/// A priority has more than its usable part, before the next one has the rest (as Envoy does it).
const OVERPROVISION_PERCENT: u64 = 140;
/// Who begins slowly has so much at first, in percent.
const SLOW_START_PERCENT_MIN: u64 = 10;
/// How often it gets more.
const SLOW_STEP: Millis = 100;

impl View {
    /// Whether this is still so.
    pub fn is_of(&self, serial: u64, version: u32, now: Millis) -> bool {
        self.of == (serial, version) && now < self.until
    }

    /// As it is now.
    pub fn look(&mut self, service: &Service, now: Millis) {
        self.of = (service.picker.serial(), service.state.health_version.load(Acquire));
        self.until = Millis::MAX;
        self.shares.clear();
        self.levels.clear();
        let endpoints = &service.endpoints;
        for endpoint in endpoints {
            let health = &endpoint.state.health;
            let standing = health.standing(now);
            self.until = self.until.min(health.changes_at(now).unwrap_or(Millis::MAX));
            let share = if standing == Standing::Usable {
                self.share(endpoint, service.health.slow_start, now)
            } else {
                0
            };
            self.shares.push(share);
        }
        let all = endpoints.iter().filter(|endpoint| may_be_used(endpoint)).count() as u64;
        let health = self.level(endpoints);
        let is_few = self.usable(endpoints) * 100 < all * u64::from(service.health.panic_percent);
        // Those of the priorities behind have not been given up either.
        if is_few && (self.levels.is_empty() || health < 100) {
            self.levels.clear();
            for (share, endpoint) in self.shares.iter_mut().zip(endpoints) {
                *share = if endpoint.state.health.is_drained() { 0 } else { WHOLE };
            }
        }
        let weights = self.shares.iter().zip(endpoints).filter(|(share, _)| **share > 0);
        self.weight_sum = weights.map(|(_, endpoint)| u64::from(endpoint.weight)).sum();
        if self.levels.is_empty() && self.shares.iter().all(|&share| share == WHOLE) {
            self.shares.clear();
        }
    }

    /// Of an endpoint, which is usable.
    fn share(&mut self, endpoint: &Endpoint, slow_start: Option<Duration>, now: Millis) -> u8 {
        let (began, Some(slow_start)) = (endpoint.state.health.began(), slow_start) else { return WHOLE };
        let (age, whole) = (now.saturating_sub(began), span(slow_start));
        if began == 0 || age >= whole {
            return WHOLE;
        }
        self.until = self.until.min(now + SLOW_STEP);
        let percent = (100 * age / whole.max(1)).max(SLOW_START_PERCENT_MIN);
        (u64::from(WHOLE) * percent / 100) as u8
    }

    fn usable(&self, endpoints: &[Arc<Endpoint>]) -> u64 {
        let usable = self
            .shares
            .iter()
            .zip(endpoints)
            .filter(|(share, endpoint)| **share > 0 && may_be_used(endpoint));
        usable.count() as u64
    }

    /// How requests are split over priorities: the first has all as long as enough of it is usable. Returns how much of what is
    /// wanted is there, in percent.
    fn level(&mut self, endpoints: &[Arc<Endpoint>]) -> u64 {
        let mut numbers: Vec<u8> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() < 2 {
            return 0;
        }
        let health = |number: u8| {
            let of =
                || endpoints.iter().zip(&self.shares).filter(|(endpoint, _)| endpoint.priority == number);
            let all = of().filter(|(endpoint, _)| may_be_used(endpoint)).count() as u64;
            let usable = of().filter(|(endpoint, share)| **share > 0 && may_be_used(endpoint)).count() as u64;
            (OVERPROVISION_PERCENT * usable).checked_div(all).unwrap_or(0).min(100)
        };
        let healths: Vec<u64> = numbers.iter().map(|&number| health(number)).collect();
        let sum: u64 = healths.iter().sum();
        if sum == 0 {
            return 0;
        }
        // Of what is there, if that is less than what is wanted.
        let whole = sum.min(100);
        let mut given = 0;
        for (number, health) in numbers.into_iter().zip(healths) {
            given = (given + health).min(whole);
            self.levels.push((number, (u64::from(LEVELS) * given / whole) as u32));
        }
        sum
    }

    /// The share of an endpoint.
    pub fn share_of(&self, endpoint: usize) -> u8 {
        self.shares.get(endpoint).copied().unwrap_or(WHOLE)
    }

    /// Whether anything is to be looked at but weights.
    pub fn is_plain(&self) -> bool {
        self.shares.is_empty()
    }

    /// Whose turn it is with this number below `LEVELS`.
    pub fn priority(&self, drawn: u32) -> Option<u8> {
        self.levels.iter().find(|(_, up_to)| drawn < *up_to).map(|(number, _)| *number)
    }
}

/// By its config and by its operator.
fn may_be_used(endpoint: &Endpoint) -> bool {
    endpoint.weight > 0 && !endpoint.state.health.is_drained()
}
