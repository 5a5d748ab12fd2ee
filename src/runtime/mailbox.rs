//! Owns the one way by which other threads speak to a worker: a small bounded queue and a socket pair whose
//! readability wakes the worker's driver. monoio's own cross-thread wakes are not used. Requests never wait
//! for it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::config::snapshot::Binding;
use crate::observe::CoreReport;

/// Letters waiting per worker; the control thread sends a handful per reload or scrape, and other workers one per
/// socket that they hand over.
const LETTERS_MAX: usize = 1024;

/// What a worker can be asked.
pub enum Letter {
    /// Start accepting on this socket of the binding's group.
    Listen { binding: Binding, socket: Socket },
    /// Refuse new connections or flows, serve those already there, close the socket.
    Unlisten { binding: Binding },
    /// Serve this socket, which another worker accepted on the TCP listener of `address`.
    Adopt { address: std::net::SocketAddr, socket: Socket, peer: std::net::SocketAddr },
    /// A new snapshot was published: close idle upstream connections that it no longer wants.
    Published,
    /// Tasks of yours have been given what they wait for (`Core::waiters`).
    Wake { slots: Vec<u32> },
    /// Copy the counters and histograms.
    Report(tokio::sync::oneshot::Sender<CoreReport>),
    /// Stop accepting, answer with `connection: close`, end when the last connection did or at `until`.
    Drain { until: Instant },
    /// End now.
    Stop,
}

/// The sending half; any thread.
#[derive(Clone)]
pub struct Sender {
    letters: Arc<Mutex<VecDeque<Letter>>>,
    wake: Arc<UnixStream>,
}

/// The worker's half.
pub struct Receiver {
    letters: Arc<Mutex<VecDeque<Letter>>>,
    wake: UnixStream,
}

pub fn mailbox() -> io::Result<(Sender, Receiver)> {
    let (theirs, ours) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    let letters = Arc::new(Mutex::new(VecDeque::new()));
    let sender = Sender { letters: letters.clone(), wake: Arc::new(theirs) };
    Ok((sender, Receiver { letters, wake: ours }))
}

impl Sender {
    /// Gives the letter back if the mailbox is full, which means that the worker has been stuck for a long time.
    pub fn send(&self, letter: Letter) -> Result<(), Letter> {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if letters.len() >= LETTERS_MAX {
            return Err(letter);
        }
        letters.push_back(letter);
        drop(letters);
        // A full socket buffer means that a wake is pending already.
        let _ = (&*self.wake).write(b"!");
        Ok(())
    }
}

impl Receiver {
    /// Splits into the queue and a stream whose readability says that letters may be there.
    pub fn into_parts(self) -> io::Result<(Letters, monoio::net::UnixStream)> {
        let readable = monoio::net::UnixStream::from_std(self.wake.try_clone()?)?;
        Ok((self.into_letters(), readable))
    }

    /// Without the stream, for who looks by himself.
    pub fn into_letters(self) -> Letters {
        Letters { letters: self.letters, wake: self.wake }
    }
}

pub struct Letters {
    letters: Arc<Mutex<VecDeque<Letter>>>,
    wake: UnixStream,
}

impl Letters {
    /// Clears the wake, then takes everything: in this order a letter sent meanwhile wakes again.
    pub fn take(&mut self) -> VecDeque<Letter> {
        let mut bytes = [0; 64];
        while matches!(self.wake.read(&mut bytes), Ok(count) if count == bytes.len()) {}
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long the control thread waits for all answers to `Letter::Report`.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_arrive_in_order_and_are_bounded() {
        let (sender, receiver) = mailbox().unwrap();
        for _ in 0..LETTERS_MAX {
            assert!(sender.send(Letter::Published).is_ok());
        }
        assert!(sender.send(Letter::Stop).is_err());
        let mut letters = receiver.into_letters();
        assert_eq!(letters.take().len(), LETTERS_MAX);
        assert!(sender.send(Letter::Stop).is_ok());
        assert!(matches!(letters.take().pop_front(), Some(Letter::Stop)));
    }
}
