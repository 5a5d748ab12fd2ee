//! Owns the deadlines of one worker. Setting a deadline is a store: the heap is touched only when it moves
//! earlier than the next look at it, which a keep-alive connection does about once per header timeout, not
//! once per request. Precision is a millisecond or so; time comes from outside (`advance`), so tests drive it.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const NEVER: u64 = u64::MAX;

/// All timers of a worker.
pub struct Timers {
    epoch: Instant,
    /// (time of the look in ms, slot, generation of the slot)
    looks: RefCell<BinaryHeap<Reverse<(u64, u32, u32)>>>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// When the ticking task will wake by itself.
    next_wake_ms: Cell<u64>,
    ticker: RefCell<Option<Waker>>,
    /// The last reading of the clock on this core.
    clock: Cell<Instant>,
}

struct Slot {
    generation: u32,
    deadline_ms: u64,
    look_ms: u64,
    /// Set by `advance`, so that polling a timer never reads the clock.
    expired: bool,
    waker: Option<Waker>,
}

impl Timers {
    pub fn new(epoch: Instant) -> Rc<Timers> {
        Rc::new(Timers {
            epoch,
            looks: RefCell::default(),
            slots: RefCell::default(),
            free: RefCell::default(),
            next_wake_ms: Cell::new(NEVER),
            ticker: RefCell::new(None),
            clock: Cell::new(epoch),
        })
    }

    /// Reads the clock.
    pub fn now(&self) -> Instant {
        let now = Instant::now();
        self.clock.set(now);
        now
    }

    /// The last reading of `now`: good for who has not waited since, where microseconds do not matter.
    pub fn lately(&self) -> Instant {
        self.clock.get()
    }

    pub fn timer(self: &Rc<Self>) -> Timer {
        let slot = self.free.borrow_mut().pop();
        let slot = slot.unwrap_or_else(|| {
            let mut slots = self.slots.borrow_mut();
            slots.push(Slot {
                generation: 0,
                deadline_ms: NEVER,
                look_ms: NEVER,
                expired: false,
                waker: None,
            });
            (slots.len() - 1) as u32
        });
        Timer { timers: self.clone(), slot }
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }

    fn set(&self, slot_index: u32, deadline_ms: u64) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[slot_index as usize];
        slot.deadline_ms = deadline_ms;
        slot.expired = false;
        if deadline_ms >= slot.look_ms {
            return;
        }
        slot.look_ms = deadline_ms;
        let look = Reverse((deadline_ms, slot_index, slot.generation));
        let mut looks = self.looks.borrow_mut();
        looks.push(look);
        forget_stale_looks(&mut looks, &slots);
        drop(looks);
        if deadline_ms < self.next_wake_ms.get()
            && let Some(ticker) = self.ticker.borrow().as_ref()
        {
            ticker.wake_by_ref();
        }
    }

    /// Wakes every task whose deadline has passed at `now`. Returns when to look again, if ever.
    pub fn advance(&self, now: Instant) -> Option<Instant> {
        let now_ms = self.ms(now);
        loop {
            let Some(&Reverse((look_ms, index, generation))) = self.looks.borrow().peek() else {
                self.next_wake_ms.set(NEVER);
                return None;
            };
            if look_ms > now_ms {
                self.next_wake_ms.set(look_ms);
                return Some(self.epoch + Duration::from_millis(look_ms));
            }
            self.looks.borrow_mut().pop();
            self.look_at(index, generation, look_ms, now_ms);
        }
    }

    fn look_at(&self, index: u32, generation: u32, look_ms: u64, now_ms: u64) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index as usize];
        // A look that the slot no longer waits for: its timer is gone, or an earlier look was set since.
        if slot.generation != generation || slot.look_ms != look_ms {
            return;
        }
        slot.look_ms = NEVER;
        if slot.deadline_ms <= now_ms {
            slot.expired = true;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        } else if slot.deadline_ms != NEVER {
            slot.look_ms = slot.deadline_ms;
            self.looks.borrow_mut().push(Reverse((slot.deadline_ms, index, generation)));
        }
    }

    /// Wakes every task that waits on a timer, due or not: to have them look at something else.
    pub fn wake_all(&self) {
        for slot in self.slots.borrow_mut().iter_mut() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Frees the memory of timers that are gone, as far as none of the timers left lies behind it. Takes time in
    /// proportion to all slots: for quiet moments.
    pub fn shrink(&self) {
        let (mut slots, mut free) = (self.slots.borrow_mut(), self.free.borrow_mut());
        let mut looks = self.looks.borrow_mut();
        // No look may outlive its slot: a new slot of the same number would have the generation that it names.
        keep_live_looks(&mut looks, &slots);
        free.sort_unstable();
        while free.last().is_some_and(|&last| last as usize + 1 == slots.len()) {
            free.pop();
            slots.pop();
        }
        // Low slots are used first, so that the end comes free.
        free.reverse();
        slots.shrink_to_fit();
        free.shrink_to_fit();
        looks.shrink_to_fit();
    }

    /// Registers the task that calls `advance`, to be woken when a deadline earlier than its next look is set.
    pub fn set_ticker(&self, waker: &Waker) {
        let mut ticker = self.ticker.borrow_mut();
        if !ticker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *ticker = Some(waker.clone());
        }
    }

    /// Whether a deadline was set that is earlier than what `advance` last returned.
    pub fn has_earlier(&self) -> bool {
        let looks = self.looks.borrow();
        looks.peek().is_some_and(|Reverse((look_ms, ..))| *look_ms < self.next_wake_ms.get())
    }
}

/// Looks of timers that are gone stay in the heap until their time; when most are such, they are dropped.
fn forget_stale_looks(looks: &mut BinaryHeap<Reverse<(u64, u32, u32)>>, slots: &[Slot]) {
    const SLACK: usize = 1024;
    if looks.len() > 2 * slots.len() + SLACK {
        keep_live_looks(looks, slots);
    }
}

fn keep_live_looks(looks: &mut BinaryHeap<Reverse<(u64, u32, u32)>>, slots: &[Slot]) {
    looks.retain(|Reverse((look_ms, index, generation))| {
        let slot = &slots[*index as usize];
        slot.generation == *generation && slot.look_ms == *look_ms
    });
}

/// One movable deadline of one task.
pub struct Timer {
    pub timers: Rc<Timers>,
    slot: u32,
}

impl Timer {
    /// `now` is passed in since the caller mostly has it already.
    pub fn set(&self, now: Instant, after: Duration) {
        // Rounded up, so that a deadline is never early.
        self.timers.set(self.slot, self.timers.ms(now + after) + 1);
    }

    pub fn clear(&self) {
        let slot = &mut self.timers.slots.borrow_mut()[self.slot as usize];
        slot.deadline_ms = NEVER;
        slot.expired = false;
    }

    /// A deadline is set, passed or not.
    pub fn is_set(&self) -> bool {
        self.timers.slots.borrow()[self.slot as usize].deadline_ms != NEVER
    }

    /// Ready once the deadline has passed.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let slot = &mut self.timers.slots.borrow_mut()[self.slot as usize];
        if slot.expired {
            return Poll::Ready(());
        }
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            slot.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut slots = self.timers.slots.borrow_mut();
        let slot = &mut slots[self.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.deadline_ms = NEVER;
        slot.look_ms = NEVER;
        slot.expired = false;
        slot.waker = None;
        self.timers.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
#[path = "timer_tests.rs"]
mod tests;
