//! Owns the parsed form of an HTTP/1 head: offsets into the buffer that holds it, and what the framing
//! headers mean. Holds no bytes and does no I/O; `h1_parse` fills it, `proxy` reads it.

use std::fmt;
use std::ops::Deref;

use super::scan::{BLOCK, Block};

/// A range of the head's buffer. Heads are bounded to 64 KiB, so two u16 do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u16,
    pub len: u16,
}

impl Span {
    /// The bytes of this span in `buffer`, the buffer that was parsed.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.start as usize + self.len as usize]
    }
    #[inline]
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Field names that the proxy acts on; recognised once, while parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Name {
    #[default]
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Upgrade,
    Expect,
    Trailer,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    Forwarded,
    XRequestId,
    Date,
    Server,
}

/// What a field name turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// This name, in any case; or `Name::Other`.
    Name(Name),
    /// Not this name, but read as it by software that maps `_` (CGI, WSGI) or any other punctuation to `-`.
    LookAlike(Name),
}

impl Name {
    /// `name` has to be a token (RFC 9110 §5.6.2).
    pub fn recognise(name: &[u8]) -> Recognised {
        let Some(known) = Name::candidate(name) else { return Recognised::Name(Name::Other) };
        if same_letters(known.text, name) {
            return Recognised::Name(known.name);
        }
        let alike = known.text.iter().zip(name).all(|(&known, &byte)| match byte.is_ascii_alphanumeric() {
            true => known == byte.to_ascii_lowercase(),
            false => known == b'-',
        });
        if alike { Recognised::LookAlike(known.name) } else { Recognised::Name(Name::Other) }
    }

    /// The only known name that this may be, and may look like, if there is one. It has the same length.
    #[inline(always)]
    pub(super) fn candidate(name: &[u8]) -> Option<&'static KnownName> {
        let slot = match name {
            [first, .., last] => name_slot(*first, *last, name.len()),
            _ => return None,
        };
        if NAME_LENGTHS[slot] as usize != name.len() {
            return None;
        }
        KNOWN_NAMES.get(NAME_INDEXES[slot] as usize)
    }
}

pub(super) struct KnownName {
    text: &'static [u8],
    /// Its letters, in lower case, and zeros behind them.
    pub(super) block: Block,
    pub(super) name: Name,
}

/// Tells the known names apart by their length, first and last letter: at most one candidate for any name,
/// so one comparison. Look-alikes meet their original there, because these names begin and end with letters,
/// and times 8 the two cases of a letter, 0x20 apart, are one.
#[inline(always)]
const fn name_slot(first: u8, last: u8, len: usize) -> usize {
    first.wrapping_add(last).wrapping_mul(8).wrapping_add(len as u8) as usize
}

const NAME_SLOTS: usize = 256;

#[rustfmt::skip]
static KNOWN_NAMES: [KnownName; 19] = [
    known("host", Name::Host), known("connection", Name::Connection),
    known("content-length", Name::ContentLength), known("transfer-encoding", Name::TransferEncoding),
    known("te", Name::Te), known("trailer", Name::Trailer), known("upgrade", Name::Upgrade),
    known("expect", Name::Expect), known("keep-alive", Name::KeepAlive),
    known("proxy-connection", Name::ProxyConnection), known("proxy-authenticate", Name::ProxyAuthenticate),
    known("proxy-authorization", Name::ProxyAuthorization), known("x-forwarded-for", Name::XForwardedFor),
    known("x-forwarded-proto", Name::XForwardedProto), known("x-forwarded-host", Name::XForwardedHost),
    known("forwarded", Name::Forwarded), known("x-request-id", Name::XRequestId), known("date", Name::Date),
    known("server", Name::Server),
];

const fn known(text: &'static str, name: Name) -> KnownName {
    let text = text.as_bytes();
    let mut block = [0; BLOCK];
    block.split_at_mut(text.len()).0.copy_from_slice(text);
    KnownName { text, block, name }
}

/// By slot, the length of the name there; 0 if there is none.
static NAME_LENGTHS: [u8; NAME_SLOTS] = name_tables().0;
/// By slot, where in `KNOWN_NAMES` it is.
static NAME_INDEXES: [u8; NAME_SLOTS] = name_tables().1;

const fn name_tables() -> ([u8; NAME_SLOTS], [u8; NAME_SLOTS]) {
    let (mut lengths, mut indexes) = ([0; NAME_SLOTS], [0; NAME_SLOTS]);
    let mut index = 0;
    while index < KNOWN_NAMES.len() {
        let text = KNOWN_NAMES[index].text;
        let slot = name_slot(text[0], text[text.len() - 1], text.len());
        assert!(lengths[slot] == 0, "two names in one slot: choose other factors in name_slot");
        lengths[slot] = text.len() as u8;
        indexes[slot] = index as u8;
        index += 1;
    }
    (lengths, indexes)
}

/// Is `text` this lower-case name, but for case? For text without controls: among the bytes left, only the
/// upper and lower case of a letter meet under `| 0x20`, and nothing meets `-`.
#[inline(always)]
pub(super) fn is_name(text: &[u8], known: &'static [u8]) -> bool {
    text.len() == known.len() && same_letters(known, text)
}

/// `is_name` for texts of one length. Compares overlapping words instead of bytes.
#[inline(always)]
fn same_letters(known: &[u8], name: &[u8]) -> bool {
    let word = |text: &[u8], at: usize| text[at..].first_chunk::<8>().map(|word| u64::from_le_bytes(*word));
    let half = |text: &[u8], at: usize| text[at..].first_chunk::<4>().map(|half| u32::from_le_bytes(*half));
    let differs = |at: usize| match (word(known, at), word(name, at)) {
        (Some(known), Some(name)) => known ^ (name | 0x2020_2020_2020_2020),
        _ => 1,
    };
    let half_differs = |at: usize| match (half(known, at), half(name, at)) {
        (Some(known), Some(name)) => known ^ (name | 0x2020_2020),
        _ => 1,
    };
    match known.len() {
        len @ 8..=16 => differs(0) | differs(len - 8) == 0,
        len @ 17..=24 => differs(0) | differs(8) | differs(len - 8) == 0,
        len @ 4..=7 => half_differs(0) | half_differs(len - 4) == 0,
        _ => known.iter().zip(name).all(|(&known, &byte)| known == byte | 0x20),
    }
}

/// The same name to a reader who takes any punctuation for `-`, as CGI does.
pub fn is_alike(name: &[u8], known: &[u8]) -> bool {
    let same = |(byte, known): (&u8, &u8)| match byte.is_ascii_alphanumeric() {
        true => byte.eq_ignore_ascii_case(known),
        false => !known.is_ascii_alphanumeric(),
    };
    name.len() == known.len() && name.iter().zip(known).all(same)
}

/// One field line. Small, as there are many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Field {
    pub name: Span,
    /// Without leading and trailing OWS.
    pub value: Span,
    /// From the start of the name, CRLF included.
    pub line_len: u16,
    pub known: Name,
    /// This field ends at this hop, although its name alone does not say so: Connection names it (RFC 9110
    /// §7.6.1), or it is a look-alike of a known name, or a Content-Length on a response without content.
    pub hop_by_hop: bool,
}

impl Field {
    /// Name, colon, value and CRLF: runs of lines that are kept copy as one piece.
    #[inline]
    pub fn line(&self) -> Span {
        Span { start: self.name.start, len: self.line_len }
    }
}

/// The field lines of a head, in order; read it as a slice. Made to be filled again and again: clearing it
/// touches none of them.
#[derive(Default, Clone)]
pub struct Fields {
    /// Those in use, and behind them what earlier heads left.
    list: Vec<Field>,
    len: usize,
}

impl Fields {
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Those in use.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Field> {
        self.list[..self.len].iter_mut()
    }

    /// Where the next ones belong, as far as there is memory, and `fields_max` in all; `add` says how many
    /// there are now.
    #[inline(always)]
    pub(super) fn room(&mut self, fields_max: usize) -> &mut [Field] {
        let end = self.list.len().min(fields_max);
        self.list.get_mut(self.len..end).unwrap_or_default()
    }

    /// The first `count` of `room` are in use.
    #[inline(always)]
    pub(super) fn add(&mut self, count: usize) {
        self.len += count;
        debug_assert!(self.len <= self.list.len());
    }

    /// One more; fewer than `fields_max` are there.
    #[inline(always)]
    pub(super) fn push(&mut self, field: Field, fields_max: usize) -> &mut Field {
        if self.len == self.list.len() {
            self.grow(fields_max);
        }
        let place = &mut self.list[self.len];
        self.len += 1;
        *place = field;
        place
    }

    #[cold]
    fn grow(&mut self, fields_max: usize) {
        const FIELDS_MIN: usize = 16;
        let longer = (2 * self.len).max(FIELDS_MIN).min(fields_max).max(self.len + 1);
        self.list.resize(longer, Field::default());
    }

    #[inline(always)]
    pub(super) fn all_mut(&mut self) -> &mut [Field] {
        &mut self.list[..self.len]
    }
}

impl Deref for Fields {
    type Target = [Field];

    #[inline]
    fn deref(&self) -> &[Field] {
        &self.list[..self.len]
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(formatter)
    }
}

/// How the body after a head is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    #[default]
    None,
    /// Exactly this many bytes; never 0 (that is `None`).
    Length(u64),
    Chunked,
    /// Until the connection closes; responses only.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token of at most 32 bytes.
    Other,
}

impl Method {
    /// RFC 9110 §9.2.2: repeating it has the same intended effect as doing it once.
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
        )
    }
}

/// The four forms of RFC 9112 §3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetForm {
    #[default]
    Origin,
    Absolute,
    Authority,
    Asterisk,
}

/// Bounds of a head. Defaults are the product's: 100 fields, 32 KiB, 8 KiB target.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    pub fields_max: usize,
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { fields_max: 100, head_bytes_max: 32 * 1024, target_bytes_max: 8 * 1024 }
    }
}

/// A request head, valid for the buffer it was parsed from. Reused between requests: `h1_parse` clears it.
#[derive(Debug, Default, Clone)]
pub struct RequestHead {
    pub method: Method,
    pub method_span: Span,
    pub target: Span,
    pub target_form: TargetForm,
    /// Path without query. For absolute-form, of the URI inside (may be empty: then it means "/").
    pub path: Span,
    /// After `?`, without it. `has_query` tells an empty query from none.
    pub query: Span,
    pub has_query: bool,
    /// Authority this request is for: that of an absolute- or authority-form target wins over Host (RFC 9112
    /// §3.2.2).
    /// `uri-host[:port]`, validated. Empty only on an HTTP/1.0 request without Host. Where it comes from the
    /// target, the Host field that is forwarded has to be replaced by it.
    pub authority: Span,
    pub version: Version,
    pub fields: Fields,
    pub framing: Framing,
    /// The client wants (HTTP/1.1) or allows (HTTP/1.0 with keep-alive) another request after this one.
    pub keep_alive: bool,
    /// `Expect: 100-continue` on an HTTP/1.1 request that has content to wait with.
    pub expect_continue: bool,
    /// `Connection: upgrade` with an `Upgrade` field, on HTTP/1.1.
    pub upgrade: bool,
    /// `TE: trailers` was said (and named in Connection or not).
    pub te_trailers: bool,
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
}

/// A response head, valid for the buffer it was parsed from.
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub reason: Span,
    pub version: Version,
    pub fields: Fields,
    /// What the fields say; the request's method is taken into account by `h1_parse::response_framing`.
    pub framing: Framing,
    /// The backend allows another request on this connection; `false` where `framing` is `Close`.
    pub keep_alive: bool,
    /// `keep_alive` before framing is considered: for HEAD, whose responses may say nothing about length.
    pub persistent: bool,
    /// `Connection: upgrade` with an `Upgrade` field, on HTTP/1.1. Means a switch only with status 101.
    pub upgrade: bool,
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
}

impl RequestHead {
    /// The values of all fields with this name (any case), in order.
    pub fn field<'a>(&'a self, buffer: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.fields, buffer, name)
    }

    /// The first field that was recognised as `known`.
    pub fn first(&self, known: Name) -> Option<&Field> {
        self.fields.iter().find(|field| field.known == known)
    }

    /// The method as sent.
    pub fn method_bytes<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        self.method_span.of(buffer)
    }
}

impl ResponseHead {
    /// The values of all fields with this name (any case), in order.
    pub fn field<'a>(&'a self, buffer: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.fields, buffer, name)
    }

    /// The first field that was recognised as `known`.
    pub fn first(&self, known: Name) -> Option<&Field> {
        self.fields.iter().find(|field| field.known == known)
    }

    /// May the connection carry another request once the answer to a `request_method` is complete?
    pub fn allows_reuse_after(&self, request_method: Method) -> bool {
        self.keep_alive || (self.persistent && request_method == Method::Head)
    }
}

fn values<'a>(fields: &'a [Field], buffer: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()))
        .map(move |field| field.value.of(buffer))
}
