//! Owns the one error type of a request: what went wrong, at which stage, whose fault it is, and whether
//! a retry is safe. Maps each kind to the status that a client sees and to the word that metrics and the
//! access log carry. Does not render responses (`proxy::problem`) and does not log.

use std::fmt;

use crate::runtime::buffer::Exhausted;

/// What went wrong with one request.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    /// Bytes of the request that may have reached an upstream make a retry of anything but an idempotent
    /// request unsafe.
    pub sent: Sent,
    /// The operating system's or the parser's own words; never shown to clients.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// How much of the request an upstream may have seen when the error happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// No byte left this process: any request may be tried again.
    Nothing,
    /// Some bytes left: only a request that is safe to repeat may be tried again.
    Something,
}

/// Who has to change something for the error to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Client,
    Upstream,
    Gateway,
}

/// The stage of the request path (see `proxy::pipeline`) in which an error of a kind arises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Parse,
    Route,
    Authorise,
    Admit,
    Balance,
    Forward,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $status:expr, $word:literal, $fault:ident, $stage:ident, $detail:literal;)*) => {
        /// Every way a request can fail, with its status, word, fault, stage and the detail a client is told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All kinds, in a fixed order: metrics index by `kind as usize`.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The status code sent to the client, or logged where none can be sent any more.
            pub const fn status(self) -> u16 { match self { $(Kind::$name => $status,)* } }
            /// A stable snake_case word for metrics and logs.
            pub const fn word(self) -> &'static str { match self { $(Kind::$name => $word,)* } }
            pub const fn fault(self) -> Fault { match self { $(Kind::$name => Fault::$fault,)* } }
            pub const fn stage(self) -> Stage { match self { $(Kind::$name => Stage::$stage,)* } }
            /// One sentence for the client.
            pub const fn detail(self) -> &'static str { match self { $(Kind::$name => $detail,)* } }
        }
    };
}

kinds! {
    /// The head breaks RFC 9112/9110 or the framing is ambiguous.
    BadRequest, 400, "bad_request", Client, Parse, "the request head is malformed";
    /// Chunk framing or trailers of the request body are malformed.
    BadRequestBody, 400, "bad_request_body", Client, Forward, "the request body's framing is malformed";
    /// A load balancer that is trusted to send a PROXY header sent something else.
    BadProxyHeader, 400, "bad_proxy_header", Client, Parse, "the connection does not begin with a PROXY header";
    /// A TLS passthrough listener was sent something else, or more than it looks at.
    BadClientHello, 400, "bad_client_hello", Client, Parse, "the connection does not begin with a TLS ClientHello";
    HeaderTimeout, 408, "header_timeout", Client, Parse, "the request head did not arrive in time";
    BodyTimeout, 408, "body_timeout", Client, Forward, "the request body stopped arriving";
    BodyTooLarge, 413, "body_too_large", Client, Admit, "the request body is larger than this route allows";
    UriTooLong, 414, "uri_too_long", Client, Parse, "the request target is longer than this gateway allows";
    UnsupportedMediaType, 415, "unsupported_media_type", Client, Admit, "the request body is of a type that this route does not take";
    /// Not what it says it is, by what its route checks.
    InvalidBody, 400, "invalid_body", Client, Forward, "the request body is not what this route takes";
    /// Larger than its route's bounds.
    ImageTooLarge, 422, "image_too_large", Client, Forward, "the image is larger than this route allows";
    ExpectationFailed, 417, "expectation_failed", Client, Parse, "only the expectation 100-continue is supported";
    HeadTooLarge, 431, "head_too_large", Client, Parse, "the request head is larger than this gateway allows";
    VersionNotSupported, 505, "version_not_supported", Client, Parse, "only HTTP/1.0 and HTTP/1.1 are supported here";
    Unauthorized, 401, "unauthorized", Client, Authorise, "this needs a valid token";
    Forbidden, 403, "forbidden", Client, Authorise, "whoever asks may not do this";
    /// Whoever the route asks says no; the answer is theirs.
    AuthorizerDenied, 403, "authorizer_denied", Client, Authorise, "whoever decides on this route does not allow it";
    AuthorizerFailed, 503, "authorizer_failed", Gateway, Authorise, "whoever decides on this route could not be asked";
    NoRoute, 404, "no_route", Client, Route, "no route matches this request";
    NoService, 404, "no_service", Client, Route, "the route names a service that does not exist";
    MethodNotAllowed, 405, "method_not_allowed", Client, Route, "this method is not supported here";
    /// Those that tokens are verified with have not been fetched yet.
    KeysUnavailable, 503, "keys_unavailable", Gateway, Authorise, "tokens cannot be verified yet";
    /// It has as many connections, or new ones, as `per_address` of the listener allows.
    AddressLimited, 429, "address_limited", Client, Admit, "this address has as many connections as it may";
    RateLimited, 429, "rate_limited", Client, Admit, "there are more requests than this route allows";
    /// An API key has made as many requests as it may in a day or a month.
    QuotaExceeded, 429, "quota_exceeded", Client, Admit, "the API key has no request left";
    /// One tenant has as many requests at the service as he may, and as many wait.
    ConcurrencyLimited, 429, "concurrency_limited", Client, Admit, "too many requests at once";
    /// The service has as many requests as it may, and as many wait for it.
    QueueFull, 503, "queue_full", Gateway, Admit, "the service is busy, and so many wait for it already that no more may";
    QueueTimeout, 503, "queue_timeout", Gateway, Admit, "the service is busy, and had no room for this request in time";
    /// Its circuit breaker is open, or sheds half of the requests.
    BreakerOpen, 503, "breaker_open", Upstream, Admit, "too many of the service's last requests have failed: it is left alone for a while";
    /// `limits.buffers` is reached.
    NoBuffers, 503, "no_buffers", Gateway, Admit, "the gateway has no buffer left for another request";
    /// RLIMIT_NOFILE is reached.
    NoDescriptors, 503, "no_descriptors", Gateway, Forward, "the gateway has no file descriptor left to reach the upstream with";
    /// No memory of the service's, or no place in the line of the compute threads.
    ConversionBusy, 503, "conversion_busy", Gateway, Admit, "as many requests are being converted as may";
    /// Its status is the model server's.
    ModelRefused, 500, "model_refused", Upstream, Forward, "the model server has refused the request";
    /// A route's `fault`, whose status is its own (`Injected`).
    FaultInjected, 503, "fault_injected", Gateway, Admit, "this error was injected on purpose";
    NoEndpoint, 503, "no_endpoint", Upstream, Balance, "the service has no endpoint that may be sent this request";
    ConnectFailed, 502, "connect_failed", Upstream, Forward, "the upstream could not be connected";
    ConnectTimeout, 504, "connect_timeout", Upstream, Forward, "the upstream did not accept a connection in time";
    /// No handshake: its certificate is not trusted, ours is not, or nothing is common.
    UpstreamTlsFailed, 502, "upstream_tls_failed", Upstream, Forward, "no TLS connection to the upstream could be agreed on";
    /// The upstream closed or reset before a complete response head.
    UpstreamClosed, 502, "upstream_closed", Upstream, Forward, "the upstream closed the connection before answering";
    /// Over HTTP/2: the upstream ended the request's stream, and goes on with others.
    UpstreamReset, 502, "upstream_reset", Upstream, Forward, "the upstream broke off this request";
    /// Over HTTP/2: the upstream has not looked at the request, and takes no more for now.
    UpstreamRefused, 503, "upstream_refused", Upstream, Forward, "the upstream takes no more requests for now";
    /// The upstream's head or framing is malformed or ambiguous.
    BadResponse, 502, "bad_response", Upstream, Forward, "the upstream sent a malformed response";
    /// The body ended early or its chunk framing broke after the head was relayed: the client sees an abort.
    ResponseTruncated, 502, "response_truncated", Upstream, Forward, "the upstream's response ended early";
    /// In a gRPC call.
    MessageTooLarge, 502, "message_too_large", Upstream, Forward, "a message of the upstream is larger than this route allows";
    FirstByteTimeout, 504, "first_byte_timeout", Upstream, Forward, "the upstream did not answer in time";
    ResponseTimeout, 504, "response_timeout", Upstream, Forward, "the upstream's response stopped arriving";
    RequestTimeout, 504, "request_timeout", Upstream, Forward, "the request took longer than this route allows";
    /// The client closed or reset; nothing can be sent (nginx's 499).
    ClientClosed, 499, "client_closed", Client, Forward, "the client closed the connection";
    /// The client read nothing for the idle timeout.
    ClientStalled, 499, "client_stalled", Client, Forward, "the client stopped reading the response";
    /// Layer 4: neither side sent anything for the listener's idle timeout.
    IdleTimeout, 408, "idle_timeout", Client, Forward, "nothing moved on the connection in time";
    Internal, 500, "internal", Gateway, Forward, "the gateway failed on this request";
}

impl Error {
    pub fn new(kind: Kind) -> Self {
        Error { kind, sent: Sent::Nothing, source: None }
    }

    pub fn with_source(kind: Kind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error { kind, sent: Sent::Nothing, source: Some(source.into()) }
    }

    /// The status code sent to the client, or logged where none can be sent any more.
    pub fn status(&self) -> u16 {
        let source = self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static));
        let mut causes = std::iter::successors(source, |cause| cause.source());
        let injected = causes.find_map(|cause| cause.downcast_ref::<Injected>());
        injected.map_or(self.kind.status(), |Injected(status)| *status)
    }

    /// Marks that bytes of the request may have reached an upstream.
    pub fn after_sending(mut self) -> Self {
        self.sent = Sent::Something;
        self
    }
}

/// The status of an error that a config asks for.
#[derive(Debug)]
pub struct Injected(pub u16);

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0)
    }
}

impl std::error::Error for Injected {}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error::new(kind)
    }
}

impl From<Exhausted> for Error {
    fn from(_: Exhausted) -> Self {
        Error::new(Kind::NoBuffers)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.detail())?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
