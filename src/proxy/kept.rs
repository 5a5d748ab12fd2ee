//! Owns the answer to a request of our own, as far as somebody wants it: its head in HTTP/1.1's form, its body without framing, its
//! trailers. Judges none of it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::policy::memory::Part;

/// Where an answer is kept; shared by who asks and by what relays.
#[derive(Clone)]
pub struct Kept(Rc<RefCell<Answer>>);

#[derive(Debug, Default)]
pub struct Answer {
    /// Head and body.
    pub bytes: Vec<u8>,
    /// Lines.
    pub trailers: Vec<u8>,
    /// Of the bytes, at most so many are kept.
    bytes_max: usize,
    /// What keeping it takes is a part of this, if of anything.
    pub room: Option<Part>,
    /// There were more, or there was no room for more.
    pub is_cut: bool,
}

impl Kept {
    pub fn new(bytes_max: usize) -> Kept {
        Kept(Rc::new(RefCell::new(Answer { bytes_max, ..Answer::default() })))
    }

    /// Keeps as much as there is room for.
    pub fn keep(&self, bytes: &[u8]) {
        let mut answer = self.0.borrow_mut();
        let Answer { bytes: kept, bytes_max, room, is_cut, .. } = &mut *answer;
        let count = bytes.len().min(*bytes_max - kept.len());
        let length = kept.len() + count;
        if *is_cut || room.as_mut().is_some_and(|room| room.widen(length as u64).is_err()) {
            *is_cut = true;
            return;
        }
        kept.extend_from_slice(&bytes[..count]);
        *is_cut = count < bytes.len();
    }

    /// From now on there has to be room for it, too.
    pub fn within(self, room: Part) -> Kept {
        self.0.borrow_mut().room = Some(room);
        self
    }

    pub fn end_with(&self, trailers: &[u8]) {
        self.0.borrow_mut().trailers.extend_from_slice(trailers);
    }

    pub fn take(&self) -> Answer {
        self.0.take()
    }
}
