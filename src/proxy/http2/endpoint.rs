//! Owns our end of an HTTP/2 connection to an endpoint: its task, and the streams that requests open on it. Connects to
//! nobody, and chooses none.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::http::h1_conn::Reader;
use crate::http::h2::conn::Connection;
use crate::net::tcp::Stream;
use crate::net::tls::Towards;
use crate::runtime::core::Core;
use crate::runtime::panics::contain;

use super::super::deadline::{Deadline, bounded};
use super::{Driver, Http2Stream, Phase, Shared, Side, limits};

/// For the last words, which nobody may read.
const END_TIME: Duration = Duration::from_secs(2);

/// Speaks HTTP/2 on a connection that was made. A task of its own reads and writes it from now on, until it has been idle for
/// as long as a pooled connection may, or ends otherwise.
pub fn begin(core: &Rc<Core>, stream: Stream) -> Rc<Shared> {
    let limits = limits(&core.snapshot().settings);
    let connection = Connection::client(core.buffers.clone(), limits, core.timers.now());
    let shared = Shared::new(core, &stream, connection);
    monoio::spawn(contained(shared.clone(), Reader::new(stream, core.buffers.clone())));
    shared
}

async fn contained(shared: Rc<Shared>, reader: Reader) {
    let core = shared.core.clone();
    if let Err(message) = contain(drive(shared, reader)).await {
        core.metrics.panicked();
        core.complaints.say(core.timers.lately(), || {
            format!("the task of a connection to an endpoint panicked: {message}")
        });
    }
}

async fn drive(shared: Rc<Shared>, mut reader: Reader) {
    let deadline = Deadline::new(shared.core.timers.timer());
    let mut driver = Driver {
        shared: &shared,
        reader: &mut reader,
        deadline: &deadline,
        side: Side::Endpoint,
        phase: Phase::Fresh,
    };
    let is_said = driver.run().await;
    drop(driver);
    if is_said {
        deadline.bound_request(None);
        deadline.start(Kind::IdleTimeout, END_TIME);
        let said = async {
            reader.stream.say_end().await;
            Ok(())
        };
        let _: Result<(), Error> = bounded(pin!(said), &deadline).await;
    }
    reader.stream.shutdown_both();
}

impl Shared {
    /// Whether a request may be sent on it, by who would be secured in this way.
    pub fn may_open(&self, towards: Option<&Towards>) -> bool {
        let connection = self.connection.borrow();
        if self.is_closed.get() || self.is_doubted.get() || !connection.may_open() {
            return false;
        }
        // On one that idles nobody may have heard of its end.
        let may_have_ended =
            connection.open_streams() == 0 && self.socket.is_plain() && self.socket.has_input_or_is_closed();
        !may_have_ended && self.socket.is_secured_towards(towards)
    }

    /// Whether it is of no use any more, whatever becomes of the streams that are open.
    pub fn is_spent(&self, towards: Option<&Towards>) -> bool {
        self.is_closed.get() || !self.socket.is_secured_towards(towards)
    }

    /// Waits until the endpoint has said whether it takes CONNECT with a protocol, and says so. `None`: its end came first.
    pub async fn takes_protocols(&self) -> Option<bool> {
        poll_fn(|context| {
            let takes = self.connection.borrow().takes_protocols();
            match takes {
                Some(takes) => Poll::Ready(Some(takes)),
                None if self.is_closed.get() => Poll::Ready(None),
                None => {
                    self.until_known.borrow_mut().push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Opens a stream with this request, an HTTP/1.1 head; `is_end`: it has no body. With a `protocol`, a tunnel follows.
    /// `None`: see `may_open`.
    pub fn request(
        self: &Rc<Self>,
        head: &[u8],
        protocol: Option<&[u8]>,
        is_end: bool,
    ) -> Option<Rc<Http2Stream>> {
        let scheme: &[u8] = if self.socket.is_plain() { b"http" } else { b"https" };
        let key = self.connection.borrow_mut().request(head, scheme, protocol, is_end)?;
        self.wake_driver();
        Some(Http2Stream::asking(self.clone(), key))
    }

    /// No new streams; it ends with those that are open.
    pub fn end(&self) {
        self.connection.borrow_mut().end();
        self.wake_driver();
    }
}
