//! Promise: a broken or hostile backend harms one request at most. A truncated body is never passed off as complete, a
//! second response is never believed, and what cannot be understood is a 502. Runs the table of `hostile_table`.

mod harness;
mod hostile_table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use harness::{Backend, Client, Conn, Fault, Framing, Gateway, Response, backend, until};
use hostile_table::{Asked, Case, Step, Want};

/// Requests after each case, enough to meet every connection that the case may have left behind.
const PROBES: usize = 3;

#[test]
fn the_table_is_large() {
    assert!(hostile_table::all().len() >= 40, "{} cases", hostile_table::all().len());
}

#[test]
fn hostile_answers() {
    run_table(false);
}

#[test]
fn hostile_answers_on_a_used_connection() {
    run_table(true);
}

/// One worker, so that a connection left behind by a case would be the one that the next request takes.
fn run_table(used: bool) {
    let cases = Arc::new(hostile_table::all());
    let performed: Arc<Vec<AtomicU32>> = Arc::new(cases.iter().map(|_| AtomicU32::new(0)).collect());
    let (script, done) = (cases.clone(), performed.clone());
    let origin = Backend::start(move |conn| serve(conn, &script, &done));
    let top = "workers = 1\n[timeouts]\nfirst_byte = \"3s\"\nupstream_idle = \"1s\"\n";
    let gateway = Gateway::before_with(&[origin.address], top, "");
    let mut failures = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        if let Err(reason) = run_case(&gateway, index, case, used, &performed[index]) {
            failures.push(format!("{}: {reason}", case.name));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// A probe is answered by its own target; a case by its script.
fn serve(conn: &mut Conn, cases: &[Case], performed: &[AtomicU32]) {
    while !conn.last {
        let Ok(head) = conn.wire.read_head() else { return };
        let target = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
        match target.strip_prefix("/case/").and_then(|number| number.parse::<usize>().ok()) {
            Some(index) => {
                let steps = &cases[index].steps;
                steps.iter().for_each(|step| perform(conn, step));
                performed[index].fetch_add(1, Ordering::SeqCst);
                match steps.last() {
                    Some(Step::Keep) => {}
                    Some(Step::Drain) => {
                        conn.wait_end(Duration::from_secs(30));
                    }
                    _ => return,
                }
            }
            None => drop(conn.write(&backend::ok(target.as_bytes()))),
        }
    }
}

fn perform(conn: &mut Conn, step: &Step) {
    match step {
        Step::Send(bytes) => drop(conn.write(bytes)),
        Step::Repeat(bytes, times) => drop((0..*times).try_for_each(|_| conn.write(bytes))),
        Step::Pause(time) => thread::sleep(*time),
        Step::Reset => conn.reset(),
        Step::Keep | Step::Drain => {}
    }
}

fn run_case(
    gateway: &Gateway,
    index: usize,
    case: &Case,
    used: bool,
    performed: &AtomicU32,
) -> Result<(), String> {
    let mut client = gateway.client();
    if used {
        probe(&mut client, &format!("/before/{index}"))?;
    }
    client.send_all(&request(case.request, index));
    let seen = read_answer(&mut client, case.request);
    let verdict = judge(&case.want, &seen);
    // What the backend says must be there before the next request: later bytes would be an answer to that one.
    until("the script has been performed", || performed.load(Ordering::SeqCst) > 0);
    // The connection lives on only after an answer that was complete, and then the next request gets its own.
    if let Ok(answer) = &seen
        && answer.get("connection") != Some("close")
        && answer.framing != Framing::Close
    {
        probe(&mut client, &format!("/after/{index}"))?;
    }
    for number in 0..PROBES {
        probe(&mut gateway.client(), &format!("/probe/{index}/{number}"))?;
    }
    verdict
}

fn request(asked: Asked, index: usize) -> Vec<u8> {
    let head = |method: &str, fields: &str| {
        format!("{method} /case/{index} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
    };
    match asked {
        Asked::Get => head("GET", "").into_bytes(),
        Asked::Head => head("HEAD", "").into_bytes(),
        Asked::Post => [head("POST", "Content-Length: 102400\r\n").as_bytes(), &[b'p'; 102_400]].concat(),
    }
}

fn read_answer(client: &mut Client, asked: Asked) -> Result<Response, Fault> {
    client.patience(Duration::from_secs(8));
    client.wire.read_response(if asked == Asked::Head { "HEAD" } else { "GET" })
}

fn judge(want: &Want, seen: &Result<Response, Fault>) -> Result<(), String> {
    let bad_gateway = matches!(seen, Ok(answer) if answer.status == 502);
    let aborted = matches!(seen, Err(Fault::Truncated(_) | Fault::Reset));
    let complete = |status: u16, body: &[u8]| matches!(seen, Ok(a) if a.status == status && a.body == body);
    let fine = match want {
        Want::BadGateway => bad_gateway,
        Want::NotComplete => bad_gateway || aborted || matches!(seen, Err(Fault::Closed)),
        Want::Complete(status, body) => complete(*status, body),
        Want::Lenient(status, body) => complete(*status, body) || bad_gateway,
    };
    match (fine, seen) {
        (true, _) => Ok(()),
        (false, Ok(answer)) => Err(format!(
            "the client got {} {:?} {}",
            answer.status,
            answer.framing,
            harness::show(&answer.body)
        )),
        (false, Err(fault)) => Err(format!("the client got {fault:?}")),
    }
}

/// A request of our own must get its own answer.
fn probe(client: &mut Client, target: &str) -> Result<(), String> {
    match client.get(target) {
        Ok(answer) if answer.status == 200 && answer.text() == target => Ok(()),
        Ok(answer) => Err(format!("{target} got {} {}", answer.status, harness::show(&answer.body))),
        Err(fault) => Err(format!("{target} got {fault:?}")),
    }
}

#[test]
fn a_cut_body_is_visible_to_http_1_0_clients_too() {
    // Their body ends with the connection, so only a reset tells a cut from an end.
    for cut in ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 50\r\n\r\nhello"] {
        let origin = Backend::serve(move |_, conn| {
            let _ = conn.write(format!("HTTP/1.1 200 OK\r\n{cut}").as_bytes());
            thread::sleep(Duration::from_millis(30));
            conn.close();
        });
        let gateway = Gateway::before(&[origin.address]);
        let mut client = gateway.client();
        let seen = client.request("GET", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert!(!matches!(&seen, Ok(answer) if answer.status != 502), "{seen:?}");
    }
}
