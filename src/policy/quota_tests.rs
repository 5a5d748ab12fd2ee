//! A quota is what a calendar and a tally would say, whatever the clock does and however many cores ask.

use std::path::Path;
use std::thread;

use super::*;
use crate::policy::calendar::read_day;

fn account(day: Option<u64>, month: Option<u64>) -> Account {
    let ledger = Arc::new(Ledger::new(Path::new("used")));
    Account::new(Quota { day, month }, ledger.used("ann"), ledger)
}

fn at(day: &str, second: u64) -> u64 {
    read_day(day).unwrap() * DAY_SECONDS + second
}

/// How many of so many are let in.
fn passed(account: &Account, count: usize, now: u64) -> usize {
    (0..count)
        .filter(|_| {
            let seen = account.look(now);
            assert_eq!(account.take(now).map_err(|spent| spent.wait_s), seen.map_err(|spent| spent.wait_s));
            seen.is_ok()
        })
        .count()
}

#[test]
fn a_day_ends_at_midnight() {
    let account = account(Some(3), None);
    let last = at("2026-11-27", DAY_SECONDS - 1);
    assert_eq!(passed(&account, 5, at("2026-11-27", 0)), 3);
    assert_eq!(passed(&account, 5, last), 0);
    let spent = account.look(last).unwrap_err();
    let day = Spent { period: Period::Day, quota: 3, window_s: DAY_SECONDS, wait_s: 1 };
    assert_eq!(spent, day);
    assert_eq!(account.look(at("2026-11-27", 1)).unwrap_err().wait_s, DAY_SECONDS - 1);
    assert_eq!(passed(&account, 5, last + 1), 3, "a new day");
    assert_eq!(passed(&account, 5, at("2027-03-01", 0)), 3, "some day");
}

#[test]
fn a_month_ends_with_its_last_day() {
    for (first, last, next, days) in [
        ("2026-11-01", "2026-11-30", "2026-12-01", 30),
        ("2026-12-01", "2026-12-31", "2027-01-01", 31),
        ("2026-02-01", "2026-02-28", "2026-03-01", 28),
        ("2028-02-01", "2028-02-29", "2028-03-01", 29),
        ("2100-02-01", "2100-02-28", "2100-03-01", 28),
        ("2000-02-01", "2000-02-29", "2000-03-01", 29),
    ] {
        let account = account(None, Some(4));
        assert_eq!(passed(&account, 2, at(first, 0)), 2, "{first}");
        assert_eq!(passed(&account, 5, at(last, DAY_SECONDS - 1)), 2, "{last}");
        let spent = account.look(at(first, 0)).unwrap_err();
        let window_s = days * DAY_SECONDS;
        assert_eq!(spent, Spent { period: Period::Month, quota: 4, window_s, wait_s: window_s });
        assert_eq!(account.look(at(last, DAY_SECONDS - 9)).unwrap_err().wait_s, 9);
        assert_eq!(passed(&account, 5, at(next, 0)), 4, "{next}");
    }
}

#[test]
fn what_one_period_refuses_is_not_counted_in_the_other() {
    let account = account(Some(2), Some(5));
    let refused = |period: Period| account.ledger.refused(period).load(Relaxed);
    for (day, passes) in [("2026-11-01", 2), ("2026-11-02", 2), ("2026-11-03", 1), ("2026-11-04", 0)] {
        assert_eq!(passed(&account, 10, at(day, 7)), passes, "{day}");
    }
    // Each was looked at, too.
    assert_eq!((refused(Period::Day), refused(Period::Month)), (2 * 16, 2 * 19));
    assert_eq!([account.used.day.get().1, account.used.month.get().1], [0, 5]);
    assert_eq!(passed(&account, 10, at("2026-12-01", 7)), 2);
}

#[test]
fn who_has_no_quota_of_a_period_is_counted_all_the_same() {
    let open = account(None, Some(1000));
    assert_eq!(passed(&open, 7, at("2026-11-27", 0)), 7);
    // One that comes later counts from the period's beginning.
    let bound = Account::new(Quota { day: Some(8), month: None }, open.used.clone(), open.ledger.clone());
    assert_eq!(passed(&bound, 7, at("2026-11-27", 0)), 1);
    let smaller = Account::new(Quota { day: Some(3), month: None }, open.used.clone(), open.ledger.clone());
    assert_eq!(passed(&smaller, 7, at("2026-11-27", 0)), 0);
    assert_eq!(passed(&smaller, 7, at("2026-11-28", 0)), 3);
}

#[test]
fn a_clock_that_is_set_back_gives_nothing_back() {
    let noon = 12 * 3600;
    let account = account(Some(3), Some(100));
    assert_eq!(passed(&account, 5, at("2026-11-27", noon)), 3);
    assert_eq!(passed(&account, 2, at("2026-11-28", 1)), 2);
    // Over midnight: counted in the day that has begun, and until that is over.
    assert_eq!(passed(&account, 5, at("2026-11-27", noon)), 1);
    let spent = account.look(at("2026-11-27", noon)).unwrap_err();
    assert_eq!(spent.wait_s, noon + DAY_SECONDS, "until the end of the day that has begun");
    assert_eq!(passed(&account, 5, at("2026-11-28", noon)), 0);
    assert_eq!(passed(&account, 5, at("2026-11-29", 0)), 3);
    // A clock that was wrong by years does not shut anybody out for years, and what was used stays used.
    assert_eq!(passed(&account, 2, at("2031-01-01", 0)), 2);
    assert_eq!(passed(&account, 5, at("2026-11-29", noon)), 1);
    assert_eq!(account.look(at("2026-11-29", noon)).unwrap_err().wait_s, noon);
    assert_eq!(passed(&account, 5, at("2026-11-30", 0)), 3);
}

#[test]
fn what_is_given_back_of_a_day_that_is_over_is_nothing() {
    let count = Count::default();
    let day = count.take(7, None).unwrap();
    count.take(8, None).unwrap();
    count.give_back(day);
    assert_eq!(count.get(), (8, 1));
    (0..2).for_each(|_| count.give_back(8));
    assert_eq!(count.get(), (8, 0));
}

#[test]
fn the_calendars_end_is_survived() {
    let account = account(Some(3), Some(3));
    assert_eq!(passed(&account, 5, u64::from(u32::MAX) * 1000), 3);
    assert_eq!(passed(&account, 5, 0), 0);
}

/// A request is one, whoever counts it.
#[test]
fn many_cores_never_let_in_more() {
    for (day, month) in [(Some(700), None), (None, Some(700)), (Some(700), Some(900)), (Some(900), Some(700))]
    {
        let account = account(day, month);
        let now = at("2026-11-27", 5);
        let total: usize = thread::scope(|scope| {
            let cores: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| account.take(now).is_ok()).count()))
                .collect();
            cores.into_iter().map(|core| core.join().unwrap()).sum()
        });
        assert_eq!(total, 700, "{day:?} {month:?}");
        let counted = [account.used.day.get().1, account.used.month.get().1];
        assert_eq!(counted, [700, 700], "who is refused is not counted");
    }
}

/// Cores see midnight at different times, and go back over it.
#[test]
fn many_cores_at_midnight_have_two_days_and_no_more() {
    for round in 0..50 {
        let account = account(Some(100), Some(150));
        let midnight = at("2026-11-30", DAY_SECONDS);
        let total: usize = thread::scope(|scope| {
            let cores: Vec<_> = (0..4u64)
                .map(|core| {
                    let account = &account;
                    scope.spawn(move || {
                        let now = |step: u64| midnight - 20 + (step * (core + 1) + round) % 40;
                        (0..600).filter(|&step| account.take(now(step)).is_ok()).count()
                    })
                })
                .collect();
            cores.into_iter().map(|core| core.join().unwrap()).sum()
        });
        assert!((100..=200).contains(&total), "{total}");
        let (day, used) = account.used.day.get();
        assert!(day == midnight / DAY_SECONDS && used <= 100, "{used}");
        // Nobody has gone on for long in the day before: its count would have been thrown away.
        assert_eq!(passed(&account, 500, midnight + 30), 100 - used as usize);
    }
}

#[test]
fn a_ledger_says_again_what_it_was_told() {
    let now = at("2026-11-27", 5);
    let ledger = Arc::new(Ledger::new(Path::new("used")));
    let of = |ledger: &Arc<Ledger>, id: &str| {
        Account::new(Quota { day: Some(10), month: Some(100) }, ledger.used(id), ledger.clone())
    };
    assert_eq!(passed(&of(&ledger, "bob"), 4, now), 4);
    assert_eq!(passed(&of(&ledger, "ann"), 20, now), 10);
    assert_eq!(passed(&of(&ledger, "carl"), 1, at("2026-10-31", 0)), 1);
    let quiet = of(&ledger, "dora");
    let entries = ledger.entries(now);
    let ids: Vec<&str> = entries.iter().map(|entry| &*entry.id).collect();
    assert_eq!(ids, ["ann", "bob"], "carl's month is over, and dora has done nothing");
    assert_eq!(ledger.all().len(), 3, "carl is forgotten, dora is not");
    let again = Arc::new(Ledger::new(Path::new("used")));
    again.take_in(&read(&write(&entries)).unwrap());
    assert_eq!(again.entries(now), entries);
    assert_eq!((passed(&of(&again, "ann"), 9, now), passed(&of(&again, "bob"), 9, now)), (0, 6));
    let before = ledger.fingerprint();
    assert_eq!(before, ledger.fingerprint());
    assert_eq!(passed(&quiet, 1, now), 1);
    assert_ne!(before, ledger.fingerprint());
}
