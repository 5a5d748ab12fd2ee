//! Owns what all keys of one quota file have used, by their ids. Opens no file: `control::quotas` reads and writes it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::file::Entry;
use super::{Period, Used};
use crate::sync::{AtomicU64, Mutex, MutexGuard};

pub struct Ledger {
    /// Where it is kept.
    pub file: PathBuf,
    /// Asked for when a configuration is compiled, and when the file is written; never by a request.
    used: Mutex<BTreeMap<Box<str>, Arc<Used>>>,
    refused_total: [AtomicU64; Period::ALL.len()],
    pub write_errors_total: AtomicU64,
}

impl Ledger {
    pub fn new(file: &Path) -> Ledger {
        Ledger {
            file: file.to_owned(),
            used: Mutex::default(),
            refused_total: Default::default(),
            write_errors_total: AtomicU64::new(0),
        }
    }

    /// What the key of this id has used.
    pub fn used(&self, id: &str) -> Arc<Used> {
        self.all().entry(id.into()).or_default().clone()
    }

    /// Requests that were refused.
    pub fn refused(&self, period: Period) -> &AtomicU64 {
        &self.refused_total[period as usize]
    }

    /// Takes what the file says, before anybody uses anything.
    pub fn take_in(&self, entries: &[Entry]) {
        for entry in entries {
            let used = self.used(&entry.id);
            used.day.set(entry.day);
            used.month.set(entry.month);
        }
    }

    /// What the file is to say, in the order of the ids: of all keys that have used something of a period that is not over. The others
    /// are forgotten, unless somebody has them. `now`: seconds since 1970.
    pub fn entries(&self, now: u64) -> Vec<Entry> {
        let counts = |used: &Used| {
            Period::ALL.iter().any(|&period| {
                let (number, count) = used.of(period).get();
                count > 0 && number >= period.at(now)
            })
        };
        let mut all = self.all();
        all.retain(|_, used| Arc::strong_count(used) > 1 || counts(used));
        let counted = all.iter().filter(|(_, used)| counts(used));
        counted
            .map(|(id, used)| Entry { id: id.clone(), day: used.day.get(), month: used.month.get() })
            .collect()
    }

    /// Another number whenever something else was used.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for used in self.all().values() {
            Period::ALL.iter().for_each(|&period| hasher.write_u64(used.of(period).0.load(Relaxed)));
        }
        hasher.finish()
    }

    /// No holder leaves anything half changed.
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Used>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Alike wherever it was made: what is used is no part of a configuration.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}
