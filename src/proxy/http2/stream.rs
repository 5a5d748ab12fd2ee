//! Owns one stream's end of an exchange: what its task reads and writes. Its drop releases the stream, and resets it if the
//! answer was not complete.

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
}

/// What comes next of a request's body.
pub enum Input {
    /// Payload; `credit` tells when it is used.
    Piece(Buffer),
    /// The end, with the lines of trailers.
    End(Vec<u8>),
    /// The client has given up.
    Gone,
}

impl Http2Stream {
    pub(super) fn new(shared: Rc<Shared>, key: Key) -> Rc<Http2Stream> {
        Rc::new(Http2Stream { shared, key, code: Cell::new(Code::Internal) })
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

    pub async fn input(&self) -> Input {
        poll_fn(|context| self.poll_input(context)).await
    }

    fn poll_input(&self, context: &mut Context<'_>) -> Poll<Input> {
        if self.is_gone() {
            return Poll::Ready(Input::Gone);
        }
        let mut connection = self.shared.connection.borrow_mut();
        if let Some(piece) = connection.take_received(self.key) {
            return Poll::Ready(Input::Piece(piece));
        }
        if !connection.state(self.key).may_receive() {
            return Poll::Ready(Input::End(connection.trailers(self.key).to_vec()));
        }
        self.shared.wait(self.key, context);
        Poll::Pending
    }

    /// So many bytes of pieces have been used: the client may send as many again.
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

    /// Whether nobody waits for its answer any more.
    pub fn is_gone(&self) -> bool {
        let connection = self.shared.connection.borrow();
        self.shared.is_closed.get()
            || connection.broken().is_some()
            || matches!(connection.state(self.key), State::Reset(_))
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
        let count = connection.send_data(self.key, piece, is_last);
        let is_over = count == piece.len() && (!is_last || connection.has_ended(self.key));
        drop(connection);
        self.shared.wake_driver();
        Ok((count, is_over))
    }

    /// Sends a piece of the body as the client's windows allow. `slow` is called before each wait that follows progress.
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
