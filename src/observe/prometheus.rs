//! Owns the text that Prometheus reads (exposition format 0.0.4): every family's name, help, type and labels.
//! Renders what others counted; counts nothing itself and answers no requests (`admin` does).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{Display, Write};

use crate::config::redact;
use crate::error::Kind;
use crate::observe::histogram::{BUCKETS_SECONDS, LatencyTotal};
use crate::observe::names::{Names, OTHER};
use crate::observe::process::ProcessStats;
use crate::observe::report::{
    AuthorizerReport, BreakerReport, ConcurrencyReport, ConnectionCounts, CoreReport, EndpointCounts,
    EndpointReport, Handshake, KeySetReport, LimitReport, QuotaReport, RequestCounts, SeriesId,
    ServiceReport, SharedReport, Totals,
};
use crate::observe::tcp::TcpCounts;
use crate::observe::udp::{Dropped, FlowEnd, Traffic, UdpCounts};
use crate::policy::quota::Period;

/// Everything that one scrape shows.
#[derive(Debug, Clone, Copy)]
pub struct Scrape<'a> {
    /// One of each worker.
    pub cores: &'a [CoreReport],
    /// `SharedReport::of` the snapshot in use.
    pub shared: &'a SharedReport,
    pub names: &'a Names,
    pub gateway: GatewayStats,
    /// By worker; they cannot tell it themselves.
    pub stuck: &'a [Stuck],
    pub process: ProcessStats,
}

/// Whether a worker does not turn.
#[derive(Debug, Clone, Copy)]
pub struct Stuck {
    pub is_now: bool,
    pub total: u64,
}

/// Of the threads that convert.
#[derive(Debug, Clone, Copy, Default)]
pub struct ComputeStats {
    pub waiting: usize,
    pub done: u64,
    pub left: u64,
    pub refused: u64,
    pub panicked: u64,
}

/// What the control thread knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct GatewayStats {
    pub compute: ComputeStats,
    pub version: &'static str,
    pub started_unix_seconds: f64,
    /// As configured or found; `cores` may hold fewer reports if a worker did not answer in time.
    pub workers: usize,
    pub pipes_open: usize,
    /// Configurations of before that are still in use.
    pub snapshots_retired: usize,
    pub reloads_ok: u64,
    pub reloads_failed: u64,
    /// Of the last attempt; true before the first one, because the start-up configuration was accepted.
    pub last_reload_ok: bool,
    /// When the configuration in use was accepted.
    pub last_reload_unix_seconds: f64,
    pub access_log_lines: u64,
    pub access_log_dropped: u64,
    pub access_log_write_errors: u64,
}

/// The whole page.
pub fn render(scrape: &Scrape<'_>) -> String {
    let totals = Totals::of(scrape.cores);
    let mut page = Page::default();
    gateway(&mut page, scrape);
    workers(&mut page, scrape);
    connections(&mut page, &totals);
    tcp(&mut page, &totals, scrape.names);
    udp(&mut page, &totals);
    requests(&mut page, &totals, scrape.names);
    shadows(&mut page, &totals, scrape.names);
    endpoints(&mut page, &totals, scrape);
    breakers(&mut page, scrape.shared);
    concurrency(&mut page, scrape.shared);
    conversion(&mut page, scrape);
    key_sets(&mut page, &scrape.shared.key_sets);
    upstream(&mut page, &totals, scrape.shared);
    latencies(&mut page, totals, scrape.names);
    limits(&mut page, &scrape.shared.limits);
    authorizers(&mut page, &scrape.shared.authorizers);
    quotas(&mut page, &scrape.shared.quotas);
    page.gauge("tidegate_canary_share", "Part of a route's requests that is drawn for its canary.");
    for canary in &scrape.shared.canaries {
        page.sample(&[("route", &canary.route)], canary.share);
    }
    page.counter(
        "tidegate_canary_rollbacks_total",
        "Times that the route's canary was given up for how its requests fared.",
    );
    for canary in &scrape.shared.canaries {
        page.sample(&[("route", &canary.route)], canary.rollbacks_total);
    }
    access_log(&mut page, &scrape.gateway);
    process(&mut page, &scrape.process);
    page.text
}

fn gateway(page: &mut Page, scrape: &Scrape<'_>) {
    let stats = &scrape.gateway;
    page.gauge("tidegate_build_info", "Always 1; the version is in the label.");
    page.sample(&[("version", stats.version)], 1);
    page.gauge("tidegate_start_time_seconds", "When this process started, in seconds since 1970.");
    page.sample(&[], stats.started_unix_seconds);
    page.gauge("tidegate_config_generation", "Generation of the configuration in use.");
    page.sample(&[], scrape.shared.generation);
    if !scrape.shared.certificates.is_empty() {
        page.gauge(
            "tidegate_tls_certificate_not_after_timestamp_seconds",
            "When the certificate that is shown from this file ends.",
        );
    }
    for (file, not_after) in &scrape.shared.certificates {
        page.sample(&[("file", file)], not_after);
    }
    page.gauge(
        "tidegate_config_retired",
        "Configurations of before that requests under way still use, or that are not freed yet.",
    );
    page.sample(&[], stats.snapshots_retired);
    page.counter("tidegate_config_reloads_total", "Attempts to reload the configuration.");
    page.sample(&[("result", "ok")], stats.reloads_ok);
    page.sample(&[("result", "error")], stats.reloads_failed);
    page.gauge(
        "tidegate_config_last_reload_success",
        "Whether the last reload was accepted (1) or refused (0).",
    );
    page.sample(&[], u8::from(stats.last_reload_ok));
    page.gauge(
        "tidegate_config_last_reload_timestamp_seconds",
        "When the configuration in use was accepted, in seconds since 1970.",
    );
    page.sample(&[], stats.last_reload_unix_seconds);
}

fn workers(page: &mut Page, scrape: &Scrape<'_>) {
    page.gauge("tidegate_workers", "Worker threads, one per core.");
    page.sample(&[], scrape.gateway.workers);
    page.gauge("tidegate_workers_reporting", "Workers whose counters are in this scrape.");
    page.sample(&[], scrape.cores.len());
    page.gauge(
        "tidegate_worker_driver_info",
        "Always 1; the driver that each worker runs on is in the label.",
    );
    for core in scrape.cores {
        page.sample(&[("worker", &core.core.to_string()), ("driver", core.driver)], 1);
    }
    page.gauge("tidegate_worker_connections_active", "Client connections open now, by worker.");
    for core in scrape.cores {
        let active: u64 = core.listeners.iter().map(|listener| listener.counts.active()).sum();
        page.sample(&[("worker", &core.core.to_string())], active);
    }
    page.gauge(
        "tidegate_worker_buffer_bytes",
        "Buffers in use now, by worker; `limits.buffers` bounds them.",
    );
    for core in scrape.cores {
        page.sample(&[("worker", &core.core.to_string())], core.buffer_bytes);
    }
    page.counter(
        "tidegate_worker_connections_handed_over_total",
        "Client connections that a worker accepted and gave to one with fewer.",
    );
    for core in scrape.cores {
        page.sample(&[("worker", &core.core.to_string())], core.handed_over_total);
    }
    turning(page, scrape);
    page.gauge("tidegate_pipes_open", "Pipes for splicing, in use or kept for the next body.");
    page.sample(&[], scrape.gateway.pipes_open);
    page.counter("tidegate_panics_total", "Tasks that panicked and were contained.");
    page.sample(&[], scrape.cores.iter().map(|core| core.panics_total).sum::<u64>());
    page.counter("tidegate_faults_injected_total", "Delays and errors that routes have injected on purpose.");
    page.sample(&[], scrape.cores.iter().map(|core| core.faults_injected_total).sum::<u64>());
    page.counter(
        "tidegate_body_peeks_exceeded_total",
        "JSON bodies whose model did not stand in the part that is looked at.",
    );
    page.sample(&[], scrape.cores.iter().map(|core| core.peeks_exceeded_total).sum::<u64>());
    page.counter(
        "tidegate_tokens_verified_total",
        "Tokens verified by their signature, because the worker did not remember them.",
    );
    page.sample(&[], scrape.cores.iter().map(|core| core.tokens_verified_total).sum::<u64>());
    page.counter(
        "tidegate_tokens_waited_total",
        "Waits of requests for a turn of their worker that had time for another signature.",
    );
    page.sample(&[], scrape.cores.iter().map(|core| core.tokens_waited_total).sum::<u64>());
}

/// How promptly the workers turn to what is ready.
fn turning(page: &mut Page, scrape: &Scrape<'_>) {
    page.family(
        "tidegate_worker_lateness_seconds",
        "histogram",
        "How much later than asked for a task of the worker ran; tried four times a second.",
    );
    for core in scrape.cores {
        let mut lateness = LatencyTotal::default();
        lateness.add(&core.lateness);
        page.histogram("worker", &core.core.to_string(), &lateness);
    }
    page.gauge("tidegate_worker_stuck", "Whether the worker has not turned for a second or longer.");
    for (worker, stuck) in scrape.stuck.iter().enumerate() {
        page.sample(&[("worker", &worker.to_string())], u8::from(stuck.is_now));
    }
    page.counter("tidegate_worker_stuck_total", "Times that the worker was found stuck.");
    for (worker, stuck) in scrape.stuck.iter().enumerate() {
        page.sample(&[("worker", &worker.to_string())], stuck.total);
    }
}

fn connections(page: &mut Page, totals: &Totals) {
    let by_listener = |page: &mut Page, value: fn(&ConnectionCounts) -> u64| {
        for (name, counts) in &totals.listeners {
            page.sample(&[("listener", name)], value(counts));
        }
    };
    page.counter("tidegate_connections_total", "Client connections accepted and served.");
    by_listener(page, |counts| counts.opened);
    page.gauge("tidegate_connections_active", "Client connections open now.");
    by_listener(page, ConnectionCounts::active);
    page.counter("tidegate_connections_refused_total", "Client connections closed at once, over the limit.");
    by_listener(page, |counts| counts.refused);
    page.counter(
        "tidegate_connections_over_address_limit_total",
        "Client connections reset at once, because their address has as many as it may.",
    );
    by_listener(page, |counts| counts.over_address_limit);
    page.counter("tidegate_accept_errors_total", "Failed attempts to accept a connection.");
    by_listener(page, |counts| counts.accept_failed);
    page.counter(
        "tidegate_proxy_header_errors_total",
        "Load balancers' connections closed for a missing, malformed or late PROXY header.",
    );
    by_listener(page, |counts| counts.proxy_header_failed);
    page.counter(
        "tidegate_tls_handshakes_total",
        "TLS handshakes with clients by how they ended: with a new session, a resumed one, or not at all.",
    );
    for (name, counts) in &totals.listeners {
        for ended in Handshake::ALL {
            page.sample(&[("listener", name), ("result", ended.word())], counts.handshakes.of(ended));
        }
    }
    page.counter("tidegate_http2_connections_total", "Client connections that spoke HTTP/2.");
    by_listener(page, |counts| counts.http2.connections);
    page.counter("tidegate_http2_streams_total", "Streams that clients opened: requests over HTTP/2.");
    by_listener(page, |counts| counts.http2.streams);
    page.counter(
        "tidegate_http2_errors_total",
        "HTTP/2 connections that were broken off for what the client did, by the error code that it was given.",
    );
    for (name, counts) in &totals.listeners {
        for (code, count) in counts.http2.broken().filter(|(_, count)| *count > 0) {
            page.sample(&[("listener", name), ("code", code.word())], count);
        }
    }
    page.counter("tidegate_tunnels_total", "Upgrade and CONNECT tunnels opened.");
    page.sample(&[], totals.tunnels_total);
    page.gauge("tidegate_tunnels_active", "Upgrade and CONNECT tunnels open now.");
    page.sample(&[], totals.tunnels_active);
    page.counter("tidegate_spliced_bytes_total", "Bytes that went from socket to socket past user space.");
    page.sample(&[], totals.spliced_bytes_total);
}

fn tcp(page: &mut Page, totals: &Totals, names: &Names) {
    // By text, since several ids may share a label value (`_removed`).
    let mut by_name = BTreeMap::<(&str, &str), TcpCounts>::new();
    for ((listener, service), counts) in &totals.tcp {
        by_name.entry((listener, names.service(*service))).or_default().add(counts);
    }
    let each = |page: &mut Page, value: fn(&TcpCounts) -> u64| {
        for ((listener, service), counts) in &by_name {
            page.sample(&[("listener", listener), ("service", service)], value(counts));
        }
    };
    page.counter("tidegate_tcp_connections_total", "Connections accepted by TCP listeners.");
    each(page, |counts| counts.connections);
    page.counter(
        "tidegate_tcp_received_bytes_total",
        "Bytes from the clients of TCP listeners to endpoints.",
    );
    each(page, |counts| counts.received_bytes);
    page.counter("tidegate_tcp_sent_bytes_total", "Bytes from endpoints to the clients of TCP listeners.");
    each(page, |counts| counts.sent_bytes);
    page.counter(
        "tidegate_tcp_errors_total",
        "Connections of TCP listeners that ended with an error, by kind.",
    );
    for ((listener, service), counts) in &by_name {
        for (&kind, &count) in Kind::ALL.iter().zip(&counts.errors).filter(|&(_, &count)| count > 0) {
            page.sample(&[("listener", listener), ("service", service), ("kind", kind.word())], count);
        }
    }
}

/// A family stands here only where there are UDP listeners.
fn udp(page: &mut Page, totals: &Totals) {
    if totals.udp.is_empty() {
        return;
    }
    let by_listener = |page: &mut Page, value: fn(&UdpCounts) -> u64| {
        for (listener, counts) in &totals.udp {
            page.sample(&[("listener", listener)], value(counts));
        }
    };
    page.gauge("tidegate_udp_flows_active", "UDP flows open now.");
    by_listener(page, UdpCounts::flows_active);
    page.counter("tidegate_udp_flows_opened_total", "UDP flows opened.");
    by_listener(page, |counts| counts.flows_opened);
    page.counter("tidegate_udp_flows_ended_total", "UDP flows that are over, and why.");
    for (listener, counts) in &totals.udp {
        for (end, word) in FlowEnd::ALL {
            page.sample(&[("listener", listener), ("reason", word)], counts.flows_ended[end as usize]);
        }
    }
    page.counter("tidegate_udp_dropped_total", "Datagrams that were not passed on, and why.");
    for (listener, counts) in &totals.udp {
        for (why, word) in Dropped::ALL {
            page.sample(&[("listener", listener), ("reason", word)], counts.dropped[why as usize]);
        }
    }
    let both_ways = |page: &mut Page, value: fn(Traffic) -> u64| {
        for (listener, counts) in &totals.udp {
            page.sample(&[("listener", listener), ("to", "endpoint")], value(counts.to_endpoints));
            page.sample(&[("listener", listener), ("to", "client")], value(counts.to_clients));
        }
    };
    page.counter("tidegate_udp_datagrams_total", "Datagrams passed on.");
    both_ways(page, |traffic| traffic.datagrams);
    page.counter("tidegate_udp_bytes_total", "Bytes in the datagrams passed on.");
    both_ways(page, |traffic| traffic.bytes);
}

fn requests(page: &mut Page, totals: &Totals, names: &Names) {
    // By text, since several ids may share a label value (`_removed`) and no series may appear twice.
    let mut by_series = BTreeMap::<(&str, &str, Status), RequestCounts>::new();
    let mut by_route = BTreeMap::<&str, RequestCounts>::new();
    for (&(route, service, status), counts) in &totals.series {
        let route = names.route(route);
        by_series.entry((route, names.service(service), Status::of(status))).or_default().add(counts);
        by_route.entry(route).or_default().add(counts);
    }
    page.counter("tidegate_requests_total", "Requests finished. An empty route or service: none was chosen.");
    for ((route, service, status), counts) in &by_series {
        page.sample(&[("route", route), ("service", service), ("status", &status.text())], counts.requests);
    }
    page.gauge("tidegate_requests_active", "Requests under way now.");
    page.sample(&[], totals.requests_active);
    page.counter(
        "tidegate_request_errors_total",
        "Requests that the gateway ended with an error of its own.",
    );
    for (&kind, &count) in Kind::ALL.iter().zip(&totals.errors.0) {
        page.sample(&[("kind", kind.word())], count);
    }
    page.counter("tidegate_request_bytes_total", "Request body bytes read from clients.");
    for (route, counts) in &by_route {
        page.sample(&[("route", route)], counts.request_bytes);
    }
    page.counter("tidegate_response_bytes_total", "Response body bytes sent to clients.");
    for (route, counts) in &by_route {
        page.sample(&[("route", route)], counts.response_bytes);
    }
}

/// A status code a client may see, or anything else an upstream made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Status(Option<u16>);

impl Status {
    fn of(status: u16) -> Self {
        Status((100..600).contains(&status).then_some(status))
    }

    fn text(self) -> String {
        self.0.map_or_else(|| OTHER.to_owned(), |status| status.to_string())
    }
}

fn shadows(page: &mut Page, totals: &Totals, names: &Names) {
    let mut by_series = BTreeMap::<(&str, &str, Status), RequestCounts>::new();
    for (&(route, service, status), counts) in &totals.shadows {
        let key = (names.route(route), names.service(service), Status::of(status));
        by_series.entry(key).or_default().add(counts);
    }
    page.counter("tidegate_shadow_requests_total", "Shadows finished, and how they were answered.");
    for ((route, service, status), counts) in &by_series {
        page.sample(&[("route", route), ("service", service), ("status", &status.text())], counts.requests);
    }
    page.counter("tidegate_shadows_skipped_total", "Requests that were to have a shadow and have none.");
    for (reason, skipped) in ["too_large", "busy"].into_iter().zip(totals.shadows_skipped) {
        page.sample(&[("reason", reason)], skipped);
    }
}

fn latencies(page: &mut Page, totals: Totals, names: &Names) {
    let by_route = by_name(totals.durations, |id| names.route(id));
    page.family(
        "tidegate_request_duration_seconds",
        "histogram",
        "First byte of the request to last of the response.",
    );
    for (route, latency) in &by_route {
        page.histogram("route", route, latency);
    }
    for (name, help, latencies) in [
        (
            "tidegate_upstream_duration_seconds",
            "Begin of a try to the first byte of its response.",
            totals.first_bytes,
        ),
        (
            "tidegate_shadow_upstream_duration_seconds",
            "Begin of a shadow's try to the first byte of its response.",
            totals.shadow_first_bytes,
        ),
    ] {
        page.family(name, "histogram", help);
        for (service, latency) in &by_name(latencies, |id| names.service(id)) {
            page.histogram("service", service, latency);
        }
    }
}

fn by_name<'n>(
    latencies: BTreeMap<SeriesId, LatencyTotal>,
    name: impl Fn(SeriesId) -> &'n str,
) -> BTreeMap<&'n str, LatencyTotal> {
    let mut named = BTreeMap::<&str, LatencyTotal>::new();
    for (id, latency) in latencies {
        match named.entry(name(id)) {
            // Moved, not added: a histogram is 26 KiB.
            Entry::Vacant(entry) => drop(entry.insert(latency)),
            Entry::Occupied(mut entry) => entry.get_mut().merge(&latency),
        }
    }
    named
}

fn endpoints(page: &mut Page, totals: &Totals, scrape: &Scrape<'_>) {
    let mut shared = BTreeMap::new();
    let mut counted = BTreeMap::<(&str, &str), EndpointCounts>::new();
    for endpoint in scrape.shared.services.iter().flat_map(|service| &service.endpoints) {
        let id = SeriesId::Known(endpoint.id);
        let name = scrape.names.endpoint(id);
        shared.insert((name, id), endpoint);
        // Counters exist from the start, so that the first failure is a step and not a birth.
        counted.entry(name).or_default();
    }
    for (&id, counts) in &totals.endpoints {
        counted.entry(scrape.names.endpoint(id)).or_default().add(counts);
    }
    let of_shared = |page: &mut Page, value: fn(&EndpointReport) -> u64| {
        for (((service, endpoint), _), report) in &shared {
            page.sample(&[("service", service), ("endpoint", endpoint)], value(report));
        }
    };
    page.gauge("tidegate_endpoint_in_flight", "Requests under way to this endpoint now.");
    of_shared(page, |report| u64::from(report.in_flight));
    page.gauge(
        "tidegate_endpoint_up",
        "1 if this endpoint may have requests; 0 while ejected, down or drained.",
    );
    of_shared(page, |report| u64::from(report.is_usable));
    page.counter(
        "tidegate_endpoint_ejections_total",
        "Times that this endpoint was left out for failures in a row.",
    );
    of_shared(page, |report| report.ejections_total);
    page.counter("tidegate_endpoint_checks_total", "Health checks of this endpoint.");
    of_shared(page, |report| report.checks_total);
    page.counter("tidegate_endpoint_failed_checks_total", "Those that failed.");
    of_shared(page, |report| report.failed_checks_total);
    let by_endpoint = |page: &mut Page, value: fn(&EndpointCounts) -> u64| {
        for ((service, endpoint), counts) in &counted {
            page.sample(&[("service", service), ("endpoint", endpoint)], value(counts));
        }
    };
    page.counter(
        "tidegate_endpoint_requests_total",
        "Requests finished whose last try went to this endpoint.",
    );
    by_endpoint(page, |counts| counts.requests);
    page.counter("tidegate_endpoint_connections_total", "Connections made to this endpoint.");
    by_endpoint(page, |counts| counts.connections);
    page.counter("tidegate_endpoint_connect_failures_total", "Connections to this endpoint that failed.");
    by_endpoint(page, |counts| counts.connect_failures);
}

fn breakers(page: &mut Page, shared: &SharedReport) {
    let breakers = || shared.services.iter().filter_map(|service| Some((&service.name, service.breaker?)));
    let all = |page: &mut Page, value: fn(&BreakerReport) -> u64| {
        breakers().for_each(|(name, breaker)| page.sample(&[("service", name)], value(&breaker)));
    };
    page.gauge(
        "tidegate_breaker_state",
        "0: passing, 1: shedding half of the requests, 2: open, 3: half-open.",
    );
    all(page, |breaker| breaker.state as u64);
    page.counter("tidegate_breaker_opened_total", "Times that the breaker opened.");
    all(page, |breaker| breaker.opened_total);
    page.counter("tidegate_breaker_rejected_total", "Requests that the breaker answered.");
    all(page, |breaker| breaker.rejected_total);
}

fn key_sets(page: &mut Page, key_sets: &[KeySetReport]) {
    // Two ways of verifying may share a set, or fetch it each for itself.
    let mut by_url = BTreeMap::<_, (u64, u64)>::new();
    for set in key_sets {
        let (fetches, failed) = by_url.entry(redact::text(&set.url)).or_default();
        *fetches += set.fetches_total;
        *failed += set.failed_total;
    }
    page.counter("tidegate_key_fetches_total", "Attempts to fetch the key set of a URL.");
    for (url, (fetches, _)) in &by_url {
        page.sample(&[("url", url)], *fetches);
    }
    page.counter(
        "tidegate_key_fetches_failed_total",
        "Those of which nothing came: the keys before stay in use.",
    );
    for (url, (_, failed)) in &by_url {
        page.sample(&[("url", url)], *failed);
    }
}

fn concurrency(page: &mut Page, shared: &SharedReport) {
    let bounded = || shared.services.iter().filter_map(|service| Some((&service.name, service.concurrency?)));
    let all = |page: &mut Page, value: fn(&ConcurrencyReport) -> u64| {
        bounded().for_each(|(name, report)| page.sample(&[("service", name)], value(&report)));
    };
    page.gauge("tidegate_service_places_taken", "Requests that have a place at their service now.");
    all(page, |report| u64::from(report.taken));
    page.gauge("tidegate_service_waiting", "Requests that wait for a place now.");
    all(page, |report| u64::from(report.waiting));
    page.counter(
        "tidegate_service_queue_refused_total",
        "Requests that found no place in line, or had to make room there for another tenant's.",
    );
    all(page, |report| report.refused_total);
}

fn conversion(page: &mut Page, scrape: &Scrape<'_>) {
    page.gauge(
        "tidegate_conversion_bytes",
        "Memory that a service's requests hold while they are being converted.",
    );
    for service in &scrape.shared.services {
        if let Some(bytes) = service.conversion_bytes {
            page.sample(&[("service", &service.name)], bytes);
        }
    }
    let ComputeStats { waiting, done, left, refused, panicked } = scrape.gateway.compute;
    page.gauge("tidegate_compute_jobs_waiting", "Conversions that wait for a thread.");
    page.sample(&[], waiting);
    page.counter(
        "tidegate_compute_jobs_total",
        "Conversions by how they ended: done, left by their client, refused since too many waited, or by a panic.",
    );
    for (result, count) in [("done", done), ("left", left), ("refused", refused), ("panicked", panicked)] {
        page.sample(&[("result", result)], count);
    }
}

fn upstream(page: &mut Page, totals: &Totals, shared: &SharedReport) {
    page.counter("tidegate_upstream_connections_opened_total", "Connections made to endpoints.");
    page.sample(&[], totals.upstream.opened);
    page.counter("tidegate_upstream_connections_reused_total", "Tries sent over a pooled connection.");
    page.sample(&[], totals.upstream.reused);
    page.gauge("tidegate_upstream_idle_connections", "Pooled connections idle now.");
    page.sample(&[], totals.upstream.idle);
    let by_service = |page: &mut Page, value: fn(&ServiceReport) -> u64| {
        for service in &shared.services {
            page.sample(&[("service", &service.name)], value(service));
        }
    };
    page.counter("tidegate_retries_total", "Tries after the first one.");
    by_service(page, |service| service.retries_total);
    page.counter("tidegate_retries_refused_total", "Retries not made because the retry budget was spent.");
    by_service(page, |service| service.retries_refused_total);
}

fn limits(page: &mut Page, limits: &[LimitReport]) {
    page.counter("tidegate_limit_refused_total", "Requests that found no token in a limit.");
    for limit in limits {
        page.sample(&[("limit", &limit.name)], limit.refused_total);
    }
    page.counter(
        "tidegate_limit_overflowed_total",
        "Requests whose key found no place in a limit: they share a bucket.",
    );
    for limit in limits {
        page.sample(&[("limit", &limit.name)], limit.overflowed_total);
    }
}

fn authorizers(page: &mut Page, authorizers: &[AuthorizerReport]) {
    page.counter("tidegate_authorizer_questions_total", "What authorizers were asked, and how that ended.");
    for authorizer in authorizers {
        for (result, count) in [
            ("allowed", authorizer.allowed_total),
            ("denied", authorizer.denied_total),
            ("failed", authorizer.failed_total),
        ] {
            page.sample(&[("authorizer", &authorizer.name), ("result", result)], count);
        }
    }
}

fn quotas(page: &mut Page, quotas: &[QuotaReport]) {
    // Two ways of identifying may have one file.
    let by_file: BTreeMap<&str, &QuotaReport> = quotas.iter().map(|quota| (&*quota.file, quota)).collect();
    page.counter("tidegate_quota_refused_total", "Requests of API keys that had none left in a period.");
    for (file, quota) in &by_file {
        for (period, refused) in Period::ALL.iter().zip(quota.refused_total) {
            page.sample(&[("file", file), ("period", period.word())], refused);
        }
    }
    page.counter(
        "tidegate_quota_write_errors_total",
        "Times that a quota file could not be written; what was used since is lost if the gateway ends.",
    );
    for (file, quota) in &by_file {
        page.sample(&[("file", file)], quota.write_errors_total);
    }
}

fn access_log(page: &mut Page, stats: &GatewayStats) {
    page.counter("tidegate_access_log_lines_total", "Access log lines written.");
    page.sample(&[], stats.access_log_lines);
    page.counter(
        "tidegate_access_log_dropped_total",
        "Access log lines dropped: full queue or failed write.",
    );
    page.sample(&[], stats.access_log_dropped);
    page.counter("tidegate_access_log_write_errors_total", "Failed writes of the access log.");
    page.sample(&[], stats.access_log_write_errors);
}

fn process(page: &mut Page, stats: &ProcessStats) {
    if let Some(bytes) = stats.resident_bytes {
        page.gauge("process_resident_memory_bytes", "Resident memory.");
        page.sample(&[], bytes);
    }
    if let Some(fds) = stats.open_fds {
        page.gauge("process_open_fds", "Open file descriptors.");
        page.sample(&[], fds);
    }
    if let Some(seconds) = stats.cpu_seconds {
        page.counter("process_cpu_seconds_total", "User and system CPU time used.");
        page.sample(&[], seconds);
    }
}

/// The text, and the family that samples now belong to.
#[derive(Debug, Default)]
struct Page {
    text: String,
    family: &'static str,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.suffixed("", labels, value);
    }

    fn histogram(&mut self, label: &'static str, name: &str, latency: &LatencyTotal) {
        for (bound, count) in BUCKETS_SECONDS.iter().zip(latency.cumulative()) {
            self.suffixed("_bucket", &[(label, name), ("le", &bound.to_string())], count);
        }
        self.suffixed("_bucket", &[(label, name), ("le", "+Inf")], latency.count());
        self.suffixed("_sum", &[(label, name)], latency.sum_seconds());
        self.suffixed("_count", &[(label, name)], latency.count());
    }

    fn suffixed(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        for (i, (name, value)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"");
            self.escaped(value);
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// The format escapes exactly these three in label values.
    fn escaped(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
    }
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
