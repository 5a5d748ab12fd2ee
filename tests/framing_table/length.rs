//! Owns the cases about Content-Length: one number of digits, once (RFC 9112 §6.3).

use super::*;

pub fn add(table: &mut Table) {
    let length = |value: &str| post(format!("Content-Length: {value}\r\n"), "hello");
    table.pass("length 5", length("5"), posted(b"hello"));
    table.pass("length 0", post("Content-Length: 0\r\n", ""), posted(b""));
    table.pass("length on a GET", get_with_body(), Shape { body: b"hello".to_vec(), ..plain() });
    table.pass("length in other letters", post("cOnTeNt-LeNgTh: 5\r\n", "hello"), posted(b"hello"));
    table.pass("length between tabs", post("Content-Length:\t5 \t\r\n", "hello"), posted(b"hello"));
    table.pass("no length on a POST", post("", ""), posted(b""));
    table.pass(
        "a body that looks like a request",
        post("Content-Length: 18\r\n", "GET / HTTP/1.1\r\n\r\n"),
        posted(REQUEST),
    );
    table.pass("a body of line ends", post("Content-Length: 4\r\n", "\r\n\r\n"), posted(b"\r\n\r\n"));
    table.pass("a body of NULs", post("Content-Length: 3\r\n", "\0\0\0"), posted(b"\0\0\0"));
    table.either("length with leading zeros", length("0005"), posted(b"hello"));
    for value in MALFORMED {
        table.refuse(&format!("length {value:?}"), length(value));
    }
    table.refuse("length after a vertical tab", length("\x0b5"));
    table.refuse("length after a no-break space", post(b"Content-Length: \xa05\r\n", "hello"));
    table.refuse("length in wide digits", post("Content-Length: \u{ff15}\r\n", "hello"));
    table.refuse("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"));
    table.refuse("two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"));
    table.refuse("length and an empty length", post("Content-Length: 5\r\nContent-Length:\r\n", "hello"));
    table.refuse("zero and five", post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"));
    table.refuse("folded length", post("Content-Length:\r\n 5\r\n", "hello"));
    table.refuse("length with a space before the colon", post("Content-Length : 5\r\n", "hello"));
    table.refuse("two lengths on a GET", get("Content-Length: 0\r\nContent-Length: 0\r\n"));
    table.refuse_as("length beyond 64 bits", &[400, 413], length("18446744073709551616"));
    table.refuse_as("length far beyond 64 bits", &[400, 413], length(&"9".repeat(200)));
    table.refuse_as("length of 64 bits", &[400, 413], length("18446744073709551615"));
    table.refuse_as("length that is negative if signed", &[400, 413], length("9223372036854775808"));
    table.refuse_as("length over the body limit", &[413], length("10485761"));
    table.either("a look-alike with an underscore", post("Content_Length: 5\r\n", ""), posted(b""));
}

fn get_with_body() -> Vec<u8> {
    [&get("Content-Length: 5\r\n")[..], b"hello"].concat()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

const MALFORMED: &[&str] = &[
    "", "+5", "-5", "-0", "0x5", "5x", "x5", "5 5", "5,5", "5, 5", "5,6", ",5", "5,", "5;a=b", "5.0", "5e0",
    "\"5\"", "'5'", "five", "5\t5", "0b101", "5\0", "1_0",
];
