//! Owns the cases about field lines: names, values, folding, white space, and fields that end at this hop.

use super::*;

pub fn add(table: &mut Table) {
    names(table);
    values(table);
    hop_by_hop(table);
}

fn names(table: &mut Table) {
    table.pass("name of token punctuation", get("X!#$%&'*+-.^_`|~: y\r\n"), plain());
    table.refuse("space before the colon", get("X-A : y\r\n"));
    table.refuse("tab before the colon", get("X-A\t: y\r\n"));
    table.refuse("space in a name", get("X A: y\r\n"));
    table.refuse("empty name", get(": y\r\n"));
    table.refuse("no colon", get("X-A y\r\n"));
    table.refuse("a line of one word", get("X-A\r\n"));
    table.refuse("NUL in a name", get("X\0A: y\r\n"));
    table.refuse("control character in a name", get("X\x01A: y\r\n"));
    table.refuse("DEL in a name", get("X\x7fA: y\r\n"));
    table.refuse("byte over 127 in a name", get(b"X\xe9A: y\r\n"));
    table.refuse("brackets in a name", get("X(A): y\r\n"));
    table.refuse("slash in a name", get("X/A: y\r\n"));
    table.refuse("quotes in a name", get("\"X\": y\r\n"));
    table.refuse("space before the first field", "GET /case HTTP/1.1\r\n Host: test.example\r\n\r\n");
    table.refuse(
        "space before the first of two fields",
        "GET /case HTTP/1.1\r\n X: y\r\nHost: test.example\r\n\r\n",
    );
}

fn values(table: &mut Table) {
    table.pass("empty value", get("X-A:\r\n"), plain());
    table.pass("value of spaces", get("X-A:   \r\n"), plain());
    table.pass("no space after the colon", get("X-A:y\r\n"), plain());
    table.pass("tabs around a value", get("X-A:\ty\t\r\n"), plain());
    table.pass("tab inside a value", get("X-A: a\tb\r\n"), plain());
    table.pass("bytes over 127 in a value", get(b"X-A: caf\xe9\r\n"), plain());
    table.pass("colons in a value", get("X-A: a:b::c\r\n"), plain());
    table.refuse("NUL in a value", get("X-A: a\0b\r\n"));
    table.refuse("vertical tab in a value", get("X-A: a\x0bb\r\n"));
    table.refuse("form feed in a value", get("X-A: a\x0cb\r\n"));
    table.refuse("escape character in a value", get("X-A: a\x1bb\r\n"));
    table.refuse("backspace in a value", get("X-A: a\x08b\r\n"));
    table.refuse("DEL in a value", get("X-A: a\x7fb\r\n"));
    table.refuse("bare CR in a value", get("X-A: a\rb\r\n"));
    table.refuse("bare CR before the line end", get("X-A: a\r\r\n"));
    table.refuse("folded line by a space", get("X-A: a\r\n b\r\n"));
    table.refuse("folded line by a tab", get("X-A: a\r\n\tb\r\n"));
    table.refuse("folded empty line", get("X-A: a\r\n \r\n"));
    table.refuse("folded Host", "GET /case HTTP/1.1\r\nHost: test\r\n .example\r\n\r\n");
}

fn hop_by_hop(table: &mut Table) {
    table.pass("Connection: keep-alive", get("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), plain());
    table.pass("Connection: close", get("Connection: close\r\n"), plain());
    table.last();
    table.pass("Connection names a field", get("Connection: x-secret\r\nX-Secret: hop\r\n"), plain());
    table.pass(
        "Connection in two lines",
        get("Connection: x-a\r\nX-A: hop\r\nConnection: x-b\r\nX-B: hop\r\n"),
        plain(),
    );
    table.pass("Proxy-Connection", get("Proxy-Connection: keep-alive\r\n"), plain());
    table.pass("TE", get("TE: gzip;q=0.5, trailers\r\nConnection: TE\r\n"), plain());
    table.pass("TE that nobody named", get("TE: gzip\r\n"), plain());
    table.pass("Upgrade that nobody named", get("Upgrade: h2c\r\n"), plain());
    // A Connection that names a framing field must not take the framing away from a body that is there.
    let fields = "Connection: content-length\r\nContent-Length: 5\r\n";
    table.either("Connection names Content-Length", post(fields, "hello"), posted(b"hello"));
    let fields = "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n";
    table.either(
        "Connection names Transfer-Encoding",
        post(fields, "5\r\nhello\r\n0\r\n\r\n"),
        chunked(b"hello"),
    );
    table.either("Connection names Host", get("Connection: host\r\n"), plain());
    table.either("Connection with junk", get("Connection: ,,\"a\",;=\r\n"), plain());
    table.either("another expectation", get("Expect: 200-maybe\r\n"), plain());
}
