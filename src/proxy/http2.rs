//! Owns the life of one HTTP/2 connection, of a client or to an endpoint: its socket, read and written by one task, for the
//! tasks of its streams. A client's stream has a task of its own, which takes its request through the same pipeline as any
//! other; one to an endpoint is driven by the request that is sent on it. Frames and windows are `http::h2`'s.

mod endpoint;
mod links;
mod request;
mod stream;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::config::snapshot::Settings;
use crate::error::Kind;
use crate::http::h1_conn::Reader;
use crate::http::h2::conn::{Connection, Event, Key, Opened};
use crate::http::h2::head::Limits;
use crate::net::tcp::Stream;
use crate::runtime::core::Core;

use super::client::DRAIN_IDLE_GRACE;
use super::deadline::Deadline;
use super::exchange::ClientInfo;

pub use endpoint::begin;
pub use links::{Connecting, Links, Turned};
pub use stream::{Failure, Http2Stream, Input};

/// Receptions in a row, before others have their turn.
const RECEPTIONS_PER_TURN: u32 = 16;

/// What the tasks of a connection share.
pub struct Shared {
    core: Rc<Core>,
    socket: Stream,
    connection: RefCell<Connection>,
    /// By the places of the streams.
    tasks: RefCell<Vec<Option<Waker>>>,
    /// The task that reads and writes the socket.
    driver: RefCell<Option<Waker>>,
    /// Nothing is read or written any more.
    is_closed: Cell<bool>,
    /// What ended it, if that was no orderly end.
    error: RefCell<Option<Rc<io::Error>>>,
    /// Those who wait for the endpoint's SETTINGS.
    until_known: RefCell<Vec<Waker>>,
    /// Keeps others waiting until it is known how many streams there may be.
    connecting: RefCell<Option<Connecting>>,
    /// Receptions so far.
    heard: Cell<u64>,
    /// A request was not answered in time, and nothing else was heard since it was sent.
    is_doubted: Cell<bool>,
}

/// At which end of the connection we are.
enum Side {
    Client(Rc<ClientInfo>),
    Endpoint,
}

/// Serves a connection whose client speaks HTTP/2 until it ends. True if it said all that was to say: the end may be an
/// orderly one.
pub async fn serve(core: &Rc<Core>, info: &Rc<ClientInfo>, reader: &mut Reader, deadline: &Deadline) -> bool {
    let snapshot = core.snapshot();
    let (limits, streams_max) = (limits(&snapshot.settings), snapshot.settings.http2_streams_max);
    drop(snapshot);
    let connection = Connection::server(core.buffers.clone(), limits, streams_max, core.timers.now());
    let shared = Shared::new(core, &reader.stream, connection);
    core.metrics.http2_begun(info.listener_index);
    let side = Side::Client(info.clone());
    deadline.bound_request(info.ends_at.map(|end| end.saturating_duration_since(core.timers.now())));
    let mut driver = Driver { shared: &shared, reader, deadline, side, phase: Phase::Fresh };
    driver.take_in();
    driver.run().await
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        bytes_max: settings.head_limits.head_bytes_max,
        fields_max: settings.head_limits.fields_max,
        trailer_bytes_max: settings.chunk_limits.trailer_bytes_max,
        trailer_fields_max: settings.chunk_limits.trailer_fields_max,
    }
}

/// How a turn of the driver ended.
enum Step {
    /// Others are to have their turn.
    GiveWay,
    /// All is said.
    Over,
    /// The client has gone, or takes nothing.
    Cut,
}

/// Which clock runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    /// Until the client's SETTINGS, and within a frame or a field block.
    Receiving,
    Idle,
    Busy,
    /// No new streams for a moment, then none at all.
    Ending,
    /// Only last words are left.
    Leaving,
}

struct Driver<'a> {
    shared: &'a Rc<Shared>,
    reader: &'a mut Reader,
    deadline: &'a Deadline,
    side: Side,
    phase: Phase,
}

impl Drop for Driver<'_> {
    /// Tells the tasks of the streams that nothing is read or written any more, however that came about.
    fn drop(&mut self) {
        let shared = self.shared;
        shared.is_closed.set(true);
        if let (Some(code), Side::Client(info)) = (shared.connection.borrow().broken(), &self.side) {
            shared.core.metrics.http2_broke_off(info.listener_index, code);
        }
        shared.tell_known();
        shared.tasks.borrow_mut().iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

impl Driver<'_> {
    /// True once all that was to say is said.
    async fn run(&mut self) -> bool {
        loop {
            match poll_fn(|context| self.poll(context)).await {
                Step::GiveWay => self.shared.core.turns.give_way().await,
                Step::Over => return true,
                Step::Cut => {
                    self.shared.socket.shutdown_both();
                    return false;
                }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        self.shared.driver.replace(Some(context.waker().clone()));
        for _ in 0..RECEPTIONS_PER_TURN {
            self.tell_tasks();
            let Ok(is_written) = self.write(context) else { return Poll::Ready(Step::Cut) };
            // What was written makes room.
            self.tell_tasks();
            if is_written && self.shared.connection.borrow().is_over() {
                return Poll::Ready(Step::Over);
            }
            self.keep_time();
            if self.deadline.poll(context).is_ready() {
                if self.phase == Phase::Leaving {
                    return Poll::Ready(Step::Cut);
                }
                // Of age, `keep_time` takes care.
                if !self.is_old() || self.phase == Phase::Ending {
                    self.time_is_over();
                }
                continue;
            }
            // Who does not take our answers is not asked for more questions. An endpoint that does not take ours may be one
            // that does the same: somebody has to read.
            if matches!(self.side, Side::Client(_)) && !self.shared.connection.borrow().has_room() {
                return Poll::Pending;
            }
            match self.read(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Step::Cut),
            }
        }
        Poll::Ready(Step::GiveWay)
    }

    /// False at the client's end.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.reader.is_full() && (self.reader.is_large() || self.reader.grow().is_err()) {
            return Poll::Ready(false);
        }
        let Poll::Ready(filled) = self.reader.poll_fill(context) else { return Poll::Pending };
        match filled {
            Ok(1..) => {}
            Ok(0) => return Poll::Ready(false),
            Err(error) => {
                self.shared.error.replace(Some(Rc::new(error)));
                return Poll::Ready(false);
            }
        }
        // Whoever sends more than this holds is read in larger pieces.
        self.reader.prefer_large(self.reader.is_full());
        self.take_in();
        Poll::Ready(true)
    }

    fn take_in(&mut self) {
        let shared = self.shared;
        shared.heard.set(shared.heard.get() + 1);
        shared.is_doubted.set(false);
        let received = shared.connection.borrow_mut().receive(self.reader.bytes(), shared.core.timers.now());
        if shared.connection.borrow().knows_server() {
            shared.tell_known();
        }
        // A connection error has been queued as a GOAWAY, behind which nothing counts.
        let count = received.unwrap_or(self.reader.bytes().len());
        self.reader.consume(count);
    }

    /// Whether everything is written.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, ()> {
        let mut connection = self.shared.connection.borrow_mut();
        while !connection.output().is_empty() {
            match self.shared.socket.try_write(connection.output()) {
                Ok(count) => connection.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.shared.socket.poll_writable(context).is_pending() {
                        return Ok(false);
                    }
                }
                Err(_) => return Err(()),
            }
        }
        Ok(true)
    }

    /// Wakes those for whom something has changed, and begins what is new.
    fn tell_tasks(&mut self) {
        loop {
            let event = self.shared.connection.borrow_mut().next_event();
            match event {
                None => return,
                Some(Event::Request(key, opened)) => self.begin(key, opened),
                Some(Event::Input(key) | Event::Room(key)) => self.shared.wake(key),
            }
        }
    }

    fn begin(&mut self, key: Key, opened: Opened) {
        let Side::Client(info) = &self.side else { return };
        if !info.listener_open.get() {
            self.shared.connection.borrow_mut().end();
        }
        let stream = Http2Stream::new(self.shared.clone(), key);
        self.shared.core.metrics.http2_stream(info.listener_index);
        if stream.is_gone() {
            // Opened and given up in one breath: nobody is bothered with it.
            return;
        }
        monoio::spawn(request::contained(stream, info.clone(), opened));
    }

    fn is_old(&self) -> bool {
        matches!(&self.side, Side::Client(info) if info.is_old(self.shared.core.timers.now()))
    }

    /// Starts the clock of the phase that has begun, if it is another one.
    fn keep_time(&mut self) {
        let core = &self.shared.core;
        let is_client = matches!(self.side, Side::Client(_));
        let phase = {
            let connection = self.shared.connection.borrow();
            match self.phase {
                _ if connection.is_over() => Phase::Leaving,
                Phase::Ending => Phase::Ending,
                _ if core.draining.get() && is_client => Phase::Ending,
                _ if self.is_old() => Phase::Ending,
                _ if !connection.has_begun() => Phase::Receiving,
                _ if connection.is_within_block() || !self.reader.bytes().is_empty() => Phase::Receiving,
                _ if connection.open_streams() == 0 => Phase::Idle,
                _ => Phase::Busy,
            }
        };
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        let settings = &core.snapshot().settings;
        let timeouts = &settings.client_timeouts;
        let idle = if is_client { timeouts.idle } else { settings.pool.idle_timeout };
        match phase {
            Phase::Receiving => self.deadline.start(Kind::HeaderTimeout, timeouts.header),
            Phase::Idle => self.deadline.start(Kind::HeaderTimeout, idle),
            Phase::Leaving => self.deadline.start(Kind::ClientStalled, timeouts.write),
            Phase::Busy | Phase::Fresh => self.deadline.pause(),
            Phase::Ending => {
                self.shared.connection.borrow_mut().announce_end();
                self.shared.wake_driver();
                // Those of tunnels have something to say, too.
                self.shared.tasks.borrow().iter().flatten().for_each(Waker::wake_by_ref);
                self.deadline.bound_request(None);
                self.deadline.start(Kind::HeaderTimeout, DRAIN_IDLE_GRACE);
            }
        }
    }

    /// An idle connection ends, and one that drains takes no more streams; one that is in the middle of something is given up.
    fn time_is_over(&mut self) {
        let mut connection = self.shared.connection.borrow_mut();
        match self.phase {
            Phase::Receiving if connection.has_begun() => connection.give_up(),
            _ => connection.end(),
        }
        self.phase = Phase::Ending;
        self.deadline.pause();
    }
}

impl Shared {
    fn new(core: &Rc<Core>, socket: &Stream, connection: Connection) -> Rc<Shared> {
        Rc::new(Shared {
            core: core.clone(),
            socket: socket.clone(),
            connection: RefCell::new(connection),
            tasks: RefCell::default(),
            driver: RefCell::default(),
            is_closed: Cell::new(false),
            error: RefCell::default(),
            until_known: RefCell::default(),
            connecting: RefCell::default(),
            heard: Cell::new(0),
            is_doubted: Cell::new(false),
        })
    }

    /// It is known what the endpoint takes, or that it takes nothing.
    fn tell_known(&self) {
        drop(self.connecting.take());
        self.until_known.take().into_iter().for_each(Waker::wake);
    }

    fn wake(&self, key: Key) {
        if let Some(Some(task)) = self.tasks.borrow().get(key.0 as usize) {
            task.wake_by_ref();
        }
    }

    /// There is something to write, or an end to see.
    fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    fn wait(&self, key: Key, context: &mut Context<'_>) {
        let mut tasks = self.tasks.borrow_mut();
        let place = key.0 as usize;
        if tasks.len() <= place {
            tasks.resize(place + 1, None);
        }
        if !tasks[place].as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            tasks[place] = Some(context.waker().clone());
        }
    }
}
