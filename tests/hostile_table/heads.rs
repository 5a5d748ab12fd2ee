//! Owns the answers whose head is wrong: status line, fields, framing that contradicts itself, interim responses.

use super::*;

pub fn add(table: &mut Table) {
    status_lines(table);
    fields(table);
    framing(table);
    interim(table);
    bodiless(table);
}

fn status_lines(table: &mut Table) {
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1 099 Low",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTP/1.1 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1\t200\tOK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "GET / HTTP/1.1",
    ] {
        table.keep(
            &format!("status line {line:?}"),
            format!("{line}\r\nContent-Length: 2\r\n\r\nok"),
            Want::BadGateway,
        );
    }
    table.keep("no reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Want::Complete(200, b"ok"));
    table.keep(
        "no reason and no space",
        "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        Want::Lenient(200, b"ok"),
    );
    table.keep("status 999", "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", Want::Lenient(999, b"ok"));
    table.close("HTTP/0.9 answer", "<html>hello</html>", Want::BadGateway);
    table.close("binary garbage", b"\x16\x03\x01\x00\xff\xfe\xfd", Want::BadGateway);
    table.close("an HTTP/2 settings frame", b"\0\0\0\x04\0\0\0\0\0", Want::BadGateway);
    table.close("an empty line, then garbage", "\r\ngarbage\r\n\r\n", Want::BadGateway);
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
    table.close("HTTP/1.0 answer", old, Want::Complete(200, b"ok"));
}

fn fields(table: &mut Table) {
    let with = |line: &[u8]| [b"HTTP/1.1 200 OK\r\n", line, b"\r\nContent-Length: 2\r\n\r\nok"].concat();
    for line in [
        &b"X: a\0b"[..],
        b"X: a\x01b",
        b"X: a\x7fb",
        b"X: a\rb",
        b"X\0: a",
        b"X : a",
        b": a",
        b"X",
        b" X: a",
        b"X: a\r\n folded",
        b"X: a\nY: b",
        b"X Y: a",
        b"Transfer-Encoding : chunked",
        b"Content-Length : 5",
    ] {
        table.keep(&format!("field line {}", line.escape_ascii()), with(line), Want::BadGateway);
    }
    table.keep("bare LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Want::BadGateway);
    table.keep(
        "bare LF for the empty line",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        Want::BadGateway,
    );
    let bomb = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "X: y\r\n".repeat(2000));
    table.keep("2000 fields", bomb, Want::BadGateway);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "a".repeat(100_000));
    table.keep("a field of 100 KB", long, Want::BadGateway);
    let endless = vec![
        send("HTTP/1.1 200 OK\r\n"),
        Step::Repeat(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".to_vec(), 200_000),
    ];
    table.steps("a head without end", Asked::Get, endless, Want::BadGateway);
}

fn framing(table: &mut Table) {
    let with = |lines: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}");
    let chunked = "2\r\nok\r\n0\r\n\r\n";
    for lines in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 12\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer_Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    ] {
        table.keep(&format!("coding {lines:?}"), with(lines, chunked), Want::BadGateway);
    }
    for lines in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 3\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2x\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: \x0b2\r\n",
    ] {
        table.keep(&format!("length {lines:?}"), with(lines, "ok"), Want::BadGateway);
    }
    for lines in ["Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2\r\n"] {
        table.keep(&format!("length {lines:?}"), with(lines, "ok"), Want::Lenient(200, b"ok"));
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    table.close("chunked on HTTP/1.0", old, Want::Lenient(200, b"ok"));
}

fn interim(table: &mut Table) {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    table.keep("101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Want::BadGateway);
    table.keep(
        "100 that nobody asked for",
        format!("HTTP/1.1 100 Continue\r\n\r\n{ok}"),
        Want::Complete(200, b"ok"),
    );
    table.keep("three hints", format!("{}{ok}", hints.repeat(3)), Want::Complete(200, b"ok"));
    table.close("a hint and a close", hints, Want::NotComplete);
    let flood = vec![Step::Repeat(hints.as_bytes().to_vec(), 500_000)];
    table.steps("hints without end", Asked::Get, flood, Want::NotComplete);
    let counted = format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nevil{ok}");
    table.keep("a hint with a body", counted, Want::NotComplete);
    table.keep("a hint with garbage behind", format!("{hints}garbage\r\n\r\n"), Want::NotComplete);
    table.steps("a hint and a reset", Asked::Get, vec![send(hints), pause(), Step::Reset], Want::NotComplete);
}

fn bodiless(table: &mut Table) {
    let other = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    table.keep("204 with a body", "HTTP/1.1 204 No Content\r\n\r\nevil", Want::Complete(204, b""));
    table.keep(
        "204 with a second response",
        format!("HTTP/1.1 204 No Content\r\n\r\n{other}"),
        Want::Complete(204, b""),
    );
    table.keep(
        "204 with a length",
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        Want::Lenient(204, b""),
    );
    let coded = "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n";
    table.keep("204 with chunks", coded, Want::Lenient(204, b""));
    table.keep(
        "304 with a body",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
        Want::Complete(304, b""),
    );
    table.keep(
        "304 with a second response",
        format!("HTTP/1.1 304 Not Modified\r\n\r\n{other}"),
        Want::Complete(304, b""),
    );
    let head = |bytes: &str| vec![send(bytes), Step::Keep];
    table.steps(
        "HEAD with a body",
        Asked::Head,
        head("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        Want::Complete(200, b""),
    );
    let two = format!("HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n{other}");
    table.steps("HEAD with a second response", Asked::Head, head(&two), Want::Complete(200, b""));
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n";
    table.steps("HEAD with chunks", Asked::Head, head(coded), Want::Complete(200, b""));
}
