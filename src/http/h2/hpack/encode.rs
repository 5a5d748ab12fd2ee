//! Owns the encoder: field lines become a header block (RFC 7541 §3, §6), and which fields enter its dynamic
//! table. Does not split blocks into frames.

use std::mem;

use super::lookup::{self, Lookup};
use super::table::{ENTRY_OVERHEAD_BYTES, Line, Table};
use super::{TABLE_BYTES_DEFAULT, huffman, integer, static_table};

/// The sending end of a connection's header compression. Allocates only while its table fills for the first
/// time.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// What this end is willing to use, in bytes.
    table_bytes_max: usize,
    /// The table's size has changed since the last block: the smallest that it was, in bytes. It has evicted
    /// entries at both ends.
    least_since_block: Option<usize>,
    /// Insertions so far, modulo 2^16.
    insertions: u16,
    /// By name and value.
    fields: Lookup,
    /// By name, those that the static table lacks.
    names: Lookup,
    /// The name of a field, in lower case.
    lower: Vec<u8>,
}

/// The largest table that an encoder uses, in bytes, so that the number of an insertion fits 16 bits.
const TABLE_BYTES_LIMIT: usize = 64 * 1024;

/// No entry gets more than one in so many parts of the table: it would evict too many others.
const ENTRY_SHARE: usize = 2;

impl Encoder {
    /// An encoder that uses at most `table_bytes_max` for its table (64 KiB at most), and never more than the
    /// peer's SETTINGS allow, which is `TABLE_BYTES_DEFAULT` at first. 0 turns the table off.
    pub fn new(table_bytes_max: usize) -> Encoder {
        let table_bytes_max = table_bytes_max.min(TABLE_BYTES_LIMIT);
        let mut encoder = Encoder {
            table: Table::new(TABLE_BYTES_DEFAULT),
            table_bytes_max,
            least_since_block: None,
            insertions: 0,
            fields: Lookup::new(),
            names: Lookup::new(),
            lower: Vec::new(),
        };
        encoder.set_table_bytes_max(TABLE_BYTES_DEFAULT);
        encoder
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes, which is being acknowledged. The next block begins by
    /// announcing the sizes that follow from it (RFC 7541 §4.2).
    pub fn set_table_bytes_max(&mut self, from_settings: usize) {
        let size_max = from_settings.min(self.table_bytes_max);
        if size_max == self.table.size_max() {
            return;
        }
        let least = self.least_since_block.unwrap_or(size_max).min(size_max);
        self.least_since_block = Some(least);
        self.table.set_size_max(size_max);
    }

    /// Begins a block in `out`. It has to be sent, in order and before any other block of the connection.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(least) = self.least_since_block.take() else { return };
        if least < self.table.size_max() {
            integer::write(least, 5, SIZE_UPDATE, out);
        }
        integer::write(self.table.size_max(), 5, SIZE_UPDATE, out);
    }

    /// Appends a field to the block. `name` may be in any case: it is sent in lower case (RFC 9113 §8.2).
    /// Credentials are recognised by their names, and sent as never indexed.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let index = static_table::find_name(name);
        if index != 0 {
            return self.named(Name::of_static(index), static_policy(index, value), value, out);
        }
        let lower = self.take_lower(name);
        self.named(Name::of(&lower), policy(&lower), value, out);
        self.lower = lower;
    }

    /// Appends a field that no hop may put into a table, as its value is secret and could be guessed there,
    /// or as it came that way (RFC 7541 §6.2.3, §7.1.3). `name` may be in any case.
    pub fn field_never_indexed(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let lower = self.take_lower(name);
        let name = match static_table::find_name(name) {
            0 => Name::of(&lower),
            index => Name::of_static(index),
        };
        self.named(name, Policy::NeverIndexed, value, out);
        self.lower = lower;
    }

    /// Appends `:status`, which has to have three digits.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        debug_assert!((100..=999).contains(&status));
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
                return self.named(Name::of_static(static_table::STATUS), Policy::Index, &digits, out);
            }
        };
        out.push(INDEXED | index);
    }

    /// The size of the dynamic table (RFC 7541 §4.1), in bytes.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    fn named(&mut self, name: Name<'_>, policy: Policy, value: &[u8], out: &mut Vec<u8>) {
        debug_assert!(self.least_since_block.is_none(), "the block was not begun");
        let mut field_hash = 0;
        if policy != Policy::NeverIndexed {
            match static_table::find_value(name.index, value) {
                0 => {}
                index => return integer::write(index.into(), 7, INDEXED, out),
            }
        }
        if policy == Policy::Index {
            field_hash = lookup::hash(name.hash, value);
            if let Some(index) = self.find_field(&name, value, field_hash) {
                return integer::write(index, 7, INDEXED, out);
            }
        }
        let name_index = self.find_name(&name);
        let is_indexed = match policy {
            Policy::Index => self.is_worth_an_entry(&name, value),
            Policy::IndexName => name_index == 0 && self.is_worth_an_entry(&name, value),
            Policy::NeverIndexed => false,
        };
        let (prefix_bits, pattern) = match (is_indexed, policy) {
            (true, _) => (6, LITERAL),
            (false, Policy::NeverIndexed) => (4, LITERAL_NEVER_INDEXED),
            (false, _) => (4, LITERAL_NOT_INDEXED),
        };
        integer::write(name_index, prefix_bits, pattern, out);
        if name_index == 0 {
            string(name.text, out);
        }
        string(value, out);
        if is_indexed {
            self.insert(&name, value, field_hash);
        }
    }

    /// The index of an entry with this name and value.
    #[inline]
    fn find_field(&self, name: &Name<'_>, value: &[u8], field_hash: u64) -> Option<usize> {
        let is_it = |line: Line<'_>| {
            line.name_index == name.index
                && line.value() == value
                && (name.index != 0 || line.name() == name.text)
        };
        self.find(&self.fields, field_hash, is_it)
    }

    /// The index of a field with this name, or 0.
    #[inline]
    fn find_name(&self, name: &Name<'_>) -> usize {
        if name.index != 0 {
            return name.index.into();
        }
        self.find(&self.names, name.hash, |line| line.name() == name.text).unwrap_or(0)
    }

    #[inline]
    fn find(&self, lookup: &Lookup, hash: u64, is_it: impl Fn(Line<'_>) -> bool) -> Option<usize> {
        let place = lookup.find(hash, self.insertions, |place| self.table.get(place).is_some_and(&is_it))?;
        Some(static_table::COUNT + 1 + place)
    }

    fn is_worth_an_entry(&self, name: &Name<'_>, value: &[u8]) -> bool {
        let entry_bytes = name.text.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        ENTRY_SHARE * entry_bytes <= self.table.size_max()
    }

    fn insert(&mut self, name: &Name<'_>, value: &[u8], field_hash: u64) {
        self.table.insert_parts(name.text, value, name.index);
        self.insertions = self.insertions.wrapping_add(1);
        let entries_max = self.table_bytes_max / ENTRY_OVERHEAD_BYTES;
        if field_hash != 0 {
            self.fields.note(field_hash, self.insertions, entries_max);
        }
        if name.index == 0 {
            self.names.note(name.hash, self.insertions, entries_max);
        }
    }

    /// `name` in lower case, in the buffer `lower`, which the caller puts back.
    fn take_lower(&mut self, name: &[u8]) -> Vec<u8> {
        let mut lower = mem::take(&mut self.lower);
        lower.clear();
        lower.extend_from_slice(name);
        lower.make_ascii_lowercase();
        lower
    }
}

/// A field name in lower case.
struct Name<'a> {
    text: &'a [u8],
    /// The first index in the static table with this name, or 0.
    index: u8,
    hash: u64,
}

impl Name<'_> {
    fn of(lower: &[u8]) -> Name<'_> {
        Name { text: lower, index: 0, hash: lookup::hash(0, lower) }
    }

    fn of_static(index: u8) -> Name<'static> {
        let text = static_table::get(index.into()).map(|line| line.name()).unwrap_or_default();
        Name { text, index, hash: index.into() }
    }
}

/// Whether a field gets an entry. Each new one evicts old ones, so the values to keep are those that come
/// again before the table has been replaced. nghttp2 and h2 go by much the same lists of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Index,
    /// The value hardly ever comes again: different in each message (`:path`, `content-length`, `etag`), for
    /// each user, of whom a connection to a backend carries many (`cookie`), or with the time (`date`). The
    /// name may get an entry, if the static table lacks it.
    IndexName,
    /// A credential: in a table, an attacker who adds fields of his own could guess it (RFC 7541 §7.1).
    NeverIndexed,
}

/// The policy for a name in the static table.
fn static_policy(name_index: u8, value: &[u8]) -> Policy {
    use static_table::*;
    /// Shorter cookies have little entropy, so that guessing would pay.
    const COOKIE_BYTES_MIN: usize = 20;
    match name_index {
        AUTHORIZATION | PROXY_AUTHORIZATION => Policy::NeverIndexed,
        COOKIE if value.len() < COOKIE_BYTES_MIN => Policy::NeverIndexed,
        PATH | AGE | CONTENT_DISPOSITION | CONTENT_LENGTH | CONTENT_LOCATION | CONTENT_RANGE | COOKIE
        | DATE | ETAG | EXPIRES | IF_MATCH | IF_MODIFIED_SINCE | IF_NONE_MATCH | IF_RANGE
        | IF_UNMODIFIED_SINCE | LAST_MODIFIED | LOCATION | RANGE | SET_COOKIE => Policy::IndexName,
        _ => Policy::Index,
    }
}

/// The policy for a name that is not in the static table, in lower case.
fn policy(name: &[u8]) -> Policy {
    match name {
        b"api-key"
        | b"x-api-key"
        | b"x-goog-api-key"
        | b"x-auth-token"
        | b"x-amz-security-token"
        | b"x-csrf-token"
        | b"x-xsrf-token" => Policy::NeverIndexed,
        b"x-request-id" | b"request-id" | b"x-correlation-id" | b"idempotency-key" | b"traceparent"
        | b"tracestate" | b"x-amzn-trace-id" | b"x-b3-traceid" | b"x-b3-spanid" | b"x-b3-parentspanid"
        | b"cf-ray" | b"forwarded" | b"x-forwarded-for" | b"x-real-ip" | b"server-timing" | b"x-runtime" => {
            Policy::IndexName
        }
        // What is left of a quota, and until when.
        _ if name.starts_with(b"x-ratelimit-re") => Policy::IndexName,
        _ => Policy::Index,
    }
}

/// The patterns above the prefixes of RFC 7541 §6.
const INDEXED: u8 = 0x80;
const LITERAL: u8 = 0x40;
const LITERAL_NEVER_INDEXED: u8 = 0x10;
const LITERAL_NOT_INDEXED: u8 = 0x00;
const SIZE_UPDATE: u8 = 0x20;

/// Appends a string (RFC 7541 §5.2), in the shorter of both forms.
fn string(text: &[u8], out: &mut Vec<u8>) {
    const HUFFMAN: u8 = 0x80;
    let len = huffman::encoded_len(text);
    if len < text.len() {
        integer::write(len, 7, HUFFMAN, out);
        huffman::encode(text, len, out);
    } else {
        integer::write(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
