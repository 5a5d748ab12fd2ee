//! Promise: well-behaved HTTP/1.1 (and 1.0) means through the gateway what it means without it: connections are kept,
//! answers come in order, bodies and trailers arrive whole, interim responses, upgrades and tunnels work, and what
//! belongs to one hop stays there. What is refused is the business of `framing_is_never_guessed`.

mod harness;

use std::collections::BTreeSet;
use std::thread;

use harness::{Backend, Client, Conn, Framing, Gateway, Response, backend, until};

#[test]
fn a_connection_is_kept_on_both_sides() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for number in 0..50 {
        let answer = client.get(&format!("/{number}")).expect("an answer");
        assert!(answer.text().contains(&format!("GET /{number}\n")), "{}", answer.text());
        assert_ne!(answer.get("connection"), Some("close"));
    }
    assert_eq!(origin.connections(), 1, "one client connection needs one upstream connection");
}

#[test]
fn connection_close_is_obeyed_and_said() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let answer = client.get_with("/", "Connection: close\r\n").expect("an answer");
    assert_eq!(answer.get("connection"), Some("close"));
    client.closes_silently().expect("a close");
}

#[test]
fn an_upstream_that_closes_does_not_close_the_client() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(&backend::answer("200 OK", "Connection: close\r\n", b"bye"));
        conn.last = true;
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for _ in 0..20 {
        let answer = client.get("/").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "bye"));
        assert_eq!(answer.get("connection"), None, "the upstream's hop is not the client's");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let mut all = Vec::new();
    for number in 0..60 {
        let host = "Host: test.example\r\n";
        let text = match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\n{host}\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\n{host}Content-Length: 4\r\n\r\nGET "),
            _ => format!(
                "PUT /{number} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ),
        };
        all.extend_from_slice(text.as_bytes());
    }
    client.send_all(&all);
    for number in 0..60 {
        let answer = client.wire.read_response("GET").expect("an answer");
        assert!(answer.text().contains(&format!(" /{number}\n")), "answer {number} is {}", answer.text());
    }
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let plain = client.request("GET", b"GET / HTTP/1.0\r\nHost: test.example\r\n\r\n").expect("an answer");
    assert_eq!(plain.status, 200);
    client.closes_silently().expect("a close");

    let mut client = gateway.client();
    let asks = b"GET / HTTP/1.0\r\nHost: test.example\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..3 {
        let kept = client.request("GET", asks).expect("an answer");
        assert_eq!(kept.get("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
    }
}

#[test]
fn http_1_0_clients_never_see_chunks() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n");
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let answer = client.request("GET", b"GET / HTTP/1.0\r\nHost: test.example\r\n\r\n").expect("an answer");
    assert!(!answer.head.has("transfer-encoding"), "{:?}", answer.head);
    assert_eq!(answer.text(), "hello!");
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let origin = Backend::serve(|request, conn| {
        assert_eq!(request.framing, Framing::Chunked);
        let sum =
            request.trailers.iter().find(|trailer| trailer.0 == "x-sum").map_or("none", |trailer| &trailer.1);
        let size = request.body.len();
        let text = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Size\r\n\r\n\
             4\r\n{sum:4}\r\n0\r\nX-Size: {size}\r\n\r\n"
        );
        let _ = conn.write(text.as_bytes());
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for round in 0..3 {
        let answer = client
            .request(
                "POST",
                b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n",
            )
            .expect("an answer");
        assert_eq!(answer.text(), "7   ", "round {round}");
        assert_eq!(answer.framing, Framing::Chunked);
        assert_eq!(answer.trailers, [("x-size".to_owned(), "11".to_owned())]);
    }
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    let origin = Backend::serve(|request, conn| {
        let _ = conn.write(&backend::ok(&request.body));
    });
    let gateway = Gateway::before(&[origin.address]);
    let body: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut client = gateway.client();
    let sender = body.clone();
    let mut out = client.raw().try_clone().expect("a second handle");
    let sending = thread::spawn(move || {
        use std::io::Write;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sender.len());
        out.write_all(head.as_bytes()).and_then(|()| out.write_all(&sender)).expect("the gateway takes it");
    });
    let answer = client.wire.read_response("POST").expect("an answer");
    sending.join().expect("no panic");
    assert!(answer.body == body, "the body came back changed");

    let mut chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for part in body[..300_000].chunks(997) {
        chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = client.request("POST", &chunked).expect("an answer");
    assert!(answer.body == body[..300_000], "the chunked body came back changed");
}

#[test]
fn a_body_over_the_limit_is_413() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before_with(&[origin.address], "[limits]\nbody = \"100KiB\"\n", "");
    let fits = gateway.client().post("/", &vec![b'a'; 100 * 1024]).expect("an answer");
    assert_eq!(fits.status, 200);
    let announced = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 102401\r\n\r\n";
    let mut client = gateway.client();
    assert_eq!(client.request("POST", announced).expect("an answer").status, 413);
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..120 {
        client.send_all(&[b"400\r\n", &[b'a'; 1024][..], b"\r\n"].concat());
    }
    assert_eq!(client.wire.read_response("POST").expect("an answer").status, 413);
    assert_eq!(origin.requests(), 1, "only the one that fits arrived as a whole");
}

#[test]
fn expect_100_continue_waits_for_the_go_ahead() {
    let origin = Backend::start(|conn| {
        while let Ok(head) = conn.wire.read_head() {
            if head.get("expect") == Some("100-continue") {
                let _ = conn.write(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let Ok((body, _)) = conn.wire.read_body(Framing::Length(5)) else { return };
            let _ = conn.write(&backend::ok(&body));
        }
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let go = client.wire.read_head().expect("an interim response");
        assert!(go.start.starts_with("HTTP/1.1 100"), "{}", go.start);
        client.send_all(b"hello");
        let answer = client.wire.read_response("POST").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert!(answer.interim.is_empty(), "a second 100");
    }
    // Who does not wait is served too.
    let answer = client
        .request(
            "POST",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        )
        .expect("an answer");
    assert_eq!(answer.text(), "hello");
}

#[test]
fn expect_100_continue_may_be_refused_without_a_body() {
    let origin = Backend::start(|conn| {
        while let Ok(head) = conn.wire.read_head() {
            assert!(head.start.starts_with("POST"));
            let _ = conn.write(&backend::answer("403 Forbidden", "Connection: close\r\n", b"no"));
            conn.wait_end(harness::PATIENCE);
        }
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.wire.read_response("POST").expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
}

#[test]
fn heads_and_bodiless_statuses_have_no_body_and_keep_their_length() {
    let origin = Backend::serve(|request, conn| {
        let text: &[u8] = match request.target.as_str() {
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n",
            "/304-chunked" => {
                b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nETag: \"a\"\r\n\r\n"
            }
            "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "/none" => b"HTTP/1.1 200 OK\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        };
        let _ = conn.write(text);
        conn.last = request.target == "/none";
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let mut ask = |method: &str, path: &str| -> Response {
        let raw = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.request(method, raw.as_bytes()).unwrap_or_else(|fault| panic!("{method} {path}: {fault:?}"))
    };
    for _ in 0..2 {
        assert_eq!(ask("GET", "/204").status, 204);
        let not_modified = ask("GET", "/304");
        assert_eq!((not_modified.status, not_modified.get("content-length")), (304, Some("1000")));
        assert_eq!(not_modified.get("etag"), Some("\"a\""));
        assert_eq!(ask("GET", "/304-chunked").status, 304);
        assert_eq!(ask("HEAD", "/").get("content-length"), Some("1000"));
        assert_eq!(ask("HEAD", "/chunked").status, 200);
        assert_eq!(ask("HEAD", "/none").status, 200);
        assert_eq!(ask("HEAD", "/204").status, 204);
    }
}

#[test]
fn early_hints_are_relayed_but_not_to_http_1_0() {
    let origin = Backend::serve(|_, conn| {
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-A: 1\r\nConnection: x-a\r\n\r\n";
        let _ =
            conn.write(hint).and_then(|()| conn.write(hint)).and_then(|()| conn.write(&backend::ok(b"done")));
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.text(), "done");
        assert_eq!(answer.interim.len(), 2);
        for hint in &answer.interim {
            assert!(hint.start.contains("103") && hint.get("link") == Some("</a.css>"), "{hint:?}");
            assert!(
                !hint.has("x-a") && !hint.has("connection"),
                "hop-by-hop fields of an interim response: {hint:?}"
            );
        }
    }
    let answer = gateway.client().request("GET", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").expect("an answer");
    assert!(answer.interim.is_empty() && answer.text() == "done");
}

#[test]
fn a_response_until_close_gets_a_visible_end() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\n\r\neverything");
        conn.last = true;
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.text(), "everything");
        assert_eq!(answer.framing, Framing::Chunked, "an end that a cut connection cannot fake");
    }
}

#[test]
fn what_arrives_is_passed_on_at_once() {
    // The backend sends the next piece only once the client has told it of the one before: a gateway that waits
    // for more before it passes on would stall here.
    let (told, telling) = std::sync::mpsc::sync_channel::<()>(0);
    let telling = std::sync::Mutex::new(telling);
    let origin = Backend::serve(move |_, conn| {
        let telling = telling.lock().unwrap();
        let _ = conn.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for number in 0..5 {
            let _ = conn.write(format!("8\r\ndata: {number}\n\r\n").as_bytes());
            telling.recv_timeout(harness::PATIENCE).expect("the client saw the event");
        }
        let _ = conn.write(b"0\r\n\r\n");
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.wire.read_response_head("GET").expect("a head").status, 200);
    for number in 0..5 {
        let size = client.wire.read_chunk_size().expect("a chunk");
        assert_eq!(client.wire.take(size).expect("its data"), format!("data: {number}\n").as_bytes());
        assert_eq!(client.wire.take(2).expect("its end"), b"\r\n");
        told.send(()).expect("the backend waits");
    }
    assert_eq!(client.wire.read_chunk_size(), Ok(0));
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let origin = Backend::serve(|request, conn| {
        let fields = "Connection: x-private, close\r\nX-Private: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: close\r\nX-Public: 2\r\n";
        let body = backend::describe("origin", request);
        let _ = conn.write(&backend::answer("200 OK", fields, &body));
        conn.last = true;
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let fields = "Connection: x-hop, keep-alive\r\nConnection: X-OTHER\r\nX-Hop: 1\r\nx-other: 2\r\nKeep-Alive: 3\r\n\
                  Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nX-End: 4\r\n";
    let answer = client.get_with("/", fields).expect("an answer");
    let seen = answer.text();
    for gone in ["x-hop:", "x-other:", "keep-alive", "proxy-connection:", "te:", "upgrade:"] {
        assert!(!seen.contains(&format!("\n{gone}")), "{gone} reached the backend:\n{seen}");
    }
    assert!(seen.contains("x-end: 4"), "{seen}");
    for gone in ["x-private", "keep-alive", "proxy-connection", "connection"] {
        assert!(!answer.head.has(gone), "{gone} reached the client: {:?}", answer.head);
    }
    assert_eq!(answer.get("x-public"), Some("2"));
}

#[test]
fn an_options_for_the_whole_server_is_answered() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let answer = client.request("OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer");
    assert!([200, 204, 404].contains(&answer.status), "status {}", answer.status);
    if answer.status == 200 {
        assert!(answer.text().contains("OPTIONS *\n"), "{}", answer.text());
    }
    assert_eq!(client.get("/").expect("the connection goes on").status, 200);
}

#[test]
fn own_errors_are_problem_documents() {
    let origin = Backend::describing("origin");
    let config = format!(
        "[service.main]\nendpoints = [\"{}\"]\n[[route]]\nmatch = {{ path = \"/here\" }}\nto = \"main\"\n",
        origin.address
    );
    let gateway = Gateway::start(&config, &[]);
    let mut client = gateway.client();
    let answer = client.get("/elsewhere").expect("an answer");
    check_problem(&answer, 404);
    assert_eq!(client.get("/here").expect("the connection goes on").status, 200);
    let head = client.request("HEAD", b"HEAD /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer");
    assert!(head.status == 404 && head.body.is_empty());
    assert_eq!(client.get("/here").expect("the connection goes on").status, 200);
    let refused = gateway.client().request("GET", b"GET / HTTP/1.1\r\n\r\n").expect("an answer");
    check_problem(&refused, 400);
    // A body that nobody wants does not become the next request.
    let mut client = gateway.client();
    let unwanted = b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\nGET /here HTTP/1.1\r\nHost: smuggled\r\n\r\n";
    check_problem(&client.request("POST", unwanted).expect("an answer"), 404);
    let before = origin.requests();
    let _ = client.get("/here");
    until("at most our own request arrives", || origin.requests() <= before + 1);
    let smuggled =
        origin.records().iter().any(|r| harness::wire::find(&r.bytes.lock().unwrap(), b"smuggled").is_some());
    assert!(!smuggled, "a request body was taken for a request");
}

fn check_problem(answer: &Response, status: u16) {
    assert_eq!(answer.status, status);
    assert_eq!(answer.get("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for key in ["type", "title", "detail", "instance"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {problem}");
    }
    let id = answer.get("x-request-id").expect("a request id");
    assert!(
        problem["instance"].as_str().is_some_and(|instance| instance.contains(id)),
        "{problem} is not of {id}"
    );
}

#[test]
fn request_ids_are_made_at_the_edge_and_echoed() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let answer =
            client.get_with("/", "X-Request-Id: mine\r\nx-request-id: also-mine\r\n").expect("an answer");
        let id = answer.get("x-request-id").expect("an id");
        assert!(!id.contains("mine"), "an id from a stranger was kept");
        assert_eq!(seen_by_backend(&answer, "x-request-id"), [id]);
        ids.insert(id.to_owned());
    }
    assert_eq!(ids.len(), 100, "ids are unique");
}

#[test]
fn request_ids_of_trusted_peers_are_kept() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before_with(&[origin.address], "[forward]\ntrusted = [\"127.0.0.0/8\"]\n", "");
    let mut client = gateway.client();
    let answer = client.get_with("/", "X-Request-Id: theirs-17\r\n").expect("an answer");
    assert_eq!(answer.get("x-request-id"), Some("theirs-17"));
    assert_eq!(seen_by_backend(&answer, "x-request-id"), ["theirs-17"]);
    let answer = client.get("/").expect("an answer");
    assert!(answer.get("x-request-id").is_some_and(|id| id.len() >= 16), "one is made where none was sent");
}

#[test]
fn an_upstreams_request_id_does_not_reach_the_client() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(&backend::answer("200 OK", "X-Request-Id: upstream\r\n", b""));
    });
    let gateway = Gateway::before(&[origin.address]);
    let answer = gateway.get("/");
    assert_eq!(answer.head.all("x-request-id").len(), 1);
    assert_ne!(answer.get("x-request-id"), Some("upstream"));
}

#[test]
fn strangers_cannot_forge_where_they_come_from() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let fields = "X-Forwarded-For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n";
    let answer = gateway.client().get_with("/", fields).expect("an answer");
    // Appended as everywhere: the last entry is the one that this gateway vouches for, in one field line.
    let entries = seen_by_backend(&answer, "x-forwarded-for");
    assert!(entries.len() == 1 && entries[0].ends_with("127.0.0.1"), "{entries:?}");
    assert_eq!(seen_by_backend(&answer, "x-forwarded-proto"), ["http"]);
    assert_eq!(seen_by_backend(&answer, "x-forwarded-host"), ["test.example"]);
    assert_eq!(seen_by_backend(&answer, "host"), ["test.example"]);
}

#[test]
fn trusted_peers_say_where_a_request_comes_from() {
    let origin = Backend::describing("origin");
    let top = "[forward]\ntrusted = [\"127.0.0.1/32\"]\nforwarded = true\n";
    let gateway = Gateway::before_with(&[origin.address], top, "");
    let fields = "X-Forwarded-For: 9.9.9.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n\
                  Forwarded: for=9.9.9.9\r\n";
    let answer = gateway.client().get_with("/", fields).expect("an answer");
    assert_eq!(seen_by_backend(&answer, "x-forwarded-for").join(", "), "9.9.9.9, 10.0.0.1, 127.0.0.1");
    assert_eq!(seen_by_backend(&answer, "x-forwarded-proto"), ["https"]);
    assert_eq!(seen_by_backend(&answer, "x-forwarded-host"), ["shop.example"]);
    let forwarded = seen_by_backend(&answer, "forwarded").join(", ");
    assert!(forwarded.starts_with("for=9.9.9.9, for=127.0.0.1"), "{forwarded}");
    assert!(forwarded.contains("proto=http") && forwarded.contains("host="), "{forwarded}");
}

#[test]
fn forwarded_is_sent_only_if_asked_for() {
    let origin = Backend::describing("origin");
    let without = Gateway::before(&[origin.address]);
    let answer = without.client().get_with("/", "Forwarded: for=9.9.9.9\r\n").expect("an answer");
    assert!(seen_by_backend(&answer, "forwarded").iter().all(|value| !value.contains("9.9.9.9")));
    let with = Gateway::before_with(&[origin.address], "[forward]\nforwarded = true\n", "");
    let answer = with.client().get_with("/", "Forwarded: for=9.9.9.9\r\n").expect("an answer");
    let forwarded = seen_by_backend(&answer, "forwarded").join(", ");
    assert!(forwarded.starts_with("for=127.0.0.1") && !forwarded.contains("9.9.9.9"), "{forwarded}");
}

#[test]
fn an_upgrade_becomes_a_tunnel_both_ways() {
    let origin = Backend::start(upgrade_and_echo);
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    // The first bytes of the new protocol come with the head, before the answer is there.
    let head = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly";
    client.send_all(head);
    let answer = client.wire.read_response("GET").expect("an answer");
    assert_eq!((answer.status, answer.get("upgrade")), (101, Some("echo")));
    assert!(answer.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(client.wire.take(12).expect("the echo"), b"welcomeearly");
    check_echo(&mut client);
    gateway.until_metric("tidegate_tunnels_active", &[], 0.0);
}

#[test]
fn an_upgrade_may_be_declined() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    let answer = client.get_with("/", "Connection: Upgrade\r\nUpgrade: echo\r\n").expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(seen_by_backend(&answer, "upgrade"), ["echo"]);
    assert_eq!(client.get("/").expect("the connection goes on").status, 200);
}

#[test]
fn connect_reaches_the_routes_service_and_nothing_else() {
    let victim = Backend::fixed("victim");
    let origin = Backend::start(accept_connect_and_echo);
    let gateway = tunnel_gateway(&origin);
    let mut client = gateway.client();
    client.send_all(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", victim.address).as_bytes());
    let answer = client.wire.read_response("CONNECT").expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(!answer.head.has("transfer-encoding") && !answer.head.has("content-length"), "{:?}", answer.head);
    check_echo(&mut client);
    assert_eq!(origin.connections(), 1);
    assert_eq!(victim.connections(), 0, "the client chose where the gateway connects to");
}

#[test]
fn a_refused_connect_is_an_ordinary_answer() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(&backend::answer("403 Forbidden", "", b"no tunnels"));
    });
    let gateway = tunnel_gateway(&origin);
    let mut client = gateway.client();
    client.send_all(b"CONNECT inside.example:22 HTTP/1.1\r\nHost: inside.example:22\r\n\r\n");
    let answer = client.wire.read_response("CONNECT").expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no tunnels"));
}

/// A gateway whose route asks for CONNECT by name; no other may open a tunnel.
fn tunnel_gateway(origin: &Backend) -> Gateway {
    let service = format!("[service.main]\nendpoints = [\"{}\"]\n", origin.address);
    let route = "[[route]]\nname = \"tunnel\"\nmatch = { method = \"CONNECT\" }\nto = \"main\"\n";
    Gateway::start(&format!("{service}{route}"), &[])
}

/// Answers an upgrade with 101 and a greeting in one segment, then echoes.
fn upgrade_and_echo(conn: &mut Conn) {
    let Ok(head) = conn.wire.read_head() else { return };
    assert_eq!(head.get("upgrade"), Some("echo"));
    let _ = conn
        .write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nwelcome");
    echo(conn);
}

fn accept_connect_and_echo(conn: &mut Conn) {
    let Ok(head) = conn.wire.read_head() else { return };
    assert!(head.start.starts_with("CONNECT "), "{}", head.start);
    let _ = conn.write(b"HTTP/1.1 200 Connection Established\r\n\r\n");
    echo(conn);
}

fn echo(conn: &mut Conn) {
    loop {
        let bytes = std::mem::take(&mut conn.wire.buffer);
        if conn.write(&bytes).is_err() || !conn.wire.fill().unwrap_or(false) {
            break;
        }
    }
    let _ = conn.write(b"goodbye");
}

/// 2 MiB through an echoing tunnel, then a half-close that the other end answers.
fn check_echo(client: &mut Client) {
    let data: Vec<u8> = (0..2 << 20).map(|i: u32| (i % 251) as u8).collect();
    let mut out = client.raw().try_clone().expect("a second handle");
    let sent = data.clone();
    let sending = thread::spawn(move || {
        use std::io::Write;
        out.write_all(&sent).expect("the tunnel takes it");
    });
    assert!(client.wire.take(data.len()).expect("the echo") == data, "the tunnel changed bytes");
    sending.join().expect("no panic");
    client.half_close();
    assert_eq!(client.read_to_close().expect("the other half stays open"), b"goodbye");
}

/// The values of a field in what a describing backend answered.
fn seen_by_backend(answer: &Response, name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    answer.text().lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
}
