//! Tests of one core's counters: balance of gauges, bounds on tables, and what a report holds.
//! Text and names are tested with `observe::prometheus` and `observe::names`.

use super::*;
use crate::observe::report::Totals;

fn outcome(route: u32, service: u32, status: u16) -> Outcome {
    Outcome {
        route: Some(StableId(route)),
        service: Some(StableId(service)),
        endpoint: Some(StableId(service)),
        status,
        error: None,
        request_bytes: 10,
        response_bytes: 1000,
        duration: Duration::from_micros(700),
        upstream_first_byte: Some(Duration::from_micros(300)),
        tries: 1,
    }
}

fn totals(metrics: &CoreMetrics) -> Totals {
    Totals::of(&[metrics.report()])
}

#[test]
fn a_report_crosses_threads() {
    fn assert_send<T: Send + 'static>() {}
    assert_send::<CoreReport>();
}

#[test]
fn requests_are_counted_by_route_service_and_status() {
    let metrics = CoreMetrics::new(0);
    for status in [200, 200, 503] {
        metrics.request_started();
        metrics.request(&outcome(1, 2, status));
    }
    let totals = totals(&metrics);
    let route = SeriesId::Known(StableId(1));
    let service = SeriesId::Known(StableId(2));
    assert_eq!(totals.series[&(route, service, 200)].requests, 2);
    assert_eq!(totals.series[&(route, service, 200)].response_bytes, 2000);
    assert_eq!(totals.series[&(route, service, 503)].request_bytes, 10);
    assert_eq!(totals.durations[&route].count(), 3);
    assert_eq!(totals.first_bytes[&service].count(), 3);
    assert_eq!(totals.endpoints[&service].requests, 3);
    assert_eq!(totals.requests_active, 0);
}

#[test]
fn a_request_without_route_has_a_place_too() {
    let metrics = CoreMetrics::new(0);
    let refused = Outcome {
        route: None,
        service: None,
        endpoint: None,
        upstream_first_byte: None,
        error: Some(Kind::BadRequest),
        tries: 0,
        ..outcome(0, 0, 400)
    };
    metrics.request_started();
    metrics.request(&refused);
    let totals = totals(&metrics);
    assert_eq!(totals.series[&(SeriesId::None, SeriesId::None, 400)].requests, 1);
    assert_eq!(totals.errors.0[Kind::BadRequest as usize], 1);
    assert_eq!(totals.errors.0.iter().sum::<u64>(), 1);
    assert_eq!(totals.durations[&SeriesId::None].count(), 1);
    assert!(totals.first_bytes.is_empty() && totals.endpoints.is_empty());
}

#[test]
fn a_kind_is_its_own_index() {
    for (index, &kind) in Kind::ALL.iter().enumerate() {
        assert_eq!(kind as usize, index);
    }
}

#[test]
fn ids_survive_packing() {
    for id in [0, 1, ID_OTHER - 1] {
        assert_eq!(unpack_id(pack_id(Some(StableId(id)))), SeriesId::Known(StableId(id)));
    }
    for id in [ID_OTHER, ID_NONE, ID_NONE + 1, u32::MAX] {
        assert_eq!(unpack_id(pack_id(Some(StableId(id)))), SeriesId::Other);
    }
    assert_eq!(unpack_id(pack_id(None)), SeriesId::None);
    let key = SeriesKey::pack(ID_OTHER - 1, ID_NONE, 65535);
    assert_eq!(key.route(), SeriesId::Known(StableId(ID_OTHER - 1)));
    assert_eq!((key.service(), key.status()), (SeriesId::None, 65535));
}

#[test]
fn histograms_beyond_the_bound_share_one() {
    let metrics = CoreMetrics::new(0);
    let routes = HISTOGRAMS_MAX as u32 + 50;
    for route in (0..routes).chain(0..routes) {
        metrics.request(&outcome(route, 0, 200));
    }
    let totals = totals(&metrics);
    assert_eq!(totals.durations.len(), HISTOGRAMS_MAX + 1);
    assert_eq!(totals.durations[&SeriesId::Other].count(), 100);
    assert_eq!(totals.durations[&SeriesId::Known(StableId(0))].count(), 2);
    assert_eq!(totals.series.len(), routes as usize);
}

#[test]
fn series_beyond_the_bound_share_one_per_status() {
    let metrics = CoreMetrics::new(0);
    let routes = SERIES_MAX as u32 + 5;
    for route in (0..routes).chain(0..routes) {
        metrics.request(&outcome(route, 0, 200));
    }
    metrics.request(&outcome(routes, 0, 500));
    let totals = totals(&metrics);
    assert_eq!(totals.series.len(), SERIES_MAX + 2);
    assert_eq!(totals.series[&(SeriesId::Other, SeriesId::Other, 200)].requests, 10);
    assert_eq!(totals.series[&(SeriesId::Other, SeriesId::Other, 500)].requests, 1);
    assert_eq!(totals.series.values().map(|c| c.requests).sum::<u64>(), 2 * u64::from(routes) + 1);
}

#[test]
fn endpoints_beyond_the_bound_share_one() {
    let metrics = CoreMetrics::new(0);
    for id in 0..ENDPOINTS_MAX as u32 + 3 {
        metrics.upstream_connected(StableId(id));
    }
    metrics.upstream_connect_failed(StableId(u32::MAX));
    let totals = totals(&metrics);
    assert_eq!(totals.endpoints.len(), ENDPOINTS_MAX + 1);
    assert_eq!(
        totals.endpoints[&SeriesId::Other],
        EndpointCounts { requests: 0, connections: 3, connect_failures: 1 }
    );
}

#[test]
fn a_listener_that_comes_back_goes_on_counting() {
    let metrics = CoreMetrics::new(0);
    let web = metrics.listener("web");
    let other = metrics.listener("other");
    metrics.connection_opened(web);
    metrics.connection_opened(other);
    metrics.connection_refused(other);
    metrics.accept_failed(other);
    assert_eq!(metrics.listener("web"), web);
    metrics.connection_opened(web);
    assert_eq!(metrics.connections_active(), 3);
    metrics.connection_closed(web);
    let totals = totals(&metrics);
    assert_eq!((totals.listeners["web"].opened, totals.listeners["web"].active()), (2, 1));
    assert_eq!((totals.listeners["other"].refused, totals.listeners["other"].accept_failed), (1, 1));
}

#[test]
fn listeners_beyond_the_bound_share_the_last() {
    let metrics = CoreMetrics::new(0);
    for i in 0..LISTENERS_MAX + 10 {
        metrics.connection_opened(metrics.listener(&i.to_string()));
    }
    assert_eq!(metrics.connections_active(), LISTENERS_MAX as u64 + 10);
    assert_eq!(metrics.report().listeners.len(), LISTENERS_MAX);
}

#[test]
fn gauges_never_wrap() {
    let metrics = CoreMetrics::new(0);
    let web = metrics.listener("web");
    metrics.connection_closed(web);
    metrics.tunnel_closed();
    metrics.request(&outcome(0, 0, 200));
    let totals = totals(&metrics);
    assert_eq!((totals.listeners["web"].active(), totals.tunnels_active, totals.requests_active), (0, 0, 0));
}

#[test]
fn cores_add_up() {
    let reports: Vec<CoreReport> = (0..3)
        .map(|core| {
            let metrics = CoreMetrics::new(core);
            metrics.request_started();
            metrics.upstream_reused();
            metrics.set_upstream_idle(core + 1);
            metrics.tunnel_opened();
            metrics.panicked();
            metrics.request(&outcome(1, 1, 200));
            metrics.request_started();
            metrics.report()
        })
        .collect();
    let totals = Totals::of(&reports);
    assert_eq!((totals.requests_active, totals.upstream.reused, totals.upstream.idle), (3, 3, 6));
    assert_eq!((totals.tunnels_total, totals.tunnels_active, totals.panics_total), (3, 3, 3));
    assert_eq!(totals.durations[&SeriesId::Known(StableId(1))].count(), 3);
}
