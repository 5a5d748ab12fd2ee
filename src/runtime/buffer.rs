//! Owns the byte buffers of one worker: taken when bytes move, given back when a connection idles, so an
//! idle connection holds none. What is in use is bounded: from half of the bound on memory goes before speed; at
//! it no buffer grows, and new requests are for the caller to refuse. Does no I/O.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Enough for any usual head and a 1 KiB answer in one read.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// For bodies that keep filling the small one, and for heads and trailers beyond it.
pub const LARGE_BUFFER_BYTES: usize = 64 * 1024;

/// Free buffers kept per worker, each kind.
const FREE_SMALL_MAX: usize = 512;
const FREE_LARGE_MAX: usize = 32;

pub struct BufferPool {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    /// Bytes of the buffers that are in use.
    in_use: Cell<usize>,
    bytes_max: Cell<usize>,
}

/// All buffers that may be in use are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Default for BufferPool {
    fn default() -> BufferPool {
        BufferPool {
            small: RefCell::default(),
            large: RefCell::default(),
            in_use: Cell::new(0),
            bytes_max: Cell::new(usize::MAX),
        }
    }
}

impl BufferPool {
    /// Bounds what may be in use. What is in use already stays so.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.set(bytes_max);
    }

    /// Bytes of the buffers in use now.
    pub fn bytes_in_use(&self) -> usize {
        self.in_use.get()
    }

    /// Nothing new may begin; what is under way still gets the small buffers that it needs to end.
    pub fn is_exhausted(&self) -> bool {
        self.in_use.get() >= self.bytes_max.get()
    }

    /// Memory is to be saved.
    pub fn is_scarce(&self) -> bool {
        self.in_use.get() >= self.bytes_max.get() / 2
    }

    /// A large buffer unless they are scarce: for speed, not for need.
    pub fn take_roomy(self: &Rc<Self>) -> Buffer {
        if self.is_scarce() { self.take() } else { self.take_large() }
    }

    pub fn take(self: &Rc<Self>) -> Buffer {
        let data = self.small.borrow_mut().pop();
        let data = data.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        self.hand_out(data)
    }

    /// One that holds these bytes and has no room for more: for what is kept long.
    pub fn holding(self: &Rc<Self>, bytes: &[u8]) -> Buffer {
        let mut buffer = self.hand_out(bytes.into());
        buffer.end = buffer.data.len();
        buffer
    }

    pub fn take_large(self: &Rc<Self>) -> Buffer {
        let data = self.large.borrow_mut().pop();
        let data = data.unwrap_or_else(|| vec![0; LARGE_BUFFER_BYTES].into_boxed_slice());
        self.hand_out(data)
    }

    fn hand_out(self: &Rc<Self>, data: Box<[u8]>) -> Buffer {
        self.in_use.set(self.in_use.get() + data.len());
        Buffer { data, start: 0, end: 0, pool: self.clone() }
    }

    fn give_back(&self, data: Box<[u8]>) {
        self.in_use.set(self.in_use.get() - data.len());
        let (list, most) = match data.len() {
            BUFFER_BYTES => (&self.small, FREE_SMALL_MAX),
            LARGE_BUFFER_BYTES => (&self.large, FREE_LARGE_MAX),
            _ => return,
        };
        let mut list = list.borrow_mut();
        if list.len() < most {
            list.push(data);
        }
    }

    /// Frees half of what lies unused; called now and then by an idle worker.
    pub fn shrink(&self) {
        for list in [&self.small, &self.large] {
            let mut list = list.borrow_mut();
            let keep = list.len() / 2;
            list.truncate(keep);
        }
    }
}

/// `data[start..end]` is filled; `data[end..]` is free.
pub struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Rc<BufferPool>,
}

impl Buffer {
    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room at the end, after moving the filled part to the front if that is what it takes.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.is_empty() {
            self.clear();
        } else if self.end == self.data.len() && self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.data[self.end..]
    }

    /// Marks `count` bytes of `spare` as filled.
    pub fn fill(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.data.len());
        self.end += count;
    }

    /// Drops `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
    }

    /// Keeps the first `count` filled bytes.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    pub fn is_full(&self) -> bool {
        self.len() == self.data.len()
    }

    pub fn is_large(&self) -> bool {
        self.data.len() >= LARGE_BUFFER_BYTES
    }

    /// Moves the content into a buffer twice as large. Spans stay valid: they count from the first filled byte.
    pub fn grow(&mut self) -> Result<(), Exhausted> {
        if !self.is_large() {
            if self.pool.is_exhausted() {
                return Err(Exhausted);
            }
            let data = vec![0; self.data.len() * 2].into_boxed_slice();
            let mut larger = self.pool.hand_out(data);
            larger.append(self.filled());
            *self = larger;
        }
        Ok(())
    }

    /// Gives back all but the filled bytes, for who keeps them long.
    pub fn fit(&mut self) {
        *self = self.pool.holding(self.filled());
    }

    /// Copies as much of `bytes` as fits; returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let room = self.spare();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.fill(count);
        count
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_consume_compact_and_grow() {
        let pool = Rc::new(BufferPool::default());
        let mut buffer = pool.take();
        let pattern: Vec<u8> = (0..BUFFER_BYTES).map(|i| i as u8).collect();
        assert_eq!(buffer.append(&pattern), BUFFER_BYTES);
        assert!(buffer.is_full());
        buffer.consume(1000);
        assert_eq!(buffer.spare().len(), 1000);
        assert_eq!(buffer.filled(), &pattern[1000..]);
        buffer.grow().unwrap();
        assert_eq!(buffer.filled(), &pattern[1000..]);
        assert_eq!(buffer.spare().len(), 2 * BUFFER_BYTES - buffer.len());
        buffer.fit();
        assert_eq!(buffer.filled(), &pattern[1000..]);
        assert!(buffer.is_full());
        assert_eq!(pool.bytes_in_use(), BUFFER_BYTES - 1000);
    }

    #[test]
    fn what_is_in_use_is_counted_and_bounded() {
        let pool = Rc::new(BufferPool::default());
        pool.set_bytes_max(LARGE_BUFFER_BYTES + 2 * BUFFER_BYTES);
        let first = pool.take_roomy();
        assert!(first.is_large());
        let mut second = pool.take_roomy();
        assert!(!second.is_large(), "from half of the bound on large ones are kept for need");
        second.grow().unwrap();
        assert_eq!(pool.bytes_in_use(), LARGE_BUFFER_BYTES + 2 * BUFFER_BYTES);
        assert!(pool.is_exhausted());
        let mut third = pool.take();
        assert_eq!(third.grow(), Err(Exhausted));
        drop((first, second, third));
        assert_eq!(pool.bytes_in_use(), 0);
    }

    #[test]
    fn buffers_come_back_and_are_bounded() {
        let pool = Rc::new(BufferPool::default());
        let taken: Vec<Buffer> = (0..FREE_SMALL_MAX + 10).map(|_| pool.take()).collect();
        drop(taken);
        assert_eq!(pool.small.borrow().len(), FREE_SMALL_MAX);
        pool.shrink();
        assert_eq!(pool.small.borrow().len(), FREE_SMALL_MAX / 2);
    }
}
