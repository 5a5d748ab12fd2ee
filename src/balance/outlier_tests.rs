//! Ejections of a whole service: who is out, who stays, and what every core sees of it.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::balance::pick::PickState;
use crate::config::compile::compile;
use crate::config::registry::Registry;

/// A service with these keys.
fn service(keys: &str) -> Arc<Service> {
    let text = format!(
        "[service.models]\n{keys}\n[[route]]\nto = \"models\"\n[listen.web]\naddress = \"127.0.0.1:1\"\n"
    );
    let mut registry = Registry::new();
    let compiled = compile(Path::new("edge.toml"), &text, None, &mut registry);
    let blueprint = compiled.blueprint.unwrap_or_else(|| panic!("{}", compiled.diagnostics));
    blueprint.snapshot(None, &mut registry, &Default::default()).services[0].clone()
}

fn of(count: usize) -> String {
    let endpoints: Vec<String> = (1..=count).map(|n| format!("\"10.0.0.{n}:80\"")).collect();
    format!("endpoints = [{}]", endpoints.join(", "))
}

/// As many failures as it takes; whether it is ejected by them.
fn fail(service: &Service, endpoint: usize, now: Millis) -> bool {
    (0..5).any(|_| service.endpoint_failed(&service.endpoints[endpoint], now).is_some())
}

/// How many of 1,000 requests each endpoint has.
fn spread(service: &Service, core: &mut PickState, now: Millis) -> Vec<usize> {
    let mut counts = vec![0; service.endpoints.len()];
    for _ in 0..1000 {
        service.pick(core, None, &[], now).into_iter().for_each(|picked| counts[picked] += 1);
    }
    counts
}

#[test]
fn an_ejected_one_has_no_requests_on_any_core_and_comes_back() {
    for balance in ["round-robin", "least-request", "random"] {
        let service = service(&format!("{}\nbalance = \"{balance}\"", of(3)));
        let mut cores = [1, 2].map(PickState::new);
        cores
            .iter_mut()
            .for_each(|core| assert!(spread(&service, core, 1_000).iter().all(|&count| count > 0)));
        assert!(fail(&service, 1, 1_000));
        for core in &mut cores {
            let during = spread(&service, core, 30_999);
            assert!(during[1] == 0 && during[0] + during[2] == 1000, "{balance}: {during:?}");
            assert!(spread(&service, core, 31_000)[1] > 200, "{balance}");
        }
    }
}

#[test]
fn never_the_last_and_never_more_than_a_part() {
    for (count, keys, most) in [
        (1, "", 0),
        (2, "", 1),
        (3, "", 1),
        (10, "", 5),
        (10, "outlier.percent = 1", 1),
        (10, "outlier.percent = 100\npanic = 0", 9),
        (10, "outlier.failures = \"off\"", 0),
    ] {
        let service = service(&format!("{}\n{keys}", of(count)));
        let ejected = (0..count).filter(|&endpoint| fail(&service, endpoint, 1_000)).count();
        assert_eq!(ejected, most, "{count} endpoints, {keys}");
        let core = &mut PickState::new(1);
        let used = spread(&service, core, 2_000).into_iter().filter(|&requests| requests > 0).count();
        assert_eq!(used, count - most);
    }
}

#[test]
fn cores_that_decide_at_once_leave_one() {
    for round in 0..200 {
        let service = service(&of(2));
        std::thread::scope(|scope| {
            for endpoint in 0..2 {
                let service = &service;
                scope.spawn(move || fail(service, endpoint, 1_000 + round));
            }
        });
        let ejected = service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.state.health.standing(1_500) == Standing::Ejected);
        assert_eq!(ejected.count(), 1);
    }
}

#[test]
fn with_few_usable_ones_all_are_used() {
    use crate::balance::health::Checked;
    let core = &mut PickState::new(1);
    for (keys, down, used) in
        [("", 2, 2), ("", 3, 4), ("panic = 0", 3, 1), ("panic = 0", 4, 0), ("panic = 100", 1, 4)]
    {
        let service = service(&format!("{}\n{keys}", of(4)));
        for endpoint in &service.endpoints[..down] {
            endpoint.state.health.set_checked(Checked::Down, 1_000);
        }
        service.state.health_changed();
        let counts = spread(&service, core, 1_000);
        assert_eq!(
            counts.iter().filter(|&&count| count > 0).count(),
            used,
            "{down} of 4 down, {keys}: {counts:?}"
        );
        // Whom an operator takes out is out in any case.
        service.endpoints[3].state.health.set_drained(true, 1_001);
        service.state.health_changed();
        assert_eq!(spread(&service, core, 1_001)[3], 0);
    }
}

#[test]
fn the_next_priority_has_what_the_first_cannot_have() {
    use crate::balance::health::Checked;
    let endpoints = "endpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\", \"10.0.0.4:80\", \
                     { address = \"10.0.1.1:80\", priority = 1 }, { address = \"10.0.1.2:80\", priority = 1 }]";
    let service = service(endpoints);
    let core = &mut PickState::new(1);
    for (down, part) in [(0, 0), (1, 0), (2, 300), (3, 650), (4, 1000)] {
        for (number, endpoint) in service.endpoints.iter().enumerate() {
            let checked = if number < down { Checked::Down } else { Checked::Up };
            endpoint.state.health.set_checked(checked, 1_000);
        }
        service.state.health_changed();
        let counts = spread(&service, core, 1_000);
        let behind: usize = counts[4..].iter().sum();
        assert!(behind.abs_diff(part) < 60, "{down} down: {counts:?}");
        assert!(counts[..down].iter().all(|&count| count == 0));
    }
    // One that was tried is not tried again while there is another, of whatever priority.
    let tried: Vec<_> = service.endpoints[..5].iter().map(|endpoint| endpoint.id).collect();
    assert_eq!(service.pick(core, None, &tried, 1_000), Some(5));
}

#[test]
fn who_comes_back_begins_slowly() {
    let service = service(&format!("{}\nslow_start = \"100s\"", of(2)));
    let core = &mut PickState::new(1);
    assert!(spread(&service, core, 1_000)[1] > 450, "at the start all are new");
    assert!(fail(&service, 1, 1_000));
    let shares: Vec<usize> =
        [31_000, 51_000, 81_000, 131_000].map(|now| spread(&service, core, now)[1]).into();
    // A tenth, a fifth, a half and all of its weight beside the other's.
    for (share, wanted) in shares.iter().zip([91, 167, 333, 500]) {
        assert!(share.abs_diff(wanted) < 40, "{shares:?}");
    }
}
