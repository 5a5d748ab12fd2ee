//! An endpoint's health under a clock that is moved by hand.

use super::*;

fn policy() -> OutlierPolicy {
    OutlierPolicy { failures: 5, ejection: Duration::from_secs(30), percent_max: 50 }
}

fn eject(health: &Health, now: Millis) -> u64 {
    health.eject(&policy(), now).as_secs()
}

#[test]
fn only_failures_in_a_row_count() {
    let health = Health::default();
    for _ in 0..3 {
        assert!((0..4).all(|_| !health.failed(&policy())));
        health.succeeded();
    }
    assert!((0..4).all(|_| !health.failed(&policy())));
    assert!(health.failed(&policy()));
    // It could not be: it is asked again, but not each time.
    assert!((0..4).all(|_| !health.failed(&policy())));
    assert!(health.failed(&policy()));
}

#[test]
fn an_ejection_ends_by_itself_and_the_next_failure_is_another() {
    let health = Health::default();
    assert_eq!(eject(&health, 1_000), 30);
    assert_eq!((health.standing(30_999), health.changes_at(1_000)), (Standing::Ejected, Some(31_000)));
    assert_eq!((health.standing(31_000), health.changes_at(31_000)), (Standing::Usable, None));
    assert_eq!(health.began(), 31_000);
    assert!(health.failed(&policy()), "no five more are risked");
    assert_eq!(eject(&health, 31_001), 60);
    health.succeeded();
    assert!(!health.failed(&policy()), "all is forgotten with one that goes well");
}

#[test]
fn ejections_grow_while_they_follow_each_other_and_not_for_ever() {
    let health = Health::default();
    let mut now = 1_000;
    for times in (1..=10).chain([10, 10]) {
        assert_eq!(eject(&health, now), 30 * times);
        now += 30_000 * times + 5;
    }
    // Well for as long as it was out, and one moment more.
    now += 300_000;
    assert_eq!(eject(&health, now), 30);
}

#[test]
fn checks_and_operators_come_before_ejections() {
    let health = Health::default();
    let _ = eject(&health, 1_000);
    assert!(health.set_checked(Checked::Down, 1_001) && !health.set_checked(Checked::Down, 1_002));
    assert_eq!(health.standing(1_002), Standing::Down);
    assert!(health.set_drained(true, 1_003) && !health.set_drained(true, 1_003));
    assert_eq!(health.standing(1_003), Standing::Drained);
    assert!(health.set_drained(false, 1_004));
    // Whom the checks find well again is out no longer.
    assert!(health.set_checked(Checked::Up, 1_005));
    assert_eq!((health.standing(1_005), health.began()), (Standing::Usable, 1_005));
}

#[test]
fn a_check_that_says_what_the_last_ones_said_ends_no_ejection() {
    let health = Health::default();
    health.set_checked(Checked::Up, 1);
    let _ = eject(&health, 1_000);
    assert!(!health.set_checked(Checked::Up, 2_000));
    assert_eq!(health.standing(2_000), Standing::Ejected);
}

#[test]
fn verdicts_need_so_many_checks_in_a_row_but_for_the_first() {
    let mut checks = Checks::new(Thresholds { healthy: 2, unhealthy: 3 }, Checked::Unknown);
    let said =
        [true, false, false, true, false, false, false, true, false, true, true].map(|good| checks.add(good));
    use Checked::{Down, Up};
    assert_eq!(said, [Up, Up, Up, Up, Up, Up, Down, Down, Down, Down, Up]);
    let mut checks = Checks::new(Thresholds { healthy: 2, unhealthy: 3 }, Checked::Unknown);
    assert_eq!([false, true, true].map(|good| checks.add(good)), [Down, Down, Up]);
}
