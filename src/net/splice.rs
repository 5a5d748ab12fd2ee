//! Owns pipes for splice(2): bytes go from one socket to another without a copy through user space. Calls are
//! direct and never wait (io_uring's own splice is punted to kernel threads); who calls waits for readiness.
//! Pipes are pooled and bounded; without one the caller copies. Knows neither HTTP nor deadlines.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::tcp::Stream;
use crate::runtime::limits;

/// What a pipe is asked to hold. Unprivileged users get about 64 of this size (`pipe-user-pages-soft`).
pub const PIPE_BYTES: usize = 1 << 20;
/// The kernel may grant less; below this a copy is cheaper.
const PIPE_BYTES_MIN: usize = 64 * 1024;
/// Unused pipes that a worker keeps: one is in use only while bytes are in it.
const FREE_PIPES_MAX: usize = 16;
/// After the kernel refused a pipe, bodies are copied this long before it is asked again.
const REST_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Pipes of all workers, those that lie unused included.
static OPEN_PIPES: Shared = Shared(AtomicUsize::new(0));

/// On cache lines of its own, so that whoever counts disturbs no neighbour.
#[repr(align(128))]
struct Shared(AtomicUsize);

/// The pipes of one worker.
#[derive(Default)]
pub struct Pipes {
    free: RefCell<Vec<Ends>>,
    rest_until: Cell<Option<Instant>>,
}

impl Pipes {
    /// An empty pipe, unless `most` are open in the process or the kernel grants none.
    pub fn take(self: &Rc<Self>, most: usize) -> Option<Pipe> {
        let ends = self.free.borrow_mut().pop().or_else(|| self.open(most))?;
        Some(Pipe { ends: Some(ends), held: 0, pool: self.clone() })
    }

    fn open(&self, most: usize) -> Option<Ends> {
        if self.rest_until.get().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let ends = Ends::open(most);
        self.rest_until.set(ends.is_none().then(|| Instant::now() + REST_AFTER_REFUSAL));
        ends
    }

    fn give_back(&self, ends: Ends) {
        let mut free = self.free.borrow_mut();
        if free.len() < FREE_PIPES_MAX {
            free.push(ends);
        }
    }

    /// Closes half of what lies unused; called now and then by an idle worker.
    pub fn shrink(&self) {
        let mut free = self.free.borrow_mut();
        let keep = free.len() / 2;
        free.truncate(keep);
    }
}

/// Pipes that are open in this process.
pub fn open_pipes() -> usize {
    OPEN_PIPES.0.load(Relaxed)
}

/// Both ends of a pipe, counted while they are open.
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    bytes_max: usize,
    _counted: Counted,
}

impl Ends {
    fn open(most: usize) -> Option<Ends> {
        let counted = Counted::take(most)?;
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let (read, write) = (limits::for_traffic(read).ok()?, limits::for_traffic(write).ok()?);
        // Beyond a user's share the kernel keeps the pipe at a page or two and says EPERM.
        let bytes_max = fcntl_setpipe_size(&write, PIPE_BYTES).ok()?;
        (bytes_max >= PIPE_BYTES_MIN).then(|| Ends { read, write, bytes_max, _counted: counted })
    }
}

/// One of `OPEN_PIPES`.
struct Counted;

impl Counted {
    fn take(most: usize) -> Option<Counted> {
        let taken = OPEN_PIPES.0.fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1));
        taken.is_ok().then(|| Counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN_PIPES.0.fetch_sub(1, Relaxed);
    }
}

/// A pipe in use. Goes back to its pool when dropped empty; with bytes left in it, it is closed, so that no
/// other connection ever sees them.
pub struct Pipe {
    /// None only while it drops.
    ends: Option<Ends>,
    held: usize,
    pool: Rc<Pipes>,
}

impl Pipe {
    /// Bytes taken from one socket and not yet given to the other.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes what the socket has, at most `most` bytes and at most what a pipe holds. `Ok(0)` is the peer's FIN, `Unsupported`
    /// that bytes go through TLS there.
    /// Only into an empty pipe: then `WouldBlock` can mean only that the socket has nothing.
    pub fn try_fill(&mut self, from: &Stream, most: u64) -> io::Result<usize> {
        debug_assert!(self.held == 0 && most > 0, "a pipe is filled when it is empty");
        let Some(ends) = &self.ends else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if !from.is_plain() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let room = usize::try_from(most).map_or(ends.bytes_max, |most| most.min(ends.bytes_max));
        let count = splice(from, None, &ends.write, None, room, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?;
        self.held = count;
        Ok(count)
    }

    /// Gives the socket what it takes now. `WouldBlock` means wait for `writable`, `Unsupported` that it would be sent as it
    /// is where it has to be encrypted.
    pub fn try_drain(&mut self, to: &Stream) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if !to.is_plain() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Not MORE: the kernel would hold back the last part of a segment while the sender pauses.
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let count =
            to.note_write(splice(&ends.read, None, to, None, self.held, flags).map_err(io::Error::from))?;
        self.held -= count;
        Ok(count)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            self.pool.give_back(ends);
        }
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
