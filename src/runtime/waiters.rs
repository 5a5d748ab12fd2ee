//! Owns the tasks of one worker that wait for something another worker may give them: each has a number by which it is woken from
//! there, through the mailbox. Does not know what they wait for.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

/// A number may be another task's by the time that a letter for it comes: a task that is woken looks whether it was meant.
#[derive(Clone, Default)]
pub struct Waiters(Rc<RefCell<Slots>>);

#[derive(Default)]
struct Slots {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// A number, given back when this drops.
pub struct Place {
    waiters: Waiters,
    slot: u32,
}

impl Place {
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Who is woken for it from now on.
    pub fn set(&self, waker: &Waker) {
        let known = &mut self.waiters.0.borrow_mut().wakers[self.slot as usize];
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.waiters.0.borrow_mut();
        slots.wakers[self.slot as usize] = None;
        slots.free.push(self.slot);
    }
}

impl Waiters {
    pub fn place(&self) -> Place {
        let mut slots = self.0.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.wakers.push(None);
            slots.wakers.len() as u32 - 1
        });
        Place { waiters: self.clone(), slot }
    }

    pub fn wake(&self, slot: u32) {
        let waker = self.0.borrow().wakers.get(slot as usize).cloned().flatten();
        waker.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn each_is_woken_by_its_number_until_it_gives_that_back() {
        let waiters = Waiters::default();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (one, other) = (waiters.place(), waiters.place());
        one.set(&first.clone().into());
        other.set(&second.clone().into());
        let two = other.slot();
        waiters.wake(two);
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));
        drop(other);
        waiters.wake(two);
        waiters.wake(99);
        assert_eq!(second.0.load(Relaxed), 1, "a letter that comes too late");
        assert_eq!(waiters.place().slot(), two, "numbers are used again");
    }
}
