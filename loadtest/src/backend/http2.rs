//! The backend of gRPC calls: an HTTP/2 server that gives back what each stream brings, as it comes, and ends it with a status.
//! It reads no fields, so that it costs little. A thread for each connection; it trusts its caller.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::http2::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PADDED, PAYLOAD_BYTES_MAX, PING, PREFACE, RST_STREAM,
    SETTINGS, WINDOW, WINDOW_UPDATE, block, write, write_wide_open,
};

const RECEIVED_BYTES: usize = 256 * 1024;

/// Serves until killed. The address is printed once the socket listens.
pub fn serve(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || Connection::new(stream).and_then(|mut connection| connection.run()));
    }
    Ok(())
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    streams: HashMap<u32, Echo>,
    /// What the peer takes.
    window: i64,
    initial_window: i64,
    head: Vec<u8>,
    trailers: Vec<u8>,
}

struct Echo {
    window: i64,
    /// What its windows have no room for.
    waiting: VecDeque<u8>,
    is_ended: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        write_wide_open(&mut out);
        Ok(Connection {
            stream,
            out,
            streams: HashMap::new(),
            window: WINDOW,
            initial_window: WINDOW,
            head: block(&[(":status", "200"), ("content-type", "application/grpc")]),
            trailers: block(&[("grpc-status", "0")]),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut received = vec![0; RECEIVED_BYTES];
        let (mut filled, mut needs_preface) = (0, true);
        loop {
            self.stream.write_all(&self.out)?;
            self.out.clear();
            match self.stream.read(&mut received[filled..])? {
                0 => return Ok(()),
                count => filled += count,
            }
            let mut at = 0;
            if needs_preface && filled >= PREFACE.len() {
                (at, needs_preface) = (PREFACE.len(), false);
            }
            while !needs_preface && let Some(frame) = Frame::parse(&received[at..filled]) {
                at += frame.bytes();
                self.take(&frame);
            }
            received.copy_within(at..filled, 0);
            filled -= at;
        }
    }

    fn take(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            HEADERS => {
                write(&mut self.out, HEADERS, END_HEADERS, frame.stream, &self.head);
                let echo = Echo { window: self.initial_window, waiting: VecDeque::new(), is_ended: false };
                self.streams.insert(frame.stream, echo);
                self.echo(frame.stream, &[], frame.has(END_STREAM));
            }
            DATA if !frame.has(PADDED) => {
                if !frame.payload.is_empty() {
                    let count = (frame.payload.len() as u32).to_be_bytes();
                    write(&mut self.out, WINDOW_UPDATE, 0, 0, &count);
                }
                self.echo(frame.stream, frame.payload, frame.has(END_STREAM));
            }
            RST_STREAM => drop(self.streams.remove(&frame.stream)),
            SETTINGS if !frame.has(ACK) => {
                self.initial_window = frame.initial_window().unwrap_or(self.initial_window);
                write(&mut self.out, SETTINGS, ACK, 0, &[]);
            }
            PING if !frame.has(ACK) => write(&mut self.out, PING, ACK, 0, frame.payload),
            WINDOW_UPDATE if frame.stream == 0 => {
                self.window += frame.increment();
                let waiting: Vec<u32> = self
                    .streams
                    .iter()
                    .filter(|(_, echo)| !echo.waiting.is_empty())
                    .map(|(id, _)| *id)
                    .collect();
                waiting.into_iter().for_each(|id| self.echo(id, &[], false));
            }
            WINDOW_UPDATE => {
                if let Some(echo) = self.streams.get_mut(&frame.stream) {
                    echo.window += frame.increment();
                    self.echo(frame.stream, &[], false);
                }
            }
            _ => {}
        }
    }

    /// Gives back as much as the windows allow, and the end behind all of it.
    fn echo(&mut self, id: u32, payload: &[u8], is_end: bool) {
        let Some(echo) = self.streams.get_mut(&id) else { return };
        echo.is_ended |= is_end;
        echo.waiting.extend(payload);
        loop {
            let room = usize::try_from(echo.window.min(self.window)).unwrap_or(0);
            let count = echo.waiting.len().min(room).min(PAYLOAD_BYTES_MAX);
            if count == 0 {
                break;
            }
            let piece: Vec<u8> = echo.waiting.drain(..count).collect();
            echo.window -= count as i64;
            self.window -= count as i64;
            write(&mut self.out, DATA, 0, id, &piece);
        }
        if echo.is_ended && echo.waiting.is_empty() {
            write(&mut self.out, HEADERS, END_HEADERS | END_STREAM, id, &self.trailers);
            self.streams.remove(&id);
        }
    }
}
