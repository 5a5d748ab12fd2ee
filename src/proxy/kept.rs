//! Owns the answer to a request of our own, as far as somebody wants it: its head in HTTP/1.1's form, its body without framing, its
//! trailers. Judges none of it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::policy::memory::{NoRoom, Part};

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
    /// There were more, or there was no room for more.
    pub is_cut: bool,
    /// What of a memory it takes, if of one.
    pub room: Option<Room>,
}

/// A part of a memory, which grows with the answer.
#[derive(Debug)]
pub struct Room {
    pub part: Part,
    /// What else takes of the part.
    pub beside_bytes: u64,
    /// Why the answer was cut, if for want of it.
    pub none: Option<NoRoom>,
}

impl Kept {
    pub fn new(bytes_max: usize) -> Kept {
        Kept(Rc::new(RefCell::new(Answer { bytes_max, ..Answer::default() })))
    }

    /// Of no more than there is room for, too.
    pub fn within(bytes_max: usize, room: Room) -> Kept {
        Kept(Rc::new(RefCell::new(Answer { bytes_max, room: Some(room), ..Answer::default() })))
    }

    /// Keeps as much as there is room for. False: there was more, and whatever comes is of no use.
    pub fn keep(&self, bytes: &[u8]) -> bool {
        let answer = &mut *self.0.borrow_mut();
        if answer.is_cut {
            return false;
        }
        let count = bytes.len().min(answer.bytes_max - answer.bytes.len());
        answer.is_cut = count < bytes.len();
        if let Some(room) = &mut answer.room
            && let Err(none) = room.part.widen(room.beside_bytes + (answer.bytes.len() + count) as u64)
        {
            room.none = Some(none);
            answer.is_cut = true;
            return false;
        }
        answer.bytes.extend_from_slice(&bytes[..count]);
        !answer.is_cut
    }

    pub fn end_with(&self, trailers: &[u8]) {
        self.0.borrow_mut().trailers.extend_from_slice(trailers);
    }

    pub fn take(&self) -> Answer {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::policy::memory::Envelope;

    use super::*;

    #[test]
    fn an_answer_is_cut_where_its_room_ends() {
        let envelope = Arc::new(Envelope::default());
        let kept = |beside_bytes| {
            let room = Room { part: envelope.part(100), beside_bytes, none: None };
            Kept::within(1000, room)
        };
        let (one, other) = (kept(30), kept(0));
        one.keep(&[1; 40]);
        assert_eq!(envelope.held(), 70);
        other.keep(&[2; 30]);
        other.keep(&[2; 1]);
        other.keep(b"");
        let answer = other.take();
        assert_eq!((answer.bytes.len(), answer.is_cut), (30, true));
        assert_eq!(answer.room.as_ref().unwrap().none, Some(NoRoom::Now));
        drop(answer);
        one.keep(&[1; 30]);
        one.keep(&[1; 1]);
        let answer = one.take();
        assert_eq!((answer.bytes.len(), answer.room.as_ref().unwrap().none), (70, Some(NoRoom::Ever)));
        drop(answer);
        assert_eq!(envelope.held(), 0);
    }
}
