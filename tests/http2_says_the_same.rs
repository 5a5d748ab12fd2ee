//! A client of HTTP/2 gets what one of HTTP/1.1 gets: the same answers from the same backends, whatever the size, the framing
//! and the company; and what goes wrong on one stream stays there. The `h2` crate is the client that knows the rules.

mod harness;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use harness::http2::{self, Http2, Raw, Reason, frame, request};
use harness::process::Directory;
use harness::tls::{BOTH, Certificate, Trust};
use harness::tls_front::{Manner, TlsFront};
use harness::{Backend, Ended, Gateway, PATIENCE, Random, Setup, backend, eventually, until};
use http::HeaderMap;

fn echo() -> Backend {
    Backend::serve(|request, conn| drop(conn.write(&backend::ok(&request.body))))
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64 + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

#[test]
fn answers_are_those_of_http1() {
    let origin = Backend::describing("one");
    let gateway = Gateway::before(&[origin.address]);
    let (http2, mut http1) = (Http2::connect(gateway.web()), gateway.client());
    for path in ["/", "/a/b?c=d", "/%41/../b"] {
        let (new, old) = (http2.get(path).unwrap(), http1.get(path).unwrap());
        assert_eq!(new.status, old.status);
        assert_eq!(new.body.len(), new.fields["content-length"].to_str().unwrap().parse::<usize>().unwrap());
        // All but what is each request's own, and whom it was for.
        let alike = |text: String| {
            let is_own = |line: &&str| {
                !["x-request-id", "host", "x-forwarded-host"].iter().any(|own| line.starts_with(own))
            };
            text.lines().filter(is_own).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(alike(String::from_utf8(new.body).unwrap()), alike(old.text()));
    }
    let head = http2.request("HEAD", "/", None, None).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.fields["content-length"] != "0", "what GET would have had");
    let unknown = Gateway::start("[listen.web]\naddress = \"@web@\"\n", &[]);
    let unknown = Http2::connect(unknown.web()).get("/").unwrap();
    assert_eq!(
        (unknown.status, &unknown.fields["content-type"]),
        (404, &"application/problem+json".parse().unwrap())
    );
    until("it is logged", || gateway.access_log().iter().any(|line| line["protocol"] == "HTTP/2"));
}

#[test]
fn bodies_are_exact_both_ways() {
    let origin = echo();
    let gateway = Gateway::before(&[origin.address]);
    let client = Http2::connect(gateway.web());
    for length in [0, 1, 1_000, 16_383, 16_384, 16_385, 65_535, 65_536, 300_000, 3_000_000] {
        let body = bytes(length);
        let answer = client.post("/", &body).unwrap();
        assert!(answer.status == 200 && answer.body == body, "{length} bytes: {}", answer.body.len());
        // With a length that is known before.
        let sized = http::Request::post("http://a.test/").header("content-length", length).body(()).unwrap();
        let answer = client.exchange(sized, Some(&body), None).unwrap();
        assert!(
            answer.status == 200 && answer.body == body,
            "{length} bytes, announced: {}",
            answer.body.len()
        );
    }
    until("nothing is held any more", || gateway.metrics().sum("tidegate_buffer_bytes", &[]) == 0.0);
}

#[test]
fn a_hundred_streams_at_once_get_their_own() {
    let origin = echo();
    let gateway = Gateway::before(&[origin.address]);
    let client = Http2::connect(gateway.web());
    let mut random = Random(7);
    for _ in 0..5 {
        let sizes: Vec<usize> = (0..100).map(|_| random.below(40_000) as usize).collect();
        let send = client.send.clone();
        client.runtime.block_on(async {
            let asked: Vec<_> = sizes
                .iter()
                .map(|&size| {
                    let request = http::Request::post("http://a.test/").body(()).unwrap();
                    tokio::spawn(http2::exchange(send.clone(), request, Some(bytes(size).into()), None))
                })
                .collect();
            for (asked, size) in asked.into_iter().zip(&sizes) {
                let answer = asked.await.unwrap().unwrap();
                assert!(answer.status == 200 && answer.body == bytes(*size));
            }
        });
    }
}

/// How a backend of HTTP/1.1 frames its answer is its own affair.
#[test]
fn every_framing_of_a_backend_arrives_whole() {
    let origin = Backend::serve(|request, conn| {
        let answer = match &*request.target {
            "/chunked" => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
            }
            "/trailers" => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nkeep-alive: x\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\nx-more: 8\r\n\r\n"
            }
            "/close" => "HTTP/1.0 200 OK\r\n\r\nuntil the end",
            "/none" => "HTTP/1.1 204 No Content\r\nx-it: is\r\n\r\n",
            "/early" => {
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        };
        let _ = conn.write(answer.as_bytes());
        if request.target == "/close" {
            conn.close();
        }
    });
    let gateway = Gateway::before(&[origin.address]);
    let client = Http2::connect(gateway.web());
    let get = |path| client.get(path).unwrap();
    assert_eq!(get("/chunked").body, b"abcdefg");
    let answer = get("/trailers");
    assert!(!answer.fields.contains_key("keep-alive") && !answer.fields.contains_key("transfer-encoding"));
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(
        (answer.body, &trailers["x-sum"], &trailers["x-more"]),
        (b"abc".to_vec(), &"7".parse().unwrap(), &"8".parse().unwrap())
    );
    assert_eq!(get("/close").body, b"until the end");
    assert_eq!((get("/none").status, get("/none").fields["x-it"].to_str().unwrap()), (204, "is"));
    assert_eq!(get("/early").body, b"ok");
    assert_eq!(get("/empty").body, b"");
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "GET", "/early", http2::END_STREAM));
    let first = raw.until(http2::HEADERS);
    assert!(!first.ends_stream() && !raw.until(http2::HEADERS).ends_stream(), "103, then 200");
}

#[test]
fn trailers_of_a_request_reach_the_backend() {
    let (tell, told) = mpsc::channel();
    let origin = Backend::serve(move |request, conn| {
        tell.send((request.body.clone(), request.trailers.clone())).unwrap();
        let _ = conn.write(&backend::ok(b""));
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "12".parse().unwrap());
    Http2::connect(gateway.web()).request("POST", "/", Some(b"abc"), Some(trailers)).unwrap();
    let (body, trailers) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((body, trailers), (b"abc".to_vec(), vec![("x-sum".to_owned(), "12".to_owned())]));
}

#[test]
fn who_gives_up_is_heard_at_the_backend() {
    let (tell, told) = mpsc::channel();
    let origin = Backend::serve(move |_, conn| {
        tell.send(None).unwrap();
        tell.send(conn.wait_end(PATIENCE)).unwrap();
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "GET", "/", http2::END_STREAM));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), None);
    raw.send(&frame(http2::RST_STREAM, 0, 1, &8u32.to_be_bytes()));
    assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Some(Ended::Closed | Ended::Reset)));
    until("it is counted", || gateway.access_log().iter().any(|line| line["status"] == 499));
    raw.ping();
}

#[test]
fn an_answer_that_is_cut_resets_its_stream_alone() {
    let origin = Backend::serve(|request, conn| match &*request.target {
        "/cut" => {
            let _ = conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            conn.close();
        }
        _ => drop(conn.write(&backend::ok(b"whole"))),
    });
    let gateway = Gateway::before(&[origin.address]);
    let client = Http2::connect(gateway.web());
    for _ in 0..3 {
        assert_eq!(client.get("/cut").unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(client.get("/").unwrap().body, b"whole");
    }
}

/// One client reads nothing of one answer: the others come, little is held, and it gets the rest when it likes.
#[test]
fn a_stream_that_nobody_reads_holds_up_itself() {
    let large = bytes(4_000_000);
    let answer = large.clone();
    let origin = Backend::serve(move |request, conn| {
        let body: &[u8] = if request.target == "/large" { &answer } else { b"small" };
        let _ = conn.write(&backend::ok(body));
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut raw = Raw::connect(gateway.web());
    // The connection has room, this stream its 64 KiB.
    raw.send(&frame(http2::WINDOW_UPDATE, 0, 0, &10_000_000u32.to_be_bytes()));
    raw.send(&request(1, "GET", "/large", http2::END_STREAM));
    let mut seen = Vec::new();
    while seen.len() < 65_535 {
        seen.extend_from_slice(&raw.until(http2::DATA).payload);
    }
    for stream in [3, 5, 7] {
        raw.send(&request(stream, "GET", "/small", http2::END_STREAM));
        assert_eq!(raw.body(stream), b"small");
    }
    assert!(gateway.metrics().sum("tidegate_buffer_bytes", &[]) <= 65_536.0 + 16_384.0);
    raw.send(&frame(http2::WINDOW_UPDATE, 0, 1, &10_000_000u32.to_be_bytes()));
    seen.extend_from_slice(&raw.body(1));
    assert!(seen == large, "{} bytes", seen.len());
}

#[test]
fn an_answer_may_come_before_the_request_is_whole() {
    let origin = echo();
    let config = "[listen.web]\naddress = \"@web@\"\n[[route]]\nmatch = { path = \"/no\" }\n\
         respond = { status = 403, body = \"no\" }\n[[route]]\nto = \"main\"\nbody_limit = \"1KiB\"\n\
         [service.main]\nendpoints = [\"@origin@\"]\n";
    let gateway = Setup::new().with("origin", origin.address).start(config);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "POST", "/no", 0));
    let head = raw.until(http2::HEADERS);
    assert!(!head.ends_stream() && raw.until(http2::DATA).ends_stream());
    let reset = raw.until(http2::RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, 0), "NO_ERROR: the rest is not wanted (RFC 9113 §8.1)");
    // What was on its way is no offence.
    raw.send(&frame(http2::DATA, http2::END_STREAM, 1, b"late"));
    raw.ping();
    let client = Http2::connect(gateway.web());
    for length in [1_025, 100_000] {
        let answer = client.post("/", &bytes(length));
        match answer {
            Ok(answer) => assert_eq!(answer.status, 413),
            Err(error) => assert_eq!(error.reason(), Some(Reason::NO_ERROR)),
        }
    }
    assert_eq!(client.post("/", &bytes(1_024)).unwrap().status, 200);
}

#[test]
fn tls_agrees_on_it() {
    let origin = echo();
    let directory = Directory::new();
    let certificate = Certificate::new(&["edge.test"]);
    let (certificate_file, key) = certificate.write(&directory, "edge");
    let config = format!(
        "[listen.web]\naddress = \"@web@\"\nprotocol = \"https\"\ntls = {{ certificate = {certificate_file:?}, key = {key:?} }}\n\
         [[route]]\nto = \"main\"\n[service.main]\nendpoints = [\"@origin@\"]\n"
    );
    let gateway = Setup::new().with("origin", origin.address).start(&config);
    let trust = Trust::speaking(&[&certificate], BOTH, &[b"h2"]);
    let client = trust.connect(gateway.web(), "edge.test").unwrap();
    let mut raw = Raw::over(client.into_stream());
    for (stream, length) in [(1, 0), (3, 20_000), (5, 60_000)] {
        raw.send(&request(stream, "POST", "/", 0));
        for piece in bytes(length).chunks(16_384) {
            raw.send(&frame(http2::DATA, 0, stream, piece));
        }
        raw.send(&frame(http2::DATA, http2::END_STREAM, stream, &[]));
        assert!(raw.body(stream) == bytes(length), "{length} bytes");
    }
}

#[test]
fn a_listener_may_leave_it_out() {
    let config = "[listen.web]\naddress = \"@web@\"\nhttp2 = false\n[[route]]\nrespond = { status = 200, body = \"old\" }\n";
    let gateway = Gateway::start(config, &[]);
    let mut client = gateway.client();
    let answer = client.request("PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert_eq!(answer.status, 505);
    assert_eq!(gateway.get("/").text(), "old");
}

#[test]
fn the_preface_may_come_in_any_pieces_and_has_its_time() {
    let config = "[listen.web]\naddress = \"@web@\"\n[timeouts]\nheader = \"300ms\"\n[[route]]\nrespond = { status = 200, body = \"here\" }\n";
    let gateway = Gateway::start(config, &[]);
    let whole = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(http2::SETTINGS, 0, 0, &[])].concat();
    for piece in [1, 3, 4, 5] {
        let mut raw = Raw::connect(gateway.web());
        // As `connect` has sent one, this is another connection's.
        let stream = std::net::TcpStream::connect(gateway.web()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        for bytes in whole.chunks(piece) {
            std::io::Write::write_all(&mut &stream, bytes).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        raw.transport = Box::new(stream);
        raw.send(&request(1, "GET", "/", http2::END_STREAM));
        assert_eq!(raw.body(1), b"here");
    }
    for begun in [&b"P"[..], b"PRI ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"] {
        let mut stream = std::net::TcpStream::connect(gateway.web()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(&mut stream, begun).unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut rest).expect("an end, not a reset");
        assert!(began.elapsed() > Duration::from_millis(250), "not before its time");
    }
}

#[test]
fn an_idle_connection_ends_with_a_word() {
    let config = "[listen.web]\naddress = \"@web@\"\n[timeouts]\nidle = \"200ms\"\n[[route]]\nrespond = { status = 200, body = \"here\" }\n";
    let gateway = Gateway::start(config, &[]);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "GET", "/", http2::END_STREAM));
    assert_eq!(raw.body(1), b"here");
    let rest = raw.rest();
    let last = rest.iter().rfind(|frame| frame.kind == http2::GOAWAY).expect("GOAWAY");
    assert_eq!((last.code(), &last.payload[..4]), (0, &1u32.to_be_bytes()[..]));
}

/// What is under way at a drain is finished; what comes later is refused so that it may be tried elsewhere.
#[test]
fn a_drain_finishes_streams() {
    let (tell, told) = mpsc::channel::<()>();
    let (go, may_go) = mpsc::channel::<()>();
    let (tell, may_go) = (std::sync::Mutex::new(tell), std::sync::Mutex::new(may_go));
    let origin = Backend::serve(move |_, conn| {
        tell.lock().unwrap().send(()).unwrap();
        may_go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let _ = conn.write(&backend::ok(b"late"));
    });
    let mut gateway = Gateway::before(&[origin.address]);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "GET", "/", http2::END_STREAM));
    told.recv_timeout(PATIENCE).unwrap();
    gateway.signal(libc::SIGTERM);
    let announced = raw.until(http2::GOAWAY);
    assert_eq!((announced.code(), &announced.payload[..4]), (0, &0x7fff_ffffu32.to_be_bytes()[..]));
    let last = raw.until(http2::GOAWAY);
    assert_eq!((last.code(), &last.payload[..4]), (0, &1u32.to_be_bytes()[..]));
    go.send(()).unwrap();
    assert_eq!(raw.body(1), b"late");
    assert!(raw.rest().is_empty());
    assert!(gateway.wait_exit(PATIENCE).expect("an exit").success());
}

/// CVE-2023-44487: streams that are opened and cancelled at once. The backend sees few of them, others are served, and the
/// connection ends.
#[test]
fn rapid_reset_costs_the_one_who_tries() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let origin = Backend::serve(move |_, conn| {
        counted.fetch_add(1, SeqCst);
        let _ = conn.write(&backend::ok(b"here"));
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut raw = Raw::connect(gateway.web());
    for n in 0..10_000u32 {
        let stream = 2 * n + 1;
        let both = [
            request(stream, "GET", "/", http2::END_STREAM),
            frame(http2::RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ];
        raw.send(&both.concat());
    }
    let end = raw.rest().into_iter().rfind(|frame| frame.kind == http2::GOAWAY);
    assert!(end.is_none_or(|end| end.code() == 11), "ENHANCE_YOUR_CALM, unless a reset has overtaken it");
    assert_eq!(gateway.get("/").text(), "here");
    gateway.until_metric("tidegate_http2_errors_total", &[("code", "enhance_your_calm")], 1.0);
    let streams = gateway.metrics().sum("tidegate_http2_streams_total", &[]);
    assert!((100.0..300.0).contains(&streams), "{streams} streams were seen");
    let seen = requests.load(SeqCst);
    assert!(seen <= 200, "{seen} of 10,000 reached the backend");
    eventually("it is gone", || {
        (gateway.metrics().sum("tidegate_connections_active", &[]) <= 1.0).then_some(())
    });
}

/// A client with room for all of it says nothing more: whoever waits for the connection's socket is told when there is room.
#[test]
fn a_client_with_wide_windows_gets_all_without_a_word() {
    let large = bytes(3_000_000);
    let answer = large.clone();
    let origin = Backend::serve(move |_, conn| drop(conn.write(&backend::ok(&answer))));
    // No clock may be what wakes it.
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nwrite = \"600s\"\n", "");
    let mut raw = Raw::connect(gateway.web());
    raw.send(&frame(http2::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    raw.send(&frame(http2::WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes()));
    raw.send(&request(1, "GET", "/", http2::END_STREAM));
    let mut body = Vec::new();
    loop {
        let frame = raw.frame().expect("the stream's end");
        if frame.kind == http2::DATA {
            body.extend_from_slice(&frame.payload);
        }
        if frame.ends_stream() {
            break;
        }
    }
    assert!(body == large, "{} bytes", body.len());
}

/// What is opened and given up in one breath reaches no backend, least of all as a request with less content than it had.
#[test]
fn a_request_that_is_given_up_at_once_reaches_nobody() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let origin = Backend::serve(move |request, conn| {
        if request.method != "GET" {
            counted.fetch_add(1, SeqCst);
        }
        let _ = conn.write(&backend::ok(b"here"));
    });
    let gateway = Gateway::before(&[origin.address]);
    // So that there is a pooled connection to send it on.
    assert_eq!(gateway.get("/").text(), "here");
    for ending in [
        frame(http2::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        frame(http2::WINDOW_UPDATE, 0, 1, &[0; 4]),
        frame(http2::PING, 0, 0, &[0; 7]),
    ] {
        let mut raw = Raw::connect(gateway.web());
        raw.until(http2::SETTINGS);
        let put = [request(1, "PUT", "/", 0), frame(http2::DATA, 0, 1, b"half"), ending];
        raw.send(&put.concat());
        raw.send(&request(3, "GET", "/", http2::END_STREAM));
        let _ = std::iter::from_fn(|| raw.frame()).find(|frame| frame.ends_stream());
    }
    assert_eq!(gateway.get("/").text(), "here");
    assert_eq!(requests.load(SeqCst), 0);
}

/// Who is told the end and takes nothing of it is not waited for.
#[test]
fn last_words_are_bounded() {
    let config = "[listen.web]\naddress = \"@web@\"\n[timeouts]\nidle = \"100ms\"\nwrite = \"300ms\"\n[[route]]\nto = \"main\"\n[service.main]\nendpoints = [\"@origin@\"]\n";
    let answer = vec![b'x'; 60_000];
    let origin = Backend::serve(move |_, conn| drop(conn.write(&backend::ok(&answer))));
    let gateway = Setup::new().with("origin", origin.address).start(config);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&frame(http2::WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes()));
    // More than the kernel's buffers hold, and not one byte of it is read.
    for n in 0..200 {
        raw.send(&request(2 * n + 1, "GET", "/", http2::END_STREAM));
    }
    until("it is given up", || gateway.metrics().sum("tidegate_connections_active", &[]) == 0.0);
}

#[test]
fn endpoints_may_be_reached_through_tls() {
    let origin = echo();
    let endpoint = Certificate::new(&["models.test"]);
    let directory = Directory::new();
    let (roots, _) = endpoint.write(&directory, "endpoint");
    let front = TlsFront::start(origin.address, &Manner::of(&endpoint));
    let config = format!(
        "[listen.web]\naddress = \"@web@\"\n[[route]]\nto = \"main\"\n\
         [service.main]\nendpoints = [\"{}\"]\ntls = {{ roots = {roots:?}, server_name = \"models.test\" }}\n",
        front.address
    );
    let gateway = Gateway::start(&config, &[]);
    let client = Http2::connect(gateway.web());
    for length in [0, 20_000, 1_000_000] {
        assert!(client.post("/", &bytes(length)).unwrap().body == bytes(length), "{length} bytes");
    }
}

/// Events of a stream come one by one: the next is made when the client has seen the last.
#[test]
fn events_come_as_they_are_made() {
    let (seen, was_seen) = mpsc::channel::<()>();
    let was_seen = std::sync::Mutex::new(was_seen);
    let origin = Backend::serve(move |_, conn| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        conn.write(head).unwrap();
        for n in 0..20 {
            let event = format!("data: {n}\n\n");
            conn.write(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).unwrap();
            was_seen.lock().unwrap().recv_timeout(PATIENCE).expect("the client saw it");
        }
        let _ = conn.write(b"0\r\n\r\n");
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "GET", "/", http2::END_STREAM));
    for n in 0..20 {
        assert_eq!(raw.until(http2::DATA).payload, format!("data: {n}\n\n").as_bytes());
        seen.send(()).unwrap();
    }
    assert!(raw.body(1).is_empty());
}

#[test]
fn as_many_streams_as_the_config_allows_are_open_at_once() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Backend::serve(move |_, conn| {
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let _ = conn.write(&backend::ok(b"whole"));
    });
    let gateway = Gateway::before_with(&[origin.address], "[limits]\nhttp2_streams = 2\n", "");
    let mut raw = Raw::connect(gateway.web());
    let settings = raw.until(http2::SETTINGS);
    assert!(settings.payload.chunks(6).any(|entry| entry == [0, 3, 0, 0, 0, 2]), "{settings:?}");
    raw.send(&frame(http2::SETTINGS, http2::ACK, 0, &[]));
    (0..3).for_each(|n| raw.send(&request(2 * n + 1, "GET", "/", http2::END_STREAM)));
    let refused = raw.until(http2::RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (5, 7));
    (0..2).for_each(|_| go.send(()).unwrap());
    assert_eq!(raw.body(1), b"whole");
}

#[test]
fn a_connection_of_age_ends_and_loses_nothing() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Backend::serve(move |request, conn| {
        if request.target == "/slow" {
            wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        let _ = conn.write(&backend::ok(b"whole"));
    });
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nconnection_age = \"1s\"\n", "");
    let mut old = gateway.client();
    assert_eq!(old.get("/").unwrap().get("connection"), None);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&request(1, "GET", "/slow", http2::END_STREAM));
    // First that the end comes, then with which stream; what is under way is answered.
    let last = |frame: &http2::Frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
    let first = raw.until(http2::GOAWAY);
    assert_eq!((last(&first), first.code()), (0x7fff_ffff, 0));
    let second = raw.until(http2::GOAWAY);
    assert_eq!((last(&second), second.code()), (1, 0));
    go.send(()).unwrap();
    assert_eq!(raw.body(1), b"whole");
    assert!(raw.frame().is_none());
    let answer = old.get("/").unwrap();
    assert_eq!((&*answer.body, answer.get("connection")), (&b"whole"[..], Some("close")));
}
