//! Owns the copy of one core's counters that crosses threads on a scrape, the sum of all cores, and a reading
//! of what the cores share. Plain data by id: names come in with `observe::names`, text with
//! `observe::prometheus`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::balance::health::Standing;
use crate::config::snapshot::{EndpointState, Service, Snapshot, StableId};
use crate::error::Kind;
use crate::http::h2::frame::Code;
use crate::observe::histogram::{Latency, LatencyTotal};
use crate::observe::tcp::{TcpCounts, TcpReport};
use crate::observe::udp::UdpCounts;
use crate::policy::breaker;
use crate::policy::quota::{Ledger, Period};
use crate::proxy::canary::WHOLE;
use crate::runtime::clock::{self, Millis};

/// One core's counters at one moment.
#[derive(Debug, Clone)]
pub struct CoreReport {
    pub core: usize,
    pub driver: &'static str,
    pub listeners: Vec<ListenerReport>,
    pub requests_active: u64,
    pub series: Vec<SeriesReport>,
    /// Whole request, by route.
    pub durations: Vec<(SeriesId, Latency)>,
    /// To the first byte of the response head, by service.
    pub first_bytes: Vec<(SeriesId, Latency)>,
    /// As `series` and `first_bytes`, of shadows.
    pub shadows: Vec<SeriesReport>,
    pub shadow_first_bytes: Vec<(SeriesId, Latency)>,
    /// By `Skipped as usize`.
    pub shadows_skipped: [u64; 2],
    /// By `Kind as usize`.
    pub errors: ErrorCounts,
    pub endpoints: Vec<(SeriesId, EndpointCounts)>,
    pub upstream: UpstreamCounts,
    pub tunnels_total: u64,
    pub tunnels_active: u64,
    /// A gauge.
    pub buffer_bytes: u64,
    /// Connections accepted here and served by another core.
    pub handed_over_total: u64,
    /// How late tasks ran.
    pub lateness: Latency,
    pub spliced_bytes_total: u64,
    pub panics_total: u64,
    pub faults_injected_total: u64,
    pub peeks_exceeded_total: u64,
    pub tokens_verified_total: u64,
    pub tokens_waited_total: u64,
    pub tcp: Vec<TcpReport>,
    pub udp: Vec<(Box<str>, UdpCounts)>,
}

/// Whose counter it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeriesId {
    Known(StableId),
    /// No route matched, or no service was asked.
    None,
    /// Beyond the bound on different ids.
    Other,
}

#[derive(Debug, Clone)]
pub struct ListenerReport {
    pub name: Box<str>,
    pub counts: ConnectionCounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    pub opened: u64,
    pub closed: u64,
    pub refused: u64,
    pub over_address_limit: u64,
    pub accept_failed: u64,
    pub proxy_header_failed: u64,
    pub handshakes: HandshakeCounts,
    pub http2: Http2Counts,
}

/// What came over HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Http2Counts {
    pub connections: u64,
    pub streams: u64,
    /// Connections that we broke off, by the error code that we gave.
    broken: [u64; Code::ALL.len()],
}

impl Http2Counts {
    pub fn broke_off(&mut self, code: Code) {
        self.broken[code as usize] += 1;
    }

    /// Each code that was given, and how often.
    pub fn broken(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL.into_iter().zip(self.broken)
    }

    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.streams += other.streams;
        self.broken.iter_mut().zip(other.broken).for_each(|(ours, theirs)| *ours += theirs);
    }
}

/// How TLS handshakes ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandshakeCounts([u64; Handshake::ALL.len()]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Full,
    Resumed,
    /// The client broke the protocol, or nothing it offered is spoken here.
    Failed,
    /// The client went away before it was over.
    ClientClosed,
    Timeout,
}

impl Handshake {
    pub const ALL: [Handshake; 5] =
        [Handshake::Full, Handshake::Resumed, Handshake::Failed, Handshake::ClientClosed, Handshake::Timeout];

    /// As the label has it.
    pub fn word(self) -> &'static str {
        match self {
            Handshake::Full => "full",
            Handshake::Resumed => "resumed",
            Handshake::Failed => "failed",
            Handshake::ClientClosed => "client_closed",
            Handshake::Timeout => "timeout",
        }
    }
}

impl HandshakeCounts {
    pub fn count(&mut self, handshake: Handshake) {
        self.0[handshake as usize] += 1;
    }

    pub fn of(&self, handshake: Handshake) -> u64 {
        self.0[handshake as usize]
    }
}

#[derive(Debug, Clone, Copy)]
pub struct SeriesReport {
    pub route: SeriesId,
    pub service: SeriesId,
    pub status: u16,
    pub counts: RequestCounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    pub requests: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointCounts {
    pub requests: u64,
    pub connections: u64,
    pub connect_failures: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamCounts {
    pub opened: u64,
    pub reused: u64,
    /// A gauge.
    pub idle: u64,
}

/// By the number of each kind.
#[derive(Debug, Clone)]
pub struct ErrorCounts(pub [u64; Kind::ALL.len()]);

impl Default for ErrorCounts {
    fn default() -> ErrorCounts {
        ErrorCounts([0; Kind::ALL.len()])
    }
}

/// All cores together.
#[derive(Debug, Default)]
pub struct Totals {
    pub listeners: BTreeMap<Box<str>, ConnectionCounts>,
    pub requests_active: u64,
    pub series: BTreeMap<(SeriesId, SeriesId, u16), RequestCounts>,
    pub durations: BTreeMap<SeriesId, LatencyTotal>,
    pub first_bytes: BTreeMap<SeriesId, LatencyTotal>,
    pub shadows: BTreeMap<(SeriesId, SeriesId, u16), RequestCounts>,
    pub shadow_first_bytes: BTreeMap<SeriesId, LatencyTotal>,
    pub shadows_skipped: [u64; 2],
    pub errors: ErrorCounts,
    pub endpoints: BTreeMap<SeriesId, EndpointCounts>,
    pub upstream: UpstreamCounts,
    pub tunnels_total: u64,
    pub tunnels_active: u64,
    pub spliced_bytes_total: u64,
    pub panics_total: u64,
    pub tcp: BTreeMap<(Box<str>, SeriesId), TcpCounts>,
    pub udp: BTreeMap<Box<str>, UdpCounts>,
}

/// What all cores share, read from a snapshot's state. Relaxed: each number is right by itself.
#[derive(Debug, Clone, Default)]
pub struct SharedReport {
    pub generation: u64,
    pub services: Vec<ServiceReport>,
    /// Of each `[auth.NAME]` whose keys are fetched.
    pub key_sets: Vec<KeySetReport>,
    pub limits: Vec<LimitReport>,
    pub authorizers: Vec<AuthorizerReport>,
    /// Of each quota file.
    pub quotas: Vec<QuotaReport>,
    /// Of the routes that have one.
    pub canaries: Vec<CanaryReport>,
    /// Files of the certificates that are shown, and when these end, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
}

#[derive(Debug, Clone)]
pub struct CanaryReport {
    pub route: Arc<str>,
    /// Of a whole.
    pub share: f64,
    pub rollbacks_total: u64,
}

/// Fetching the key set of one URL.
#[derive(Debug, Clone)]
pub struct KeySetReport {
    pub url: Box<str>,
    pub fetches_total: u64,
    pub failed_total: u64,
}

#[derive(Debug, Clone)]
pub struct AuthorizerReport {
    pub name: Arc<str>,
    pub allowed_total: u64,
    pub denied_total: u64,
    pub failed_total: u64,
}

#[derive(Debug, Clone)]
pub struct LimitReport {
    pub name: Arc<str>,
    pub refused_total: u64,
    pub overflowed_total: u64,
}

#[derive(Debug, Clone)]
pub struct QuotaReport {
    pub file: String,
    /// In the order of `Period::ALL`.
    pub refused_total: [u64; Period::ALL.len()],
    pub write_errors_total: u64,
}

#[derive(Debug, Clone)]
pub struct ServiceReport {
    pub name: Arc<str>,
    pub retries_total: u64,
    pub retries_refused_total: u64,
    /// If it has one.
    pub breaker: Option<BreakerReport>,
    pub concurrency: Option<ConcurrencyReport>,
    /// Bytes that its conversions hold, if it has a model.
    pub conversion_bytes: Option<u64>,
    pub endpoints: Vec<EndpointReport>,
}

#[derive(Debug, Clone, Copy)]
pub struct ConcurrencyReport {
    pub taken: u32,
    pub waiting: u32,
    pub refused_total: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct BreakerReport {
    pub state: breaker::State,
    pub rejected_total: u64,
    pub opened_total: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct EndpointReport {
    pub id: StableId,
    pub in_flight: u32,
    pub is_usable: bool,
    pub ejections_total: u64,
    pub checks_total: u64,
    pub failed_checks_total: u64,
}

impl SharedReport {
    pub fn of(snapshot: &Snapshot) -> Self {
        let now = clock::millis(Instant::now());
        let services = snapshot.services.iter().map(|service| ServiceReport::of(service, now)).collect();
        let certificates = snapshot.tls_files.iter();
        let certificates =
            certificates.filter_map(|file| Some((file.path.display().to_string(), file.not_after?)));
        let limits = snapshot.limits.iter().map(|limit| LimitReport {
            name: limit.name.clone(),
            refused_total: limit.buckets.refused_total.load(Relaxed),
            overflowed_total: limit.buckets.overflowed_total.load(Relaxed),
        });
        let canaries = snapshot.routes.routes().iter().filter_map(|route| {
            let share = &route.canary.as_ref()?.share;
            Some(CanaryReport {
                route: route.name.clone(),
                share: f64::from(share.now()) / f64::from(WHOLE),
                rollbacks_total: share.rollbacks_total.load(Relaxed),
            })
        });
        let remote = snapshot.auths.iter().filter_map(|auth| auth.jwt.as_ref()?.keys.remote());
        let key_sets = remote.map(|keys| KeySetReport {
            url: keys.source.url.clone(),
            fetches_total: keys.attempts(),
            failed_total: keys.failed_total.load(Relaxed),
        });
        let authorizers = snapshot.authorizers.iter().map(|authorizer| AuthorizerReport {
            name: authorizer.name.clone(),
            allowed_total: authorizer.counts.allowed.load(Relaxed),
            denied_total: authorizer.counts.denied.load(Relaxed),
            failed_total: authorizer.counts.failed.load(Relaxed),
        });
        SharedReport {
            authorizers: authorizers.collect(),
            key_sets: key_sets.collect(),
            generation: snapshot.generation,
            services,
            limits: limits.collect(),
            quotas: snapshot
                .auths
                .iter()
                .filter_map(|auth| auth.ledger())
                .map(|ledger| QuotaReport::of(ledger))
                .collect(),
            canaries: canaries.collect(),
            certificates: certificates.collect(),
        }
    }
}

impl QuotaReport {
    fn of(ledger: &Ledger) -> Self {
        QuotaReport {
            file: ledger.file.display().to_string(),
            refused_total: Period::ALL.map(|period| ledger.refused(period).load(Relaxed)),
            write_errors_total: ledger.write_errors_total.load(Relaxed),
        }
    }
}

impl ServiceReport {
    fn of(service: &Service, now: Millis) -> Self {
        let endpoints = service.endpoints.iter().map(|endpoint| {
            let EndpointState { in_flight, health } = &*endpoint.state;
            EndpointReport {
                id: endpoint.id,
                in_flight: in_flight.load(Relaxed),
                is_usable: health.standing(now) == Standing::Usable,
                ejections_total: health.ejections_total.load(Relaxed),
                checks_total: health.checks_total.load(Relaxed),
                failed_checks_total: health.failed_checks_total.load(Relaxed),
            }
        });
        let breaker = service.health.breaker.as_ref().map(|_| BreakerReport {
            state: service.state.breaker.state().0,
            rejected_total: service.state.breaker.rejected_total.load(Relaxed),
            opened_total: service.state.breaker.opened_total.load(Relaxed),
        });
        let concurrency = service.concurrency.as_ref().map(|_| {
            let (taken, waiting) = service.state.places.counts();
            let refused_total = service.state.places.refused_total.load(Relaxed);
            ConcurrencyReport { taken, waiting, refused_total }
        });
        ServiceReport {
            concurrency,
            conversion_bytes: service.model.as_ref().map(|_| service.state.memory.held()),
            name: service.name.clone(),
            retries_total: service.state.retries_total.load(Relaxed),
            retries_refused_total: service.state.retries_refused_total.load(Relaxed),
            breaker,
            endpoints: endpoints.collect(),
        }
    }
}

impl Totals {
    pub fn of(reports: &[CoreReport]) -> Self {
        let mut totals = Totals::default();
        for report in reports {
            totals.add(report);
        }
        totals
    }

    fn add(&mut self, report: &CoreReport) {
        for listener in &report.listeners {
            self.listeners.entry(listener.name.clone()).or_default().add(&listener.counts);
        }
        for series in &report.series {
            self.series.entry((series.route, series.service, series.status)).or_default().add(&series.counts);
        }
        for (route, latency) in &report.durations {
            self.durations.entry(*route).or_default().add(latency);
        }
        for (service, latency) in &report.first_bytes {
            self.first_bytes.entry(*service).or_default().add(latency);
        }
        for series in &report.shadows {
            self.shadows
                .entry((series.route, series.service, series.status))
                .or_default()
                .add(&series.counts);
        }
        for (service, latency) in &report.shadow_first_bytes {
            self.shadow_first_bytes.entry(*service).or_default().add(latency);
        }
        for (total, skipped) in self.shadows_skipped.iter_mut().zip(report.shadows_skipped) {
            *total += skipped;
        }
        for (total, errors) in self.errors.0.iter_mut().zip(report.errors.0) {
            *total += errors;
        }
        for (endpoint, counts) in &report.endpoints {
            self.endpoints.entry(*endpoint).or_default().add(counts);
        }
        for tcp in &report.tcp {
            self.tcp.entry((tcp.listener.clone(), tcp.service)).or_default().add(&tcp.counts);
        }
        for (listener, counts) in &report.udp {
            self.udp.entry(listener.clone()).or_default().add(counts);
        }
        self.upstream.add(&report.upstream);
        self.requests_active += report.requests_active;
        self.tunnels_total += report.tunnels_total;
        self.tunnels_active += report.tunnels_active;
        self.spliced_bytes_total += report.spliced_bytes_total;
        self.panics_total += report.panics_total;
    }
}

impl ConnectionCounts {
    pub fn active(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.refused += other.refused;
        self.over_address_limit += other.over_address_limit;
        self.accept_failed += other.accept_failed;
        self.proxy_header_failed += other.proxy_header_failed;
        for (ours, theirs) in self.handshakes.0.iter_mut().zip(other.handshakes.0) {
            *ours += theirs;
        }
        self.http2.add(&other.http2);
    }
}

impl RequestCounts {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
    }
}

impl EndpointCounts {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.connections += other.connections;
        self.connect_failures += other.connect_failures;
    }
}

impl UpstreamCounts {
    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.reused += other.reused;
        self.idle += other.idle;
    }
}
