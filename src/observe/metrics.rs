//! Owns what one worker counts: connections, requests, errors, upstream use, latencies. Lives on one core in
//! an `Rc`; plain cells, no atomics, no locks, and no allocation once a label combination has been seen.
//! Does not merge cores (`observe::report`), name anything or render (`observe::prometheus`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use crate::config::id_hash::IdHash;
use crate::config::snapshot::StableId;
use crate::error::Kind;
use crate::http::h2::frame::Code;
use crate::observe::histogram::Latency;
pub use crate::observe::report::CoreReport;
use crate::observe::report::{
    ConnectionCounts, EndpointCounts, ErrorCounts, Handshake, ListenerReport, RequestCounts, SeriesId,
    SeriesReport, UpstreamCounts,
};
use crate::observe::tcp::TcpTable;
use crate::observe::udp::UdpListeners;
use crate::proxy::shadow::Skipped;

/// Everything one worker counts.
#[derive(Debug)]
pub struct CoreMetrics {
    core: usize,
    driver: Cell<&'static str>,
    listeners: RefCell<Vec<ListenerReport>>,
    requests: RefCell<RequestTable>,
    shadows: RefCell<RequestTable>,
    shadows_skipped: [Cell<u64>; 2],
    requests_active: Cell<u64>,
    errors: [Cell<u64>; Kind::ALL.len()],
    endpoints: RefCell<EndpointTable>,
    upstream: Cell<UpstreamCounts>,
    tunnels_total: Cell<u64>,
    tunnels_active: Cell<u64>,
    buffer_bytes: Cell<u64>,
    handed_over_total: Cell<u64>,
    lateness: RefCell<Latency>,
    spliced_bytes_total: Cell<u64>,
    panics_total: Cell<u64>,
    faults_injected_total: Cell<u64>,
    peeks_exceeded_total: Cell<u64>,
    tokens_verified_total: Cell<u64>,
    tokens_waited_total: Cell<u64>,
    pub tcp: TcpTable,
    pub udp: UdpListeners,
}

/// How one request ended; made once, when nothing more can happen to it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// `None`: no route matched, or the head could not be read.
    pub route: Option<StableId>,
    /// `None`: the gateway answered by itself.
    pub service: Option<StableId>,
    /// The endpoint of the last try.
    pub endpoint: Option<StableId>,
    /// As sent to the client, or as it would have been (499).
    pub status: u16,
    pub error: Option<Kind>,
    /// Body bytes read from the client.
    pub request_bytes: u64,
    /// Body bytes sent to the client.
    pub response_bytes: u64,
    /// From the first byte of the head to the last byte of the response.
    pub duration: Duration,
    /// From the last try's begin to the first byte of its response head.
    pub upstream_first_byte: Option<Duration>,
    /// 0: no endpoint was tried.
    pub tries: u32,
}

/// A listener's place in one core's table; from `CoreMetrics::listener`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerIndex(u16);

impl CoreMetrics {
    pub fn new(core: usize) -> Self {
        CoreMetrics {
            core,
            driver: Cell::new("unknown"),
            listeners: RefCell::default(),
            requests: RefCell::default(),
            shadows: RefCell::default(),
            shadows_skipped: Default::default(),
            requests_active: Cell::new(0),
            errors: [const { Cell::new(0) }; Kind::ALL.len()],
            endpoints: RefCell::default(),
            upstream: Cell::default(),
            tunnels_total: Cell::new(0),
            tunnels_active: Cell::new(0),
            buffer_bytes: Cell::new(0),
            handed_over_total: Cell::new(0),
            lateness: RefCell::default(),
            spliced_bytes_total: Cell::new(0),
            panics_total: Cell::new(0),
            faults_injected_total: Cell::new(0),
            peeks_exceeded_total: Cell::new(0),
            tokens_verified_total: Cell::new(0),
            tokens_waited_total: Cell::new(0),
            tcp: TcpTable::default(),
            udp: UdpListeners::default(),
        }
    }

    /// Which driver this worker runs on ("uring", "uring-plain", "epoll").
    pub fn set_driver(&self, driver: &'static str) {
        self.driver.set(driver);
    }

    /// The place of a listener's counters, the same for the same name for as long as this core lives, so that
    /// a listener that a reload removes and a later one brings back goes on counting.
    pub fn listener(&self, name: &str) -> ListenerIndex {
        let mut listeners = self.listeners.borrow_mut();
        let found = listeners.iter().position(|l| &*l.name == name);
        let index = found.unwrap_or_else(|| {
            if listeners.len() < LISTENERS_MAX {
                listeners.push(ListenerReport { name: name.into(), counts: ConnectionCounts::default() });
            }
            listeners.len() - 1
        });
        ListenerIndex(index as u16)
    }

    pub fn connection_opened(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.opened += 1);
    }

    pub fn connection_closed(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.closed += 1);
    }

    /// Accepted and closed at once, because `connections_max` was reached. Not also opened.
    pub fn connection_refused(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.refused += 1);
    }

    /// Reset at once, because its address has as many as it may.
    pub fn connection_over_address_limit(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.over_address_limit += 1);
    }

    pub fn accept_failed(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.accept_failed += 1);
    }

    /// A connection that this core accepted is served by another one. Not also opened here.
    pub fn connection_handed_over(&self) {
        increment(&self.handed_over_total);
    }

    /// How much later than asked for a task of this core ran.
    pub fn turned_late(&self, late: Duration) {
        self.lateness.borrow_mut().record(late);
    }

    /// A load balancer's connection was closed for a missing, malformed or late PROXY header.
    pub fn proxy_header_failed(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.proxy_header_failed += 1);
    }

    /// A TLS handshake with a client ended so.
    pub fn handshake(&self, listener: ListenerIndex, ended: Handshake) {
        self.on_listener(listener, |counts| counts.handshakes.count(ended));
    }

    /// A connection speaks HTTP/2.
    pub fn http2_begun(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.http2.connections += 1);
    }

    /// A stream was opened on one.
    pub fn http2_stream(&self, listener: ListenerIndex) {
        self.on_listener(listener, |counts| counts.http2.streams += 1);
    }

    /// One was broken off with this code.
    pub fn http2_broke_off(&self, listener: ListenerIndex, code: Code) {
        self.on_listener(listener, |counts| counts.http2.broke_off(code));
    }

    /// Connections open on this core now, all listeners together.
    pub fn connections_active(&self) -> u64 {
        self.listeners.borrow().iter().map(|l| l.counts.active()).sum()
    }

    /// A request's head has begun to arrive. Exactly one `request` must follow.
    pub fn request_started(&self) {
        increment(&self.requests_active);
    }

    pub fn requests_active(&self) -> u64 {
        self.requests_active.get()
    }

    /// A request is over. Ends what `request_started` began.
    pub fn request(&self, outcome: &Outcome) {
        decrement(&self.requests_active);
        self.requests.borrow_mut().count(outcome);
        if let Some(kind) = outcome.error {
            increment(&self.errors[kind as usize]);
        }
        self.at_endpoint(outcome);
    }

    /// A shadow is over. No `request_started` has announced it.
    pub fn shadow(&self, outcome: &Outcome) {
        self.shadows.borrow_mut().count(outcome);
        self.at_endpoint(outcome);
    }

    /// An authorizer has been asked.
    pub fn question(&self, outcome: &Outcome) {
        self.at_endpoint(outcome);
    }

    fn at_endpoint(&self, outcome: &Outcome) {
        if let Some(endpoint) = outcome.endpoint {
            self.endpoints.borrow_mut().of(endpoint).requests += 1;
        }
    }

    /// A request that was to have a shadow has none.
    pub fn shadow_skipped(&self, why: Skipped) {
        increment(&self.shadows_skipped[why as usize]);
    }

    /// A new connection to an endpoint was made.
    pub fn upstream_connected(&self, endpoint: StableId) {
        self.on_upstream(|counts| counts.opened += 1);
        self.endpoints.borrow_mut().of(endpoint).connections += 1;
    }

    /// A pooled connection was taken for a try.
    pub fn upstream_reused(&self) {
        self.on_upstream(|counts| counts.reused += 1);
    }

    /// A connection to an endpoint was refused, failed or timed out.
    pub fn upstream_connect_failed(&self, endpoint: StableId) {
        self.endpoints.borrow_mut().of(endpoint).connect_failures += 1;
    }

    /// Idle connections in this core's pools now.
    pub fn set_upstream_idle(&self, connections: usize) {
        self.on_upstream(|counts| counts.idle = connections as u64);
    }

    /// Bytes of the buffers in use on this core now.
    pub fn set_buffer_bytes(&self, bytes: usize) {
        self.buffer_bytes.set(bytes as u64);
    }

    /// An Upgrade or CONNECT tunnel began. Exactly one `tunnel_closed` must follow.
    pub fn tunnel_opened(&self) {
        increment(&self.tunnels_total);
        increment(&self.tunnels_active);
    }

    pub fn tunnel_closed(&self) {
        decrement(&self.tunnels_active);
    }

    /// Bytes went from socket to socket past user space.
    pub fn spliced(&self, bytes: u64) {
        self.spliced_bytes_total.set(self.spliced_bytes_total.get() + bytes);
    }

    /// A request was delayed, or ended, on purpose.
    pub fn fault_injected(&self) {
        increment(&self.faults_injected_total);
    }

    /// A body's model was not found in as much of it as is looked at.
    pub fn peek_exceeded(&self) {
        increment(&self.peeks_exceeded_total);
    }

    /// A token that was not known here is verified.
    pub fn token_verified(&self) {
        increment(&self.tokens_verified_total);
    }

    /// One waits for its turn to be.
    pub fn token_waited(&self) {
        increment(&self.tokens_waited_total);
    }

    /// A task of this core panicked and was contained.
    pub fn panicked(&self) {
        increment(&self.panics_total);
    }

    /// An owned copy for another thread, made on a scrape: 13 KiB per histogram, about 1 µs each.
    pub fn report(&self) -> CoreReport {
        let requests = self.requests.borrow();
        let shadows = self.shadows.borrow();
        CoreReport {
            core: self.core,
            driver: self.driver.get(),
            listeners: self.listeners.borrow().clone(),
            requests_active: self.requests_active.get(),
            series: requests.report(),
            durations: requests.durations.report(),
            first_bytes: requests.first_bytes.report(),
            shadows: shadows.report(),
            shadow_first_bytes: shadows.first_bytes.report(),
            shadows_skipped: self.shadows_skipped.each_ref().map(Cell::get),
            errors: ErrorCounts(std::array::from_fn(|kind| self.errors[kind].get())),
            endpoints: self.endpoints.borrow().report(),
            upstream: self.upstream.get(),
            tunnels_total: self.tunnels_total.get(),
            tunnels_active: self.tunnels_active.get(),
            buffer_bytes: self.buffer_bytes.get(),
            handed_over_total: self.handed_over_total.get(),
            lateness: self.lateness.borrow().clone(),
            spliced_bytes_total: self.spliced_bytes_total.get(),
            panics_total: self.panics_total.get(),
            faults_injected_total: self.faults_injected_total.get(),
            peeks_exceeded_total: self.peeks_exceeded_total.get(),
            tokens_verified_total: self.tokens_verified_total.get(),
            tokens_waited_total: self.tokens_waited_total.get(),
            tcp: self.tcp.report(),
            udp: self.udp.report(),
        }
    }

    fn on_listener(&self, listener: ListenerIndex, change: impl FnOnce(&mut ConnectionCounts)) {
        if let Some(listener) = self.listeners.borrow_mut().get_mut(usize::from(listener.0)) {
            change(&mut listener.counts);
        }
    }

    fn on_upstream(&self, change: impl FnOnce(&mut UpstreamCounts)) {
        let mut counts = self.upstream.get();
        change(&mut counts);
        self.upstream.set(counts);
    }
}

/// Requests by (route, service, status), and the latencies that belong to them. One lookup per request: the
/// series remembers where its histograms are.
#[derive(Debug, Default)]
struct RequestTable {
    by_key: HashMap<u64, Series, IdHash>,
    durations: LatencyTable,
    first_bytes: LatencyTable,
}

#[derive(Debug)]
struct Series {
    counts: RequestCounts,
    duration: LatencySlot,
    first_byte: Option<LatencySlot>,
}

impl RequestTable {
    fn count(&mut self, outcome: &Outcome) {
        let RequestTable { by_key, durations, first_bytes } = self;
        let mut key = SeriesKey::of(outcome);
        if by_key.len() >= SERIES_MAX && !by_key.contains_key(&key.0) {
            key = SeriesKey::other(outcome.status);
        }
        let series = by_key.entry(key.0).or_insert_with(|| Series {
            counts: RequestCounts::default(),
            duration: durations.slot(key.route()),
            first_byte: None,
        });
        series.counts.requests += 1;
        series.counts.request_bytes += outcome.request_bytes;
        series.counts.response_bytes += outcome.response_bytes;
        durations.at(series.duration).record(outcome.duration);
        if let Some(first_byte) = outcome.upstream_first_byte {
            let slot = series.first_byte.get_or_insert_with(|| first_bytes.slot(key.service()));
            first_bytes.at(*slot).record(first_byte);
        }
    }

    fn report(&self) -> Vec<SeriesReport> {
        let report = |(&key, series): (&u64, &Series)| {
            let key = SeriesKey(key);
            SeriesReport {
                route: key.route(),
                service: key.service(),
                status: key.status(),
                counts: series.counts,
            }
        };
        self.by_key.iter().map(report).collect()
    }
}

/// Route, service and status in 24 + 24 + 16 bits, so that finding a series hashes one word.
#[derive(Debug, Clone, Copy)]
struct SeriesKey(u64);

impl SeriesKey {
    fn of(outcome: &Outcome) -> Self {
        Self::pack(pack_id(outcome.route), pack_id(outcome.service), outcome.status)
    }

    fn other(status: u16) -> Self {
        Self::pack(ID_OTHER, ID_OTHER, status)
    }

    fn pack(route: u32, service: u32, status: u16) -> Self {
        SeriesKey(u64::from(route) << 40 | u64::from(service) << 16 | u64::from(status))
    }

    fn route(self) -> SeriesId {
        unpack_id((self.0 >> 40) as u32)
    }

    fn service(self) -> SeriesId {
        unpack_id((self.0 >> 16) as u32 & ID_MASK)
    }

    fn status(self) -> u16 {
        self.0 as u16
    }
}

fn pack_id(id: Option<StableId>) -> u32 {
    match id {
        Some(StableId(id)) if id < ID_OTHER => id,
        Some(_) => ID_OTHER,
        None => ID_NONE,
    }
}

fn unpack_id(packed: u32) -> SeriesId {
    match packed {
        ID_NONE => SeriesId::None,
        ID_OTHER => SeriesId::Other,
        id => SeriesId::Known(StableId(id)),
    }
}

/// Histograms by route or by service: made on first use, `HISTOGRAMS_MAX` of them, then one for all others.
#[derive(Debug, Default)]
struct LatencyTable {
    latencies: Vec<(SeriesId, Latency)>,
}

#[derive(Debug, Clone, Copy)]
struct LatencySlot(usize);

impl LatencyTable {
    /// Linear: runs once per new series, never per request.
    fn slot(&mut self, id: SeriesId) -> LatencySlot {
        let id = if self.find(id).is_none() && self.latencies.len() >= HISTOGRAMS_MAX {
            SeriesId::Other
        } else {
            id
        };
        let slot = self.find(id).unwrap_or_else(|| {
            self.latencies.push((id, Latency::default()));
            self.latencies.len() - 1
        });
        LatencySlot(slot)
    }

    fn find(&self, id: SeriesId) -> Option<usize> {
        self.latencies.iter().position(|(known, _)| *known == id)
    }

    fn at(&mut self, slot: LatencySlot) -> &mut Latency {
        &mut self.latencies[slot.0].1
    }

    fn report(&self) -> Vec<(SeriesId, Latency)> {
        self.latencies.clone()
    }
}

#[derive(Debug, Default)]
struct EndpointTable {
    by_id: HashMap<u64, EndpointCounts, IdHash>,
}

impl EndpointTable {
    fn of(&mut self, id: StableId) -> &mut EndpointCounts {
        let mut key = u64::from(id.0);
        if self.by_id.len() >= ENDPOINTS_MAX && !self.by_id.contains_key(&key) {
            key = ENDPOINT_OTHER;
        }
        self.by_id.entry(key).or_default()
    }

    fn report(&self) -> Vec<(SeriesId, EndpointCounts)> {
        let id = |key| match u32::try_from(key) {
            Ok(id) => SeriesId::Known(StableId(id)),
            Err(_) => SeriesId::Other,
        };
        self.by_id.iter().map(|(&key, &counts)| (id(key), counts)).collect()
    }
}

fn increment(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// A gauge that a bug unbalanced shows 0, not 2^64 - 1.
fn decrement(gauge: &Cell<u64>) {
    gauge.set(gauge.get().saturating_sub(1));
}

/// Combinations of route, service and status per core; further ones count as `_other`.
pub const SERIES_MAX: usize = 16_384;
/// Histograms per core and family (routes, services), 13 KiB each; further ids share one more.
pub const HISTOGRAMS_MAX: usize = 128;
/// Endpoints per core; further ones count as `_other`.
pub const ENDPOINTS_MAX: usize = 65_536;
/// Listener names per core; further ones share the last one's counters.
pub const LISTENERS_MAX: usize = 1_024;

const ID_MASK: u32 = 0x00ff_ffff;
const ID_NONE: u32 = ID_MASK;
const ID_OTHER: u32 = ID_MASK - 1;
/// No `StableId` reaches it.
const ENDPOINT_OTHER: u64 = u64::MAX;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
