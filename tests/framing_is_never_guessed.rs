//! Promise: a request whose framing is conflicting or malformed is refused and the connection closed; nothing of it
//! reaches a backend, and nothing behind it is taken for a request. What is accepted arrives as exactly one request.
//! Runs the table of `framing_table`, judged by the raw bytes at a recording backend.

mod framing_table;
mod harness;

use std::cell::Cell;
use std::collections::BTreeSet;

use framing_table::{Case, Shape, Want};
use harness::{Backend, Client, Fault, Framing, Gateway, Request, Response, show, until, wire};

const FOLLOWER: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: test.example\r\n\r\n";

/// Longer requests are not sent byte by byte: it would only take longer.
const BYTEWISE_MAX: usize = 400;

#[test]
fn the_table_is_large_and_unambiguous() {
    let cases = framing_table::all();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    let mut names = BTreeSet::new();
    for case in &cases {
        assert!(names.insert(case.name.as_str()), "two cases are named {}", case.name);
    }
}

#[test]
fn whole_requests() {
    let bench = run_table(|bench, case| bench.judge(case, |client, raw| client.send_all(raw), false));
    assert_eq!(bench.backend.requests(), bench.accepted.get(), "a refused request arrived late");
}

#[test]
fn with_a_request_behind() {
    run_table(|bench, case| {
        bench.judge(case, |client, raw| client.send_all(&[raw, FOLLOWER].concat()), true)
    });
}

#[test]
fn byte_by_byte() {
    run_table(|bench, case| match case.raw.len() <= BYTEWISE_MAX {
        true => bench.judge(case, Client::send_bytewise, false),
        false => Ok(()),
    });
}

#[test]
fn an_unfinished_body_never_arrives_as_a_whole_request() {
    let bench = Bench::new();
    for raw in [
        &framing_table::post("Content-Length: 10\r\n", "hello")[..],
        &framing_table::post_chunked("5\r\nhel"),
        &framing_table::post_chunked("5\r\nhello\r\n"),
        &framing_table::post_chunked("5\r\nhello\r\n0\r\n"),
        &framing_table::post_chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n"),
        &framing_table::post_chunked("5"),
    ] {
        let mark = bench.backend.mark();
        let mut client = bench.gateway.client();
        client.send(raw);
        until("the beginning arrives", || !bench.backend.since(&mark).is_empty());
        client.half_close();
        let _ = client.read_to_close();
        bench.broken_at_the_backend(&mark).unwrap_or_else(|reason| panic!("{}: {reason}", show(raw)));
    }
}

/// A gateway before a recording backend.
struct Bench {
    backend: Backend,
    gateway: Gateway,
    /// Requests that arrived and were meant to.
    accepted: Cell<u64>,
}

fn run_table(mut judge: impl FnMut(&Bench, &Case) -> Result<(), String>) -> Bench {
    let bench = Bench::new();
    let mut failures = Vec::new();
    for case in framing_table::all() {
        if let Err(reason) = judge(&bench, &case) {
            failures.push(format!(
                "{}: {reason}\n    sent {}",
                case.name,
                show(&case.raw[..case.raw.len().min(160)])
            ));
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    bench
}

impl Bench {
    fn new() -> Bench {
        let backend = Backend::describing("recorder");
        let gateway = Gateway::before(&[backend.address]);
        Bench { backend, gateway, accepted: Cell::new(0) }
    }

    fn judge(&self, case: &Case, send: impl Fn(&mut Client, &[u8]), followed: bool) -> Result<(), String> {
        let mark = self.backend.mark();
        let mut client = self.gateway.client();
        send(&mut client, &case.raw);
        match &case.want {
            Want::Refused(statuses) => {
                refused(&mut client, statuses)?;
                self.nothing_arrived(&mark)
            }
            Want::Broken(statuses) => {
                refused(&mut client, statuses)?;
                self.broken_at_the_backend(&mark)
            }
            Want::Forwarded(shape) => {
                let answer = final_answer(&mut client, shape.method)?;
                self.accepted(case, shape, &answer, &mut client, &mark, followed)
            }
            Want::Either(statuses, shape) => match final_answer(&mut client, shape.method)? {
                answer if answer.status == 200 => {
                    self.accepted(case, shape, &answer, &mut client, &mark, followed)
                }
                answer if statuses.contains(&answer.status) => {
                    // Where the framing was never in doubt the connection may go on, and then must do so in order.
                    if followed && answer.get("connection") != Some("close") {
                        final_answer(&mut client, "GET")?;
                    }
                    self.not_arrived(&mark, shape)
                }
                answer => Err(format!("status {}", answer.status)),
            },
            Want::EitherBroken(shape) => match final_answer(&mut client, shape.method)? {
                answer if answer.status == 200 => {
                    self.accepted(case, shape, &answer, &mut client, &mark, followed)
                }
                answer if answer.status == 400 => self.broken_at_the_backend(&mark),
                answer => Err(format!("status {}", answer.status)),
            },
        }
    }

    fn accepted(
        &self,
        case: &Case,
        shape: &Shape,
        answer: &Response,
        client: &mut Client,
        mark: &[usize],
        followed: bool,
    ) -> Result<(), String> {
        if answer.status != 200 {
            return Err(format!("status {}, not 200: {}", answer.status, answer.text()));
        }
        let expected = if followed && case.keeps_alive { 2 } else { 1 };
        if expected == 2 {
            let second = final_answer(client, "GET")?;
            if !second.text().contains("GET /smuggled") {
                return Err(format!("the request behind it got {}: {}", second.status, second.text()));
            }
        }
        let requests = self.arrived(mark)?;
        if requests.len() != expected {
            let targets: Vec<&str> = requests.iter().map(|request| request.target.as_str()).collect();
            return Err(format!("{expected} requests expected at the backend, it saw {targets:?}"));
        }
        self.accepted.set(self.accepted.get() + expected as u64);
        let first = requests.iter().find(|r| r.target != "/smuggled").unwrap_or(&requests[0]);
        fits(first, shape)
    }

    /// Every request that arrived after `mark`, strictly read.
    fn arrived(&self, mark: &[usize]) -> Result<Vec<Request>, String> {
        let mut requests = Vec::new();
        for (_, bytes) in self.backend.since(mark) {
            let found = wire::requests_in(&bytes);
            requests.extend(found.map_err(|fault| format!("the backend saw {}: {fault:?}", show(&bytes)))?);
        }
        Ok(requests)
    }

    fn nothing_arrived(&self, mark: &[usize]) -> Result<(), String> {
        match self.backend.since(mark).first() {
            None => Ok(()),
            Some((_, bytes)) => Err(format!("the backend saw {}", show(bytes))),
        }
    }

    /// A debatable request was refused; in `with_a_request_behind` the connection may go on after a 404 or 405.
    fn not_arrived(&self, mark: &[usize], shape: &Shape) -> Result<(), String> {
        match self.arrived(mark)?.iter().find(|request| request.target == shape.target) {
            None => Ok(()),
            Some(request) => {
                Err(format!("refused, but the backend saw {} {}", request.method, request.target))
            }
        }
    }

    /// No connection may carry a whole request, and each that carried a part must end.
    fn broken_at_the_backend(&self, mark: &[usize]) -> Result<(), String> {
        self.settle();
        for (index, bytes) in self.backend.since(mark) {
            if wire::complete_requests_in(&bytes) > 0 {
                return Err(format!("the backend saw a whole request: {}", show(&bytes)));
            }
            until("the backend connection with half a request ends", || {
                self.backend.records()[index].ended.lock().unwrap().is_some()
            });
        }
        Ok(())
    }

    /// Waits until the backend has seen every connection that the gateway made, and the end of all but the pooled
    /// ones: a piece of a broken request that is still on its way would be taken for the next case's.
    fn settle(&self) {
        until("the backend has seen all that the gateway sent", || {
            let metrics = self.gateway.metrics();
            let opened = metrics.sum("tidegate_upstream_connections_opened_total", &[]) as usize;
            let idle = metrics.sum("tidegate_upstream_idle_connections", &[]) as usize;
            self.backend.connections() == opened && self.backend.open_connections() <= idle
        });
    }
}

/// One answer with one of these statuses, then a close.
fn refused(client: &mut Client, statuses: &[u16]) -> Result<(), String> {
    let answer = final_answer(client, "GET")?;
    if !statuses.contains(&answer.status) {
        return Err(format!("status {} instead of {statuses:?}: {}", answer.status, answer.text()));
    }
    client.closes_silently().map_err(|reason| format!("after the {}: {reason}", answer.status))
}

fn final_answer(client: &mut Client, method: &str) -> Result<Response, String> {
    client.patience(std::time::Duration::from_secs(5));
    client.wire.read_response(method).map_err(|fault: Fault| format!("no proper answer: {fault:?}"))
}

/// Whether the request at the backend is the one that was sent, framed once, with nothing of the client's hop.
fn fits(request: &Request, shape: &Shape) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("wrong {what} at the backend: {request:?}"));
    if request.method != shape.method || request.target != shape.target {
        return wrong("method or target");
    }
    if request.head.all("host") != [shape.host] {
        return wrong("Host");
    }
    if request.body != shape.body || request.version != "HTTP/1.1" {
        return wrong("body or version");
    }
    if shape.chunked != (request.framing == Framing::Chunked) {
        return wrong("framing");
    }
    let hop = ["keep-alive", "proxy-connection", "upgrade", "x-secret", "x-a-hop"];
    let own = |value: &&str| matches!(value.to_ascii_lowercase().as_str(), "keep-alive" | "te");
    if hop.iter().any(|name| request.head.has(name)) || !request.head.all("connection").iter().all(own) {
        return wrong("hop-by-hop fields");
    }
    if request.head.all("te").iter().any(|value| !value.eq_ignore_ascii_case("trailers")) {
        return wrong("TE");
    }
    match request.head.fields.iter().any(|(_, value)| value == "hop") {
        true => wrong("field that Connection named"),
        false => Ok(()),
    }
}
