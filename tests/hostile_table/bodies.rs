//! Owns the answers whose body is wrong: cut short, framed badly, or followed by more than was announced.

use super::*;

pub fn add(table: &mut Table) {
    truncated(table);
    chunks(table);
    surplus(table);
}

fn truncated(table: &mut Table) {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    table.close("length and no body", length, Want::NotComplete);
    table.close("length and half a body", format!("{length}{}", "a".repeat(50_000)), Want::NotComplete);
    table.close("length and one byte short", format!("{length}{}", "a".repeat(99_999)), Want::NotComplete);
    table.close("chunked and no chunk", coded, Want::NotComplete);
    for (name, body) in [
        ("half a size", "1"),
        ("a size", "5\r\n"),
        ("half a chunk", "5\r\nhel"),
        ("a chunk without its line end", "5\r\nhello"),
        ("half a line end", "5\r\nhello\r"),
        ("a chunk", "5\r\nhello\r\n"),
        ("half the last size", "5\r\nhello\r\n0"),
        ("the last size", "5\r\nhello\r\n0\r\n"),
        ("half the last line end", "5\r\nhello\r\n0\r\n\r"),
        ("half a trailer", "5\r\nhello\r\n0\r\nX-Su"),
        ("a trailer", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n"),
    ] {
        table.close(&format!("chunked, ends after {name}"), format!("{coded}{body}"), Want::NotComplete);
    }
    for (name, bytes) in [("length", format!("{length}half")), ("chunks", format!("{coded}5\r\nhello\r\n"))] {
        let steps = vec![send(&bytes), pause(), Step::Reset];
        table.steps(&format!("reset within {name}"), Asked::Get, steps, Want::NotComplete);
    }
    let until_close = vec![send("HTTP/1.1 200 OK\r\n\r\nhalf"), pause(), Step::Reset];
    table.steps("reset of a body until close", Asked::Get, until_close, Want::NotComplete);
    table.close("a body until close", "HTTP/1.1 200 OK\r\n\r\nwhole", Want::Complete(200, b"whole"));
    let old = "HTTP/1.0 200 OK\r\n\r\nwhole";
    table.close("a body until close on HTTP/1.0", old, Want::Complete(200, b"whole"));
}

fn chunks(table: &mut Table) {
    let coded = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for body in [
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "xyz\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\r\n folded\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    ] {
        table.keep(&format!("chunked {body:?}"), coded(body), Want::NotComplete);
    }
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000));
    table.keep("an extension of 100 KB", coded(&extension), Want::NotComplete);
    let trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", "X: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(4000));
    table.keep("trailers of 100 KB", coded(&trailers), Want::NotComplete);
    table.keep("a chunk that never comes", coded("FFFFFFFFFFFFFFFF\r\nhello"), Want::NotComplete);
    table.keep(
        "good chunks",
        coded("0005\r\nhello\r\n000\r\nX-Sum: 1\r\n\r\n"),
        Want::Complete(200, b"hello"),
    );
}

fn surplus(table: &mut Table) {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    table.keep("two responses in one write", format!("{ok}{evil}"), Want::Complete(200, b"ok"));
    table.keep("two responses after chunks", format!("{coded}{evil}"), Want::Complete(200, b"ok"));
    table.keep("two responses after none", format!("{empty}{evil}"), Want::Complete(200, b""));
    table.keep("garbage after a length", format!("{ok}garbage"), Want::Complete(200, b"ok"));
    table.keep("one byte after a length", format!("{ok}x"), Want::Complete(200, b"ok"));
    table.keep("garbage after chunks", format!("{coded}garbage"), Want::Complete(200, b"ok"));
    table.keep("a line end after a length", format!("{ok}\r\n"), Want::Complete(200, b"ok"));
    table.keep(
        "a hundred responses",
        evil.repeat(100).replacen("evil", "good", 1),
        Want::Complete(200, b"good"),
    );
    let later = vec![send(ok), pause(), send(evil), Step::Keep];
    table.steps("a second response a moment later", Asked::Get, later, Want::Complete(200, b"ok"));
    let later = vec![send(coded), pause(), send("HTTP/1.1 200"), Step::Keep];
    table.steps("half a second response a moment later", Asked::Get, later, Want::Complete(200, b"ok"));
    let timeout = vec![send(ok), pause(), send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")];
    table.steps("a 408 on the idle connection", Asked::Get, timeout, Want::Complete(200, b"ok"));
}
