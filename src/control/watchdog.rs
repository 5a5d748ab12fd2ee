//! Owns the watch over the workers: one that has not turned for a second is stuck, which is said and counted once.
//! Looks at what they show (`runtime::peers`); stops and restarts nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::observe::EventKind;
use crate::runtime::peers::{BEAT, STUCK_AFTER};

use super::state::State;

/// What was seen of each worker so far, by number.
#[derive(Debug, Default)]
pub struct Watchdog {
    workers: Vec<Watched>,
}

/// One worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watched {
    /// Times that it was found stuck.
    pub stuck_total: u64,
    /// The longest silence of the stuck time that lasts now, if one does.
    stuck_for: Option<Duration>,
}

impl Watched {
    pub fn is_stuck(&self) -> bool {
        self.stuck_for.is_some()
    }
}

impl Watchdog {
    /// Takes in how long each worker has been silent (`None`: it ends) and returns what is new about them, one
    /// sentence each.
    pub fn look(&mut self, silences: &[Option<Duration>]) -> Vec<(EventKind, String)> {
        self.workers.resize(silences.len(), Watched::default());
        let mut news = Vec::new();
        for (number, (worker, silence)) in self.workers.iter_mut().zip(silences).enumerate() {
            let silence = silence.filter(|silence| *silence > STUCK_AFTER);
            match (worker.stuck_for, silence) {
                (None, Some(silence)) => {
                    worker.stuck_total += 1;
                    let seconds = silence.as_secs_f32();
                    let text = format!("worker {number} is stuck: it has not turned for {seconds:.1} s");
                    news.push((EventKind::WorkerStuck, text));
                }
                (Some(before), None) => {
                    let seconds = before.as_secs_f32();
                    let text = format!("worker {number} turns again, after {seconds:.1} s or more");
                    news.push((EventKind::WorkerTurns, text));
                }
                _ => {}
            }
            worker.stuck_for = silence;
        }
        news
    }

    pub fn workers(&self) -> &[Watched] {
        &self.workers
    }
}

/// Looks at the workers for ever.
pub async fn keep(state: Arc<State>) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let silences = state.workers.silences(Instant::now());
        let news = state.watchdog().look(&silences);
        news.into_iter().for_each(|(kind, text)| state.events.tell(kind, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_worker_is_told_of_once_and_again_when_it_turns() {
        let mut watchdog = Watchdog::default();
        let silent = |ms| Some(Duration::from_millis(ms));
        assert!(watchdog.look(&[silent(10), silent(1000)]).is_empty());
        let news = watchdog.look(&[silent(10), silent(1250)]);
        let stuck = "worker 1 is stuck: it has not turned for 1.2 s".to_owned();
        assert_eq!(news, [(EventKind::WorkerStuck, stuck)]);
        assert!(watchdog.look(&[silent(200), silent(1500)]).is_empty());
        assert!(watchdog.workers()[1].is_stuck() && !watchdog.workers()[0].is_stuck());
        let news = watchdog.look(&[silent(10), silent(100)]);
        assert_eq!(news, [(EventKind::WorkerTurns, "worker 1 turns again, after 1.5 s or more".to_owned())]);
        watchdog.look(&[silent(10), silent(2000)]);
        assert_eq!(watchdog.workers()[1].stuck_total, 2);
    }

    #[test]
    fn a_worker_that_ends_is_not_stuck() {
        let mut watchdog = Watchdog::default();
        watchdog.look(&[Some(Duration::from_secs(2))]);
        assert!(watchdog.look(&[None])[0].1.contains("turns again"));
        assert!(watchdog.look(&[None]).is_empty());
    }
}
