//! Promise: when descriptors, the log's disk or memory run out, the gateway sheds what is too much, goes on with the
//! rest, never spins, and is its old self once there is room again.

mod harness;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use harness::process::{Directory, raise_open_files};
use harness::{Backend, Client, Gateway, Setup, backend, until, within};

const DESCRIPTORS: usize = 160;
/// More than the gateway has descriptors, and more than twice as many connections as it can proxy.
const CLIENTS: usize = 400;

/// A backend that holds its answers back while `held` is set.
fn holding(held: &Arc<AtomicBool>) -> Backend {
    let held = held.clone();
    Backend::serve(move |_, conn| {
        while held.load(SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = conn.write(&backend::ok(b"fine"));
    })
}

fn with_few_descriptors(origin: &Backend) -> Gateway {
    Setup::new()
        .with("origin", origin.address)
        .under(&format!("ulimit -n {DESCRIPTORS}"))
        .start("[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n")
}

/// The share of one core that the gateway uses over a while in which nothing happens.
fn idle_processor_share(gateway: &Gateway) -> f64 {
    const WHILE: Duration = Duration::from_secs(1);
    let before = gateway.processor_time();
    thread::sleep(WHILE);
    (gateway.processor_time() - before).as_secs_f64() / WHILE.as_secs_f64()
}

fn recovers(gateway: &Gateway) -> Duration {
    let start = Instant::now();
    let served = || Client::connect(gateway.web()).get("/").is_ok_and(|answer| answer.status == 200);
    assert!(within(Duration::from_secs(5), || served().then_some(())).is_some(), "no service 5 s later");
    start.elapsed()
}

#[test]
fn more_clients_than_descriptors_are_turned_away() {
    raise_open_files();
    let origin = Backend::fixed("fine");
    let gateway = with_few_descriptors(&origin);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    let refused = || gateway.metrics().sum("tidegate_connections_refused_total", &[]) as usize;
    until("all are let in or turned away", || {
        refused() + gateway.metrics().sum("tidegate_connections_active", &[]) as usize >= CLIENTS
    });
    clients.retain(|client| !client.answered());
    assert_eq!(clients.len() + refused(), CLIENTS, "who was not let in was closed, and counted");
    assert!(clients.len() > DESCRIPTORS / 2, "only {} were let in", clients.len());
    for client in &mut clients {
        assert_eq!(client.get("/").expect("who was let in is served").status, 200);
    }
    let share = idle_processor_share(&gateway);
    assert!(share < 0.5, "{share} of a core with nothing to do");
    let let_in = clients.len();
    drop(clients);
    let took = recovers(&gateway);
    println!(
        "{CLIENTS} clients, {DESCRIPTORS} descriptors: {let_in} let in and served, the others closed; {:.0} % of a core; \
         served again {took:?} after they left",
        share * 100.0
    );
}

#[test]
fn requests_that_find_no_descriptor_are_told_so() {
    raise_open_files();
    let held = Arc::new(AtomicBool::new(true));
    let origin = holding(&held);
    let gateway = with_few_descriptors(&origin);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let overloaded = || {
        fs::read_to_string(gateway.access_log_file())
            .unwrap_or_default()
            .matches("\"error\":\"overloaded\"")
            .count()
    };
    until("some requests find no descriptor", || overloaded() > 0);
    let share = idle_processor_share(&gateway);
    assert!(share < 0.5, "{share} of a core while every descriptor is in use");
    held.store(false, SeqCst);
    let mut statuses = Vec::new();
    for client in &mut clients {
        // Closed at once, or answered: nobody is left waiting.
        match client.wire.read_response("GET") {
            Ok(answer) => statuses.push(answer.status),
            Err(fault) => assert!(!matches!(fault, harness::Fault::Timeout), "a client was left waiting"),
        }
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200));
    drop(clients);
    println!(
        "every descriptor in use: {:.0} % of a core; served again {:?} later",
        share * 100.0,
        recovers(&gateway)
    );
    assert_eq!(gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
}

/// Requests until the access log has failed to be written, and some more; all must be answered.
fn ask_while_the_log_fails(gateway: &Gateway) -> f64 {
    let mut client = gateway.client();
    let mut asked = 0.0;
    let mut ask = |times: usize| {
        for _ in 0..times {
            assert_eq!(client.get("/").expect("an answer").status, 200);
            asked += 1.0;
        }
    };
    until("the log fails to be written", || {
        ask(100);
        gateway.metrics().sum("tidegate_access_log_write_errors_total", &[]) > 0.0
    });
    ask(1000);
    asked
}

/// Waits until each of these requests is either a line or counted as dropped; returns the two counts.
fn until_accounted(gateway: &Gateway, asked: f64) -> (f64, f64) {
    let count = |name: &str| gateway.metrics().sum(name, &[]);
    let counts = || (count("tidegate_access_log_lines_total"), count("tidegate_access_log_dropped_total"));
    until("every line is written or counted", || {
        let (written, dropped) = counts();
        written + dropped == asked
    });
    counts()
}

const FIXED: &str = "[[route]]\nrespond = { status = 200, body = \"here\" }\n";

#[test]
fn a_log_that_takes_nothing_holds_up_no_request() {
    let gateway = Gateway::start(&format!("[log]\naccess = \"/dev/full\"\n{FIXED}"), &[]);
    let asked = ask_while_the_log_fails(&gateway);
    assert_eq!(
        until_accounted(&gateway, asked),
        (0.0, asked),
        "nothing was written, and all of it is counted"
    );
    gateway.until_stderr("access log: ");
}

#[test]
fn a_full_disk_costs_lines_until_there_is_space_again() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not run: no tmpfs may be mounted here");
        return;
    };
    let log = disk.0.path().join("access.log");
    let gateway = Gateway::start(&format!("[log]\naccess = \"{}\"\n{FIXED}", log.display()), &[]);
    let mut asked = ask_while_the_log_fails(&gateway);
    let (_, dropped) = until_accounted(&gateway, asked);
    assert!(dropped > 0.0);
    fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0)).expect("space is made");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").status, 200);
        asked += 1.0;
    }
    let (written, dropped_after) = until_accounted(&gateway, asked);
    assert_eq!(dropped_after, dropped, "with space again no line is dropped");
    let text = fs::read_to_string(&log).expect("the log");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 10, "{text}");
    lines.iter().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).expect("whole lines")));
    println!("full disk: {asked} requests answered, {written} lines written, {dropped} dropped and counted");
}

/// A file system of 64 KiB; mounting one takes root.
struct SmallDisk(Directory);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let directory = Directory::new();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(directory.path());
        let is_mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        is_mounted.then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the gateway has its log open a little longer.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
