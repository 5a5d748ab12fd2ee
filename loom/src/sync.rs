//! Owns what stands in for the product's `sync`: the same names, made by loom, and what loom would overlook.
//!
//! loom tries an operation before another one only where it sees that they touch the same variable. Of the reads before a write it remembers
//! the last one, even if the writer made it himself, as before each compare-and-swap: the other threads' are forgotten, and never tried after
//! the write (seen with loom 0.7.3). So each operation here is announced by one that writes, on a second variable that says nothing else
//! and orders nothing else. Only for variables that are read as well as written, which the first runs of a model find out.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::LockResult;
use std::sync::atomic::Ordering::{self, Relaxed};

use loom::thread::{self, ThreadId};

pub use loom::sync::MutexGuard;
pub use loom::sync::atomic::fence;

thread_local! {
    /// All threads of a model are one.
    static VARIABLES: RefCell<Variables> = RefCell::default();
}

#[derive(Default)]
struct Variables {
    /// In the order in which an execution makes them.
    uses: Vec<Use>,
    made: usize,
    /// Threads that have had a lock, and written nothing since.
    idle: HashSet<ThreadId>,
}

#[derive(Clone, Copy, Default)]
struct Use {
    is_read: bool,
    is_written: bool,
    is_announced: bool,
}

/// An execution begins.
pub(crate) fn begin() {
    VARIABLES.with_borrow_mut(|variables| {
        variables.made = 0;
        variables.idle.clear();
    });
}

/// Whether more variables are announced from now on, so that the model is to be run again.
pub(crate) fn learn() -> bool {
    VARIABLES.with_borrow_mut(|variables| {
        let mut has_learnt = false;
        for one in &mut variables.uses {
            let is_announced = one.is_read && one.is_written;
            has_learnt |= is_announced && !one.is_announced;
            one.is_announced = is_announced;
        }
        has_learnt
    })
}

#[derive(Debug)]
struct Announced {
    number: usize,
    turn: loom::sync::atomic::AtomicU8,
}

impl Announced {
    fn new() -> Announced {
        let number = VARIABLES.with_borrow_mut(|variables| {
            variables.made += 1;
            let least = variables.made.max(variables.uses.len());
            variables.uses.resize(least, Use::default());
            variables.made - 1
        });
        Announced { number, turn: loom::sync::atomic::AtomicU8::new(0) }
    }

    fn note(&self, reads: bool, writes: bool) {
        let thread = thread::current().id();
        let is_announced = VARIABLES.with_borrow_mut(|variables| {
            if writes {
                variables.idle.remove(&thread);
            }
            let one = &mut variables.uses[self.number];
            one.is_read |= reads;
            one.is_written |= writes;
            one.is_announced
        });
        if is_announced {
            self.turn.fetch_add(0, Relaxed);
        }
    }
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub struct $name {
            value: loom::sync::atomic::$name,
            announced: Announced,
        }

        impl $name {
            pub fn new(value: $number) -> $name {
                $name { value: loom::sync::atomic::$name::new(value), announced: Announced::new() }
            }

            pub fn load(&self, order: Ordering) -> $number {
                self.announced.note(true, false);
                self.value.load(order)
            }

            pub fn store(&self, value: $number, order: Ordering) {
                self.announced.note(false, true);
                self.value.store(value, order);
            }

            pub fn compare_exchange(
                &self,
                from: $number,
                to: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.announced.note(true, true);
                self.value.compare_exchange(from, to, success, failure)
            }

            pub fn compare_exchange_weak(
                &self,
                from: $number,
                to: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.compare_exchange(from, to, success, failure)
            }

            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut by: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                let mut seen = self.load(failure);
                while let Some(next) = by(seen) {
                    match self.compare_exchange(seen, next, success, failure) {
                        Ok(before) => return Ok(before),
                        Err(other) => seen = other,
                    }
                }
                Err(seen)
            }

            pub fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                self.announced.note(false, true);
                self.value.fetch_add(value, order)
            }

            pub fn fetch_sub(&self, value: $number, order: Ordering) -> $number {
                self.announced.note(false, true);
                self.value.fetch_sub(value, order)
            }

            pub fn fetch_max(&self, value: $number, order: Ordering) -> $number {
                self.announced.note(false, true);
                self.value.fetch_max(value, order)
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::new(0)
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU64, u64);

#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Who comes again without having changed anything waits for somebody else to do so: without a word to loom, it would wait forever.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let thread = thread::current().id();
        if VARIABLES.with_borrow_mut(|variables| !variables.idle.insert(thread)) {
            thread::yield_now();
        }
        self.0.lock()
    }
}
