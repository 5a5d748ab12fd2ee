//! Tells whether the cores ran at their usual speed while a sample was taken. A hypervisor that lends them to
//! others, or a lowered clock, makes every CPU time longer and may show in no counter of /proc.
//! Owns one thread per core that does a fixed piece of work now and then and times it; judges nothing else.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sys;

/// About 50 µs of work every 100 ms: 0.05 % of a core, too rare to move a 99th percentile.
const WORK_STEPS: u64 = 40_000;
const PAUSE: Duration = Duration::from_millis(100);
/// A beat is slow when it took this much longer than a good one.
const SLOW_FACTOR: f64 = 1.25;
/// A good beat is one that this part of the run's beats were no slower than. Not the best of all: the kernel
/// may take time off a beat that was stolen before it.
const GOOD_PART: f64 = 0.2;
const CALIBRATION_BEATS: usize = 40;

/// CPU times of all beats of this run, in nanoseconds: 20 a second.
static BEATS_NS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

pub struct Pulse {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<u64>>>,
}

impl Pulse {
    pub fn start(cores: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = cores.iter().map(|&core| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || beat_until(core, &stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// The part of the beats, 0 to 1, that were slow; of the worse core.
    pub fn slow_share(mut self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let cores: Vec<Vec<u64>> = self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect();
        let limit_ns = learn(cores.iter().flatten().copied()) as f64 * SLOW_FACTOR;
        let slow = |beats: &Vec<u64>| beats.iter().filter(|&&beat_ns| beat_ns as f64 > limit_ns).count();
        cores.iter().map(|beats| slow(beats) as f64 / beats.len().max(1) as f64).fold(0.0, f64::max)
    }
}

/// Learns the usual speed before the first sample.
pub fn calibrate() {
    learn((0..CALIBRATION_BEATS).map(|_| {
        thread::sleep(Duration::from_millis(5));
        beat()
    }));
}

/// Adds what was seen and returns what a good beat takes.
fn learn(beats_ns: impl Iterator<Item = u64>) -> u64 {
    let mut all = BEATS_NS.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(beats_ns);
    all.sort_unstable();
    let index = (all.len() as f64 * GOOD_PART) as usize;
    all.get(index).copied().unwrap_or(0)
}

fn beat_until(core: usize, stop: &AtomicBool) -> Vec<u64> {
    let mut beats = Vec::new();
    if sys::pin(&[core]).is_ok() {
        while !stop.load(Ordering::Relaxed) {
            beats.push(beat());
            thread::sleep(PAUSE);
        }
    }
    beats
}

/// Stays in registers, so that neither caches nor memory matter; being preempted does not count.
fn beat() -> u64 {
    let begin_ns = sys::thread_cpu_ns();
    let mut state = 1_u64;
    for _ in 0..WORK_STEPS {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    sys::thread_cpu_ns() - begin_ns
}
