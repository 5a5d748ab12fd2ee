//! Owns which endpoints a listener avoids: those that refused a datagram by ICMP a short while ago. Without it every
//! second new flow of a service with one dead endpoint of two would lose its first datagram. Sans-io: time is passed
//! in. Picks nothing.

use crate::config::snapshot::StableId;

#[derive(Debug, Default)]
pub struct Refusals {
    /// The earliest first. `avoided` reads the ids as they are.
    endpoints: Vec<StableId>,
    until_ms: Vec<u64>,
}

impl Refusals {
    pub fn add(&mut self, endpoint: StableId, now_ms: u64) {
        self.forget(now_ms);
        if !self.endpoints.contains(&endpoint) && self.endpoints.len() < REFUSALS_MAX {
            self.endpoints.push(endpoint);
            self.until_ms.push(now_ms + AVOIDED_MS);
        }
    }

    pub fn avoided(&mut self, now_ms: u64) -> &[StableId] {
        self.forget(now_ms);
        &self.endpoints
    }

    fn forget(&mut self, now_ms: u64) {
        let over = self.until_ms.iter().take_while(|&&until_ms| until_ms <= now_ms).count();
        if over > 0 {
            self.endpoints.drain(..over);
            self.until_ms.drain(..over);
        }
    }
}

/// As nginx's `fail_timeout`.
const AVOIDED_MS: u64 = 10_000;
/// Endpoints avoided at once; one more is tried in vain until another's time is over.
const REFUSALS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refused_is_avoided_for_a_while_from_the_first_time() {
        let mut refusals = Refusals::default();
        assert!(refusals.avoided(0).is_empty());
        refusals.add(StableId(1), 100);
        refusals.add(StableId(2), 200);
        refusals.add(StableId(1), 5_000);
        assert_eq!(refusals.avoided(10_099), [StableId(1), StableId(2)]);
        assert_eq!(refusals.avoided(10_100), [StableId(2)]);
        assert!(refusals.avoided(10_200).is_empty());
        refusals.add(StableId(1), 10_200);
        assert_eq!(refusals.avoided(10_201), [StableId(1)], "tried again, and refused again");
    }

    #[test]
    fn as_many_as_there_are_room_for() {
        let mut refusals = Refusals::default();
        (0..2 * REFUSALS_MAX as u32).for_each(|id| refusals.add(StableId(id), 0));
        assert_eq!(refusals.avoided(0).len(), REFUSALS_MAX);
    }
}
