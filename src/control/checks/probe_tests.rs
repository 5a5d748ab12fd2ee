//! Probes of servers that answer well, badly, by halves and not at all; of HTTP/2 the server is the `h2` crate's.

use bytes::Bytes;
use tokio::io::{DuplexStream, duplex};

use super::*;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// What is made of this answer to an HTTP/1.1 request.
fn answered(answer: &str) -> Result<u16, String> {
    let answer = answer.to_owned();
    block_on(async move {
        let (ours, mut theirs) = duplex(64);
        let serve = async move {
            let mut request = [0; 4];
            theirs.read_exact(&mut request).await.unwrap();
            // In small pieces; the client may have seen enough before the end.
            let _ = theirs.write_all(answer.as_bytes()).await;
        };
        tokio::join!(over_http1(ours, "GET / HTTP/1.1\r\n\r\n"), serve).0
    })
}

#[test]
fn the_status_is_that_of_the_final_answer() {
    assert_eq!(answered("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(200));
    assert_eq!(answered("HTTP/1.0 503 Busy\r\n\r\nbusy"), Ok(503));
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(answered(early), Ok(204));
}

#[test]
fn what_is_no_answer_is_told() {
    let said = |answer: &str| answered(answer).unwrap_err();
    assert_eq!(said(""), "it closed the connection without an answer");
    assert_eq!(said("HTTP/1.1 200 OK\r\ncontent-"), "it closed the connection without an answer");
    assert_eq!(said("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "its answer is no HTTP");
    assert_eq!(said(&format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(70_000))), "its answer is no HTTP");
    assert_eq!(said(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000)), "its answer has no end");
}

/// A server of one request: what it is asked, and how it answers.
struct Server {
    status: u16,
    content: &'static [u8],
    trailer: Option<&'static str>,
}

async fn serve(stream: DuplexStream, server: Server) -> (http::Request<()>, Vec<u8>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let (parts, mut body) = request.into_parts();
    let asked = async move {
        let mut received = Vec::new();
        while let Some(piece) = body.data().await {
            received.extend_from_slice(&piece.unwrap());
        }
        let response = http::Response::builder().status(server.status).body(()).unwrap();
        let mut send = respond.send_response(response, false).unwrap();
        send.send_data(Bytes::from_static(server.content), server.trailer.is_none()).unwrap();
        if let Some(status) = server.trailer {
            let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())].into_iter().collect();
            send.send_trailers(trailers).unwrap();
        }
        received
    };
    tokio::pin!(asked);
    let received = loop {
        tokio::select! {
            received = &mut asked => break received,
            _ = connection.accept() => {}
        }
    };
    // The rest is written; until the client has had enough.
    let _ = std::future::poll_fn(|context| connection.poll_closed(context)).await;
    (http::Request::from_parts(parts, ()), received)
}

fn over(
    head: &str,
    content: Option<&[u8]>,
    server: Server,
) -> (Result<Answer, String>, http::Request<()>, Vec<u8>) {
    block_on(async {
        let (ours, theirs) = duplex(50);
        let (answer, (request, received)) =
            tokio::join!(over_http2(ours, head, content, b"http"), serve(theirs, server));
        (answer, request, received)
    })
}

#[test]
fn over_http2_the_same_is_asked() {
    let server = Server { status: 204, content: b"", trailer: None };
    let head = "GET /ready?a HTTP/1.1\r\nhost: models\r\nuser-agent: x\r\n\r\n";
    let (answer, request, _) = over(head, None, server);
    assert_eq!(answer.unwrap().status, 204);
    assert_eq!(
        (request.method().as_str(), request.uri().to_string()),
        ("GET", "http://models/ready?a".into())
    );
}

#[test]
fn grpcs_health_service_is_understood() {
    let head = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: models\r\ncontent-type: application/grpc\r\nte: trailers\r\n\r\n";
    let ask = |content, trailer| {
        let request = health_request("inference");
        let server = Server { status: 200, content, trailer };
        let (answer, asked, received) = over(head, Some(&request), server);
        assert_eq!(
            (asked.headers()["te"].as_bytes(), &received[..]),
            (&b"trailers"[..], &b"\0\0\0\0\x0b\x0a\x09inference"[..])
        );
        serves(&answer.unwrap())
    };
    assert_eq!(ask(b"\0\0\0\0\x02\x08\x01", Some("0")), Ok(()));
    assert_eq!(ask(b"\0\0\0\0\x02\x08\x02", Some("0")), Err("it says NOT_SERVING".into()));
    assert_eq!(ask(b"\0\0\0\0\0", Some("0")), Err("it says UNKNOWN".into()));
    assert_eq!(ask(b"", Some("5")), Err("its health service does not know this service (NOT_FOUND)".into()));
    assert_eq!(ask(b"", Some("12")), Err("it has no grpc.health.v1.Health (UNIMPLEMENTED)".into()));
    assert_eq!(ask(b"", Some("14")), Err("it answers with the gRPC status 14".into()));
    assert_eq!(ask(b"hello", None), Err("it answers with the gRPC status none".into()));
    assert_eq!(health_request(""), b"\0\0\0\0\0");
    assert_eq!(health_request(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
}

#[test]
fn a_server_of_http1_is_none_of_http2() {
    let said = block_on(async {
        let (ours, mut theirs) = duplex(1024);
        let answer = async move {
            theirs.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
        };
        tokio::join!(over_http2(ours, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", None, b"http"), answer).0
    });
    assert!(said.is_err());
}
