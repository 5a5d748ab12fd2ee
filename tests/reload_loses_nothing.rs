//! Promise: a reload loses no request, and each request sees one configuration, whole. Every answer proves which one
//! it came from: the route writes its generation into the request and into the response, and the backend its own name.
//! `TIDEGATE_PROOF=1` runs the same with 100,000 requests of each kind of load.

mod harness;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::gateway::Reload;
use harness::{Backend, Client, Fault, Gateway, Response, backend, process, until};

const BACKENDS: usize = 4;
const NAMES: [&str; BACKENDS] = ["b0", "b1", "b2", "b3"];

/// Endpoints of this generation: two of four, shifting.
fn endpoints(generation: u64) -> [usize; 2] {
    let first = generation as usize % BACKENDS;
    [first, (first + 1) % BACKENDS]
}

/// A configuration that differs from its neighbours in routes, services, endpoints and a listener.
fn config(generation: u64) -> String {
    let [first, second] = endpoints(generation).map(|index| NAMES[index]);
    let service = format!("pool-{}", generation % 3);
    let extra = if generation.is_multiple_of(2) { "even" } else { "odd" };
    format!(
        "[listen.web]\naddress = \"@web@\"\n[listen.{extra}]\naddress = \"@{extra}@\"\n\
         [service.{service}]\nendpoints = [\"@{first}@\", \"@{second}@\"]\n\
         [[route]]\nname = \"generation-{generation}\"\nmatch = {{ path = \"/x/**\" }}\nto = \"{service}\"\n\
         request_headers = {{ set = {{ x-generation = \"{generation}\" }} }}\n\
         response_headers = {{ set = {{ x-generation = \"{generation}\" }} }}\n\
         [[route]]\nname = \"only-{generation}\"\nmatch = {{ path = \"/only/{generation}\" }}\nrespond = {{ body = \"{generation}\" }}\n"
    )
}

/// What the load threads and the one that reloads tell each other.
struct Load {
    web: SocketAddr,
    extra: [SocketAddr; 2],
    /// A reload to this generation was confirmed.
    confirmed: AtomicU64,
    /// A reload to this generation may be under way.
    begun: AtomicU64,
    kept: AtomicU64,
    fresh: AtomicU64,
    on_extra: AtomicU64,
    stop: AtomicBool,
}

#[test]
fn no_request_is_lost_and_none_sees_two_configurations() {
    let (reloads, requests) = if harness::proof() { (60, 100_000) } else { (24, 3_000) };
    let backends: Vec<Backend> = NAMES.map(Backend::describing).into();
    let names: Vec<(&str, SocketAddr)> =
        NAMES.iter().zip(&backends).map(|(name, b)| (*name, b.address)).collect();
    let spare = |_| SocketAddr::from(([127, 0, 0, 1], process::free_port()));
    let extra = [0, 1].map(spare);
    let names = [names, vec![("even", extra[0]), ("odd", extra[1])]].concat();
    let mut gateway = Gateway::start(&config(0), &names);
    let load = Load {
        web: gateway.web(),
        extra,
        confirmed: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        kept: AtomicU64::new(0),
        fresh: AtomicU64::new(0),
        on_extra: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let kept: Vec<_> = (0..3).map(|_| scope.spawn(|| keep_alive_load(&load))).collect();
        let fresh: Vec<_> = (0..2).map(|_| scope.spawn(|| connection_per_request_load(&load))).collect();
        let extra = scope.spawn(|| extra_listener_load(&load));
        let threads = || kept.iter().chain(&fresh).chain([&extra]);
        // Each reload waits for its share of the load, so that requests meet every configuration.
        for generation in 1..=reloads {
            let share = requests * generation / reloads;
            let enough = || {
                let done = load.kept.load(Ordering::SeqCst).min(load.fresh.load(Ordering::SeqCst));
                done >= share || threads().any(|thread| thread.is_finished())
            };
            while !enough() {
                thread::sleep(Duration::from_millis(1));
            }
            load.begun.store(generation, Ordering::SeqCst);
            assert_eq!(gateway.reload(&config(generation)), Reload::Taken, "generation {generation}");
            load.confirmed.store(generation, Ordering::SeqCst);
        }
        load.stop.store(true, Ordering::SeqCst);
    });
    let errors: Vec<_> = gateway.metrics().matching("tidegate_request_errors_total", &[]).cloned().collect();
    let own: f64 = errors.iter().filter(|e| e.labels["kind"] != "client_closed").map(|e| e.value).sum();
    assert_eq!(own, 0.0, "{errors:?}");
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    assert!(count(&load.kept) >= requests && count(&load.fresh) >= requests && count(&load.on_extra) > 0);
    eprintln!(
        "{reloads} reloads: {} requests on kept connections, {} on their own, {} on listeners that come and go",
        count(&load.kept),
        count(&load.fresh),
        count(&load.on_extra)
    );
}

fn keep_alive_load(load: &Load) {
    let mut client = Client::connect(load.web);
    while !load.stop.load(Ordering::SeqCst) {
        let since = load.confirmed.load(Ordering::SeqCst);
        let answer =
            client.get("/x/kept").unwrap_or_else(|fault| panic!("lost on a kept connection: {fault:?}"));
        check(load, since, &answer);
        if answer.get("connection") == Some("close") {
            client = Client::connect(load.web);
        }
        load.kept.fetch_add(1, Ordering::SeqCst);
    }
}

fn connection_per_request_load(load: &Load) {
    while !load.stop.load(Ordering::SeqCst) {
        let since = load.confirmed.load(Ordering::SeqCst);
        let mut client =
            Client::try_connect(load.web).unwrap_or_else(|error| panic!("no connection: {error}"));
        let answer = client.get_with("/x/fresh", "Connection: close\r\n");
        check(load, since, &answer.unwrap_or_else(|fault| panic!("lost on a fresh connection: {fault:?}")));
        load.fresh.fetch_add(1, Ordering::SeqCst);
    }
}

/// The listeners that come and go: who is let in is served, and a kept connection ends with an answer, not before it.
fn extra_listener_load(load: &Load) {
    let mut turn = 0;
    while !load.stop.load(Ordering::SeqCst) {
        turn += 1;
        // A listener on its way out answers no SYN: who is not let in soon goes to the other.
        let address = &load.extra[turn % 2];
        let Ok(stream) = TcpStream::connect_timeout(address, Duration::from_millis(50)) else { continue };
        let mut client = Client::over(stream).expect("a fresh socket");
        for _ in 0..3 {
            let since = load.confirmed.load(Ordering::SeqCst);
            let answer = client
                .get("/x/extra")
                .unwrap_or_else(|fault| panic!("lost on a passing listener: {fault:?}"));
            check(load, since, &answer);
            load.on_extra.fetch_add(1, Ordering::SeqCst);
            if answer.get("connection") == Some("close") {
                break;
            }
        }
    }
}

/// The answer comes from one configuration that was in use while the request was under way.
fn check(load: &Load, since: u64, answer: &Response) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let generation: u64 =
        answer.get("x-generation").and_then(|value| value.parse().ok()).expect("a generation");
    let at_backend = text.lines().find_map(|line| line.strip_prefix("x-generation: ")).expect("a generation");
    assert_eq!(at_backend, generation.to_string(), "one request saw two configurations");
    let name = text.lines().next().expect("a name");
    assert!(endpoints(generation).iter().any(|index| NAMES[*index] == name), "{name} is not in {generation}");
    let newest = load.begun.load(Ordering::SeqCst);
    assert!(
        (since..=newest).contains(&generation),
        "generation {generation} served between {since} and {newest}"
    );
}

#[test]
fn a_request_under_way_ends_as_it_began() {
    // Answers half, and the rest once told so.
    let (tell, told) = std::sync::mpsc::sync_channel::<()>(1);
    let told = std::sync::Mutex::new(told);
    let slow = Backend::serve(move |_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        told.lock().unwrap().recv_timeout(harness::PATIENCE).expect("the reload happens");
        let _ = conn.write(b"later");
    });
    let other = Backend::fixed("other");
    let config =
        |name: &str| format!("[service.{name}]\nendpoints = [\"@{name}@\"]\n[[route]]\nto = \"{name}\"\n");
    let names = [("slow", slow.address), ("other", other.address)];
    let mut gateway = Gateway::start(&config("slow"), &names);
    let mut client = gateway.client();
    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.wire.read_response_head("GET").expect("a head").status, 200);
    assert_eq!(gateway.reload(&config("other")), Reload::Taken);
    assert_eq!(gateway.get("/").text(), "other");
    tell.send(()).expect("the backend waits");
    let (body, _) = client.wire.read_body(harness::Framing::Length(10)).expect("the rest");
    assert_eq!(body, b"firstlater");
    assert_eq!(
        client.get("/").expect("an answer").text(),
        "other",
        "the next request sees the new configuration"
    );
}

#[test]
fn a_bad_config_is_refused_and_the_old_one_stays() {
    let origin = Backend::fixed("old");
    let good = "[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n";
    let mut gateway = Gateway::start(good, &[("origin", origin.address)]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let occupied = format!(
        "{good}[listen.web]\naddress = \"@web@\"\n[listen.more]\naddress = \"{}\"\n",
        taken.local_addr().expect("bound")
    );
    let generation = gateway.generation();
    let mut client = gateway.client();
    for (what, bad, told) in [
        ("no TOML", "[service.main\n", ":"),
        ("unknown key", &format!("{good}colour = \"red\"\n"), "colour"),
        ("no such service", "[[route]]\nto = \"nobody\"\n", "nobody"),
        ("bad duration", &format!("{good}timeout = \"ten\"\n"), "timeout"),
        ("nothing listens", &format!("{good}[listen.web]\naddress = \"nowhere\"\n"), "nowhere"),
        ("port taken", &occupied, "listen"),
    ] {
        let already = gateway.stderr().len();
        assert_eq!(gateway.reload(bad), Reload::Refused, "{what}");
        until(&format!("{what} is told"), || gateway.stderr()[already..].contains(told));
        if what != "port taken" {
            let file = gateway.config_file();
            let place = format!("{}:", file.display());
            let text = gateway.stderr()[already..].to_owned();
            let position =
                text.split(&place).nth(1).unwrap_or_else(|| panic!("{what}: no position in {text}"));
            let mut numbers = position.splitn(3, ':').map(|number| number.parse::<u32>().is_ok());
            assert_eq!((numbers.next(), numbers.next()), (Some(true), Some(true)), "{what}: {text}");
        }
        assert_eq!(client.get("/").expect("the old one serves").text(), "old", "{what}");
        assert_eq!(gateway.get("/").text(), "old", "{what}");
        assert_eq!(gateway.generation(), generation, "{what}");
    }
    assert_eq!(gateway.metrics().sum("tidegate_config_last_reload_success", &[]), 0.0);
    std::fs::remove_file(gateway.config_file()).expect("the file is there");
    assert_eq!(gateway.reload_file(), Reload::Refused);
    assert_eq!(gateway.get("/").text(), "old");
    assert_eq!(gateway.reload(good), Reload::Taken);
    assert_eq!(gateway.metrics().sum("tidegate_config_last_reload_success", &[]), 1.0);
}

#[test]
fn the_command_and_the_watcher_reload_too() {
    let fixed = |body: &str, watch: bool| {
        format!("[reload]\nwatch = {watch}\n[[route]]\nrespond = {{ body = \"{body}\" }}\n")
    };
    let mut gateway = Gateway::start(&fixed("one", false), &[]);
    gateway.write_config(&fixed("two", true));
    let file = gateway.config_file();
    let output = process::tidegate(&["reload", "-c", file.to_str().expect("a plain path")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(gateway.get("/").text(), "two");
    gateway.write_config("nonsense = 1\n");
    let output = process::tidegate(&["reload", "-c", file.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(1), "a refused reload is a failure");
    assert_eq!(gateway.get("/").text(), "two");
    gateway.write_config(&fixed("three", true));
    until("the watcher sees the change", || gateway.get("/").text() == "three");
}

#[test]
fn added_listeners_serve_and_removed_ones_refuse() {
    let with = |names: &[&str]| {
        let listen = |name: &&str| format!("[listen.{name}]\naddress = \"@{name}@\"\n");
        let listeners: String = names.iter().map(listen).collect();
        format!("{listeners}[[route]]\nrespond = {{ body = \"here\" }}\n")
    };
    let mut gateway = Gateway::start(&with(&["web"]), &[]);
    for _ in 0..5 {
        assert_eq!(gateway.reload(&with(&["web", "more"])), Reload::Taken);
        let more = gateway.address("more");
        let mut kept = Client::connect(more);
        assert_eq!(kept.get("/").expect("a new listener serves").text(), "here");
        assert_eq!(gateway.reload(&with(&["web"])), Reload::Taken);
        gateway.until_refused(more);
        match kept.get("/") {
            Ok(answer) => {
                assert_eq!(answer.get("connection"), Some("close"), "its connections end with an answer")
            }
            Err(fault) => assert!(matches!(fault, Fault::Closed | Fault::Reset), "{fault:?}"),
        }
        assert_eq!(gateway.get("/").text(), "here");
    }
}

#[test]
fn counters_and_pools_outlive_a_reload() {
    let origin = Backend::serve(|_, conn| drop(conn.write(&backend::ok(b"x"))));
    let config = |route: &str| {
        format!(
            "workers = 1\n[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nname = \"{route}\"\nto = \"main\"\n"
        )
    };
    let mut gateway = Gateway::start(&config("kept"), &[("origin", origin.address)]);
    for round in 1..=10 {
        let mut client = gateway.client();
        client.get("/").expect("an answer");
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("tidegate_requests_total", &[("route", "kept")]), f64::from(round));
        assert_eq!(gateway.reload(&config("kept")), Reload::Taken);
    }
    assert_eq!(origin.connections(), 1, "the pooled connection stays through reloads");
    assert_eq!(gateway.reload(&config("renamed")), Reload::Taken);
    gateway.client().get("/").expect("an answer");
    let metrics = gateway.metrics();
    assert_eq!(
        metrics.sum("tidegate_requests_total", &[("route", "kept")]),
        10.0,
        "what was counted stays counted"
    );
    assert_eq!(metrics.sum("tidegate_requests_total", &[("route", "renamed")]), 1.0);
}
