//! Whatever threads do at the same time, and on whichever side of midnight they think they are: no day and no month has more requests than
//! its quota, none fewer than come, and who is refused in one of them is counted in none.

use std::path::Path;
use std::sync::Arc;

use loom::thread;
use tidegate_loom::model::check;
use tidegate_loom::policy::calendar::DAY_SECONDS;
use tidegate_loom::policy::quota::{Account, Ledger, Period, Quota};

/// In the middle of a month.
const DAY: u64 = 19_737;
const NOW: u64 = DAY * DAY_SECONDS;
const NEXT_DAY: u64 = NOW + DAY_SECONDS;

fn account(day: u64, month: u64) -> (Arc<Account>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::new(Path::new("quotas")));
    let quota = Quota { day: Some(day), month: Some(month) };
    (Arc::new(Account::new(quota, ledger.used("key"), ledger.clone())), ledger)
}

/// What the ledger says of the day, with its number, and of the month.
fn used(ledger: &Ledger, now: u64) -> ((u64, u64), u64) {
    let entries = ledger.entries(now);
    entries.first().map_or(((0, 0), 0), |entry| (entry.day, entry.month.1))
}

/// Which of these requests and of this thread's are admitted, each at its time.
fn race<const N: usize>(account: &Arc<Account>, own: u64, others: [u64; N]) -> (bool, [bool; N]) {
    let others = others.map(|now| {
        let account = account.clone();
        thread::spawn(move || account.take(now).is_ok())
    });
    let own = account.take(own).is_ok();
    (own, others.map(|other| other.join().unwrap()))
}

fn count<const N: usize>((own, others): (bool, [bool; N])) -> u64 {
    u64::from(own) + others.into_iter().map(u64::from).sum::<u64>()
}

#[test]
fn a_day_has_its_quota() {
    check(2, || {
        let (account, ledger) = account(2, 10);
        assert_eq!(count(race(&account, NOW, [NOW; 2])), 2);
        assert_eq!(used(&ledger, NOW), ((DAY, 2), 2));
        assert_eq!(ledger.refused(Period::Day).load(std::sync::atomic::Ordering::Relaxed), 1);
    });
}

#[test]
fn who_finds_the_month_full_is_counted_on_no_day() {
    check(3, || {
        let (account, ledger) = account(10, 1);
        assert_eq!(count(race(&account, NOW, [NOW])), 1);
        assert_eq!(used(&ledger, NOW), ((DAY, 1), 1));
        assert_eq!(ledger.refused(Period::Month).load(std::sync::atomic::Ordering::Relaxed), 1);
    });
}

/// Each period has room for one, so that each can refuse the other thread's.
#[test]
fn both_periods_are_counted_or_none() {
    check(2, || {
        let (account, ledger) = account(1, 1);
        assert_eq!(count(race(&account, NOW, [NOW; 2])), 1);
        assert_eq!(used(&ledger, NOW), ((DAY, 1), 1));
    });
}

/// One core has not seen midnight yet.
#[test]
fn midnight_comes_once() {
    check(2, || {
        let (account, ledger) = account(1, 10);
        let (late, [first, second]) = race(&account, NOW, [NEXT_DAY; 2]);
        let ((day, on_it), in_month) = used(&ledger, NEXT_DAY);
        assert_eq!((day, on_it), (DAY + 1, 1));
        // Who comes late may still have been counted on the day before, else he has the new day's only one.
        assert_eq!(in_month, count((late, [first, second])));
        assert!(in_month <= 2 && !(first && second) && (late || first || second));
    });
}

/// What is given back was counted on a day that is over, or on this one.
#[test]
fn what_is_given_back_after_midnight_is_no_new_days() {
    check(3, || {
        let (account, ledger) = account(10, 1);
        let (late, [new]) = race(&account, NOW, [NEXT_DAY]);
        assert!(late != new, "the month has one");
        let ((day, on_it), in_month) = used(&ledger, NEXT_DAY);
        assert_eq!((day, in_month), (DAY + 1, 1));
        // Who comes late is counted on either day.
        assert!(on_it == 1 || late && on_it == 0, "{on_it}");
    });
}
