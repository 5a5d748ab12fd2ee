//! Owns the readiness of a worker's connections. Each is registered once, for both directions and for as long as it
//! is open: the kernel then says every change once, and a wait costs no system call and no poll of its own. What was
//! said holds until a call that would have blocked proves it over. Reads and writes nothing.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::EventFlags;

use super::ready_set::ReadySet;

/// Sockets that are told of before their tasks run.
const EVENTS_MAX: usize = 256;

/// All connections of one worker.
pub struct Readiness {
    set: ReadySet,
    slots: RefCell<Slots>,
}

/// A socket with what the kernel said of it, and who waits for more.
// One allocation, the fields of each request first: beside thousands of others it is cold whenever it is looked at.
#[repr(C)]
pub struct Socket {
    said: Cell<u8>,
    slot: u32,
    descriptor: OwnedFd,
    /// Kept over many waits: it is nearly always the same task that reads.
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    readiness: Rc<Readiness>,
}

/// There may be something to read, FIN and errors included.
const READ: u8 = 1;
/// There may be room to write.
const WRITE: u8 = 2;
/// Behind the input is an end, an error or an urgent byte, at which reads stop short, and no later change would say so
/// again: only a read that would have blocked proves that nothing is left.
const MORE: u8 = 4;

impl Readiness {
    pub fn new() -> io::Result<Rc<Readiness>> {
        Ok(Rc::new(Readiness { set: ReadySet::new(EVENTS_MAX)?, slots: RefCell::default() }))
    }

    /// Takes a socket that is connected or connects; what is ready already is said with the next turn.
    pub fn register(self: &Rc<Self>, descriptor: OwnedFd) -> io::Result<Rc<Socket>> {
        let (slot, token) = self.slots.borrow_mut().reserve();
        let (said, readiness) = (Cell::new(0), self.clone());
        let (reader, writer) = (RefCell::default(), RefCell::default());
        // From here on its drop frees the slot.
        let socket = Rc::new(Socket { said, slot, descriptor, reader, writer, readiness });
        self.set.add_for_changes(&*socket, token)?;
        self.slots.borrow_mut().fill(slot, Rc::downgrade(&socket));
        Ok(socket)
    }

    /// The task that wakes those who wait; one per worker, runs for ever.
    ///
    /// Panics if the driver cannot wait any more: nothing of this worker would ever be served again.
    pub async fn keep(self: Rc<Self>) {
        loop {
            if let Err(error) = self.set.readable().await {
                panic!("cannot wait for connections: {error}");
            }
            // What an error leaves untaken is told with the next turn.
            let _ = self.set.take(|token, flags| {
                let socket = self.slots.borrow().of(token);
                if let Some(socket) = socket {
                    socket.tell(flags);
                }
            });
            // monoio's epoll driver resolves the wait at once while anything is ready: who was woken runs first.
            let_others_run().await;
        }
    }
}

/// Resolves when every task that is ready now has run.
async fn let_others_run() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

impl Socket {
    fn tell(&self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let mut said = self.said.get();
        if broken || flags.intersects(EventFlags::RDHUP | EventFlags::PRI) {
            said |= READ | MORE;
        }
        if flags.contains(EventFlags::IN) {
            said |= READ;
        }
        if broken || flags.contains(EventFlags::OUT) {
            said |= WRITE;
        }
        self.said.set(said);
        if said & READ != 0
            && let Some(waker) = &*self.reader.borrow()
        {
            waker.wake_by_ref();
        }
        if said & WRITE != 0
            && let Some(waker) = self.writer.take()
        {
            waker.wake();
        }
    }

    /// Whether there may be something to read.
    pub fn may_read(&self) -> bool {
        self.said.get() & READ != 0
    }

    /// Ready while there may be something to read.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.may_read() {
            return Poll::Ready(());
        }
        let mut reader = self.reader.borrow_mut();
        if !reader.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Resolves while there may be room to write, or the connection broke.
    pub async fn writable(&self) {
        poll_fn(|context| self.poll_writable(context)).await
    }

    /// Ready while there may be room to write, or the connection broke.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.said.get() & WRITE != 0 {
            return Poll::Ready(());
        }
        *self.writer.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// A read took less than it had room for: all that was there, unless more was told of.
    pub fn was_drained(&self) {
        if self.said.get() & MORE == 0 {
            self.unsay(READ);
        }
    }

    /// Whether something was told of that a read may have stopped short of.
    pub fn knows_of_more(&self) -> bool {
        self.said.get() & MORE != 0
    }

    /// A read would have blocked: there is neither input nor an end.
    pub fn read_blocked(&self) {
        self.unsay(READ | MORE);
    }

    /// A write would have blocked.
    pub fn write_blocked(&self) {
        self.unsay(WRITE);
    }

    /// Nobody is to be woken by input, nor kept in memory for it.
    pub fn forget_reader(&self) {
        self.reader.take();
    }

    fn unsay(&self, what: u8) {
        self.said.set(self.said.get() & !what);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.readiness.slots.borrow_mut().free(self.slot);
    }
}

/// Finds the socket that an event means.
#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    /// Which of the sockets that had this slot is meant: an event of an earlier one may still be on its way.
    generation: u32,
    socket: Weak<Socket>,
}

impl Slots {
    /// A slot, and the token of its next socket.
    fn reserve(&mut self) -> (u32, u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, socket: Weak::new() });
            (self.slots.len() - 1) as u32
        });
        (slot, u64::from(self.slots[slot as usize].generation) << 32 | u64::from(slot))
    }

    fn fill(&mut self, slot: u32, socket: Weak<Socket>) {
        self.slots[slot as usize].socket = socket;
    }

    fn free(&mut self, slot: u32) {
        let freed = &mut self.slots[slot as usize];
        freed.generation = freed.generation.wrapping_add(1);
        freed.socket = Weak::new();
        self.free.push(slot);
    }

    fn of(&self, token: u64) -> Option<Rc<Socket>> {
        let slot = self.slots.get(token as u32 as usize)?;
        if slot.generation == (token >> 32) as u32 { slot.socket.upgrade() } else { None }
    }
}

#[cfg(test)]
#[path = "readiness_tests.rs"]
mod tests;
