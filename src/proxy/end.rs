//! Owns the client's end of an exchange: an HTTP/1 connection, which serves one request after the other, or one stream of an
//! HTTP/2 connection. What both can do stands here; what only one can, with whoever does it.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::rc::Rc;

use bytes::Bytes;

use crate::error::{Error, Kind};
use crate::http::h1_conn::{Reader, write_all, write_both_now, write_now};
use crate::net::tcp::Stream;

use super::deadline::{Deadline, supervised};
use super::http2::Http2Stream;
use super::kept::Kept;

pub enum End {
    Http1(Reader),
    Http2(Rc<Http2Stream>),
    /// A request of our own.
    Own(Own),
}

/// All of a body in the framing that its head tells of, and nobody who waits.
pub struct Own {
    pub body: Bytes,
    /// Where the answer is kept, if anybody wants it.
    pub answer: Option<Kept>,
}

/// Where an answer goes.
pub enum Outlet {
    Http1(Stream),
    Http2(Rc<Http2Stream>),
    Own(Option<Kept>),
}

impl End {
    /// The connection that it is, or is on.
    pub fn socket(&self) -> Option<&Stream> {
        match self {
            End::Http1(reader) => Some(&reader.stream),
            End::Http2(stream) => Some(stream.socket()),
            End::Own(_) => None,
        }
    }

    pub fn outlet(&self) -> Outlet {
        match self {
            End::Http1(reader) => Outlet::Http1(reader.stream.clone()),
            End::Http2(stream) => Outlet::Http2(stream.clone()),
            End::Own(own) => Outlet::Own(own.answer.clone()),
        }
    }

    /// Appends the first `count` bytes of the request's body as they arrived; as many have.
    pub fn copy_arrived(&self, count: usize, out: &mut Vec<u8>) {
        match self {
            End::Http1(reader) => out.extend_from_slice(&reader.bytes()[..count]),
            End::Http2(stream) => stream.copy_arrived(count, out),
            End::Own(own) => out.extend_from_slice(&own.body[..count]),
        }
    }

    /// The first `count` bytes of the request's body as they arrived, to be kept; as many have.
    pub fn taken(&self, count: usize) -> Bytes {
        if let End::Own(own) = self {
            return own.body.slice(..count);
        }
        let mut bytes = Vec::with_capacity(count);
        self.copy_arrived(count, &mut bytes);
        bytes.into()
    }

    /// The first `count` bytes of the request's body as they arrived; as many have. `scratch` is room for them.
    pub fn arrived<'b>(&'b self, count: usize, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        match self {
            End::Http1(reader) => &reader.bytes()[..count],
            End::Http2(stream) => {
                stream.copy_arrived(count, scratch);
                scratch
            }
            End::Own(own) => &own.body[..count],
        }
    }

    /// They are not needed any more.
    pub fn consume(&mut self, count: usize) {
        match self {
            End::Http1(reader) => reader.consume(count),
            // What is left goes with it.
            End::Http2(_) | End::Own(_) => {}
        }
    }

    /// Drives `work` until it ends, nobody is there any more to be answered, or the phase runs out.
    pub async fn unless_gone<T>(
        &mut self,
        work: Pin<&mut impl Future<Output = Result<T, Error>>>,
        deadline: &Deadline,
    ) -> Result<T, Error> {
        let left = async {
            self.gone().await;
            Kind::ClientClosed.into()
        };
        supervised(work, pin!(left), deadline).await
    }

    /// Resolves when nobody is there any more to be answered.
    pub async fn gone(&mut self) {
        match self {
            End::Http1(reader) => reader.gone().await,
            End::Http2(stream) => stream.gone().await,
            End::Own(_) => pending().await,
        }
    }
}

impl Outlet {
    /// Whether bytes may pass from there to here by splice(2).
    pub fn may_splice_from(&self, from: &Stream) -> Option<&Stream> {
        match self {
            Outlet::Http1(stream) => Some(stream).filter(|stream| from.may_splice_to(stream)),
            Outlet::Http2(_) | Outlet::Own(_) => None,
        }
    }

    /// Sends a whole informational head. `slow` is called before each wait.
    pub async fn inform(&self, head: &[u8], slow: impl Fn()) -> io::Result<()> {
        match self {
            Outlet::Http1(stream) => write_all(stream, head, slow).await,
            Outlet::Http2(stream) => {
                // It is only a hint: who does not read even answers gets none.
                if stream.has_room() {
                    stream.send_head(head, false);
                }
                Ok(())
            }
            Outlet::Own(_) => Ok(()),
        }
    }

    /// Ends a body with these lines of trailers, if there are any, where they have not been sent as they came.
    pub fn end_with(&self, trailers: &[u8]) {
        match self {
            Outlet::Http2(stream) if !trailers.is_empty() => stream.send_trailers(trailers),
            Outlet::Own(Some(answer)) => answer.end_with(trailers),
            _ => {}
        }
    }

    /// Sends `head`, or what is left of it, and a piece of the body behind it. `is_last`: the body ends with it.
    pub async fn send(
        &self,
        head: &mut Vec<u8>,
        piece: &[u8],
        is_last: bool,
        slow: impl Fn(),
    ) -> io::Result<()> {
        match self {
            Outlet::Http1(stream) => send_http1(stream, head, piece, slow).await,
            Outlet::Http2(stream) => {
                if !head.is_empty() {
                    stream.send_head(head, is_last && piece.is_empty());
                    head.clear();
                }
                match stream.try_send(piece, is_last)? {
                    (_, true) => Ok(()),
                    (count, false) => Box::pin(stream.send(&piece[count..], is_last, slow)).await,
                }
            }
            Outlet::Own(answer) => {
                let is_of_use = answer.as_ref().is_none_or(|answer| answer.keep(head) && answer.keep(piece));
                head.clear();
                if is_of_use { Ok(()) } else { Err(gone()) }
            }
        }
    }
}

async fn send_http1(stream: &Stream, head: &mut Vec<u8>, piece: &[u8], slow: impl Fn()) -> io::Result<()> {
    // One copy of a small piece is cheaper than a second element of a vectored send.
    const COPIED_BYTES_MAX: usize = 4096;
    if head.is_empty() {
        return write_rest(stream, piece, slow).await;
    }
    let is_copied = piece.len() <= COPIED_BYTES_MAX;
    let mut rest = piece;
    if is_copied {
        head.extend_from_slice(piece);
        rest = &[];
        write_rest(stream, head, &slow).await?;
    } else {
        let count = write_both_now(stream, head, piece)?;
        match count.checked_sub(head.len()) {
            Some(of_piece) => rest = &piece[of_piece..],
            None => write_rest(stream, &head[count..], &slow).await?,
        }
    }
    head.clear();
    write_rest(stream, rest, slow).await
}

/// Apart from the wait, since most pieces leave at once and need no room for one.
async fn write_rest(stream: &Stream, bytes: &[u8], slow: impl Fn()) -> io::Result<()> {
    match write_now(stream, bytes)? {
        count if count == bytes.len() => Ok(()),
        count => Box::pin(write_all(stream, &bytes[count..], slow)).await,
    }
}

/// The error of a client that has gone.
pub fn gone() -> io::Error {
    ErrorKind::ConnectionAborted.into()
}
