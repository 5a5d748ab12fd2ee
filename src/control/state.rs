//! Owns what the control thread and the admin endpoint share: the published snapshot, the workers' mailboxes,
//! names for metrics, the snapshots that were published before, and the reload counters. Changes nothing by itself.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::snapshot::{Secret, Snapshot};
use crate::observe::clock::unix_ms_now;
use crate::observe::{EventKind, Events, LogWriter, Names};
use crate::runtime::compute::Compute;
use crate::runtime::mailbox::{Letter, Sender};
use crate::runtime::peers::Workers;

use super::retired::Retired;
use super::watchdog::Watchdog;

/// What other tasks may ask of the control loop.
pub enum Command {
    Reload(oneshot::Sender<Result<String, String>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Serving,
    Draining,
}

pub struct State {
    /// The config file.
    pub file: PathBuf,
    pub published: Arc<ArcSwap<Snapshot>>,
    mailboxes: Arc<[Sender]>,
    /// What the workers show.
    pub workers: Arc<Workers>,
    /// For what takes them too long.
    pub compute: Arc<Compute>,
    watchdog: Mutex<Watchdog>,
    pub commands: mpsc::Sender<Command>,
    pub log: LogWriter,
    pub events: Arc<Events>,
    texts: Mutex<Texts>,
    /// Replaced as a whole, so that nobody waits while names are learned.
    names: Mutex<Arc<Names>>,
    retired: Mutex<Retired>,
    reloads: Mutex<Reloads>,
    phase: AtomicU8,
    /// Told when something else is published.
    changed: watch::Sender<()>,
    pub started_unix_seconds: f64,
}

/// The text of the config file, as it was when it was taken.
#[derive(Debug, Clone)]
pub struct Texts {
    pub in_force: Secret,
    pub at_start: Secret,
}

#[derive(Debug, Clone)]
pub struct Reloads {
    pub ok: u64,
    pub failed: u64,
    /// `None` before the first one.
    pub last: Option<LastReload>,
    /// When the configuration in use was accepted.
    pub accepted_unix_seconds: f64,
}

#[derive(Debug, Clone)]
pub struct LastReload {
    pub unix_ms: u64,
    /// What was said of it, either way.
    pub result: Result<Arc<str>, Arc<str>>,
}

impl Reloads {
    /// Also before the first one: what the gateway started with was accepted.
    pub fn is_last_ok(&self) -> bool {
        self.last.as_ref().is_none_or(|last| last.result.is_ok())
    }
}

impl State {
    pub fn new(
        file: &Path,
        snapshot: Snapshot,
        (mailboxes, compute): (Arc<[Sender]>, Arc<Compute>),
        commands: mpsc::Sender<Command>,
        log: LogWriter,
        events: Arc<Events>,
        text: Secret,
    ) -> State {
        let mut names = Names::default();
        names.learn(&snapshot);
        let now = unix_seconds();
        State {
            file: file.to_owned(),
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            workers: Workers::new(mailboxes.len()),
            mailboxes,
            compute,
            watchdog: Mutex::default(),
            commands,
            log,
            events,
            texts: Mutex::new(Texts { in_force: text.clone(), at_start: text }),
            names: Mutex::new(Arc::new(names)),
            retired: Mutex::default(),
            reloads: Mutex::new(Reloads { ok: 0, failed: 0, last: None, accepted_unix_seconds: now }),
            phase: AtomicU8::new(Phase::Starting as u8),
            changed: watch::Sender::new(()),
            started_unix_seconds: now,
        }
    }

    /// Makes a snapshot the one that requests see from now on. Its names are learned already. The one before stays
    /// here until nobody else has it: workers let go of snapshots, but never of a last one.
    pub fn publish(&self, snapshot: Snapshot) {
        let before = self.published.swap(Arc::new(snapshot));
        lock(&self.retired).add(before);
        self.tell_all(|| Letter::Published);
        self.changed.send_replace(());
    }

    /// Tells when something else is published.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Snapshots that nobody has any more, to be freed.
    pub fn take_unused(&self) -> Vec<Arc<Snapshot>> {
        lock(&self.retired).take_unused()
    }

    /// Snapshots that were published before and are still in use.
    pub fn retired(&self) -> usize {
        lock(&self.retired).len()
    }

    /// Takes the names with those of a snapshot that is to be published. Returns the ones before, to be freed.
    pub fn set_names(&self, names: Names) -> Arc<Names> {
        std::mem::replace(&mut *lock(&self.names), Arc::new(names))
    }

    pub fn mailboxes(&self) -> &Arc<[Sender]> {
        &self.mailboxes
    }

    pub fn tell_all(&self, letter: impl Fn() -> Letter) {
        for (worker, mailbox) in self.mailboxes.iter().enumerate() {
            if mailbox.send(letter()).is_err() {
                let text = format!("worker {worker} does not read its mailbox");
                self.events.tell(EventKind::WorkerStuck, text);
            }
        }
    }

    pub fn names(&self) -> Arc<Names> {
        lock(&self.names).clone()
    }

    pub fn watchdog(&self) -> MutexGuard<'_, Watchdog> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn texts(&self) -> Texts {
        lock(&self.texts).clone()
    }

    /// Takes the text of a configuration that is published. Returns the one before, to be freed.
    pub fn set_text(&self, text: Secret) -> Secret {
        std::mem::replace(&mut lock(&self.texts).in_force, text)
    }

    pub fn reloads(&self) -> Reloads {
        lock(&self.reloads).clone()
    }

    pub fn count_reload(&self, result: &Result<String, String>) {
        let mut reloads = lock(&self.reloads);
        match result {
            Ok(_) => {
                reloads.ok += 1;
                reloads.accepted_unix_seconds = unix_seconds();
            }
            Err(_) => reloads.failed += 1,
        }
        let result = result.as_ref().map(|text| text.as_str().into()).map_err(|text| text.as_str().into());
        reloads.last = Some(LastReload { unix_ms: unix_ms_now(), result });
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Serving as u8 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }
}

/// No holder leaves anything half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
