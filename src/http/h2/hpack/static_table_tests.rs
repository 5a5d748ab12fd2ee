//! Owns the tests of the static table.

use super::{COUNT, LINES, find_name, find_value, get};

#[test]
fn every_field_is_found() {
    for index in 1..=COUNT {
        let line = get(index).unwrap();
        let name_index = find_name(line.name());
        assert_eq!(name_index, line.name_index);
        assert_eq!(find_name(&line.name().to_ascii_uppercase()), name_index);
        assert_eq!(find_value(name_index, line.value()), index as u8);
        assert_eq!(find_value(name_index, b"another"), 0);
        assert_eq!(line.text, [line.name(), b": ", line.value(), b"\r\n"].concat());
    }
}

#[test]
fn name_index_is_the_first() {
    for (place, line) in LINES.iter().enumerate() {
        let first = LINES.iter().position(|other| other.name() == line.name()).unwrap();
        assert_eq!(line.name_index as usize, first + 1);
        assert!(LINES[first..=place].iter().all(|other| other.name() == line.name()), "neighbours");
    }
}

#[test]
fn indexes_beyond_are_none() {
    assert_eq!(get(0), None);
    assert_eq!(get(62), None);
    assert_eq!(get(usize::MAX), None);
}

#[test]
fn other_names_are_not_found() {
    for name in ["", "a", "ag", "agee", "hosu", "x-request-id", "acc\u{e9}pt", "content_type", "\u{1a}path"] {
        assert_eq!(find_name(name.as_bytes()), 0, "{name}");
    }
    assert_eq!(find_name(b"content-length"), 28);
    assert_eq!(find_name(b"cOnTent-Length"), 28);
    assert_eq!(find_name(b"content\x0dlength"), 0, "differs from - by 0x20 only");
}

#[test]
fn constants_are_right() {
    for (index, name) in [
        (super::METHOD, ":method"),
        (super::PATH, ":path"),
        (super::SCHEME, ":scheme"),
        (super::STATUS, ":status"),
        (super::ACCEPT_ENCODING, "accept-encoding"),
        (super::AGE, "age"),
        (super::AUTHORIZATION, "authorization"),
        (super::CONTENT_DISPOSITION, "content-disposition"),
        (super::CONTENT_LENGTH, "content-length"),
        (super::CONTENT_LOCATION, "content-location"),
        (super::CONTENT_RANGE, "content-range"),
        (super::COOKIE, "cookie"),
        (super::DATE, "date"),
        (super::ETAG, "etag"),
        (super::EXPIRES, "expires"),
        (super::IF_MATCH, "if-match"),
        (super::IF_MODIFIED_SINCE, "if-modified-since"),
        (super::IF_NONE_MATCH, "if-none-match"),
        (super::IF_RANGE, "if-range"),
        (super::IF_UNMODIFIED_SINCE, "if-unmodified-since"),
        (super::LAST_MODIFIED, "last-modified"),
        (super::LOCATION, "location"),
        (super::PROXY_AUTHORIZATION, "proxy-authorization"),
        (super::RANGE, "range"),
        (super::SET_COOKIE, "set-cookie"),
    ] {
        assert_eq!(find_name(name.as_bytes()), index, "{name}");
    }
}
