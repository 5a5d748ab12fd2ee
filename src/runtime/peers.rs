//! Owns what the workers let each other and the control thread see: how many connections each has, and when it
//! last turned. Decides who serves a connection that was just accepted, since the kernel spreads them by hash
//! and long-lived ones may pile up on one core. Reads no socket and knows no request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::mailbox::{Letter, Sender};

/// A connection goes to the lightest worker where this one would else have more by this many, or by one of
/// `SHARE_TOLERATED` of what the lightest has. Less is not worth the way: a queue and a wake.
const DIFFERENCE_TOLERATED: u32 = 1;
const SHARE_TOLERATED: u32 = 8;
/// How often a worker says that it turns.
pub const BEAT: Duration = Duration::from_millis(250);
/// A worker that was silent for longer is stuck: it is handed nothing, and reported.
pub const STUCK_AFTER: Duration = Duration::from_secs(1);

/// All workers of the process.
pub struct Workers {
    epoch: Instant,
    vitals: Box<[Vitals]>,
}

/// One worker, on cache lines of its own: it is written at every connection, and read by others seldom.
#[derive(Default)]
#[repr(align(128))]
struct Vitals {
    /// Written by its worker only.
    connections: AtomicU32,
    /// Sockets on their way here from other workers.
    incoming: AtomicU32,
    /// Takes no more connections: it drains or has ended.
    is_closing: AtomicBool,
    beat_ms: AtomicU64,
}

impl Workers {
    pub fn new(workers: usize) -> Arc<Workers> {
        let vitals = (0..workers).map(|_| Vitals::default()).collect();
        Arc::new(Workers { epoch: Instant::now(), vitals })
    }

    /// How long each worker has been silent; `None` for one that drains or has ended.
    pub fn silences(&self, now: Instant) -> Vec<Option<Duration>> {
        let now_ms = self.ms(now);
        let silence = |vitals: &Vitals| {
            let silent_ms = now_ms.saturating_sub(vitals.beat_ms.load(Relaxed));
            (!vitals.is_closing.load(Relaxed)).then(|| Duration::from_millis(silent_ms))
        };
        self.vitals.iter().map(silence).collect()
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

/// One worker's place among them.
pub struct Peers {
    own: usize,
    workers: Arc<Workers>,
    mailboxes: Arc<[Sender]>,
}

impl Peers {
    /// `mailboxes`: of all workers, this one included, in their order.
    pub fn new(own: usize, workers: Arc<Workers>, mailboxes: Arc<[Sender]>) -> Peers {
        Peers { own, workers, mailboxes }
    }

    /// Connections that this worker serves.
    pub fn connections(&self) -> u32 {
        self.vitals().connections.load(Relaxed)
    }

    pub fn connection_opened(&self) {
        self.vitals().connections.store(self.connections() + 1, Relaxed);
    }

    pub fn connection_closed(&self) {
        self.vitals().connections.store(self.connections() - 1, Relaxed);
    }

    /// Says that this worker turns.
    pub fn beat(&self, now: Instant) {
        self.vitals().beat_ms.store(self.workers.ms(now), Relaxed);
    }

    /// From now on other workers hand nothing over to this one. What they did before is still on its way, which
    /// `is_expecting` tells.
    pub fn close(&self) {
        self.vitals().is_closing.store(true, SeqCst);
    }

    pub fn is_expecting(&self) -> bool {
        self.vitals().incoming.load(SeqCst) > 0
    }

    /// A socket that another worker handed over has arrived.
    pub fn arrived(&self) {
        self.vitals().incoming.fetch_sub(1, SeqCst);
    }

    /// Hands the socket, accepted on `address`, to a worker with fewer connections. Gives it back if it should
    /// rather be served here.
    pub fn hand_over(
        &self,
        address: SocketAddr,
        socket: Socket,
        peer: SocketAddr,
        now: Instant,
    ) -> Option<Socket> {
        let Some(lighter) = self.lighter(now) else { return Some(socket) };
        let receiver = &self.workers.vitals[lighter];
        // Announced before the last look: either its close sees this one, or this look sees its close.
        receiver.incoming.fetch_add(1, SeqCst);
        let letter = Letter::Adopt { address, socket, peer };
        let returned = match receiver.is_closing.load(SeqCst) {
            true => Err(letter),
            false => self.mailboxes[lighter].send(letter),
        };
        match returned {
            Err(Letter::Adopt { socket, .. }) => {
                receiver.incoming.fetch_sub(1, SeqCst);
                Some(socket)
            }
            _ => None,
        }
    }

    /// Wakes tasks of another worker, unless that one is stuck.
    pub fn wake(&self, worker: usize, slots: Vec<u32>) {
        let _ = self.mailboxes[worker].send(Letter::Wake { slots });
    }

    /// The worker that should have one more connection rather than this one.
    fn lighter(&self, now: Instant) -> Option<usize> {
        let now_ms = self.workers.ms(now);
        let others = self.workers.vitals.iter().enumerate().filter(|(worker, _)| *worker != self.own);
        let able = others.filter(|(_, vitals)| {
            let silent_ms = now_ms.saturating_sub(vitals.beat_ms.load(Relaxed));
            !vitals.is_closing.load(Relaxed) && u128::from(silent_ms) < STUCK_AFTER.as_millis()
        });
        let (lightest, load) =
            able.map(|(worker, vitals)| (worker, vitals.load())).min_by_key(|(_, load)| *load)?;
        let tolerated = load.saturating_add(DIFFERENCE_TOLERATED.max(load / SHARE_TOLERATED));
        (self.vitals().load() >= tolerated).then_some(lightest)
    }

    fn vitals(&self) -> &Vitals {
        &self.workers.vitals[self.own]
    }
}

impl Vitals {
    fn load(&self) -> u32 {
        self.connections.load(Relaxed).saturating_add(self.incoming.load(Relaxed))
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
