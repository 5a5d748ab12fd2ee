//! Owns what has happened to the gateway lately: whatever is told here is said on standard error and kept, the last
//! `EVENTS_MAX`, for the admin endpoint to show. Threads that may wait tell `Events`; a worker has a `Teller`, which hands
//! on what it is told and waits for nobody. Counts nothing (`metrics` does), and forgets all with the process.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::unix_ms_now;
use super::stderr;

pub struct Events {
    kept: Mutex<VecDeque<Event>>,
    /// Standard error took nothing the last time: it is not waited for again before it does.
    is_deaf: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it happened, or happened last.
    pub unix_ms: u64,
    pub kind: EventKind,
    pub text: Arc<str>,
    /// How often, if it is of a kind that goes on (`EventKind::goes_on`).
    pub times: u64,
}

impl Events {
    /// With what workers tell, and where that arrives; `keep` takes it in.
    pub fn new() -> (Arc<Events>, Teller, Told) {
        let (sender, receiver) = mpsc::channel(TOLD_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let events = Events { kept: Mutex::default(), is_deaf: AtomicBool::new(false) };
        (Arc::new(events), Teller { sender, lost: lost.clone() }, Told { receiver, lost })
    }

    /// Something has happened, in one line.
    pub fn tell(&self, kind: EventKind, text: impl Into<String>) {
        self.tell_at_length(kind, text, "");
    }

    /// The same with more to say, all of which goes to standard error. Its first line is kept, too.
    pub fn tell_at_length(&self, kind: EventKind, text: impl Into<String>, details: &str) {
        let text = text.into();
        let line_break = if details.is_empty() { "" } else { "\n" };
        self.print(&format!("tidegate: {text}{line_break}{details}\n"), PATIENCE);
        let first = details.lines().next().unwrap_or_default();
        let kept = if first.is_empty() { text } else { format!("{text}: {first}") };
        self.keep_one(unix_ms_now(), kind, kept);
    }

    /// The last ones, newest last.
    pub fn recent(&self) -> Vec<Event> {
        self.kept().iter().cloned().collect()
    }

    /// Takes in what workers tell, for ever.
    pub async fn keep(self: Arc<Self>, mut told: Told) {
        while let Some(Telling { unix_ms, kind, text }) = told.receiver.recv().await {
            // Whatever comes with traffic may come in floods, which are not to hold up the control thread.
            self.print(&format!("tidegate: {text}\n"), Duration::ZERO);
            self.keep_one(unix_ms, kind, text);
            match told.lost.swap(0, Relaxed) {
                0 => {}
                lost => self.tell(EventKind::EventsLost, format!("{lost} events came too fast to be kept")),
            }
        }
    }

    fn print(&self, text: &str, patience: Duration) {
        let patience = if self.is_deaf.load(Relaxed) { Duration::ZERO } else { patience };
        self.is_deaf.store(!stderr::write(io::stderr(), text, patience), Relaxed);
    }

    fn keep_one(&self, unix_ms: u64, kind: EventKind, text: String) {
        let text: Arc<str> = shortened(text).into();
        let mut kept = self.kept();
        let same = kind.goes_on().then(|| kept.iter().position(|one| one.kind == kind && one.text == text));
        let before = same.flatten().and_then(|at| kept.remove(at)).map_or(0, |event| event.times);
        if kept.len() >= EVENTS_MAX {
            kept.pop_front();
        }
        kept.push_back(Event { unix_ms, kind, text, times: before + 1 });
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // Nobody leaves it half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's end.
#[derive(Clone)]
pub struct Teller {
    sender: mpsc::Sender<Telling>,
    lost: Arc<AtomicU64>,
}

impl Teller {
    /// For what happens seldom; what may come with every request is for `runtime::complaints`. With too much under way it is
    /// only counted.
    pub fn tell(&self, kind: EventKind, text: impl FnOnce() -> String) {
        match self.sender.try_reserve() {
            Ok(room) => room.send(Telling { unix_ms: unix_ms_now(), kind, text: text() }),
            Err(_) => _ = self.lost.fetch_add(1, Relaxed),
        }
    }
}

/// What workers have told.
pub struct Told {
    receiver: mpsc::Receiver<Telling>,
    lost: Arc<AtomicU64>,
}

struct Telling {
    unix_ms: u64,
    kind: EventKind,
    text: String,
}

macro_rules! kinds {
    ($($kind:ident $word:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventKind {
            $($kind,)*
        }

        impl EventKind {
            pub const ALL: &[EventKind] = &[$(EventKind::$kind,)*];

            /// A stable word for the admin endpoint.
            pub fn word(self) -> &'static str {
                match self {
                    $(EventKind::$kind => $word,)*
                }
            }
        }
    };
}

kinds! {
    ReloadTaken "reload_taken",
    ReloadRefused "reload_refused",
    AddressesRefused "addresses_refused",
    FileChanged "file_changed",
    LookupFailed "lookup_failed",
    KeysFailed "keys_failed",
    KeysFetched "keys_fetched",
    QuotasBegun "quotas_begun",
    QuotasFailed "quotas_failed",
    QuotasWritten "quotas_written",
    CanarySet "canary_set",
    CanaryGivenUp "canary_given_up",
    EndpointEjected "endpoint_ejected",
    EndpointBack "endpoint_back",
    EndpointDown "endpoint_down",
    EndpointUp "endpoint_up",
    EndpointDrained "endpoint_drained",
    EndpointUndrained "endpoint_undrained",
    BreakerShedding "breaker_shedding",
    BreakerOpened "breaker_opened",
    BreakerClosed "breaker_closed",
    BreakerReset "breaker_reset",
    ModelDiffers "model_differs",
    ModelUnknown "model_unknown",
    ListenerFailed "listener_failed",
    WorkerStuck "worker_stuck",
    WorkerTurns "worker_turns",
    WorkerFailed "worker_failed",
    WorkerUnpinned "worker_unpinned",
    LogReopened "log_reopened",
    LogFailed "log_failed",
    DrainBegun "drain_begun",
    Stopping "stopping",
    EventsLost "events_lost",
}

impl EventKind {
    /// It is told again and again while it lasts, and is one event all the same: else it would soon be the only one kept.
    fn goes_on(self) -> bool {
        matches!(self, EventKind::LookupFailed | EventKind::KeysFailed)
    }
}

/// At a character, so that whatever a file or an endpoint says cannot make an event large.
fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Events that are kept.
pub const EVENTS_MAX: usize = 256;
/// Bytes of the text that is kept of one.
const TEXT_BYTES_MAX: usize = 1024;
/// From all workers, that the control thread has not taken in yet.
const TOLD_MAX: usize = 64;
/// For standard error, each 4 KiB.
const PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(events: &Events) -> Vec<String> {
        events.recent().iter().map(|event| event.text.to_string()).collect()
    }

    #[test]
    fn the_last_ones_are_kept_in_their_order() {
        let (events, ..) = Events::new();
        for number in 0..EVENTS_MAX + 2 {
            events.keep_one(0, EventKind::EndpointUp, number.to_string());
        }
        let texts = texts(&events);
        assert_eq!(texts.len(), EVENTS_MAX);
        assert_eq!((&*texts[0], &*texts[EVENTS_MAX - 1]), ("2", "257"));
    }

    #[test]
    fn what_goes_on_is_one_event_at_the_place_of_its_last_time() {
        let (events, ..) = Events::new();
        for text in ["a", "b", "a"] {
            events.tell(EventKind::KeysFailed, text);
        }
        let seen: Vec<_> =
            events.recent().iter().map(|event| (event.text.to_string(), event.times)).collect();
        assert_eq!(seen, [("b".to_owned(), 1), ("a".to_owned(), 2)]);
    }

    #[test]
    fn of_more_to_say_the_first_line_is_kept_and_no_more_than_a_screen() {
        let (events, ..) = Events::new();
        events.tell_at_length(EventKind::ReloadRefused, "refused", "edge.toml:1:1: error\n 1 | secret");
        events.tell(EventKind::ReloadTaken, "ü".repeat(TEXT_BYTES_MAX));
        let texts = texts(&events);
        assert_eq!(texts[0], "refused: edge.toml:1:1: error");
        assert_eq!(texts[1].len(), TEXT_BYTES_MAX + 3);
    }

    #[test]
    fn a_worker_that_tells_too_much_waits_for_nobody_and_the_rest_is_counted() {
        let (events, teller, told) = Events::new();
        for _ in 0..TOLD_MAX + 5 {
            teller.tell(EventKind::EndpointEjected, || "out".into());
        }
        drop(teller);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(events.clone().keep(told));
        let texts = texts(&events);
        assert_eq!(texts.iter().filter(|text| *text == "out").count(), TOLD_MAX);
        assert!(texts.contains(&"5 events came too fast to be kept".to_owned()), "{texts:?}");
    }

    #[test]
    fn no_two_kinds_have_one_word() {
        let words: std::collections::BTreeSet<_> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), EventKind::ALL.len());
    }
}
