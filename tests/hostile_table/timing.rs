//! Owns the answers whose moment is wrong: before the request is complete, in drips, cut at every stage by a reset.

use super::*;

pub fn add(table: &mut Table) {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    table.close("a close at once", "", Want::BadGateway);
    table.steps("a reset at once", Asked::Get, vec![Step::Reset], Want::BadGateway);
    for cut in [1, 8, 12, 15, 17, 30, 36, 37] {
        let steps = vec![send(&ok[..cut]), pause(), Step::Reset];
        table.steps(&format!("reset after {cut} bytes of a head"), Asked::Get, steps, Want::BadGateway);
        table.close(&format!("close after {cut} bytes of a head"), &ok[..cut], Want::BadGateway);
    }
    let drips =
        |text: &str| text.bytes().flat_map(|byte| [send([byte]), Step::Pause(TICK)]).collect::<Vec<_>>();
    table.steps(
        "a good answer in drips",
        Asked::Get,
        [drips(ok), vec![Step::Keep]].concat(),
        Want::Complete(200, b"ok"),
    );
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
    table.steps(
        "good chunks in drips",
        Asked::Get,
        [drips(coded), vec![Step::Keep]].concat(),
        Want::Complete(200, b"ok"),
    );
    let bad = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\r\n0\r\n\r\n";
    table.steps(
        "bad chunks in drips",
        Asked::Get,
        [drips(bad), vec![Step::Keep]].concat(),
        Want::NotComplete,
    );
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    table.steps(
        "a refusal before the body was read",
        Asked::Post,
        vec![send(refusal), Step::Drain],
        Want::Lenient(413, b"no"),
    );
    table.steps(
        "two answers before the body was read",
        Asked::Post,
        vec![send(format!("{ok}{evil}")), Step::Drain],
        Want::Lenient(200, b"ok"),
    );
    table.steps("a reset before the body was read", Asked::Post, vec![Step::Reset], Want::BadGateway);
}

const TICK: Duration = Duration::from_micros(300);
