//! Owns the reading half of one HTTP/1 connection, client or upstream: bytes received and not yet used, and
//! the wait for more. Also writes whole pieces. Does not open the socket, parse, or keep time.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::config::tls::ListenerTls;
use crate::net::splice::Pipe;
use crate::net::tcp::Stream;
use crate::runtime::buffer::{BUFFER_BYTES, Buffer, BufferPool, Exhausted};

pub struct Reader {
    pub stream: Stream,
    buffers: Rc<BufferPool>,
    /// None while nothing is received: an idle connection holds no buffer.
    buffer: Option<Buffer>,
    /// The next buffer taken is a large one.
    prefers_large: bool,
    /// The last read filled all the room it had, so that more is assumed to be there without a wait. Only an
    /// assumption: whoever wants to know for sure looks.
    assumes_more: bool,
}

impl Reader {
    pub fn new(stream: Stream, buffers: Rc<BufferPool>) -> Reader {
        Reader { stream, buffers, buffer: None, prefers_large: false, assumes_more: false }
    }

    /// Shakes hands as a TLS server; what was received already is where that begins. Returns whether an earlier session
    /// goes on.
    pub async fn secure(&mut self, tls: &ListenerTls) -> io::Result<bool> {
        self.assumes_more = false;
        let verifier = tls.verifier.as_deref();
        self.stream.secure(tls.config.clone(), verifier, &self.buffers, self.buffer.take()).await
    }

    /// Bytes received and not yet consumed.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::filled)
    }

    pub fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.consume(count);
            if buffer.is_empty() {
                self.buffer = None;
            }
        }
    }

    /// Takes the first `count` bytes as a buffer of its own; what follows them stays here.
    pub fn split(&mut self, count: usize) -> Buffer {
        let Some(mut front) = self.buffer.take() else { return self.buffers.take() };
        let rest = &front.filled()[count..];
        if !rest.is_empty() {
            let mut back =
                if rest.len() > BUFFER_BYTES { self.buffers.take_large() } else { self.buffers.take() };
            back.append(rest);
            self.buffer = Some(back);
            front.truncate(count);
        }
        if self.buffers.is_scarce() {
            front.fit();
        }
        front
    }

    /// No room is left: the caller consumes or grows before it fills again.
    pub fn is_full(&self) -> bool {
        self.buffer.as_ref().is_some_and(Buffer::is_full)
    }

    pub fn is_large(&self) -> bool {
        self.buffer.as_ref().is_some_and(Buffer::is_large)
    }

    /// Continues in a larger buffer.
    pub fn grow(&mut self) -> Result<(), Exhausted> {
        self.buffer.get_or_insert_with(|| self.buffers.take()).grow()
    }

    /// Whether large buffers are taken, while they are plenty, until the connection idles.
    pub fn prefer_large(&mut self, prefers_large: bool) {
        self.prefers_large = prefers_large;
    }

    /// Waits for input without taking it: an idle connection stays without a buffer.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Whether the last read took exactly what was there shows only here, since nobody waits for less.
        if std::mem::take(&mut self.assumes_more) && !self.stream.has_input_or_is_closed() {
            self.stream.read_blocked();
        }
        self.stream.poll_readable(context)
    }

    /// Receives once. `Ok(0)` is the peer's FIN.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill_at_most(context, usize::MAX)
    }

    /// Receives once, at most `most` bytes, so that bytes of the next message stay in the kernel.
    pub fn poll_fill_at_most(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_readable(context).is_pending() {
                return Poll::Pending;
            }
            let (buffers, large) = (&self.buffers, self.prefers_large);
            let take = || if large { buffers.take_roomy() } else { buffers.take() };
            let buffer = self.buffer.get_or_insert_with(take);
            let spare = buffer.spare();
            let room = spare.len().min(most);
            debug_assert!(room > 0, "a full reader cannot be filled");
            match self.stream.try_read(&mut spare[..room]) {
                Ok(0) => return self.closed(Ok(0)),
                Ok(count) => {
                    buffer.fill(count);
                    self.assumes_more = count == room;
                    if !self.assumes_more {
                        self.stream.was_drained();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.assumes_more = false;
                    self.release_if_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.closed(Err(error)),
            }
        }
    }

    /// Ready when input is there, or is assumed to be: taking it tells.
    pub fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_readable(context)
    }

    /// Moves input into the pipe, at most `most` bytes, past the buffer: nothing received may lie there.
    /// `Ok(0)` is the peer's FIN; `WouldBlock` means wait for `readable`; `Unsupported` that the next bytes have to be
    /// read, since splice(2) does not pass an urgent one.
    pub fn splice_into(&mut self, pipe: &mut Pipe, most: u64) -> io::Result<usize> {
        debug_assert!(self.bytes().is_empty(), "bytes received earlier come first");
        let moved = pipe.try_fill(&self.stream, most);
        match &moved {
            // How much is left cannot be told from the count: a pipe is full by its pages, not by its bytes.
            Ok(1..) => self.assumes_more = true,
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.stream.knows_of_more() && self.stream.has_input_or_is_closed() {
                    return Err(ErrorKind::Unsupported.into());
                }
                self.assumes_more = false;
                self.stream.read_blocked();
            }
            Err(_) => self.assumes_more = false,
        }
        moved
    }

    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    /// Resolves when the peer has gone (FIN or error). Early bytes are kept for later; once the buffer is
    /// full of them, a FIN behind them cannot be seen.
    pub async fn gone(&mut self) {
        poll_fn(|context| {
            loop {
                if self.is_full() {
                    return Poll::Pending;
                }
                match self.poll_fill(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                }
            }
        })
        .await
    }

    /// Prepares a connection for the pool. `false` if it is not fit: it has unused bytes, or the kernel has
    /// more, which between two responses means closed or confused.
    pub fn begin_idle(&mut self) -> bool {
        self.prefers_large = false;
        if std::mem::take(&mut self.assumes_more) {
            if self.stream.has_input_or_is_closed() {
                return false;
            }
            self.stream.read_blocked();
        }
        self.stream.forget_reader();
        self.is_fit_to_idle()
    }

    /// `false` once the upstream is known to have closed or spoken unasked.
    pub fn is_fit_to_idle(&self) -> bool {
        self.bytes().is_empty() && self.stream.is_silent()
    }

    fn closed(&mut self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        if self.bytes().is_empty() {
            self.buffer = None;
        }
        Poll::Ready(result)
    }

    fn release_if_empty(&mut self) {
        self.stream.read_blocked();
        if self.bytes().is_empty() {
            self.buffer = None;
        }
    }
}

/// Sends all of `bytes`. `progress` is called before each wait, so that the caller can restart its clock.
pub async fn write_all(stream: &Stream, mut bytes: &[u8], progress: impl Fn()) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                progress();
                stream.writable().await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends what the kernel takes of `bytes` without a wait; returns how much that was.
pub fn write_now(stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
    none_if_blocked(if bytes.is_empty() { Ok(0) } else { stream.try_write(bytes) })
}

/// `write_now` of `first` and `second` behind it, in one system call.
pub fn write_both_now(stream: &Stream, first: &[u8], second: &[u8]) -> io::Result<usize> {
    none_if_blocked(stream.try_write_both(first, second))
}

fn none_if_blocked(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        sent => sent,
    }
}
