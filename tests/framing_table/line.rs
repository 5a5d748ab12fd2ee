//! Owns the cases about the request line: method, target forms, version, and the line ends of a head.

use super::*;

pub fn add(table: &mut Table) {
    methods(table);
    targets(table);
    versions(table);
    line_ends(table);
}

fn methods(table: &mut Table) {
    let shape = |method| Shape { method, ..plain() };
    table.pass("plain GET", get(""), plain());
    table.pass("method of 32 bytes", with_line(format!("{} /case HTTP/1.1", "M".repeat(32))), shape(M32));
    table.refuse_as(
        "method of 33 bytes",
        &[400, 501],
        with_line(format!("{} /case HTTP/1.1", "M".repeat(33))),
    );
    table.pass("unknown method", with_line("BREW /case HTTP/1.1"), shape("BREW"));
    table.pass(
        "method of token punctuation",
        with_line("M-SEARCH!#$%&'*+.^_`|~ /case HTTP/1.1"),
        shape(PUNCTUATED),
    );
    table.pass("lower case method is another method", with_line("get /case HTTP/1.1"), shape("get"));
    table.refuse("method with a colon", with_line("GE:T /case HTTP/1.1"));
    table.refuse("method with a NUL", with_line("GE\0T /case HTTP/1.1"));
    table.refuse("method with a slash", with_line("GE/T /case HTTP/1.1"));
    table.refuse("method with a byte over 127", with_line(b"G\xc3\x89T /case HTTP/1.1"));
    table.refuse("no method", with_line(" /case HTTP/1.1"));
    table.refuse("space before the method", with_line(" GET /case HTTP/1.1"));
    table.refuse("method and tab", with_line("GET\t/case HTTP/1.1"));
    table.refuse("two spaces after the method", with_line("GET  /case HTTP/1.1"));
    table.refuse("TLS hello on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
}

fn targets(table: &mut Table) {
    let to = |target: &str| Shape { target: target.into(), ..plain() };
    let of = |target: &str| with_line(format!("GET {target} HTTP/1.1"));
    for target in
        ["/", "/a//b", "/case?", "/case?a=b&c", "/a;v=1,2", "/~!$&'()*+,=:@", "/?a?b/c", "/a%2Fb", "/?/../a"]
    {
        table.pass(&format!("target {target}"), of(target), to(target));
    }
    // The path goes on in its normal form (RFC 3986 §6.2.2), the one that routes were matched against.
    for (target, normal) in [
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b?c", "/b?c"),
        ("/%7ea", "/~a"),
        ("/a%2fb", "/a%2Fb"),
        ("/./a/", "/a/"),
    ] {
        table.pass(&format!("target {target}"), of(target), to(normal));
    }
    table.either("target above the root", of("/../a"), to("/a"));
    for target in
        ["/\"quoted\"", "/<a>", "/a|b", "/{a}", "/a^b", "/a`b", "/a\\b", "/a#fragment", "/%zz", "/%00"]
    {
        table.either(&format!("target {target}"), of(target), to(target));
    }
    table.refuse("no target", with_line("GET HTTP/1.1"));
    table.refuse("empty target", with_line("GET  HTTP/1.1"));
    table.refuse("target with a space", with_line("GET /a b HTTP/1.1"));
    table.refuse("target with a tab", with_line("GET /a\tb HTTP/1.1"));
    table.refuse("target with a NUL", with_line("GET /a\0b HTTP/1.1"));
    table.refuse("target with a DEL", with_line("GET /a\x7fb HTTP/1.1"));
    table.refuse("target with an escape character", with_line("GET /a\x1bb HTTP/1.1"));
    table.refuse("target with a vertical tab", with_line("GET /a\x0bb HTTP/1.1"));
    table.refuse("target without a slash", with_line("GET case HTTP/1.1"));
    table.refuse("target of a query only", with_line("GET ?a HTTP/1.1"));
    table.refuse("asterisk with GET", with_line("GET * HTTP/1.1"));
    table.refuse("asterisk with POST", with_line("POST * HTTP/1.1"));
    table.refuse("asterisk and more", with_line("OPTIONS *a HTTP/1.1"));
    table.refuse("authority form with GET", with_line("GET test.example:80 HTTP/1.1"));
    absolute(table);
    connect(table);
}

fn absolute(table: &mut Table) {
    let from = |target: &str, host| Shape { target: target.into(), host, ..plain() };
    let of = |uri: &str| with_line(format!("GET {uri} HTTP/1.1"));
    table.pass("absolute form", of("http://test.example/case"), plain());
    table.pass("absolute form in capitals", of("HTTP://test.example/case"), plain());
    table.pass("absolute form with a query", of("http://test.example/case?a=b"), from("/case?a=b", HOST));
    table.pass("absolute form without a path", of("http://test.example"), from("/", HOST));
    table.pass("absolute form with only a query", of("http://test.example?a=b"), from("/?a=b", HOST));
    let host = "other.example:8080";
    table.either("absolute form beats Host", of("http://other.example:8080/case"), from("/case", host));
    table.refuse("absolute form without a host", of("http:///case"));
    table.refuse("absolute form with a user", of("http://user@test.example/case"));
    table.refuse("absolute form with a bad port", of("http://test.example:99999/case"));
    table.refuse("absolute form with a bad host", of("http://te st.example/case"));
    table.refuse_as("absolute form of another scheme", &[400, 404, 421], of("ftp://test.example/case"));
    table.refuse("absolute form without an authority", of("http:/case"));
    table.refuse("absolute form without a Host", "GET http://test.example/case HTTP/1.1\r\n\r\n");
}

fn connect(table: &mut Table) {
    table.refuse("CONNECT to a path", with_line("CONNECT /case HTTP/1.1"));
    table.refuse("CONNECT without a port", with_line("CONNECT test.example HTTP/1.1"));
    table.refuse("CONNECT with an empty port", with_line("CONNECT test.example: HTTP/1.1"));
    table.refuse("CONNECT with a long port", with_line("CONNECT test.example:65536 HTTP/1.1"));
    table.refuse("CONNECT with no number for a port", with_line("CONNECT test.example:http HTTP/1.1"));
    table.refuse("CONNECT to an absolute form", with_line("CONNECT http://test.example:80/ HTTP/1.1"));
    table.refuse("CONNECT to an asterisk", with_line("CONNECT * HTTP/1.1"));
    table.refuse("CONNECT with a user", with_line("CONNECT user@test.example:80 HTTP/1.1"));
}

fn versions(table: &mut Table) {
    table.pass("HTTP/1.0 with a Host", with_line("GET /case HTTP/1.0"), plain());
    table.last();
    table.refuse("HTTP/0.9", "GET /case\r\n\r\n");
    // What begins with `PRI ` is HTTP/2's, and judged there.
    table.refuse_as("almost the HTTP/2 preface", &[400, 505], "PRY * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9"] {
        table.refuse_as(&format!("all of {version}"), &[400, 505], with_line(format!("GET /case {version}")));
    }
    table.either("HTTP/1.2", with_line("GET /case HTTP/1.2"), plain());
    for version in
        ["http/1.1", "HTTP/1.", "HTTP/1", "HTTP/01.1", "HTTP/1.10", "HTTP/1.1x", "HTTP /1.1", "HTTP/1,1"]
    {
        table.refuse_as(
            &format!("version {version}"),
            &[400, 505],
            with_line(format!("GET /case {version}")),
        );
    }
    table.refuse_as("another protocol", &[400, 505], with_line("GET /case SIP/2.0"));
    table.refuse("space after the version", with_line("GET /case HTTP/1.1 "));
    table.refuse("tab after the version", with_line("GET /case HTTP/1.1\t"));
    table.refuse("two spaces before the version", with_line("GET /case  HTTP/1.1"));
    table.refuse("tab before the version", with_line("GET /case\tHTTP/1.1"));
}

fn line_ends(table: &mut Table) {
    table.refuse("bare LF after the request line", "GET /case HTTP/1.1\nHost: test.example\r\n\r\n");
    table.refuse("bare LF everywhere", "GET /case HTTP/1.1\nHost: test.example\n\n");
    table.refuse("bare LF after a field", "GET /case HTTP/1.1\r\nHost: test.example\nX: y\r\n\r\n");
    table.refuse("bare LF for the empty line", "GET /case HTTP/1.1\r\nHost: test.example\r\n\n");
    table.refuse("bare CR after the request line", "GET /case HTTP/1.1\rHost: test.example\r\n\r\n");
    table.refuse("bare CR after a field", "GET /case HTTP/1.1\r\nHost: test.example\rX: y\r\n\r\n");
    table.refuse("bare CR in the request line", "GET /ca\rse HTTP/1.1\r\nHost: test.example\r\n\r\n");
    table.refuse("CR CR LF", "GET /case HTTP/1.1\r\r\nHost: test.example\r\n\r\n");
    table.refuse("CR CR LF for the empty line", "GET /case HTTP/1.1\r\nHost: test.example\r\n\r\r\n");
    table.either("an empty line before the request", [b"\r\n", &get("")[..]].concat(), plain());
    table.refuse("a bare LF before the request", [b"\n", &get("")[..]].concat());
    table.refuse("a line of spaces before the request", [b"  \r\n", &get("")[..]].concat());
    table.refuse("a byte order mark before the request", [b"\xef\xbb\xbf", &get("")[..]].concat());
}

const M32: &str = "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM";
const PUNCTUATED: &str = "M-SEARCH!#$%&'*+.^_`|~";
