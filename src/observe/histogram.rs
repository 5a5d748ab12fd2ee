//! Owns the latency histogram of one route or service on one core, and its merge into totals on a scrape.
//! Two significant digits, microseconds, 1 µs to 1 h. Does not know whose latency it holds (`observe::metrics`)
//! nor how it is exposed (`observe::prometheus`).

use std::time::Duration;

use hdrhistogram::{Counter, Histogram};

/// Latencies of one route or service on one core, since start.
///
/// Counts are `u32` (13 KiB instead of 26 KiB per histogram). A busy core fills one such counter within a
/// day, so after `u32::MAX` records everything moves to a `u64` histogram and counting starts again: no
/// bucket ever saturates.
#[derive(Debug, Clone)]
pub struct Latency {
    recent: Histogram<u32>,
    recent_left: u32,
    older: Option<Box<Histogram<u64>>>,
    /// Exact, not rebuilt from buckets. 2^64 µs is 584,000 years of added-up waiting.
    sum_us: u64,
}

impl Latency {
    #[inline]
    pub fn record(&mut self, duration: Duration) {
        if self.recent_left == 0 {
            self.move_to_older();
        }
        self.recent_left -= 1;
        // Not `as_micros`, which divides 128 bits.
        let us = duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros().into());
        self.sum_us = self.sum_us.wrapping_add(us);
        // Cannot fail: the value is clamped into the bounds that `new_histogram` was made with.
        let _ = self.recent.record(us.clamp(LATENCY_US_MIN, LATENCY_US_MAX));
    }

    #[cold]
    fn move_to_older(&mut self) {
        let older = self.older.get_or_insert_with(|| Box::new(new_histogram()));
        add_narrow(older, &self.recent);
        self.recent.reset();
        self.recent_left = RECENT_RECORDS_MAX;
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

impl Default for Latency {
    fn default() -> Self {
        Latency { recent: new_histogram(), recent_left: RECENT_RECORDS_MAX, older: None, sum_us: 0 }
    }
}

/// Latencies of all cores together.
#[derive(Debug, Clone)]
pub struct LatencyTotal {
    counts: Histogram<u64>,
    sum_us: u64,
}

impl LatencyTotal {
    pub fn add(&mut self, core: &Latency) {
        add_narrow(&mut self.counts, &core.recent);
        if let Some(older) = &core.older {
            add_wide(&mut self.counts, older);
        }
        self.sum_us = self.sum_us.wrapping_add(core.sum_us);
    }

    pub fn merge(&mut self, other: &LatencyTotal) {
        add_wide(&mut self.counts, &other.counts);
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// How many were at most each of `BUCKETS_SECONDS`, in that order, cumulative.
    ///
    /// A recorded value stands for its range of equivalent values (under 0.8 % wide); the range belongs to
    /// the first bucket that holds its lower end.
    pub fn cumulative(&self) -> [u64; BUCKETS_SECONDS.len()] {
        let mut counts = [0; BUCKETS_SECONDS.len()];
        for step in self.counts.iter_recorded() {
            let low_us = self.counts.lowest_equivalent(step.value_iterated_to());
            let bucket = BUCKETS_US.partition_point(|&bound_us| bound_us < low_us);
            if let Some(count) = counts.get_mut(bucket) {
                *count += step.count_at_value();
            }
        }
        let mut below = 0;
        for count in &mut counts {
            below += *count;
            *count = below;
        }
        counts
    }

    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// In seconds; `quantile` in 0..=1. For people (dashboard), not for Prometheus, which cannot add these up.
    pub fn quantile_seconds(&self, quantile: f64) -> f64 {
        self.counts.value_at_quantile(quantile) as f64 / 1e6
    }
}

impl Default for LatencyTotal {
    fn default() -> Self {
        LatencyTotal { counts: new_histogram(), sum_us: 0 }
    }
}

fn new_histogram<C: Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(LATENCY_US_MIN, LATENCY_US_MAX, SIGNIFICANT_DIGITS)
        .expect("constant bounds, low >= 1, high >= 2 * low, digits <= 5")
}

/// `Histogram::add` adds equal widths only.
fn add_narrow(total: &mut Histogram<u64>, part: &Histogram<u32>) {
    for step in part.iter_recorded() {
        // Cannot fail: the value is one of a histogram with the same bounds.
        let _ = total.record_n(step.value_iterated_to(), step.count_at_value().into());
    }
}

fn add_wide(total: &mut Histogram<u64>, part: &Histogram<u64>) {
    total.add(part).expect("every histogram here is made by new_histogram, with the same bounds");
}

pub const LATENCY_US_MIN: u64 = 1;
/// Longer ones count as this long in the buckets; the sum keeps their true length.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;
const RECENT_RECORDS_MAX: u32 = u32::MAX;

/// Upper bounds of the exposed buckets, without `+Inf`. Fixed, so that any two processes add up.
pub const BUCKETS_SECONDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];
const BUCKETS_US: [u64; BUCKETS_SECONDS.len()] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn total(values_us: &[u64]) -> LatencyTotal {
        let mut core = Latency::default();
        for &us in values_us {
            core.record(Duration::from_micros(us));
        }
        let mut total = LatencyTotal::default();
        total.add(&core);
        total
    }

    #[test]
    fn both_bucket_tables_name_the_same_bounds() {
        for (seconds, us) in BUCKETS_SECONDS.iter().zip(BUCKETS_US) {
            assert_eq!((seconds * 1e6).round() as u64, us);
        }
    }

    #[test]
    fn values_on_a_bound_fall_into_its_bucket() {
        for (i, &us) in BUCKETS_US.iter().enumerate() {
            let counts = total(&[us]).cumulative();
            assert_eq!(counts[i], 1, "{us} µs");
            assert!(i == 0 || counts[i - 1] == 0, "{us} µs");
        }
    }

    #[test]
    fn extremes_are_clamped_but_summed_in_full() {
        let total = total(&[0, 7_200_000_000]);
        assert_eq!(total.count(), 2);
        assert_eq!(total.cumulative()[0], 1);
        assert_eq!(total.cumulative()[BUCKETS_SECONDS.len() - 1], 1);
        assert_eq!(total.sum_seconds(), 7200.0);
    }

    #[test]
    fn cores_add_up() {
        let mut a = Latency::default();
        let mut b = Latency::default();
        for us in 0..1000 {
            a.record(Duration::from_micros(us));
            b.record(Duration::from_micros(us * 10));
        }
        let mut total = LatencyTotal::default();
        total.add(&a);
        total.add(&b);
        assert_eq!(total.count(), 2000);
        assert!((total.quantile_seconds(1.0) / 0.01 - 1.0).abs() < 0.01);
    }

    #[test]
    fn nothing_is_lost_when_the_narrow_counters_are_full() {
        let mut core = Latency::default();
        core.record(Duration::from_micros(5));
        core.recent_left = 1;
        for _ in 0..3 {
            core.record(Duration::from_micros(5));
        }
        let mut total = LatencyTotal::default();
        total.add(&core);
        assert_eq!((total.count(), total.cumulative()[0], core.sum_us()), (4, 4, 20));
        assert!(core.older.is_some());
    }
}
