//! Promise: when descriptors, the log's disk or memory run out, the gateway sheds what is too much, goes on with the
//! rest, never spins, and is its old self once there is room again.

mod harness;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
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

/// Whoever wants to know what is wrong has descriptors of his own to be answered on.
fn is_still_seen(gateway: &Gateway) {
    for _ in 0..100 {
        gateway.metrics();
    }
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
    let without = || {
        fs::read_to_string(gateway.access_log_file())
            .unwrap_or_default()
            .matches("\"error\":\"no_descriptors\"")
            .count()
    };
    until("some requests find no descriptor", || without() > 0);
    let share = idle_processor_share(&gateway);
    assert!(share < 0.5, "{share} of a core while every descriptor is in use");
    is_still_seen(&gateway);
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

/// A TCP connection is closed as an endpoint's refusal would close it, but the endpoint is not blamed.
#[test]
fn tcp_connections_that_find_no_descriptor_are_closed() {
    // So few that the clients of one turn of accepts leave no room for all of their upstreams.
    const DESCRIPTORS: usize = 80;
    raise_open_files();
    let origin =
        Backend::start(|conn| while conn.wire.take(1).is_ok_and(|byte| conn.write(&byte).is_ok()) {});
    let gateway = Setup::new()
        .with("origin", origin.address)
        .under(&format!("ulimit -n {DESCRIPTORS}"))
        .start("workers = 1\n[listen.web]\naddress = \"@web@\"\nprotocol = \"tcp\"\nto = \"main\"\n[service.main]\nendpoints = [\"@origin@\"]\n");
    gateway.pause();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    gateway.resume();
    let without = || gateway.metrics().sum("tidegate_tcp_errors_total", &[("kind", "no_descriptors")]);
    until("some find no descriptor", || without() > 0.0);
    let share = idle_processor_share(&gateway);
    assert!(share < 0.5, "{share} of a core while every descriptor is in use");
    is_still_seen(&gateway);
    assert_eq!(gateway.metrics().sum("tidegate_endpoint_connect_failures_total", &[]), 0.0);
    drop(clients);
    gateway.until_metric("tidegate_connections_active", &[], 0.0);
    let served = || {
        let mut client = gateway.client();
        client.send(b"?") && client.wire.take(1).is_ok_and(|answer| answer == b"?")
    };
    assert!(within(Duration::from_secs(5), || served().then_some(())).is_some(), "no service 5 s later");
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

const MEMORY_BYTES: u64 = 64 << 20;
const SLOW: usize = 1000;
/// Chunked, so that it is copied and not spliced.
const DOWNLOAD_BYTES: usize = 8 << 20;

/// Answers `/download` with more than all buffers on the way hold.
fn large_and_small() -> Backend {
    Backend::serve(|request, conn| {
        if request.target != "/download" {
            return drop(conn.write(&backend::ok(b"fine")));
        }
        let piece = [format!("{:x}\r\n", 1 << 16).as_bytes(), &[b'd'; 1 << 16], b"\r\n"].concat();
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..DOWNLOAD_BYTES / piece.len() {
            if conn.write(&piece).is_err() {
                return conn.close();
            }
        }
        let _ = conn.write(b"0\r\n\r\n");
    })
}

/// The worst that each kind of slow client can do, in turn: most of a large head, most of a body, reading nothing.
fn slow_client(gateway: &Gateway, number: usize) -> Client {
    let mut client = gateway.client();
    match number % 3 {
        0 => {
            let field = format!("X-Slow: {}\r\n", "s".repeat(990));
            client.send_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{}", field.repeat(30)).as_bytes());
        }
        1 => {
            client.send_all(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
            client.send_all(&[b'u'; 50_000]);
        }
        _ => {
            client.small_receive_buffer();
            client.send_all(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n");
        }
    }
    client
}

#[test]
fn a_thousand_slow_clients_fit_into_64_mib() {
    raise_open_files();
    let origin = large_and_small();
    let cap = MemoryCap::new(MEMORY_BYTES);
    let enter = cap.as_ref().map_or("true".into(), MemoryCap::enter);
    let config = "[limits]\nbuffers = \"16MiB\"\n[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n";
    let gateway = Setup::new().with("origin", origin.address).under(&enter).start(config);
    let before = gateway.resident_bytes();
    let slow: Vec<Client> = (0..SLOW).map(|number| slow_client(&gateway, number)).collect();
    gateway.until_metric("tidegate_connections_active", &[], SLOW as f64);
    let each = if harness::proof() { 10_000 } else { 500 };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                for number in 0..each {
                    assert_eq!(client.get("/").expect("an answer").status, 200, "request {number}");
                }
            });
        }
    });
    let peak = gateway.peak_resident_bytes();
    println!(
        "{SLOW} slow clients and {} requests: none failed, {} MiB resident at most, {} before them; capped by {}",
        4 * each,
        peak >> 20,
        before >> 20,
        cap.as_ref().map_or("nothing but this test", |_| "a cgroup"),
    );
    drop(slow);
    gateway.until_metric("tidegate_connections_active", &[], 0.0);
    gateway.until_metric("tidegate_worker_buffer_bytes", &[], 0.0);
    assert!(peak <= MEMORY_BYTES, "{peak} bytes");
}

#[test]
fn who_finds_no_buffer_is_told_so() {
    let origin = Backend::fixed("fine");
    let gateway = Gateway::before_with(&[origin.address], "workers = 1\n[limits]\nbuffers = \"1MiB\"\n", "");
    let half_a_head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: {}", "s".repeat(20_000));
    let mut slow: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
    slow.iter_mut().for_each(|client| client.send_all(half_a_head.as_bytes()));
    let mut refused = None;
    until("the buffers are in use", || {
        // Whoever of them found no larger buffer was refused himself and left room for a small one.
        let mut small = gateway.client();
        small.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
        slow.push(small);
        refused = gateway.client().get("/").ok().filter(|answer| answer.status == 503);
        refused.is_some()
    });
    let problem = refused.expect("it was waited for").json();
    assert_eq!(problem["type"], "urn:tidegate:error:no_buffers");
    let errors = gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "no_buffers")]);
    assert!(errors >= 1.0);
    let in_use = gateway.metrics().sum("tidegate_worker_buffer_bytes", &[]);
    assert!((512.0 * 1024.0..1024.0 * 1024.0 + 65_536.0).contains(&in_use), "{in_use} bytes");
    drop(slow);
    until("there is room again", || gateway.client().get("/").is_ok_and(|answer| answer.status == 200));
    gateway.until_metric("tidegate_worker_buffer_bytes", &[], 0.0);
}

/// A memory cgroup, where one may be made: root on most machines.
struct MemoryCap(PathBuf);

impl MemoryCap {
    fn new(bytes: u64) -> Option<MemoryCap> {
        let hierarchies =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        hierarchies.iter().find_map(|(root, limit)| {
            let group = Path::new(root).join(format!("tidegate-test-{}", std::process::id()));
            fs::create_dir(&group).ok()?;
            let cap = MemoryCap(group);
            // Opened, not created: on a file system that is no cgroup there is no such file.
            let mut file = fs::OpenOptions::new().write(true).open(cap.0.join(limit)).ok()?;
            file.write_all(bytes.to_string().as_bytes()).ok().map(|()| cap)
        })
    }

    /// The shell command with which a process enters the group.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }
}

impl Drop for MemoryCap {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// However much there is to say: neither the control thread nor a worker waits for who should read it.
#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let backend = Backend::fixed("ok");
    // A pipe that nobody reads: it takes 64 KiB and no more.
    let setup = Setup::new().with("m", backend.address).under("mkfifo \"$1.pipe\" && exec 2<> \"$1.pipe\"");
    let gateway = setup.start(
        "[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [service.m]\nendpoints = [\"@m@\"]\n[[route]]\nto = \"m\"\n",
    );
    let endpoint = format!("\"service\": \"m\", \"endpoint\": \"{}\"", backend.address);
    for number in 0..2_000 {
        let body = format!("{{{endpoint}, \"drained\": {}}}", number % 2 == 0);
        assert_eq!(gateway.admin_post("/services", &body).status, 200);
    }
    assert_eq!(gateway.get("/").status, 200);
}
