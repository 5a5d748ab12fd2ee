//! A histogram of durations with a bounded relative error (under 1 %), as HdrHistogram's.
//! Owns counting and percentiles; knows nothing of clocks.

use std::time::Duration;

/// Buckets double in width every `2^SUB_BITS` steps, so a bucket is at most 1/128 of its value wide.
const SUB_BITS: u32 = 7;
const SUB_COUNT: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    pub fn record(&mut self, duration: Duration) {
        self.counts[bucket(duration.as_nanos() as u64)] += 1;
        self.total += 1;
    }

    /// The value that `percent` of all records do not exceed, in microseconds; 0 when nothing was recorded.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let wanted = ((percent / 100.0) * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_edge(index) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB_COUNT {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    ((u64::from(shift) + 1) * SUB_COUNT + ((value >> shift) - SUB_COUNT)) as usize
}

fn upper_edge(index: usize) -> u64 {
    let (row, step) = (index as u64 / SUB_COUNT, index as u64 % SUB_COUNT);
    if row == 0 { step } else { (((SUB_COUNT + step + 1) as u128) << (row - 1)).min(u64::MAX as u128) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stay_within_one_percent() {
        let mut histogram = Histogram::new();
        for us in 1..=100_000_u64 {
            histogram.record(Duration::from_micros(us));
        }
        for (percent, expected) in [(50.0, 50_000.0), (99.0, 99_000.0), (100.0, 100_000.0)] {
            let seen = histogram.percentile_us(percent);
            assert!((seen / expected - 1.0).abs() < 0.01, "p{percent}: {seen}");
        }
    }

    #[test]
    fn every_value_has_a_bucket() {
        for value in [0, 1, 127, 128, 255, 256, 1 << 40, u64::MAX] {
            let index = bucket(value);
            assert!(index < BUCKETS && upper_edge(index) >= value, "{value}");
        }
    }
}
