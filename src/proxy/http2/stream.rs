//! Owns one stream's end of an exchange: what a task reads and writes on it, be it a client's stream or one that we have opened
//! at an endpoint. Its drop releases the stream, and resets it if the exchange was not complete.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::http::h2::conn::Key;
use crate::http::h2::frame::Code;
use crate::http::h2::stream::State;
use crate::net::tcp::Stream;
use crate::runtime::buffer::Buffer;

use super::super::end;
use super::Shared;

pub struct Http2Stream {
    pub(super) shared: Rc<Shared>,
    key: Key,
    /// Why it ends, if that is before its answer does.
    code: Cell<Code>,
    /// What had been heard on the connection when it was opened.
    heard_before: u64,
}

/// Why a stream at an endpoint has ended before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint has not seen the request, and never will.
    Unseen,
    /// It refuses to look at it.
    Refused,
    Reset(Code),
    /// Its answer breaks the protocol.
    Malformed,
    /// The connection has ended.
    Closed,
}

/// What comes next of a body.
pub enum Input {
    /// Payload; `credit` tells when it is used.
    Piece(Buffer),
    /// The end, with the lines of trailers.
    End(Vec<u8>),
    /// The peer has given up.
    Gone,
}

impl Http2Stream {
    pub(super) fn new(shared: Rc<Shared>, key: Key) -> Rc<Http2Stream> {
        Rc::new(Http2Stream { shared, key, code: Cell::new(Code::Internal), heard_before: 0 })
    }

    /// One that we have opened. Who lets go of it before its end has no use for it any more.
    pub(super) fn asking(shared: Rc<Shared>, key: Key) -> Rc<Http2Stream> {
        let heard_before = shared.heard.get();
        Rc::new(Http2Stream { shared, key, code: Cell::new(Code::Cancel), heard_before })
    }

    /// Heads of the response, as they come: none after the final one.
    pub async fn heads(&self) -> Result<Vec<u8>, Failure> {
        poll_fn(|context| {
            let heads = self.shared.connection.borrow_mut().take_heads(self.key);
            if !heads.is_empty() {
                return Poll::Ready(Ok(heads));
            }
            if self.is_gone() {
                return Poll::Ready(Err(self.failure()));
            }
            self.shared.wait(self.key, context);
            Poll::Pending
        })
        .await
    }

    /// Why it is gone.
    pub fn failure(&self) -> Failure {
        let connection = self.shared.connection.borrow();
        match connection.state(self.key) {
            _ if connection.is_unseen(self.key) => Failure::Unseen,
            State::Reset(_) if connection.is_malformed(self.key) => Failure::Malformed,
            State::Reset(Code::RefusedStream) => Failure::Refused,
            State::Reset(code) => Failure::Reset(code),
            _ => Failure::Closed,
        }
    }

    /// What ended its connection, if that was no orderly end.
    pub fn connection_error(&self) -> Option<Rc<io::Error>> {
        self.shared.error.borrow().clone()
    }

    /// It was not answered in time: if nothing else has been heard on the connection meanwhile, it gets no more requests
    /// until something is.
    pub fn doubt(&self) {
        let has_heard = self.shared.heard.get() != self.heard_before;
        self.shared.is_doubted.set(!has_heard);
    }

    pub fn socket(&self) -> &Stream {
        &self.shared.socket
    }

    /// What it is reset with if its answer is not complete when this drops.
    pub fn ends_with(&self, code: Code) {
        self.code.set(code);
    }

    /// How many bytes of the body wait here, and whether those are all that is missing.
    pub fn arrived(&self) -> (usize, bool) {
        let connection = self.shared.connection.borrow();
        let has_ended = matches!(connection.state(self.key), State::HalfClosedRemote | State::Closed);
        let is_whole = has_ended && connection.trailers(self.key).is_empty();
        (connection.received(self.key).len(), is_whole)
    }

    pub fn copy_arrived(&self, count: usize, out: &mut Vec<u8>) {
        let connection = self.shared.connection.borrow();
        // A reset meanwhile leaves nothing, and ends the exchange.
        out.extend(connection.received(self.key).iter().take(count));
    }

    /// Resolves once more than `count` bytes of the body wait here, or it is over: how many, and whether it is. `None`: the
    /// peer has given up.
    pub async fn arrived_beyond(&self, count: usize) -> Option<(usize, bool)> {
        poll_fn(|context| {
            if self.is_gone() {
                return Poll::Ready(None);
            }
            let connection = self.shared.connection.borrow();
            let arrived = connection.received(self.key).len();
            let is_over = !connection.state(self.key).may_receive();
            drop(connection);
            if arrived > count || is_over {
                return Poll::Ready(Some((arrived, is_over)));
            }
            self.shared.wait(self.key, context);
            Poll::Pending
        })
        .await
    }

    pub async fn input(&self) -> Input {
        poll_fn(|context| self.poll_input(context)).await
    }

    pub fn poll_input(&self, context: &mut Context<'_>) -> Poll<Input> {
        match self.input_now() {
            Some(input) => Poll::Ready(input),
            None => {
                self.shared.wait(self.key, context);
                Poll::Pending
            }
        }
    }

    /// What is there already.
    pub fn input_now(&self) -> Option<Input> {
        let mut connection = self.shared.connection.borrow_mut();
        if let Some(piece) = connection.take_received(self.key) {
            return Some(Input::Piece(piece));
        }
        match connection.state(self.key) {
            State::Reset(_) => Some(Input::Gone),
            state if !state.may_receive() => Some(Input::End(connection.trailers(self.key).to_vec())),
            _ if self.shared.is_closed.get() || connection.broken().is_some() => Some(Input::Gone),
            _ => None,
        }
    }

    /// So many bytes of pieces have been used: the peer may send as many again.
    pub fn credit(&self, count: usize) {
        self.shared.connection.borrow_mut().credit(self.key, count);
        self.shared.wake_driver();
    }

    pub async fn gone(&self) {
        poll_fn(|context| {
            if self.is_gone() {
                return Poll::Ready(());
            }
            self.shared.wait(self.key, context);
            Poll::Pending
        })
        .await
    }

    /// Whether nobody waits for its answer any more, or gives one.
    pub fn is_gone(&self) -> bool {
        let connection = self.shared.connection.borrow();
        let is_over = self.shared.is_closed.get() || connection.broken().is_some();
        match connection.state(self.key) {
            State::Reset(_) => true,
            // What the connection's end came behind is complete.
            State::Closed => false,
            _ => is_over,
        }
    }

    /// Whether what is sent now would soon be on its way.
    pub fn has_room(&self) -> bool {
        self.shared.connection.borrow().has_room()
    }

    /// Sends a head that was rendered for HTTP/1.1.
    pub fn send_head(&self, head: &[u8], is_end: bool) {
        let (status, fields) = split_head(head);
        self.shared.connection.borrow_mut().send_head(self.key, status, fields, is_end);
        self.shared.wake_driver();
    }

    /// Sends trailers, which are the end.
    pub fn send_trailers(&self, lines: &[u8]) {
        self.shared.connection.borrow_mut().send_trailers(self.key, lines);
        self.shared.wake_driver();
    }

    /// Queues what can go at once of a piece of the body: how much that is, and whether nothing is left to do.
    pub fn try_send(&self, piece: &[u8], is_last: bool) -> io::Result<(usize, bool)> {
        if self.is_gone() {
            return Err(end::gone());
        }
        let mut connection = self.shared.connection.borrow_mut();
        if piece.is_empty() && (!is_last || connection.has_ended(self.key)) {
            return Ok((0, true));
        }
        if connection.has_ended(self.key) {
            // It has answered, and takes no more.
            return Err(end::gone());
        }
        let count = connection.send_data(self.key, piece, is_last);
        let is_over = count == piece.len() && (!is_last || connection.has_ended(self.key));
        drop(connection);
        self.shared.wake_driver();
        Ok((count, is_over))
    }

    /// Sends a piece of the body as the peer's windows allow. `slow` is called before each wait that follows progress.
    pub async fn send(&self, mut piece: &[u8], is_last: bool, slow: impl Fn()) -> io::Result<()> {
        let mut has_moved = true;
        poll_fn(|context| {
            loop {
                match self.try_send(piece, is_last) {
                    Ok((_, true)) => return Poll::Ready(Ok(())),
                    Ok((0, false)) => {
                        if std::mem::take(&mut has_moved) {
                            slow();
                        }
                        self.shared.wait(self.key, context);
                        return Poll::Pending;
                    }
                    Ok((count, false)) => {
                        piece = &piece[count..];
                        has_moved = true;
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        if let Some(task) = self.shared.tasks.borrow_mut().get_mut(self.key.0 as usize) {
            *task = None;
        }
        self.shared.connection.borrow_mut().release(self.key, self.code.get());
        self.shared.wake_driver();
    }
}

/// The status of a head that we have rendered, and the lines of its fields.
fn split_head(head: &[u8]) -> (u16, &[u8]) {
    let digits = head.get(9..12).unwrap_or_default();
    let status = digits.iter().fold(0, |status, digit| 10 * status + u16::from(digit.wrapping_sub(b'0')));
    let line = head.iter().position(|&byte| byte == b'\n').map_or(head.len(), |end| end + 1);
    (status, &head[line..])
}
