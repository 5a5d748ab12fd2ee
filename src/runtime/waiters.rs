//! Owns the tasks of one worker that wait for something another worker may give them: each has a number by which it is woken from
//! there, through the mailbox. Does not know what they wait for.

use std::cell::RefCell;
use std::task::Waker;

/// A number may be another task's by the time that a letter for it comes: a task that is woken looks whether it was meant.
#[derive(Default)]
pub struct Waiters(RefCell<Slots>);

#[derive(Default)]
struct Slots {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// A number, given back when this drops.
pub struct Place<'w> {
    waiters: &'w Waiters,
    slot: u32,
}

impl Place<'_> {
    pub fn slot(&self) -> u32 {
        self.slot
    }

    pub fn set(&self, waker: &Waker) {
        self.waiters.set(self.slot, waker);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.free(self.slot);
    }
}

impl Waiters {
    pub fn place(&self) -> Place<'_> {
        Place { waiters: self, slot: self.register() }
    }

    pub fn register(&self) -> u32 {
        let mut slots = self.0.borrow_mut();
        slots.free.pop().unwrap_or_else(|| {
            slots.wakers.push(None);
            slots.wakers.len() as u32 - 1
        })
    }

    /// Who is woken for this number from now on.
    pub fn set(&self, slot: u32, waker: &Waker) {
        let known = &mut self.0.borrow_mut().wakers[slot as usize];
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    pub fn wake(&self, slot: u32) {
        let waker = self.0.borrow().wakers.get(slot as usize).cloned().flatten();
        waker.into_iter().for_each(Waker::wake);
    }

    pub fn free(&self, slot: u32) {
        let mut slots = self.0.borrow_mut();
        slots.wakers[slot as usize] = None;
        slots.free.push(slot);
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
        let (one, two) = (waiters.register(), waiters.register());
        waiters.set(one, &first.clone().into());
        waiters.set(two, &second.clone().into());
        waiters.wake(two);
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));
        waiters.free(two);
        waiters.wake(two);
        waiters.wake(99);
        assert_eq!(second.0.load(Relaxed), 1, "a letter that comes too late");
        assert_eq!(waiters.register(), two, "numbers are used again");
    }
}
