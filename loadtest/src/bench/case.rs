//! The cases: what load each puts on a proxy and which figures it gives.
//! Data only; running them is `measure`'s. The first metric of a case is the one that ratios are made of.

use crate::peers::{Layer, Peer};

pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    pub layer: Layer,
    pub load: Load,
    pub metrics: &'static [Metric],
}

pub enum Load {
    Wrk {
        connections: usize,
        path: &'static str,
        headers: &'static [&'static str],
    },
    /// The same through all that a gateway decides about a request of ann's: who asks, what route, how much, which version, and
    /// whether the service is well. Peers only forward it.
    Policed {
        connections: usize,
        path: &'static str,
    },
    /// HTTP/2, so many streams at once on each connection.
    H2load {
        connections: usize,
        streams: usize,
        path: &'static str,
    },
    Download {
        connections: usize,
        body_bytes: u64,
    },
    Upload {
        connections: usize,
        body_bytes: u64,
    },
    /// `stream`: beside a response that never pauses. `policed`: as `Policed`.
    OpenLoop {
        connections: usize,
        rate_per_s: u32,
        stream: bool,
        policed: bool,
    },
    Events {
        streams: usize,
        rate_per_s: u32,
    },
    Idle {
        connections: usize,
    },
    /// One short TLS connection after another.
    Handshakes {
        resumed: bool,
    },
    Echo {
        sockets: usize,
        message_bytes: usize,
    },
    /// Unary gRPC calls, so many at once on each connection.
    Calls {
        connections: usize,
        streams: usize,
        message_bytes: usize,
    },
    /// Bidirectional gRPC streams, one on each connection.
    Messages {
        streams: usize,
        message_bytes: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    CpuUsPerRequest,
    CpuUsPerEvent,
    RequestsPerSecond,
    P50Us,
    P99Us,
    CpuSecondsPerGb,
    GbPerSecond,
    IdleKbPerConnection,
    StartRssMib,
    RssMib,
    ReturnedPercent,
    /// How busy the proxy kept its core; well under 100 in a closed loop means that the generator was the limit.
    CorePercent,
}

impl Metric {
    pub fn label(self) -> &'static str {
        match self {
            Self::CpuUsPerRequest => "CPU µs/request",
            Self::CpuUsPerEvent => "CPU µs/event",
            Self::RequestsPerSecond => "requests/s",
            Self::P50Us => "p50 µs",
            Self::P99Us => "p99 µs",
            Self::CpuSecondsPerGb => "CPU-s/GB",
            Self::GbPerSecond => "GB/s",
            Self::IdleKbPerConnection => "KB/idle connection",
            Self::StartRssMib => "MiB at start",
            Self::RssMib => "MiB under load",
            Self::ReturnedPercent => "% given back",
            Self::CorePercent => "core %",
        }
    }

    /// Part of the name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::CpuUsPerRequest => "cpu_us_per_request",
            Self::CpuUsPerEvent => "cpu_us_per_event",
            Self::RequestsPerSecond => "requests_per_s",
            Self::P50Us => "p50_us",
            Self::P99Us => "p99_us",
            Self::CpuSecondsPerGb => "cpu_s_per_gb",
            Self::GbPerSecond => "gb_per_s",
            Self::IdleKbPerConnection => "idle_kb_per_connection",
            Self::StartRssMib => "start_rss_mib",
            Self::RssMib => "rss_mib",
            Self::ReturnedPercent => "returned_percent",
            Self::CorePercent => "core_percent",
        }
    }

    pub fn decimals(self) -> usize {
        match self {
            Self::RequestsPerSecond
            | Self::P50Us
            | Self::P99Us
            | Self::ReturnedPercent
            | Self::CorePercent => 0,
            Self::CpuSecondsPerGb | Self::GbPerSecond => 2,
            _ => 1,
        }
    }
}

const SMALL: &[Metric] =
    &[Metric::CpuUsPerRequest, Metric::RequestsPerSecond, Metric::P50Us, Metric::P99Us, Metric::CorePercent];
const COUNTED: &[Metric] = &[Metric::CpuUsPerRequest, Metric::RequestsPerSecond, Metric::CorePercent];
const BULK: &[Metric] = &[Metric::CpuSecondsPerGb, Metric::GbPerSecond, Metric::CorePercent];
const BODY_BYTES: u64 = 1 << 20;

/// What a browser sends, about 700 bytes with the request line.
const BROWSER_HEADERS: &[&str] = &[
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cache-Control: max-age=0",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Referer: http://edge.example.com/models/overview?tenant=vision",
    "Cookie: session=6f1f0c9a51a34c0f8f7d2b9a4f0e3c11; theme=dark; consent=necessary; variant=b",
];

pub const DEFAULT: &str = "keepalive,keepalive256,close,download,upload,openloop,idle,sse";

pub const ALL: &[Case] = &[
    small("keepalive", "Keep-alive GET, 1 KiB, 64 connections", 64, "/", &[]),
    small("keepalive256", "Keep-alive GET, 1 KiB, 256 connections", 256, "/", &[]),
    small("headers", "Keep-alive GET, 1 KiB, 64 connections, a browser's headers", 64, "/", BROWSER_HEADERS),
    small("body16k", "Keep-alive GET, 16 KiB, 64 connections", 64, "/bytes/16384", &[]),
    small("body64k", "Keep-alive GET, 64 KiB, 64 connections", 64, "/bytes/65536", &[]),
    small("chunked", "Keep-alive GET, 20,000 bytes chunked, 64 connections", 64, "/chunked/20000", &[]),
    small("close", "A connection per request, 1 KiB, 64 at once", 64, "/", &["Connection: close"]),
    Case {
        name: "download",
        title: "Download of 1 MiB bodies, 8 connections",
        layer: Layer::Http,
        load: Load::Download { connections: 8, body_bytes: BODY_BYTES },
        metrics: BULK,
    },
    Case {
        name: "upload",
        title: "Upload of 1 MiB bodies, 8 connections",
        layer: Layer::Http,
        load: Load::Upload { connections: 8, body_bytes: BODY_BYTES },
        metrics: BULK,
    },
    Case {
        name: "openloop",
        title: "Open loop, 8,000 requests/s of 1 KiB over 64 connections, latency from the due time",
        layer: Layer::Http,
        load: Load::OpenLoop { connections: 64, rate_per_s: 8000, stream: false, policed: false },
        metrics: &[Metric::P50Us, Metric::P99Us, Metric::CpuUsPerRequest],
    },
    Case {
        name: "idle",
        title: "5,000 idle keep-alive connections, each after one request",
        layer: Layer::Http,
        load: Load::Idle { connections: 5000 },
        metrics: &[Metric::IdleKbPerConnection, Metric::StartRssMib, Metric::ReturnedPercent],
    },
    Case {
        name: "sse",
        title: "128 server-sent event streams of 100 events/s each; p50 and p99 of an event's way",
        layer: Layer::Http,
        load: Load::Events { streams: 128, rate_per_s: 100 },
        metrics: &[Metric::CpuUsPerEvent, Metric::P50Us, Metric::P99Us, Metric::CorePercent],
    },
    Case {
        name: "gateway",
        title: "GET, 1 KiB, 64 connections; Tidegate checks a token, five routes, two limits, a canary and a breaker, peers nothing",
        layer: Layer::Http,
        load: Load::Policed { connections: 64, path: "/" },
        metrics: &[
            Metric::CpuUsPerRequest,
            Metric::RequestsPerSecond,
            Metric::P50Us,
            Metric::P99Us,
            Metric::CorePercent,
        ],
    },
    Case {
        name: "policed",
        title: "The same checks in an open loop: 12,000 requests/s over 64 connections, latency from the due time; memory at the end",
        layer: Layer::Http,
        load: Load::OpenLoop { connections: 64, rate_per_s: 12_000, stream: false, policed: true },
        metrics: &[Metric::P50Us, Metric::P99Us, Metric::CpuUsPerRequest, Metric::RssMib],
    },
    Case {
        name: "calm",
        title: "Open loop, 1,000 requests/s of 1 KiB over 16 connections",
        layer: Layer::Http,
        load: Load::OpenLoop { connections: 16, rate_per_s: 1000, stream: false, policed: false },
        metrics: &[Metric::P50Us, Metric::P99Us, Metric::CpuUsPerRequest],
    },
    Case {
        name: "beside",
        title: "The same beside a chunked stream at full speed",
        layer: Layer::Http,
        load: Load::OpenLoop { connections: 16, rate_per_s: 1000, stream: true, policed: false },
        metrics: &[Metric::P50Us, Metric::P99Us],
    },
    Case {
        name: "tls",
        title: "TLS 1.3: keep-alive GET, 1 KiB, 64 connections",
        layer: Layer::Https,
        load: Load::Wrk { connections: 64, path: "/", headers: &[] },
        metrics: SMALL,
    },
    Case {
        name: "tlsclose",
        title: "TLS 1.3: a connection with a full handshake per request, 1 KiB, 64 at once",
        layer: Layer::Https,
        load: Load::Wrk { connections: 64, path: "/", headers: &["Connection: close"] },
        metrics: SMALL,
    },
    Case {
        name: "tlsresume",
        title: "TLS 1.3: a connection with a resumed session per request, 1 KiB, one after another",
        layer: Layer::Https,
        load: Load::Handshakes { resumed: true },
        metrics: SMALL,
    },
    Case {
        name: "tlsfull",
        title: "TLS 1.3: a connection with a full handshake per request, 1 KiB, one after another",
        layer: Layer::Https,
        load: Load::Handshakes { resumed: false },
        metrics: SMALL,
    },
    Case {
        name: "tlsdownload",
        title: "TLS 1.3: download of 1 MiB bodies, 8 connections",
        layer: Layer::Https,
        load: Load::Wrk { connections: 8, path: "/bytes/1048576", headers: &[] },
        metrics: BULK,
    },
    Case {
        name: "tlsidle",
        title: "TLS 1.3: 5,000 idle keep-alive connections, each after one request",
        layer: Layer::Https,
        load: Load::Idle { connections: 5000 },
        metrics: &[Metric::IdleKbPerConnection, Metric::StartRssMib, Metric::ReturnedPercent],
    },
    Case {
        name: "websocket",
        title: "WebSocket echo of 100 bytes, 64 sockets; a request is a message and its echo",
        layer: Layer::Http,
        load: Load::Echo { sockets: 64, message_bytes: 100 },
        metrics: SMALL,
    },
    http2("h2", "HTTP/2 without TLS: GET, 1 KiB, 8 connections of 32 streams", 8, 32, "/"),
    http2("h2one", "HTTP/2 without TLS: GET, 1 KiB, 64 connections of one stream", 64, 1, "/"),
    http2("h2body64k", "HTTP/2 without TLS: GET, 64 KiB, 8 connections of 8 streams", 8, 8, "/bytes/65536"),
    Case {
        name: "grpc",
        title: "gRPC, HTTP/2 on both sides: unary calls of 100 bytes, 8 connections of 32 streams",
        layer: Layer::Grpc,
        load: Load::Calls { connections: 8, streams: 32, message_bytes: 100 },
        metrics: COUNTED,
    },
    Case {
        name: "grpc64k",
        title: "gRPC, HTTP/2 on both sides: unary calls of 64 KiB, 8 connections of 8 streams",
        layer: Layer::Grpc,
        load: Load::Calls { connections: 8, streams: 8, message_bytes: 65_536 },
        metrics: COUNTED,
    },
    Case {
        name: "grpcbidi",
        title: "gRPC, HTTP/2 on both sides: 64 streams, each echoing messages of 1 KiB; a request is a message and its echo",
        layer: Layer::Grpc,
        load: Load::Messages { streams: 64, message_bytes: 1024 },
        metrics: SMALL,
    },
    Case {
        name: "l4small",
        title: "L4: small messages (GET of 1 KiB), 64 connections",
        layer: Layer::Tcp,
        load: Load::Wrk { connections: 64, path: "/", headers: &[] },
        metrics: SMALL,
    },
    Case {
        name: "l4bulk",
        title: "L4: bulk (1 MiB downloads), 8 connections",
        layer: Layer::Tcp,
        load: Load::Download { connections: 8, body_bytes: BODY_BYTES },
        metrics: BULK,
    },
];

const fn small(
    name: &'static str,
    title: &'static str,
    connections: usize,
    path: &'static str,
    headers: &'static [&'static str],
) -> Case {
    Case { name, title, layer: Layer::Http, load: Load::Wrk { connections, path, headers }, metrics: SMALL }
}

const fn http2(
    name: &'static str,
    title: &'static str,
    connections: usize,
    streams: usize,
    path: &'static str,
) -> Case {
    let load = Load::H2load { connections, streams, path };
    Case { name, title, layer: Layer::Http2, load, metrics: COUNTED }
}

impl Case {
    /// The peers of this case in their order: large bodies add the variants that are made for them.
    pub fn lineup(&self, peers: &[Peer]) -> Vec<Peer> {
        let is_large = self.metrics == BULK;
        let mut lineup = Vec::new();
        for &peer in peers.iter().filter(|peer| peer.speaks(self.layer)) {
            lineup.push(peer);
            let variant = peer.for_large_bodies().filter(|variant| is_large && !peers.contains(variant));
            lineup.extend(variant.filter(|variant| variant.speaks(self.layer)));
        }
        lineup
    }
}

/// Parses `--cases`: names, or `all`.
pub fn by_names(list: &str) -> Result<Vec<&'static Case>, String> {
    if list == "all" {
        return Ok(ALL.iter().collect());
    }
    let find = |name: &str| ALL.iter().find(|case| case.name == name);
    list.split(',')
        .map(|name| {
            let names: Vec<&str> = ALL.iter().map(|case| case.name).collect();
            find(name).ok_or_else(|| format!("no case `{name}`; there are {}", names.join(", ")))
        })
        .collect()
}
