//! The floor of any proxy: a one-thread TCP forwarder that parses nothing.
//! Each client gets a connection to the backend of its own; bytes go through one buffer, or with `splice`
//! through a pipe per direction. Half-close is kept. No timeouts and no limits: never let it face a network.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::sys::{self, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Epoll, Event};

const LISTENER: u64 = u64::MAX;
const EVENTS_PER_WAIT: usize = 256;
const ACCEPT_QUEUE: i32 = 4096;
const BUFFER_BYTES: usize = 256 << 10;
const PIPE_BYTES: usize = 1 << 20;

/// Serves until killed. The address is printed once the socket listens, so that a parent can wait for it.
pub fn serve(listen: SocketAddr, to: SocketAddr, splice: bool) -> io::Result<()> {
    sys::raise_open_files();
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    sys::set_backlog(&listener, ACCEPT_QUEUE)?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, EPOLLIN, LISTENER)?;
    let buffer = vec![0; BUFFER_BYTES];
    Forwarder { epoll, listener, to, splice, ends: Vec::new(), closed: Vec::new(), buffer }.run()
}

struct Forwarder {
    epoll: Epoll,
    listener: TcpListener,
    to: SocketAddr,
    splice: bool,
    /// By descriptor. The two ends of a pair know each other's.
    ends: Vec<Option<End>>,
    /// Closed in this batch of events. Kept to its end, so that a stale event meets no new connection
    /// under the same descriptor.
    closed: Vec<End>,
    buffer: Vec<u8>,
}

/// One socket of a pair, with what was read from it and the peer has not yet taken.
struct End {
    stream: TcpStream,
    peer: usize,
    carry: Carry,
    /// Its FIN has been read.
    ended: bool,
    interest: i32,
}

enum Carry {
    Copied(Vec<u8>),
    Piped { read: OwnedFd, write: OwnedFd, held_bytes: usize },
}

impl Carry {
    fn is_empty(&self) -> bool {
        match self {
            Self::Copied(bytes) => bytes.is_empty(),
            Self::Piped { held_bytes, .. } => *held_bytes == 0,
        }
    }
}

impl Forwarder {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [sys::NO_EVENT; EVENTS_PER_WAIT];
        loop {
            let count = self.epoll.wait(&mut events, None)?;
            for event in &events[..count] {
                match event.u64 {
                    LISTENER => self.accept()?,
                    _ => self.ready(event),
                }
            }
            self.closed.clear();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok((client, _)) = self.listener.accept() {
            // Blocking is all right: on loopback a connect ends at once. A refusal just drops the client.
            let Ok(server) = TcpStream::connect(self.to) else { continue };
            let (first, second) = (client.as_raw_fd() as usize, server.as_raw_fd() as usize);
            self.add(client, second)?;
            self.add(server, first)?;
        }
        Ok(())
    }

    fn add(&mut self, stream: TcpStream, peer: usize) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = stream.as_raw_fd() as usize;
        let carry = if self.splice {
            let (read, write) = sys::pipe(PIPE_BYTES)?;
            Carry::Piped { read, write, held_bytes: 0 }
        } else {
            Carry::Copied(Vec::new())
        };
        self.epoll.add(&stream, EPOLLIN, index as u64)?;
        if self.ends.len() <= index {
            self.ends.resize_with(index + 1, || None);
        }
        self.ends[index] = Some(End { stream, peer, carry, ended: false, interest: EPOLLIN });
        Ok(())
    }

    fn ready(&mut self, event: &Event) {
        let (index, bits) = (event.u64 as usize, event.events as i32);
        let Some(peer) = self.ends.get(index).and_then(Option::as_ref).map(|end| end.peer) else { return };
        let mut result = if bits & EPOLLERR != 0 { Err(ErrorKind::ConnectionReset.into()) } else { Ok(()) };
        if result.is_ok() && bits & EPOLLOUT != 0 {
            result = self.transfer(peer, index, false);
        }
        if result.is_ok() && bits & (EPOLLIN | EPOLLHUP) != 0 {
            result = self.transfer(index, peer, true);
        }
        if result.is_err() || self.is_over(index, peer) {
            self.closed.extend(self.ends[index].take());
            self.closed.extend(self.ends[peer].take());
        }
    }

    fn is_over(&self, one: usize, other: usize) -> bool {
        [one, other]
            .iter()
            .all(|&index| self.ends[index].as_ref().is_none_or(|end| end.ended && end.carry.is_empty()))
    }

    /// Moves bytes that `from` has received on to `to`: those held back first, then, if asked, new ones.
    fn transfer(&mut self, from: usize, to: usize, read: bool) -> io::Result<()> {
        let [Some(source), Some(sink)] =
            self.ends.get_disjoint_mut([from, to]).map_err(|_| ErrorKind::Other)?
        else {
            return Ok(());
        };
        let read = read && !source.ended;
        let newly_ended = match &mut source.carry {
            Carry::Copied(held) => {
                let (stream, sink) = (&mut source.stream, &mut sink.stream);
                copy(stream, sink, held, &mut self.buffer, read)?
            }
            Carry::Piped { read: pipe_out, write: pipe_in, held_bytes } => {
                move_pages(&source.stream, &sink.stream, (pipe_in, pipe_out), held_bytes, read)?
            }
        };
        source.ended |= newly_ended;
        if source.ended && source.carry.is_empty() && (newly_ended || !read) {
            // The other side may have closed both ways already.
            let _ = sink.stream.shutdown(Shutdown::Write);
        }
        self.set_interest(from)?;
        self.set_interest(to)
    }

    /// An end is read while its own bytes flow, and waited on for writing while its peer's are held back.
    fn set_interest(&mut self, index: usize) -> io::Result<()> {
        let Some(end) = self.ends[index].as_ref() else { return Ok(()) };
        let reads = !end.ended && end.carry.is_empty();
        let writes = self.ends[end.peer].as_ref().is_some_and(|peer| !peer.carry.is_empty());
        let interest = if reads { EPOLLIN } else { 0 } | if writes { EPOLLOUT } else { 0 };
        if let Some(end) = self.ends[index].as_mut().filter(|end| end.interest != interest) {
            end.interest = interest;
            self.epoll.modify(&end.stream, interest, index as u64)?;
        }
        Ok(())
    }
}

/// One read and one write at most; true when the source has ended.
fn copy(
    from: &mut TcpStream,
    to: &mut TcpStream,
    held: &mut Vec<u8>,
    buffer: &mut [u8],
    read: bool,
) -> io::Result<bool> {
    if !held.is_empty() {
        let written = taken(to.write(held))?;
        held.drain(..written);
    }
    if !read || !held.is_empty() {
        return Ok(false);
    }
    let count = match from.read(buffer) {
        Ok(0) => return Ok(true),
        other => taken(other)?,
    };
    if count > 0 {
        let written = taken(to.write(&buffer[..count]))?;
        held.extend_from_slice(&buffer[written..count]);
    }
    Ok(false)
}

/// The same through a pipe, whose pages the kernel hands on.
fn move_pages(
    from: &TcpStream,
    to: &TcpStream,
    (pipe_in, pipe_out): (&OwnedFd, &OwnedFd),
    held_bytes: &mut usize,
    read: bool,
) -> io::Result<bool> {
    if read && *held_bytes == 0 {
        match sys::splice(from, pipe_in, PIPE_BYTES) {
            Ok(0) => return Ok(true),
            other => *held_bytes += taken(other)?,
        }
    }
    while *held_bytes > 0 {
        let count = taken(sys::splice(pipe_out, to, *held_bytes))?;
        *held_bytes -= count;
        if count == 0 {
            break;
        }
    }
    Ok(false)
}

/// A socket that is not ready took or gave nothing.
fn taken(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    /// Sends a large message each way with slow readers; both must arrive whole, and the FINs too.
    fn carries_everything(splice: bool) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = backend.local_addr().unwrap();
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = probe.local_addr().unwrap();
        drop(probe);
        thread::spawn(move || serve(listen, to, splice));
        let message: Vec<u8> = (0..5_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let expected = message.clone();
        let server = thread::spawn(move || {
            let (mut stream, _) = backend.accept().unwrap();
            thread::sleep(Duration::from_millis(100));
            let mut seen = Vec::new();
            stream.read_to_end(&mut seen).unwrap();
            stream.write_all(&seen).unwrap();
        });
        let mut client = (0..100)
            .find_map(|_| {
                TcpStream::connect(listen).ok().or_else(|| (thread::sleep(Duration::from_millis(20)), None).1)
            })
            .unwrap();
        client.write_all(&message).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        thread::sleep(Duration::from_millis(100));
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == expected, "{} of {} bytes came back", back.len(), expected.len());
        server.join().unwrap();
    }

    #[test]
    fn copying_carries_everything() {
        carries_everything(false);
    }

    #[test]
    fn splicing_carries_everything() {
        carries_everything(true);
    }
}
