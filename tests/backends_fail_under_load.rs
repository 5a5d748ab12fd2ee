//! Promise: of two backends under load, one may be killed, stopped, restarted, slow to accept, or reset what it is
//! sent: no idempotent request fails, and no other request reaches a backend twice. The backends are processes that
//! write down the id of each request head before they do anything else with it.

mod harness;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use harness::process::{BackendProcess, Directory, be_a_backend, free_port};
use harness::{Backend, Client, Conn, Fault, Gateway, Head, backend, proof, until, within};

/// Clients side by side, each with one request at a time.
const CLIENTS: u64 = 8;
const BODY_BYTES: usize = 4000;
/// More than ten times what a request takes otherwise.
const SLOW: Duration = Duration::from_millis(30);
/// For connecting and for the first byte.
const TIMEOUT: Duration = Duration::from_millis(300);
/// What a request may take on top of the one timeout it met; asked of proofs only, which have the machine.
const MARGIN: Duration = Duration::from_millis(100);

/// Serves in a process of its own when started by `BackendProcess`; as a test it does nothing.
#[test]
#[ignore = "run by BackendProcess only"]
fn backend_process() {
    be_a_backend(|address| {
        let journal = std::env::var("TIDEGATE_TEST_JOURNAL").expect("a journal");
        let manner = std::env::var("TIDEGATE_TEST_MANNER").expect("a manner");
        let rest = Duration::from_millis(if manner == "slow-accept" { 150 } else { 0 });
        Backend::accept_after(rest, address, move |conn| {
            while !conn.last && serve_one(conn, Path::new(&journal), &manner).is_ok() {}
        })
    });
}

/// Notes the head, then reads the body and answers. A backend that resets does so in the middle: of the body that it
/// is sent, or of the one that it sends.
fn serve_one(conn: &mut Conn, journal: &Path, manner: &str) -> Result<(), Fault> {
    let head = conn.wire.read_head()?;
    let (method, id) = method_and_id(&head);
    let mut file = OpenOptions::new().append(true).create(true).open(journal).expect("the journal opens");
    file.write_all(format!("{method} {id}\n").as_bytes()).expect("the journal takes a line");
    let length = head.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    if manner == "resets" && (length > 0 || id.is_multiple_of(10)) {
        if length == 0 {
            let whole = backend::ok(id.to_string().repeat(1000).as_bytes());
            let _ = conn.write(&whole[..whole.len() / 2]);
        } else {
            conn.wire.take(length / 2)?;
        }
        conn.reset();
        return Ok(());
    }
    conn.wire.take(length)?;
    if manner == "slow" {
        // A slow backend is what is tested, not a way to wait for something.
        thread::sleep(SLOW);
    }
    if manner == "errors" {
        let _ = conn.write(&backend::answer("500 Internal Server Error", "", b"not well"));
        return Ok(());
    }
    let _ = conn.write(&backend::ok(id.to_string().as_bytes()));
    Ok(())
}

fn method_and_id(head: &Head) -> (String, u64) {
    let mut words = head.start.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let id = words.next().and_then(|target| target.rsplit('/').next()?.parse().ok());
    (method, id.expect("a target that ends with an id"))
}

/// Two backend processes behind a gateway, with their journals.
struct Pair {
    directory: Directory,
    addresses: [SocketAddr; 2],
    steady: BackendProcess,
    gateway: Gateway,
}

impl Pair {
    /// The second backend of this manner, and the retry budget that everybody has.
    fn start(manner: &str) -> (Pair, BackendProcess) {
        Pair::start_with(manner, "")
    }

    /// The same with more keys of the service.
    fn start_with(manner: &str, service: &str) -> (Pair, BackendProcess) {
        let directory = Directory::new();
        let addresses = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let steady = start_backend(&directory, addresses[0], "steady");
        let faulty = start_backend(&directory, addresses[1], manner);
        let milliseconds = TIMEOUT.as_millis();
        let top = format!("[timeouts]\nconnect = \"{milliseconds}ms\"\nfirst_byte = \"{milliseconds}ms\"\n");
        let gateway = Gateway::before_with(&addresses, &top, service);
        (Pair { directory, addresses, steady, gateway }, faulty)
    }

    fn restart(&self) -> BackendProcess {
        start_backend(&self.directory, self.addresses[1], "steady")
    }

    /// How often each request arrived, both backends together.
    fn arrivals(&self) -> HashMap<(String, u64), u32> {
        let mut counts = HashMap::new();
        for address in self.addresses {
            for line in self.journal_of(address).lines() {
                let (method, id) = line.split_once(' ').expect("method and id");
                *counts.entry((method.to_owned(), id.parse().expect("an id"))).or_default() += 1;
            }
        }
        counts
    }

    fn journal_of(&self, address: SocketAddr) -> String {
        std::fs::read_to_string(journal(&self.directory, address)).unwrap_or_default()
    }
}

fn start_backend(directory: &Directory, address: SocketAddr, manner: &str) -> BackendProcess {
    let journal = journal(directory, address);
    let environment = [("TIDEGATE_TEST_JOURNAL", journal.as_str()), ("TIDEGATE_TEST_MANNER", manner)];
    BackendProcess::start_with(address, &environment)
}

fn journal(directory: &Directory, address: SocketAddr) -> String {
    directory.path().join(format!("{}.journal", address.port())).to_string_lossy().into_owned()
}

/// What became of one request.
struct Outcome {
    method: &'static str,
    id: u64,
    seen: Result<u16, Fault>,
    took: Duration,
    /// It began while the fault lasted.
    in_fault: bool,
}

impl Outcome {
    fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }
}

/// The clients' requests so far, and whether the fault lasts.
#[derive(Default)]
struct Course {
    begun: AtomicU64,
    in_fault: AtomicBool,
}

impl Course {
    /// Waits until this share of all requests has begun.
    fn until_percent(&self, percent: u64) {
        let enough = CLIENTS * requests_each() * percent / 100;
        let reached = within(Duration::from_secs(300), || (self.begun.load(SeqCst) >= enough).then_some(()));
        assert!(reached.is_some(), "the load stands still at {} requests", self.begun.load(SeqCst));
    }
}

fn requests_each() -> u64 {
    if proof() { 3000 } else { 120 }
}

/// Runs the load, and `fault` beside it.
fn under_load(gateway: &Gateway, fault: impl FnOnce(&Course)) -> Vec<Outcome> {
    let course = Course::default();
    thread::scope(|scope| {
        let course = &course;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || ask_in_turn(gateway, number * requests_each(), course)))
            .collect();
        fault(course);
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    })
}

fn ask_in_turn(gateway: &Gateway, first_id: u64, course: &Course) -> Vec<Outcome> {
    let mut client = gateway.client();
    let mut outcomes = Vec::new();
    for id in first_id..first_id + requests_each() {
        course.begun.fetch_add(1, SeqCst);
        let method = ["GET", "PUT", "POST"][id as usize % 3];
        let in_fault = course.in_fault.load(SeqCst);
        let start = Instant::now();
        let seen = ask(&mut client, method, id);
        let took = start.elapsed();
        // An error of the gateway's own is the last answer of its connection.
        if seen != Ok(200) {
            client = gateway.client();
        }
        outcomes.push(Outcome { method, id, seen, took, in_fault });
    }
    outcomes
}

/// The status; an answer that is not the one to this request is a fault.
fn ask(client: &mut Client, method: &str, id: u64) -> Result<u16, Fault> {
    let body = vec![b'b'; if method == "GET" { 0 } else { BODY_BYTES }];
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {BODY_BYTES}\r\n") };
    let head = format!("{method} /{id} HTTP/1.1\r\nHost: a\r\n{length}\r\n");
    let answer = client.request(method, &[head.as_bytes(), &body].concat())?;
    match answer.status == 200 && answer.text() != id.to_string() {
        true => Err(Fault::Malformed(format!("{} to request {id}", answer.text()))),
        false => Ok(answer.status),
    }
}

/// No idempotent request failed, but for those that `may_be_cut`; no other one arrived twice.
fn judge(pair: &Pair, name: &str, outcomes: &[Outcome], may_be_cut: impl Fn(&Outcome) -> bool) {
    let arrivals = pair.arrivals();
    let (mut cut, mut refused) = (0, 0);
    for outcome in outcomes {
        let (method, id, seen) = (outcome.method, outcome.id, &outcome.seen);
        let arrived = arrivals.get(&(method.to_owned(), id)).copied().unwrap_or(0);
        match seen {
            Ok(200) => assert!(arrived >= 1, "{method} {id} was answered by nobody"),
            Err(Fault::Truncated(_) | Fault::Reset) if may_be_cut(outcome) => cut += 1,
            _ if outcome.is_idempotent() => panic!("{method} {id}: {seen:?}\n{}", pair.gateway.stderr()),
            Ok(502 | 504) => refused += 1,
            _ => panic!("{method} {id}: {seen:?} is no way to fail"),
        }
        assert!(outcome.is_idempotent() || arrived <= 1, "POST {id} arrived {arrived} times");
    }
    assert!(outcomes.iter().any(|outcome| outcome.in_fault), "the fault met no request");
    let p99 = percentile_99(outcomes.iter().filter(|outcome| outcome.in_fault).map(|outcome| outcome.took));
    let idempotent = outcomes.iter().filter(|outcome| outcome.is_idempotent()).count();
    println!(
        "{name}: {} requests, {idempotent} idempotent: 0 failed, {cut} visibly cut; {refused} POSTs answered 502 or 504, \
         0 arrived twice; p99 during the fault {p99:?}",
        outcomes.len()
    );
    if proof() {
        assert!(p99 <= TIMEOUT + MARGIN, "{name}: p99 {p99:?}");
    }
}

fn percentile_99(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

fn never(_: &Outcome) -> bool {
    false
}

#[test]
fn one_is_killed() {
    let (pair, faulty) = Pair::start("steady");
    let outcomes = under_load(&pair.gateway, |course| {
        course.until_percent(25);
        course.in_fault.store(true, SeqCst);
        faulty.kill();
    });
    judge(&pair, "killed", &outcomes, never);
}

#[test]
fn one_is_killed_and_comes_back() {
    // Or it would not have a request before all is over.
    let (pair, faulty) = Pair::start_with("steady", "outlier.failures = \"off\"");
    let mut back = None;
    let mut before = 0;
    let outcomes = under_load(&pair.gateway, |course| {
        course.until_percent(25);
        course.in_fault.store(true, SeqCst);
        faulty.kill();
        course.until_percent(50);
        before = pair.journal_of(pair.addresses[1]).len();
        back = Some(pair.restart());
    });
    judge(&pair, "restarted", &outcomes, never);
    assert!(pair.journal_of(pair.addresses[1]).len() > before, "it serves again");
}

/// The load, during a part of which the backend is stopped.
fn under_load_with_a_stop(gateway: &Gateway, faulty: &BackendProcess) -> Vec<Outcome> {
    under_load(gateway, |course| {
        course.until_percent(25);
        course.in_fault.store(true, SeqCst);
        faulty.signal(libc::SIGSTOP);
        course.until_percent(if proof() { 35 } else { 50 });
        course.in_fault.store(false, SeqCst);
        faulty.signal(libc::SIGCONT);
    })
}

#[test]
fn one_is_stopped_and_continued() {
    let (pair, faulty) = Pair::start("steady");
    let outcomes = under_load_with_a_stop(&pair.gateway, &faulty);
    // What it was sent before it was given up is in its journal once it runs again: the count would show doubles.
    until("a request that was tried on both backends", || {
        pair.arrivals().iter().any(|((method, _), count)| method != "POST" && *count > 1)
    });
    judge(&pair, "stopped", &outcomes, never);
}

#[test]
fn one_is_slow_to_accept() {
    let (pair, _faulty) = Pair::start("slow-accept");
    let outcomes = under_load(&pair.gateway, |course| course.in_fault.store(true, SeqCst));
    judge(&pair, "slow to accept", &outcomes, never);
}

#[test]
fn one_is_slow() {
    let (pair, _faulty) = Pair::start("slow");
    let outcomes = under_load(&pair.gateway, |course| course.in_fault.store(true, SeqCst));
    judge(&pair, "slow", &outcomes, never);
}

/// What it answers is an answer, which goes on until it is found out: then it has no more requests, and none fails.
#[test]
fn one_answers_errors() {
    let (pair, _faulty) = Pair::start_with("errors", "outlier = { failures = 5, ejection = \"10m\" }");
    let outcomes = under_load(&pair.gateway, |course| course.in_fault.store(true, SeqCst));
    let failed = outcomes.iter().filter(|outcome| outcome.seen != Ok(200)).count();
    assert!(outcomes.iter().all(|outcome| matches!(outcome.seen, Ok(200 | 500))));
    // Five in a row, and what the other clients had under way then.
    assert!((5..5 + CLIENTS as usize).contains(&failed), "{failed} of {} failed", outcomes.len());
    assert_eq!(pair.journal_of(pair.addresses[1]).lines().count(), failed);
    // Where an error may be tried elsewhere, no request that may be repeated fails at all.
    let (pair, _faulty) = Pair::start_with("errors", "retry = { on_status = [500], budget_min = 8 }");
    let outcomes = under_load(&pair.gateway, |course| course.in_fault.store(true, SeqCst));
    for outcome in outcomes.iter().filter(|outcome| outcome.is_idempotent()) {
        assert_eq!(outcome.seen, Ok(200), "{} {}", outcome.method, outcome.id);
    }
}

#[test]
fn one_resets_in_the_middle_of_bodies() {
    let (pair, _faulty) = Pair::start("resets");
    let outcomes = under_load(&pair.gateway, |course| course.in_fault.store(true, SeqCst));
    // A response that has begun cannot begin again: it ends visibly.
    judge(&pair, "resetting", &outcomes, |outcome| outcome.method == "GET" && outcome.id.is_multiple_of(10));
    assert!(outcomes.iter().any(|outcome| outcome.seen.is_err()), "some responses were cut");
}

#[test]
fn none_answers() {
    let (pair, faulty) = Pair::start("steady");
    for backend in [&pair.steady, &faulty] {
        backend.signal(libc::SIGSTOP);
    }
    let answer = ask(&mut pair.gateway.client(), "GET", 3);
    assert_eq!(answer, Ok(504), "each was tried once and no more");
    for backend in [&pair.steady, &faulty] {
        backend.signal(libc::SIGCONT);
    }
    until("both were asked", || pair.arrivals().values().sum::<u32>() == 2);
    assert_eq!(pair.gateway.metrics().sum("tidegate_retries_total", &[]), 1.0);
}
