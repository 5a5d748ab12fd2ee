//! Owns the recording backend: a listener whose connections keep every raw byte that reached them and are
//! answered by a closure, well or badly. One thread per connection. Judges nothing.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::client::linger_zero;
use super::wire::{Fault, Request, Wire};

/// Bytes kept per connection; what comes after is only counted.
const RECORD_BYTES_MAX: usize = 4 << 20;

/// How the peer ended a connection, as the backend saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Closed,
    Reset,
}

/// What one connection received.
#[derive(Default)]
pub struct Record {
    pub bytes: Mutex<Vec<u8>>,
    pub received: AtomicU64,
    pub ended: Mutex<Option<Ended>>,
}

#[derive(Default)]
struct Shared {
    records: Mutex<Vec<Arc<Record>>>,
    live: Mutex<HashMap<u64, Weak<TcpStream>>>,
    requests: AtomicU64,
    stop: AtomicBool,
}

pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Backend {
    /// Runs `handle` for every connection; the connection closes when it returns.
    pub fn start(handle: impl Fn(&mut Conn) + Send + Sync + 'static) -> Backend {
        Backend::listen_on("127.0.0.1:0".parse().expect("an address"), handle)
    }

    /// As `start`, on a given address: a backend that comes back where it was.
    pub fn listen_on(address: SocketAddr, handle: impl Fn(&mut Conn) + Send + Sync + 'static) -> Backend {
        Backend::accept_after(Duration::ZERO, address, handle)
    }

    /// As `listen_on`, but rests before each accept, with hardly any room for those who wait meanwhile.
    pub fn accept_after(
        rest: Duration,
        address: SocketAddr,
        handle: impl Fn(&mut Conn) + Send + Sync + 'static,
    ) -> Backend {
        let listener = super::eventually("the backend's port is free", || TcpListener::bind(address).ok());
        if !rest.is_zero() {
            // SAFETY: plain system call on a descriptor that is open; listening again only sets the backlog.
            unsafe { libc::listen(listener.as_raw_fd(), 1) };
        }
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let (inner, handle) = (shared.clone(), Arc::new(handle));
        let accepting = thread::spawn(move || accept_all(&listener, rest, &inner, &handle));
        Backend { address, shared, accepting: Some(accepting) }
    }

    /// Answers each well-formed request through `answer`; keep-alive until the peer or `answer` ends it.
    pub fn serve(answer: impl Fn(&Request, &mut Conn) + Send + Sync + 'static) -> Backend {
        Backend::start(move |conn| conn.serve(&answer))
    }

    /// Says in the body what reached it: name, method, target, body length, then the fields.
    pub fn describing(name: &'static str) -> Backend {
        Backend::serve(move |request, conn| {
            let _ = conn.write(&ok(&describe(name, request)));
        })
    }

    /// A keep-alive 200 with the given body for everything.
    pub fn fixed(body: &'static str) -> Backend {
        Backend::serve(move |_, conn| {
            let _ = conn.write(&ok(body.as_bytes()));
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn connections(&self) -> usize {
        self.shared.records.lock().unwrap().len()
    }

    pub fn records(&self) -> Vec<Arc<Record>> {
        self.shared.records.lock().unwrap().clone()
    }

    /// Well-formed, complete requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Bytes received so far on all connections.
    pub fn bytes_received(&self) -> u64 {
        self.records().iter().map(|record| record.received.load(Ordering::SeqCst)).sum()
    }

    /// A position in what was received; see `since`.
    pub fn mark(&self) -> Vec<usize> {
        self.records().iter().map(|record| record.bytes.lock().unwrap().len()).collect()
    }

    /// What arrived after `mark`: position among the connections, and bytes, of each that received anything.
    pub fn since(&self, mark: &[usize]) -> Vec<(usize, Vec<u8>)> {
        let from = |index: usize| mark.get(index).copied().unwrap_or(0);
        let records = self.records();
        let tails = records.iter().enumerate().map(|(i, r)| (i, r.bytes.lock().unwrap()[from(i)..].to_vec()));
        tails.filter(|(_, tail)| !tail.is_empty()).collect()
    }

    /// Connections that the backend has not seen an end of.
    pub fn open_connections(&self) -> usize {
        self.records().iter().filter(|record| record.ended.lock().unwrap().is_none()).count()
    }

    /// Ends every connection, with a reset if asked.
    pub fn cut(&self, reset: bool) {
        for stream in self.shared.live.lock().unwrap().values().filter_map(Weak::upgrade) {
            if reset {
                linger_zero(&stream);
            }
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.cut(false);
    }
}

/// One connection to the backend.
pub struct Conn {
    pub wire: Wire<Recorder>,
    stream: Option<Arc<TcpStream>>,
    shared: Arc<Shared>,
    /// Position among the connections of this backend, from 0.
    pub index: u64,
    /// Ends the serving loop after this answer.
    pub last: bool,
}

impl Conn {
    pub fn serve(&mut self, answer: &(impl Fn(&Request, &mut Conn) + ?Sized)) {
        while !self.last && self.stream.is_some() {
            let Ok(request) = self.read_request() else { return };
            answer(&request, self);
        }
    }

    /// The next request, whole and strictly formed.
    pub fn read_request(&mut self) -> Result<Request, Fault> {
        let request = self.wire.read_request()?;
        self.shared.requests.fetch_add(1, Ordering::SeqCst);
        Ok(request)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &self.stream {
            Some(stream) => (&**stream).write_all(bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// One small piece at a time, with a pause between.
    pub fn drip(&mut self, bytes: &[u8], piece: usize, pause: Duration) -> io::Result<()> {
        for part in bytes.chunks(piece) {
            self.write(part)?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Closes with a reset, at once.
    pub fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            linger_zero(&stream);
            self.shared.live.lock().unwrap().remove(&self.index);
            self.wire.source.stream = None;
        }
        self.last = true;
    }

    /// Closes at once.
    pub fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
            self.wire.source.stream = None;
        }
        self.last = true;
    }

    pub fn half_close(&self) {
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Says nothing and waits until the peer ends the connection; `None` when time is over.
    pub fn wait_end(&mut self, limit: Duration) -> Option<Ended> {
        let end = Instant::now() + limit;
        if let Some(stream) = &self.stream {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        }
        loop {
            match self.wire.fill() {
                Ok(true) => self.wire.buffer.clear(),
                Ok(false) => return Some(Ended::Closed),
                Err(Fault::Reset) => return Some(Ended::Reset),
                Err(_) if Instant::now() > end => return None,
                Err(_) => {}
            }
        }
    }

    /// Reads and says nothing until the backend is dropped or cut.
    pub fn wait_stop(&self) {
        let closed = || match &self.stream {
            Some(stream) => self.shared.stop.load(Ordering::SeqCst) || !is_open(stream),
            None => true,
        };
        while !closed() {
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stream(&self) -> Option<&TcpStream> {
        self.stream.as_deref()
    }
}

/// Reads a socket and keeps what it read.
pub struct Recorder {
    stream: Option<Arc<TcpStream>>,
    record: Arc<Record>,
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = &self.stream else { return Ok(0) };
        let result = (&**stream).read(buffer);
        match &result {
            Ok(0) => *self.record.ended.lock().unwrap() = Some(Ended::Closed),
            Ok(count) => {
                self.record.received.fetch_add(*count as u64, Ordering::SeqCst);
                let mut bytes = self.record.bytes.lock().unwrap();
                let room = RECORD_BYTES_MAX.saturating_sub(bytes.len()).min(*count);
                bytes.extend_from_slice(&buffer[..room]);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                *self.record.ended.lock().unwrap() = Some(Ended::Reset);
            }
            Err(_) => {}
        }
        result
    }
}

/// A keep-alive 200 with this body.
pub fn ok(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "", body)
}

/// A keep-alive answer; `fields` are whole lines with their CRLF.
pub fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The text that `Backend::describing` answers with.
pub fn describe(name: &str, request: &Request) -> Vec<u8> {
    let mut text = format!("{name}\n{} {}\nbody {}\n", request.method, request.target, request.body.len());
    for (field, value) in &request.head.fields {
        text.push_str(&format!("{field}: {value}\n"));
    }
    text.into_bytes()
}

/// Whether the kernel still holds the connection open both ways.
fn is_open(stream: &TcpStream) -> bool {
    stream.take_error().is_ok_and(|error| error.is_none()) && stream.peer_addr().is_ok()
}

fn accept_all<H>(listener: &TcpListener, rest: Duration, shared: &Arc<Shared>, handle: &Arc<H>)
where
    H: Fn(&mut Conn) + Send + Sync + 'static,
{
    for (index, stream) in (0u64..).zip(listener.incoming()) {
        thread::sleep(rest);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        shared.live.lock().unwrap().insert(index, Arc::downgrade(&stream));
        let record = Arc::new(Record::default());
        shared.records.lock().unwrap().push(record.clone());
        let (shared, handle) = (shared.clone(), handle.clone());
        thread::spawn(move || run_connection(index, stream, record, shared, &*handle));
    }
}

fn run_connection<H: Fn(&mut Conn)>(
    index: u64,
    stream: Arc<TcpStream>,
    record: Arc<Record>,
    shared: Arc<Shared>,
    handle: &H,
) {
    let recorder = Recorder { stream: Some(stream.clone()), record: record.clone() };
    let mut conn =
        Conn { wire: Wire::new(recorder), stream: Some(stream), shared: shared.clone(), index, last: false };
    handle(&mut conn);
    drop(conn);
    shared.live.lock().unwrap().remove(&index);
    record.ended.lock().unwrap().get_or_insert(Ended::Closed);
}
