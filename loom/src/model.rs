//! Owns how a model is run: through all its executions, or it fails. Knows no policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::sync;

/// Of one model. None takes more than a few seconds; one that does is too large.
const DURATION_MAX: Duration = Duration::from_secs(60);
/// Executions after which loom looks at the clock.
const LOOKS_AT_CLOCK: usize = 1000;
/// Steps of one execution. `Buckets` reads 64 slots to insert a key.
const BRANCHES_MAX: usize = 10_000;

/// Runs it in every execution in which threads are interrupted, where they could go on, no more than so often.
pub fn check(interruptions_max: usize, model: impl Fn() + Send + Sync + 'static) {
    let (model, begun) = (Arc::new(model), Instant::now());
    loop {
        let executions = run(interruptions_max, model.clone());
        let took = begun.elapsed();
        assert!(took < DURATION_MAX, "not finished after {executions} executions");
        if !sync::learn() {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            println!("{name}: {executions} executions in {:.1} s", took.as_secs_f64());
            return;
        }
    }
}

fn run(interruptions_max: usize, model: Arc<impl Fn() + Send + Sync + 'static>) -> u64 {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions_max);
    builder.max_branches = BRANCHES_MAX;
    builder.max_duration = Some(DURATION_MAX);
    builder.checkpoint_interval = LOOKS_AT_CLOCK;
    let executions = Arc::new(AtomicU64::new(0));
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        sync::begin();
        model();
    });
    executions.load(Relaxed)
}
