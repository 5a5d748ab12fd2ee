//! Owns rate limits: token buckets by the generic cell rate algorithm (ITU-T I.371), one for each key, exact over all cores. A bucket is
//! one number, the time at which it will be full; whoever finds room moves it on by one compare-and-swap. Has no clock and reads no
//! request.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{AtomicU64, Mutex, fence};

/// A bucket's size and pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Between two tokens, rounded up: never more than was asked for, and at a million a second 0 % to 0.8 % less.
    interval: u64,
    /// That a full bucket has.
    burst: u64,
}

/// Units of time: nanoseconds in one. 55 bits of it are nine years.
const UNIT_NANOS: u64 = 8;

/// Tokens in a second, and in a burst.
pub const RATE_MAX: u64 = 1_000_000;
pub const BURST_MAX: u64 = 1_000_000_000;

impl Rate {
    /// `tokens` in `nanos`, both from 1; `burst` from 1.
    pub fn new(tokens: u64, nanos: u64, burst: u64) -> Rate {
        Rate { interval: nanos.div_ceil(tokens * UNIT_NANOS).max(1), burst }
    }

    /// Of a bucket that was empty, until it is full.
    pub fn window_nanos(&self) -> u64 {
        self.interval.saturating_mul(self.burst).saturating_mul(UNIT_NANOS)
    }

    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// What becomes of a bucket that is full at `full_at` when a token is taken. Errors: how long to wait for one.
    fn take(&self, full_at: u64, now: u64) -> Result<u64, u64> {
        let next = full_at.max(now) + self.interval;
        let most = now + self.interval * self.burst;
        if next <= most { Ok(next) } else { Err(next - most) }
    }
}

/// A request finds no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Until there is one.
    pub wait_nanos: u64,
}

/// The buckets of one limit, shared by all cores.
#[derive(Debug)]
pub struct Buckets {
    lines: Box<[Line]>,
    /// One at a time of those whose window begins on the same line may put a new key there.
    insertions: Box<[Mutex<()>]>,
    /// For limits without a key, and for keys that find no place.
    shared: Slot,
    /// Up to here places were given away: a key without one had a bucket that was full by then.
    floor: AtomicU64,
    seed: RandomState,
    pub refused_total: AtomicU64,
    pub overflowed_total: AtomicU64,
}

const SLOTS: usize = 4;
/// Lines that a key may stand on: at two thirds of all places in use, one key in 10^9 finds all of them taken.
const WINDOW: usize = 16;
const INSERTIONS: usize = 256;

/// A cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Slot; SLOTS]);

#[derive(Debug, Default)]
struct Slot {
    /// Of the key; 0: nobody's.
    hash: AtomicU64,
    /// Eight bits of generation, one of `BUSY`, then the time at which the bucket is full.
    word: AtomicU64,
}

const GENERATION: u64 = 1 << 56;
/// The slot is being given to another key.
const BUSY: u64 = 1 << 55;
const TIME: u64 = BUSY - 1;

/// A key on its way to its bucket.
pub struct Key(DefaultHasher);

impl Key {
    pub fn new(seed: &RandomState) -> Key {
        Key(seed.build_hasher())
    }

    pub fn part(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        self.0.write(bytes);
    }

    pub fn ticket(self) -> Ticket {
        Ticket { hash: self.finish().max(1) }
    }

    pub fn finish(self) -> u64 {
        self.0.finish()
    }
}

/// Which bucket a request debits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ticket {
    hash: u64,
}

impl Buckets {
    /// Room for so many keys; 0: one bucket for all.
    pub fn new(keys: usize) -> Buckets {
        let lines =
            if keys == 0 { 0 } else { (keys * 3 / 2).div_ceil(SLOTS).next_power_of_two().max(WINDOW) };
        Buckets {
            lines: (0..lines).map(|_| Line::default()).collect(),
            insertions: (0..INSERTIONS.min(lines)).map(|_| Mutex::default()).collect(),
            shared: Slot::default(),
            floor: AtomicU64::new(0),
            seed: RandomState::new(),
            refused_total: AtomicU64::new(0),
            overflowed_total: AtomicU64::new(0),
        }
    }

    /// Of a key in parts: no two lists of parts are the same key.
    pub fn key(&self) -> Key {
        Key::new(&self.seed)
    }

    /// Takes a token from the key's bucket. `now_nanos`: of any clock that does not go back.
    pub fn take(&self, ticket: Ticket, rate: Rate, now_nanos: u64) -> Result<(), Refused> {
        let now = now_nanos / UNIT_NANOS;
        let taken = self.change(ticket, now, |full_at| rate.take(full_at, now));
        taken.map_err(|wait| self.refused(wait))
    }

    /// Gives back a token that was taken for what has not come to pass.
    pub fn give_back(&self, ticket: Ticket, rate: Rate, now_nanos: u64) {
        let now = now_nanos / UNIT_NANOS;
        // A bucket that has filled up meanwhile has no room for it.
        let _ = self.change(ticket, now, |full_at| Ok(full_at.saturating_sub(rate.interval)));
    }

    /// Whether a token would be found, without taking it.
    pub fn look(&self, ticket: Ticket, rate: Rate, now_nanos: u64) -> Result<(), Refused> {
        let now = now_nanos / UNIT_NANOS;
        let full_at = match self.find(ticket.hash) {
            Some((_, word)) => word & TIME,
            None if self.lines.is_empty() => self.shared.word.load(Relaxed) & TIME,
            None => self.floor.load(Relaxed),
        };
        rate.take(full_at, now).map(drop).map_err(|wait| self.refused(wait))
    }

    fn refused(&self, wait: u64) -> Refused {
        self.refused_total.fetch_add(1, Relaxed);
        Refused { wait_nanos: wait * UNIT_NANOS }
    }

    fn change(&self, ticket: Ticket, now: u64, by: impl Fn(u64) -> Result<u64, u64>) -> Result<(), u64> {
        if self.lines.is_empty() {
            return self.shared.change(&by);
        }
        loop {
            match self.find(ticket.hash) {
                Some((slot, word)) => {
                    if let Swapped::Done(done) = slot.swap(word, &by) {
                        return done;
                    }
                }
                None if self.insert(ticket.hash, now) => {}
                None => {
                    self.overflowed_total.fetch_add(1, Relaxed);
                    return self.shared.change(&by);
                }
            }
        }
    }

    fn window(&self, hash: u64) -> impl Iterator<Item = &Slot> {
        let (home, mask) = (self.home(hash), self.lines.len() - 1);
        (0..WINDOW).flat_map(move |step| &self.lines[(home + step) & mask].0)
    }

    fn home(&self, hash: u64) -> usize {
        // The low bits of what SipHash makes are as good as any.
        hash as usize & (self.lines.len() - 1)
    }

    /// The key's slot, and its word while it was the key's.
    fn find(&self, hash: u64) -> Option<(&Slot, u64)> {
        if self.lines.is_empty() {
            return None;
        }
        for slot in self.window(hash) {
            let stands_here = slot.hash.load(Acquire);
            if stands_here == 0 {
                // Nobody ever stood here, so the key has not been sent on to the next one.
                return None;
            }
            if stands_here == hash {
                let word = slot.word.load(Acquire);
                // Whoever gives the slot away changes the word first, and the hash before the word is free again.
                fence(Acquire);
                if word & BUSY == 0 && slot.hash.load(Relaxed) == hash {
                    return Some((slot, word));
                }
            }
        }
        None
    }

    /// Gives the key a slot that nobody needs: one whose bucket is full is as good as new. False: there is none.
    fn insert(&self, hash: u64, now: u64) -> bool {
        let turn = &self.insertions[self.home(hash) % self.insertions.len()];
        // Nothing panics while it is held.
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.window(hash).any(|slot| slot.hash.load(Acquire) == hash) {
            // Another core was first.
            return true;
        }
        for slot in self.window(hash) {
            let word = slot.word.load(Acquire);
            let is_free = word & BUSY == 0 && word & TIME <= now;
            let busy = (word & !TIME).wrapping_add(GENERATION) | BUSY;
            if is_free && slot.word.compare_exchange(word, busy, Acquire, Relaxed).is_ok() {
                // Who comes with an older time must not find a bucket fuller than the one that is given away here.
                let floor = self.floor.fetch_max(now, Release).max(now);
                slot.hash.store(hash, Release);
                slot.word.store(busy & !(BUSY | TIME) | floor, Release);
                return true;
            }
        }
        false
    }
}

enum Swapped {
    Done(Result<(), u64>),
    /// Somebody else was there: the slot may be another key's by now.
    Lost,
}

impl Slot {
    fn swap(&self, word: u64, by: &impl Fn(u64) -> Result<u64, u64>) -> Swapped {
        let next = match by(word & TIME) {
            Ok(full_at) => word & !TIME | full_at & TIME,
            Err(wait) => return Swapped::Done(Err(wait)),
        };
        match self.word.compare_exchange_weak(word, next, Release, Relaxed) {
            Ok(_) => Swapped::Done(Ok(())),
            Err(_) => Swapped::Lost,
        }
    }

    /// Of a slot that is never given away.
    fn change(&self, by: &impl Fn(u64) -> Result<u64, u64>) -> Result<(), u64> {
        loop {
            if let Swapped::Done(done) = self.swap(self.word.load(Acquire), by) {
                return done;
            }
        }
    }
}

#[cfg(test)]
#[path = "rate_limit_tests.rs"]
mod tests;
