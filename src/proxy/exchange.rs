//! Owns one request while the gateway has it: its bytes and head, who sent it, which configuration it sees,
//! and the facts of its outcome. Born when a head begins to arrive; its drop counts and logs it, so that every
//! exit is seen. Decides nothing.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::snapshot::{Cidr, Endpoint, Service, ServiceId, Snapshot, StableId};
use crate::error::{Error, Kind};
use crate::http::h1_parse::{Progress, parse_request};
use crate::http::head::{Field, HeadLimits, Name, RequestHead, Version, is_alike};
use crate::observe::{AccessLog, ListenerIndex, LogLine, Outcome};
use crate::policy::claims::Claims;
use crate::runtime::buffer::Buffer;
use crate::runtime::core::{Core, SnapshotRef};

use super::grpc::Call;
use super::identify::Identities;
use super::inspection::Inspection;
use super::request_id::RequestId;
use super::routed::Routed;
use super::rule::Route;
use super::shadow::Making;
use super::transform;

/// Who is at the other end of a client connection; shared by its requests.
#[derive(Clone)]
pub struct ClientInfo {
    /// The client: the connection's other end, or whom a trusted PROXY header names.
    pub peer: SocketAddr,
    /// The peer's address as text, for every request's `x-forwarded-for`.
    pub address: Box<str>,
    /// Where the client connected to, if a PROXY header said so.
    pub proxied_to: Option<SocketAddr>,
    pub listener: Arc<str>,
    pub listener_index: ListenerIndex,
    /// Cleared when a reload removes the listener: its connections then end with their next answer.
    pub listener_open: Rc<Cell<bool>>,
    /// It speaks through TLS.
    pub is_secure: bool,
    /// What the certificate says that it has shown, and that is believed.
    pub certificate: Option<Arc<Claims>>,
    /// When it has lived as long as it may.
    pub ends_at: Option<Instant>,
}

impl ClientInfo {
    /// Of the URLs that it asks for.
    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    pub fn is_old(&self, now: Instant) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }
}

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    /// Ours: another one's shadow.
    Shadow,
    /// Ours, on behalf of another one: whether it may go on, or what it was made into.
    Question,
}

pub struct Exchange {
    pub core: Rc<Core>,
    pub client: Rc<ClientInfo>,
    pub head: RequestHead,
    /// It came on a stream of HTTP/2; its head is in HTTP/1.1's form all the same.
    pub is_http2: bool,
    /// There if it came with a `:protocol` (RFC 8441): for a handshake with an endpoint of HTTP/1.1.
    pub websocket_key: Option<Box<str>>,
    /// Lines that its answer gets for the page that asked.
    pub cors: Vec<u8>,
    /// There if it is a gRPC call.
    pub call: Option<Call>,
    pub identities: Identities,
    /// The client, as a trusted peer names it.
    pub named_client: Option<IpAddr>,
    /// What its JSON body names as its model, if somebody has looked.
    pub model: Option<Box<str>>,
    /// Of a body that may end in trailers: names that they may not have (`Route::reserved`).
    pub reserved: Option<Arc<[Box<str>]>>,
    /// What its route checks of a body that passes piece by piece.
    pub inspection: Option<Box<Inspection>>,
    /// Of its shadow, what has been made.
    pub shadow: RefCell<Option<Box<Making>>>,
    pub role: Role,
    /// A client that waited for it was told to send its body.
    pub told_to_go_on: bool,
    /// Holds exactly the head's bytes, which `head`'s spans index.
    bytes: Option<Buffer>,
    /// The path that routes see and upstreams get, where it differs from the one sent.
    pub normalised_path: Option<Vec<u8>>,
    pub id: RequestId,
    started: Instant,
    seen: RefCell<Seen>,
    pub facts: Facts,
}

/// What is known of an outcome so far. Cells: both directions of a stream add to it.
#[derive(Default)]
pub struct Facts {
    pub status: Cell<u16>,
    pub error: Cell<Option<Kind>>,
    pub request_bytes: Cell<u64>,
    pub response_bytes: Cell<u64>,
    pub tries: Cell<u32>,
    pub first_byte: Cell<Option<Duration>>,
    /// A response head has begun to go to the client: from now on an error can only abort.
    pub answered: Cell<bool>,
    /// An informational response went to the client: the final one must come from the same try.
    pub informed: Cell<bool>,
}

/// The configuration that a request sees, until it needs only names of it.
enum Seen {
    Whole {
        snapshot: SnapshotRef,
        route: Option<usize>,
        service: Option<ServiceId>,
        /// Its place among the service's endpoints.
        endpoint: Option<usize>,
    },
    /// A long stream: holds no snapshot, or every reload would pin one more.
    Names {
        route: Option<(StableId, Arc<str>)>,
        service: Option<(StableId, Arc<str>)>,
        endpoint: Option<(StableId, Arc<str>)>,
    },
}

/// Fields and bytes that a head of our own may have beyond a client's.
const ADDED_FIELDS_MAX: usize = 64;
const ADDED_BYTES_MAX: usize = 16 * 1024;

impl Exchange {
    pub fn new(core: Rc<Core>, client: Rc<ClientInfo>, snapshot: SnapshotRef) -> Exchange {
        let head = RequestHead { fields: core.request_fields.take(), ..RequestHead::default() };
        let id = core.request_ids.make();
        core.metrics.request_started();
        Exchange {
            head,
            is_http2: false,
            websocket_key: None,
            cors: Vec::new(),
            call: None,
            identities: Identities::default(),
            named_client: None,
            model: None,
            reserved: None,
            inspection: None,
            shadow: RefCell::default(),
            role: Role::Client,
            told_to_go_on: false,
            bytes: None,
            normalised_path: None,
            id,
            started: core.timers.now(),
            seen: RefCell::new(Seen::Whole { snapshot, route: None, service: None, endpoint: None }),
            facts: Facts::default(),
            core,
            client,
        }
    }

    /// The request that is its shadow, which goes where `routed` says.
    pub fn shadow(&self, routed: &Routed) -> Exchange {
        let mut shadow = self.another(Role::Shadow, routed);
        shadow.head = self.head.clone();
        shadow.is_http2 = self.is_http2;
        shadow.bytes = Some(self.core.buffers.holding(self.bytes()));
        shadow.normalised_path = self.normalised_path.clone();
        routed.seen_by(&shadow);
        shadow
    }

    /// A request on behalf of it, which is this text.
    pub fn question(&self, text: &[u8], routed: &Routed) -> Result<Exchange, Error> {
        let mut question = self.another(Role::Question, routed);
        let snapshot = routed.held();
        question.read_head(text, &snapshot.settings.head_limits)?;
        routed.seen_by(&question);
        Ok(question)
    }

    /// It is answered by what was asked on its behalf.
    pub fn is_answered_by(&self, question: &Exchange) {
        // Taken from it: an endpoint counts a request once.
        let endpoint = match &mut *question.seen.borrow_mut() {
            Seen::Whole { endpoint, .. } => endpoint.take(),
            Seen::Names { endpoint, .. } => {
                endpoint.take().zip(self.service()).and_then(|((id, _), service)| {
                    service.endpoints.iter().position(|endpoint| endpoint.id == id)
                })
            }
        };
        endpoint.into_iter().for_each(|endpoint| self.saw_endpoint(endpoint));
        self.facts.tries.set(question.facts.tries.get());
        self.facts.first_byte.set(question.facts.first_byte.get());
    }

    /// One of our own on behalf of it. Counted by itself.
    fn another(&self, role: Role, routed: &Routed) -> Exchange {
        let seen = Seen::Whole { snapshot: routed.held(), route: None, service: None, endpoint: None };
        Exchange {
            head: RequestHead::default(),
            is_http2: false,
            websocket_key: None,
            cors: Vec::new(),
            call: None,
            identities: self.identities.clone(),
            named_client: self.named_client,
            model: self.model.clone(),
            reserved: None,
            inspection: None,
            shadow: RefCell::default(),
            role,
            // Nobody waits for leave to send a body that is here.
            told_to_go_on: true,
            bytes: None,
            normalised_path: None,
            id: self.id.clone(),
            started: self.core.timers.lately(),
            seen: RefCell::new(seen),
            facts: Facts::default(),
            core: self.core.clone(),
            client: self.client.clone(),
        }
    }

    /// Takes another head than the one that came, which `limits` bound: this one may have as much more as we add.
    fn read_head(&mut self, text: &[u8], limits: &HeadLimits) -> Result<(), Error> {
        let limits = HeadLimits {
            fields_max: limits.fields_max + ADDED_FIELDS_MAX,
            head_bytes_max: limits.head_bytes_max + ADDED_BYTES_MAX,
            ..*limits
        };
        match parse_request(text, &mut Progress::default(), &limits, &mut self.head) {
            Ok(true) => {
                self.bytes = Some(self.core.buffers.holding(text));
                Ok(())
            }
            // It grew too long, or there is a mistake in what was made of it.
            Ok(false) | Err(_) => {
                self.forget_head();
                Err(Kind::HeadTooLarge.into())
            }
        }
    }

    /// From now on the request says these lines, and nothing else by these names or any that might be read as one of them.
    pub fn say_instead(&mut self, names: &[Box<str>], lines: &[u8]) -> Result<(), Error> {
        let bytes = self.bytes();
        let is_one = |name: &[u8]| names.iter().any(|known| is_alike(name, known.as_bytes()));
        let is_named = |field: &Field| is_one(field.name.of(bytes));
        if lines.is_empty() && !self.head.fields.iter().any(is_named) {
            return Ok(());
        }
        // Without what may stand before it (RFC 9112 §2.2).
        let request = &bytes[usize::from(self.head.method_span.start)..];
        let line_end = request.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut text = request[..line_end].to_vec();
        for field in self.head.fields.iter().filter(|field| !is_named(field)) {
            transform::field(&mut text, field.name.of(bytes), field.value.of(bytes));
        }
        text.extend_from_slice(lines);
        text.extend_from_slice(b"\r\n");
        let expects = self.head.expect_continue;
        let limits = self.snapshot().map(|snapshot| snapshot.settings.head_limits).unwrap_or_default();
        self.read_head(&text, &limits)?;
        self.head.expect_continue &= expects;
        // Whatever the client's `connection` names, these are not its own.
        for field in self.head.fields.iter_mut() {
            field.hop_by_hop &= !is_one(field.name.of(&text));
        }
        Ok(())
    }

    /// The head's bytes; empty while none could be read.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], Buffer::filled)
    }

    pub fn set_bytes(&mut self, bytes: Buffer) {
        self.bytes = Some(bytes);
    }

    /// The head turned out to be unreadable: its spans mean nothing.
    pub fn forget_head(&mut self) {
        let mut fields = std::mem::take(&mut self.head.fields);
        fields.clear();
        self.head = RequestHead { fields, ..RequestHead::default() };
        self.bytes = None;
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// The path in normal form.
    pub fn path(&self) -> &[u8] {
        match &self.normalised_path {
            Some(path) => path,
            None => self.head.path.of(self.bytes()),
        }
    }

    pub fn query(&self) -> Option<&[u8]> {
        self.head.has_query.then(|| self.head.query.of(self.bytes()))
    }

    pub fn method(&self) -> &[u8] {
        self.head.method_span.of(self.bytes())
    }

    pub fn authority(&self) -> &[u8] {
        self.head.authority.of(self.bytes())
    }

    /// The snapshot, before `let_go_of_snapshot`.
    pub fn snapshot(&self) -> Option<SnapshotRef> {
        match &*self.seen.borrow() {
            Seen::Whole { snapshot, .. } => Some(Rc::clone(snapshot)),
            Seen::Names { .. } => None,
        }
    }

    /// The service that it goes to, as long as it knows that.
    pub fn service(&self) -> Option<Arc<Service>> {
        match &*self.seen.borrow() {
            Seen::Whole { snapshot, service: Some(service), .. } => Some(snapshot.service(*service).clone()),
            _ => None,
        }
    }

    pub fn saw_route(&self, index: usize) {
        if let Seen::Whole { route, .. } = &mut *self.seen.borrow_mut() {
            *route = Some(index);
        }
    }

    pub fn saw_service(&self, chosen: ServiceId) {
        if let Seen::Whole { service, .. } = &mut *self.seen.borrow_mut() {
            *service = Some(chosen);
        }
    }

    /// `chosen` counts in the service that was seen.
    pub fn saw_endpoint(&self, chosen: usize) {
        if let Seen::Whole { endpoint, .. } = &mut *self.seen.borrow_mut() {
            *endpoint = Some(chosen);
        }
    }

    /// Keeps names only; called once a stream has outlived its head.
    pub fn let_go_of_snapshot(&self) {
        let mut seen = self.seen.borrow_mut();
        let Seen::Whole { snapshot, route, service, endpoint } = &*seen else { return };
        let (route, service, endpoint) = resolve(snapshot, *route, *service, *endpoint);
        let names = Seen::Names {
            route: route.map(|route| (route.id, route.name.clone())),
            service: service.map(|service| (service.id, service.name.clone())),
            endpoint: endpoint.map(|endpoint| (endpoint.id, endpoint.label.clone())),
        };
        *seen = names;
    }

    /// Whether this peer's x-forwarded-* and x-request-id are believed.
    pub fn is_trusted_peer(&self, trusted: &[Cidr]) -> bool {
        !trusted.is_empty() && trusted.iter().any(|network| network.contains(self.client.peer.ip()))
    }

    /// Whom this request is from: who has connected, or whom a trusted peer names.
    pub fn client_ip(&self) -> IpAddr {
        self.named_client.unwrap_or_else(|| self.client.peer.ip())
    }

    pub fn is_listener_open(&self) -> bool {
        self.client.listener_open.get()
    }

    /// Whether the client asks for a tunnel by CONNECT with a protocol: any 2xx would open it.
    pub fn is_extended_connect(&self) -> bool {
        self.is_http2 && self.head.upgrade
    }

    pub fn client_is_http10(&self) -> bool {
        self.head.version == Version::Http10
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let seen = self.seen.borrow();
        let (route, service, endpoint) = match &*seen {
            Seen::Whole { snapshot, route, service, endpoint } => {
                let (route, service, endpoint) = resolve(snapshot, *route, *service, *endpoint);
                (
                    route.map(|route| (route.id, &*route.name)),
                    service.map(|service| (service.id, &*service.name)),
                    endpoint.map(|endpoint| (endpoint.id, &*endpoint.label)),
                )
            }
            Seen::Names { route, service, endpoint } => (
                route.as_ref().map(|(id, name)| (*id, &**name)),
                service.as_ref().map(|(id, name)| (*id, &**name)),
                endpoint.as_ref().map(|(id, name)| (*id, &**name)),
            ),
        };
        let outcome = self.outcome(route.map(|r| r.0), service.map(|s| s.0), endpoint.map(|e| e.0));
        let names = (route.map(|r| r.1), service.map(|s| s.1), endpoint.map(|e| e.1));
        match self.role {
            Role::Client => self.core.observe(&outcome, |log| self.log(log, &outcome, names)),
            Role::Shadow => self.core.metrics.shadow(&outcome),
            Role::Question => self.core.metrics.question(&outcome),
        }
        let mut fields = std::mem::take(&mut self.head.fields);
        fields.clear();
        self.core.request_fields.give_back(fields);
    }
}

impl Exchange {
    fn outcome(
        &self,
        route: Option<StableId>,
        service: Option<StableId>,
        endpoint: Option<StableId>,
    ) -> Outcome {
        let facts = &self.facts;
        // Dropped before anything was decided: the connection's task was ended under it.
        let error = facts.error.get().or((facts.status.get() == 0).then_some(Kind::ClientClosed));
        let status = if facts.status.get() == 0 { Kind::ClientClosed.status() } else { facts.status.get() };
        Outcome {
            route,
            service,
            endpoint,
            status,
            error,
            request_bytes: facts.request_bytes.get(),
            response_bytes: facts.response_bytes.get(),
            duration: self.core.timers.now().saturating_duration_since(self.started),
            upstream_first_byte: facts.first_byte.get(),
            tries: facts.tries.get(),
        }
    }

    fn log(&self, log: &AccessLog, outcome: &Outcome, names: (Option<&str>, Option<&str>, Option<&str>)) {
        let (route, service, endpoint) = names;
        let bytes = self.bytes();
        let user_agent = self.head.fields.iter().find(|field| {
            field.known == Name::Other && field.name.of(bytes).eq_ignore_ascii_case(b"user-agent")
        });
        let user = self.identities.user();
        log.record(&LogLine {
            request_id: self.id.as_bytes(),
            // A port that nobody has told is none.
            client: self.named_client.map_or(self.client.peer, |named| SocketAddr::new(named, 0)),
            listener: &self.client.listener,
            method: self.method(),
            host: self.authority(),
            path: self.head.target.of(bytes),
            protocol: match self.head.version {
                _ if self.is_http2 => "HTTP/2",
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            status: outcome.status,
            route,
            service,
            endpoint,
            tries: outcome.tries,
            duration: outcome.duration,
            upstream_first_byte: outcome.upstream_first_byte,
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            error: outcome.error,
            user_agent: user_agent.map(|field| field.value.of(bytes)),
            user: user.as_deref(),
        });
    }
}

/// What was seen, in the snapshot that it was seen in.
fn resolve(
    snapshot: &Snapshot,
    route: Option<usize>,
    service: Option<ServiceId>,
    endpoint: Option<usize>,
) -> (Option<&Route>, Option<&Service>, Option<&Endpoint>) {
    let service = service.map(|id| &**snapshot.service(id));
    let endpoint = service.zip(endpoint).map(|(service, index)| &*service.endpoints[index]);
    (route.map(|index| &snapshot.routes.routes()[index]), service, endpoint)
}
