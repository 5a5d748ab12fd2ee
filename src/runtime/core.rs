//! Owns what one worker has for itself: its view of the published snapshot, buffers, timers, upstream pool,
//! counters, log end and scratch space. Plain cells: but for `peers` and `events` nothing here crosses to another thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};

use crate::balance::pick::PickState;
use crate::balance::pool::UpstreamPool;
use crate::config::snapshot::{Snapshot, StableId};
use crate::http::head::{Fields, ResponseHead};
use crate::net::readiness::Readiness;
use crate::net::splice::Pipes;
use crate::observe::{AccessLog, CoreMetrics, Outcome, Teller};
use crate::policy::identity::Verified;
use crate::proxy::bounds;
use crate::proxy::http2::Links;
use crate::proxy::request_id::RequestIds;
use crate::proxy::shadow::Shadows;

use super::buffer::BufferPool;
use super::complaints::Complaints;
use super::compute::Compute;
use super::peers::Peers;
use super::timer::{Timer, Timers};
use super::turns::{Gate, Share, Turns};
use super::waiters::Waiters;

/// One request's hold on the configuration: the core's own reference count, so that cores do not contend for
/// the `Arc`'s.
pub type SnapshotRef = Rc<Held>;

/// A configuration as one core holds it.
pub struct Held {
    snapshot: Arc<Snapshot>,
    /// What of it outlives a request's hold.
    pub bounds: Rc<bounds::Shared>,
}

impl Held {
    fn new(snapshot: Arc<Snapshot>) -> SnapshotRef {
        Rc::new(Held { bounds: Rc::new(bounds::Shared::from(&snapshot.settings)), snapshot })
    }
}

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// Each takes about 150 µs, most of it for a signature.
const HANDSHAKES_PER_TURN: u32 = 8;
/// A quarter of what others may be made to wait: one signature may come on top, a small one takes 20 to 100 µs and the largest 500.
const VERIFYING_PER_TURN: Duration = Duration::from_micros(250);

pub struct Core {
    pub id: usize,
    pub peers: Peers,
    /// Looks at what is published with one plain load while nothing is new.
    published: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    current: RefCell<SnapshotRef>,
    pub buffers: Rc<BufferPool>,
    pub pipes: Rc<Pipes>,
    pub timers: Rc<Timers>,
    pub turns: Rc<Turns>,
    /// TLS handshakes that may be worked out in one turn.
    pub handshakes: Gate,
    /// Signatures of tokens that nobody has shown here before.
    pub verifying: Share,
    /// For what takes longer than a turn.
    pub compute: Arc<Compute>,
    pub readiness: Rc<Readiness>,
    pub complaints: Complaints,
    pub events: Teller,
    pub pool: UpstreamPool,
    /// Connections to endpoints that carry many requests at once.
    pub links: Links,
    pub metrics: CoreMetrics,
    pub log: AccessLog,
    pub request_ids: RequestIds,
    pub shadows: Shadows,
    /// Tasks that other cores may wake.
    pub waiters: Waiters,
    /// Tokens that were believed.
    pub verified: RefCell<Verified>,
    /// Per service, by stable id: random numbers and the round-robin position.
    picks: RefCell<Vec<PickState>>,
    pub request_fields: Recycled<Fields>,
    pub response_heads: Recycled<Box<ResponseHead>>,
    scratch: Recycled<Vec<u8>>,
    /// No new connections, and `connection: close` on every answer.
    pub draining: Cell<bool>,
    /// While draining: when WebSockets are told that it is over.
    pub tunnels_end: Cell<Option<Instant>>,
    /// Listening sockets whose accept queue this core still serves.
    pub accept_tasks: Cell<u32>,
    /// Requests since start.
    served: Cell<u64>,
    /// Runs from the first log line after a flush to the next flush.
    pub log_flush: Timer,
}

/// Room for any usual head, with a small body behind it.
const SCRATCH_BYTES_MAX: usize = 8 * 1024;
/// Bodies of both directions: what is larger takes several turns itself.
const SMALL_REQUEST_BYTES: u64 = 64 * 1024;
/// How long a log line waits for others.
const LOG_FLUSH_AFTER: Duration = Duration::from_millis(100);

impl Core {
    /// Errors: no descriptors left for the few that a core needs for itself.
    pub fn new(
        id: usize,
        peers: Peers,
        published: Arc<ArcSwap<Snapshot>>,
        log: AccessLog,
        events: Teller,
        compute: Arc<Compute>,
        epoch: Instant,
    ) -> io::Result<Core> {
        let current = Held::new(published.load_full());
        let timers = Timers::new(epoch);
        let buffers = Rc::new(BufferPool::default());
        buffers.set_bytes_max(current.settings.buffer_bytes_max);
        Ok(Core {
            id,
            peers,
            published: RefCell::new(Cache::new(published)),
            current: RefCell::new(current),
            buffers,
            pipes: Rc::default(),
            log_flush: timers.timer(),
            timers,
            turns: Turns::new()?,
            handshakes: Gate::new(HANDSHAKES_PER_TURN),
            verifying: Share::new(VERIFYING_PER_TURN),
            compute,
            readiness: Readiness::new()?,
            complaints: Complaints::default(),
            events,
            pool: UpstreamPool::default(),
            links: Links::default(),
            metrics: CoreMetrics::new(id),
            log,
            request_ids: RequestIds::new(id),
            shadows: Shadows::default(),
            waiters: Waiters::default(),
            verified: RefCell::default(),
            picks: RefCell::default(),
            request_fields: Recycled::default(),
            response_heads: Recycled::default(),
            scratch: Recycled::default(),
            draining: Cell::new(false),
            tunnels_end: Cell::new(None),
            accept_tasks: Cell::new(0),
            served: Cell::new(0),
        })
    }

    /// The newest published configuration. Called once per request, which keeps what it got.
    pub fn snapshot(&self) -> SnapshotRef {
        let mut published = self.published.borrow_mut();
        let published = published.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(published, &current.snapshot) {
            *current = Held::new(published.clone());
        }
        Rc::clone(&current)
    }

    /// An empty byte vector with memory of earlier use.
    pub fn take_scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.clear();
        scratch
    }

    pub fn give_back_scratch(&self, scratch: Vec<u8>) {
        // One huge head must not make all of them huge.
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch.give_back(scratch);
        }
    }

    /// Frees half of what lies unused; called now and then by an idle worker.
    pub fn shrink(&self) {
        self.buffers.shrink();
        self.pipes.shrink();
        self.timers.shrink();
        self.request_fields.shrink();
        self.response_heads.shrink();
        self.scratch.shrink();
    }

    /// Requests served since start.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// Counts and logs one request that is over.
    pub fn observe(&self, outcome: &Outcome, line: impl FnOnce(&AccessLog)) {
        self.served.set(self.served.get() + 1);
        if outcome.request_bytes + outcome.response_bytes < SMALL_REQUEST_BYTES {
            self.turns.saw_small_request();
        }
        self.metrics.request(outcome);
        self.log_line(line);
    }

    /// Has a line written if there is a log.
    pub fn log_line(&self, line: impl FnOnce(&AccessLog)) {
        if self.log.enabled() {
            if !self.log_flush.is_set() {
                self.log_flush.set(self.timers.lately(), LOG_FLUSH_AFTER);
            }
            line(&self.log);
        }
    }

    /// Runs `use_it` with this core's pick state of a service.
    pub fn with_pick_state<R>(&self, service: StableId, use_it: impl FnOnce(&mut PickState) -> R) -> R {
        let mut picks = self.picks.borrow_mut();
        let index = service.0 as usize;
        while picks.len() <= index {
            let seed = ((self.id as u64) << 32) ^ picks.len() as u64;
            picks.push(PickState::new(seed));
        }
        use_it(&mut picks[index])
    }
}

/// Values of one kind that are used again, at most `RECYCLED_MAX` kept: about as many as requests are under way.
pub struct Recycled<T>(RefCell<Vec<T>>);

const RECYCLED_MAX: usize = 512;

impl<T> Default for Recycled<T> {
    fn default() -> Self {
        Recycled(RefCell::default())
    }
}

impl<T: Default> Recycled<T> {
    /// As its last user left it: whoever takes one clears what matters.
    pub fn take(&self) -> T {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_back(&self, value: T) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < RECYCLED_MAX {
            kept.push(value);
        }
    }

    fn shrink(&self) {
        let mut kept = self.0.borrow_mut();
        let keep = kept.len() / 2;
        kept.truncate(keep);
        kept.shrink_to_fit();
    }
}
