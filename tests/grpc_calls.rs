//! A gRPC call gets what gRPC promises: its deadline reaches the endpoint, shortened by the route's; whatever goes wrong is a
//! status; what is unavailable is asked for elsewhere; messages are bounded one by one. The `h2` crate speaks at both ends here,
//! grpcio in `scripts/proof grpc`.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::http2::{self, Answer, Http2, Raw, frame, headers};
use harness::http2_server::{self as server, Http2Backend, body_of};
use harness::process::dead_address;
use harness::{Backend, Gateway, PATIENCE, until};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

const TOP: &str = "workers = 1\n";
const H2: &str = "protocol = \"h2\"";

fn call(path: &str) -> http::request::Builder {
    Request::post(format!("http://a.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

fn message(length: usize) -> Vec<u8> {
    [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat()
}

fn status_trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))])
}

/// How the call ended, and whether that was all of the answer.
fn status(answer: &Answer) -> (u8, bool) {
    assert_eq!(answer.status, 200);
    let (fields, is_bare) = match &answer.trailers {
        Some(trailers) => (trailers, false),
        None => (&answer.fields, true),
    };
    assert_eq!(answer.fields["content-type"], "application/grpc");
    (fields["grpc-status"].to_str().unwrap().parse().unwrap(), is_bare)
}

fn ask(client: &Http2, request: http::request::Builder, body: &[u8]) -> Answer {
    client.exchange(request.body(()).unwrap(), Some(body), None).unwrap()
}

/// One unary answer.
fn answer(mut respond: h2::server::SendResponse<Bytes>, message: Vec<u8>) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(message.into(), false)?;
    stream.send_trailers(status_trailers("0"))
}

/// An answer that is nothing but a status.
fn bare(mut respond: h2::server::SendResponse<Bytes>, status: &str) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
    respond.send_response(head.body(()).unwrap(), true).map(drop)
}

/// Answers with the message.
fn echo() -> Http2Backend {
    Http2Backend::serve(|request, respond| async move {
        let (body, _) = body_of(&mut request.into_body()).await?;
        answer(respond, body)
    })
}

#[test]
fn calls_pass_with_their_trailers() {
    let origin = Http2Backend::serve(|request, respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        match request.uri().path() {
            "/s.S/Bare" => bare(respond, "7"),
            _ => answer(respond, body_of(&mut request.into_body()).await?.0),
        }
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    for length in [0, 1, 100, 16_384, 65_536, 1_000_000] {
        let answer = ask(&client, call("/s.S/Echo"), &message(length));
        assert_eq!((status(&answer), answer.body == message(length)), ((0, false), true), "{length}");
    }
    let answer = ask(&client, call("/s.S/Bare"), &message(0));
    assert_eq!(status(&answer), (7, true), "one frame with the status, and the end");
    assert!(!answer.fields.contains_key("content-length"));
}

/// Each message is answered before the next one is sent, so nothing is held back in either direction.
#[test]
fn both_directions_flow_at_once() {
    let origin = Http2Backend::serve(|request, mut respond| async move {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(head, false)?;
        let mut body = request.into_body();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            stream.send_data(piece, false)?;
        }
        stream.send_trailers(status_trailers("0"))
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    let mut send = client.send.clone();
    client.runtime.block_on(async {
        let (response, mut up) = send.send_request(call("/s.S/Chat").body(()).unwrap(), false).unwrap();
        // The head comes before any message.
        let mut down = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
        for round in 0..100 {
            up.send_data(message(round).into(), false).unwrap();
            let mut heard = Vec::new();
            while heard.len() < message(round).len() {
                let piece = tokio::time::timeout(PATIENCE, down.data()).await.unwrap().unwrap().unwrap();
                down.flow_control().release_capacity(piece.len()).unwrap();
                heard.extend_from_slice(&piece);
            }
            assert_eq!(heard, message(round));
        }
        up.send_data(Bytes::new(), true).unwrap();
        assert!(down.data().await.is_none());
        assert_eq!(down.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn errors_of_ours_are_statuses() {
    let silent = Http2Backend::serve(|_, respond| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(respond);
        Ok(())
    });
    // Not before it has all of a message: an answer that came sooner would be the call's.
    let big = Http2Backend::serve(|request, respond| async move {
        body_of(&mut request.into_body()).await?;
        answer(respond, message(2_000))
    });
    let gateway = Gateway::start(
        "workers = 1\n[listen.web]\naddress = \"@web@\"\n\
         [service.dead]\nprotocol = \"h2\"\nendpoints = [\"@dead@\"]\n\
         [service.silent]\nprotocol = \"h2\"\nendpoints = [\"@silent@\"]\n\
         [service.big]\nprotocol = \"h2\"\nendpoints = [\"@big@\"]\n\
         [[route]]\nmatch.path = \"/dead/**\"\nto = \"dead\"\n\
         [[route]]\nmatch.path = \"/silent/**\"\nto = \"silent\"\ntimeout = \"100ms\"\n\
         [[route]]\nmatch.path = \"/first/**\"\nto = \"silent\"\nfirst_byte_timeout = \"100ms\"\n\
         [[route]]\nmatch.path = \"/large/**\"\nto = \"big\"\nbody_limit = \"1KiB\"\n\
         [[route]]\nmatch.path = \"/big/**\"\nto = \"big\"\nresponse_message_limit = \"1KiB\"\n",
        &[("dead", dead_address()), ("silent", silent.address), ("big", big.address)],
    );
    let client = Http2::connect(gateway.web());
    for (path, length, expected) in [
        ("/unknown/M", 0, (5, true)),
        ("/dead/M", 0, (14, true)),
        ("/silent/M", 0, (4, true)),
        ("/first/M", 0, (4, true)),
        ("/large/M", 1_025, (8, true)),
        ("/large/M", 100_000, (8, true)),
    ] {
        let answer = ask(&client, call(path), &message(length));
        assert_eq!((status(&answer), answer.body.len()), (expected, 0), "{path}");
        assert!(
            answer.fields.contains_key("grpc-message") && answer.fields.contains_key("x-request-id"),
            "{path}"
        );
    }
    assert_eq!(status(&ask(&client, call("/large/M"), &message(1_024))).0, 0);
    // Told once the head has gone, behind whatever went before.
    let answer = ask(&client, call("/big/M"), &message(0));
    assert_eq!(status(&answer).0, 8);
    let malformed = ask(&client, call("/dead/M").header("grpc-timeout", "1 day"), &message(0));
    assert_eq!(status(&malformed), (3, true));
    // Nobody else is spoken to like this.
    assert_eq!(client.post("/unknown/M", b"").unwrap().status, 404);
    until("they are logged by what they are", || {
        gateway.access_log().iter().any(|line| line["error"] == "message_too_large")
    });
}

#[test]
fn deadlines_are_told_and_kept() {
    let origin = Http2Backend::serve(|request, respond| async move {
        let told =
            request.headers().get("grpc-timeout").map_or("none", |told| told.to_str().unwrap()).to_owned();
        if request.uri().path().ends_with("/Wait") {
            tokio::time::sleep(PATIENCE).await;
        }
        answer(respond, told.into_bytes())
    });
    let gateway = Gateway::start(
        "workers = 1\n[listen.web]\naddress = \"@web@\"\n\
         [service.main]\nprotocol = \"h2\"\nendpoints = [\"@origin@\"]\n\
         [[route]]\nmatch.path = \"/bound/**\"\nto = \"main\"\ntimeout = \"10s\"\n\
         [[route]]\nto = \"main\"\n",
        &[("origin", origin.address)],
    );
    let client = Http2::connect(gateway.web());
    let told = |path: &str, asked: Option<&str>| {
        let request =
            asked.into_iter().fold(call(path), |request, asked| request.header("grpc-timeout", asked));
        String::from_utf8(ask(&client, request, &message(0)).body).unwrap()
    };
    let micros = |text: String| text.strip_suffix('u').expect("microseconds").parse::<u64>().unwrap();
    assert_eq!(told("/free/M", None), "none");
    assert!((1..=10_000_000).contains(&micros(told("/bound/M", None))));
    assert!((10_000_001..=20_000_000).contains(&micros(told("/free/M", Some("20S")))));
    assert!((1..=10_000_000).contains(&micros(told("/bound/M", Some("20S")))));
    assert!((1..=2_000_000).contains(&micros(told("/bound/M", Some("2S")))));

    let began = Instant::now();
    let answer = ask(&client, call("/free/Wait").header("grpc-timeout", "200m"), &message(0));
    assert_eq!(status(&answer), (4, true));
    assert!(began.elapsed() >= Duration::from_millis(200));
    // Its end is the endpoint's end, too; and the connection is as good as before.
    assert_eq!(told("/free/M", None), "none");
}

#[test]
fn an_answer_that_breaks_off_ends_with_a_status() {
    const INTERNAL: u32 = 2;
    const LENGTH: usize = 40_000;
    let origin = Backend::start(|conn| {
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &[]);
        while let Some(asked) = raw.frame() {
            if asked.kind != http2::HEADERS {
                continue;
            }
            let fields = [(":status", "200"), ("content-type", "application/grpc")];
            raw.send(&headers(asked.stream, 0, &fields));
            for piece in message(LENGTH).chunks(16_384) {
                raw.send(&frame(http2::DATA, 0, asked.stream, piece));
            }
            // The stream's window is opened as the client takes them.
            while raw.until(http2::WINDOW_UPDATE).stream != asked.stream {}
            if asked.stream > 1 {
                return;
            }
            raw.send(&frame(http2::RST_STREAM, 0, asked.stream, &INTERNAL.to_be_bytes()));
        }
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let client = Http2::connect(gateway.web());
    for expected in [13, 14] {
        let answer = ask(&client, call("/s.S/M"), &message(0));
        assert_eq!((status(&answer), answer.body), ((expected, false), message(LENGTH)));
    }
}

#[test]
fn what_is_unavailable_is_asked_for_elsewhere() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let sick = Http2Backend::serve(move |request, respond| {
        counted.fetch_add(1, SeqCst);
        async move {
            // It has read the request, and has nothing for it.
            body_of(&mut request.into_body()).await?;
            bare(respond, "14")
        }
    });
    let well = echo();
    let service = format!("{H2}\noutlier.failures = \"off\"");
    let gateway = Gateway::before_with(&[sick.address, well.address], TOP, &service);
    let client = Http2::connect(gateway.web());
    for length in [0, 100, 40_000] {
        for _ in 0..10 {
            let answer = ask(&client, call("/s.S/Echo"), &message(length));
            assert_eq!((status(&answer), answer.body == message(length)), ((0, false), true), "{length}");
        }
    }
    let tried = asked.load(SeqCst);
    assert!(tried >= 10, "{tried}");
    // A message that comes behind its head has been taken from the client by the first try.
    let mut send = client.send.clone();
    client.runtime.block_on(async {
        for _ in 0..4 {
            let (response, mut up) = send.send_request(call("/s.S/Echo").body(()).unwrap(), false).unwrap();
            for piece in message(30_000).chunks(7_000) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                up.send_data(Bytes::copy_from_slice(piece), false).unwrap();
            }
            up.send_data(Bytes::new(), true).unwrap();
            let mut down = response.await.unwrap().into_body();
            let (body, trailers) = body_of(&mut down).await.unwrap();
            assert_eq!(
                (body == message(30_000), &trailers.unwrap()["grpc-status"]),
                (true, &HeaderValue::from_static("0"))
            );
        }
    });
    assert!(asked.load(SeqCst) > tried);
    // Nobody else is there, or it is not wanted: the answer is what it is.
    let gateway = Gateway::before_with(&[sick.address], TOP, H2);
    assert_eq!(status(&ask(&Http2::connect(gateway.web()), call("/s.S/Echo"), &message(1))), (14, true));
    let service = format!("{H2}\nretry.on_unavailable = false");
    let gateway = Gateway::before_with(&[sick.address, well.address], TOP, &service);
    let client = Http2::connect(gateway.web());
    let statuses: Vec<_> = (0..4).map(|_| status(&ask(&client, call("/s.S/Echo"), &message(1))).0).collect();
    assert!(statuses.contains(&14) && statuses.contains(&0), "{statuses:?}");
}

/// A stream of messages is as long as it likes, if each of them is no larger than allowed.
#[test]
fn messages_are_bounded_one_by_one() {
    let origin = Http2Backend::serve(server::echo_call);
    let gateway = Gateway::before_with(
        &[origin.address],
        "workers = 1\nlimits.body = \"10KiB\"\nlimits.response_message = \"10KiB\"\n",
        H2,
    );
    let client = Http2::connect(gateway.web());
    let stream: Vec<u8> = (0..100).flat_map(|_| message(10 * 1024)).collect();
    let answer = ask(&client, call("/s.S/Chat"), &stream);
    assert_eq!((status(&answer).0, answer.body == stream), (0, true));
    let answer = ask(&client, call("/s.S/Chat"), &[&stream[..], &message(10 * 1024 + 1)].concat());
    assert_eq!(status(&answer).0, 8);
}

/// What a call's trailers say counts: the breaker opens for statuses that say that a server is not well, and for none that
/// a client can have by what it sends.
#[test]
fn calls_that_fail_at_their_end_open_the_breaker() {
    let origin = Http2Backend::serve(|request, respond| async move {
        let status = request.uri().path().rsplit('/').next().unwrap().to_owned();
        body_of(&mut request.into_body()).await?;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = { respond }.send_response(head, false)?;
        stream.send_data(message(3).into(), false)?;
        stream.send_trailers(HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_str(&status).unwrap(),
        )]))
    });
    let service =
        "protocol = \"h2\"\nbreaker = { window = \"1m\", requests = 10 }\noutlier = { failures = \"off\" }\n";
    for (status, is_bad) in [
        (0, false),
        (3, false),
        (4, false),
        (5, false),
        (8, false),
        (2, false),
        (13, false),
        (14, true),
        (15, true),
    ] {
        let gateway = Gateway::before_with(&[origin.address], TOP, service);
        let client = Http2::connect(gateway.web());
        let seen: Vec<u8> = (0..30)
            .map(|_| self::status(&ask(&client, call(&format!("/s.S/{status}")), &message(0))).0)
            .collect();
        let metrics = gateway.metrics();
        let rejected = metrics.sum("tidegate_request_errors_total", &[("kind", "breaker_open")]);
        match is_bad {
            false => {
                assert!(seen.iter().all(|found| *found == status) && rejected == 0.0, "{status}: {seen:?}")
            }
            true => assert!(
                seen[..10].iter().all(|found| *found == status) && rejected == 20.0,
                "{status}: {seen:?}"
            ),
        }
    }
}

/// A stream that its client ends is one that went well: probes among them close the breaker again.
#[test]
fn streams_that_clients_end_close_the_breaker() {
    let is_well = Arc::<std::sync::atomic::AtomicBool>::default();
    let seen = is_well.clone();
    let origin = Http2Backend::serve(move |request, mut respond| {
        let is_well = seen.load(SeqCst);
        async move {
            if !is_well {
                return bare(respond, "14");
            }
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let _stream = respond.send_response(head, false)?;
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.data().await {}
            std::future::pending().await
        }
    });
    let service = "protocol = \"h2\"\nretry = { on_unavailable = false }\nbreaker = { window = \"1s\", requests = 5 }\noutlier = { failures = \"off\" }\n";
    let gateway =
        Gateway::before_with(&[origin.address], &format!("{TOP}[admin]\naddress = \"@admin@\"\n"), service);
    let client = Http2::connect(gateway.web());
    let state = || gateway.admin_json("/services")["services"][0]["breaker"]["state"].clone();
    (0..10).for_each(|_| drop(ask(&client, call("/s.S/M"), &message(0))));
    assert_eq!(state(), "open");
    is_well.store(true, SeqCst);
    until("it passes calls again", || {
        let mut send = client.send.clone();
        client.runtime.block_on(async {
            let (response, up) = send.send_request(call("/s.S/M").body(()).unwrap(), false).unwrap();
            let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
            // It leaves.
            drop((response, up));
        });
        state() == "passing"
    });
}
