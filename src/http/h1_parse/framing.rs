//! Owns what the fields of a head mean for the connection: framing (RFC 9112 §6.3), Host, Connection, Expect
//! and Upgrade. Each known field is noted as it is parsed, and judged with the others once the head is whole.
//! Knows no grammar of lines, and removes no fields.

use super::{HeadError, host};
use crate::http::head::{
    Field, Framing, Method, Name, Recognised, RequestHead, ResponseHead, Span, Version, is_name,
};
use crate::http::scan;

/// What the fields parsed so far said about framing and the connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade_field: bool,
    te_trailers: bool,
    expect_continue: bool,
    connection_options: usize,
    /// One of them names a field that is not otherwise known to be the connection's.
    names_fields: bool,
}

/// Bounds what `mark_named_fields` costs: at most this many names, each compared with all fields.
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Notes what a field that the proxy acts on says.
#[inline(never)]
pub(super) fn known_field<const REQUEST: bool>(
    window: &[u8],
    version: Version,
    field: &mut Field,
    seen: &mut Seen,
) -> Result<(), HeadError> {
    let name = match Name::recognise(field.name.of(window)) {
        Recognised::Name(name) => name,
        Recognised::LookAlike(name) => return look_alike(name, field),
    };
    field.known = name;
    let value = field.value.of(window);
    match name {
        Name::ContentLength => content_length(value, seen),
        Name::TransferEncoding => transfer_encoding(value, version, seen),
        Name::Connection => connection(value, seen),
        Name::Upgrade => {
            seen.upgrade_field |= !value.is_empty();
            Ok(())
        }
        Name::Host if REQUEST => host_field(field.value, value, seen),
        Name::Te if REQUEST => {
            seen.te_trailers |= elements(value).any(|element| element.eq_ignore_ascii_case(b"trailers"));
            Ok(())
        }
        Name::Expect if REQUEST => expect(value, version, seen),
        _ => Ok(()),
    }
}

/// A framing name in disguise is an attack. The others (`X_Forwarded_For`) would reach a CGI or WSGI
/// application as the real ones, past the gateway's own: they end here, as nginx does by default.
#[cold]
fn look_alike(name: Name, field: &mut Field) -> Result<(), HeadError> {
    match name {
        Name::ContentLength => Err(HeadError::BadRequest("field name looks like Content-Length")),
        Name::TransferEncoding => Err(HeadError::BadRequest("field name looks like Transfer-Encoding")),
        _ => {
            field.hop_by_hop = true;
            Ok(())
        }
    }
}

/// `1*DIGIT`, once. RFC 9112 §6.3 lets a recipient merge equal values; a strict one need not guess.
fn content_length(value: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    if seen.chunked {
        return Err(BOTH_FRAMINGS);
    }
    if seen.content_length.is_some() {
        return Err(HeadError::BadRequest("more than one Content-Length"));
    }
    if value.is_empty() {
        return Err(HeadError::BadRequest("empty Content-Length"));
    }
    let mut length: u64 = 0;
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(HeadError::BadRequest("malformed Content-Length"));
        }
        if length > u64::MAX / 10 - 1 {
            length = last_digit(length, digit)?;
        } else {
            length = length * 10 + u64::from(digit);
        }
    }
    seen.content_length = Some(length);
    Ok(())
}

/// The digit at which the length may leave 64 bits.
#[cold]
fn last_digit(length: u64, digit: u8) -> Result<u64, HeadError> {
    let tens = length.checked_mul(10);
    let longer = tens.and_then(|tens| tens.checked_add(u64::from(digit)));
    longer.ok_or(HeadError::BadRequest("Content-Length over 64 bits"))
}

/// RFC 9112 §6.1 and §6.3: only `chunked` alone is understood here, only on HTTP/1.1, and only without a
/// Content-Length beside it.
fn transfer_encoding(value: &[u8], version: Version, seen: &mut Seen) -> Result<(), HeadError> {
    if version == Version::Http10 {
        return Err(HeadError::BadRequest("Transfer-Encoding on HTTP/1.0"));
    }
    if seen.content_length.is_some() {
        return Err(BOTH_FRAMINGS);
    }
    if seen.chunked {
        return Err(HeadError::BadRequest("more than one Transfer-Encoding"));
    }
    if !value.eq_ignore_ascii_case(b"chunked") {
        return Err(HeadError::BadRequest("Transfer-Encoding other than chunked"));
    }
    seen.chunked = true;
    Ok(())
}

const BOTH_FRAMINGS: HeadError = HeadError::BadRequest("both Content-Length and Transfer-Encoding");

/// RFC 9112 §3.2: exactly one, valid.
fn host_field(span: Span, value: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    if seen.host.is_some() {
        return Err(HeadError::BadRequest("more than one Host"));
    }
    host::check(value).map_err(HeadError::BadRequest)?;
    seen.host = Some(span);
    Ok(())
}

/// RFC 9110 §10.1.1: ignored on HTTP/1.0, and only one expectation is defined.
fn expect(value: &[u8], version: Version, seen: &mut Seen) -> Result<(), HeadError> {
    if version == Version::Http11 {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expectation);
        }
        seen.expect_continue = true;
    }
    Ok(())
}

/// `Connection = #connection-option` (RFC 9110 §7.6.1).
fn connection(value: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    // What nearly every Connection field says needs no list.
    if is_name(value, b"keep-alive") {
        seen.keep_alive = true;
        return Ok(());
    }
    if is_name(value, b"close") {
        seen.close = true;
        return Ok(());
    }
    connection_options(value, seen)
}

fn connection_options(value: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    for option in elements(value) {
        seen.connection_options += 1;
        if seen.connection_options > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::BadRequest("too many options in Connection"));
        }
        match option {
            option if option.eq_ignore_ascii_case(b"keep-alive") => seen.keep_alive = true,
            option if option.eq_ignore_ascii_case(b"close") => seen.close = true,
            option if option.eq_ignore_ascii_case(b"upgrade") => seen.upgrade_option = true,
            option => named_field(option, seen)?,
        }
    }
    Ok(())
}

/// A field that is for all recipients must not be named in Connection (RFC 9110 §7.6.1). Where its removal
/// would change where the message ends or goes, or whom the next hop takes the client for, that is an
/// attack ("hop-by-hop header abuse") and refused. Others are removed as the RFC says: without its
/// `Authorization`, a request can only do less.
fn named_field(option: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    if !option.iter().all(|&byte| scan::is_token(byte)) {
        return Err(HeadError::BadRequest("malformed Connection"));
    }
    match Name::recognise(option) {
        Recognised::Name(
            Name::Host
            | Name::ContentLength
            | Name::TransferEncoding
            | Name::Forwarded
            | Name::XForwardedFor
            | Name::XForwardedHost
            | Name::XForwardedProto,
        ) => return Err(HeadError::BadRequest("Connection names a field that is not the connection's")),
        _ => seen.names_fields = true,
    }
    Ok(())
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without OWS at both ends.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

pub(super) fn finish_request(
    window: &[u8],
    seen: &Seen,
    head_len: usize,
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    head.head_len = head_len;
    match seen.host {
        Some(host) if head.authority.is_empty() => head.authority = host,
        None if head.version == Version::Http11 => return Err(HeadError::BadRequest("no Host")),
        _ => {}
    }
    head.framing = match seen.content_length {
        _ if seen.chunked => Framing::Chunked,
        None | Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
    };
    // RFC 9110 §9.3.6: CONNECT has no content; the bytes after its head belong to the tunnel.
    if head.method == Method::Connect && head.framing != Framing::None {
        return Err(HeadError::BadRequest("CONNECT with content"));
    }
    head.keep_alive = persists(head.version, seen);
    head.expect_continue = seen.expect_continue && head.framing != Framing::None;
    head.upgrade = upgrades(head.version, seen);
    head.te_trailers = seen.te_trailers;
    mark_named_fields(window, seen, &mut head.fields);
    Ok(())
}

pub(super) fn finish_response(
    window: &[u8],
    seen: &Seen,
    head_len: usize,
    head: &mut ResponseHead,
) -> Result<(), HeadError> {
    head.head_len = head_len;
    let bodiless = matches!(head.status, 100..=199 | 204);
    if bodiless {
        no_content(seen, &mut head.fields)?;
    }
    head.framing = match seen.content_length {
        _ if bodiless => Framing::None,
        _ if seen.chunked => Framing::Chunked,
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    };
    head.persistent = persists(head.version, seen);
    // RFC 9112 §6.3: a 304 never has content, whatever its fields say.
    head.keep_alive = head.persistent && (head.framing != Framing::Close || head.status == 304);
    head.upgrade = upgrades(head.version, seen);
    mark_named_fields(window, seen, &mut head.fields);
    Ok(())
}

/// RFC 9110 §8.6 and RFC 9112 §6.1: neither framing field may be on a 1xx or 204. `Content-Length: 0` is
/// harmless and common on 204: it ends at this hop. Anything else announces bytes that must not exist.
#[cold]
fn no_content(seen: &Seen, fields: &mut [Field]) -> Result<(), HeadError> {
    if seen.chunked || seen.content_length.unwrap_or(0) > 0 {
        return Err(HeadError::BadRequest("framing of content on a response that has none"));
    }
    for field in fields {
        field.hop_by_hop |= field.known == Name::ContentLength;
    }
    Ok(())
}

/// RFC 9112 §9.3.
fn persists(version: Version, seen: &Seen) -> bool {
    !seen.close && (version == Version::Http11 || seen.keep_alive)
}

/// RFC 9110 §7.8: Upgrade is ignored on HTTP/1.0, and without its connection option.
fn upgrades(version: Version, seen: &Seen) -> bool {
    version == Version::Http11 && seen.upgrade_option && seen.upgrade_field
}

#[inline(always)]
fn mark_named_fields(window: &[u8], seen: &Seen, fields: &mut [Field]) {
    if seen.names_fields {
        mark_named_fields_uncommon(window, fields);
    }
}

/// At most `CONNECTION_OPTIONS_MAX` names for each field.
#[cold]
fn mark_named_fields_uncommon(window: &[u8], fields: &mut [Field]) {
    for index in 0..fields.len() {
        if fields[index].known != Name::Connection {
            continue;
        }
        for option in elements(fields[index].value.of(window)) {
            for field in fields.iter_mut() {
                field.hop_by_hop |= field.name.of(window).eq_ignore_ascii_case(option);
            }
        }
    }
}
