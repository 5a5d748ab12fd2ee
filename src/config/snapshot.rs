//! Owns what the data path reads: one immutable, compiled configuration. Built by `config::compile` only,
//! published by `config::reload` through arc-swap. Holds no text of the config file and does no I/O.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::balance::health::{Health, OutlierPolicy, Thresholds};
use crate::balance::pick::Picker;
use crate::config::id_hash::IdHash;
use crate::config::tls::{EndpointTls, ListenerTls, TlsFile};
use crate::http::h1_body::ChunkLimits;
use crate::http::head::HeadLimits;
use crate::inference::conversion::Model;
use crate::policy::addresses::PerAddress;
use crate::policy::breaker::{Breaker, BreakerPolicy};
use crate::policy::concurrency::Places;
use crate::policy::identity::Auth;
use crate::policy::memory::Envelope;
use crate::proxy::authorizer::Authorizer;
use crate::proxy::concurrency::Concurrency;
use crate::proxy::limits::Limit;
use crate::proxy::route::RouteTable;
#[cfg(debug_assertions)]
use crate::runtime::worker::WORKER_THREAD;

/// Index of a service in one snapshot; never kept across snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceId(pub u32);

/// The same of an `[auth.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthId(pub u32);

/// A dense number that stays with a name (route, service, endpoint) over reloads: pools, counters and
/// histograms are keyed by it. Numbers are handed out by `config::registry::Registry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StableId(pub u32);

#[derive(Debug)]
pub struct Snapshot {
    /// 1 at start, one more with every published configuration or endpoint change.
    pub generation: u64,
    pub settings: Settings,
    /// By name, in the order of the file.
    pub listeners: Vec<Listener>,
    /// Shared by the snapshots of one configuration: a DNS change makes new services, not new routes.
    pub routes: Arc<RouteTable>,
    pub services: Vec<Arc<Service>>,
    pub service_by_name: HashMap<Box<str>, ServiceId>,
    /// Of all services: what pools may keep connections to.
    pub endpoint_ids: HashSet<StableId, IdHash>,
    pub auths: Arc<[Auth]>,
    /// In the same order.
    pub auth_names: Arc<[Arc<str>]>,
    pub limits: Arc<[Arc<Limit>]>,
    pub authorizers: Arc<[Arc<Authorizer>]>,
    pub tls_files: Arc<[TlsFile]>,
    /// The member of a JSON body that names its model, if somebody asks for that.
    pub model_member: Option<Arc<str>>,
}

impl Snapshot {
    pub fn service(&self, id: ServiceId) -> &Arc<Service> {
        &self.services[id.0 as usize]
    }

    pub fn auth(&self, id: AuthId) -> &Auth {
        &self.auths[id.0 as usize]
    }
}

/// Freeing 100,000 routes takes tens of milliseconds, which no request may wait for. `control::retired` sees to
/// it that a worker never has the last reference; debug builds, and so the tests, do not survive a mistake there.
#[cfg(debug_assertions)]
impl Drop for Snapshot {
    fn drop(&mut self) {
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| name.starts_with(WORKER_THREAD)) {
            eprintln!("tidegate: {} frees snapshot {}", thread.name().unwrap_or_default(), self.generation);
            std::process::abort();
        }
    }
}

/// Process-wide settings. Those marked "at start" are refused to change by a reload (a warning says so).
#[derive(Debug, Clone)]
pub struct Settings {
    /// At start. `None` = auto: one per core that the affinity mask and the cgroup quota allow.
    pub workers: Option<usize>,
    /// At start.
    pub driver: DriverChoice,
    /// At start.
    pub admin: Option<SocketAddr>,
    /// At start: whoever has it may ask the admin endpoint everything.
    pub admin_token: Option<Secret>,
    /// At start: whether it is there, and asks for certificates. The rest changes as that of listeners does.
    pub admin_tls: Option<Arc<ListenerTls>>,
    /// At start: everybody may read the metrics.
    pub metrics_public: bool,
    pub access_log: LogTarget,
    /// Watch the file and reload on change.
    pub watch: bool,
    pub drain_deadline: Duration,
    pub dns_refresh: Duration,
    pub head_limits: HeadLimits,
    pub chunk_limits: ChunkLimits,
    /// Per worker; more accepted connections are closed at once and counted.
    pub connections_max: u32,
    /// Of a client's HTTP/2 connection, open at once.
    pub http2_streams_max: u32,
    /// Per worker; at it new requests are refused.
    pub buffer_bytes_max: usize,
    /// Per worker and UDP listener that has no bound of its own.
    pub flows_max: usize,
    pub client_timeouts: ClientTimeouts,
    pub pool: PoolLimits,
    pub splice: SplicePolicy,
    /// Peers whose x-forwarded-* and x-request-id are kept.
    pub trusted: Vec<Cidr>,
    /// Also send RFC 7239 `forwarded`.
    pub forwarded: bool,
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverChoice {
    Auto,
    /// io_uring with SINGLE_ISSUER + COOP_TASKRUN + DEFER_TASKRUN.
    Uring,
    /// io_uring without flags (kernels 5.6 to 6.0).
    UringPlain,
    Epoll,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy)]
pub struct ClientTimeouts {
    /// From the first byte of a head to its end.
    pub header: Duration,
    /// Longest silence while a request body arrives.
    pub body: Duration,
    /// Keep-alive: longest wait for the next request.
    pub idle: Duration,
    /// Longest time a client may read nothing while a response waits for it.
    pub write: Duration,
    /// Longest life of an HTTP connection, but for what is under way then. `None` = off.
    pub connection_age: Option<Duration>,
    /// Longest silence on a tunnel (Upgrade, CONNECT), both directions together.
    pub tunnel: Duration,
    /// Longest life of a tunnel. `None` = off.
    pub tunnel_age: Option<Duration>,
    /// The same on a connection to a TCP listener that has no bound of its own.
    pub tcp: Duration,
    /// The same on a flow of a UDP listener.
    pub udp: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Idle upstream connections per worker, in all.
    pub idle_max: usize,
    pub idle_per_endpoint_max: usize,
    pub idle_timeout: Duration,
}

/// When a body goes by splice(2).
#[derive(Debug, Clone, Copy)]
pub struct SplicePolicy {
    /// From so many bytes still to come; `u64::MAX` is never.
    pub bytes_min: u64,
    /// Pipes open in the process, all workers together.
    pub pipes_max: usize,
}

impl SplicePolicy {
    pub fn takes(&self, remaining: u64) -> bool {
        remaining >= self.bytes_min
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix: u8,
}

#[derive(Debug, Clone)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// What HTTP is spoken through.
    pub tls: Option<Arc<ListenerTls>>,
    /// HTTP/2 is, too, if the client likes.
    pub http2: bool,
    /// Peers whose connections begin with a PROXY header.
    pub proxy_trusted: Vec<Cidr>,
    /// What one address may have of it.
    pub per_address: Option<PerAddress>,
}

impl Listener {
    pub fn binding(&self) -> Binding {
        let transport = match self.protocol {
            Protocol::Http | Protocol::Tcp { .. } | Protocol::TlsPassthrough { .. } => Transport::Tcp,
            Protocol::Udp(_) => Transport::Udp,
        };
        Binding { transport, address: self.address }
    }
}

/// What a listener has for itself; TCP and UDP may share an address, as DNS has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    pub transport: Transport,
    pub address: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    Http,
    /// Bytes, as they are.
    Tcp {
        to: ServiceId,
        /// Longest silence, both directions together.
        idle: Duration,
    },
    /// TLS, as it is; where it goes is in its first message.
    TlsPassthrough {
        names: Arc<ServerNames>,
        /// As above.
        idle: Duration,
    },
    /// Datagrams, as they are.
    Udp(UdpPolicy),
}

/// Services by the server name that a client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    pub exact: HashMap<Box<str>, ServiceId>,
    /// By what names end with, the dot included.
    pub suffixes: HashMap<Box<str>, ServiceId>,
    /// For all others, and for who asks for none.
    pub otherwise: Option<ServiceId>,
}

impl ServerNames {
    /// The service of exactly this name, else of the longest suffix, else of all others. `name` is in lower case.
    pub fn service(&self, name: Option<&str>) -> Option<ServiceId> {
        let of_name = |name: &str| {
            let mut dots = name.match_indices('.').filter(|&(at, _)| at > 0);
            let by_suffix = || dots.find_map(|(at, _)| self.suffixes.get(&name[at..]).copied());
            self.exact.get(name).copied().or_else(by_suffix)
        };
        name.and_then(of_name).or(self.otherwise)
    }
}

/// How a UDP listener forwards. A flow is what one client address sends and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpPolicy {
    pub to: ServiceId,
    /// Longest silence of a flow, both directions together.
    pub idle: Duration,
    /// Answers that each datagram of a client brings; a flow that has had all of them is over. `None`: flows end
    /// by silence only.
    pub responses: Option<NonZeroU32>,
    /// Flows open at once on one worker.
    pub flows_max: usize,
}

/// Versions of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// What is spoken with a service's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    Http1,
    /// By ALPN where there is TLS, by prior knowledge where there is none.
    Http2,
    /// HTTP/2 where an endpoint agrees on it, HTTP/1.1 where it does not.
    Agreed,
}

#[derive(Debug)]
pub struct Service {
    pub name: Arc<str>,
    pub id: StableId,
    pub protocol: HttpVersion,
    pub endpoints: Vec<Arc<Endpoint>>,
    pub picker: Picker,
    pub timeouts: UpstreamTimeouts,
    pub retry: RetryPolicy,
    pub health: HealthPolicy,
    /// How many requests it has at once.
    pub concurrency: Option<Arc<Concurrency>>,
    /// What connections to endpoints begin with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What requests are converted to, and answers from.
    pub model: Option<Arc<Model>>,
    /// Carried over reloads by service name.
    pub state: Arc<ServiceState>,
}

/// Shared by all cores, so on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServiceState {
    /// Requests of this service under way, all cores: the base of the retry budget.
    pub active: AtomicU32,
    /// Retries of this service under way, all cores.
    pub retries_active: AtomicU32,
    pub retries_total: AtomicU64,
    pub retries_refused_total: AtomicU64,
    /// Counted up when an endpoint is to be used or not, so that every core looks again (`balance::view`).
    pub health_version: AtomicU32,
    /// Held by who ejects an endpoint.
    pub ejections: Mutex<()>,
    pub breaker: Breaker,
    pub places: Places,
    /// What its conversions hold.
    pub memory: Arc<Envelope>,
}

#[derive(Debug)]
pub struct Endpoint {
    pub id: StableId,
    pub address: SocketAddr,
    /// As written in the config, for logs and metrics ("models.local:8000" may stand for several addresses).
    pub label: Arc<str>,
    /// There if the service has `tls`.
    pub tls: Option<EndpointTls>,
    pub weight: u32,
    /// 0 is the first.
    pub priority: u8,
    /// Carried over reloads by (service name, address).
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// For people: as it is written, and the address if that is of a name.
    pub fn name(&self) -> String {
        let address = self.address.to_string();
        if *self.label == *address { address } else { format!("{} ({address})", self.label) }
    }
}

/// Shared by all cores, so on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EndpointState {
    /// Exact: taken and released by `balance::in_flight` guards only.
    pub in_flight: AtomicU32,
    pub health: Health,
}

#[derive(Debug, Clone, Copy)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    /// From the request sent to the response head complete.
    pub first_byte: Duration,
    /// Longest silence while the response body arrives, or while the upstream takes no request body.
    pub idle: Duration,
    /// The whole request, retries included. `None` = off.
    pub request: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Tries in all, the first included. 1 = never retry.
    pub attempts_max: u32,
    /// Statuses that count as a failed try for idempotent requests (opt-in; empty by default).
    pub on_status: Vec<u16>,
    /// A gRPC call that an endpoint answers with UNAVAILABLE, and nothing else, goes to another one.
    pub on_unavailable: bool,
    /// Share of active requests that may be retries.
    pub budget_percent: u32,
    /// Retries always allowed, whatever the share.
    pub budget_min: u32,
}

/// How a service takes failures.
#[derive(Debug, Clone)]
pub struct HealthPolicy {
    /// Active ones.
    pub checks: Option<Arc<CheckPolicy>>,
    pub outlier: Option<OutlierPolicy>,
    pub breaker: Option<BreakerPolicy>,
    /// How long an endpoint that comes, or comes back, has less than its share.
    pub slow_start: Option<Duration>,
    /// With fewer usable endpoints than this part, all are used: so many are not likely to be down. 0: never.
    pub panic_percent: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPolicy {
    pub kind: CheckKind,
    /// Instead of the endpoint's own.
    pub port: Option<u16>,
    pub interval: Duration,
    /// For the whole check, connecting included.
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    Http {
        path: Box<str>,
        /// Instead of the endpoint as the config writes it.
        host: Option<Box<str>>,
        /// Empty: 200 to 299.
        statuses: Vec<u16>,
    },
    /// That a connection can be made.
    Tcp,
    /// grpc.health.v1.
    Grpc {
        /// Empty: the server as a whole.
        service: Box<str>,
    },
}

impl RetryPolicy {
    /// The budget has room for a retry at some time.
    pub fn allows_any(&self) -> bool {
        self.budget_percent > 0 || self.budget_min > 0
    }
}
