//! Tests of the exposition: promtool's and an own reading of it, escaping, and that no series appears twice.
//! Counters come from real `CoreMetrics`; nothing here needs a snapshot.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::snapshot::StableId;
use crate::observe::metrics::{CoreMetrics, Outcome};
use crate::observe::names::{EndpointName, REMOVED};
use crate::observe::report::{BreakerReport, CanaryReport, ConcurrencyReport, EndpointReport, KeySetReport};
use crate::policy::breaker::State;

const ODD: &str = "a\\b\"c\nd é";

fn names() -> Names {
    let mut names = Names::default();
    names.learn_routes([(StableId(0), "models".into()), (StableId(1), ODD.into())].into_iter());
    names.learn_services([(StableId(0), "stable".into())].into_iter());
    let endpoint = EndpointName { service: "stable".into(), address: "127.0.0.1:8000".into() };
    names.learn_endpoints([(StableId(0), endpoint)].into_iter());
    names
}

fn shared() -> SharedReport {
    let name: Arc<str> = "stable".into();
    let endpoints = vec![EndpointReport {
        id: StableId(0),
        in_flight: 7,
        is_usable: true,
        ejections_total: 2,
        checks_total: 9,
        failed_checks_total: 1,
    }];
    let concurrency = Some(ConcurrencyReport { taken: 4, waiting: 2, refused_total: 5 });
    let breaker = Some(BreakerReport { state: State::Open, rejected_total: 8, opened_total: 1 });
    let service = ServiceReport {
        name,
        retries_total: 3,
        retries_refused_total: 1,
        breaker,
        concurrency,
        conversion_bytes: Some(4096),
        endpoints,
    };
    SharedReport {
        authorizers: vec![AuthorizerReport {
            name: ODD.into(),
            allowed_total: 5,
            denied_total: 2,
            failed_total: 1,
        }],
        generation: 4,
        key_sets: vec![KeySetReport { url: "http://id.test/keys".into(), fetches_total: 3, failed_total: 1 }],
        services: vec![service],
        canaries: vec![CanaryReport { route: ODD.into(), share: 0.25, rollbacks_total: 1 }],
        limits: vec![LimitReport { name: ODD.into(), refused_total: 3, overflowed_total: 1 }],
        quotas: vec![QuotaReport { file: "keys.used".into(), refused_total: [4, 2], write_errors_total: 1 }],
        certificates: vec![("edge.pem".into(), 1_900_000_000)],
    }
}

fn core(index: usize) -> CoreMetrics {
    let metrics = CoreMetrics::new(index);
    metrics.set_driver("uring");
    metrics.connection_opened(metrics.listener("web"));
    metrics.connection_handed_over();
    metrics.turned_late(Duration::from_millis(3));
    metrics.proxy_header_failed(metrics.listener("web"));
    // Two services without a name any more share one series.
    for service in [0, 7, 8] {
        let series = metrics.tcp.opened("db", Some(StableId(service)));
        metrics.tcp.received(series, 10);
        metrics.tcp.sent(series, 100);
        metrics.tcp.failed(series, Kind::IdleTimeout);
    }
    // Ids 7 and 8 have no name any more: both become `_removed`.
    for (route, status) in
        [(Some(0), 200), (Some(0), 999), (Some(1), 404), (Some(7), 200), (Some(8), 200), (None, 400)]
    {
        metrics.request_started();
        metrics.request(&Outcome {
            route: route.map(StableId),
            service: route.map(StableId),
            endpoint: route.map(StableId),
            status,
            error: (status == 400).then_some(Kind::BadRequest),
            request_bytes: 1,
            response_bytes: 2,
            duration: Duration::from_millis(2),
            upstream_first_byte: route.map(|_| Duration::from_micros(800)),
            tries: 1,
        });
    }
    metrics
}

fn page() -> String {
    let cores = [core(0).report(), core(1).report()];
    let gateway = GatewayStats {
        version: "1.2.3",
        workers: 2,
        pipes_open: 0,
        last_reload_ok: true,
        reloads_ok: 3,
        ..Default::default()
    };
    let (shared, names) = (shared(), names());
    let stuck = [Stuck { is_now: false, total: 2 }, Stuck { is_now: true, total: 1 }];
    let process = ProcessStats::read();
    render(&Scrape { cores: &cores, shared: &shared, names: &names, gateway, stuck: &stuck, process })
}

#[test]
fn the_page_says_what_was_counted() {
    let page = page();
    for line in [
        r#"tidegate_build_info{version="1.2.3"} 1"#,
        r#"tidegate_config_generation 4"#,
        r#"tidegate_config_reloads_total{result="ok"} 3"#,
        r#"tidegate_worker_driver_info{worker="1",driver="uring"} 1"#,
        r#"tidegate_worker_lateness_seconds_count{worker="0"} 1"#,
        r#"tidegate_worker_lateness_seconds_bucket{worker="0",le="0.0025"} 0"#,
        r#"tidegate_worker_connections_handed_over_total{worker="1"} 1"#,
        r#"tidegate_worker_stuck{worker="0"} 0"#,
        r#"tidegate_worker_stuck{worker="1"} 1"#,
        r#"tidegate_worker_stuck_total{worker="0"} 2"#,
        r#"tidegate_connections_total{listener="web"} 2"#,
        r#"tidegate_proxy_header_errors_total{listener="web"} 2"#,
        r#"tidegate_tcp_connections_total{listener="db",service="stable"} 2"#,
        r#"tidegate_tcp_received_bytes_total{listener="db",service="_removed"} 40"#,
        r#"tidegate_tcp_sent_bytes_total{listener="db",service="stable"} 200"#,
        r#"tidegate_tcp_errors_total{listener="db",service="_removed",kind="idle_timeout"} 4"#,
        r#"tidegate_requests_total{route="models",service="stable",status="200"} 2"#,
        r#"tidegate_requests_total{route="models",service="stable",status="_other"} 2"#,
        r#"tidegate_requests_total{route="",service="",status="400"} 2"#,
        r#"tidegate_requests_total{route="_removed",service="_removed",status="200"} 4"#,
        r#"tidegate_requests_total{route="a\\b\"c\nd é",service="_removed",status="404"} 2"#,
        r#"tidegate_request_errors_total{kind="bad_request"} 2"#,
        r#"tidegate_request_errors_total{kind="internal"} 0"#,
        r#"tidegate_request_bytes_total{route="models"} 4"#,
        r#"tidegate_request_duration_seconds_bucket{route="models",le="0.001"} 0"#,
        r#"tidegate_request_duration_seconds_bucket{route="models",le="0.0025"} 4"#,
        r#"tidegate_request_duration_seconds_bucket{route="models",le="+Inf"} 4"#,
        r#"tidegate_request_duration_seconds_sum{route="models"} 0.008"#,
        r#"tidegate_request_duration_seconds_count{route="_removed"} 4"#,
        r#"tidegate_upstream_duration_seconds_bucket{service="stable",le="0.001"} 4"#,
        r#"tidegate_endpoint_in_flight{service="stable",endpoint="127.0.0.1:8000"} 7"#,
        r#"tidegate_endpoint_requests_total{service="stable",endpoint="127.0.0.1:8000"} 4"#,
        r#"tidegate_endpoint_connect_failures_total{service="stable",endpoint="127.0.0.1:8000"} 0"#,
        r#"tidegate_retries_total{service="stable"} 3"#,
        r#"tidegate_quota_refused_total{file="keys.used",period="day"} 4"#,
        r#"tidegate_quota_refused_total{file="keys.used",period="month"} 2"#,
        r#"tidegate_quota_write_errors_total{file="keys.used"} 1"#,
    ] {
        assert!(page.lines().any(|have| have == line), "missing: {line}\n{page}");
    }
    assert!(page.contains(REMOVED));
}

#[test]
fn no_series_appears_twice_and_all_have_a_type() {
    let page = page();
    let mut series = HashSet::new();
    let mut families = HashSet::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split(' ').next().unwrap()), "twice: {family}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "twice: {name}");
            let family = name.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| family.strip_suffix(suffix));
            assert!(families.contains(family) || base.is_some_and(|base| families.contains(base)), "{line}");
        }
    }
}

#[test]
fn promtool_finds_nothing_to_say() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("promtool is not installed: skipped");
        return;
    };
    promtool.stdin.take().unwrap().write_all(page().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
}
