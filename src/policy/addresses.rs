//! Owns what one address may have of a listener: connections at once, and new ones in a time. Exact over all cores. Has no clock, and
//! closes nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate_limit::{Buckets, Rate};

/// `per_address` of a listener.
#[derive(Debug, Clone)]
pub struct PerAddress {
    pub connections_max: Option<u32>,
    pub rate: Option<Rate>,
    /// Carried over reloads by the listener's name.
    pub state: Arc<Addresses>,
}

/// Who has how many. One entry for each address that has any, so that there are no more than connections.
pub struct Addresses {
    open: [Mutex<HashMap<Address, u32>>; SHARDS],
    buckets: Buckets,
}

const SHARDS: usize = 64;
/// Addresses whose paces are told apart.
const PACES_MAX: usize = 65_536;

/// One of IPv4, or the network of an IPv6 host, who has 2^64 of them (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Address {
    fn of(address: IpAddr) -> Address {
        match address.to_canonical() {
            IpAddr::V4(address) => Address::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Address::V6(network)
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Address::V4(bytes) => bytes,
            Address::V6(bytes) => bytes,
        }
    }
}

/// A connection of an address, until it drops.
pub struct Place {
    state: Arc<Addresses>,
    address: Address,
}

impl PerAddress {
    /// `None`: it has what it may have. `now_nanos`: of any clock that does not go back.
    pub fn enter(&self, address: IpAddr, now_nanos: u64) -> Option<Place> {
        let address = Address::of(address);
        let place = self.state.enter(address, self.connections_max.unwrap_or(u32::MAX))?;
        if let Some(rate) = self.rate {
            let buckets = &self.state.buckets;
            let mut key = buckets.key();
            key.part(address.bytes());
            buckets.take(key.ticket(), rate, now_nanos).ok()?;
        }
        Some(place)
    }
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses { open: std::array::from_fn(|_| Mutex::default()), buckets: Buckets::new(PACES_MAX) }
    }
}

impl Addresses {
    fn enter(self: &Arc<Self>, address: Address, most: u32) -> Option<Place> {
        let mut open = self.shard(address);
        let count = open.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { state: self.clone(), address })
    }

    fn shard(&self, address: Address) -> MutexGuard<'_, HashMap<Address, u32>> {
        let mixed =
            address.bytes().iter().fold(0u32, |hash, &byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte));
        // Nothing panics while it is held.
        self.open[mixed as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.open.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.state.shard(self.address);
        if let Entry::Occupied(mut count) = open.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Addresses")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    fn per_address(connections: Option<u32>, rate: Option<Rate>) -> PerAddress {
        PerAddress { connections_max: connections, rate, state: Arc::default() }
    }

    #[test]
    fn an_address_has_so_many_and_another_as_many() {
        let limit = per_address(Some(2), None);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (one, same, other) in [
            ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ] {
            let first = limit.enter(ip(one), 0).unwrap();
            let second = limit.enter(ip(same), 0).unwrap();
            assert!(limit.enter(ip(one), 0).is_none() && limit.enter(ip(same), 0).is_none());
            assert!(limit.enter(ip(other), 0).is_some());
            drop(first);
            let third = limit.enter(ip(one), 0).unwrap();
            assert!(limit.enter(ip(one), 0).is_none());
            drop((second, third));
        }
        assert_eq!(limit.state.known(), 0, "who has none is forgotten");
    }

    #[test]
    fn new_ones_come_at_a_pace() {
        const SECOND: u64 = 1_000_000_000;
        let limit = per_address(None, Some(Rate::new(10, SECOND, 3)));
        let ip = "10.0.0.1".parse().unwrap();
        let mut now = SECOND;
        let mut admitted = |nanos: u64| {
            now += nanos;
            (0..10).filter(|_| limit.enter(ip, now).is_some()).count()
        };
        assert_eq!(
            [admitted(0), admitted(SECOND / 10), admitted(SECOND / 5), admitted(SECOND)],
            [3, 1, 2, 3]
        );
        assert_eq!(limit.state.known(), 0, "who is refused has no place");
    }

    /// However many cores accept at once.
    #[test]
    fn never_are_there_more() {
        let limit = per_address(Some(5), None);
        let (most, now) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(place) = limit.enter("10.0.0.1".parse().unwrap(), 0) else { continue };
                        most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                        now.fetch_sub(1, Relaxed);
                        drop(place);
                    }
                });
            }
        });
        assert!(most.load(Relaxed) <= 5);
        assert_eq!(limit.state.known(), 0);
    }
}
