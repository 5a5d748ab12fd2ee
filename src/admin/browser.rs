//! Owns what a web page must not make a browser do that may ask the admin endpoint, being on this machine or having a certificate to
//! show: a name that an attacker's DNS points here (DNS rebinding), and forms that are posted from another site. Reads `host` and
//! `origin`.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{self, HeaderMap, HeaderValue};

use crate::config::tls::ListenerTls;

/// What is wrong with the name that is asked for. An IP address or localhost cannot be rebound; nor can a name that our own
/// certificate has, unless it is one for many names.
pub fn check_host(headers: &HeaderMap, tls: Option<&ListenerTls>) -> Option<&'static str> {
    let host = host_of(headers);
    let is_ours = is_literal_or_localhost(host) || tls.is_some_and(|tls| tls.has_name(name_of(host)));
    (!is_ours).then_some("the Host must be an IP address, localhost, or a name that the certificate of `admin.tls` has; with the token it may be any for what is only read")
}

/// What is wrong with a POST.
pub fn check_same_site(headers: &HeaderMap, tls: Option<&ListenerTls>) -> Result<(), &'static str> {
    if let Some(detail) = check_host(headers, tls) {
        return Err(detail);
    }
    let host = host_of(headers);
    // The same host by another scheme is another origin (RFC 6454 §4).
    let scheme = if tls.is_some() { "https://" } else { "http://" };
    let is_same_origin = |origin: &HeaderValue| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix(scheme)).is_some_and(|site| site == host)
    };
    match headers.get(header::ORIGIN) {
        Some(origin) if !is_same_origin(origin) => Err("a POST from another origin is refused"),
        _ => Ok(()),
    }
}

fn host_of(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("")
}

/// `127.0.0.1`, `[::1]`, `localhost`, each with or without a port.
fn is_literal_or_localhost(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, port)| {
            ip.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'))
        });
    }
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || matches!(name.parse(), Ok(IpAddr::V4(_)))
}

/// Without the port.
fn name_of(host: &str) -> &str {
    host.split_once(':').map_or(host, |(name, _)| name)
}
