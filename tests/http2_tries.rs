//! What a try at an HTTP/2 endpoint leaves behind does not mislead the next one, whatever that goes over; and a call lives as long
//! as either end has something to say.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use harness::http2::{self, END_STREAM, HEADERS, Http2, RST_STREAM, Raw, frame, headers};
use harness::http2_server::{self as server, Http2Backend};
use harness::process::Directory;
use harness::tls::Certificate;
use harness::tls_front::{Manner, TlsFront};
use harness::{Backend, Gateway, PATIENCE, eventually};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

const TOP: &str = "workers = 1\n";
const H2: &str = "protocol = \"h2\"";
const REFUSED_STREAM: u32 = 7;

/// Refuses every request at its head.
fn refusing(settings: &'static [u8]) -> Backend {
    Backend::start(move |conn| {
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), settings);
        while let Some(asked) = raw.frame() {
            if asked.kind == HEADERS {
                raw.send(&frame(RST_STREAM, 0, asked.stream, &REFUSED_STREAM.to_be_bytes()));
            }
        }
    })
}

#[test]
fn a_length_is_there_again_over_http1() {
    let directory = Directory::new();
    let certificate = Certificate::new(&["localhost"]);
    let (roots, _) = certificate.write(&directory, "roots");
    let new = refusing(&[]);
    let old = Backend::serve(|request, conn| {
        let _ = conn.write(&harness::backend::answer("200 OK", "", &request.body));
    });
    let front = |behind, alpn| TlsFront::start(behind, &Manner { alpn, ..Manner::of(&certificate) });
    let (h2, http1) = (front(new.address, &[b"h2"]), front(old.address, &[b"http/1.1"]));
    let service = format!(
        "protocol = \"auto\"\ntls = {{ roots = \"{}\", server_name = \"localhost\" }}",
        roots.display()
    );
    let gateway = Gateway::before_with(&[h2.address, http1.address], TOP, &service);
    let mut client = gateway.client();
    let body = b"\0\0\0\0\x20GET /x HTTP/1.1\r\nhost: b.test\r\n\r\n";
    for _ in 0..10 {
        let head = format!(
            "POST /s.S/M HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc-web+proto\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let answer = client.request("POST", &[head.as_bytes(), body].concat()).unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &body[..]));
    }
    assert!(gateway.metrics().sum("tidegate_retries_total", &[]) >= 1.0);
    assert_eq!(old.requests(), 10, "none came out of a body");
}

#[test]
fn a_chunk_that_has_begun_is_not_begun_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let endpoint = || {
        let asked = asked.clone();
        Backend::start(move |conn| {
            let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &[]);
            while let Some(seen) = raw.frame() {
                if seen.kind == HEADERS && asked.fetch_add(1, SeqCst) == 0 {
                    raw.send(&frame(RST_STREAM, 0, seen.stream, &REFUSED_STREAM.to_be_bytes()));
                } else if seen.ends_stream() {
                    raw.send(&headers(seen.stream, END_STREAM, &[(":status", "200")]));
                }
            }
        })
    };
    let (one, two) = (endpoint(), endpoint());
    let gateway = Gateway::before_with(&[one.address, two.address], TOP, H2);
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\n");
    eventually("it is refused, or tried again", || {
        (client.answered() || asked.load(SeqCst) > 1).then_some(())
    });
    // What the chunk holds looks like the end of a body.
    client.send_all(b"0\r\n\r\n\r\n0\r\n\r\n");
    let answer = String::from_utf8(client.read_to_close().unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("upstream_refused"), "{answer}");
    assert_eq!(asked.load(SeqCst), 1, "half of a body goes nowhere");
}

#[test]
fn what_a_try_has_taken_the_client_may_send_again() {
    // SETTINGS_INITIAL_WINDOW_SIZE of nothing: all that is taken waits when the stream is refused.
    let stalled = refusing(&[0, 4, 0, 0, 0, 0]);
    let good = Http2Backend::echo();
    let gateway = Gateway::before_with(&[stalled.address, good.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    for round in 0..20 {
        let body = vec![round; 200_000];
        let answer = client.post("/", &body).unwrap();
        assert!(answer.status == 503 || answer.body == body, "round {round}: {}", answer.status);
    }
}

#[test]
fn a_request_with_a_body_keeps_its_method() {
    let origin = Http2Backend::serve(|request, respond| async move {
        let said = request.method().to_string();
        let (body, _) = server::body_of(&mut request.into_body()).await?;
        server::answer(respond, Response::new(()), format!("{said} {}", body.len()).as_bytes())
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let mut client = gateway.client();
    for _ in 0..3 {
        let asked = b"POST / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: other\r\n\
                      content-length: 3\r\n\r\nabc";
        let answer = client.request("POST", asked).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "POST 3".into()));
    }
}

#[test]
fn pages_are_no_messages() {
    let page = "<html><body>away</body></html>";
    let origin = Http2Backend::serve(move |_, respond| async move {
        let head = Response::builder().status(503).header("content-type", "text/html");
        server::answer(respond, head.body(()).unwrap(), page.as_bytes())
    });
    let gateway =
        Gateway::before_with(&[origin.address], "workers = 1\nlimits.response_message = \"1KiB\"\n", H2);
    let client = Http2::connect(gateway.web());
    let cases: [(&str, &[u8]); 3] = [
        ("application/grpc", b"\0\0\0\0\0"),
        ("application/grpc-web", b"\0\0\0\0\0"),
        ("application/grpc-web-text", b"AAAAAAA="),
    ];
    for (kind, call) in cases {
        let request = Request::post("http://a.test/s.S/M").header("content-type", kind).body(()).unwrap();
        let answer = client.exchange(request, Some(call), None).unwrap();
        assert_eq!((answer.status, &answer.fields["content-type"]), (503, &"text/html".parse().unwrap()));
        assert_eq!(String::from_utf8_lossy(&answer.body), page, "{kind}");
    }
}

#[test]
fn a_connection_that_dies_young_says_nothing_of_tunnels() {
    let closing = Backend::start(|conn| conn.close());
    let taking = Backend::start(|conn| {
        let enable = [0, 8, 0, 0, 0, 1];
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &enable);
        while let Some(asked) = raw.frame() {
            if asked.kind == HEADERS {
                raw.send(&headers(asked.stream, 0, &[(":status", "200")]));
            }
        }
    });
    let gateway = Gateway::before_with(&[closing.address, taking.address], TOP, H2);
    for _ in 0..6 {
        let mut client = gateway.client();
        client.send_all(
            b"GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let begin = client.read_some(12).unwrap();
        assert_eq!(String::from_utf8_lossy(&begin), "HTTP/1.1 101");
    }
}

/// Answers each message with itself, and sends five of its own, 100 ms apart, after the first.
fn talkative() -> Http2Backend {
    Http2Backend::serve(|request, mut respond| async move {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(head, false)?;
        let mut body = request.into_body();
        let mut is_first = true;
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            stream.send_data(piece, false)?;
            if std::mem::take(&mut is_first) {
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false)?;
                }
            }
        }
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        stream.send_trailers(HeaderMap::from_iter([status]))
    })
}

/// Sends this; the trailers' status, after as many bytes as the endpoint is to say before anything more is sent.
fn chat(gateway: &Gateway, first: &'static [u8], heard_first: usize, then: Option<&'static [u8]>) -> String {
    let client = Http2::connect(gateway.web());
    let mut send = client.send.clone();
    client.runtime.block_on(async {
        let request = Request::post("http://a.test/s.S/Chat").header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(()).unwrap();
        let (response, mut up) = send.send_request(request, false).unwrap();
        up.send_data(Bytes::from_static(first), false).unwrap();
        let mut down = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
        let mut heard = 0;
        while heard < heard_first {
            heard += tokio::time::timeout(PATIENCE, down.data()).await.unwrap().unwrap().unwrap().len();
        }
        if let Some(then) = then {
            up.send_data(Bytes::from_static(then), true).unwrap();
        }
        while let Some(piece) = tokio::time::timeout(PATIENCE, down.data()).await.unwrap() {
            piece.unwrap();
        }
        let trailers = down.trailers().await.unwrap().unwrap();
        trailers["grpc-status"].to_str().unwrap().to_owned()
    })
}

#[test]
fn a_call_lives_while_either_end_talks() {
    const MESSAGE: &[u8] = b"\0\0\0\0\x02hi";
    let origin = talkative();
    let top = "workers = 1\ntimeouts.body = \"200ms\"\n";
    let gateway = Gateway::before_with(&[origin.address], top, H2);
    // The endpoint alone talks for longer than a body may be silent.
    assert_eq!(chat(&gateway, MESSAGE, 7 + 5 * 5, Some(MESSAGE)), "0");
    // In the middle of a message that is the client's own bound.
    const DEADLINE_EXCEEDED: &str = "4";
    assert_eq!(chat(&gateway, &MESSAGE[..6], 0, None), DEADLINE_EXCEEDED);
    // Both are silent.
    let top = "workers = 1\ntimeouts.upstream_idle = \"1s\"\n";
    let gateway = Gateway::before_with(&[origin.address], top, H2);
    assert_eq!(chat(&gateway, MESSAGE, 7 + 5 * 5, None), DEADLINE_EXCEEDED);
}

#[test]
fn a_stream_that_is_done_keeps_nobody_waiting() {
    // The connection's window of the endpoint, opened as it is read; the answers begin before the bodies have ended, and end early.
    let origin = Http2Backend::serve(|request, respond| async move {
        if request.uri().path() == "/early" {
            // Drops the body: RST_STREAM with NO_ERROR.
            return server::answer(respond, Response::new(()), b"early");
        }
        let (body, _) = server::body_of(&mut request.into_body()).await?;
        server::answer(respond, Response::new(()), &body)
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    let send = client.send.clone();
    client.runtime.block_on(async {
        for round in 0..10usize {
            let asked: Vec<_> = (0..30usize)
                .map(|at| {
                    let path = if at % 3 == 0 { "/early" } else { "/" };
                    let request = Request::post(format!("http://a.test{path}")).body(()).unwrap();
                    let body = vec![at as u8; 30_000 + 997 * (round + at)];
                    let asked = http2::exchange(send.clone(), request, Some(body.clone().into()), None);
                    (path, body, tokio::spawn(asked))
                })
                .collect();
            for (path, body, asked) in asked {
                let answer = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time").unwrap();
                if path == "/" {
                    assert!(answer.unwrap().body == body);
                }
            }
        }
    });
}
