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
    /// Whether the same keys would come of it, perhaps in another way.
    pub fn is_of_same_keys(&self, other: &Source) -> bool {
        self.url == other.url && self.algorithm == other.algorithm
    }

    /// Whether the same keys would come of it, in the same way.
    pub fn is_same(&self, other: &Source) -> bool {
        let config = |source: &Source| source.tls.as_ref().map(|tls| Arc::as_ptr(&tls.config));
        self.is_of_same_keys(other) && self.refresh == other.refresh && config(self) == config(other)
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
    waiting: Vec<Waiting>,
    /// Attempts that have begun and not ended.
    under_way: u64,
    /// When the set that is known was asked for. `None`: it was not, or by another source.
    asked_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    core: usize,
    slot: u32,
    /// Attempts that have to end first.
    until: u64,
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

    /// Whether it has been fetched from this source, as this one says.
    pub fn is_fetched(&self) -> bool {
        self.line().asked_at.is_some()
    }

    /// Begins with what another source of the same keys knows, until it has been asked itself.
    pub fn begin_with(&self, other: &RemoteKeys) {
        self.set.store(other.set.load_full());
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
        // What is under way may have been asked before the keys changed; if there are none, any are welcome.
        let begun = if self.is_known() { line.under_way } else { 0 };
        let until = self.attempts() + begun + 1;
        line.waiting.push(Waiting { core, slot, until });
        self.wanted.notify_one();
        Joined::Until(until)
    }

    /// Who has joined waits no more.
    pub fn leave(&self, core: usize, slot: u32) {
        self.line().waiting.retain(|waiting| (waiting.core, waiting.slot) != (core, slot));
    }

    /// Resolves when somebody waits.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// An attempt begins.
    pub fn begin(&self) {
        self.line().under_way += 1;
    }

    /// An attempt that began at `asked` has ended. Keeps what is known if nothing came of it. Returns whom to wake, by core.
    pub fn fetched(&self, asked: Instant, set: Option<KeySet>) -> Vec<(usize, u32)> {
        let mut line = self.line();
        line.under_way = line.under_way.saturating_sub(1);
        match set {
            Some(set) => {
                line.asked_at = Some(asked);
                self.set.store(Some(Arc::new(set)));
            }
            None => _ = self.failed_total.fetch_add(1, Relaxed),
        }
        let ended = self.attempts.fetch_add(1, AcqRel) + 1;
        let woken = line.waiting.extract_if(.., |waiting| waiting.until <= ended);
        woken.map(|waiting| (waiting.core, waiting.slot)).collect()
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

    /// An answer that was asked for before the keys changed is not the one that somebody waits for.
    #[test]
    fn who_waits_for_newer_keys_waits_for_an_attempt_that_begins_afterwards() {
        let (keys, now) = (keys(), Instant::now());
        keys.begin();
        assert_eq!(keys.join(0, 1, now), Joined::Until(1), "without keys any are welcome");
        assert_eq!(keys.fetched(now, Some(set())), [(0, 1)]);
        let later = now + YOUNG;
        keys.begin();
        assert_eq!(keys.join(0, 2, later), Joined::Until(3));
        assert_eq!(keys.fetched(now, Some(set())), []);
        keys.begin();
        assert_eq!(keys.fetched(later, Some(set())), [(0, 2)]);
    }

    #[test]
    fn who_leaves_makes_room_for_others() {
        let (keys, now) = (keys(), Instant::now());
        for slot in 0..5 * WAITING_MAX as u32 {
            assert_eq!(keys.join(0, slot, now), Joined::Until(1));
            keys.leave(0, slot);
        }
        assert_eq!(keys.fetched(now, None), []);
    }

    #[test]
    fn another_way_to_the_same_keys_begins_with_them() {
        let (known, next) = (keys(), keys());
        known.fetched(Instant::now(), Some(set()));
        next.begin_with(&known);
        assert!(next.is_known() && !next.is_fetched());
        assert_eq!(next.fetched(Instant::now(), None), []);
        assert!(next.is_known(), "what cannot be fetched leaves them in use");
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
