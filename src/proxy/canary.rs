//! Owns which requests of a route go to its canary: those that ask for it by a header, and a share of all others, drawn by who asks.
//! The same one is always on the same side, and whoever is on the canary's stays there while the share grows.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::balance::hash::xxh64;
use crate::config::snapshot::ServiceId;
use crate::policy::rollback::{RollbackPolicy, Sides};

use super::input::Values;
use super::route::header_holds;
use super::rule::FieldMatch;
use super::template::{Source, TemplateValues};

#[derive(Debug)]
pub struct Canary {
    pub to: ServiceId,
    /// Any of these leads there, whatever the share.
    pub headers: Vec<FieldMatch>,
    /// Who asks. `None`: each request is drawn by itself.
    pub by: Option<Source>,
    /// Of the route's name: who is early here is not early everywhere.
    seed: u64,
    pub share: Arc<Share>,
    /// When it is given up. `None`: never by itself.
    pub rollback: Option<Arc<RollbackPolicy>>,
}

/// How many go there. Carried over reloads by the route's name.
#[derive(Debug, Default)]
pub struct Share {
    /// Millionths.
    now: AtomicU32,
    configured: AtomicU32,
    /// What became of the requests of both sides.
    pub sides: Sides,
    pub rollbacks_total: AtomicU64,
    /// Why it was given up, if it was since it was last set.
    why: Mutex<Option<String>>,
}

pub const WHOLE: u32 = 1_000_000;

impl Share {
    pub fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }

    pub fn configured(&self) -> u32 {
        self.configured.load(Relaxed)
    }

    /// Until the config says another one. Whatever was is no reason any more to give it up.
    pub fn set(&self, millionths: u32) {
        self.sides.clear();
        *self.why() = None;
        self.now.store(millionths.min(WHOLE), Relaxed);
    }

    /// Nobody goes there any more, but who asks for it. False if that was so before.
    pub fn give_up(&self, why: String) -> bool {
        if self.now.swap(0, Relaxed) == 0 {
            return false;
        }
        *self.why() = Some(why);
        self.rollbacks_total.fetch_add(1, Relaxed);
        true
    }

    pub fn given_up_for(&self) -> Option<String> {
        self.why().clone()
    }

    fn why(&self) -> MutexGuard<'_, Option<String>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the config says: what was set meanwhile stays if that is what it has always said.
    pub fn configure(&self, millionths: u32) {
        if self.configured.swap(millionths, Relaxed) != millionths {
            self.set(millionths);
        }
    }
}

impl Canary {
    pub fn new(
        route: &str,
        to: ServiceId,
        headers: Vec<FieldMatch>,
        by: Option<Source>,
        share: Arc<Share>,
        rollback: Option<Arc<RollbackPolicy>>,
    ) -> Canary {
        Canary { to, headers, by, seed: xxh64(route.as_bytes(), 0), share, rollback }
    }

    pub fn takes(&self, values: &Values<'_>) -> bool {
        if self.headers.iter().any(|field| header_holds(field, &values.view)) {
            return true;
        }
        let share = self.share.now();
        if share == 0 {
            return false;
        }
        match &self.by {
            None => self.is_within(share, values.request_id),
            Some(source) => {
                let mut id = Vec::new();
                // Of whom nothing is known is nobody whom the share is of.
                values.write(source, &mut id) && !id.is_empty() && self.is_within(share, &id)
            }
        }
    }

    /// Whether this one is among so many. Who is stays so while they become more.
    fn is_within(&self, share: u32, id: &[u8]) -> bool {
        let place = (u128::from(xxh64(id, self.seed)) * u128::from(WHOLE)) >> 64;
        place < u128::from(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(route: &str) -> Canary {
        Canary::new(route, ServiceId(0), Vec::new(), None, Arc::default(), None)
    }

    #[test]
    fn a_share_is_of_so_many_and_only_grows() {
        const IDS: usize = 1_000_000;
        let canary = canary("models");
        let shares = [1, 100, 1_000, 10_000, 50_000, 100_000, 333_333, 500_000, 999_000, WHOLE];
        let mut counts = [0usize; 10];
        for number in 0..IDS {
            let id = format!("user-{number}");
            let sides = shares.map(|share| canary.is_within(share, id.as_bytes()));
            assert!(sides.is_sorted(), "{id} goes back to the old side: {sides:?}");
            sides.iter().zip(&mut counts).for_each(|(side, count)| *count += usize::from(*side));
        }
        for (share, count) in shares.into_iter().zip(counts) {
            let points = (count as f64 / IDS as f64 - f64::from(share) / f64::from(WHOLE)).abs() * 100.0;
            assert!(points <= 0.1, "{share} millionths: {count} of {IDS}");
        }
        assert_eq!((counts[9], canary.is_within(0, b"user-1")), (IDS, false));
    }

    #[test]
    fn who_is_early_in_one_route_is_not_early_in_all() {
        let (one, two) = (canary("one"), canary("two"));
        let ids: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let both = ids
            .iter()
            .filter(|id| one.is_within(100_000, id.as_bytes()) && two.is_within(100_000, id.as_bytes()));
        let count = both.count();
        assert!((850..1150).contains(&count), "{count} of 100,000 in both tenths");
    }

    #[test]
    fn what_was_set_lasts_until_the_config_says_something_else() {
        let share = Share::default();
        share.configure(100_000);
        assert_eq!(share.now(), 100_000);
        share.set(0);
        share.configure(100_000);
        assert_eq!((share.now(), share.configured()), (0, 100_000), "a reload of the same");
        share.configure(200_000);
        assert_eq!(share.now(), 200_000);
        assert!(share.give_up("slow".into()) && !share.give_up("again".into()));
        assert_eq!((share.now(), share.given_up_for().as_deref()), (0, Some("slow")));
        share.configure(200_000);
        assert_eq!(share.now(), 0, "a reload of the same does not try again");
        share.set(2 * WHOLE);
        assert_eq!(share.given_up_for(), None);
        assert_eq!(share.now(), WHOLE);
    }
}
