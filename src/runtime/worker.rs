//! Owns one worker: a pinned thread with its driver, its listening sockets, its mailbox and its housekeeping.
//! Hands accepted sockets to `proxy::client` or `proxy::l4`, UDP sockets to `proxy::udp`, and knows nothing of what
//! is said on them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::Socket;

use crate::config::snapshot::{Binding, Snapshot, Transport};
use crate::net::listener::Acceptor;
use crate::net::tcp::Stream;
use crate::observe::{AccessLog, EventKind, Teller};
use crate::policy::addresses::Place;
use crate::proxy::exchange::ClientInfo;
use crate::proxy::known::{Known, Serves};
use crate::proxy::udp::Forwarder;
use crate::proxy::{client, l4};

use super::clock::nanos;
use super::compute::Compute;
use super::core::Core;
use super::cpus;
use super::driver::{self, Driver};
use super::limits;
use super::mailbox::{Letter, Letters, Receiver};
use super::memory;
use super::panics::contain;
use super::peers::{self, Peers};
use super::timer::{Timer, Timers};

/// Connections taken per readiness of a listener, before established ones get a turn.
const ACCEPTS_PER_TURN: usize = 32;
/// Rest after accept(2) failed for lack of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// A removed listener goes on accepting this long: handshakes begun before complete within it. A removed UDP listener
/// passes on answers that are due this long.
const UNLISTEN_GRACE: Duration = Duration::from_millis(500);
/// Rounds without a request or a change of connections in which unused memory is given back: each halves what
/// the pools keep, so that hardly anything is left after them.
const QUIET_ROUNDS: u32 = 8;
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// Before a drain's deadline, for WebSockets to end in their own way.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Turns of the driver between the last connection's end and the worker's.
const CLOSING_TURNS: u32 = 8;
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// What the name of every worker's thread begins with; its number follows.
pub const WORKER_THREAD: &str = "worker-";

/// What a worker's thread starts with.
pub struct Plan {
    pub id: usize,
    /// The core to pin to.
    pub cpu: Option<usize>,
    pub driver: Driver,
    pub published: Arc<ArcSwap<Snapshot>>,
    pub letters: Receiver,
    pub log: AccessLog,
    pub events: Teller,
    pub peers: Peers,
    pub compute: Arc<Compute>,
}

/// Runs until told to stop. Errors: the driver could not be built on this thread.
pub fn run(plan: Plan) -> io::Result<()> {
    if let Some(cpu) = plan.cpu
        && let Err(error) = cpus::pin_current_thread(cpu)
    {
        let line = || format!("worker {}: not pinned to core {cpu}: {error}", plan.id);
        plan.events.tell(EventKind::WorkerUnpinned, line);
    }
    let driver = plan.driver;
    driver::run(driver, async move {
        let core = Core::new(
            plan.id,
            plan.peers,
            plan.published,
            plan.log,
            plan.events,
            plan.compute,
            Instant::now(),
        )?;
        let core = Rc::new(core);
        core.metrics.set_driver(driver.word());
        let (letters, wake) = plan.letters.into_parts()?;
        spawn_essential(tick(core.timers.clone()));
        spawn_essential(core.turns.clone().keep());
        spawn_essential(core.readiness.clone().keep());
        spawn_essential(keep_house(core.clone()));
        spawn_essential(beat(core.clone()));
        spawn_essential(flush_log(core.clone()));
        let worker = Worker {
            core: core.clone(),
            accepting: Rc::default(),
            forwarding: RefCell::default(),
            drain_until: Cell::new(None),
        };
        worker.serve_letters(letters, wake).await;
        core.peers.close();
        core.log.flush();
        Ok(())
    })?
}

struct Worker {
    core: Rc<Core>,
    accepting: Rc<Listening>,
    /// UDP listeners; each task owns its own, for as long as it closes too.
    forwarding: RefCell<HashMap<SocketAddr, Weak<Forwarder>>>,
    /// Set while draining: when to end although connections are left.
    drain_until: Cell<Option<Instant>>,
}

/// By address; a removed listener stays until its grace is over, for what others hand over meanwhile.
type Listening = RefCell<HashMap<SocketAddr, Rc<Accepting>>>;

/// One listening socket of this worker.
struct Accepting {
    address: SocketAddr,
    /// What it is for, by the newest snapshot that has it.
    known: RefCell<Option<Rc<Known>>>,
    acceptor: Acceptor,
    /// Cleared when the listener is removed.
    open: Rc<Cell<bool>>,
    /// Set when the listener is removed: the end of its grace.
    grace: Timer,
}

impl Worker {
    /// Ends when told to stop, or when drained.
    async fn serve_letters(&self, mut letters: Letters, wake: monoio::net::UnixStream) {
        loop {
            match self.drain_until.get() {
                None if wake.readable(false).await.is_err() => return,
                None => {}
                Some(_) => {
                    before(Instant::now() + DRAIN_CHECK_INTERVAL, wake.readable(false)).await;
                }
            }
            for letter in letters.take() {
                match letter {
                    Letter::Listen { binding, socket } => self.listen(binding, socket),
                    Letter::Unlisten { binding } => self.unlisten(binding),
                    Letter::Adopt { address, socket, peer } => self.adopt(address, socket, peer),
                    Letter::Published => self.adopt_snapshot(),
                    Letter::Wake { slots } => slots.iter().for_each(|&slot| self.core.waiters.wake(slot)),
                    Letter::Report(reply) => {
                        self.core.metrics.set_upstream_idle(self.core.pool.len());
                        self.core.metrics.set_buffer_bytes(self.core.buffers.bytes_in_use());
                        // Whoever asked may have stopped waiting.
                        let _ = reply.send(self.core.metrics.report());
                    }
                    Letter::Drain { until } => self.begin_drain(until),
                    Letter::Stop => return,
                }
            }
            if self.is_drained() {
                return self.let_closes_through().await;
            }
        }
    }

    /// A listening socket with a pending poll closes in three steps through the ring (cancel, completion, close). A ring
    /// whose thread has ended takes none of them, and clients would wait for the end of the whole process.
    async fn let_closes_through(&self) {
        for _ in 0..CLOSING_TURNS {
            self.core.turns.give_way().await;
        }
    }

    fn listen(&self, binding: Binding, socket: Socket) {
        match binding.transport {
            Transport::Tcp => self.listen_tcp(binding.address, socket),
            Transport::Udp => self.listen_udp(binding.address, socket),
        }
    }

    fn listen_udp(&self, address: SocketAddr, socket: Socket) {
        let forwarder = match Forwarder::new(&self.core, address, socket) {
            Ok(Some(forwarder)) => forwarder,
            Ok(None) => return,
            Err(error) => {
                let line = || format!("worker {}: cannot receive on {address}: {error}", self.core.id);
                self.core.events.tell(EventKind::ListenerFailed, line);
                return;
            }
        };
        let before = self.forwarding.borrow_mut().insert(address, Rc::downgrade(&forwarder));
        // One that still closes would go on taking datagrams that are not meant for it.
        if let Some(closing) = before.and_then(|before| before.upgrade()) {
            closing.close(Instant::now());
        }
        let core = self.core.clone();
        core.accept_tasks.set(core.accept_tasks.get() + 1);
        spawn_essential(async move {
            forwarder.serve().await;
            core.accept_tasks.set(core.accept_tasks.get() - 1);
        });
    }

    fn listen_tcp(&self, address: SocketAddr, socket: Socket) {
        let acceptor = match Acceptor::new(socket) {
            Ok(acceptor) => acceptor,
            Err(error) => {
                let line = || format!("worker {}: cannot accept on {address}: {error}", self.core.id);
                self.core.events.tell(EventKind::ListenerFailed, line);
                return;
            }
        };
        let grace = self.core.timers.timer();
        let (open, known) = (Rc::new(Cell::new(true)), RefCell::default());
        let accepting = Rc::new(Accepting { address, known, acceptor, open, grace });
        accepting.known(&self.core.snapshot());
        self.accepting.borrow_mut().insert(address, accepting.clone());
        // Before the task runs: a drain that is asked for in the same breath must see it.
        self.core.accept_tasks.set(self.core.accept_tasks.get() + 1);
        spawn_essential(accept_all(self.core.clone(), accepting, self.accepting.clone()));
    }

    fn unlisten(&self, binding: Binding) {
        match binding.transport {
            Transport::Tcp => {
                if let Some(accepting) = self.accepting.borrow().get(&binding.address) {
                    accepting.stop(&self.core.events);
                }
            }
            Transport::Udp => {
                if let Some(forwarder) = self.forwarder(&binding.address) {
                    forwarder.close(Instant::now() + UNLISTEN_GRACE);
                }
            }
        }
    }

    /// Serves a connection that another worker accepted.
    fn adopt(&self, address: SocketAddr, socket: Socket, peer: SocketAddr) {
        // None only if the worker that accepted it was stuck for longer than a removed listener's grace.
        if let Some(accepting) = self.accepting.borrow().get(&address) {
            begin(&self.core, accepting, socket, peer);
        }
        self.core.peers.arrived();
    }

    fn forwarder(&self, address: &SocketAddr) -> Option<Rc<Forwarder>> {
        self.forwarding.borrow().get(address)?.upgrade()
    }

    fn adopt_snapshot(&self) {
        let snapshot = self.core.snapshot();
        self.core.buffers.set_bytes_max(snapshot.settings.buffer_bytes_max);
        for accepting in self.accepting.borrow().values() {
            accepting.known(&snapshot);
        }
        for forwarder in self.forwarding.borrow().values().filter_map(Weak::upgrade) {
            forwarder.adopt(&snapshot);
        }
        let limits = &snapshot.settings.pool;
        self.core.pool.sweep(Instant::now(), limits, |id| snapshot.endpoint_ids.contains(&id));
        self.core.links.sweep(|id| snapshot.endpoint_ids.contains(&id));
    }

    fn begin_drain(&self, until: Instant) {
        self.core.draining.set(true);
        self.drain_until.set(Some(until));
        let left = until.saturating_duration_since(Instant::now());
        self.core.tunnels_end.set(Some(until - GOODBYE_MAX.min(left / 4)));
        self.core.peers.close();
        for accepting in self.accepting.borrow().values() {
            accepting.stop(&self.core.events);
        }
        for forwarder in self.forwarding.borrow().values().filter_map(Weak::upgrade) {
            forwarder.close(until);
        }
        // Idle connections look at `draining` when they wake.
        self.core.timers.wake_all();
    }

    fn is_drained(&self) -> bool {
        let peers = &self.core.peers;
        let is_quiet = peers.connections() == 0 && !peers.is_expecting() && self.core.accept_tasks.get() == 0;
        self.drain_until.get().is_some_and(|until| is_quiet || Instant::now() >= until)
    }
}

impl Accepting {
    /// What the listener is for. A connection that comes after a reload removed it is served as before; `None`:
    /// it was removed before this worker ever saw it.
    fn known(&self, snapshot: &Snapshot) -> Option<Rc<Known>> {
        let mut known = self.known.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.is_of(snapshot))
            && let Some(newer) = Known::of(snapshot, self.address)
        {
            *known = Some(Rc::new(newer));
        }
        known.clone()
    }

    fn stop(&self, events: &Teller) {
        self.open.set(false);
        self.grace.set(Instant::now(), UNLISTEN_GRACE);
        if let Err(error) = self.acceptor.refuse_new() {
            let address = self.address;
            let line = || format!("{address}: new connections cannot be held off while closing: {error}");
            events.tell(EventKind::ListenerFailed, line);
        }
    }
}

/// Accepts until the listener was removed and its grace is over; then empties its queue.
async fn accept_all(core: Rc<Core>, accepting: Rc<Accepting>, listening: Rc<Listening>) {
    loop {
        let mut readable = pin!(accepting.acceptor.readable());
        let is_over = poll_fn(|context| match readable.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending => accepting.grace.poll(context).map(|()| true),
        })
        .await;
        if is_over {
            take_waiting(&core, &accepting, usize::MAX).await;
            accepting.acceptor.stop_listening();
            break;
        }
        if take_waiting(&core, &accepting, ACCEPTS_PER_TURN).await == ACCEPTS_PER_TURN {
            core.turns.give_way().await;
        }
    }
    let mut listening = listening.borrow_mut();
    // The address may have been given a new listener meanwhile.
    if listening.get(&accepting.address).is_some_and(|known| Rc::ptr_eq(known, &accepting)) {
        listening.remove(&accepting.address);
    }
    core.accept_tasks.set(core.accept_tasks.get() - 1);
}

/// Accepts what waits, at most `most`; returns how many that were.
async fn take_waiting(core: &Rc<Core>, accepting: &Accepting, most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match accepting.acceptor.accept() {
            Ok((socket, peer)) => {
                taken += 1;
                if let Some(socket) = spread(core, accepting, socket, peer) {
                    begin(core, accepting, socket, peer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                if let Some(known) = accepting.known(&core.snapshot()) {
                    core.metrics.accept_failed(core.metrics.listener(&known.name));
                }
                monoio::time::sleep(ACCEPT_REST).await;
                break;
            }
        }
    }
    taken
}

/// Hands the connection to a worker that has fewer, if one has; gives it back if it is for this one.
fn spread(core: &Rc<Core>, accepting: &Accepting, socket: Socket, peer: SocketAddr) -> Option<Socket> {
    if core.draining.get() || !accepting.open.get() {
        return Some(socket);
    }
    let kept = core.peers.hand_over(accepting.address, socket, peer, core.timers.now());
    if kept.is_none() {
        core.metrics.connection_handed_over();
    }
    kept
}

/// Starts the task of one accepted connection.
fn begin(core: &Rc<Core>, accepting: &Accepting, socket: Socket, peer: SocketAddr) {
    let snapshot = core.snapshot();
    let Some(known) = accepting.known(&snapshot) else { return };
    let listener_index = core.metrics.listener(&known.name);
    if core.peers.connections() >= snapshot.settings.connections_max || limits::is_scarce(&socket) {
        core.metrics.connection_refused(listener_index);
        return;
    }
    let expects_header = known.expects_proxy_header(peer);
    // Whom a load balancer speaks for is known later.
    let limit = known.per_address.as_ref().filter(|_| !expects_header);
    let place = limit.map(|limit| limit.enter(peer.ip(), nanos(core.timers.now())));
    if let Some(None) = place {
        core.metrics.connection_over_address_limit(listener_index);
        // What a close leaves behind would be ours to keep.
        let _ = socket.set_linger(Some(Duration::ZERO));
        return;
    }
    let Ok(stream) = Stream::from_socket(socket, &core.readiness) else {
        core.metrics.accept_failed(listener_index);
        return;
    };
    let info = Rc::new(ClientInfo {
        peer,
        address: peer.ip().to_string().into(),
        proxied_to: None,
        listener: known.name.clone(),
        listener_index,
        listener_open: accepting.open.clone(),
        is_secure: matches!(&known.serves, Serves::Http { tls: Some(_), .. }),
        certificate: None,
        ends_at: snapshot.settings.client_timeouts.connection_age.map(|age| core.timers.now() + age),
    });
    let connected = Connected::count(core, &info, place.flatten());
    match &known.serves {
        Serves::Http { tls, http2 } => {
            let begin = client::Begin {
                expects_header,
                per_address: known.per_address.clone(),
                tls: tls.clone(),
                http2: *http2,
            };
            spawn_connection(connected, client::serve(core.clone(), stream, info, begin));
        }
        Serves::Tcp(plan) => {
            let header = expects_header.then(|| known.per_address.clone());
            spawn_connection(connected, l4::serve(core.clone(), stream, info, header, plan.clone()));
        }
    }
}

fn spawn_connection(connected: Connected, serve: impl Future<Output = ()> + 'static) {
    // Outside of the task, which would else have room for all of it twice.
    let served = contain(serve);
    monoio::spawn(async move {
        if let Err(message) = served.await {
            connected.core.metrics.panicked();
            // Not eprintln, which panics itself where nobody reads: here that would end the worker.
            let id = connected.core.id;
            let _ = writeln!(io::stderr(), "tidegate: worker {id}: a connection's task panicked: {message}");
        }
    });
}

/// Counts a connection until it drops, on every path.
struct Connected {
    core: Rc<Core>,
    info: Rc<ClientInfo>,
    /// Among those of its address.
    _place: Option<Place>,
}

impl Connected {
    fn count(core: &Rc<Core>, info: &Rc<ClientInfo>, place: Option<Place>) -> Connected {
        core.peers.connection_opened();
        core.metrics.connection_opened(info.listener_index);
        Connected { core: core.clone(), info: info.clone(), _place: place }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.core.peers.connection_closed();
        self.core.metrics.connection_closed(self.info.listener_index);
    }
}

/// Starts a task that the worker cannot do without: if it panics, so does the worker, and the process ends
/// with a message rather than serve without timeouts or listeners.
fn spawn_essential(task: impl Future<Output = ()> + 'static) {
    monoio::spawn(async move {
        if let Err(message) = contain(task).await {
            eprintln!("tidegate: a task that a worker needs panicked: {message}");
            std::process::exit(PANICKED);
        }
    });
}

/// Exit status of a process whose worker panicked; the one that Rust uses itself.
const PANICKED: i32 = 101;

/// Drives the deadlines: sleeps until the next one, or until an earlier one is set.
async fn tick(timers: Rc<Timers>) {
    loop {
        let next = timers.advance(Instant::now());
        let pause = next.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        let mut sleep = pin!(monoio::time::sleep(pause));
        poll_fn(|context| {
            timers.set_ticker(context.waker());
            if timers.has_earlier() { Poll::Ready(()) } else { sleep.as_mut().poll(context) }
        })
        .await;
    }
}

/// Says again and again that this worker turns, and measures how late it gets to say so: what any task that is
/// ready has to wait.
async fn beat(core: Rc<Core>) {
    loop {
        let now = Instant::now();
        core.peers.beat(now);
        monoio::time::sleep(peers::BEAT).await;
        core.metrics.turned_late(now.elapsed().saturating_sub(peers::BEAT));
    }
}

async fn keep_house(core: Rc<Core>) {
    let mut before = (0, 0);
    let mut quiet_rounds = 0;
    loop {
        monoio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        core.pool.sweep(Instant::now(), &core.snapshot().settings.pool, |_| true);
        core.links.sweep(|_| true);
        let now = (core.served(), core.peers.connections());
        quiet_rounds = if now == before { quiet_rounds + 1 } else { 0 };
        before = now;
        if (1..=QUIET_ROUNDS).contains(&quiet_rounds) {
            core.shrink();
            memory::collect();
        }
    }
}

/// Hands log lines over a moment after the first of them; an idle worker does not wake for it.
async fn flush_log(core: Rc<Core>) {
    loop {
        poll_fn(|context| core.log_flush.poll(context)).await;
        core.log_flush.clear();
        core.log.flush();
    }
}

/// `true` if `future` ends before `at`.
async fn before(at: Instant, future: impl Future<Output = io::Result<()>>) -> bool {
    let mut sleep = pin!(monoio::time::sleep(at.saturating_duration_since(Instant::now())));
    let mut future = pin!(future);
    poll_fn(|context| {
        if future.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        sleep.as_mut().poll(context).map(|()| false)
    })
    .await
}
