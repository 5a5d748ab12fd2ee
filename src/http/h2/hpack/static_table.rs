//! Owns the static table (RFC 7541 Appendix A) and how its fields are found by name and by value.

use super::table::Line;

/// The number of fields in the static table. Indexes begin at 1, and dynamic ones behind this.
pub(super) const COUNT: usize = 61;

/// The field at `index`; none if that is 0 or beyond the table.
#[inline]
pub(super) fn get(index: usize) -> Option<Line<'static>> {
    LINES.get(index.wrapping_sub(1)).copied()
}

/// The first index with this `name`, which may be in any case; 0 if there is none.
#[inline]
pub(super) fn find_name(name: &[u8]) -> u8 {
    let [first, .., last] = name else { return 0 };
    let index = NAMES[slot(*first, *last, name.len())];
    match get(index as usize) {
        Some(line) if line.name().eq_ignore_ascii_case(name) => index,
        _ => 0,
    }
}

/// The index of the field with this value and the name that `find_name` found at `name_index`; 0 if there is
/// none. Fields of one name are neighbours.
#[inline]
pub(super) fn find_value(name_index: u8, value: &[u8]) -> u8 {
    let indexes = match name_index {
        METHOD => 2..=3,
        PATH => 4..=5,
        SCHEME => 6..=7,
        STATUS => 8..=14,
        ACCEPT_ENCODING => 16..=16,
        // The others stand here once, with an empty value.
        _ => return if value.is_empty() { name_index } else { 0 },
    };
    indexes.into_iter().find(|&index| LINES[index as usize - 1].value() == value).unwrap_or(0)
}

pub(super) const METHOD: u8 = 2;
pub(super) const PATH: u8 = 4;
pub(super) const SCHEME: u8 = 6;
pub(super) const STATUS: u8 = 8;
pub(super) const ACCEPT_ENCODING: u8 = 16;
pub(super) const AGE: u8 = 21;
pub(super) const AUTHORIZATION: u8 = 23;
pub(super) const CONTENT_DISPOSITION: u8 = 25;
pub(super) const CONTENT_LENGTH: u8 = 28;
pub(super) const CONTENT_LOCATION: u8 = 29;
pub(super) const CONTENT_RANGE: u8 = 30;
pub(super) const COOKIE: u8 = 32;
pub(super) const DATE: u8 = 33;
pub(super) const ETAG: u8 = 34;
pub(super) const EXPIRES: u8 = 36;
pub(super) const IF_MATCH: u8 = 39;
pub(super) const IF_MODIFIED_SINCE: u8 = 40;
pub(super) const IF_NONE_MATCH: u8 = 41;
pub(super) const IF_RANGE: u8 = 42;
pub(super) const IF_UNMODIFIED_SINCE: u8 = 43;
pub(super) const LAST_MODIFIED: u8 = 44;
pub(super) const LOCATION: u8 = 46;
pub(super) const PROXY_AUTHORIZATION: u8 = 49;
pub(super) const RANGE: u8 = 50;
pub(super) const SET_COOKIE: u8 = 55;

/// Tells the names apart by their length, first and last letter: at most one candidate for any name, so one
/// comparison. `| 0x20` makes the two cases of a letter one.
#[inline]
const fn slot(first: u8, last: u8, len: usize) -> usize {
    ((first | 0x20) as usize * 14 + (last | 0x20) as usize * 39 + len * 15) % SLOTS
}

const SLOTS: usize = 128;

/// By slot, the first index with the name there; 0 if there is none.
static NAMES: [u8; SLOTS] = {
    let mut names = [0; SLOTS];
    let mut index = 1;
    while index <= COUNT {
        let line = &LINES[index - 1];
        let slot = slot(line.text[0], line.text[line.name_len - 1], line.name_len);
        assert!(names[slot] == 0 || names[slot] == line.name_index, "two names in one slot");
        names[slot] = line.name_index;
        index += 1;
    }
    names
};

macro_rules! line {
    ($name_index:literal, $name:literal, $value:literal) => {
        Line {
            text: concat!($name, ": ", $value, "\r\n").as_bytes(),
            name_len: $name.len(),
            name_index: $name_index,
        }
    };
}

/// In order; each with the first index that has its name.
static LINES: [Line<'static>; COUNT] = [
    line!(1, ":authority", ""),
    line!(2, ":method", "GET"),
    line!(2, ":method", "POST"),
    line!(4, ":path", "/"),
    line!(4, ":path", "/index.html"),
    line!(6, ":scheme", "http"),
    line!(6, ":scheme", "https"),
    line!(8, ":status", "200"),
    line!(8, ":status", "204"),
    line!(8, ":status", "206"),
    line!(8, ":status", "304"),
    line!(8, ":status", "400"),
    line!(8, ":status", "404"),
    line!(8, ":status", "500"),
    line!(15, "accept-charset", ""),
    line!(16, "accept-encoding", "gzip, deflate"),
    line!(17, "accept-language", ""),
    line!(18, "accept-ranges", ""),
    line!(19, "accept", ""),
    line!(20, "access-control-allow-origin", ""),
    line!(21, "age", ""),
    line!(22, "allow", ""),
    line!(23, "authorization", ""),
    line!(24, "cache-control", ""),
    line!(25, "content-disposition", ""),
    line!(26, "content-encoding", ""),
    line!(27, "content-language", ""),
    line!(28, "content-length", ""),
    line!(29, "content-location", ""),
    line!(30, "content-range", ""),
    line!(31, "content-type", ""),
    line!(32, "cookie", ""),
    line!(33, "date", ""),
    line!(34, "etag", ""),
    line!(35, "expect", ""),
    line!(36, "expires", ""),
    line!(37, "from", ""),
    line!(38, "host", ""),
    line!(39, "if-match", ""),
    line!(40, "if-modified-since", ""),
    line!(41, "if-none-match", ""),
    line!(42, "if-range", ""),
    line!(43, "if-unmodified-since", ""),
    line!(44, "last-modified", ""),
    line!(45, "link", ""),
    line!(46, "location", ""),
    line!(47, "max-forwards", ""),
    line!(48, "proxy-authenticate", ""),
    line!(49, "proxy-authorization", ""),
    line!(50, "range", ""),
    line!(51, "referer", ""),
    line!(52, "refresh", ""),
    line!(53, "retry-after", ""),
    line!(54, "server", ""),
    line!(55, "set-cookie", ""),
    line!(56, "strict-transport-security", ""),
    line!(57, "transfer-encoding", ""),
    line!(58, "user-agent", ""),
    line!(59, "vary", ""),
    line!(60, "via", ""),
    line!(61, "www-authenticate", ""),
];

#[cfg(test)]
#[path = "static_table_tests.rs"]
mod tests;
