//! Owns a config file as its author wrote it: every section read into typed values with their places, the schema's
//! defaults filled in. Reports what is wrong with a value or inside one table.
//! Does not compare tables with each other (`check`) and gives out no ids (`compile`). Routes: `document_route`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::balance::pick::{Balance, HashKey};
use crate::config::diagnostic::{Problem, Report};
use crate::config::document_auth::{self, AuthEntry, AuthorizerEntry};
use crate::config::document_health;
use crate::config::document_limit::{self, LimitEntry, PerAddressEntry};
use crate::config::document_model;
use crate::config::document_route::{self, RouteEntry};
use crate::config::pattern;
use crate::config::reader::{Located, Section};
use crate::config::snapshot::{
    Cidr, ClientTimeouts, DriverChoice, HealthPolicy, HttpVersion, LogTarget, PoolLimits, ProxyVersion,
    RetryPolicy, Settings, SplicePolicy, UpstreamTimeouts,
};
use crate::config::tls::{ListenerTls, UpstreamTls};
use crate::config::value::{self, Parsed, Place};
use crate::config::{suggest, tls};
use crate::http::h1_body::ChunkLimits;
use crate::http::head::HeadLimits;
use crate::inference::conversion::Model;
use crate::proxy::concurrency::Concurrency;
use crate::proxy::rule::HostMatch;

#[derive(Debug)]
pub struct Document<'a> {
    pub settings: Settings,
    /// Where the settings that are read at start only are written.
    pub start_only: StartOnly,
    pub body_bytes_max: u64,
    pub message_bytes_max: u64,
    /// In the order of the file, as all of these.
    pub listeners: Vec<ListenerEntry<'a>>,
    pub services: Vec<ServiceEntry<'a>>,
    pub auths: Vec<AuthEntry<'a>>,
    pub authorizers: Vec<AuthorizerEntry<'a>>,
    pub limits: Vec<LimitEntry<'a>>,
    pub routes: Vec<RouteEntry<'a>>,
}

#[derive(Debug)]
pub struct StartOnly {
    pub workers: Range<usize>,
    pub driver: Range<usize>,
    pub admin: Range<usize>,
    pub admin_tls: Range<usize>,
}

#[derive(Debug)]
pub struct ListenerEntry<'a> {
    pub name: Located<&'a str>,
    /// `None`: missing or wrong, and reported.
    pub address: Option<Located<SocketAddr>>,
    pub protocol: ProtocolWord,
    /// The service of a TCP or UDP listener. `None` there: missing or wrong, and reported.
    pub to: Option<Located<&'a str>>,
    /// Services by server name, of a TLS passthrough listener.
    pub sni: Vec<(HostMatch, Located<&'a str>)>,
    pub idle_timeout: Option<Duration>,
    pub responses: Option<NonZeroU32>,
    pub flows_max: Option<usize>,
    pub tls: Option<Arc<ListenerTls>>,
    pub http2: bool,
    pub proxy_trusted: Vec<Cidr>,
    pub per_address: Option<PerAddressEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolWord {
    Http,
    Https,
    Tcp,
    TlsPassthrough,
    Udp,
}

impl ProtocolWord {
    /// Whether the listener itself says where everything goes, and no route has a say.
    pub fn has_service(self) -> bool {
        !self.is_http()
    }

    /// Whether requests arrive there, with TLS or without.
    pub fn is_http(self) -> bool {
        matches!(self, ProtocolWord::Http | ProtocolWord::Https)
    }

    /// As it is called in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolWord::Http => "HTTP",
            ProtocolWord::Https => "HTTPS",
            ProtocolWord::Tcp => "TCP",
            ProtocolWord::TlsPassthrough => "TLS passthrough",
            ProtocolWord::Udp => "UDP",
        }
    }
}

#[derive(Debug)]
pub struct ServiceEntry<'a> {
    pub name: Located<&'a str>,
    pub endpoints: Vec<EndpointEntry>,
    pub balance: Balance,
    /// Where `hash_by` is written, if it is.
    pub hash_by: Option<Range<usize>>,
    pub timeouts: UpstreamTimeouts,
    pub retry: RetryPolicy,
    pub health: HealthPolicy,
    pub concurrency: Option<Concurrency>,
    pub protocol: HttpVersion,
    pub proxy_protocol: Option<ProxyVersion>,
    pub tls: Option<UpstreamTls>,
    pub model: Option<Model>,
}

#[derive(Debug, Clone)]
pub struct EndpointEntry {
    pub place: Place,
    pub weight: u32,
    pub priority: u8,
}

/// Reads the whole file, whatever is wrong in it.
pub fn read<'a>(file: &Path, report: &'a Report<'a>, table: &'a DeTable<'a>) -> Document<'a> {
    let root = Section::root(report, table);
    // Each is opened once: opening reports the keys that should not be there.
    let [admin, limits, timeouts] = ["admin", "limits", "timeouts"].map(|key| root.table_or_empty(key));
    let upstream = upstream_timeouts(&timeouts);
    let directory = directory(file);
    let listeners = root.named("listen").into_iter();
    let listeners = listeners.map(|(name, section)| listener(name, &section, &directory));
    let services = root
        .named("service")
        .into_iter()
        .map(|(name, section)| service(name, &section, upstream, &directory));
    Document {
        settings: settings(&root, &admin, &limits, &timeouts, &directory),
        start_only: StartOnly {
            workers: root.key_span("workers"),
            driver: root.key_span("driver"),
            admin: admin.key_span("address"),
            admin_tls: admin.key_span("tls"),
        },
        body_bytes_max: limits.value("body", value::size_or_off),
        message_bytes_max: limits.value("response_message", value::size_or_off),
        listeners: listeners.collect(),
        services: services.collect(),
        auths: root
            .named("auth")
            .into_iter()
            .map(|(name, section)| document_auth::auth(name, &section, &directory))
            .collect(),
        authorizers: root
            .named("authorizer")
            .into_iter()
            .map(|(name, section)| document_auth::authorizer(name, &section))
            .collect(),
        limits: root
            .named("limit")
            .into_iter()
            .map(|(name, section)| document_limit::limit(name, &section))
            .collect(),
        routes: document_route::read(&root),
    }
}

/// What relative paths in the file start from.
fn directory(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

fn settings(
    root: &Section<'_>,
    admin: &Section<'_>,
    limits: &Section<'_>,
    timeouts: &Section<'_>,
    directory: &Path,
) -> Settings {
    let (forward, head_limits) = (root.table_or_empty("forward"), head_limits(limits));
    Settings {
        workers: root.value("workers", workers),
        driver: root.value("driver", value::word(DRIVERS)),
        admin: admin.optional("address", value::socket_address).map(|found| found.value),
        admin_token: document_auth::admin_token(admin, directory),
        admin_tls: admin.table("tls").and_then(|table| tls::server(&table, directory, false)),
        metrics_public: admin.value("metrics_public", value::boolean),
        access_log: root.table_or_empty("log").value("access", |value| log_target(value, directory)),
        watch: root.table_or_empty("reload").value("watch", value::boolean),
        drain_deadline: root.table_or_empty("shutdown").value("deadline", value::duration),
        dns_refresh: root.table_or_empty("dns").value("refresh", dns_refresh),
        chunk_limits: ChunkLimits {
            extension_bytes_max: limits.value("chunk_extensions", up_to_1_mib) as usize,
            trailer_bytes_max: limits.value("trailers", up_to_64_kib) as usize,
            trailer_fields_max: head_limits.fields_max,
        },
        head_limits,
        buffer_bytes_max: limits.value("buffers", from_1_mib) as usize,
        flows_max: limits.value("flows", flows) as usize,
        connections_max: limits.value("connections", value::integer(1..=1_000_000)) as u32,
        http2_streams_max: limits.value("http2_streams", value::integer(1..=1000)) as u32,
        client_timeouts: client_timeouts(timeouts),
        pool: pool_limits(&root.table_or_empty("pool")),
        splice: splice_policy(&root.table_or_empty("splice")),
        trusted: forward.list("trusted", value::network).into_iter().map(|found| found.value).collect(),
        forwarded: forward.value("forwarded", value::boolean),
    }
}

fn pool_limits(pool: &Section<'_>) -> PoolLimits {
    PoolLimits {
        idle_max: pool.value("idle", value::integer(0..=1_000_000)) as usize,
        idle_per_endpoint_max: pool.value("idle_per_endpoint", value::integer(0..=1_000_000)) as usize,
        idle_timeout: pool.value("idle_timeout", value::duration),
    }
}

fn splice_policy(splice: &Section<'_>) -> SplicePolicy {
    SplicePolicy {
        bytes_min: splice.value("from", value::size_or_off),
        pipes_max: splice.value("pipes", value::integer(0..=65_536)) as usize,
    }
}

const DRIVERS: &[(&str, DriverChoice)] = &[
    ("auto", DriverChoice::Auto),
    ("uring", DriverChoice::Uring),
    ("uring-plain", DriverChoice::UringPlain),
    ("epoll", DriverChoice::Epoll),
];

fn workers(value: &DeValue<'_>) -> Parsed<Option<usize>> {
    const WORKERS: std::ops::RangeInclusive<u64> = 1..=1024;
    match value.as_str() {
        Some("auto") => Ok(None),
        Some(text) if text.parse::<u64>().is_err() => {
            Err(value::wrong_type("\"auto\" or a whole number from 1 to 1024", value))
        }
        _ => Ok(Some(value::integer(WORKERS)(value)? as usize)),
    }
}

/// Offsets inside a head are u16 (`http::head::Span`).
const HEAD_BYTES_MAX: u64 = 65_535;

fn up_to_64_kib(value: &DeValue<'_>) -> Parsed<u64> {
    value::size_within(0..=HEAD_BYTES_MAX, "up to 65535 bytes")(value)
}

fn up_to_1_mib(value: &DeValue<'_>) -> Parsed<u64> {
    value::size_within(0..=1 << 20, "up to 1MiB")(value)
}

fn from_1_mib(value: &DeValue<'_>) -> Parsed<u64> {
    value::size_within(1 << 20..=u64::MAX, "1MiB or more")(value)
}

fn head_limits(limits: &Section<'_>) -> HeadLimits {
    let head_bytes = limits.value("head", value::size_within(1024..=HEAD_BYTES_MAX, "1KiB to 65535 bytes"));
    let uri = limits.located("uri", value::size_within(1..=HEAD_BYTES_MAX, "1 to 65535 bytes"));
    if uri.value > head_bytes && limits.has("uri") {
        let problem =
            Problem::new(format!("a target of {} bytes does not fit a head of {head_bytes}", uri.value));
        limits.error(uri.span, "uri", problem.help("raise `limits.head`, or lower this"));
    }
    HeadLimits {
        fields_max: limits.value("headers", value::integer(1..=1000)) as usize,
        head_bytes_max: head_bytes as usize,
        // A small `head` with the default `uri` means the smaller of both.
        target_bytes_max: uri.value.min(head_bytes) as usize,
    }
}

fn flows(value: &DeValue<'_>) -> Parsed<u64> {
    value::integer(1..=1_000_000)(value)
}

fn client_timeouts(timeouts: &Section<'_>) -> ClientTimeouts {
    let read = |key| timeouts.value(key, value::duration);
    ClientTimeouts {
        header: read("header"),
        body: read("body"),
        idle: read("idle"),
        write: read("write"),
        connection_age: timeouts.value("connection_age", value::duration_or_off),
        tunnel: read("tunnel"),
        tunnel_age: timeouts.value("tunnel_age", value::duration_or_off),
        tcp: read("tcp"),
        udp: read("udp"),
    }
}

/// What services start from.
fn upstream_timeouts(timeouts: &Section<'_>) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: timeouts.value("connect", value::duration),
        first_byte: timeouts.value("first_byte", value::duration),
        idle: timeouts.value("upstream_idle", value::duration),
        request: timeouts.value("request", value::duration_or_off),
    }
}

/// Resolving more often than this would load name servers for nothing.
const DNS_REFRESH_MIN_S: u64 = 1;

fn dns_refresh(value: &DeValue<'_>) -> Parsed<Duration> {
    let refresh = value::duration(value)?;
    if refresh.as_secs() < DNS_REFRESH_MIN_S {
        return Err(Problem::new("names are resolved at most once a second").help("write \"1s\" or more"));
    }
    Ok(refresh)
}

fn log_target(value: &DeValue<'_>, directory: &Path) -> Parsed<LogTarget> {
    const WORDS: [&str; 3] = ["off", "stdout", "stderr"];
    let expected = "\"off\", \"stdout\", \"stderr\" or a path";
    let text = value.as_str().ok_or_else(|| value::wrong_type(expected, value))?;
    match text {
        // Not formatted only to be thrown away.
        "off" | "/dev/null" => return Ok(LogTarget::Off),
        "stdout" => return Ok(LogTarget::Stdout),
        "stderr" => return Ok(LogTarget::Stderr),
        "" => return Err(value::wrong_type(expected, value)),
        _ if text.contains('\0') => return Err(Problem::new("a path has no NUL")),
        _ => {}
    }
    let looks_like_path = text.contains(['/', '.']) && suggest::value_synonym(text).is_none();
    if looks_like_path {
        return Ok(LogTarget::File(directory.join(text)));
    }
    let meant = suggest::value_synonym(text).filter(|word| WORDS.contains(word));
    match meant.or_else(|| suggest::nearest(text, WORDS)) {
        Some(word) => {
            let problem = Problem::new(format!(
                "\"{}\" is none of \"off\", \"stdout\", \"stderr\"",
                value::shown(text)
            ));
            Err(problem.help(format!(
                "did you mean \"{word}\"? For a file of that name write \"./{}\"",
                value::shown(text)
            )))
        }
        None => Ok(LogTarget::File(directory.join(text))),
    }
}

fn listener<'a>(name: Located<&'a str>, section: &Section<'a>, directory: &Path) -> ListenerEntry<'a> {
    let protocol = section.optional("protocol", protocol).map(|found| found.value);
    // A protocol that is wrong is reported; what belongs to which of them is then not known.
    let known = protocol.is_some() || !section.has("protocol");
    let protocol = protocol.unwrap_or(ProtocolWord::Http);
    if known {
        refuse_foreign(section, protocol);
    }
    let http2 = section.optional("http2", value::boolean).is_none_or(|found| found.value);
    ListenerEntry {
        name,
        address: section.required("address", value::socket_address),
        protocol,
        to: section.optional("to", value::text),
        sni: section.table("sni").map(|table| server_names(&table)).unwrap_or_default(),
        idle_timeout: section.optional("idle_timeout", value::duration).map(|found| found.value),
        responses: section.optional("responses", value::integer(1..=1000)).and_then(|found| {
            let responses = u32::try_from(found.value).ok()?;
            NonZeroU32::new(responses)
        }),
        flows_max: section.optional("flows_max", flows).map(|found| found.value as usize),
        tls: match protocol {
            ProtocolWord::Https => {
                section.table("tls").and_then(|table| tls::server(&table, directory, http2))
            }
            // One that stands there all the same is refused as a whole.
            _ => None,
        },
        http2,
        proxy_trusted: section.table("proxy_protocol").map(|table| proxy_trusted(&table)).unwrap_or_default(),
        per_address: section.table("per_address").map(|table| document_limit::per_address(&table)),
    }
}

/// Says which keys a listener of this protocol lacks or may not have.
fn refuse_foreign(section: &Section<'_>, protocol: ProtocolWord) {
    let is_passthrough = protocol == ProtocolWord::TlsPassthrough;
    if protocol.has_service() && !section.has("to") && !(is_passthrough && section.has("sni")) {
        section.absent("to");
    }
    let refuse = |key: &'static str, whose: &str, instead: &str| {
        if section.has(key) {
            let problem = Problem::new(format!("`{key}` is for listeners with `protocol = {whose}`"));
            section.error(section.key_span(key), key, problem.help(instead));
        }
    };
    if protocol == ProtocolWord::Https {
        if !section.has("tls") {
            section.absent("tls");
        }
    } else {
        refuse("tls", "\"https\"", "write `protocol = \"https\"`, or remove this");
    }
    if !is_passthrough {
        let instead = "add `protocol = \"tls-passthrough\"`, or remove this: certificates are chosen by the names in them";
        refuse("sni", "\"tls-passthrough\"", instead);
    }
    if !protocol.is_http() {
        refuse("http2", "\"http\"` or `\"https\"", "remove this: no HTTP is spoken here");
    }
    if protocol.is_http() {
        let whose = "\"tcp\"`, `\"tls-passthrough\"` or `\"udp\"";
        let add = "add a `protocol`, or remove this:";
        refuse("to", whose, &format!("{add} HTTP requests go where `[[route]]` says"));
        let instead = "HTTP connections idle as long as `timeouts.idle` says";
        refuse("idle_timeout", whose, &format!("{add} {instead}"));
    }
    if protocol == ProtocolWord::Udp {
        let whose = "\"http\"` or `\"tcp\"";
        refuse("proxy_protocol", whose, "remove this: datagrams begin with no PROXY header");
        refuse("per_address", whose, "remove this: there are no connections, and `flows_max` bounds flows");
    } else {
        for key in ["responses", "flows_max"] {
            refuse(key, "\"udp\"", "add `protocol = \"udp\"`, or remove this: it is about datagrams");
        }
    }
}

/// Each name once: of two, one would never be used.
fn server_names<'a>(section: &Section<'a>) -> Vec<(HostMatch, Located<&'a str>)> {
    let mut names: Vec<(HostMatch, Located<&'a str>)> = Vec::new();
    for (name, node) in section.entries() {
        let matched = match pattern::host(&DeValue::String(name.value.into())) {
            Ok(matched) => matched,
            Err(problem) => {
                section.error(name.span, name.value, problem);
                continue;
            }
        };
        if names.iter().any(|(earlier, _)| *earlier == matched) {
            let problem =
                Problem::new(format!("the name \"{}\" stands twice, but for case", value::shown(name.value)));
            section.error(name.span, name.value, problem.help("remove one of both"));
            continue;
        }
        names.extend(section.parsed(name.value, node, value::text).map(|service| (matched, service)));
    }
    names
}

fn proxy_trusted(section: &Section<'_>) -> Vec<Cidr> {
    if !section.has("trusted") {
        section.absent("trusted");
    } else if section.nodes("trusted").is_empty() {
        let problem = Problem::new("no peer is trusted: no PROXY header is ever read");
        section.warning(section.key_span("trusted"), "trusted", problem.help("name the load balancers here"));
    }
    section.list("trusted", value::network).into_iter().map(|found| found.value).collect()
}

fn protocol(value: &DeValue<'_>) -> Parsed<ProtocolWord> {
    const LATER: [&str; 1] = ["http2"];
    const NOW: &[(&str, ProtocolWord)] = &[
        ("http", ProtocolWord::Http),
        ("https", ProtocolWord::Https),
        ("tcp", ProtocolWord::Tcp),
        ("tls-passthrough", ProtocolWord::TlsPassthrough),
        ("udp", ProtocolWord::Udp),
    ];
    match value.as_str() {
        Some(text) if LATER.contains(&text) => {
            let problem = Problem::new(format!("the protocol \"{text}\" is not supported in this version"));
            Err(problem
                .help("this version has \"http\", \"https\", \"tcp\", \"tls-passthrough\" and \"udp\""))
        }
        _ => value::word(NOW)(value),
    }
}

fn service<'a>(
    name: Located<&'a str>,
    section: &Section<'a>,
    upstream: UpstreamTimeouts,
    directory: &Path,
) -> ServiceEntry<'a> {
    if !section.has("endpoints") {
        section.absent("endpoints");
    }
    let tls = section.table("tls").and_then(|table| tls::client(&table, directory));
    let protocol = spoken(section, tls.is_some());
    if section.has("model") && section.has("proxy_protocol") {
        let problem = Problem::new(
            "what a model is asked comes on no client's connection that a PROXY header could name",
        );
        let help = "remove `proxy_protocol`: `x-forwarded-for` names the client of each request";
        section.error(section.key_span("proxy_protocol"), "proxy_protocol", problem.help(help));
    }
    let model = section
        .table("model")
        .and_then(|table| document_model::model(&table, protocol != HttpVersion::Http1, directory));
    ServiceEntry {
        endpoints: endpoints(section, tls.as_ref()),
        balance: balance(section),
        timeouts: section
            .table("timeouts")
            .map_or(upstream, |timeouts| service_timeouts(&timeouts, upstream)),
        retry: retry(&section.table_or_empty("retry")),
        health: document_health::health(section),
        concurrency: section.table("concurrency").and_then(|table| document_limit::concurrency(&table)),
        protocol,
        model,
        proxy_protocol: section
            .optional("proxy_protocol", value::word(PROXY_VERSIONS))
            .map(|found| found.value),
        hash_by: section.has("hash_by").then(|| section.key_span("hash_by")),
        tls,
        name,
    }
}

const HTTP_VERSIONS: &[(&str, HttpVersion)] =
    &[("http1", HttpVersion::Http1), ("h2", HttpVersion::Http2), ("auto", HttpVersion::Agreed)];

fn spoken(section: &Section<'_>, has_tls: bool) -> HttpVersion {
    let spoken = section.value("protocol", value::word(HTTP_VERSIONS));
    let span = || section.key_span("protocol");
    if spoken == HttpVersion::Agreed && !has_tls && !section.has("tls") {
        let problem = Problem::new("without `tls` nothing is there that HTTP/2 could be agreed on in");
        section.error(span(), "protocol", problem.help("write `protocol = \"h2\"`, or add `tls`"));
    }
    if spoken != HttpVersion::Http1 && section.has("proxy_protocol") {
        let problem = Problem::new("a PROXY header names one client, and an HTTP/2 connection carries many");
        let help = "remove `proxy_protocol`: `x-forwarded-for` names the client of each request";
        section.error(section.key_span("proxy_protocol"), "proxy_protocol", problem.help(help));
    }
    spoken
}

const PROXY_VERSIONS: &[(&str, ProxyVersion)] = &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

/// Endpoints of one service.
const ENDPOINTS_MAX: usize = 10_000;

fn endpoints(section: &Section<'_>, tls: Option<&UpstreamTls>) -> Vec<EndpointEntry> {
    let nodes = section.nodes("endpoints");
    if nodes.is_empty() && section.has("endpoints") {
        let problem = Problem::new("a service without endpoints").help("its requests are answered 503");
        section.warning(section.key_span("endpoints"), "endpoints", problem);
    }
    if nodes.len() > ENDPOINTS_MAX {
        let problem = Problem::new(format!(
            "a service has at most {ENDPOINTS_MAX} endpoints, this has {}",
            nodes.len()
        ));
        section.error(section.key_span("endpoints"), "endpoints", problem);
        return Vec::new();
    }
    let mut seen: HashMap<Place, u32> = HashMap::new();
    let read = nodes.iter().filter_map(|node| {
        let (place, weight, priority) = endpoint(section, node)?;
        let line = section.report().source.position(place.span.start).0;
        if tls.is_some_and(|tls| !tls.can_name(&place.value)) {
            let problem = Problem::new(format!("no certificate can be for \"{}\"", place.value));
            let help = "say whose it is: `tls = { server_name = \"models.internal\" }`";
            section.error(place.span.clone(), "endpoints", problem.help(help));
        }
        if let Some(earlier) = seen.insert(place.value.clone(), line) {
            let problem = Problem::new(format!(
                "the endpoint \"{}\" stands twice, first on line {earlier}",
                place.value
            ));
            let help = "for a larger share write `{ address = \"...\", weight = 2 }`";
            section.error(place.span, "endpoints", problem.help(help));
        }
        Some(EndpointEntry { place: place.value, weight, priority })
    });
    read.collect()
}

fn endpoint<'a>(section: &Section<'a>, node: &'a Spanned<DeValue<'a>>) -> Option<(Located<Place>, u32, u8)> {
    if !matches!(node.get_ref(), DeValue::Table(_)) {
        return Some((section.parsed("endpoints", node, value::place)?, 1, 0));
    }
    let table = section.table_of("endpoints", node)?;
    let weight = table.value("weight", value::integer(0..=1000)) as u32;
    let priority = table.value("priority", value::integer(0..=9)) as u8;
    Some((table.required("address", value::place)?, weight, priority))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BalanceWord {
    RoundRobin,
    LeastRequest,
    Random,
    Hash,
}

const BALANCES: &[(&str, BalanceWord)] = &[
    ("round-robin", BalanceWord::RoundRobin),
    ("least-request", BalanceWord::LeastRequest),
    ("random", BalanceWord::Random),
    ("hash", BalanceWord::Hash),
];

fn balance(section: &Section<'_>) -> Balance {
    let word = section.value("balance", value::word(BALANCES));
    let key = section.value("hash_by", hash_key);
    if section.has("hash_by") && word != BalanceWord::Hash {
        let problem = Problem::new("`hash_by` does nothing without `balance = \"hash\"`");
        let help = if section.has("balance") {
            "change `balance`, or remove this"
        } else {
            "add `balance = \"hash\"`"
        };
        section.error(section.key_span("hash_by"), "hash_by", problem.help(help));
    }
    match word {
        BalanceWord::RoundRobin => Balance::RoundRobin,
        BalanceWord::LeastRequest => Balance::LeastRequest,
        BalanceWord::Random => Balance::Random,
        BalanceWord::Hash => Balance::ConsistentHash { key },
    }
}

fn hash_key(value: &DeValue<'_>) -> Parsed<HashKey> {
    const FORMS: [&str; 5] = ["header", "cookie", "client", "path", "query"];
    let expected = "\"header:NAME\", \"cookie:NAME\", \"client\", \"path\" or \"query:NAME\"";
    let text = value.as_str().ok_or_else(|| value::wrong_type(expected, value))?;
    let (form, name) = text.split_once(':').map_or((text, None), |(form, name)| (form, Some(name)));
    let problem = || Problem::new(format!("\"{}\" is none of {expected}", value::shown(text)));
    match (form, name) {
        ("client", None) => Ok(HashKey::ClientAddress),
        ("path", None) => Ok(HashKey::Path),
        ("header", Some(name)) if value::is_token(name) => {
            Ok(HashKey::Header(name.to_ascii_lowercase().into()))
        }
        ("cookie", Some(name)) if value::is_token(name) => Ok(HashKey::Cookie(name.into())),
        ("query", Some(name)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(HashKey::Query(name.into()))
        }
        ("header" | "cookie" | "query", _) => {
            Err(problem().help(format!("write \"{form}:NAME\", NAME being that of the {form}")))
        }
        ("client" | "path", Some(_)) => Err(problem().help(format!("write \"{form}\" alone"))),
        _ => {
            let meant = suggest::value_synonym(form).filter(|word| FORMS.contains(word));
            let meant = meant.or_else(|| suggest::nearest(form, FORMS));
            Err(problem().help_if(meant.map(|meant| format!("did you mean \"{meant}\"?"))))
        }
    }
}

fn service_timeouts(timeouts: &Section<'_>, upstream: UpstreamTimeouts) -> UpstreamTimeouts {
    let read = |key, default| timeouts.optional(key, value::duration).map_or(default, |found| found.value);
    UpstreamTimeouts {
        connect: read("connect", upstream.connect),
        first_byte: read("first_byte", upstream.first_byte),
        idle: read("idle", upstream.idle),
        request: timeouts
            .optional("request", value::duration_or_off)
            .map_or(upstream.request, |found| found.value),
    }
}

fn retry(section: &Section<'_>) -> RetryPolicy {
    let mut on_status: Vec<u16> = section
        .list("on_status", value::integer(400..=599))
        .into_iter()
        .map(|found| found.value as u16)
        .collect();
    on_status.sort_unstable();
    on_status.dedup();
    RetryPolicy {
        attempts_max: section.value("attempts", value::integer(1..=10)) as u32,
        on_status,
        on_unavailable: section.value("on_unavailable", value::boolean),
        budget_percent: section.value("budget_percent", value::integer(0..=100)) as u32,
        budget_min: section.value("budget_min", value::integer(0..=1000)) as u32,
    }
}
