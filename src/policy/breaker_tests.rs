//! The breaker under a clock that is moved by hand: each way from state to state, and what holds on all of them.

use super::*;

const WINDOW: Millis = 10_000;

fn policy() -> BreakerPolicy {
    BreakerPolicy {
        window: Duration::from_millis(WINDOW),
        requests_min: 20,
        shed_above: 10,
        reject_above: 30,
        probes: 3,
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

/// So many requests at one moment, of which so many percent fail; how many were let through.
fn send(breaker: &Breaker, now: Millis, requests: u64, percent: u64) -> u64 {
    let mut passed = 0;
    for number in 0..requests {
        if let Ok(pass) = breaker.admit(&policy(), now, number) {
            passed += 1;
            breaker.record(&policy(), now, pass, number * percent / 100 < (number + 1) * percent / 100);
        }
    }
    passed
}

#[test]
fn few_requests_say_nothing() {
    let breaker = Breaker::default();
    assert_eq!(send(&breaker, 1_000, 19, 100), 19);
    assert_eq!(breaker.state().0, State::Passing);
    assert_eq!(send(&breaker, 1_000, 1, 100), 1);
    assert_eq!(breaker.state(), (State::Open, 1_000));
}

#[test]
fn so_much_is_let_through_as_little_fails() {
    for (percent, state) in [
        (0, State::Passing),
        (10, State::Passing),
        (11, State::Shedding),
        (30, State::Shedding),
        (31, State::Open),
    ] {
        let breaker = Breaker::default();
        // All of them are asked for first: what is said of them comes later.
        for number in 0..100 {
            breaker.window.count(policy().window, 5_000, number < percent);
        }
        breaker.reconsider(&policy(), 5_000);
        assert_eq!(breaker.state().0, state, "{percent} percent");
        let passed = (0..1_000).filter(|&drawn| breaker.admit(&policy(), 5_000, drawn).is_ok()).count();
        let expected = match state {
            State::Passing => 1_000,
            State::Shedding => 500,
            _ => 0,
        };
        assert_eq!((passed, breaker.rejected_total.load(Relaxed)), (expected, 1_000 - expected as u64));
    }
}

#[test]
fn an_open_one_rests_for_a_window_and_then_asks_one_at_a_time() {
    let breaker = Breaker::default();
    send(&breaker, 1_000, 20, 100);
    assert_eq!(breaker.admit(&policy(), 1_001, 0), Err(Rejected { wait: WINDOW - 1 }));
    assert!(breaker.admit(&policy(), 1_000 + WINDOW - 1, 0).is_err());
    let now = 1_000 + WINDOW;
    for well in 1..=3 {
        assert_eq!(breaker.admit(&policy(), now, 0), Ok(Pass::Probe));
        assert_eq!(breaker.state().0, State::HalfOpen);
        assert_eq!(breaker.admit(&policy(), now, 0), Err(Rejected { wait: 0 }), "one is under way");
        breaker.record(&policy(), now, Pass::Probe, false);
        assert_eq!(breaker.state().0, if well < 3 { State::HalfOpen } else { State::Passing });
    }
    assert_eq!(breaker.counts(&policy(), now), (0, 0), "it begins anew");
    assert_eq!(send(&breaker, now, 100, 5), 100);
}

#[test]
fn a_probe_that_fails_opens_it_again() {
    let breaker = Breaker::default();
    send(&breaker, 1_000, 20, 100);
    let now = 1_000 + WINDOW;
    assert_eq!(breaker.admit(&policy(), now, 0), Ok(Pass::Probe));
    breaker.record(&policy(), now + 5, Pass::Probe, true);
    assert_eq!((breaker.state(), breaker.opened_total.load(Relaxed)), ((State::Open, now + 5), 2));
    assert!(breaker.admit(&policy(), now + 5 + WINDOW - 1, 0).is_err());
}

#[test]
fn a_probe_without_an_answer_lets_another_one_go() {
    let breaker = Breaker::default();
    send(&breaker, 1_000, 20, 100);
    let now = 1_000 + WINDOW;
    assert_eq!(breaker.admit(&policy(), now, 0), Ok(Pass::Probe));
    breaker.forget(Pass::Probe);
    assert_eq!(breaker.admit(&policy(), now, 0), Ok(Pass::Probe));
    assert!(breaker.admit(&policy(), now + WINDOW - 1, 0).is_err());
    assert_eq!(breaker.admit(&policy(), now + WINDOW, 0), Ok(Pass::Probe), "the one before was lost");
    // What went out before the breaker opened does not decide when it closes.
    breaker.record(&policy(), now, Pass::Counted, false);
    assert_eq!(breaker.state().0, State::HalfOpen);
}

#[test]
fn an_operator_closes_it() {
    let breaker = Breaker::default();
    send(&breaker, 1_000, 20, 100);
    breaker.reset(2_000);
    assert_eq!((breaker.state(), breaker.counts(&policy(), 2_000)), ((State::Passing, 2_000), (0, 0)));
}

/// Hours of requests to a service whose part of failures wanders.
#[test]
fn it_never_flaps_faster_than_its_window_and_follows_what_happens() {
    for seed in 0..20 {
        let (breaker, mut dice) = (Breaker::default(), Dice(seed));
        let (mut now, mut percent) = (1_000, 0);
        let (mut seen, mut opened, mut improved) = (breaker.state(), None::<Millis>, 0u32);
        let mut under_way: Vec<(Millis, Pass)> = Vec::new();
        for _ in 0..200_000 {
            now += dice.roll() % 20;
            if dice.percent(1) {
                percent = [0, 0, 0, 8, 12, 20, 28, 35, 60, 100][(dice.roll() % 10) as usize];
            }
            if let Ok(pass) = breaker.admit(&policy(), now, dice.roll()) {
                under_way.push((now + dice.roll() % 2_000, pass));
            }
            while let Some(at) = under_way.iter().position(|(due, _)| *due <= now) {
                let (_, pass) = under_way.swap_remove(at);
                if dice.percent(2) {
                    breaker.forget(pass)
                } else {
                    breaker.record(&policy(), now, pass, dice.percent(percent))
                }
            }
            let is = breaker.state();
            if is != seen {
                match (seen.0, is.0) {
                    (State::Open, State::HalfOpen) => assert!(is.1 >= seen.1 + WINDOW),
                    (State::Shedding, State::Passing) => {
                        assert!(is.1 >= seen.1 + WINDOW);
                        improved += 1;
                    }
                    (State::HalfOpen, State::Passing) => improved += 1,
                    (State::Passing | State::Shedding | State::HalfOpen, State::Open) => {
                        assert!(
                            opened.is_none_or(|before| is.1 >= before + WINDOW),
                            "opened at {opened:?} and {is:?}"
                        );
                        opened = Some(is.1);
                    }
                    (State::Passing, State::Shedding) => {}
                    change => panic!("from {change:?}"),
                }
                seen = is;
            }
        }
        assert!(opened.is_some() && improved > 0, "seed {seed} has seen too little");
    }
}
