//! The backend: an HTTP/1.1 server much cheaper than any proxy, so that the figures are the proxy's.
//! Owns the event loop, accepting and the clock of event streams; `connection` holds one client's state.
//! It trusts its caller: no timeouts and only coarse bounds, so never let it face a network.

pub mod answer;
mod connection;
pub mod http2;
mod request;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::sys::{self, EPOLLERR, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT, Epoll, Event, Ticker};
use answer::Answers;
use connection::{Connection, Shared, Step};

const LISTENER: u64 = u64::MAX;
const TICKER: u64 = u64::MAX - 1;
const EVENTS_PER_WAIT: usize = 256;
const ACCEPT_QUEUE: i32 = 4096;
/// Events of a stream are at most this late; the timer runs only while there are streams.
const STREAM_TICK: Duration = Duration::from_millis(1);

/// Serves until killed. The address is printed once the socket listens, so that a parent can wait for it.
pub fn serve(listen: SocketAddr, threads: usize) -> io::Result<()> {
    sys::raise_open_files();
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    sys::set_backlog(&listener, ACCEPT_QUEUE)?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    let answers = Arc::new(Answers::new());
    let requests = Arc::new(AtomicU64::new(0));
    for _ in 1..threads.max(1) {
        let (listener, answers, requests) = (listener.try_clone()?, answers.clone(), requests.clone());
        thread::spawn(move || {
            Server::new(listener, Shared::new(answers, requests)).and_then(|mut s| s.run())
        });
    }
    Server::new(listener, Shared::new(answers, requests))?.run()
}

/// One thread's loop. Connections are found by their descriptor.
struct Server {
    epoll: Epoll,
    listener: TcpListener,
    connections: Vec<Option<Box<Connection>>>,
    /// Descriptors of the connections that stream events.
    streams: Vec<usize>,
    ticker: Option<Ticker>,
    /// Closed in this batch of events. Kept to its end, so that a stale event meets no new connection
    /// under the same descriptor.
    closed: Vec<Connection>,
    shared: Shared,
}

impl Server {
    fn new(listener: TcpListener, shared: Shared) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&listener, EPOLLIN | EPOLLEXCLUSIVE, LISTENER)?;
        let (connections, streams, closed) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { epoll, listener, connections, streams, ticker: None, closed, shared })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [sys::NO_EVENT; EVENTS_PER_WAIT];
        loop {
            let count = self.epoll.wait(&mut events, None)?;
            for event in &events[..count] {
                match event.u64 {
                    LISTENER => self.accept()?,
                    TICKER => self.tick(),
                    _ => self.connection_ready(event)?,
                }
            }
            self.closed.clear();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = stream.as_raw_fd() as usize;
            self.epoll.add(&stream, EPOLLIN, index as u64)?;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Box::new(Connection::new(stream)));
        }
        Ok(())
    }

    fn connection_ready(&mut self, event: &Event) -> io::Result<()> {
        let index = event.u64 as usize;
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        let gone = event.events & (EPOLLERR | EPOLLHUP) as u32 != 0;
        let step = if gone { Step::Close } else { connection.advance(&mut self.shared) };
        self.settle(index, step)
    }

    /// Makes the queue match what the connection waits for now.
    fn settle(&mut self, index: usize, step: Step) -> io::Result<()> {
        let Some(connection) = self.connections[index].as_mut() else { return Ok(()) };
        let wants_write = match step {
            Step::Close => {
                self.closed.extend(self.connections[index].take().map(|connection| *connection));
                return Ok(());
            }
            Step::Read => false,
            Step::Write => true,
        };
        if connection.waits_to_write != wants_write {
            connection.waits_to_write = wants_write;
            let interest = if wants_write { EPOLLOUT } else { EPOLLIN };
            self.epoll.modify(&connection.stream, interest, index as u64)?;
        }
        if connection.begins_stream() {
            self.streams.push(index);
            self.start_ticker()?;
        }
        Ok(())
    }

    fn start_ticker(&mut self) -> io::Result<()> {
        if self.ticker.is_none() {
            let ticker = Ticker::every(STREAM_TICK)?;
            self.epoll.add(&ticker, EPOLLIN, TICKER)?;
            self.ticker = Some(ticker);
        }
        Ok(())
    }

    fn tick(&mut self) {
        if let Some(ticker) = &mut self.ticker {
            ticker.expirations();
        }
        let (now, event) = (Instant::now(), answer::event(SystemTime::now()));
        let (connections, closed, shared) = (&mut self.connections, &mut self.closed, &self.shared);
        self.streams.retain(|&index| {
            let Some(connection) = connections[index].as_mut() else { return false };
            match connection.stream_events(now, &event, shared) {
                Ok(more) => more,
                Err(_) => {
                    closed.extend(connections[index].take().map(|connection| *connection));
                    false
                }
            }
        });
        if self.streams.is_empty() {
            self.ticker = None;
        }
    }
}
