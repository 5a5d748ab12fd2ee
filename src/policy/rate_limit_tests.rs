//! A limit admits what a plain token bucket would, whatever cores and keys do at the same time.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::thread;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn of(buckets: &Buckets, parts: &[&[u8]]) -> Ticket {
    let mut key = buckets.key();
    parts.iter().for_each(|part| key.part(part));
    key.ticket()
}

fn key(buckets: &Buckets, name: u64) -> Ticket {
    of(buckets, &[&name.to_be_bytes()])
}

/// A small generator of numbers (Numerical Recipes §7.1).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What everybody understands: a bucket that fills up with time.
struct Plain {
    level: u64,
    seen: u64,
}

impl Plain {
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        let most = rate.interval * rate.burst;
        self.level = (self.level + (now - self.seen)).min(most);
        self.seen = now;
        let has = self.level >= rate.interval;
        self.level -= if has { rate.interval } else { 0 };
        has
    }
}

#[test]
fn it_is_a_token_bucket() {
    let mut random = Random(7);
    for (tokens, burst) in [(1, 1), (3, 10), (1000, 1), (1000, 2000), (1_000_000, 50)] {
        let rate = Rate::new(tokens, SECOND, burst);
        let buckets = Buckets::new(100);
        let mut plain: HashMap<u64, Plain> = HashMap::new();
        let mut now = SECOND;
        for _ in 0..50_000 {
            now += random.below(2 * SECOND / tokens) / 3 / UNIT_NANOS * UNIT_NANOS;
            let name = random.below(3);
            let full = Plain { level: rate.interval * burst, seen: now / UNIT_NANOS };
            let expected = plain.entry(name).or_insert(full).take(rate, now / UNIT_NANOS);
            let ticket = key(&buckets, name);
            assert_eq!(buckets.look(ticket, rate, now).is_ok(), expected);
            let taken = buckets.take(ticket, rate, now);
            assert_eq!(taken.is_ok(), expected, "{tokens} a second, burst {burst}");
            if let Err(refused) = taken {
                assert!(
                    buckets.look(ticket, rate, now + refused.wait_nanos).is_ok(),
                    "after so long there is one"
                );
                let earlier = now + refused.wait_nanos - UNIT_NANOS;
                assert!(buckets.look(ticket, rate, earlier).is_err(), "and not before");
            }
        }
    }
}

#[test]
fn what_is_given_back_is_there_again() {
    let (rate, buckets) = (Rate::new(1, SECOND, 3), Buckets::new(0));
    let ticket = of(&buckets, &[]);
    for _ in 0..10 {
        assert!(buckets.take(ticket, rate, SECOND).is_ok());
        buckets.give_back(ticket, rate, SECOND);
    }
    let taken = (0..10).filter(|_| buckets.take(ticket, rate, SECOND).is_ok()).count();
    assert_eq!(taken, 3);
}

#[test]
fn keys_are_apart_however_they_are_cut() {
    let buckets = Buckets::new(10);
    let hash = |parts: &[&[u8]]| of(&buckets, parts).hash;
    assert_ne!(hash(&[b"a", b"b"]), hash(&[b"ab", b""]));
    assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
    assert_ne!(hash(&[b""]), hash(&[b"", b""]));
    assert_eq!(hash(&[b"a", b"b"]), hash(&[b"a", b"b"]));
    assert_ne!(hash(&[b"a"]), of(&Buckets::new(10), &[b"a"]).hash, "nobody can guess it");
}

#[test]
fn a_full_table_has_one_bucket_for_all_others() {
    const KEYS: u64 = 1000;
    let (rate, buckets) = (Rate::new(1, SECOND, 2), Buckets::new(KEYS as usize));
    let mut admitted = 0;
    for name in 0..20 * KEYS {
        admitted += u64::from(buckets.take(key(&buckets, name), rate, SECOND).is_ok());
    }
    let places = (buckets.lines.len() * SLOTS) as u64;
    assert!(places <= 4 * KEYS && admitted <= places + 2, "{admitted} of {places}");
    assert!(buckets.overflowed_total.load(Relaxed) >= 20 * KEYS - places);
    // Those that have a place have both of their tokens.
    let second =
        (0..20 * KEYS).filter(|&name| buckets.take(key(&buckets, name), rate, SECOND).is_ok()).count();
    assert!(second as u64 >= KEYS, "{second}");
    // When they are full again, their places are free for others.
    let later = 10 * SECOND;
    let overflowed = buckets.overflowed_total.load(Relaxed);
    for name in 50 * KEYS..50 * KEYS + KEYS {
        assert!(buckets.take(key(&buckets, name), rate, later).is_ok());
    }
    assert_eq!(buckets.overflowed_total.load(Relaxed), overflowed, "no key went without a place");
}

/// Every key has exactly its burst while time stands still, whoever comes first.
#[test]
fn cores_share_a_bucket_and_never_make_two() {
    for round in 0..200 {
        const BURST: u64 = 7;
        let (rate, buckets) = (Rate::new(1, SECOND, BURST), Buckets::new(64));
        let now = SECOND * (round + 1);
        let admitted: Vec<Vec<u64>> = thread::scope(|scope| {
            let cores: Vec<_> = (0..4)
                .map(|core| {
                    let buckets = &buckets;
                    scope.spawn(move || {
                        let mut random = Random(round * 4 + core);
                        let mut admitted = vec![0; 16];
                        for _ in 0..400 {
                            let name = random.below(16);
                            admitted[name as usize] +=
                                u64::from(buckets.take(key(buckets, name), rate, now).is_ok());
                        }
                        admitted
                    })
                })
                .collect();
            cores.into_iter().map(|core| core.join().unwrap()).collect()
        });
        for name in 0..16 {
            let total: u64 = admitted.iter().map(|core| core[name]).sum();
            assert_eq!(total, BURST, "key {name}, round {round}");
        }
        assert_eq!(buckets.overflowed_total.load(Relaxed), 0);
    }
}

/// While places change hands all the time, no key gets more than its rate, and one that always asks gets all of it.
#[test]
fn no_key_exceeds_its_rate_while_places_change_hands() {
    const BURST: u64 = 5;
    let rate = Rate::new(1000, SECOND, BURST);
    let buckets = Buckets::new(1);
    let clock = AtomicU64::new(SECOND);
    const CORES: u64 = 4;
    const STEPS: u64 = 30_000;
    let admitted: Vec<HashMap<u64, u64>> = thread::scope(|scope| {
        let cores: Vec<_> = (0..CORES)
            .map(|core| {
                let (buckets, clock) = (&buckets, &clock);
                scope.spawn(move || {
                    let mut random = Random(core);
                    let mut admitted: HashMap<u64, u64> = HashMap::new();
                    for step in 0..STEPS {
                        let now = clock.fetch_add(SECOND / 100_000, Relaxed);
                        // One key always, and of many others each now and then.
                        let name = if step % 2 == 0 { 0 } else { 1 + random.below(200) };
                        if buckets.take(key(buckets, name), rate, now).is_ok() {
                            *admitted.entry(name).or_default() += 1;
                        }
                    }
                    admitted
                })
            })
            .collect();
        cores.into_iter().map(|core| core.join().unwrap()).collect()
    });
    let lasted = clock.load(Relaxed) - SECOND;
    let most = BURST + lasted * 1000 / SECOND;
    let of = |name: u64| admitted.iter().map(|core| core.get(&name).copied().unwrap_or(0)).sum::<u64>();
    for name in 0..=200 {
        assert!(of(name) <= most, "key {name}: {} of {most}", of(name));
    }
    assert!(of(0) * 100 >= most * 99, "{} of {most}", of(0));
}
