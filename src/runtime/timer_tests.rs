//! Drives the timers by a made-up clock: deadlines fire once due, never early, and moved ones only at the end.

use super::*;
use crate::balance::pick::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn fired(timer: &Timer) -> bool {
    timer.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_deadline_fires_when_due_and_not_before() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    let timer = timers.timer();
    let count = Arc::new(Count::default());
    timer.set(epoch, Duration::from_millis(100));
    assert!(timer.poll(&mut Context::from_waker(&count.clone().into())).is_pending());
    timers.advance(epoch + Duration::from_millis(100));
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    timers.advance(epoch + Duration::from_millis(101));
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(fired(&timer));
}

#[test]
fn moving_a_deadline_later_costs_no_new_look() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    let timer = timers.timer();
    for ms in 0..1000 {
        timer.set(epoch + Duration::from_millis(ms), Duration::from_secs(10));
    }
    assert_eq!(timers.looks.borrow().len(), 1);
    let next = timers.advance(epoch + Duration::from_millis(10_001));
    assert!(!fired(&timer));
    assert_eq!(next, Some(epoch + Duration::from_millis(11_000)));
    timers.advance(next.unwrap());
    assert!(fired(&timer));
}

#[test]
fn a_dropped_timer_never_wakes_its_successor() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    let first = timers.timer();
    first.set(epoch, Duration::from_millis(10));
    drop(first);
    let second = timers.timer();
    second.set(epoch, Duration::from_millis(1000));
    timers.advance(epoch + Duration::from_millis(500));
    assert!(!fired(&second));
    timers.advance(epoch + Duration::from_millis(1001));
    assert!(fired(&second));
}

#[test]
fn timers_that_are_gone_cost_no_memory() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    for _ in 0..100_000 {
        timers.timer().set(epoch, Duration::from_secs(3600));
    }
    assert!(timers.looks.borrow().len() < 2000, "{}", timers.looks.borrow().len());
}

#[test]
fn clear_means_never() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    let timer = timers.timer();
    timer.set(epoch, Duration::from_millis(10));
    timer.clear();
    assert_eq!(timers.advance(epoch + Duration::from_secs(1)), None);
    assert!(!fired(&timer));
}

/// Random sets, clears and steps against a plain model: a timer is expired iff its last deadline has passed.
#[test]
fn agrees_with_a_plain_model() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    let handles: Vec<Timer> = (0..20).map(|_| timers.timer()).collect();
    let mut model = [NEVER; 20];
    let (mut now_ms, mut seed) = (0u64, 0x9e37_79b9_7f4a_7c15u64);
    for _ in 0..20_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let which = (seed % 20) as usize;
        match (seed >> 8) % 4 {
            0 => now_ms += (seed >> 16) % 7,
            1 => {
                handles[which].clear();
                model[which] = NEVER;
            }
            _ => {
                let after = (seed >> 16) % 50;
                handles[which].set(epoch + Duration::from_millis(now_ms), Duration::from_millis(after));
                model[which] = now_ms + after + 1;
            }
        }
        timers.advance(epoch + Duration::from_millis(now_ms));
        for (handle, deadline) in handles.iter().zip(model) {
            assert_eq!(fired(handle), deadline <= now_ms);
        }
    }
}

#[test]
fn shrinking_keeps_every_live_deadline_and_no_dead_one() {
    let epoch = Instant::now();
    let timers = Timers::new(epoch);
    let mut random = Rng(0x5eed);
    let mut live: Vec<(Timer, Option<u64>)> = Vec::new();
    let mut now_ms = 0;
    for step in 0..20_000u64 {
        let many = step % 4_000 < 2_000;
        match random.below(10) {
            0..=3 if many => live.push((timers.timer(), None)),
            4..=6 if !live.is_empty() => {
                let at = random.below(live.len());
                let after = random.below(50) as u64;
                live[at].0.set(epoch + Duration::from_millis(now_ms), Duration::from_millis(after));
                live[at].1 = Some(now_ms + after + 1);
            }
            7..=8 if !many && !live.is_empty() => {
                live.swap_remove(random.below(live.len()));
            }
            9 => timers.shrink(),
            _ => now_ms += 1,
        }
        timers.advance(epoch + Duration::from_millis(now_ms));
        for (timer, deadline) in &live {
            assert_eq!(fired(timer), deadline.is_some_and(|at| at <= now_ms), "step {step}");
        }
    }
    live.clear();
    timers.shrink();
    assert_eq!(
        timers.slots.borrow().capacity() + timers.free.borrow().capacity() + timers.looks.borrow().capacity(),
        0
    );
}
