//! Owns the grammar of an authority, `uri-host [":" port]` (RFC 9110 §7.2, RFC 3986 §3.2.2), as it stands in
//! Host and in absolute- and authority-form targets. Does not resolve names, and decides nothing about which
//! route or certificate a host belongs to.

use std::net::Ipv6Addr;

use crate::http::scan::{PLAIN_HOST, Portable, Scan};

/// An authority taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As sent: not lower-cased, brackets of an IPv6 literal included; never empty.
    pub host: &'a [u8],
    /// `None`: no port, or an empty one (`example.com:`), which RFC 3986 §3.2.3 says means the default.
    pub port: Option<u16>,
}

/// Splits and validates; the error says what is wrong.
///
/// An empty host is refused: RFC 9110 §4.2.1 has recipients reject http URIs without one, and a request for
/// no host cannot be routed without a guess. User information is refused with it (`@` is no host byte).
pub fn parse(authority: &[u8]) -> Result<Authority<'_>, &'static str> {
    let host_len = check(authority)?;
    let (host, rest) = authority.split_at(host_len);
    Ok(Authority { host, port: port(rest)? })
}

/// Validates without splitting; the length of the host.
pub fn check(authority: &[u8]) -> Result<usize, &'static str> {
    check_behind(authority, Portable.class_end::<PLAIN_HOST>(authority, 0))
}

/// Validates what follows the first bytes, which are known to be plain; the length of the host.
pub(super) fn check_behind(authority: &[u8], plain: usize) -> Result<usize, &'static str> {
    match authority.get(plain) {
        Some(b':') if plain > 0 => port(&authority[plain..]).map(|_| plain),
        None if plain > 0 => Ok(plain),
        _ => check_uncommon(authority),
    }
}

fn check_uncommon(authority: &[u8]) -> Result<usize, &'static str> {
    let host_len = match authority.first() {
        Some(b'[') => ip_literal(authority)?,
        _ => reg_name(authority)?,
    };
    if host_len == 0 {
        return Err("empty host");
    }
    port(&authority[host_len..])?;
    Ok(host_len)
}

/// `IP-literal = "[" ( IPv6address / IPvFuture ) "]"`. Zone identifiers mean nothing to another host (RFC
/// 9844) and are refused.
fn ip_literal(authority: &[u8]) -> Result<usize, &'static str> {
    let close = authority.iter().position(|&byte| byte == b']').ok_or("unclosed bracket in host")?;
    let inside = &authority[1..close];
    let valid = match inside {
        [b'v' | b'V', future @ ..] => is_ip_future(future),
        _ => std::str::from_utf8(inside).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    };
    if valid { Ok(close + 1) } else { Err("malformed IP literal in host") }
}

/// `1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`, after the `v`.
fn is_ip_future(text: &[u8]) -> bool {
    let Some(dot) = text.iter().position(|&byte| byte == b'.') else { return false };
    let (version, address) = (&text[..dot], &text[dot + 1..]);
    let hex = !version.is_empty() && version.iter().all(u8::is_ascii_hexdigit);
    hex && !address.is_empty() && address.iter().all(|&byte| is_reg_name(byte) || byte == b':')
}

/// `*( unreserved / pct-encoded / sub-delims )`; IPv4 addresses are among these.
fn reg_name(authority: &[u8]) -> Result<usize, &'static str> {
    let mut at = 0;
    loop {
        match authority.get(at) {
            None | Some(b':') => return Ok(at),
            Some(b'%') => match authority.get(at + 1..at + 3) {
                Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
                _ => return Err("malformed percent-encoding in host"),
            },
            Some(&byte) if is_reg_name(byte) => at += 1,
            Some(_) => return Err("forbidden byte in host"),
        }
    }
}

fn is_reg_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// `[ ":" *DIGIT ]` up to 65535.
fn port(rest: &[u8]) -> Result<Option<u16>, &'static str> {
    let digits = match rest {
        [] | [b':'] => return Ok(None),
        [b':', digits @ ..] => digits,
        _ => return Err("malformed port in host"),
    };
    if digits.len() > 5 {
        return Err("malformed port in host");
    }
    let mut port: u32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err("malformed port in host");
        }
        port = port * 10 + u32::from(digit - b'0');
    }
    let port = u16::try_from(port).map_err(|_| "port over 65535 in host")?;
    Ok(Some(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_form_of_rfc_3986() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("example.com:", "example.com", None),
            ("example.com:8080", "example.com", Some(8080)),
            ("a:0", "a", Some(0)),
            ("a:00080", "a", Some(80)),
            ("a:65535", "a", Some(65535)),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("under_score.test", "under_score.test", None),
            ("%41b.test", "%41b.test", None),
            (
                "a-very-long-name-of-a-host.that.needs.two.blocks:1",
                "a-very-long-name-of-a-host.that.needs.two.blocks",
                Some(1),
            ),
            ("[::1]", "[::1]", None),
            ("[2001:db8::192.0.2.1]:443", "[2001:db8::192.0.2.1]", Some(443)),
            ("[v1f.a:b]:9", "[v1f.a:b]", Some(9)),
        ] {
            let expected = Authority { host: host.as_bytes(), port };
            assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "/",
            "a@b",
            "u:p@b",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:99999",
            "a:000080",
            "a:-1",
            "a:+1",
            "[::1",
            "[::1]x",
            "[]",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "[v.a]",
            "[v1.]",
            "[v1f]",
            "::1",
            "%4",
            "%zz",
            "%",
            "a%",
            "a\0",
            "a\t",
            "\u{e9}.test",
            "a\\b",
            "a?b",
            "a#b",
            "a<b",
            "a\"b",
            "a|b",
            "a]",
            "[[::1]]",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
