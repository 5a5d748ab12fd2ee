//! Owns the cases about Transfer-Encoding: one final `chunked` on HTTP/1.1, never beside Content-Length
//! (RFC 9112 §6.1), and the disguises known from request smuggling.

use super::*;

pub fn add(table: &mut Table) {
    let coded = |line: &str| post(format!("{line}\r\n"), HELLO);
    table.pass("chunked", coded("Transfer-Encoding: chunked"), chunked(b"hello"));
    table.pass("chunked in other letters", coded("tRANSFER-eNCODING: ChUnKeD"), chunked(b"hello"));
    table.pass("chunked between tabs", coded("Transfer-Encoding:\tchunked\t "), chunked(b"hello"));
    let get = [&super::get("Transfer-Encoding: chunked\r\n")[..], HELLO].concat();
    table.pass("chunked GET", get, Shape { method: "GET", ..chunked(b"hello") });
    for value in ["chunked,", ",chunked", ", chunked"] {
        table.either(
            &format!("coding {value:?}"),
            coded(&format!("Transfer-Encoding: {value}")),
            chunked(b"hello"),
        );
    }
    for value in MALFORMED {
        table.refuse_as(
            &format!("coding {value:?}"),
            &[400, 501],
            coded(&format!("Transfer-Encoding: {value}")),
        );
    }
    for line in DISGUISED {
        table.refuse(&format!("line {line:?}"), coded(line));
    }
    both(table);
    two_lines(table);
    table.refuse("byte over 127 after chunked", post(b"Transfer-Encoding: chunked\xff\r\n", HELLO));
    table.refuse("chunked on HTTP/1.0", old("Transfer-Encoding: chunked\r\n"));
    table.refuse(
        "chunked and length on HTTP/1.0",
        old("Transfer-Encoding: chunked\r\nContent-Length: 15\r\n"),
    );
    table.refuse(
        "chunked and keep-alive on HTTP/1.0",
        old("Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n"),
    );
}

/// CL.TE and TE.CL: whichever a backend believes, the gateway must not have passed it on.
fn both(table: &mut Table) {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: test.example\r\n\r\n";
    let length = smuggled.len();
    let cl_te = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n");
    table.refuse("CL.TE", post(cl_te, smuggled));
    table.refuse(
        "TE.CL",
        post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5c\r\nGPOST / HTTP/1.1\r\n"),
    );
    table.refuse("CL 0 and TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", HELLO));
    table.refuse(
        "CL that agrees with TE",
        post("Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", HELLO),
    );
    table
        .refuse("CL and TE: identity", post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"));
    table.refuse("CL and an empty TE", post("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello"));
    table.refuse(
        "CL, TE and CL again",
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", HELLO),
    );
    let hidden = "Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    table.refuse("CL and TE, one named hop-by-hop", post(hidden, HELLO));
    let hidden = "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    table.refuse("CL and TE, the other named hop-by-hop", post(hidden, HELLO));
}

fn two_lines(table: &mut Table) {
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "x"),
        ("chunked", ""),
        ("", "chunked"),
    ] {
        let lines = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n");
        table.refuse_as(&format!("two codings {first:?}, {second:?}"), &[400, 501], post(lines, HELLO));
    }
    table.refuse(
        "two codings in other letters",
        post("Transfer-Encoding: x\r\ntransfer-encoding: chunked\r\n", HELLO),
    );
}

fn old(fields: &str) -> Vec<u8> {
    [b"POST /case HTTP/1.0\r\nHost: test.example\r\n", fields.as_bytes(), b"\r\n", HELLO].concat()
}

const HELLO: &[u8] = b"5\r\nhello\r\n0\r\n\r\n";

const MALFORMED: &[&str] = &[
    "",
    "identity",
    "gzip",
    "gzip, chunked",
    "chunked, gzip",
    "chunked, chunked",
    "chunked, identity",
    "identity, chunked",
    "xchunked",
    "chunkedx",
    "chunk",
    "chunked;q=1",
    "chunked; a",
    "\"chunked\"",
    "'chunked'",
    "chunked chunked",
    "x chunked",
    "chunked\tx",
    "\x0bchunked",
    "\x0cchunked",
    "chunked\x0b",
    "chunked\0",
    "chun\0ked",
    "chun ked",
    "chunked=1",
    "[chunked]",
    "c\u{212a}hunked",
];

const DISGUISED: &[&str] = &[
    "Transfer_Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding\x0b: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chun\r\n ked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "\0Transfer-Encoding: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer Encoding: chunked",
    "Transfer-Encoding\r: chunked",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding; chunked",
    "\"Transfer-Encoding\": chunked",
];
