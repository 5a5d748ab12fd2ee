//! Owns two HTTP/2 clients: `Http2`, which is the `h2` crate's and knows the rules, and `Raw`, which writes any frame and reads
//! what comes back. Shares no code with the gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub use h2::Reason;
use http::{HeaderMap, Request};

use super::PATIENCE;

/// A client on a runtime of its own. Every wait is bounded by patience.
pub struct Http2 {
    pub runtime: tokio::runtime::Runtime,
    pub send: h2::client::SendRequest<bytes::Bytes>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Http2 {
    pub fn connect(address: SocketAddr) -> Http2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).unwrap();
            let (send, connection) = h2::client::handshake(stream).await.expect("a handshake");
            tokio::spawn(async move { drop(connection.await) });
            send
        });
        Http2 { runtime, send }
    }

    pub fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        self.request("GET", path, None, None)
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Result<Answer, h2::Error> {
        self.request("POST", path, Some(body), None)
    }

    /// With a body, and trailers behind it.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let request = Request::builder().method(method).uri(format!("http://a.test{path}")).body(()).unwrap();
        self.exchange(request, body, trailers)
    }

    pub fn exchange(
        &self,
        request: Request<()>,
        body: Option<&[u8]>,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let body = body.map(bytes::Bytes::copy_from_slice);
        let asked = exchange(self.send.clone(), request, body, trailers);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.expect("patience") })
    }
}

/// One request and all of its answer.
pub async fn exchange(
    send: h2::client::SendRequest<bytes::Bytes>,
    request: Request<()>,
    body: Option<bytes::Bytes>,
    trailers: Option<HeaderMap>,
) -> Result<Answer, h2::Error> {
    let mut send = send.ready().await?;
    let (response, mut upload) = send.send_request(request, body.is_none())?;
    let up = async move {
        if let Some(body) = body {
            // An answer may come, and end the stream, before all is sent.
            let _ = send_all(&mut upload, body, trailers).await;
        }
    };
    let down = async {
        let (head, mut body) = response.await?.into_parts();
        let mut all = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            all.extend_from_slice(&piece);
            body.flow_control().release_capacity(piece.len())?;
        }
        let trailers = body.trailers().await?;
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body: all, trailers })
    };
    let ((), answer) = tokio::join!(up, down);
    answer
}

async fn send_all(
    upload: &mut h2::SendStream<bytes::Bytes>,
    mut body: bytes::Bytes,
    trailers: Option<HeaderMap>,
) -> Result<(), h2::Error> {
    while !body.is_empty() {
        upload.reserve_capacity(body.len());
        let room = std::future::poll_fn(|context| upload.poll_capacity(context)).await;
        let Some(room) = room else { return Ok(()) };
        let piece = body.split_to(room?.min(body.len()));
        upload.send_data(piece, false)?;
    }
    match trailers {
        Some(trailers) => upload.send_trailers(trailers),
        None => upload.send_data(bytes::Bytes::new(), true),
    }
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number that RST_STREAM and GOAWAY give as their reason.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// HEADERS with literals that nobody indexes, each shorter than 127 bytes.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

pub fn request(stream: u32, method: &str, path: &str, flags: u8) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
    headers(stream, flags, &fields)
}

/// Anything that bytes go through.
pub trait Transport: Read + Write {}
impl<T: Read + Write> Transport for T {}

pub struct Raw {
    pub transport: Box<dyn Transport>,
    received: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw::over(stream)
    }

    /// Sends the preface and SETTINGS.
    pub fn over(transport: impl Transport + 'static) -> Raw {
        let mut raw = Raw { transport: Box::new(transport), received: Vec::new() };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(&frame(SETTINGS, 0, 0, &[]));
        raw
    }

    /// The other end: takes a client's preface, and sends these SETTINGS.
    pub fn answering(mut stream: TcpStream, settings: &[u8]) -> Raw {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).expect("a preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut raw = Raw { transport: Box::new(stream), received: Vec::new() };
        raw.send(&frame(SETTINGS, 0, 0, settings));
        raw
    }

    /// Who is gone has said why.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.transport.write_all(bytes);
        let _ = self.transport.flush();
    }

    /// `None` at the end of the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.received.first_chunk::<9>().copied() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if self.received.len() >= 9 + length {
                    let frame: Vec<u8> = self.received.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                    return Some(Frame {
                        kind: head[3],
                        flags: head[4],
                        stream,
                        payload: frame[9..].to_vec(),
                    });
                }
            }
            let mut room = [0; 65_536];
            match self.transport.read(&mut room) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame: {error}"),
            }
        }
    }

    /// The next frame of a kind, whatever comes before it.
    pub fn until(&mut self, kind: u8) -> Frame {
        std::iter::from_fn(|| self.frame())
            .find(|frame| frame.kind == kind)
            .expect("such a frame, not the end")
    }

    /// All frames to the end of the connection.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    /// The payload of a stream up to its end; the windows are opened as it comes.
    pub fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.frame().expect("the stream's end, not the connection's");
            if frame.stream == stream && frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
                let count = frame.payload.len() as u32;
                if count > 0 {
                    for stream in [0, stream] {
                        self.send(&self::frame(WINDOW_UPDATE, 0, stream, &count.to_be_bytes()));
                    }
                }
            }
            assert!(
                frame.stream != stream || frame.kind != RST_STREAM,
                "the stream was reset: {}",
                frame.code()
            );
            if frame.stream == stream && frame.ends_stream() {
                return body;
            }
        }
    }

    /// Resolves when the connection answers, so that all that was sent before has been judged.
    pub fn ping(&mut self) -> Vec<Frame> {
        self.send(&frame(PING, 0, 0, b"tidegate"));
        let mut before = Vec::new();
        loop {
            match self.frame() {
                Some(frame) if frame.kind == PING && frame.flags & ACK != 0 => return before,
                Some(frame) => before.push(frame),
                None => panic!("the connection ended: {before:?}"),
            }
        }
    }
}
