//! Owns counts of what happened lately: requests and failures of a window of time that moves by a tenth of itself. Shared by all cores;
//! has no clock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::runtime::clock::{Millis, span};

/// Of a window; each counts for itself.
const SLICES: usize = 10;

#[derive(Debug, Default)]
pub struct Window {
    /// Each: number of the slice (20 bits), requests (22), failures (22).
    slices: [AtomicU64; SLICES],
}

const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const SLICE_MASK: u64 = (1 << 20) - 1;

impl Window {
    /// Counts a request; returns the failures of its slice.
    pub fn count(&self, length: Duration, now: Millis, failed: bool) -> u64 {
        let number = slice_number(length, now);
        let slice = &self.slices[(number % SLICES as u64) as usize];
        let counted = |word: u64| {
            let (of, requests, failures) = parts(word);
            let (requests, failures) = if of == number & SLICE_MASK { (requests, failures) } else { (0, 0) };
            // Full, it says no less of what part failed.
            let (requests, failures) =
                if requests == COUNT_MAX { (requests / 2, failures / 2) } else { (requests, failures) };
            whole(number & SLICE_MASK, requests + 1, failures + u64::from(failed))
        };
        let mut word = slice.load(Relaxed);
        loop {
            let next = counted(word);
            match slice.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return parts(next).2,
                Err(seen) => word = seen,
            }
        }
    }

    /// Requests and failures of the window that ends now.
    pub fn counts(&self, length: Duration, now: Millis) -> (u64, u64) {
        let last = slice_number(length, now);
        let in_window = (0..SLICES as u64).filter_map(|back| last.checked_sub(back));
        in_window.fold((0, 0), |(requests, failures), number| {
            let (of, more, failed) = parts(self.slices[(number % SLICES as u64) as usize].load(Relaxed));
            if of == number & SLICE_MASK {
                (requests + more, failures + failed)
            } else {
                (requests, failures)
            }
        })
    }

    pub fn clear(&self) {
        self.slices.iter().for_each(|slice| slice.store(0, Relaxed));
    }
}

fn slice_number(length: Duration, now: Millis) -> u64 {
    now / (span(length) / SLICES as u64).max(1)
}

fn whole(number: u64, requests: u64, failures: u64) -> u64 {
    number << (2 * COUNT_BITS) | requests << COUNT_BITS | failures
}

fn parts(word: u64) -> (u64, u64, u64) {
    (word >> (2 * COUNT_BITS), word >> COUNT_BITS & COUNT_MAX, word & COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let window = Window::default();
        for number in 0..100 {
            window.count(LENGTH, 1_000, number < 9);
        }
        assert_eq!(window.counts(LENGTH, 10_000), (100, 9));
        assert_eq!(window.counts(LENGTH, 11_000), (0, 0));
        // A slice's number comes round after 2^20 of them: twelve days.
        assert_eq!(window.counts(LENGTH, 11_000 + (1 << 20) * 1_000), (0, 0));
    }

    /// Many cores at once: all that is recorded is counted, once.
    #[test]
    fn cores_lose_no_count() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for core in 0..4u64 {
                let window = &window;
                let record = move |number: u64| {
                    _ = window.count(LENGTH, number / 10, (number + core).is_multiple_of(5))
                };
                scope.spawn(move || (0..50_000).for_each(record));
            }
        });
        assert_eq!(window.counts(LENGTH, 5_000), (200_000, 40_000));
    }
}
