//! Owns how what is in force is shown to programs, as JSON: services, canaries, events, the last reload; routes are
//! `shown::routes`. `admin/openapi.json` describes each. Changes nothing and asks nobody.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::config::snapshot::{Endpoint, EndpointState, Service, Snapshot};
use crate::observe::Event;
use crate::observe::clock::rfc3339;
use crate::observe::histogram::LatencyTotal;
use crate::observe::report::{SeriesId, Totals};
use crate::runtime::clock::Millis;

use super::state::{LastReload, Reloads};

pub mod routes;

pub fn services(snapshot: &Snapshot, totals: &Totals, now: Millis) -> Value {
    let mut requests = HashMap::<SeriesId, u64>::new();
    for ((_, service, _), counts) in &totals.series {
        *requests.entry(*service).or_default() += counts.requests;
    }
    let services = snapshot.services.iter().map(|service| one_service(service, totals, &requests, now));
    let services: Vec<Value> = services.collect();
    json!({ "services": services })
}

fn one_service(service: &Service, totals: &Totals, requests: &HashMap<SeriesId, u64>, now: Millis) -> Value {
    let id = SeriesId::Known(service.id);
    let breaker = service.health.breaker.as_ref().map(|policy| {
        let breaker = &service.state.breaker;
        let (counted, failures) = breaker.counts(policy, now);
        json!({
            "state": breaker.state().0.word(),
            "requests": counted,
            "failures": failures,
            "rejected": breaker.rejected_total.load(Relaxed),
        })
    });
    let concurrency = service.concurrency.as_ref().map(|concurrency| {
        let (taken, waiting) = service.state.places.counts();
        json!({
            "requests": taken,
            "most": concurrency.room.requests_max,
            "waiting": waiting,
            "refused": service.state.places.refused_total.load(Relaxed),
        })
    });
    let endpoints = service.endpoints.iter().map(|endpoint| one_endpoint(endpoint, totals, now));
    json!({
        "name": &*service.name,
        "requests": requests.get(&id).copied().unwrap_or_default(),
        "first_byte_ms": totals.first_bytes.get(&id).map(latency),
        "breaker": breaker,
        "concurrency": concurrency,
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn one_endpoint(endpoint: &Endpoint, totals: &Totals, now: Millis) -> Value {
    let EndpointState { in_flight, health } = &*endpoint.state;
    let counts = totals.endpoints.get(&SeriesId::Known(endpoint.id)).copied().unwrap_or_default();
    json!({
        "endpoint": &*endpoint.label,
        "address": endpoint.address.to_string(),
        "weight": endpoint.weight,
        "priority": endpoint.priority,
        "state": health.standing(now).word(),
        "in_flight": in_flight.load(Relaxed),
        "requests": counts.requests,
        "connect_failures": counts.connect_failures,
        "ejections": health.ejections_total.load(Relaxed),
        "checks": health.checks_total.load(Relaxed),
        "failed_checks": health.failed_checks_total.load(Relaxed),
    })
}

fn latency(latency: &LatencyTotal) -> Value {
    let ms = |quantile| latency.quantile_seconds(quantile) * 1_000.0;
    json!({ "count": latency.count(), "p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99) })
}

pub fn canaries(snapshot: &Snapshot) -> Value {
    let canaries = snapshot.routes.routes().iter().filter_map(|route| {
        let canary = route.canary.as_ref()?;
        Some(json!({
            "route": &*route.name,
            "to": &*snapshot.service(canary.to).name,
            "percent": percent(canary.share.now()),
            "configured": percent(canary.share.configured()),
            "given_up": canary.share.given_up_for(),
        }))
    });
    json!({ "canaries": canaries.collect::<Vec<_>>() })
}

pub fn percent(millionths: u32) -> f64 {
    f64::from(millionths) / 10_000.0
}

pub fn events(events: &[Event]) -> Value {
    let events = events.iter().map(|event| {
        json!({
            "time": rfc3339(event.unix_ms),
            "kind": event.kind.word(),
            "text": &*event.text,
            "times": event.times,
        })
    });
    json!({ "events": events.collect::<Vec<_>>() })
}

/// Which configuration is in force, since when, and what came of the last attempt to have another one.
pub fn last_reload(generation: u64, reloads: &Reloads) -> Value {
    let last = reloads.last.as_ref().map(|LastReload { unix_ms, result }| {
        let (Ok(text) | Err(text)) = result;
        let word = if result.is_ok() { "ok" } else { "refused" };
        json!({ "result": word, "time": rfc3339(*unix_ms), "text": &**text })
    });
    let accepted_unix_ms = (reloads.accepted_unix_seconds * 1_000.0) as u64;
    json!({ "generation": generation, "accepted": rfc3339(accepted_unix_ms), "last_reload": last })
}
