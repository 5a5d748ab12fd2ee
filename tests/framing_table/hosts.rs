//! Owns the cases about Host: exactly one on HTTP/1.1, and it must be `uri-host [":" port]` (RFC 9110 §7.2).

use super::*;

pub fn add(table: &mut Table) {
    let host = |value: &str| format!("GET /case HTTP/1.1\r\nHost: {value}\r\n\r\n");
    for value in WELL_FORMED {
        table.pass(&format!("Host {value}"), host(value), Shape { host: value, ..plain() });
    }
    for value in MALFORMED {
        table.refuse(&format!("Host {value:?}"), host(value));
    }
    for value in DEBATED {
        table.either(&format!("Host {value:?}"), host(value), Shape { host: value, ..plain() });
    }
    table.refuse("no Host", "GET /case HTTP/1.1\r\n\r\n");
    table.refuse("no Host among others", "GET /case HTTP/1.1\r\nAccept: */*\r\n\r\n");
    table.refuse("two Hosts", get("Host: other.example\r\n"));
    table.refuse("two equal Hosts", get("Host: test.example\r\n"));
    table.refuse("two Hosts in other letters", get("hOST: other.example\r\n"));
    table.refuse("two Hosts on HTTP/1.0", "GET /case HTTP/1.0\r\nHost: a.example\r\nHost: b.example\r\n\r\n");
    table.refuse("Host with a byte over 127", b"GET /case HTTP/1.1\r\nHost: t\xc3\xa9st.example\r\n\r\n");
    table.refuse("Host with a NUL", "GET /case HTTP/1.1\r\nHost: test\0.example\r\n\r\n");
}

const WELL_FORMED: &[&str] = &[
    "test.example:8080",
    "test.example:0",
    "test.example:65535",
    "TEST.Example",
    "127.0.0.1",
    "127.0.0.1:80",
    "[::1]",
    "[2001:db8::1]:8080",
    "a-b_c.example",
    "localhost",
];

const MALFORMED: &[&str] = &[
    "test.example:65536",
    "test.example:99999999999999999999",
    "test.example:+80",
    "test.example:-1",
    "test.example:8 0",
    "test.example:80:80",
    "test.example:http",
    "test.example/path",
    "test.example?query",
    "test.example#fragment",
    "user@test.example",
    "test example",
    "test.example, other.example",
    "test\\example",
    "[::1",
    "::1",
    "[::1]x",
    "[::g]",
    "[]",
    "http://test.example",
    "<script>",
    "test\"example",
    ":80",
];

/// Grammatical but empty, percent-encoded or unusual: the standard allows them, a careful server may not.
const DEBATED: &[&str] =
    &["", "test.example:", "test%2eexample", "test.example.", "[v1.a:b]", "a!b.example", "..", "%zz"];
