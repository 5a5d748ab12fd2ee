//! Whatever threads do at the same time, and whatever they see of each other: no bucket admits more than its burst and its pace, none
//! loses a token, and none is made fuller by losing its slot.

use std::sync::Arc;

use loom::thread;
use tidegate_loom::model::check;
use tidegate_loom::policy::rate_limit::{Buckets, Rate, Ticket};

/// Between two tokens.
const INTERVAL: u64 = 8_000;
const NOW: u64 = 100 * INTERVAL;

fn rate(burst: u64) -> Rate {
    Rate::new(1, INTERVAL, burst)
}

/// In the smallest table: keys whose window begins on this line, so that each wants the other's slot.
fn keys_of_line<const N: usize>(buckets: &Buckets, line: u64) -> [Ticket; N] {
    const LINES: u64 = 16;
    let key = |name: u64| {
        let mut key = buckets.key();
        key.part(&name.to_be_bytes());
        key
    };
    let mut on_line = (0..).filter(|&name| key(name).finish() % LINES == line);
    std::array::from_fn(|_| key(on_line.next().unwrap()).ticket())
}

fn keys<const N: usize>(buckets: &Buckets) -> [Ticket; N] {
    keys_of_line(buckets, 0)
}

/// A key of the first line, which has no slot left for long, and one of the second: they want one slot, each behind another lock.
fn neighbours(buckets: &Buckets) -> [Ticket; 2] {
    const SLOTS: usize = 4;
    let [first @ .., old] = keys::<{ SLOTS + 1 }>(buckets);
    for key in first {
        assert_eq!(take(buckets, key, 3, &[NOW; 3]), 3);
    }
    let [new] = keys_of_line(buckets, 1);
    [old, new]
}

/// How many of these requests, each at its time, are admitted.
fn take(buckets: &Buckets, ticket: Ticket, burst: u64, times: &[u64]) -> usize {
    times.iter().filter(|&&now| buckets.take(ticket, rate(burst), now).is_ok()).count()
}

#[test]
fn a_bucket_for_all_admits_its_burst() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(0));
        let all = Ticket::default();
        let cores: Vec<_> = (0..2)
            .map(|_| {
                let buckets = buckets.clone();
                thread::spawn(move || take(&buckets, all, 3, &[NOW, NOW]))
            })
            .collect();
        let mut admitted = take(&buckets, all, 3, &[NOW]);
        admitted += cores.into_iter().map(|core| core.join().unwrap()).sum::<usize>();
        assert_eq!(admitted, 3);
        assert_eq!(buckets.refused_total.load(std::sync::atomic::Ordering::Relaxed), 2);
    });
}

/// Clocks of cores differ, and go on.
#[test]
fn a_bucket_keeps_its_pace() {
    check(3, || {
        let buckets = Arc::new(Buckets::new(0));
        let all = Ticket::default();
        let other = buckets.clone();
        let ahead = thread::spawn(move || take(&other, all, 2, &[NOW + INTERVAL, NOW + INTERVAL * 2]));
        let mut admitted = take(&buckets, all, 2, &[NOW, NOW + INTERVAL / 2, NOW + INTERVAL]);
        admitted += ahead.join().unwrap();
        // Whoever comes late finds what those ahead of him have left.
        assert!((2..=4).contains(&admitted), "{admitted}");
        admitted += take(&buckets, all, 2, &[NOW + INTERVAL * 2; 3]);
        assert!((3..=4).contains(&admitted), "{admitted}");
    });
}

#[test]
fn a_new_key_has_one_bucket() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [key] = keys(&buckets);
        let cores: Vec<_> = (0..2)
            .map(|_| {
                let buckets = buckets.clone();
                thread::spawn(move || take(&buckets, key, 1, &[NOW]))
            })
            .collect();
        let admitted: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
        assert_eq!(admitted + take(&buckets, key, 1, &[NOW]), 1);
    });
}

/// One key's bucket has filled up, so that the other may have its slot: both want it.
#[test]
fn keys_that_want_one_slot_have_a_bucket_each() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [old, new] = keys(&buckets);
        assert_eq!(take(&buckets, old, 1, &[NOW - INTERVAL]), 1);
        let other = buckets.clone();
        let newcomer = thread::spawn(move || take(&other, new, 1, &[NOW, NOW]));
        assert_eq!(take(&buckets, old, 1, &[NOW, NOW]), 1);
        assert_eq!(newcomer.join().unwrap(), 1);
        assert!(buckets.look(old, rate(1), NOW).is_err() && buckets.look(new, rate(1), NOW).is_err());
    });
}

/// A key that has lost its slot asks again by a clock by which its bucket is not full yet.
#[test]
fn a_lost_slot_makes_no_bucket_fuller() {
    check(3, || {
        let buckets = Arc::new(Buckets::new(1));
        let [old, new] = keys(&buckets);
        assert_eq!(take(&buckets, old, 1, &[NOW]), 1);
        let other = buckets.clone();
        let newcomer = thread::spawn(move || take(&other, new, 1, &[NOW + INTERVAL]));
        assert_eq!(take(&buckets, old, 1, &[NOW + INTERVAL / 2]), 0);
        assert_eq!(newcomer.join().unwrap(), 1);
        let [early, full] = [NOW + INTERVAL / 2, NOW + INTERVAL].map(|now| take(&buckets, old, 1, &[now]));
        assert_eq!([early, full], [0, 1]);
    });
}

/// The same, where nothing but the order of what the newcomer writes says that the bucket is not full.
#[test]
fn a_slot_lost_to_a_neighbour_makes_no_bucket_fuller() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [old, new] = neighbours(&buckets);
        assert_eq!(take(&buckets, old, 1, &[NOW]), 1);
        let other = buckets.clone();
        let newcomer = thread::spawn(move || take(&other, new, 1, &[NOW + INTERVAL]));
        assert_eq!(take(&buckets, old, 1, &[NOW + INTERVAL / 2]), 0);
        assert_eq!(newcomer.join().unwrap(), 1);
        let [early, full] = [NOW + INTERVAL / 2, NOW + INTERVAL].map(|now| take(&buckets, old, 1, &[now]));
        assert_eq!([early, full], [0, 1]);
    });
}

/// Slots are lost to two neighbours at once, by clocks that differ: the later one counts.
#[test]
fn a_clock_behind_makes_no_bucket_fuller() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [old, new] = neighbours(&buckets);
        let [.., another] = keys::<6>(&buckets);
        assert_eq!(take(&buckets, old, 1, &[NOW]), 1);
        let other = buckets.clone();
        let newcomer = thread::spawn(move || take(&other, new, 1, &[NOW + INTERVAL]));
        assert!(take(&buckets, another, 1, &[NOW]) <= 1);
        assert_eq!(newcomer.join().unwrap(), 1);
        let [early, full] = [NOW + INTERVAL / 2, NOW + INTERVAL].map(|now| take(&buckets, old, 1, &[now]));
        assert_eq!([early, full], [0, 1]);
    });
}

#[test]
fn neighbours_that_want_one_slot_have_a_bucket_each() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [one, another] = neighbours(&buckets);
        let other = buckets.clone();
        let neighbour = thread::spawn(move || take(&other, another, 1, &[NOW]));
        assert_eq!(take(&buckets, one, 1, &[NOW]), 1);
        assert_eq!(neighbour.join().unwrap(), 1);
        assert_eq!(take(&buckets, one, 1, &[NOW]) + take(&buckets, another, 1, &[NOW]), 0);
    });
}

/// Two cores bring a new key, and the clock of one says that a slot before the one that the other chose is free.
#[test]
fn a_key_has_one_slot() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [first, new] = keys(&buckets);
        assert_eq!(take(&buckets, first, 1, &[NOW]), 1);
        let other = buckets.clone();
        let ahead = thread::spawn(move || take(&other, new, 2, &[NOW + INTERVAL; 3]));
        let admitted = take(&buckets, new, 2, &[NOW, NOW]) + ahead.join().unwrap();
        assert!((2..=3).contains(&admitted), "{admitted}");
    });
}

/// The bucket that a look finds is the key's, not that of whoever has its slot since.
#[test]
fn a_look_sees_no_other_key() {
    check(3, || {
        let buckets = Arc::new(Buckets::new(1));
        let [old, new] = keys(&buckets);
        assert_eq!(take(&buckets, old, 1, &[NOW - INTERVAL]), 1);
        let other = buckets.clone();
        let newcomer = thread::spawn(move || take(&other, new, 1, &[NOW]));
        assert!(buckets.look(old, rate(1), NOW).is_ok());
        assert_eq!(newcomer.join().unwrap(), 1);
        assert!(buckets.look(old, rate(1), NOW).is_ok());
    });
}

/// What `proxy::limits` does with the limits of a route: looks at all, debits all, and gives back where another core was faster.
fn admit(limits: &[(Buckets, Ticket, Rate)], now: u64) -> bool {
    if limits.iter().any(|(buckets, ticket, rate)| buckets.look(*ticket, *rate, now).is_err()) {
        return false;
    }
    let taken = limits.iter().take_while(|(buckets, ticket, rate)| buckets.take(*ticket, *rate, now).is_ok());
    let count = taken.count();
    if count < limits.len() {
        limits[..count].iter().for_each(|(buckets, ticket, rate)| buckets.give_back(*ticket, *rate, now));
    }
    count == limits.len()
}

#[test]
fn who_is_refused_is_debited_nowhere() {
    check(3, || {
        let limits = Arc::new([3, 1].map(|burst| (Buckets::new(0), Ticket::default(), rate(burst))));
        let others = limits.clone();
        let other = thread::spawn(move || admit(&others[..], NOW));
        let own = admit(&limits[..], NOW);
        assert!(own != other.join().unwrap(), "one of both");
        let [(wide, all, _), (narrow, ..)] = &*limits;
        assert_eq!([take(wide, *all, 3, &[NOW; 4]), take(narrow, *all, 1, &[NOW; 2])], [2, 0]);
    });
}

/// A token comes back to a key whose slot is another's by a clock that is ahead.
#[test]
fn a_token_given_back_is_one_token() {
    check(2, || {
        let buckets = Arc::new(Buckets::new(1));
        let [old, new] = keys(&buckets);
        assert_eq!(take(&buckets, old, 1, &[NOW]), 1);
        let other = buckets.clone();
        let ahead = thread::spawn(move || take(&other, new, 1, &[NOW + INTERVAL, NOW + INTERVAL]));
        buckets.give_back(old, rate(1), NOW);
        let mut admitted = take(&buckets, old, 1, &[NOW, NOW]);
        assert!(admitted <= 1);
        assert_eq!(ahead.join().unwrap(), 1);
        admitted += take(&buckets, old, 1, &[NOW + INTERVAL, NOW + INTERVAL]);
        assert!((1..=2).contains(&admitted), "{admitted}");
    });
}
