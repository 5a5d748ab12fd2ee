//! Owns what one `[[route]]` means once compiled: its conditions, its action, and the edits it makes.
//! Data only: `proxy::route` selects among rules, `proxy::transform` applies the edits, `config::compile` builds them.

use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use crate::config::snapshot::{AuthId, ServiceId, StableId, UpstreamTimeouts};
use crate::proxy::authorizer::Authorizer;
use crate::proxy::canary::Canary;
use crate::proxy::cors::Cors;
use crate::proxy::injection::Injection;
use crate::proxy::inspection::Check;
use crate::proxy::limits::Limit;
use crate::proxy::media::MediaType;
use crate::proxy::shadow::Shadow;
use crate::proxy::template::Template;

#[derive(Debug)]
pub struct Route {
    pub name: Arc<str>,
    pub id: StableId,
    pub conditions: Conditions,
    pub action: Action,
    pub rewrite: Option<Rewrite>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// Whole request, retries included; overrides the service's.
    pub request_timeout: Option<Duration>,
    /// In place of the service's.
    pub first_byte_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    /// What the claims of whoever `conditions.auth` has verified must be.
    pub allow: Vec<FieldMatch>,
    /// Who has to allow it, too.
    pub authorizer: Option<Arc<Authorizer>>,
    /// Names of fields, in lower case, that only we say to the endpoint, or that nobody does: clients' own go no further, nor do their trailers
    /// of these names.
    pub reserved: Option<Arc<[Box<str>]>>,
    /// Each has to have a token for a request.
    pub limits: Vec<Arc<Limit>>,
    pub canary: Option<Box<Canary>>,
    pub shadow: Option<Box<Shadow>>,
    /// Faults on purpose.
    pub injection: Option<Box<Injection>>,
    pub body_bytes_max: u64,
    /// What a body may be; any of these. Empty: anything.
    pub takes: Vec<MediaType>,
    /// What a body of some types has to be.
    pub check: Option<Box<Check>>,
    pub message_bytes_max: u64,
    /// What pages of other origins may ask. `None`: nothing is said of it.
    pub cors: Option<Box<Cors>>,
}

impl Route {
    /// One that does only this.
    pub fn new(name: Arc<str>, id: StableId, conditions: Conditions, action: Action) -> Route {
        Route {
            name,
            id,
            conditions,
            action,
            rewrite: None,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            request_timeout: None,
            first_byte_timeout: None,
            idle_timeout: None,
            body_bytes_max: u64::MAX,
            message_bytes_max: u64::MAX,
            allow: Vec::new(),
            authorizer: None,
            reserved: None,
            limits: Vec::new(),
            canary: None,
            shadow: None,
            injection: None,
            takes: Vec::new(),
            check: None,
            cors: None,
        }
    }

    /// With what its header edits and its authorizer alone may say.
    pub fn with_reserved(mut self) -> Route {
        let HeaderEdits { remove, set, .. } = &self.request_headers;
        let says = self.authorizer.iter().flat_map(|authorizer| &authorizer.says);
        let names = remove.iter().chain(set.iter().map(|(name, _)| name)).chain(says);
        let names: Vec<Box<str>> = names.map(|name| name.to_ascii_lowercase().into()).collect();
        self.reserved = (!names.is_empty()).then(|| names.into());
        self
    }

    /// What bounds the try of a request that it sends to a service with these.
    pub fn upstream_timeouts(&self, service: &UpstreamTimeouts) -> UpstreamTimeouts {
        UpstreamTimeouts {
            first_byte: self.first_byte_timeout.unwrap_or(service.first_byte),
            idle: self.idle_timeout.unwrap_or(service.idle),
            ..*service
        }
    }
}

/// All must hold. Empty lists hold always.
#[derive(Debug, Default)]
pub struct Conditions {
    /// Any of these; lower case, without port.
    pub hosts: Vec<HostMatch>,
    /// Any of these.
    pub paths: Vec<PathMatch>,
    /// Any of these; upper case as on the wire.
    pub methods: Vec<Box<str>>,
    pub headers: Vec<FieldMatch>,
    pub query: Vec<FieldMatch>,
    /// Names of listeners; any of these.
    pub listeners: Vec<Arc<str>>,
    /// What a JSON body names as its `model`; any of these.
    pub models: Vec<FieldTest>,
    /// Any of these.
    pub content_types: Vec<MediaType>,
    /// Who may ask. No condition by itself: others are turned away, and not sent to the next route.
    pub auth: Option<AuthId>,
    /// Of what `auth` has verified; none holds before.
    pub claims: Vec<FieldMatch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    Exact(Box<str>),
    /// `*.example.com`: any one or more labels in front; stored as ".example.com".
    Suffix(Box<str>),
}

#[derive(Debug)]
pub enum PathMatch {
    /// `/v2/health`
    Exact(Box<str>),
    /// `/v2/**`: "/v2", "/v2/" and everything below; stored as "/v2" ("" for `/**`).
    Prefix(Box<str>),
    /// `/v2/models/{model}/infer`, `*` for one unnamed segment, `**` last for the rest.
    Segments(Vec<Segment>),
    /// `~ ^/v[0-9]+/`: anchored by its author.
    Regex(Regex),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Literal(Box<str>),
    /// One non-empty segment; the name is usable in templates as `{path:NAME}`.
    Named(Box<str>),
    Any,
    /// Zero or more segments; last only.
    Rest,
}

/// A header (name in lower case), a query parameter or a claim (name as written).
#[derive(Debug)]
pub struct FieldMatch {
    pub name: Box<str>,
    pub test: FieldTest,
}

/// Holds if any value of the field passes; `Absent` if there is none.
#[derive(Debug)]
pub enum FieldTest {
    Present,
    Absent,
    Equals(Box<str>),
    Prefix(Box<str>),
    Regex(Regex),
}

#[derive(Debug)]
pub enum Action {
    Forward(Target),
    Redirect { status: u16, location: Template },
    Respond { status: u16, content_type: Box<str>, body: Arc<[u8]> },
}

/// `to`, and `otherwise` when the template names no service.
#[derive(Debug)]
pub struct Target {
    pub to: To,
    pub otherwise: Option<ServiceId>,
}

#[derive(Debug)]
pub enum To {
    Service(ServiceId),
    /// Rendered per request, then looked up by name.
    Template(Template),
}

#[derive(Debug)]
pub enum Rewrite {
    /// Replace the whole path; the query stays.
    Path(Template),
    /// Remove this prefix; "/" if nothing remains.
    StripPrefix(Box<str>),
    /// Replace what the regex matches, `$1` and `${name}` in the replacement.
    Regex { pattern: Regex, replacement: Box<[u8]> },
}

/// Applied in this order: remove, set, add.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    /// Lower case.
    pub remove: Vec<Box<str>>,
    /// Replaces all fields of the name. Names as written.
    pub set: Vec<(Box<str>, Template)>,
    pub add: Vec<(Box<str>, Template)>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
