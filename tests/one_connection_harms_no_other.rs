//! What one client or upstream does stays its own affair: nobody is starved by a busy one, kept waiting by one that
//! does not read, or answered with what was meant for another; and connections that could serve again do.

mod harness;

use std::io::Write;
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Backend, Client, Gateway, PATIENCE, backend, until, within};

const FIXED: &str = "workers = 1\n[[route]]\nname = \"fixed\"\nmatch = { path = \"/fixed\" }\nrespond = { status = 200, body = \"here\" }\n\
                     [[route]]\nname = \"bounded\"\nmatch = { path = \"/bounded\" }\nto = \"main\"\ntimeout = \"500ms\"\n";

/// A gateway with one worker, a route that it answers itself, one with a whole-request timeout, and one to `backend`.
fn gateway(backend: &Backend) -> Gateway {
    let service = format!("[service.main]\nendpoints = [\"{}\"]\n", backend.address);
    let rest = "[[route]]\nname = \"all\"\nmatch = { path = \"/**\" }\nto = \"main\"\n";
    Gateway::start(
        &format!("{FIXED}{rest}")
            .replace("[[route]]\nname = \"fixed\"", &format!("{service}[[route]]\nname = \"fixed\"")),
        &[],
    )
}

#[test]
fn a_client_that_never_pauses_starves_nobody() {
    let backend = Backend::fixed("other");
    let gateway = gateway(&backend);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = |pipelined: &'static [u8]| {
        let (stop, web) = (stop.clone(), gateway.web());
        thread::spawn(move || {
            let client = Client::connect(web);
            let (mut writes, mut reads) =
                (client.raw().try_clone().unwrap(), client.raw().try_clone().unwrap());
            let reader = thread::spawn(move || std::io::copy(&mut reads, &mut std::io::sink()));
            let many = pipelined.repeat(200);
            while !stop.load(Ordering::Relaxed) && writes.write_all(&many).is_ok() {}
            let _ = writes.shutdown(std::net::Shutdown::Both);
            let _ = reader.join();
        })
    };
    let flood = busy(b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n");
    // Timers, other connections, the mailbox and accepting all go on.
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
        assert!(gateway.metrics().has("tidegate_requests_total"));
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

/// Bulk over TCP both ways, a spliced download without end and a flood of datagrams, all through one worker.
#[test]
fn bulk_transfers_and_floods_starve_nobody() {
    let bulk = Backend::start(|conn| {
        let stream = conn.stream().expect("open").try_clone().expect("a clone");
        thread::scope(|scope| {
            scope.spawn(|| std::io::copy(&mut &stream, &mut std::io::sink()));
            write_for_ever(&stream);
        });
    });
    let download = Backend::start(|conn| {
        let _ = conn.wire.read_head();
        let _ = conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2).as_bytes());
        write_for_ever(conn.stream().expect("open"));
    });
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let names =
        [("bulk", bulk.address), ("download", download.address), ("silent", silent.local_addr().unwrap())];
    let gateway = Gateway::start(
        "workers = 1\n[listen.web]\naddress = \"@web@\"\n\
         [listen.raw]\naddress = \"@raw@\"\nprotocol = \"tcp\"\nto = \"bulk\"\n\
         [listen.datagrams]\naddress = \"@datagrams@\"\nprotocol = \"udp\"\nto = \"silent\"\n\
         [service.bulk]\nendpoints = [\"@bulk@\"]\n[service.download]\nendpoints = [\"@download@\"]\n\
         [service.silent]\nendpoints = [\"@silent@\"]\n\
         [[route]]\nmatch = { path = \"/fixed\" }\nrespond = { body = \"here\" }\n[[route]]\nto = \"download\"\n",
        &names,
    );
    let raw = Client::connect(gateway.address("raw"));
    let mut downloading = gateway.client();
    downloading.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let flood = UdpSocket::bind("127.0.0.1:0").expect("a port");
    flood.connect(gateway.address("datagrams")).expect("an address");
    let stop = AtomicBool::new(false);
    let moved = || {
        let metrics = gateway.metrics();
        let count = |name: &str| metrics.sum(name, &[]);
        [
            count("tidegate_tcp_received_bytes_total"),
            count("tidegate_tcp_sent_bytes_total"),
            count("tidegate_udp_datagrams_total"),
            count("tidegate_spliced_bytes_total"),
        ]
    };
    thread::scope(|scope| {
        scope.spawn(|| write_for_ever(raw.raw()));
        scope.spawn(|| std::io::copy(&mut raw.raw(), &mut std::io::sink()));
        scope.spawn(|| std::io::copy(&mut downloading.raw(), &mut std::io::sink()));
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = flood.send(&[b'u'; 1000]);
            }
        });
        let mut before = moved();
        for _ in 0..20 {
            assert_eq!(gateway.get("/fixed").text(), "here");
            until("all of them go on, too", || moved().iter().zip(before).all(|(now, before)| *now > before));
            before = moved();
        }
        stop.store(true, Ordering::Relaxed);
        for client in [&raw, &downloading] {
            let _ = client.raw().shutdown(Shutdown::Both);
        }
    });
}

fn write_for_ever(mut to: &TcpStream) {
    let piece = vec![b'b'; 1 << 18];
    while to.write_all(&piece).is_ok() {}
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let backend = Backend::fixed("x");
    let mut gateway = gateway(&backend);
    let client = Client::connect(gateway.web());
    client.small_receive_buffer();
    let many = b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut writes = client.raw().try_clone().unwrap();
    // Long, or a gateway that the other tests leave no time is taken for one that takes no more.
    writes.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    // Writes until the gateway, which nobody reads from, takes no more.
    while writes.write_all(&many).is_ok() {}
    until("the stalled client is given up", || {
        gateway.metrics().sum("tidegate_connections_active", &[]) == 0.0
    });
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait_exit(PATIENCE).is_some());
}

#[test]
fn an_upstream_connection_serves_again_however_its_answers_are_cut() {
    let backend = Backend::serve(|request, conn| {
        let body = vec![b'x'; if request.target == "/big" { 100_000 } else { 300 }];
        let whole = backend::ok(&body);
        let head = whole.len() - body.len();
        let _ = conn.write(&whole[..head]);
        // The body in a segment of its own: it arrives after the head was read.
        thread::sleep(Duration::from_millis(5));
        let _ = conn.write(&whole[head..]);
    });
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    for round in 0..10 {
        for (path, length) in [("/split", 300), ("/big", 100_000)] {
            let answer = client.get(path).unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, length), "round {round}");
        }
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let backend = Backend::fixed("never asked");
    let gateway = gateway(&backend);
    for _ in 0..5 {
        let mut client = gateway.client();
        let length = 40 * 1024 * 1024;
        client.send_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        let mut writes = client.raw().try_clone().unwrap();
        let sender = thread::spawn(move || writes.write_all(&vec![b'x'; length]));
        assert_eq!(client.wire.read_response("POST").expect("the refusal arrives").status, 413);
        let _ = sender.join();
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_body_before_an_upgrade_is_sent_once() {
    let backend = Backend::start(|conn| {
        let Ok(request) = conn.read_request() else { return };
        assert_eq!(request.body, b"HELLO");
        let _ =
            conn.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        loop {
            let bytes = std::mem::take(&mut conn.wire.buffer);
            if conn.write(&bytes).is_err() || !conn.wire.fill().unwrap_or(false) {
                return;
            }
        }
    });
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 5\r\n\r\nHELLO");
    assert_eq!(client.wire.read_response("POST").unwrap().status, 101);
    client.send_all(b"one");
    assert_eq!(client.read_some(3).unwrap(), b"one");
}

#[test]
fn h2c_is_not_smuggled_past_the_routes() {
    let backend = Backend::serve(|request, conn| {
        assert!(!request.head.has("upgrade"), "{:?}", request.head);
        let _ = conn.write(&backend::ok(b"plain"));
    });
    let gateway = gateway(&backend);
    let answer = gateway.client().get_with(
        "/",
        "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    );
    assert_eq!(answer.unwrap().status, 200);
}

#[test]
fn connect_needs_a_route_that_asks_for_it() {
    let backend = Backend::fixed("tunnel");
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    client.send_all(b"CONNECT inside.example:80 HTTP/1.1\r\nHost: inside.example:80\r\n\r\nGET /fixed HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.wire.read_response("CONNECT").unwrap().status, 405);
    // What was meant for the tunnel is not read as a request.
    assert!(client.read_to_close().unwrap().is_empty());
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_reset_is_never_passed_off_as_an_end() {
    let backend = Backend::start(|conn| {
        let _ = conn.wire.read_head();
        // No length: the end of the connection is the end of the body, and here it is a reset.
        let _ = conn.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of ");
        thread::sleep(Duration::from_millis(2));
        conn.reset();
    });
    let gateway = gateway(&backend);
    for round in 0..30 {
        let mut client = gateway.client();
        client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n");
        let mut writes = client.raw().try_clone().unwrap();
        let sender = thread::spawn(move || {
            for _ in 0..500 {
                if writes.write_all(&[b'x'; 10_000]).is_err() {
                    return;
                }
            }
        });
        if let Ok(answer) = client.wire.read_response("POST") {
            assert_ne!(answer.status, 200, "round {round}: a cut body was passed off as {}", answer.text());
        }
        drop(client);
        let _ = sender.join();
    }
}

#[test]
fn a_routes_timeout_ends_with_its_request() {
    let backend = Backend::fixed("in time");
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    assert_eq!(client.get("/bounded").unwrap().status, 200);
    // Idle for longer than the request was allowed to last: the connection is kept.
    let begun = Instant::now();
    let closed = within(Duration::from_millis(1200), || gateway_closed(&client).then_some(()));
    assert!(closed.is_none(), "closed after {:?}", begun.elapsed());
    assert_eq!(client.get("/").unwrap().status, 200);
}

/// Whether the gateway has closed the connection, without waiting.
fn gateway_closed(client: &Client) -> bool {
    let stream = client.raw();
    stream.set_nonblocking(true).unwrap();
    let closed = matches!(stream.peek(&mut [0]), Ok(0));
    stream.set_nonblocking(false).unwrap();
    closed
}

#[test]
fn a_slow_go_ahead_is_not_the_clients_fault() {
    let backend = Backend::start(|conn| {
        let Ok(head) = conn.wire.read_head() else { return };
        assert_eq!(head.get("expect"), Some("100-continue"));
        thread::sleep(Duration::from_millis(800));
        let _ = conn.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        while conn.wire.buffer.len() < 4 && conn.wire.fill().unwrap_or(false) {}
        let _ = conn.write(&backend::ok(b"taken"));
    });
    let gateway = Gateway::before_with(&[backend.address], "[timeouts]\nbody = \"300ms\"\n", "");
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.wire.read_head().unwrap().start, "HTTP/1.1 100 Continue");
    client.send_all(b"body");
    assert_eq!(client.wire.read_response("POST").unwrap().text(), "taken");
}

#[test]
fn a_long_upload_is_no_silence_of_the_upstream() {
    let backend = Backend::start(|conn| {
        let Ok(_) = conn.wire.read_head() else { return };
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        conn.wire.buffer.clear();
        let mut left = 10;
        while left > 0 && conn.wire.fill().unwrap_or(false) {
            left -= conn.wire.buffer.len();
            conn.wire.buffer.clear();
        }
        let _ = conn.write(b"done");
    });
    let gateway = Gateway::before_with(&[backend.address], "[timeouts]\nupstream_idle = \"400ms\"\n", "");
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(120));
        client.send_all(b"x");
    }
    assert_eq!(client.wire.read_response("POST").expect("the whole answer").text(), "done");
}
