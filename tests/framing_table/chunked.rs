//! Owns the cases about a chunked request body: sizes, extensions, line ends, trailers (RFC 9112 §7.1).

use super::*;

pub fn add(table: &mut Table) {
    sizes(table);
    extensions(table);
    line_ends(table);
    trailers(table);
}

fn sizes(table: &mut Table) {
    let hello = |size: &str| post_chunked(format!("{size}\r\nhello\r\n0\r\n\r\n"));
    table.pass("no chunk but the last", post_chunked("0\r\n\r\n"), chunked(b""));
    table.pass("chunk of one byte", post_chunked("1\r\nh\r\n0\r\n\r\n"), chunked(b"h"));
    table.pass("three chunks", post_chunked("2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n"), chunked(b"hello"));
    table.pass("upper case digits", post_chunked("A\r\n0123456789\r\n0\r\n\r\n"), chunked(b"0123456789"));
    table.pass("lower case digits", post_chunked("a\r\n0123456789\r\n0\r\n\r\n"), chunked(b"0123456789"));
    table.pass("leading zeros", hello("0005"), chunked(b"hello"));
    table.pass("sixteen digits", hello("0000000000000005"), chunked(b"hello"));
    table.pass("last chunk of many zeros", post_chunked("5\r\nhello\r\n0000\r\n\r\n"), chunked(b"hello"));
    let framing_inside = post_chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n");
    table.pass("chunk data that looks like the end", framing_inside, chunked(b"0\r\n\r\n"));
    table.either_broken("seventeen digits with leading zeros", hello("00000000000000005"), chunked(b"hello"));
    for size in SIZES {
        table.broken(&format!("size {size:?}"), hello(size));
    }
    table.broken("seventeen digits", hello("10000000000000005"));
    table.broken("twenty digits that wrap", hello("F0000000000000000005"));
    for size in ["FFFFFFFFFFFFFFFF", "7FFFFFFFFFFFFFFF", "8000000000000000", "FFFFFFFFFFFFFFFE"] {
        table.broken_as(&format!("size {size}"), &[400, 413], hello(size));
    }
    table.broken_as("a chunk over the body limit", &[400, 413], hello("A00001"));
}

fn extensions(table: &mut Table) {
    let ext = |extension: &str| post_chunked(format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    for extension in [";a", ";a=b", ";a=\"b\"", ";a=b;c=d", ";a=\"b;c\""] {
        table.pass(&format!("extension {extension:?}"), ext(extension), chunked(b"hello"));
    }
    for extension in
        [" ;a", "; a", ";a =b", ";", ";;", ";=b", ";a=", ";a=\"", ";a=\"\\\"\"", ";\u{e9}", ";a=(b)"]
    {
        table.either_broken(&format!("extension {extension:?}"), ext(extension), chunked(b"hello"));
    }
    table.pass("extension of 4000 bytes", ext(&format!(";{}", "a".repeat(3999))), chunked(b"hello"));
    table.broken("extension of 5000 bytes", ext(&format!(";{}", "a".repeat(4999))));
    let many = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(120);
    table.broken("extensions of 6000 bytes in all", post_chunked(format!("{many}0\r\n\r\n")));
    for extension in [";a\0", ";a\x01", ";a\x7f", ";a\rb", ";a\nb", ";a=\"b\nc\"", ";a=\"b\rc\""] {
        table.broken(&format!("extension {extension:?}"), ext(extension));
    }
    table.broken("extension on the last chunk with a bare LF", post_chunked("0;a\n\r\n"));
}

fn line_ends(table: &mut Table) {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello!!0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\n\rX",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "\n5\r\nhello\r\n0\r\n\r\n",
        "hello",
    ] {
        table.broken(&format!("body {body:?}"), post_chunked(body));
    }
}

fn trailers(table: &mut Table) {
    let with = |lines: &str| post_chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n"));
    table.pass("a trailer", with("X-Sum: 1\r\n"), chunked(b"hello"));
    table.pass("two trailers", with("X-Sum: 1\r\nX-More: 2\r\n"), chunked(b"hello"));
    table.pass("an empty trailer", with("X-Sum:\r\n"), chunked(b"hello"));
    for line in TRAILERS {
        table.broken(&format!("trailer {line:?}"), with(&format!("{line}\r\n")));
    }
    table.broken_as(
        "trailers over 16 KiB",
        &[400, 431],
        with(&format!("X-A: {}\r\n", "a".repeat(17 * 1024))),
    );
    let many = "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(400);
    table.broken_as("many trailers over 16 KiB", &[400, 431], with(&many));
    table.pass("trailers of 15 KiB", with(&format!("X-A: {}\r\n", "a".repeat(15 * 1024))), chunked(b"hello"));
}

const SIZES: &[&str] = &[
    "", "+5", "-5", "-0", "0x5", "5h", "g", " 5", "5 ", "\t5", "5\t", "5 5", "5,5", "5.0", "\"5\"", "\x0b5",
    "5\x0b", "5\0", "\x005", "５",
];

const TRAILERS: &[&str] = &[
    "Content-Length: 5",
    "content-length: 0",
    "Transfer-Encoding: chunked",
    "Host: other.example",
    "X-Sum : 1",
    " X-Sum: 1",
    "X-Sum: 1\r\n folded",
    "X-Sum",
    ": 1",
    "X-Sum: a\0b",
    "X\0Sum: 1",
    "X-Sum: a\rb",
    "X-Sum: a\nX-More: b",
    "X-Sum: a\x01",
    "GET /smuggled HTTP/1.1",
    "Content-Length : 5",
    "Transfer_Encoding: chunked",
];
