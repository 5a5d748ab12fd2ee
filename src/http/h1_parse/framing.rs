//! Owns what the fields of a head mean for the connection: framing (RFC 9112 §6.3), Host, Connection, Expect
//! and Upgrade. Each known field is noted as it is parsed, and judged with the others once the head is whole.
//! Knows no grammar of lines, and removes no fields.

use super::{HeadError, host};
use crate::http::head::{
    Field, Framing, Method, Name, Recognised, RequestHead, ResponseHead, Span, Version, is_name,
};
use crate::http::scan;

/// What the fields parsed so far said about framing and the connection. All zeros at first, which is cheap.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Bits of those below.
    said: u16,
    connection_options: u16,
    /// A valid one is not empty.
    host: Span,
    /// Means something after `CONTENT_LENGTH`.
    content_length: u64,
}

impl Seen {
    #[inline(always)]
    fn said(&self, what: u16) -> bool {
        self.said & what != 0
    }
}

const CONTENT_LENGTH: u16 = 1;
const CHUNKED: u16 = 2;
const CLOSE: u16 = 4;
const KEEP_ALIVE: u16 = 8;
const UPGRADE_OPTION: u16 = 16;
const UPGRADE_FIELD: u16 = 32;
const TE_TRAILERS: u16 = 64;
const EXPECT_CONTINUE: u16 = 128;
/// A Connection option names a field that is not otherwise known to be the connection's.
const NAMES_FIELDS: u16 = 256;

/// Bounds what `mark_named_fields` costs: at most this many names, each compared with all fields.
const CONNECTION_OPTIONS_MAX: u16 = 32;

/// Told apart from the other known names because every request has it.
#[inline(always)]
pub(super) fn is_host(name: &[u8]) -> bool {
    is_name(name, b"host")
}

/// RFC 9112 §3.2: exactly one, valid. The value begins with so many plain bytes.
#[inline(always)]
pub(super) fn host_field(
    window: &[u8],
    plain_len: usize,
    field: &mut Field,
    seen: &mut Seen,
) -> Result<(), HeadError> {
    if !seen.host.is_empty() {
        return Err(HeadError::BadRequest("more than one Host"));
    }
    // Nearly every host is a name without a port.
    if plain_len != usize::from(field.value.len) || plain_len == 0 {
        host::check_behind(field.value.of(window), plain_len).map_err(HeadError::BadRequest)?;
    }
    field.known = Name::Host;
    seen.host = field.value;
    Ok(())
}

/// Does a field of this name say something that `note` has to know?
#[inline(always)]
pub(super) fn acts_on(name: Name) -> bool {
    matches!(
        name,
        Name::Connection
            | Name::ContentLength
            | Name::TransferEncoding
            | Name::Te
            | Name::Upgrade
            | Name::Expect
    )
}

/// A field that has a candidate among the known names, and is not a request's Host.
#[inline(never)]
pub(super) fn candidate_field<const REQUEST: bool>(
    window: &[u8],
    version: Version,
    field: &mut Field,
    seen: &mut Seen,
) -> Result<(), HeadError> {
    match Name::recognise(field.name.of(window)) {
        Recognised::LookAlike(name) => look_alike(name, field),
        Recognised::Name(name) => {
            field.known = name;
            if acts_on(name) { note::<REQUEST>(name, field.value.of(window), version, seen) } else { Ok(()) }
        }
    }
}

/// Notes what a field that the proxy acts on says.
#[inline(never)]
pub(super) fn note<const REQUEST: bool>(
    name: Name,
    value: &[u8],
    version: Version,
    seen: &mut Seen,
) -> Result<(), HeadError> {
    match name {
        Name::ContentLength => content_length(value, seen),
        Name::TransferEncoding => transfer_encoding(value, version, seen),
        Name::Connection => connection(value, seen),
        Name::Upgrade => {
            seen.said |= if value.is_empty() { 0 } else { UPGRADE_FIELD };
            Ok(())
        }
        Name::Te if REQUEST => {
            let trailers = elements(value).any(|element| element.eq_ignore_ascii_case(b"trailers"));
            seen.said |= if trailers { TE_TRAILERS } else { 0 };
            Ok(())
        }
        Name::Expect if REQUEST => expect(value, version, seen),
        _ => {
            debug_assert!(!acts_on(name) || !REQUEST);
            Ok(())
        }
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
#[inline(always)]
fn content_length(value: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    if seen.said(CHUNKED) {
        return Err(BOTH_FRAMINGS);
    }
    if seen.said(CONTENT_LENGTH) {
        return Err(HeadError::BadRequest("more than one Content-Length"));
    }
    if value.is_empty() {
        return Err(HeadError::BadRequest("empty Content-Length"));
    }
    let (first, last) = value.split_at(value.len().min(SAFE_DIGITS));
    let mut length: u64 = 0;
    for byte in first {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(HeadError::BadRequest("malformed Content-Length"));
        }
        length = length * 10 + u64::from(digit);
    }
    seen.content_length = if last.is_empty() { length } else { longer_length(length, last)? };
    seen.said |= CONTENT_LENGTH;
    Ok(())
}

/// Any number of so many digits is less than 2^64.
const SAFE_DIGITS: usize = 19;

/// Goes on with digits at which the length may leave 64 bits.
#[cold]
fn longer_length(mut length: u64, digits: &[u8]) -> Result<u64, HeadError> {
    for byte in digits {
        if !byte.is_ascii_digit() {
            return Err(HeadError::BadRequest("malformed Content-Length"));
        }
        let longer = length.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
        length = longer.ok_or(HeadError::BadRequest("Content-Length over 64 bits"))?;
    }
    Ok(length)
}

/// RFC 9112 §6.1 and §6.3: only `chunked` alone is understood here, only on HTTP/1.1, and only without a
/// Content-Length beside it.
fn transfer_encoding(value: &[u8], version: Version, seen: &mut Seen) -> Result<(), HeadError> {
    if version == Version::Http10 {
        return Err(HeadError::BadRequest("Transfer-Encoding on HTTP/1.0"));
    }
    if seen.said(CONTENT_LENGTH) {
        return Err(BOTH_FRAMINGS);
    }
    if seen.said(CHUNKED) {
        return Err(HeadError::BadRequest("more than one Transfer-Encoding"));
    }
    if !value.eq_ignore_ascii_case(b"chunked") {
        return Err(HeadError::BadRequest("Transfer-Encoding other than chunked"));
    }
    seen.said |= CHUNKED;
    Ok(())
}

const BOTH_FRAMINGS: HeadError = HeadError::BadRequest("both Content-Length and Transfer-Encoding");

/// RFC 9110 §10.1.1: ignored on HTTP/1.0, and only one expectation is defined.
fn expect(value: &[u8], version: Version, seen: &mut Seen) -> Result<(), HeadError> {
    if version == Version::Http11 {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expectation);
        }
        seen.said |= EXPECT_CONTINUE;
    }
    Ok(())
}

/// `Connection = #connection-option` (RFC 9110 §7.6.1).
fn connection(value: &[u8], seen: &mut Seen) -> Result<(), HeadError> {
    // What nearly every Connection field says needs no list.
    if is_name(value, b"keep-alive") {
        seen.said |= KEEP_ALIVE;
        return Ok(());
    }
    if is_name(value, b"close") {
        seen.said |= CLOSE;
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
            option if option.eq_ignore_ascii_case(b"keep-alive") => seen.said |= KEEP_ALIVE,
            option if option.eq_ignore_ascii_case(b"close") => seen.said |= CLOSE,
            option if option.eq_ignore_ascii_case(b"upgrade") => seen.said |= UPGRADE_OPTION,
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
        _ => seen.said |= NAMES_FIELDS,
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

#[inline(always)]
pub(super) fn finish_request(
    window: &[u8],
    seen: &Seen,
    head_len: usize,
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    head.head_len = head_len;
    if head.authority.is_empty() {
        head.authority = seen.host;
    }
    if seen.host.is_empty() && head.version == Version::Http11 {
        return Err(HeadError::BadRequest("no Host"));
    }
    if seen.said == 0 && head.version == Version::Http11 {
        // Nearly every request without a body.
        head.framing = Framing::None;
        head.keep_alive = true;
        (head.expect_continue, head.upgrade, head.te_trailers) = (false, false, false);
        return Ok(());
    }
    head.framing = if seen.said(CHUNKED) {
        Framing::Chunked
    } else if seen.content_length != 0 {
        Framing::Length(seen.content_length)
    } else {
        Framing::None
    };
    // RFC 9110 §9.3.6: CONNECT has no content; the bytes after its head belong to the tunnel.
    if head.method == Method::Connect && head.framing != Framing::None {
        return Err(HeadError::BadRequest("CONNECT with content"));
    }
    head.keep_alive = persists(head.version, seen);
    head.expect_continue = seen.said(EXPECT_CONTINUE) && head.framing != Framing::None;
    head.upgrade = upgrades(head.version, seen);
    head.te_trailers = seen.said(TE_TRAILERS);
    mark_named_fields(window, seen, head.fields.all_mut());
    Ok(())
}

#[inline(always)]
pub(super) fn finish_response(
    window: &[u8],
    seen: &Seen,
    head_len: usize,
    head: &mut ResponseHead,
) -> Result<(), HeadError> {
    head.head_len = head_len;
    let bodiless = matches!(head.status, 100..=199 | 204);
    if bodiless {
        no_content(seen, head.fields.all_mut())?;
    }
    head.framing = match seen.content_length {
        _ if bodiless => Framing::None,
        _ if seen.said(CHUNKED) => Framing::Chunked,
        _ if !seen.said(CONTENT_LENGTH) => Framing::Close,
        0 => Framing::None,
        length => Framing::Length(length),
    };
    head.persistent = persists(head.version, seen);
    // RFC 9112 §6.3: a 304 never has content, whatever its fields say.
    head.keep_alive = head.persistent && (head.framing != Framing::Close || head.status == 304);
    head.upgrade = upgrades(head.version, seen);
    mark_named_fields(window, seen, head.fields.all_mut());
    Ok(())
}

/// RFC 9110 §8.6 and RFC 9112 §6.1: neither framing field may be on a 1xx or 204. `Content-Length: 0` is
/// harmless and common on 204: it ends at this hop. Anything else announces bytes that must not exist.
#[cold]
fn no_content(seen: &Seen, fields: &mut [Field]) -> Result<(), HeadError> {
    if seen.said(CHUNKED) || seen.content_length > 0 {
        return Err(HeadError::BadRequest("framing of content on a response that has none"));
    }
    for field in fields {
        field.hop_by_hop |= field.known == Name::ContentLength;
    }
    Ok(())
}

/// RFC 9112 §9.3.
fn persists(version: Version, seen: &Seen) -> bool {
    !seen.said(CLOSE) && (version == Version::Http11 || seen.said(KEEP_ALIVE))
}

/// RFC 9110 §7.8: Upgrade is ignored on HTTP/1.0, and without its connection option.
fn upgrades(version: Version, seen: &Seen) -> bool {
    version == Version::Http11 && seen.said(UPGRADE_OPTION) && seen.said(UPGRADE_FIELD)
}

#[inline(always)]
fn mark_named_fields(window: &[u8], seen: &Seen, fields: &mut [Field]) {
    if seen.said(NAMES_FIELDS) {
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
