//! Owns how routes and templates see a request: a view over an exchange's parts. Copies nothing.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::snapshot::AuthId;
use crate::http::head::{Field, Name, RequestHead};
use crate::policy::claims::Claims;
use crate::policy::identity::Identified;

use super::path::{query_values, segment_value};
use super::route::RouteInput;
use super::rule::{PathMatch, Route};
use super::template::{Source, TemplateValues};

/// A request as routes see it.
pub struct RequestView<'a> {
    pub head: &'a RequestHead,
    /// What the head's spans index.
    pub bytes: &'a [u8],
    /// In normal form.
    pub path: &'a [u8],
    pub listener: &'a str,
    /// Of its JSON body.
    pub model: Option<&'a str>,
    pub identity: &'a dyn Identity,
}

/// Verifies what was presented with a request, when somebody wants to know.
pub trait Identity {
    fn identified(&self, auth: AuthId) -> Identified;
}

impl<'a> RequestView<'a> {
    pub fn raw_query(&self) -> Option<&'a [u8]> {
        self.head.has_query.then(|| self.head.query.of(self.bytes))
    }

    pub fn first_value(&self, lower_name: &str) -> Option<&'a [u8]> {
        let (head, bytes) = (self.head, self.bytes);
        let named = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(lower_name.as_bytes());
        head.fields.iter().find(named).map(|field| field.value.of(bytes))
    }

    pub fn all_values(&self, lower_name: &str) -> Vec<&'a [u8]> {
        let (head, bytes) = (self.head, self.bytes);
        let named = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(lower_name.as_bytes());
        head.fields.iter().filter(named).map(|field| field.value.of(bytes)).collect()
    }

    /// The value of a field that may stand once (RFC 9110 §5.3). Of two nobody knows which one the endpoint takes.
    pub fn only_value(&self, lower_name: &str) -> Option<&'a [u8]> {
        let (head, bytes) = (self.head, self.bytes);
        let named = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(lower_name.as_bytes());
        let mut found = head.fields.iter().filter(named);
        found.next().filter(|_| found.next().is_none()).map(|field| field.value.of(bytes))
    }
}

impl RouteInput for RequestView<'_> {
    fn method(&self) -> &[u8] {
        self.head.method_span.of(self.bytes)
    }

    fn host(&self) -> &[u8] {
        self.head.authority.of(self.bytes)
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.raw_query()
    }

    fn listener(&self) -> &str {
        self.listener
    }

    fn content_type(&self) -> Option<&[u8]> {
        self.only_value("content-type")
    }

    fn model(&self) -> Option<&str> {
        self.model
    }

    fn claims(&self, auth: AuthId) -> Option<Arc<Claims>> {
        self.identity.identified(auth).ok()
    }

    fn any_header(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let bytes = self.bytes;
        self.head.fields.iter().any(|field| {
            field.name.of(bytes).eq_ignore_ascii_case(lower_name.as_bytes()) && test(field.value.of(bytes))
        })
    }
}

/// What templates of a matched route may use.
pub struct Values<'a> {
    pub view: RequestView<'a>,
    pub route: &'a Route,
    pub client: IpAddr,
    pub scheme: &'static str,
    pub request_id: &'a [u8],
}

impl TemplateValues for Values<'_> {
    fn write(&self, source: &Source, out: &mut Vec<u8>) -> bool {
        let view = &self.view;
        let value: Option<&[u8]> = match source {
            Source::Header(name) => view.first_value(name),
            Source::Query(name) => query_values(view.raw_query(), name).next(),
            Source::Cookie(name) => cookie(view.head, view.bytes, name),
            Source::PathSegment(name) => self.segment(name),
            Source::Model => view.model.map(str::as_bytes),
            Source::Host => Some(host_without_port(view.host())),
            Source::Path => Some(view.path),
            Source::Method => Some(view.method()),
            Source::Scheme => Some(self.scheme.as_bytes()),
            Source::RequestId => Some(self.request_id),
            Source::Route => Some(self.route.name.as_bytes()),
            Source::ClientIp => {
                out.extend_from_slice(self.client.to_string().as_bytes());
                return true;
            }
            Source::Claim(name) => {
                let claims = self.route.conditions.auth.and_then(|auth| view.claims(auth));
                let text = claims.as_ref().and_then(|claims| claims.text(name));
                text.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
                return text.is_some();
            }
            Source::Uri => {
                out.extend_from_slice(view.path);
                if let Some(query) = view.raw_query() {
                    out.push(b'?');
                    out.extend_from_slice(query);
                }
                return true;
            }
        };
        match value {
            Some(value) => {
                out.extend_from_slice(value);
                true
            }
            None => false,
        }
    }
}

impl<'a> Values<'a> {
    fn segment(&self, name: &str) -> Option<&'a [u8]> {
        self.route.conditions.paths.iter().find_map(|path| match path {
            PathMatch::Segments(segments) if path.matches(self.view.path) => {
                segment_value(segments, self.view.path, name)
            }
            _ => None,
        })
    }
}

/// `host:port` without the port; brackets of IPv6 stay.
pub fn host_without_port(authority: &[u8]) -> &[u8] {
    let after_brackets = authority.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    match authority[after_brackets..].iter().position(|&byte| byte == b':') {
        Some(colon) => &authority[..after_brackets + colon],
        None => authority,
    }
}

/// The value of one cookie of the request, for hashing by cookie.
pub fn cookie<'a>(head: &'a RequestHead, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let cookies = head
        .fields
        .iter()
        .filter(|field| field.known == Name::Other && field.name.of(bytes).eq_ignore_ascii_case(b"cookie"));
    cookies
        .flat_map(|field| field.value.of(bytes).split(|&byte| byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
