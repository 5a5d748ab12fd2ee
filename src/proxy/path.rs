//! Owns the text of a request's path and query: normalisation before routing, the value of a named segment,
//! and the values of a query parameter. Decodes nothing but what RFC 3986 calls equivalent, keeps `//` and `%2F`.
//! Does not select routes (`proxy::route`).

use crate::proxy::rule::Segment;

/// What `normalise` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Normalised {
    /// The path is in normal form already; `out` is empty.
    Same,
    /// `out` holds the normal form.
    Changed,
    /// A malformed escape, `%00`, or dot segments that climb above the root: refuse with 400.
    Invalid,
}

/// Brings `path` into the one form that routes are matched against and upstreams see, so that no two spellings of
/// a path route differently (RFC 3986 §6.2.2): escapes of unreserved characters decoded, other escapes in upper
/// case, dot segments removed (also `%2e`). `out` is cleared. An empty path is "/", `*` stays.
pub fn normalise(path: &[u8], out: &mut Vec<u8>) -> Normalised {
    out.clear();
    if path.first() != Some(&b'/') {
        return match path {
            b"" => {
                out.push(b'/');
                Normalised::Changed
            }
            b"*" => Normalised::Same,
            _ => Normalised::Invalid,
        };
    }
    if !needs_work(path) {
        return Normalised::Same;
    }
    if !decode_unreserved(path, out) || !remove_dot_segments(out) {
        out.clear();
        return Normalised::Invalid;
    }
    if out == path {
        out.clear();
        return Normalised::Same;
    }
    Normalised::Changed
}

/// The value of the segment called `name` in a path that `segments` match; `None` if they name none so.
pub fn segment_value<'p>(segments: &[Segment], path: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let at =
        segments.iter().position(|segment| matches!(segment, Segment::Named(named) if &**named == name))?;
    let value = path.strip_prefix(b"/")?.split(|&byte| byte == b'/').nth(at)?;
    (!value.is_empty()).then_some(value)
}

/// The values of the query parameter `name`, as sent; empty for a parameter without `=`.
pub fn query_values<'q>(query: Option<&'q [u8]>, name: &str) -> impl Iterator<Item = &'q [u8]> {
    let pairs = query.into_iter().flat_map(|query| query.split(|&byte| byte == b'&'));
    pairs.filter_map(move |pair| match pair.strip_prefix(name.as_bytes())? {
        // "&&" is no parameter, not one with an empty name.
        [] if !pair.is_empty() => Some(&[][..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

/// True if there is an escape, or a segment that starts with a dot.
fn needs_work(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|&byte| {
        let found = byte == b'%' || (byte == b'.' && before == b'/');
        before = byte;
        found
    })
}

/// Appends `path` with its escapes in normal form; false if one is malformed or stands for NUL.
fn decode_unreserved(path: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = path;
    while let Some(percent) = rest.iter().position(|&byte| byte == b'%') {
        out.extend_from_slice(&rest[..percent]);
        let Some(&[high, low]) = rest.get(percent + 1..percent + 3) else { return false };
        let (Some(h), Some(l)) = (hex_digit(high), hex_digit(low)) else { return false };
        match h << 4 | l {
            0 => return false,
            byte if is_unreserved(byte) => out.push(byte),
            _ => out.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
        }
        rest = &rest[percent + 3..];
    }
    out.extend_from_slice(rest);
    true
}

/// RFC 3986 §5.2.4 in place, for a path that starts with "/"; false if it climbs above the root, which the RFC
/// forgives and a gateway must not: a backend that reads it differently would be reached around the routes.
fn remove_dot_segments(path: &mut Vec<u8>) -> bool {
    let (mut read, mut write) = (0, 0);
    // Each turn reads "/segment"; `write` never passes `read`.
    while read < path.len() {
        let end =
            path[read + 1..].iter().position(|&byte| byte == b'/').map_or(path.len(), |len| read + 1 + len);
        let last = end == path.len();
        match &path[read + 1..end] {
            b"." if !last => {}
            b"." => write = push_slash(path, write),
            b".." => {
                let Some(parent) = path[..write].iter().rposition(|&byte| byte == b'/') else { return false };
                write = if last { push_slash(path, parent) } else { parent };
            }
            _ => {
                path.copy_within(read..end, write);
                write += end - read;
            }
        }
        read = end;
    }
    path.truncate(write);
    true
}

fn push_slash(path: &mut [u8], write: usize) -> usize {
    path[write] = b'/';
    write + 1
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The normal form, or `None` if invalid.
    fn normal(path: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"stale".to_vec();
        match normalise(path, &mut out) {
            Normalised::Same => {
                assert!(out.is_empty());
                Some(path.to_vec())
            }
            Normalised::Changed => {
                assert_ne!(out, path);
                Some(out)
            }
            Normalised::Invalid => None,
        }
    }

    #[test]
    fn brings_spellings_together() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("*", "*"),
            ("/v2/models", "/v2/models"),
            ("/a//b/", "/a//b/"),
            ("/%61%2d%2E%5f%7E", "/a-._~"),
            ("/a%2fb%3a%c3%A9", "/a%2Fb%3A%C3%A9"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/.well-known/x..y/...", "/.well-known/x..y/..."),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/%2e%2E/c", "/a/c"),
            ("/a/.%2e", "/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a//../b", "/a/b"),
            ("/a/b/c/./../../g", "/a/g"),
        ] {
            assert_eq!(normal(path.as_bytes()).as_deref(), Some(expected.as_bytes()), "{path}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for path in [
            "/%",
            "/%0",
            "/%zz",
            "/%4g",
            "/%g4",
            "/%%41",
            "/a%00b",
            "/..",
            "/../",
            "/a/../..",
            "/%2e%2e/a",
            "/a/../../a",
            "a",
            "a/b",
            "**",
            ".",
            "%2F",
        ] {
            assert_eq!(normal(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn is_idempotent_and_leaves_nothing_to_do() {
        const PIECES: [&str; 18] = [
            "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%25", "%41", "%zz", "%", "a", "b.", "%c3%a9",
            "2e", "//", "%00",
        ];
        let mut seed = 1u64;
        let mut valid = 0;
        for _ in 0..50_000 {
            let mut path = String::from("/");
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            for step in 0..(seed >> 60) {
                path += PIECES[(seed.rotate_left(step as u32 * 5 + 7) % PIECES.len() as u64) as usize];
            }
            let Some(once) = normal(path.as_bytes()) else { continue };
            valid += 1;
            assert_eq!(normal(&once).as_ref(), Some(&once), "{path}");
            assert_eq!(once[0], b'/', "{path}");
            let dots = |segment: &[u8]| segment == b"." || segment == b"..";
            assert!(!once.split(|&byte| byte == b'/').any(dots), "{path}");
        }
        assert!(valid > 5_000, "{valid}");
    }

    #[test]
    fn names_segments() {
        let segments = [
            Segment::Literal("v2".into()),
            Segment::Named("model".into()),
            Segment::Any,
            Segment::Named("tail".into()),
            Segment::Rest,
        ];
        let value = |path: &'static str, name| segment_value(&segments, path.as_bytes(), name);
        assert_eq!(value("/v2/resnet/x/y/z", "model"), Some(&b"resnet"[..]));
        assert_eq!(value("/v2/resnet/x/y", "tail"), Some(&b"y"[..]));
        assert_eq!(value("/v2/resnet", "tail"), None);
        assert_eq!(value("/v2/resnet", "none"), None);
        assert_eq!(value("/v2//x/y", "model"), None);
    }

    #[test]
    fn finds_query_parameters_as_sent() {
        let values = |query: Option<&'static str>, name| -> Vec<&'static [u8]> {
            query_values(query.map(str::as_bytes), name).collect()
        };
        assert_eq!(values(Some("a=1&b=2&a=%31&ab=3&a"), "a"), [&b"1"[..], b"%31", b""]);
        assert_eq!(values(Some("A=1&&b=x=y"), "b"), [&b"x=y"[..]]);
        assert!(values(Some("A=1&&"), "a").is_empty());
        assert!(values(Some(""), "").is_empty());
        assert!(values(None, "a").is_empty());
    }
}
