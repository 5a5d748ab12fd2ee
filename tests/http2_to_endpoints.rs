//! An endpoint of HTTP/2 gives what one of HTTP/1.1 gives, to clients of either: the same answers, whatever the size, the
//! framing and the company; streams share connections, and the end of one harms nobody who may be tried again. The `h2` crate
//! is the endpoint that knows the rules, raw frames are the one that does not.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use harness::http2::{self, Http2, Raw, frame, headers};
use harness::http2_server::{self as server, Http2Backend, body_of};
use harness::process::Directory;
use harness::tls::Certificate;
use harness::tls_front::{Manner, TlsFront};
use harness::{Backend, Gateway, Random, eventually, until};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

const H2: &str = "protocol = \"h2\"";

fn before(backends: &[&Http2Backend]) -> Gateway {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    Gateway::before_with(&addresses, TOP, H2)
}

const TOP: &str = "workers = 1\n";

fn bytes(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64 + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// Says what reached it: the method, the target, the length of the body, then the fields.
async fn describe(
    request: http::Request<h2::RecvStream>,
    respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let (body, trailers) = body_of(&mut body).await?;
    let mut text = format!("{} {} {}\n", head.method, head.uri, body.len());
    for (name, value) in head.headers.iter().chain(trailers.iter().flatten()) {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    server::answer(respond, Response::new(()), text.as_bytes())
}

#[test]
fn requests_arrive_as_they_were_sent() {
    let origin = Http2Backend::serve(describe);
    let gateway = before(&[&origin]);
    let text = |answer: Vec<u8>| String::from_utf8(answer).unwrap();
    let mut http1 = gateway.client();
    let plain = http1.request(
        "GET",
        b"GET /a/%41?b=c HTTP/1.1\r\nHost: a.test\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
          Cookie: a=1; b=2;c=3\r\nKeep-Alive: 5\r\nX-Upper: Yes\r\n\r\n",
    );
    let plain = text(plain.unwrap().body);
    assert!(plain.starts_with("GET http://a.test/a/A?b=c 0\n"), "{plain}");
    for line in
        ["te: trailers\n", "x-upper: Yes\n", "cookie: a=1\ncookie: b=2;c=3\n", "x-forwarded-for: 127.0.0.1\n"]
    {
        assert!(plain.contains(line), "{line} in {plain}");
    }
    for gone in ["connection", "keep-alive", "x-hop", "\nhost:", "transfer-encoding"] {
        assert!(!plain.contains(gone), "{gone} in {plain}");
    }
    let chunked = http1.request(
        "POST",
        b"POST /c HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let chunked = text(chunked.unwrap().body);
    assert!(chunked.starts_with("POST http://a.test/c 3\n") && chunked.contains("x-sum: 7\n"), "{chunked}");
    assert!(!chunked.contains("content-length"), "{chunked}");
    let sized = text(http1.post("/s", b"12345").unwrap().body);
    assert!(sized.contains("content-length: 5\n"), "{sized}");

    let client = Http2::connect(gateway.web());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let answer = text(client.request("PUT", "/t", Some(b"abc"), Some(trailers)).unwrap().body);
    assert!(answer.starts_with("PUT http://a.test/t 3\n") && answer.contains("x-sum: 7\n"), "{answer}");
    assert_eq!(origin.connections(), 1, "they share one connection");
}

#[test]
fn bodies_are_exact_both_ways() {
    let origin = Http2Backend::echo();
    let gateway = before(&[&origin]);
    let client = Http2::connect(gateway.web());
    for length in [0, 1, 1_000, 16_383, 16_384, 16_385, 65_535, 65_536, 300_000, 3_000_000] {
        let body = bytes(length);
        let answer = client.post("/", &body).unwrap();
        assert!(answer.status == 200 && answer.body == body, "{length} bytes: {}", answer.body.len());
        let sized = http::Request::post("http://a.test/").header("content-length", length).body(()).unwrap();
        let answer = client.exchange(sized, Some(&body), None).unwrap();
        assert!(answer.status == 200 && answer.body == body, "{length} bytes, announced");
        // Each on its own: an answer that begins before the request has ended closes the connection.
        let answer = gateway.client().post("/", &body).unwrap();
        assert!(answer.status == 200 && answer.body == body, "{length} bytes over HTTP/1.1");
        let mut chunked = b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for piece in body.chunks(7_001) {
            chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let answer = gateway.client().request("POST", &chunked).unwrap();
        assert!(answer.status == 200 && answer.body == body, "{length} bytes in chunks");
    }
    assert_eq!(origin.connections(), 1);
    until("nothing is held any more", || gateway.metrics().sum("tidegate_buffer_bytes", &[]) == 0.0);
}

#[test]
fn a_hundred_streams_at_once_get_their_own() {
    let origin = Http2Backend::echo();
    let gateway = before(&[&origin]);
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
    assert_eq!(origin.connections(), 1);
}

#[test]
fn every_framing_of_an_answer_arrives_whole() {
    let origin = Http2Backend::serve(|request, mut respond| async move {
        let head = |status: u16| Response::builder().status(status).body(()).unwrap();
        let trailers =
            || HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("7"))]);
        match request.uri().path() {
            "/trailers" => {
                let mut stream = respond.send_response(head(200), false)?;
                stream.send_data(Bytes::from_static(b"abc"), false)?;
                stream.send_trailers(trailers())
            }
            "/trailers-alone" => respond.send_response(head(200), false)?.send_trailers(trailers()),
            "/none" => server::answer(respond, head(204), b""),
            "/spaces" => {
                // As grpcio sends it.
                let spaced = Response::builder().header("x-words", HeaderValue::from_static("so "));
                server::answer(respond, spaced.body(()).unwrap(), b"")
            }
            "/empty" => server::answer(respond, head(200), b""),
            "/unchanged" => server::answer(respond, head(304), b""),
            "/head" => {
                let sized = Response::builder().header("content-length", 5).body(()).unwrap();
                server::answer(respond, sized, b"")
            }
            "/pieces" => {
                let mut stream = respond.send_response(head(200), false)?;
                for piece in ["a", "bc", "def"] {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    stream.send_data(Bytes::from_static(piece.as_bytes()), false)?;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                stream.send_data(Bytes::new(), true)
            }
            _ => server::answer(respond, head(404), b"what?"),
        }
    });
    let gateway = before(&[&origin]);
    let (client, mut http1) = (Http2::connect(gateway.web()), gateway.client());
    for (path, status, body) in [
        ("/trailers", 200, "abc"),
        ("/trailers-alone", 200, ""),
        ("/none", 204, ""),
        ("/empty", 200, ""),
        ("/unchanged", 304, ""),
        ("/pieces", 200, "abcdef"),
        ("/other", 404, "what?"),
    ] {
        let (new, old) = (client.get(path).unwrap(), http1.get(path).unwrap());
        assert_eq!((new.status, old.status), (status, status), "{path}");
        assert_eq!((&*new.body, &*old.body), (body.as_bytes(), body.as_bytes()), "{path}");
        let sum = new.trailers.as_ref().map(|trailers| trailers["x-sum"].clone());
        assert_eq!(sum.is_some(), path.starts_with("/trailers"), "{path}");
    }
    for answer in [
        client.get("/spaces").unwrap().fields["x-words"].to_str().unwrap(),
        http1.get("/spaces").unwrap().get("x-words").unwrap(),
    ] {
        assert_eq!(answer, "so");
    }
    // All of them on one connection, since each was framed as it ends.
    let head = http1.request("HEAD", b"HEAD /head HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert!(head.status == 200 && head.body.is_empty() && head.get("content-length") == Some("5"));
    assert_eq!(http1.get("/empty").unwrap().get("content-length"), Some("0"));
    let head = client.request("HEAD", "/head", None, None).unwrap();
    assert_eq!((head.status, &head.fields["content-length"]), (200, &"5".parse().unwrap()));
}

/// An endpoint made of raw frames: what it sends for the first stream of each connection.
fn raw(answer: impl Fn(&mut Raw, u32) + Send + Sync + 'static) -> Backend {
    Backend::start(move |conn| {
        let stream = conn.stream().expect("a stream").try_clone().unwrap();
        let mut raw = Raw::answering(stream, &[]);
        while let Some(frame) = raw.frame() {
            if frame.kind == http2::HEADERS {
                answer(&mut raw, frame.stream);
            }
        }
    })
}

fn ok(stream: u32, flags: u8) -> Vec<u8> {
    headers(stream, flags, &[(":status", "200")])
}

#[test]
fn answers_that_break_the_rules_are_refused_and_harm_nobody_else() {
    let end = http2::END_STREAM;
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("no :status", vec![("x", "y")]),
        (":status twice", vec![(":status", "200"), (":status", "200")]),
        (":status behind others", vec![("x", "y"), (":status", "200")]),
        (":status of two digits", vec![(":status", "20")]),
        (":status beyond 599", vec![(":status", "600")]),
        ("101", vec![(":status", "101")]),
        ("100 as the end", vec![(":status", "100")]),
        (":path in a response", vec![(":status", "200"), (":path", "/")]),
        ("connection", vec![(":status", "200"), ("connection", "close")]),
        ("transfer-encoding", vec![(":status", "200"), ("transfer-encoding", "chunked")]),
        ("an upper-case name", vec![(":status", "200"), ("X-A", "1")]),
        ("CR LF in a value", vec![(":status", "200"), ("x-a", "1\r\nx-b: 2")]),
        ("NUL in a value", vec![(":status", "200"), ("x-a", "1\0")]),
        ("LF in a name", vec![(":status", "200"), ("x\na", "1")]),
        ("content-length twice", vec![(":status", "200"), ("content-length", "0"), ("content-length", "0")]),
        ("content that is missing", vec![(":status", "200"), ("content-length", "3")]),
    ];
    let count = cases.len();
    let heads: Vec<Vec<(String, String)>> = cases
        .iter()
        .map(|(_, fields)| fields.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect())
        .collect();
    let asked = AtomicUsize::new(0);
    let origin = raw(move |raw, stream| {
        let case = asked.fetch_add(1, SeqCst) / 2;
        let text = |fields: &[(String, String)]| {
            let fields: Vec<_> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            headers(stream, end, &fields)
        };
        match heads.get(case) {
            Some(fields) => raw.send(&text(fields)),
            None => raw.send(&ok(stream, end)),
        }
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    for (name, _) in &cases {
        let (new, old) = (client.get("/").unwrap(), gateway.get("/"));
        assert_eq!((new.status, old.status), (502, 502), "{name}");
        assert!(String::from_utf8_lossy(&new.body).contains("bad_response"), "{name}");
    }
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(origin.connections(), 1, "{count} of them on one connection");
}

/// Behind the head it is too late for an answer of ours.
#[test]
fn an_answer_that_breaks_off_is_seen_to() {
    use http2::{DATA, END_STREAM, RST_STREAM};
    let (go, gone) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let waits = go.clone();
    let origin = raw(move |raw, stream| {
        raw.send(&headers(stream, 0, &[(":status", "200"), ("content-length", "3")]));
        raw.send(&frame(DATA, 0, stream, b"ab"));
        let turn = gone.fetch_add(1, SeqCst);
        until("the client has it", || waits.load(SeqCst) > turn);
        raw.send(&frame(RST_STREAM, 0, stream, &2u32.to_be_bytes()));
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let mut client = Raw::connect(gateway.web());
    client.send(&http2::request(1, "GET", "/", END_STREAM));
    client.until(DATA);
    go.fetch_add(1, SeqCst);
    const INTERNAL: u32 = 2;
    assert_eq!(client.until(RST_STREAM).code(), INTERNAL);
    let mut client = gateway.client();
    client.send_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let mut answer = client.read_some(1).unwrap();
    go.fetch_add(1, SeqCst);
    answer.extend(client.read_to_close().unwrap_or_default());
    assert!(!answer.ends_with(b"abc"), "{}", harness::show(&answer));
    until("it is logged", || {
        gateway.access_log().iter().filter(|line| line["error"] == "response_truncated").count() == 2
    });
}

#[test]
fn connections_that_break_the_rules_end_with_a_word() {
    use http2::{GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE};
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        ("PUSH_PROMISE", frame(5, 4, 1, &[0, 0, 0, 2, 0x88]), 1),
        ("a stream that nobody opened", ok(77, 1), 1),
        ("a stream of a server", ok(2, 1), 1),
        ("ENABLE_PUSH", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1]), 1),
        ("a window too far", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()), 3),
        ("a PING of the wrong size", frame(PING, 0, 0, b"short"), 6),
        ("a block that is none", frame(HEADERS, 4, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 9),
        ("DATA on an idle stream", frame(0, 0, 9, b"x"), 1),
    ];
    for (name, bytes, code) in cases {
        let seen = Arc::new(AtomicUsize::new(usize::MAX));
        let note = seen.clone();
        let origin = Backend::start(move |conn| {
            let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &[]);
            raw.until(HEADERS);
            raw.send(&bytes);
            if let Some(end) = raw.rest().iter().find(|frame| frame.kind == GOAWAY) {
                note.store(end.code() as usize, SeqCst);
            }
        });
        let gateway = Gateway::before_with(&[origin.address], TOP, H2);
        let answer = gateway.client().post("/", b"x").unwrap();
        assert_eq!(answer.status, 502, "{name}");
        until(name, || seen.load(SeqCst) == code as usize);
    }
}

#[test]
fn more_streams_than_a_connection_takes_get_another_one() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let counted = arrived.clone();
    let mut builder = Builder::new();
    builder.max_concurrent_streams(10);
    let origin = Http2Backend::with("127.0.0.1:0".parse().unwrap(), &builder, move |_, respond| {
        let arrived = counted.clone();
        async move {
            arrived.fetch_add(1, SeqCst);
            // All of them have to be here at once.
            while arrived.load(SeqCst) < 35 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server::answer(respond, Response::new(()), b"ok")
        }
    });
    let gateway = before(&[&origin]);
    // The first one learns how many there may be.
    arrived.store(1_000, SeqCst);
    assert_eq!(gateway.get("/").status, 200);
    arrived.store(0, SeqCst);
    let client = Http2::connect(gateway.web());
    let send = client.send.clone();
    client.runtime.block_on(async {
        let ask = || {
            let request = http::Request::get("http://a.test/").body(()).unwrap();
            tokio::spawn(http2::exchange(send.clone(), request, None, None))
        };
        let asked: Vec<_> = (0..35).map(|_| ask()).collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap().unwrap().status, 200);
        }
    });
    assert_eq!(origin.connections(), 4);
}

/// Fails if a request that the endpoint has not looked at fails: GOAWAY says which those are.
#[test]
fn an_endpoint_that_says_goodbye_loses_no_request() {
    let origin = Http2Backend::serve(|_, respond| async move {
        tokio::time::sleep(Duration::from_millis(2)).await;
        server::answer(respond, Response::new(()), b"ok")
    });
    let gateway = before(&[&origin]);
    let client = Http2::connect(gateway.web());
    let send = client.send.clone();
    for _ in 0..20 {
        client.runtime.block_on(async {
            let ask = |_| {
                let request = http::Request::post("http://a.test/").body(()).unwrap();
                tokio::spawn(http2::exchange(send.clone(), request, Some(Bytes::from_static(b"x")), None))
            };
            let asked: Vec<_> = (0..20).map(ask).collect();
            tokio::time::sleep(Duration::from_millis(1)).await;
            origin.go_away();
            for asked in asked.into_iter().chain((0..20).map(ask)) {
                assert_eq!(asked.await.unwrap().unwrap().status, 200);
            }
        });
    }
    assert!(origin.connections() > 1);

    // Streams beyond the last one are tried again, whatever the method.
    let origin = Backend::start(|conn| {
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &[]);
        let first = raw.until(http2::HEADERS).stream;
        let last = raw.until(http2::HEADERS).stream;
        raw.send(&frame(http2::GOAWAY, 0, 0, &[first.to_be_bytes(), 0u32.to_be_bytes()].concat()));
        raw.send(&ok(first, 1));
        assert!(last > first);
        raw.rest();
    });
    let good = Http2Backend::echo();
    let gateway = Gateway::before_with(&[origin.address, good.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    let send = client.send.clone();
    client.runtime.block_on(async {
        let ask = |_| {
            let request = http::Request::post("http://a.test/").body(()).unwrap();
            tokio::spawn(http2::exchange(send.clone(), request, Some(Bytes::from_static(b"x")), None))
        };
        for asked in (0..4).map(ask).collect::<Vec<_>>() {
            assert_eq!(asked.await.unwrap().unwrap().status, 200);
        }
    });
}

#[test]
fn a_refused_stream_is_tried_elsewhere_under_the_budget() {
    let refusing = raw(|raw, stream| raw.send(&frame(http2::RST_STREAM, 0, stream, &7u32.to_be_bytes())));
    let good = Http2Backend::echo();
    let gateway = Gateway::before_with(&[refusing.address, good.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    for _ in 0..20 {
        let answer = client.post("/", b"again").unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"again"[..]));
    }
    assert!(gateway.metrics().sum("tidegate_retries_total", &[]) >= 9.0);
    // Nowhere else to go.
    let gateway = Gateway::before_with(&[refusing.address], TOP, H2);
    let answer = gateway.client().post("/", b"x").unwrap();
    assert!(answer.status == 503 && answer.text().contains("upstream_refused"), "{}", answer.text());
}

#[test]
fn whoever_leaves_has_the_stream_cancelled_at_once() {
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let origin = Backend::start(move |conn| {
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &[]);
        while let Some(frame) = raw.frame() {
            match frame.kind {
                http2::HEADERS => raw.send(&ok(frame.stream, 0)),
                http2::RST_STREAM => told.lock().unwrap().send((frame.stream, frame.code())).unwrap(),
                _ => {}
            }
        }
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    const CANCEL: u32 = 8;
    let mut raw = Raw::connect(gateway.web());
    raw.send(&http2::request(1, "GET", "/", http2::END_STREAM));
    raw.until(http2::HEADERS);
    raw.send(&frame(http2::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    assert_eq!(heard.recv_timeout(harness::PATIENCE).unwrap(), (1, CANCEL));
    let mut client = gateway.client();
    client.send_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    client.read_some(1).unwrap();
    drop(client);
    assert_eq!(heard.recv_timeout(harness::PATIENCE).unwrap(), (3, CANCEL));
    assert_eq!(origin.connections(), 1);
}

/// What a client does not take is held within the stream's window, and harms no other stream of the connection.
#[test]
fn a_client_that_does_not_read_holds_up_its_own_stream_alone() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let origin = Http2Backend::serve(move |request, mut respond| {
        let sent = counted.clone();
        async move {
            if request.uri().path() != "/endless" {
                return server::answer(respond, Response::new(()), b"ok");
            }
            let mut stream = respond.send_response(Response::new(()), false)?;
            loop {
                stream.reserve_capacity(16_384);
                let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
                let Some(Ok(room)) = room else { return Ok(()) };
                stream.send_data(Bytes::from(vec![7; room]), false)?;
                sent.fetch_add(room, SeqCst);
            }
        }
    });
    let gateway = before(&[&origin]);
    let mut raw = Raw::connect(gateway.web());
    raw.send(&http2::request(1, "GET", "/endless", http2::END_STREAM));
    raw.until(http2::DATA);
    let mut slow = gateway.client();
    slow.small_receive_buffer();
    slow.send_all(b"GET /endless HTTP/1.1\r\nhost: a.test\r\n\r\n");
    slow.read_some(1).unwrap();
    let mut before = 0;
    eventually("the endpoint is held up", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = sent.load(SeqCst);
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(gateway.get("/").body, b"ok");
    }
    assert_eq!(origin.connections(), 1);
    assert!(gateway.metrics().sum("tidegate_buffer_bytes", &[]) <= 512.0 * 1024.0);
}

#[test]
fn what_is_spoken_is_agreed_on() {
    let directory = Directory::new();
    let certificate = Certificate::new(&["localhost"]);
    let (roots, _) = certificate.write(&directory, "roots");
    let tls = format!("tls = {{ roots = \"{}\", server_name = \"localhost\" }}", roots.display());
    let (new, old) = (Http2Backend::echo(), Backend::fixed("old"));
    let front = |behind, alpn| TlsFront::start(behind, &Manner { alpn, ..Manner::of(&certificate) });
    let h2 = front(new.address, &[b"h2", b"http/1.1"]);
    let http1 = front(old.address, &[b"http/1.1"]);
    let ask = |address, protocol: &str| {
        let gateway = Gateway::before_with(&[address], TOP, &format!("protocol = \"{protocol}\"\n{tls}"));
        let mut client = gateway.client();
        for _ in 0..3 {
            let answer = client.post("/", b"new").unwrap();
            if answer.status != 200 {
                return answer.status.to_string();
            }
            assert!(answer.text() == "new" || answer.text() == "old");
        }
        client.post("/", b"new").unwrap().text()
    };
    assert_eq!(ask(h2.address, "h2"), "new");
    assert_eq!(ask(h2.address, "auto"), "new");
    assert_eq!(ask(http1.address, "auto"), "old");
    assert_eq!(ask(http1.address, "h2"), "502");
    assert_eq!(new.connections(), 2);
}

#[test]
fn connections_end_when_nobody_needs_them() {
    let (first, second) = (Http2Backend::echo(), Http2Backend::echo());
    let config = |address| {
        format!(
            "workers = 1\n[listen.web]\naddress = \"@web@\"\n[service.main]\nprotocol = \"h2\"\n\
             endpoints = [\"{address}\"]\n[[route]]\nto = \"main\"\n"
        )
    };
    let mut gateway = Gateway::start(&config(first.address), &[]);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(first.open_connections(), 1);
    gateway.reload(&config(second.address));
    assert_eq!(gateway.get("/").status, 200);
    until("a connection to an endpoint that is gone ends", || first.open_connections() == 0);
    assert_eq!(second.open_connections(), 1);

    let gateway = Gateway::before_with(&[first.address], "workers = 1\npool.idle_timeout = \"1s\"\n", H2);
    assert_eq!(gateway.get("/").status, 200);
    until("an idle one ends", || first.open_connections() == 0);
    assert_eq!(gateway.get("/").status, 200);
}
