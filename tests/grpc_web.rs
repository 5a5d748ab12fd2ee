//! A browser's gRPC-Web, in both of its forms, over HTTP/1.1 and HTTP/2, reaches a server that knows nothing but gRPC; and what
//! another origin may ask is what its route says.

mod harness;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use harness::http2::Http2;
use harness::http2_server::{Http2Backend, body_of};
use harness::process::dead_address;
use harness::{Backend, Gateway};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

const TOP: &str = "workers = 1\n";
const H2: &str = "protocol = \"h2\"";

fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    [&[flag][..], &(content.len() as u32).to_be_bytes(), content].concat()
}

/// A server of gRPC alone: `/s.S/Twice` answers each call with its message twice, in two pieces.
fn server() -> Http2Backend {
    Http2Backend::serve(|request, mut respond| async move {
        let fields = request.headers();
        assert_eq!(fields["content-type"], "application/grpc+proto");
        assert_eq!(fields["te"], "trailers");
        assert!(!fields.contains_key("x-grpc-web") && !fields.contains_key("content-length"), "{fields:?}");
        let head =
            Response::builder().header("content-type", "application/grpc+proto").header("x-mine", "yes");
        if request.uri().path() == "/s.S/Bare" {
            let head = head.header("grpc-status", "7").header("grpc-message", "no");
            return respond.send_response(head.body(()).unwrap(), true).map(drop);
        }
        let (body, _) = body_of(&mut request.into_body()).await?;
        let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
        for _ in 0..2 {
            stream.send_data(Bytes::from(body.clone()), false)?;
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
        stream.send_trailers(HeaderMap::from_iter([
            (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0")),
            (HeaderName::from_static("x-sum"), HeaderValue::from_static("7")),
        ]))
    })
}

/// What a text form stands for, each text in it with an end of its own.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let groups = text.chunks(4);
    groups.for_each(|group| out.extend(STANDARD.decode(group).expect("base64")));
    out
}

struct Asked {
    status: u16,
    content_type: String,
    grpc_status: Option<String>,
    body: Vec<u8>,
}

/// The same call over both versions, with and without a length.
fn ask(gateway: &Gateway, path: &str, content_type: &str, body: &[u8]) -> Vec<Asked> {
    let mut all = Vec::new();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a.test\r\ncontent-type: {content_type}\r\nx-grpc-web: 1\r\n");
    let sized = format!("{head}content-length: {}\r\n\r\n", body.len());
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for piece in body.chunks(7) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    for raw in [[sized.as_bytes(), body].concat(), chunked] {
        let answer = gateway.client().request("POST", &raw).unwrap();
        all.push(Asked {
            status: answer.status,
            content_type: answer.get("content-type").unwrap_or_default().into(),
            grpc_status: answer.get("grpc-status").map(str::to_owned),
            body: answer.body,
        });
    }
    let request = Request::post(format!("http://a.test{path}")).header("content-type", content_type);
    let request = request.header("x-grpc-web", "1").body(()).unwrap();
    let answer = Http2::connect(gateway.web()).exchange(request, Some(body), None).unwrap();
    assert!(answer.trailers.is_none(), "they are in the body");
    let text = |name: &str| answer.fields.get(name).map(|value| value.to_str().unwrap().to_owned());
    all.push(Asked {
        status: answer.status,
        content_type: text("content-type").unwrap_or_default(),
        grpc_status: text("grpc-status"),
        body: answer.body,
    });
    all
}

#[test]
fn both_forms_reach_a_server_of_grpc() {
    let origin = server();
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    for content in [&b""[..], b"a", b"hello", &[7; 100_000]] {
        let call = message(0, content);
        let trailers = message(0x80, b"grpc-status: 0\r\nx-sum: 7\r\n");
        let expected = [&call[..], &call, &trailers].concat();
        for asked in ask(&gateway, "/s.S/Twice", "application/grpc-web+proto", &call) {
            assert_eq!((asked.status, &*asked.content_type), (200, "application/grpc-web+proto"));
            assert!(asked.body == expected && asked.grpc_status.is_none());
        }
        for text in [STANDARD.encode(&call), STANDARD.encode(&call[..4]) + &STANDARD.encode(&call[4..])] {
            for asked in ask(&gateway, "/s.S/Twice", "application/grpc-web-text+proto", text.as_bytes()) {
                assert_eq!((asked.status, &*asked.content_type), (200, "application/grpc-web-text+proto"));
                assert!(decoded(&asked.body) == expected);
            }
        }
    }
}

#[test]
fn statuses_without_an_answer_stand_in_the_head() {
    let origin = server();
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    for form in ["application/grpc-web+proto", "application/grpc-web-text+proto"] {
        for asked in ask(&gateway, "/s.S/Bare", form, b"") {
            assert_eq!((asked.status, &*asked.content_type, asked.body.len()), (200, form, 0));
            assert_eq!(asked.grpc_status.as_deref(), Some("7"));
        }
    }
    // Ours, too.
    for asked in ask(&gateway, "/s.S/Twice", "application/grpc-web-text+proto", b"AAAA!AAA") {
        assert_eq!((asked.status, asked.grpc_status.as_deref()), (200, Some("3")));
    }
    let gateway = Gateway::before_with(&[dead_address()], TOP, H2);
    for asked in ask(&gateway, "/s.S/Twice", "application/grpc-web", &message(0, b"x")) {
        assert_eq!((asked.status, &*asked.content_type), (200, "application/grpc-web"));
        assert_eq!((asked.grpc_status.as_deref(), asked.body.len()), (Some("14"), 0));
    }
}

/// Who speaks HTTP/1.1 may know gRPC-Web itself.
#[test]
fn an_endpoint_of_http1_gets_it_as_it_is() {
    let origin = Backend::describing("web");
    let gateway = Gateway::before(&[origin.address]);
    for asked in ask(&gateway, "/s.S/M", "application/grpc-web-text+proto", b"AAAAAAA=") {
        let text = String::from_utf8(asked.body).unwrap();
        assert!(text.contains("content-type: application/grpc-web-text+proto"), "{text}");
        assert!(text.contains("x-grpc-web: 1"), "{text}");
    }
}

#[test]
fn pages_of_other_origins_are_told_what_they_may() {
    let (origin, old) = (server(), talkative());
    let gateway = Gateway::start(
        "workers = 1\n[listen.web]\naddress = \"@web@\"\n\
         [service.main]\nprotocol = \"h2\"\nendpoints = [\"@origin@\"]\n\
         [service.old]\nendpoints = [\"@old@\"]\n\
         [[route]]\nmatch = { path = \"/s.S/**\", method = \"POST\" }\nto = \"main\"\n\
         cors = { origins = [\"https://app.test\", \"https://*.app.test\"], credentials = true, expose = \"x-mine\" }\n\
         [[route]]\nmatch.path = \"/any/**\"\nto = \"old\"\ncors = { origins = \"*\", headers = [\"x-a\", \"x-b\"], max_age = \"1h\" }\n\
         [[route]]\nto = \"old\"\n",
        &[("origin", origin.address), ("old", old.address)],
    );
    let preflight = |path: &str, origin: &str| {
        let raw = format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: a.test\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: content-type,x-grpc-web\r\n\r\n"
        );
        gateway.client().request("OPTIONS", raw.as_bytes()).unwrap()
    };
    for page in ["https://app.test", "https://x.app.test"] {
        let answer = preflight("/s.S/Twice", page);
        assert_eq!((answer.status, answer.get("access-control-allow-origin")), (204, Some(page)));
        assert_eq!(answer.get("access-control-allow-methods"), Some("POST"));
        assert_eq!(answer.get("access-control-allow-headers"), Some("content-type,x-grpc-web"));
        assert_eq!(answer.get("access-control-allow-credentials"), Some("true"));
        assert_eq!((answer.get("access-control-max-age"), answer.get("vary")), (Some("600"), Some("origin")));
    }
    let stranger = preflight("/s.S/Twice", "https://evil.test");
    assert_eq!((stranger.status, stranger.get("access-control-allow-origin")), (204, None));
    let any = preflight("/any/x", "https://evil.test");
    assert_eq!(any.get("access-control-allow-origin"), Some("*"));
    assert_eq!(any.get("access-control-allow-headers"), Some("x-a, x-b"));
    assert_eq!((any.get("access-control-max-age"), any.get("vary")), (Some("3600"), None));
    // A route that says nothing leaves it to its endpoint.
    assert_eq!(
        preflight("/else", "https://evil.test").get("access-control-allow-origin"),
        Some("https://its.own")
    );

    let call = message(0, b"x");
    let ask = |path: &str, page: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a.test\r\norigin: {page}\r\ncontent-type: application/grpc-web+proto\r\n\
             content-length: {}\r\n\r\n",
            call.len()
        );
        gateway.client().request("POST", &[head.as_bytes(), &call].concat()).unwrap()
    };
    for path in ["/s.S/Twice", "/s.S/Bare"] {
        let answer = ask(path, "https://app.test");
        assert_eq!(
            (answer.status, answer.get("access-control-allow-origin")),
            (200, Some("https://app.test"))
        );
        let exposed = answer.get("access-control-expose-headers").unwrap();
        assert_eq!(exposed, "grpc-status, grpc-message, x-request-id, x-mine");
    }
    // The endpoint's own word is not added to the route's.
    let answer = ask("/any/x", "https://app.test");
    assert_eq!(answer.head.all("access-control-allow-origin"), ["*"]);
    assert_eq!(ask("/s.S/Twice", "https://evil.test").get("access-control-allow-origin"), None);
    drop(origin);
    harness::until("its errors can be read by the page, too", || {
        let answer = ask("/s.S/Twice", "https://app.test");
        answer.get("grpc-status") == Some("14")
            && answer.get("access-control-allow-origin") == Some("https://app.test")
    });
}

/// Has an opinion of its own.
fn talkative() -> Backend {
    Backend::serve(|_, conn| {
        let answer =
            "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://its.own\r\ncontent-length: 0\r\n\r\n";
        let _ = conn.write(answer.as_bytes());
    })
}
