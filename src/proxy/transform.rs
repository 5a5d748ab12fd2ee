//! Owns how heads change on their way through: request head up, response heads down. Runs of kept field lines
//! are copied as they are; hop-by-hop fields end here (RFC 9110 §7.6.1). Reads spans, parses nothing.

use std::net::{IpAddr, SocketAddr};

use crate::config::snapshot::{Cidr, Settings};
use crate::error::{Error, Kind};
use crate::http::head::{Field, Framing, Method, Name, ResponseHead, TargetForm, is_alike};
use crate::http::websocket;

use super::cors::is_cors_field;
use super::exchange::{Exchange, Role};
use super::path::{Normalised, normalise};
use super::request_id::RequestId;
use super::routed::{Routed, values, view};
use super::rule::{HeaderEdits, Rewrite};
use super::status;
use super::template::TemplateValues;

/// Brings the path into the form that routes match and upstreams get.
pub fn normalise_path(exchange: &mut Exchange) -> Result<(), Error> {
    if exchange.head.target_form == TargetForm::Authority {
        return Ok(());
    }
    let mut out = Vec::new();
    match normalise(exchange.head.path.of(exchange.bytes()), &mut out) {
        Normalised::Same => Ok(()),
        Normalised::Changed => {
            exchange.normalised_path = Some(out);
            Ok(())
        }
        Normalised::Invalid => Err(Error::with_source(Kind::BadRequest, "the path is malformed")),
    }
}

/// Keeps the request id that a trusted peer sent.
pub fn adopt_request_id(exchange: &mut Exchange) {
    let Some(sent) = exchange.head.first(Name::XRequestId) else { return };
    let kept = RequestId::kept(sent.value.of(exchange.bytes()));
    let trusted = exchange.snapshot().is_some_and(|seen| exchange.is_trusted_peer(&seen.settings.trusted));
    if let (Some(kept), true) = (kept, trusted) {
        exchange.id = kept;
    }
}

/// Believes a trusted peer whom the request is from: of those that `x-forwarded-for` lists, the last one that is not trusted itself. What
/// stands before it, anybody may have written.
pub fn adopt_client(exchange: &mut Exchange) {
    if exchange.head.first(Name::XForwardedFor).is_none() {
        return;
    }
    let Some(snapshot) = exchange.snapshot() else { return };
    let trusted = &snapshot.settings.trusted;
    if !exchange.is_trusted_peer(trusted) {
        return;
    }
    let bytes = exchange.bytes();
    let fields = exchange.head.fields.iter().filter(|field| field.known == Name::XForwardedFor);
    let values = fields.flat_map(|field| field.value.of(bytes).split(|&byte| byte == b','));
    let mut named = None;
    for value in values.collect::<Vec<_>>().into_iter().rev() {
        let Some(address) = forwarded_address(value) else { break };
        named = Some(address);
        if !trusted.iter().any(|network| network.contains(address)) {
            break;
        }
    }
    exchange.named_client = named;
}

/// One item of `x-forwarded-for`: an address, which some give a port.
fn forwarded_address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|place| place.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

/// Appends the request head for the upstream to `out`.
pub fn request_head(exchange: &Exchange, plan: &Routed, out: &mut Vec<u8>) {
    let bytes = exchange.bytes();
    let edits = &plan.rule().request_headers;
    request_line(exchange, plan, out);
    // RFC 9112 §3.2.2: Host is what the target says, where it says something.
    if !edits.set.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        field(out, b"host", exchange.authority());
    }
    let call = exchange.call.as_ref();
    let is_replaced = |field: &Field| {
        is_of_the_hop(field.known)
            || (exchange.told_to_go_on && field.known == Name::Expect)
            || call.is_some_and(|call| call.replaces_in_request(field.name.of(bytes)))
            || (exchange.websocket_key.is_some() && is_websocket_key(field, bytes))
    };
    copy_fields(&exchange.head.fields, bytes, out, is_replaced, edits);
    framing_fields(exchange, out);
    if let Some(call) = call {
        let content_type = view(exchange).first_value("content-type").unwrap_or_default();
        call.request_fields(content_type, exchange.core.timers.lately(), out);
    }
    forwarding_fields(exchange, &plan.snapshot().settings, out);
    field(out, b"x-request-id", exchange.id.as_bytes());
    render_edits(edits, exchange, plan, out);
    out.extend_from_slice(b"\r\n");
}

fn request_line(exchange: &Exchange, plan: &Routed, out: &mut Vec<u8>) {
    out.extend_from_slice(exchange.method());
    out.push(b' ');
    match exchange.head.target_form {
        TargetForm::Authority => out.extend_from_slice(exchange.head.target.of(exchange.bytes())),
        // OPTIONS with an absolute URI that has no path asks about the server (RFC 9112 §3.2.4).
        TargetForm::Absolute
            if exchange.head.method == Method::Options
                && exchange.head.path.is_empty()
                && !exchange.head.has_query =>
        {
            out.push(b'*');
        }
        _ => {
            upstream_path(exchange, plan, out);
            if let Some(query) = exchange.query() {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

fn upstream_path(exchange: &Exchange, plan: &Routed, out: &mut Vec<u8>) {
    let path = exchange.path();
    let start = out.len();
    // What is asked on behalf of a request has a path of its own.
    match plan.rule().rewrite.as_ref().filter(|_| exchange.role != Role::Question) {
        None => out.extend_from_slice(path),
        Some(Rewrite::Path(template)) => {
            template.render(&values(exchange, plan.rule()), out);
        }
        Some(Rewrite::StripPrefix(prefix)) => {
            out.extend_from_slice(path.strip_prefix(prefix.as_bytes()).unwrap_or(path));
        }
        Some(Rewrite::Regex { pattern, replacement }) => {
            out.extend_from_slice(&pattern.replace(path, &**replacement));
        }
    }
    // Whatever a rewrite made of it, a path begins with a slash.
    if out.get(start) != Some(&b'/') && out.get(start) != Some(&b'*') {
        out.insert(start, b'/');
    }
}

/// Fields that `request_head` writes anew, or that end at this hop.
pub fn is_of_the_hop(known: Name) -> bool {
    matches!(
        known,
        Name::Host
            | Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::ProxyAuthorization
            | Name::ProxyAuthenticate
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::XForwardedFor
            | Name::XForwardedProto
            | Name::XForwardedHost
            | Name::Forwarded
            | Name::XRequestId
    )
}

/// Framing and the hop-by-hop fields of the new hop.
fn framing_fields(exchange: &Exchange, out: &mut Vec<u8>) {
    let head = &exchange.head;
    if head.framing == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if asks_for_upgrade(exchange) {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        let start = out.len();
        for protocol in upgrade_protocols(exchange) {
            if out.len() > start {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(protocol);
        }
        out.extend_from_slice(b"\r\n");
        if let Some(key) = &exchange.websocket_key {
            field(out, b"sec-websocket-key", key.as_bytes());
        }
    } else if head.te_trailers || exchange.call.is_some() {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
}

fn is_websocket_key(field: &Field, bytes: &[u8]) -> bool {
    field.name.of(bytes).eq_ignore_ascii_case(b"sec-websocket-key")
}

/// The value of the answer to the client's own key.
fn websocket_accept(exchange: &Exchange) -> Option<String> {
    let bytes = exchange.bytes();
    let key = exchange.head.fields.iter().find(|field| is_websocket_key(field, bytes))?;
    Some(websocket::accept(key.value.of(bytes)))
}

/// Whether an endpoint's answer is one to the key that we gave it, if we did.
pub fn answers_key(exchange: &Exchange, bytes: &[u8], head: &ResponseHead) -> bool {
    let Some(key) = exchange.websocket_key.as_ref().filter(|_| asks_for_websocket(exchange)) else {
        return true;
    };
    let expected = websocket::accept(key.as_bytes());
    let mut fields = head.fields.iter();
    fields.any(|field| is_websocket_accept(field, bytes) && field.value.of(bytes) == expected.as_bytes())
}

fn is_websocket_accept(field: &Field, bytes: &[u8]) -> bool {
    field.name.of(bytes).eq_ignore_ascii_case(b"sec-websocket-accept")
}

/// Whether the upstream is asked to change protocol.
pub fn asks_for_upgrade(exchange: &Exchange) -> bool {
    exchange.head.upgrade && upgrade_protocols(exchange).next().is_some()
}

/// What an HTTP/2 endpoint is asked to speak on a stream: in place of GET, CONNECT goes there. A request with a body goes as what
/// it is, without its upgrade, which any server may ignore (RFC 9110 §7.8).
pub fn protocol_to_connect(exchange: &Exchange) -> Option<&[u8]> {
    let head = &exchange.head;
    let is_bare = head.method == Method::Get && head.framing == Framing::None;
    upgrade_protocols(exchange).next().filter(|_| is_bare && head.upgrade)
}

/// Whether a switch can only be to WebSocket (RFC 6455 §4.1).
pub fn asks_for_websocket(exchange: &Exchange) -> bool {
    asks_for_upgrade(exchange)
        && upgrade_protocols(exchange).all(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// What the client wants to change to. Not h2c: an upstream that agreed would serve whole requests that no
/// route of ours has seen (RFC 9113 §3.1 has withdrawn it).
pub fn upgrade_protocols(exchange: &Exchange) -> impl Iterator<Item = &[u8]> {
    let bytes = exchange.bytes();
    let fields = exchange.head.fields.iter().filter(|field| field.known == Name::Upgrade);
    fields
        .flat_map(move |field| field.value.of(bytes).split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|protocol| !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c"))
}

/// x-forwarded-for is appended to; proto and host are this hop's own unless a trusted peer set them.
fn forwarding_fields(exchange: &Exchange, settings: &Settings, out: &mut Vec<u8>) {
    let bytes = exchange.bytes();
    let head = &exchange.head;
    out.extend_from_slice(b"x-forwarded-for: ");
    for earlier in head.fields.iter().filter(|field| field.known == Name::XForwardedFor) {
        if !earlier.value.is_empty() {
            out.extend_from_slice(earlier.value.of(bytes));
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(exchange.client.address.as_bytes());
    out.extend_from_slice(b"\r\n");
    let trusted = exchange.is_trusted_peer(&settings.trusted);
    let sent = |name: Name| head.first(name).filter(|_| trusted).map(|field| field.value.of(bytes));
    field(
        out,
        b"x-forwarded-proto",
        sent(Name::XForwardedProto).unwrap_or(exchange.client.scheme().as_bytes()),
    );
    field(out, b"x-forwarded-host", sent(Name::XForwardedHost).unwrap_or(exchange.authority()));
    if settings.forwarded {
        forwarded_field(exchange, trusted, out);
    }
}

/// RFC 7239; IPv6 addresses are quoted and bracketed (§6).
fn forwarded_field(exchange: &Exchange, trusted: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"forwarded: ");
    let fields = exchange.head.fields.iter();
    for earlier in fields.filter(|field| trusted && field.known == Name::Forwarded && !field.value.is_empty())
    {
        out.extend_from_slice(earlier.value.of(exchange.bytes()));
        out.extend_from_slice(b", ");
    }
    match exchange.client.peer.ip() {
        IpAddr::V4(address) => out.extend_from_slice(format!("for={address}").as_bytes()),
        IpAddr::V6(address) => out.extend_from_slice(format!("for=\"[{address}]\"").as_bytes()),
    }
    // The authority was validated: it holds no quote and no backslash.
    out.extend_from_slice(b";host=\"");
    out.extend_from_slice(exchange.authority());
    out.extend_from_slice(b"\";proto=http\r\n");
}

/// How a response is framed and ended towards the client.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub framing: Framing,
    /// Chunk framing is taken off for a client that is not of HTTP/1.1.
    pub decodes_chunks: bool,
    /// A body that ends with its connection gets chunk framing for an HTTP/1.1 client.
    pub encodes_chunks: bool,
    pub switched: bool,
    pub status: u16,
    /// Another request may follow; said in the head.
    pub keep_alive: bool,
    /// What came from an HTTP/2 endpoint without a length turned out to have this one.
    pub length: Option<u64>,
}

impl Answer {
    pub fn new(
        exchange: &Exchange,
        status: u16,
        framing: Framing,
        switched: bool,
        upload_done: bool,
    ) -> Answer {
        let http10 = exchange.client_is_http10();
        let ends_with_connection = http10 && matches!(framing, Framing::Chunked | Framing::Close);
        let keep_alive = may_keep_alive(exchange) && upload_done && !ends_with_connection;
        Answer {
            framing,
            decodes_chunks: (http10 || exchange.is_http2) && framing == Framing::Chunked,
            encodes_chunks: !http10 && !exchange.is_http2 && framing == Framing::Close,
            switched,
            // What 101 is between HTTP/1.1 ends, 200 is on a stream (RFC 8441 §5).
            status: match (switched && exchange.head.upgrade, exchange.is_http2) {
                (true, true) => 200,
                (true, false) => 101,
                (false, _) => status,
            },
            keep_alive,
            length: None,
        }
    }
}

/// Whether a client connection may carry another request, as far as its own side is concerned. Not after
/// CONNECT: what an impatient client sent for the tunnel would be read as a request.
pub fn may_keep_alive(exchange: &Exchange) -> bool {
    exchange.head.keep_alive
        && exchange.head.method != Method::Connect
        && !exchange.core.draining.get()
        && exchange.is_listener_open()
        && !exchange.client.is_old(exchange.core.timers.lately())
}

/// Renders the final response head for the client into `out`.
pub fn response_head(
    exchange: &Exchange,
    plan: &Routed,
    bytes: &[u8],
    head: &ResponseHead,
    answer: &Answer,
    out: &mut Vec<u8>,
) {
    out.clear();
    let edits = &plan.rule().response_headers;
    status_line(bytes, head, answer.status, out);
    let drops_length = answer.framing == Framing::Chunked || answer.switched;
    let is_replaced = |field: &Field| {
        is_replaced_in_response(field.known)
            || (drops_length && field.known == Name::ContentLength)
            || (answer.switched && exchange.is_http2 && is_websocket_accept(field, bytes))
            || exchange.call.as_ref().is_some_and(|call| call.replaces_in_response(field.name.of(bytes)))
            || (!exchange.cors.is_empty() && is_cors_field(field.name.of(bytes)))
    };
    copy_fields(&head.fields, bytes, out, is_replaced, edits);
    if let Some(call) = &exchange.call {
        call.response_fields(head, bytes, out);
    }
    if answer.status == 101 {
        switch_fields(exchange, head, bytes, out);
    } else if !answer.switched {
        if answer.encodes_chunks || (answer.framing == Framing::Chunked && !answer.decodes_chunks) {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if let (Some(length), false) = (answer.length, exchange.is_http2) {
            field(out, b"content-length", length.to_string().as_bytes());
        }
        connection_field(exchange, answer.keep_alive, out);
    }
    field(out, b"x-request-id", exchange.id.as_bytes());
    out.extend_from_slice(&exchange.cors);
    render_edits(edits, exchange, plan, out);
    out.extend_from_slice(b"\r\n");
}

/// Renders an informational response (RFC 9110 §15.2), without what belongs to the upstream's hop.
pub fn informational(bytes: &[u8], head: &ResponseHead, out: &mut Vec<u8>) {
    out.clear();
    status_line(bytes, head, head.status, out);
    let is_replaced = |field: &Field| is_replaced_in_response(field.known);
    copy_fields(&head.fields, bytes, out, is_replaced, &HeaderEdits::default());
    out.extend_from_slice(b"\r\n");
}

/// Says what HTTP/1.1 and 1.0 do not take for granted.
pub fn connection_field(exchange: &Exchange, keep_alive: bool, out: &mut Vec<u8>) {
    match (keep_alive, exchange.client_is_http10()) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, false) => {}
    }
}

fn switch_fields(exchange: &Exchange, head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"connection: upgrade\r\n");
    if head.status == 101 {
        for upgrade in head.fields.iter().filter(|field| field.known == Name::Upgrade) {
            field(out, b"upgrade", upgrade.value.of(bytes));
        }
        return;
    }
    // The endpoint's stream has taken the protocol that it was asked for.
    upgrade_protocols(exchange).take(1).for_each(|protocol| field(out, b"upgrade", protocol));
    if let Some(accept) = websocket_accept(exchange).filter(|_| asks_for_websocket(exchange)) {
        field(out, b"sec-websocket-accept", accept.as_bytes());
    }
}

/// What came over HTTP/2 has no reason of its own.
fn status_line(bytes: &[u8], head: &ResponseHead, status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    status::append_code(status, out);
    out.push(b' ');
    match head.reason.of(bytes) {
        reason if status == head.status && !reason.is_empty() => out.extend_from_slice(reason),
        _ => out.extend_from_slice(status::reason(status).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

fn is_replaced_in_response(known: Name) -> bool {
    matches!(
        known,
        Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::XRequestId
    )
}

/// Copies the lines of all fields that stay, in runs as long as possible.
fn copy_fields(
    fields: &[Field],
    bytes: &[u8],
    out: &mut Vec<u8>,
    is_replaced: impl Fn(&Field) -> bool,
    edits: &HeaderEdits,
) {
    let mut run = 0..0;
    for field in fields {
        let start = usize::from(field.line().start);
        let stays = !field.hop_by_hop && !is_replaced(field) && !is_edited(edits, field.name.of(bytes));
        if stays && run.end == start {
            run.end = field.line().end();
        } else {
            out.extend_from_slice(&bytes[run]);
            run = if stays { start..field.line().end() } else { 0..0 };
        }
    }
    out.extend_from_slice(&bytes[run]);
}

/// In any spelling that some read as the same name: what is set here, nobody else says.
fn is_edited(edits: &HeaderEdits, name: &[u8]) -> bool {
    !edits.is_empty()
        && (edits.remove.iter().any(|removed| is_alike(name, removed.as_bytes()))
            || edits.set.iter().any(|(set, _)| is_alike(name, set.as_bytes())))
}

/// Writes what the route sets and adds; a field whose template has nothing to say is left out.
fn render_edits(edits: &HeaderEdits, exchange: &Exchange, plan: &Routed, out: &mut Vec<u8>) {
    if !edits.is_empty() {
        append_edits(edits, &values(exchange, plan.rule()), out);
    }
}

pub fn append_edits(edits: &HeaderEdits, values: &impl TemplateValues, out: &mut Vec<u8>) {
    for (name, template) in edits.set.iter().chain(&edits.add) {
        let line = out.len();
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        let value = out.len();
        template.render(values, out);
        if out.len() == value {
            out.truncate(line);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// One field line.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl Cidr {
    /// IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}
