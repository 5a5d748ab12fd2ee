//! Owns which endpoint of a service a request goes to: round robin, least-request, random, or a consistent hash
//! with bounded load, all by weight. Reads the exact in-flight gauges and never writes them (`balance::in_flight`);
//! knows nothing of connections (`balance::pool`) or of how a hash key is read from a request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::balance::hash::xxh64;
use crate::balance::view::{LEVELS, View, WHOLE};
use crate::config::snapshot::{Endpoint, Service, StableId};
use crate::runtime::clock::Millis;

/// How a service spreads its requests. Every policy honours weights; weight 0 takes no requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    #[default]
    RoundRobin,
    LeastRequest,
    Random,
    ConsistentHash {
        key: HashKey,
    },
}

/// What a consistent hash is taken of; `sticky_hash` hashes its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// Value of this request header; the name in lower case.
    Header(Box<str>),
    Cookie(Box<str>),
    /// The address without port.
    ClientAddress,
    Path,
    Query(Box<str>),
}

/// The hash of a sticky key. The same on every machine and in every version.
pub fn sticky_hash(key: &[u8]) -> u64 {
    xxh64(key, 0)
}

/// A service's policy, compiled for one list of endpoints. Immutable and shared by all cores.
#[derive(Debug)]
pub struct Picker {
    policy: Balance,
    /// Endpoints by weight, in the order of smooth weighted round robin; each stands here once per unit of its
    /// weight. Round robin walks it, a random slot of it is a draw by weight.
    schedule: Box<[u32]>,
    /// For consistent hash only: points in ascending order.
    ring: Box<[Point]>,
    weight_sum: u64,
    serial: Serial,
}

/// No other picker has it: what a core has seen of one list of endpoints is not taken for another's.
struct Serial(u64);

impl fmt::Debug for Serial {
    /// The same config is shown as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What a core keeps per service.
#[derive(Debug, Clone)]
pub struct PickState {
    view: View,
    spin: Spin,
}

/// Its place in the round and its randomness.
#[derive(Debug, Clone)]
struct Spin {
    rng: Rng,
    position: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    endpoint: u32,
}

impl PickState {
    /// `seed` should differ between cores: it also sets where this core starts in a round, so that cores do not
    /// go round in step.
    pub fn new(seed: u64) -> PickState {
        let mut rng = Rng(seed);
        let position = rng.next() as usize;
        PickState { view: View::default(), spin: Spin { rng, position } }
    }

    /// A random number of its own.
    pub fn draw(&mut self) -> u64 {
        self.spin.rng.next()
    }
}

impl Service {
    /// Picks the index of an endpoint that may be used. `hash` is the request's sticky hash where `picker.hash_key()` asks for one
    /// and the request has it; `excluded` are the endpoints that this request has tried already.
    pub fn pick(
        &self,
        core: &mut PickState,
        hash: Option<u64>,
        excluded: &[StableId],
        now: Millis,
    ) -> Option<usize> {
        if !core.view.is_of(self.picker.serial(), self.state.health_version.load(Acquire), now) {
            core.view.look(self, now);
        }
        self.picker.pick(&self.endpoints, self.state.active.load(Relaxed), core, hash, excluded)
    }
}

impl Picker {
    pub fn new(policy: Balance, endpoints: &[Arc<Endpoint>]) -> Picker {
        let ring = match policy {
            Balance::ConsistentHash { .. } => ring(endpoints),
            _ => Box::default(),
        };
        let weight_sum = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = Serial(SERIAL.fetch_add(1, Relaxed));
        Picker { policy, schedule: schedule(endpoints), ring, weight_sum, serial }
    }

    pub fn serial(&self) -> u64 {
        self.serial.0
    }

    pub fn policy(&self) -> &Balance {
        &self.policy
    }

    /// What the caller has to hash for `pick`, if anything.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.policy {
            Balance::ConsistentHash { key } => Some(key),
            _ => None,
        }
    }

    /// `Service::pick` with its parts given: `endpoints` as they were for `new`, `active` the requests under way
    /// on the service. `None` if every endpoint is excluded, has weight 0, or is not to be used.
    pub fn pick(
        &self,
        endpoints: &[Arc<Endpoint>],
        active: u32,
        core: &mut PickState,
        hash: Option<u64>,
        excluded: &[StableId],
    ) -> Option<usize> {
        let PickState { view, spin } = core;
        let mut open = Open { endpoints, excluded, view, roll: 0, priority: None };
        if view.is_plain() {
            return self.pick_of(&open, active, spin, hash);
        }
        open.roll = spin.rng.below(usize::from(WHOLE)) as u8;
        open.priority = view.priority(spin.rng.below(LEVELS as usize) as u32);
        // Nobody is found by his share alone, then: all that may be used, and of any priority.
        self.pick_of(&open, active, spin, hash)
            .or_else(|| self.pick_of(&Open { roll: 0, ..open }, active, spin, hash))
            .or_else(|| self.pick_of(&Open { roll: 0, priority: None, ..open }, active, spin, hash))
    }

    fn pick_of(&self, open: &Open<'_>, active: u32, core: &mut Spin, hash: Option<u64>) -> Option<usize> {
        match (&self.policy, hash) {
            (Balance::RoundRobin, _) => self.next_in_round(open, core),
            (Balance::LeastRequest, _) => self.least_loaded(open, core),
            (Balance::ConsistentHash { .. }, Some(hash)) => self.on_ring(open, active, hash),
            // A request without the sticky key has nowhere to stick.
            (Balance::Random | Balance::ConsistentHash { .. }, _) => self.draw(open, &mut core.rng, None),
        }
    }

    fn next_in_round(&self, open: &Open, core: &mut Spin) -> Option<usize> {
        let len = self.schedule.len();
        // A new snapshot may have made the round shorter under a position kept from the old one.
        let start = if core.position < len { core.position } else { core.position.checked_rem(len)? };
        let (late, early) = (&self.schedule[start..], &self.schedule[..start]);
        for (step, &endpoint) in late.iter().chain(early).enumerate() {
            if open.may_take(endpoint as usize) {
                core.position = start + step + 1;
                if core.position >= len {
                    core.position -= len;
                }
                return Some(endpoint as usize);
            }
        }
        None
    }

    /// Few endpoints: all are read, which is the exact least. More: two drawn by weight are compared ("power of
    /// two choices"), so that a request reads two contended cache lines, and cores that decide at the same moment
    /// do not all rush to the same least-loaded endpoint.
    fn least_loaded(&self, open: &Open, core: &mut Spin) -> Option<usize> {
        let first = self.draw(open, &mut core.rng, None)?;
        if open.endpoints.len() <= SCAN_ENDPOINTS_MAX {
            let others = (0..open.endpoints.len()).filter(|&other| open.may_take(other));
            return Some(others.fold(first, |best, other| open.less_loaded(best, other)));
        }
        match self.draw(open, &mut core.rng, Some(first)) {
            Some(second) => Some(open.less_loaded(first, second)),
            None => Some(first),
        }
    }

    /// An endpoint other than `not`, at random by weight.
    fn draw(&self, open: &Open, rng: &mut Rng, not: Option<usize>) -> Option<usize> {
        let fits = |endpoint: &usize| Some(*endpoint) != not && open.may_take(*endpoint);
        if self.schedule.is_empty() {
            return None;
        }
        for _ in 0..DRAWS_MAX {
            let endpoint = self.schedule[rng.below(self.schedule.len())] as usize;
            if fits(&endpoint) {
                return Some(endpoint);
            }
        }
        // Nearly all weight is excluded: take what is left, from a random place on.
        let count = open.endpoints.len();
        let start = rng.below(count);
        (start..count).chain(0..start).find(fits)
    }

    /// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018): the first endpoint clockwise
    /// of the key that stays within `LOAD_PERCENT_MAX` of its fair share with this request added.
    fn on_ring(&self, open: &Open, active: u32, hash: u64) -> Option<usize> {
        let start = self.ring.partition_point(|point| point.hash < hash);
        let clockwise =
            || self.ring[start..].iter().chain(&self.ring[..start]).map(|point| point.endpoint as usize);
        let fits = |endpoint: &usize| open.may_take(*endpoint) && self.has_room(open, *endpoint, active);
        let home = clockwise().find(|&endpoint| open.may_take(endpoint))?;
        if self.has_room(open, home, active) {
            return Some(home);
        }
        // At least a fifth of all room is free, so a few steps do; the scan bounds the walk where exclusions or
        // decisions of other cores at this moment have taken it. No room anywhere: home, rather than an error.
        let near = clockwise().take(RING_STEPS_MAX).find(fits);
        let count = open.endpoints.len();
        near.or_else(|| (home..count).chain(0..home).find(fits)).or(Some(home))
    }

    /// in_flight + 1 ≤ ⌈1.25 × (active + 1) × weight / Σ weights⌉
    fn has_room(&self, open: &Open, endpoint: usize, active: u32) -> bool {
        let endpoint = &open.endpoints[endpoint];
        let fair = (u128::from(active) + 1) * u128::from(endpoint.weight) * LOAD_PERCENT_MAX;
        let weight_sum = if open.view.is_plain() { self.weight_sum } else { open.view.weight_sum };
        let room = fair.div_ceil(u128::from(weight_sum.max(1)) * 100);
        u128::from(endpoint.state.in_flight.load(Relaxed)) < room
    }
}

/// The endpoints, and which of them may take this request.
#[derive(Clone, Copy)]
struct Open<'p> {
    endpoints: &'p [Arc<Endpoint>],
    excluded: &'p [StableId],
    view: &'p View,
    /// Of a share, as much is passed over.
    roll: u8,
    priority: Option<u8>,
}

impl Open<'_> {
    fn may_take(&self, index: usize) -> bool {
        let endpoint = &self.endpoints[index];
        endpoint.weight > 0
            && !self.excluded.contains(&endpoint.id)
            && (self.view.is_plain() || self.has_share(index, endpoint))
    }

    fn has_share(&self, index: usize, endpoint: &Endpoint) -> bool {
        self.view.share_of(index) > self.roll
            && self.priority.is_none_or(|priority| endpoint.priority == priority)
    }

    /// The one with fewer requests in flight per unit of weight; `first` when equal, so that an idle service is
    /// used in proportion to the draw.
    fn less_loaded(&self, first: usize, second: usize) -> usize {
        let (a, b) = (&self.endpoints[first], &self.endpoints[second]);
        let load = |endpoint: &Endpoint| u64::from(endpoint.state.in_flight.load(Relaxed));
        let second_is_less = load(b) * u64::from(a.weight) < load(a) * u64::from(b.weight);
        if second_is_less { second } else { first }
    }
}

/// nginx's smooth weighted round robin, one whole cycle of it: 5,1,1 gives a a b a c a a.
fn schedule(endpoints: &[Arc<Endpoint>]) -> Box<[u32]> {
    let weights = schedule_weights(endpoints);
    let sum: i64 = weights.iter().sum();
    if weights.iter().all(|&weight| weight <= 1) {
        return (0..weights.len() as u32).filter(|&at| weights[at as usize] > 0).collect();
    }
    let mut current = vec![0i64; weights.len()];
    let next = |_| {
        let mut best = 0;
        for at in 0..weights.len() {
            current[at] += weights[at];
            if current[at] > current[best] {
                best = at;
            }
        }
        current[best] -= sum;
        best as u32
    };
    (0..sum).map(next).collect()
}

/// Weights in lowest terms, scaled down to about `SCHEDULE_SLOTS_MAX` in all (then proportions are approximate,
/// and no endpoint gets less than one slot).
fn schedule_weights(endpoints: &[Arc<Endpoint>]) -> Vec<i64> {
    let divisor = endpoints.iter().fold(0, |divisor, endpoint| gcd(divisor, endpoint.weight)).max(1);
    let weights = || endpoints.iter().map(|endpoint| i64::from(endpoint.weight / divisor));
    let sum: i64 = weights().sum();
    if sum <= SCHEDULE_SLOTS_MAX {
        return weights().collect();
    }
    weights().map(|weight| (weight * SCHEDULE_SLOTS_MAX / sum).max(weight.min(1))).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Points of every endpoint by weight, hashed from its address: neither the order of the config nor numbers that
/// a restart hands out anew may move a key.
fn ring(endpoints: &[Arc<Endpoint>]) -> Box<[Point]> {
    // Scaled by powers of two only: then an endpoint more or less rarely changes the points of the others.
    let points_of = |endpoint: &Endpoint, shift: u32| {
        let points = u64::from(endpoint.weight) * POINTS_PER_WEIGHT;
        (points >> shift).max(points.min(1))
    };
    let total = |shift| endpoints.iter().map(|endpoint| points_of(endpoint, shift)).sum::<u64>();
    let bound = RING_POINTS_MAX.max(endpoints.len() as u64);
    let shift = (0..u64::BITS).find(|&shift| total(shift) <= bound).unwrap_or(u64::BITS - 1);
    let mut ring = Vec::with_capacity(total(shift) as usize);
    for (at, endpoint) in endpoints.iter().enumerate() {
        let address = endpoint.address.to_string();
        let points = 0..points_of(endpoint, shift);
        ring.extend(points.map(|n| Point { hash: xxh64(address.as_bytes(), n), endpoint: at as u32 }));
    }
    ring.sort_unstable();
    ring.into_boxed_slice()
}

/// SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, good enough to spread load, not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0; by multiplication, whose bias is below bound / 2⁶⁴.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Up to here least-request reads every endpoint.
const SCAN_ENDPOINTS_MAX: usize = 4;
/// Random draws before what is left is searched in order.
const DRAWS_MAX: usize = 8;
/// Slots of one round: bounds its memory, and the time to build it (slots × endpoints).
const SCHEDULE_SLOTS_MAX: i64 = 16_384;
/// As in ketama: shares are even within about 1/√160 = 8 %.
const POINTS_PER_WEIGHT: u64 = 160;
/// Points of one ring (16 bytes each).
const RING_POINTS_MAX: u64 = 131_072;
/// Points passed for want of room before all endpoints are looked at in order.
const RING_STEPS_MAX: usize = 256;
/// Of the fair share. Mirrokni et al.: 125 % moves few keys and caps the hottest endpoint.
const LOAD_PERCENT_MAX: u128 = 125;

#[cfg(test)]
#[path = "pick_tests.rs"]
mod tests;
