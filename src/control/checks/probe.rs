//! Owns one health check of one endpoint: a connection, one question, and what its answer says. HTTP/1.1, HTTP/2, gRPC's health
//! service (grpc.health.v1) and TCP, with TLS where the service has it; also a question about a model. Whoever asks bounds the time.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::snapshot::{CheckKind, CheckPolicy, Endpoint, HttpVersion};
use crate::http::grpc::{self, PREFIX_BYTES};
use crate::http::h1_parse::{self, Progress};
use crate::http::h2::conn::{Connection, Key};
use crate::http::h2::head::{Limits, each_field};
use crate::http::h2::stream::State;
use crate::http::head::{HeadLimits, ResponseHead};
use crate::inference::conversion::incoming::Incoming;
use crate::inference::conversion::outgoing::Outgoing;
use crate::runtime::buffer::BufferPool;

const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"), " (health check)");
/// Of an answer: more is none.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Whether it is well; if not, why.
pub async fn probe(policy: &CheckPolicy, protocol: HttpVersion, endpoint: &Endpoint) -> Result<(), String> {
    let mut address = endpoint.address;
    policy.port.into_iter().for_each(|port| address.set_port(port));
    let stream = connect(address).await?;
    let Some(tls) = &endpoint.tls else {
        return ask(stream, policy, protocol == HttpVersion::Http2, endpoint, b"http").await;
    };
    let towards = if policy.kind == CheckKind::Tcp { &tls.bytes } else { &tls.http };
    let connector = tokio_rustls::TlsConnector::from(towards.config.clone());
    let stream =
        connector.connect(towards.name.clone(), stream).await.map_err(|error| format!("no TLS: {error}"))?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    ask(stream, policy, is_http2, endpoint, b"https").await
}

/// The answer to one question of a model server, all of it.
pub async fn answer_to(
    asks: &Outgoing,
    protocol: HttpVersion,
    endpoint: &Endpoint,
) -> Result<Incoming, String> {
    let stream = connect(endpoint.address).await?;
    let Some(tls) = &endpoint.tls else {
        return whole_answer(stream, asks, protocol == HttpVersion::Http2, endpoint, b"http").await;
    };
    let connector = tokio_rustls::TlsConnector::from(tls.http.config.clone());
    let stream =
        connector.connect(tls.http.name.clone(), stream).await.map_err(|error| format!("no TLS: {error}"))?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    whole_answer(stream, asks, is_http2, endpoint, b"https").await
}

async fn whole_answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    asks: &Outgoing,
    is_http2: bool,
    endpoint: &Endpoint,
    scheme: &[u8],
) -> Result<Incoming, String> {
    let Outgoing { method, path, is_grpc, body, .. } = asks;
    // An answer to a request of HTTP/1.0 has no chunks.
    let version = if is_http2 { "HTTP/1.1" } else { "HTTP/1.0" };
    let mut head =
        format!("{method} {path} {version}\r\nhost: {}\r\nuser-agent: {USER_AGENT}\r\n", endpoint.label);
    if *is_grpc {
        head.push_str("content-type: application/grpc\r\nte: trailers\r\n");
    }
    head.push_str("\r\n");
    if !is_http2 {
        return over_http1_to_its_end(stream, &head).await;
    }
    let content = (!body.is_empty()).then_some(&body[..]);
    let answer = over_http2(stream, &head, content, scheme).await?;
    let status = answer.grpc_status.as_deref().and_then(grpc::status);
    Ok(Incoming {
        status: answer.status,
        header_length: None,
        call: status.map(|status| (status, String::new())),
        body: answer.content.into(),
    })
}

async fn over_http1_to_its_end<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    head: &str,
) -> Result<Incoming, String> {
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut received = Vec::new();
    let most = ANSWER_BYTES_MAX as u64;
    stream.take(most).read_to_end(&mut received).await.map_err(|error| error.to_string())?;
    let mut answer = ResponseHead::default();
    let is_whole =
        h1_parse::parse_response(&received, &mut Progress::default(), &HeadLimits::default(), &mut answer);
    match is_whole {
        Ok(true) if received.len() < ANSWER_BYTES_MAX => {}
        Ok(_) => return Err("its answer has no end".into()),
        Err(_) => return Err("its answer is no HTTP".into()),
    }
    let body = received.split_off(answer.head_len).into();
    Ok(Incoming { status: answer.status, body, ..Incoming::default() })
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    policy: &CheckPolicy,
    is_http2: bool,
    endpoint: &Endpoint,
    scheme: &[u8],
) -> Result<(), String> {
    match &policy.kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { path, host, statuses } => {
            let host = host.as_deref().unwrap_or(&endpoint.label);
            let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\n");
            let status = match is_http2 {
                true => over_http2(stream, &format!("{head}\r\n"), None, scheme).await?.status,
                false => over_http1(stream, &format!("{head}connection: close\r\n\r\n")).await?,
            };
            let is_good =
                if statuses.is_empty() { (200..300).contains(&status) } else { statuses.contains(&status) };
            if is_good { Ok(()) } else { Err(format!("it answers {status}")) }
        }
        CheckKind::Grpc { service } => {
            let head = format!(
                "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {}\r\nuser-agent: {USER_AGENT}\r\n\
                 content-type: application/grpc\r\nte: trailers\r\n\r\n",
                endpoint.label
            );
            serves(&over_http2(stream, &head, Some(&health_request(service)), scheme).await?)
        }
    }
}

/// The status that an HTTP/1.1 server answers with.
async fn over_http1<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str) -> Result<u16, String> {
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let (mut received, mut begin) = (Vec::new(), 0);
    let (mut progress, mut answer) = (Progress::default(), ResponseHead::default());
    let limits = HeadLimits { fields_max: 256, head_bytes_max: 16 * 1024, target_bytes_max: 1024 };
    loop {
        let count = stream.read_buf(&mut received).await.map_err(|error| error.to_string())?;
        while h1_parse::parse_response(&received[begin..], &mut progress, &limits, &mut answer)
            .map_err(|_| "its answer is no HTTP")?
        {
            if answer.status >= 200 || answer.status == 101 {
                return Ok(answer.status);
            }
            begin += answer.head_len;
            progress = Progress::default();
        }
        if count == 0 {
            return Err("it closed the connection without an answer".into());
        }
        if received.len() > ANSWER_BYTES_MAX {
            return Err("its answer has no end".into());
        }
    }
}

#[derive(Debug, Default)]
struct Answer {
    status: u16,
    content: Vec<u8>,
    /// From the head or the trailers.
    grpc_status: Option<Vec<u8>>,
}

/// One request on a connection of HTTP/2.
async fn over_http2<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    head: &str,
    content: Option<&[u8]>,
    scheme: &[u8],
) -> Result<Answer, String> {
    let mut connection =
        Connection::client(Rc::new(BufferPool::default()), Limits::default(), Instant::now());
    let key = connection
        .request(head.as_bytes(), scheme, None, content.is_none())
        .ok_or("no stream may be opened")?;
    if let Some(content) = content {
        connection.send_data(key, content, true);
    }
    let (mut received, mut answer) = (Vec::new(), Answer::default());
    loop {
        while !connection.output().is_empty() {
            let sent = stream.write(connection.output()).await.map_err(|error| error.to_string())?;
            connection.sent(sent);
        }
        let count = stream.read_buf(&mut received).await.map_err(|error| error.to_string())?;
        let used = connection.receive(&received, Instant::now()).map_err(|broken| broken.reason)?;
        received.drain(..used);
        while connection.next_event().is_some() {}
        if is_answered(&mut connection, key, &mut answer)? {
            return Ok(answer);
        }
        if count == 0 {
            return Err("it closed the connection without an answer".into());
        }
    }
}

/// Takes what has come; says whether that is all.
fn is_answered(connection: &mut Connection, key: Key, answer: &mut Answer) -> Result<bool, String> {
    let heads = connection.take_heads(key);
    for head in heads.split(|&byte| byte == b'\n') {
        // A status line begins each of them.
        if let Some(status) = head.strip_prefix(b"HTTP/1.1 ").and_then(|line| line.get(..3)) {
            answer.status =
                std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()).unwrap_or(0);
        }
    }
    let mut note = |name: &[u8], value: &[u8]| {
        if name == b"grpc-status" {
            answer.grpc_status = Some(value.to_vec());
        }
    };
    each_field(&heads, &mut note);
    each_field(connection.trailers(key), &mut note);
    let content = connection.received(key);
    answer.content.extend_from_slice(content);
    let count = content.len();
    if count > 0 {
        drop(connection.take_received(key));
        connection.credit(key, count);
    }
    if answer.content.len() > ANSWER_BYTES_MAX {
        return Err("its answer has no end".into());
    }
    match connection.state(key) {
        State::Reset(code) => Err(format!("it reset the request: {code:?}")),
        State::Closed | State::HalfClosedRemote => Ok(answer.status >= 200),
        State::Open | State::HalfClosedLocal => Ok(false),
    }
}

/// `HealthCheckRequest { service }` of grpc.health.v1, as a message of a call.
fn health_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, of a length that is a varint.
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// Whether `HealthCheckResponse { status: SERVING }` is what it says.
fn serves(answer: &Answer) -> Result<(), String> {
    match (answer.status, answer.grpc_status.as_deref()) {
        (200, Some(b"0")) => {}
        (200, Some(b"12")) => return Err("it has no grpc.health.v1.Health (UNIMPLEMENTED)".into()),
        (200, Some(b"5")) => return Err("its health service does not know this service (NOT_FOUND)".into()),
        (200, status) => {
            let status = status.map_or("none".into(), String::from_utf8_lossy);
            return Err(format!("it answers with the gRPC status {status}"));
        }
        (status, _) => return Err(format!("it answers {status}, which is no gRPC")),
    }
    match answer.content.get(PREFIX_BYTES..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, 2, ..]) => Err("it says NOT_SERVING".into()),
        Some([0x08, 3, ..]) => Err("its health service does not know this service".into()),
        _ => Err("it says UNKNOWN".into()),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
