//! Owns which route a request takes: the first in file order whose conditions all hold.
//! `Route::matches` is the plain meaning; `RouteTable::select` gets the same answer from a compiled index
//! (`index`). Reads no wire format (`RouteInput` is its view of a request) and does not act on the route it finds.

use std::fmt;
use std::sync::Arc;

use crate::config::snapshot::AuthId;
use crate::policy::claims::Claims;
use crate::proxy::path::query_values;
use crate::proxy::rule::{Conditions, FieldMatch, FieldTest, HostMatch, PathMatch, Route, Segment};

use self::index::Index;

mod index;

/// What routing asks of a request.
pub trait RouteInput {
    /// As on the wire.
    fn method(&self) -> &[u8];
    /// The authority as sent: any case, port and trailing dot included.
    fn host(&self) -> &[u8];
    /// Normalised (`proxy::path::normalise`), without query.
    fn path(&self) -> &[u8];
    /// Without `?`.
    fn query(&self) -> Option<&[u8]>;
    /// Name of the listener that the request came in by.
    fn listener(&self) -> &str;
    /// True if `test` holds for any value of the header; it is not called on after that.
    fn any_header(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    fn has_header(&self, lower_name: &str) -> bool {
        self.any_header(lower_name, &mut |_| true)
    }
    /// The `content-type`, if there is one and no other.
    fn content_type(&self) -> Option<&[u8]>;
    /// What its JSON body names as its model, where that is asked for.
    fn model(&self) -> Option<&str>;
    /// What is verified of whoever asks, in this way.
    fn claims(&self, auth: AuthId) -> Option<Arc<Claims>>;
}

/// All routes of one snapshot, in file order, and the index over them.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    index: Index,
}

impl RouteTable {
    pub fn new(routes: Vec<Route>) -> RouteTable {
        let index = Index::new(&routes);
        RouteTable { routes, index }
    }

    /// In file order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The first route that matches. Does not allocate (regular expressions may, in their own caches).
    pub fn select<I: RouteInput>(&self, input: &I) -> Option<&Route> {
        self.select_index(input).map(|at| &self.routes[at])
    }

    /// The place of the first route that matches, in file order.
    pub fn select_index<I: RouteInput>(&self, input: &I) -> Option<usize> {
        self.index.first(&self.routes, input)
    }

    /// Every route up to and including the winner, each with the first condition that failed, in words.
    pub fn explain<I: RouteInput>(&self, input: &I) -> Vec<(usize, Option<String>)> {
        let mut verdicts = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            let failed = route.conditions.first_unmet(input).map(|unmet| unmet.to_string());
            let won = failed.is_none();
            verdicts.push((at, failed));
            if won {
                break;
            }
        }
        verdicts
    }
}

impl Route {
    /// Whether all conditions hold: the meaning that the compiled index must agree with.
    pub fn matches<I: RouteInput>(&self, input: &I) -> bool {
        self.conditions.first_unmet(input).is_none()
    }
}

/// The first condition of a route that a request does not meet.
#[derive(Debug, Clone, Copy)]
pub enum Unmet<'c> {
    Listener(&'c Conditions),
    Host(&'c Conditions),
    Path(&'c Conditions),
    Method(&'c Conditions),
    ContentType(&'c Conditions),
    Model(&'c Conditions),
    Header(&'c FieldMatch),
    Query(&'c FieldMatch),
    Claim(&'c FieldMatch),
}

impl Conditions {
    pub fn first_unmet<I: RouteInput>(&self, input: &I) -> Option<Unmet<'_>> {
        let listener = any_or_empty(&self.listeners, |name| **name == *input.listener());
        let mut buffer = HostBuffer::new();
        let host = buffer.fill(input.host());
        if !listener {
            Some(Unmet::Listener(self))
        } else if !any_or_empty(&self.hosts, |wanted| wanted.matches(host)) {
            Some(Unmet::Host(self))
        } else if !any_or_empty(&self.paths, |wanted| wanted.matches(input.path())) {
            Some(Unmet::Path(self))
        } else if !any_or_empty(&self.methods, |wanted| wanted.as_bytes() == input.method()) {
            Some(Unmet::Method(self))
        } else if !self.content_type_holds(input) {
            Some(Unmet::ContentType(self))
        } else if let Some(field) = self.headers.iter().find(|field| !header_holds(field, input)) {
            Some(Unmet::Header(field))
        } else if let Some(field) = self.query.iter().find(|field| !query_holds(field, input)) {
            Some(Unmet::Query(field))
        } else if !self.model_holds(input) {
            Some(Unmet::Model(self))
        } else {
            self.unmet_claim(input).map(Unmet::Claim)
        }
    }

    /// What is left to check once host and path are known to match.
    fn rest_holds<I: RouteInput>(&self, input: &I) -> bool {
        any_or_empty(&self.methods, |wanted| wanted.as_bytes() == input.method())
            && any_or_empty(&self.listeners, |name| **name == *input.listener())
            && self.headers.iter().all(|field| header_holds(field, input))
            && self.query.iter().all(|field| query_holds(field, input))
            && self.content_type_holds(input)
            && self.model_holds(input)
            && self.unmet_claim(input).is_none()
    }

    fn content_type_holds<I: RouteInput>(&self, input: &I) -> bool {
        any_or_empty(&self.content_types, |wanted| {
            input.content_type().is_some_and(|sent| wanted.is_of(sent))
        })
    }

    fn model_holds<I: RouteInput>(&self, input: &I) -> bool {
        any_or_empty(&self.models, |test| match (test, input.model()) {
            (FieldTest::Absent, model) => model.is_none(),
            (test, Some(model)) => test.holds_for(model.as_bytes()),
            (_, None) => false,
        })
    }

    /// Verifies what was presented only if it matters here.
    fn unmet_claim<I: RouteInput>(&self, input: &I) -> Option<&FieldMatch> {
        let first = self.claims.first()?;
        match self.auth.and_then(|auth| input.claims(auth)) {
            Some(claims) => self.claims.iter().find(|field| !claim_holds(field, &claims)),
            None => Some(first),
        }
    }
}

impl HostMatch {
    /// `host` in the form of `HostBuffer`.
    fn matches(&self, host: &[u8]) -> bool {
        match self {
            HostMatch::Exact(name) => !host.is_empty() && name.as_bytes() == host,
            HostMatch::Suffix(suffix) => {
                suffix.starts_with('.') && host.len() > suffix.len() && host.ends_with(suffix.as_bytes())
            }
        }
    }
}

impl PathMatch {
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathMatch::Exact(wanted) => wanted.as_bytes() == path,
            PathMatch::Prefix(prefix) => match path.strip_prefix(prefix.as_bytes()) {
                Some(rest) => rest.is_empty() || rest[0] == b'/',
                None => false,
            },
            PathMatch::Segments(segments) => segments_match(segments, path),
            PathMatch::Regex(regex) => regex.is_match(path),
        }
    }
}

fn segments_match(segments: &[Segment], path: &[u8]) -> bool {
    // "/a/b" is ["a", "b"], "/" is [""]: every path that starts with "/" splits into one list and joins back.
    let Some(path) = path.strip_prefix(b"/") else { return false };
    if segments.is_empty() {
        return path.is_empty();
    }
    let mut values = path.split(|&byte| byte == b'/');
    for segment in segments {
        let holds = match (segment, values.next()) {
            (Segment::Rest, _) => return true,
            (Segment::Literal(wanted), Some(value)) => wanted.as_bytes() == value,
            (Segment::Named(_) | Segment::Any, Some(value)) => !value.is_empty(),
            (_, None) => false,
        };
        if !holds {
            return false;
        }
    }
    values.next().is_none()
}

pub fn header_holds<I: RouteInput>(field: &FieldMatch, input: &I) -> bool {
    match &field.test {
        FieldTest::Present => input.has_header(&field.name),
        FieldTest::Absent => !input.has_header(&field.name),
        test => input.any_header(&field.name, &mut |value| test.holds_for(value)),
    }
}

fn query_holds<I: RouteInput>(field: &FieldMatch, input: &I) -> bool {
    let mut values = query_values(input.query(), &field.name);
    match &field.test {
        FieldTest::Present => values.next().is_some(),
        FieldTest::Absent => values.next().is_none(),
        test => values.any(|value| test.holds_for(value)),
    }
}

pub fn claim_holds(field: &FieldMatch, claims: &Claims) -> bool {
    match &field.test {
        FieldTest::Present => claims.has(&field.name),
        FieldTest::Absent => !claims.has(&field.name),
        test => claims.texts(&field.name).any(|text| test.holds_for(text.as_bytes())),
    }
}

impl FieldTest {
    /// Of one value that is there.
    fn holds_for(&self, value: &[u8]) -> bool {
        match self {
            FieldTest::Present => true,
            FieldTest::Absent => false,
            FieldTest::Equals(wanted) => wanted.as_bytes() == value,
            FieldTest::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            FieldTest::Regex(regex) => regex.is_match(value),
        }
    }
}

fn any_or_empty<T>(wanted: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(holds)
}

/// A request's host in the form that routes are written in: lower case, without port and trailing dot, IPv6 in
/// its brackets.
pub struct HostBuffer([u8; HOST_BYTES_MAX]);

impl HostBuffer {
    pub fn new() -> HostBuffer {
        HostBuffer([0; HOST_BYTES_MAX])
    }

    /// Empty, which only routes without a host match, if the host is longer than any name in DNS.
    pub fn fill(&mut self, authority: &[u8]) -> &[u8] {
        let name = without_port(authority);
        let name = name.strip_suffix(b".").unwrap_or(name);
        let Some(lower) = self.0.get_mut(..name.len()) else { return &[] };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        lower
    }
}

impl Default for HostBuffer {
    fn default() -> Self {
        Self::new()
    }
}

fn without_port(authority: &[u8]) -> &[u8] {
    let end = match authority.first() {
        Some(b'[') => authority.iter().position(|&byte| byte == b']').map(|bracket| bracket + 1),
        _ => authority.iter().position(|&byte| byte == b':'),
    };
    &authority[..end.unwrap_or(authority.len())]
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::Listener(wanted) => write!(f, "listener is not {}", Alternatives(&wanted.listeners)),
            Unmet::Host(wanted) => write!(f, "host is not {}", Alternatives(&wanted.hosts)),
            Unmet::Path(wanted) => write!(f, "path is not {}", Alternatives(&wanted.paths)),
            Unmet::Method(wanted) => write!(f, "method is not {}", Alternatives(&wanted.methods)),
            Unmet::ContentType(wanted) => {
                write!(f, "content type is not {}", Alternatives(&wanted.content_types))
            }
            Unmet::Model(wanted) => write!(f, "the body's model is not {}", Alternatives(&wanted.models)),
            Unmet::Header(field) => write!(f, "header {field}"),
            Unmet::Query(field) => write!(f, "query parameter {field}"),
            Unmet::Claim(field) => write!(f, "no verified claim: {field}"),
        }
    }
}

struct Alternatives<'c, T>(&'c [T]);

impl<T: fmt::Display> fmt::Display for Alternatives<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, alternative) in self.0.iter().enumerate() {
            write!(f, "{}{alternative}", if at == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostMatch::Exact(name) => f.write_str(name),
            HostMatch::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathMatch::Exact(path) => f.write_str(path),
            PathMatch::Prefix(prefix) => write!(f, "{prefix}/**"),
            PathMatch::Segments(segments) => segments.iter().try_for_each(|segment| match segment {
                Segment::Literal(text) => write!(f, "/{text}"),
                Segment::Named(name) => write!(f, "/{{{name}}}"),
                Segment::Any => f.write_str("/*"),
                Segment::Rest => f.write_str("/**"),
            }),
            PathMatch::Regex(regex) => write!(f, "~ {regex}"),
        }
    }
}

impl fmt::Display for FieldTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldTest::Present => f.write_str("there"),
            FieldTest::Absent => f.write_str("missing"),
            FieldTest::Equals(wanted) => write!(f, "{wanted:?}"),
            FieldTest::Prefix(prefix) => write!(f, "{prefix:?}*"),
            FieldTest::Regex(regex) => write!(f, "~ {regex}"),
        }
    }
}

/// What does not hold: "x-model-version is not \"v2\"".
impl fmt::Display for FieldMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.test {
            FieldTest::Present => write!(f, "{name} is absent"),
            FieldTest::Absent => write!(f, "{name} is present"),
            FieldTest::Equals(wanted) => write!(f, "{name} is not {wanted:?}"),
            FieldTest::Prefix(prefix) => write!(f, "{name} does not start with {prefix:?}"),
            FieldTest::Regex(regex) => write!(f, "{name} does not match ~ {regex}"),
        }
    }
}

/// RFC 1035 §3.1 allows names of 255 bytes on the wire, which is 253 in text.
const HOST_BYTES_MAX: usize = 255;

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
