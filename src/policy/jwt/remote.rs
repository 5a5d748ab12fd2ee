//! Owns a key set that is kept somewhere else: what of it is known now, and who waits for more. Fetches nothing (`control::jwks` does): it
//! says from where, and when somebody wants it sooner.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::{Algorithm, KeySet};
use crate::config::value::Place;
use crate::net::tls::Towards;

/// Where a key set is, and how it is read.
#[derive(Debug, Clone)]
pub struct Source {
    /// As it is written.
    pub url: Box<str>,
    pub place: Place,
    /// Host, and port if there is one, of the URL.
    pub authority: Box<str>,
    /// Path and query.
    pub target: Box<str>,
    /// Of `https`.
    pub tls: Option<Towards>,
    pub refresh: Duration,
    /// For keys that do not say theirs.
    pub algorithm: Option<Algorithm>,
}

impl Source {
    /// Whether the same keys would come of it, in the same way.
    pub fn is_same(&self, other: &Source) -> bool {
        let config = |source: &Source| source.tls.as_ref().map(|tls| Arc::as_ptr(&tls.config));
        self.url == other.url
            && self.refresh == other.refresh
            && self.algorithm == other.algorithm
            && config(self) == config(other)
    }
}

/// The key set of one source. All configurations that name the source share it.
pub struct RemoteKeys {
    pub source: Source,
    set: ArcSwapOption<KeySet>,
    /// Attempts to fetch it that have ended.
    attempts: AtomicU64,
    pub failed_total: AtomicU64,
    line: Mutex<Line>,
    /// Rung when somebody waits.
    wanted: Notify,
}

#[derive(Default)]
struct Line {
    /// Whom to wake, by core.
    waiting: Vec<(usize, u32)>,
    /// When the set that is known was asked for.
    asked_at: Option<Instant>,
}

/// Requests that wait for one set.
const WAITING_MAX: usize = 1024;
/// Of a set that is so young nobody waits for a newer one: a token with an unknown key is a stranger's.
const YOUNG: Duration = Duration::from_secs(1);

/// What comes of wanting newer keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// Wait until so many attempts have ended.
    Until(u64),
    /// What is known is new, or too many wait.
    No,
}

impl RemoteKeys {
    pub fn new(source: Source) -> RemoteKeys {
        RemoteKeys {
            source,
            set: ArcSwapOption::empty(),
            attempts: AtomicU64::new(0),
            failed_total: AtomicU64::new(0),
            line: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    pub fn with<R>(&self, use_it: impl FnOnce(Option<&KeySet>) -> R) -> R {
        use_it(self.set.load().as_deref())
    }

    pub fn is_known(&self) -> bool {
        self.set.load().is_some()
    }

    /// Attempts that have ended.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Acquire)
    }

    /// A task wants keys that are not known: it is to wait, and is woken as `slot` of `core`, perhaps more than once.
    pub fn join(&self, core: usize, slot: u32, now: Instant) -> Joined {
        let mut line = self.line();
        let is_young = line.asked_at.is_some_and(|asked| now.saturating_duration_since(asked) < YOUNG);
        if is_young || line.waiting.len() >= WAITING_MAX {
            return Joined::No;
        }
        line.waiting.push((core, slot));
        self.wanted.notify_one();
        Joined::Until(self.attempts() + 1)
    }

    /// Resolves when somebody waits.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// An attempt that began at `asked` has ended. Keeps what is known if nothing came of it. Returns whom to wake.
    pub fn fetched(&self, asked: Instant, set: Option<KeySet>) -> Vec<(usize, u32)> {
        let mut line = self.line();
        match set {
            Some(set) => {
                line.asked_at = Some(asked);
                self.set.store(Some(Arc::new(set)));
            }
            None => _ = self.failed_total.fetch_add(1, Relaxed),
        }
        self.attempts.fetch_add(1, AcqRel);
        std::mem::take(&mut line.waiting)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it is held.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing that changes by itself: two readings of one config are the same.
impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { url, refresh, algorithm, .. } = &self.source;
        write!(f, "RemoteKeys({url}, {refresh:?}, {algorithm:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::jwt::Key;

    fn keys() -> RemoteKeys {
        RemoteKeys::new(Source {
            url: "http://id.test/keys".into(),
            place: Place::Address(([127, 0, 0, 1], 80).into()),
            authority: "id.test".into(),
            target: "/keys".into(),
            tls: None,
            refresh: Duration::from_secs(300),
            algorithm: None,
        })
    }

    fn set() -> KeySet {
        KeySet::one(Key::secret(b"secret", None).unwrap(), b"secret")
    }

    #[test]
    fn who_waits_is_woken_by_the_next_attempt_whatever_comes_of_it() {
        let (keys, now) = (keys(), Instant::now());
        assert!(!keys.is_known());
        assert_eq!(keys.join(0, 7, now), Joined::Until(1));
        assert_eq!(keys.join(1, 9, now), Joined::Until(1));
        assert_eq!(keys.fetched(now, None), [(0, 7), (1, 9)]);
        assert!(!keys.is_known() && keys.attempts() == 1);
        assert_eq!(keys.join(0, 7, now), Joined::Until(2), "nothing is known yet");
        assert_eq!(keys.fetched(now, Some(set())), [(0, 7)]);
        assert!(keys.is_known());
        assert_eq!(keys.fetched(now, None), [], "what is known stays");
        assert!(keys.is_known());
    }

    #[test]
    fn strangers_cannot_have_it_fetched_all_the_time() {
        let (keys, now) = (keys(), Instant::now());
        keys.fetched(now, Some(set()));
        assert_eq!(keys.join(0, 0, now + Duration::from_millis(999)), Joined::No);
        assert_eq!(keys.join(0, 0, now + YOUNG), Joined::Until(2));
        for slot in 1..WAITING_MAX as u32 {
            assert_eq!(keys.join(0, slot, now + YOUNG), Joined::Until(2));
        }
        assert_eq!(keys.join(0, 5000, now + YOUNG), Joined::No);
    }
}
