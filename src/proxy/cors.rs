//! Owns what a page of another origin may ask of a route (the Fetch standard's CORS protocol): preflights, which the gateway
//! answers itself, and the fields that an answer needs for its script to see it. Refuses nobody: browsers do.

use std::sync::Arc;
use std::time::Duration;

use crate::http::head::Method;

use crate::config::snapshot::AuthId;
use crate::policy::claims::Claims;

use super::exchange::Exchange;
use super::route::RouteInput;
use super::routed::view;
use super::transform::field;

/// Of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    pub origins: Vec<Origin>,
    /// Request fields that a script may set, in lower case. Empty: any.
    pub headers: Vec<Box<str>>,
    /// Fields of answers that it may read, besides those that all may.
    pub expose: Vec<Box<str>>,
    pub credentials: bool,
    /// For how long a browser need not ask again.
    pub max_age: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Any,
    /// As browsers write it: scheme, host, port where it is not the scheme's.
    Exact(Box<str>),
    /// Any name below it: what stands before the name, and the name with its dot.
    Below(Box<str>, Box<str>),
}

impl Origin {
    fn is(&self, origin: &[u8]) -> bool {
        match self {
            Origin::Any => true,
            Origin::Exact(exact) => exact.as_bytes().eq_ignore_ascii_case(origin),
            Origin::Below(scheme, name) => {
                let below = origin
                    .strip_prefix(scheme.as_bytes())
                    .and_then(|rest| rest.strip_suffix(name.as_bytes()));
                below.is_some_and(|label| !label.is_empty() && label.iter().all(|&byte| is_of_name(byte)))
            }
        }
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'
}

/// The method that a preflight asks for.
pub fn preflight(exchange: &Exchange) -> Option<&[u8]> {
    if exchange.head.method != Method::Options {
        return None;
    }
    let view = view(exchange);
    view.first_value("origin")?;
    view.first_value("access-control-request-method")
}

/// The same request with the method that it asks for.
pub struct Asked<'a, I> {
    pub input: &'a I,
    pub method: &'a [u8],
}

impl<I: RouteInput> RouteInput for Asked<'_, I> {
    fn method(&self) -> &[u8] {
        self.method
    }

    fn host(&self) -> &[u8] {
        self.input.host()
    }

    fn path(&self) -> &[u8] {
        self.input.path()
    }

    fn query(&self) -> Option<&[u8]> {
        self.input.query()
    }

    fn listener(&self) -> &str {
        self.input.listener()
    }

    fn any_header(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.input.any_header(lower_name, test)
    }

    fn content_type(&self) -> Option<&[u8]> {
        self.input.content_type()
    }

    /// A preflight has no body.
    fn model(&self) -> Option<&str> {
        None
    }

    /// A browser asks before it shows who it is.
    fn claims(&self, _: AuthId) -> Option<Arc<Claims>> {
        None
    }
}

/// Fields that every script may read: how a call ended, and the name of its request.
const EXPOSED: &str = "grpc-status, grpc-message, x-request-id";

impl Cors {
    /// The lines that the answer to this request gets.
    pub fn fields(&self, exchange: &Exchange) -> Vec<u8> {
        let view = view(exchange);
        let mut out = Vec::new();
        let is_for_all = self.origins.contains(&Origin::Any) && !self.credentials;
        if !is_for_all {
            field(&mut out, b"vary", b"origin");
        }
        let Some(origin) = view.first_value("origin") else { return out };
        if !self.origins.iter().any(|allowed| allowed.is(origin)) {
            return out;
        }
        field(&mut out, b"access-control-allow-origin", if is_for_all { b"*" } else { origin });
        if self.credentials {
            field(&mut out, b"access-control-allow-credentials", b"true");
        }
        match preflight(exchange) {
            Some(method) => {
                field(&mut out, b"access-control-allow-methods", method);
                let asked = view.first_value("access-control-request-headers").unwrap_or_default();
                let listed = self.headers.join(", ");
                let headers = if self.headers.is_empty() { asked } else { listed.as_bytes() };
                if !headers.is_empty() {
                    field(&mut out, b"access-control-allow-headers", headers);
                }
                field(&mut out, b"access-control-max-age", self.max_age.as_secs().to_string().as_bytes());
            }
            None => {
                let own = std::iter::once(EXPOSED).chain(self.expose.iter().map(|name| &**name));
                let exposed = own.collect::<Vec<_>>().join(", ");
                field(&mut out, b"access-control-expose-headers", exposed.as_bytes());
            }
        }
        out
    }
}

/// Whether this field of an endpoint's answer is the route's to say.
pub fn is_cors_field(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"access-control-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_matched_whole() {
        let below = Origin::Below("https://".into(), ".example.com".into());
        for is in ["https://a.example.com", "https://a.b.example.com"] {
            assert!(below.is(is.as_bytes()), "{is}");
        }
        for is_not in [
            "https://example.com",
            "https://.example.com",
            "http://a.example.com",
            "https://evil.com/.example.com",
            "https://evil.com:1.example.com",
            "https://a.example.com:8443",
        ] {
            assert!(!below.is(is_not.as_bytes()), "{is_not}");
        }
        let exact = Origin::Exact("https://example.com".into());
        assert!(exact.is(b"https://example.com") && !exact.is(b"https://example.com.evil.com"));
        assert!(Origin::Any.is(b"null"));
    }
}
