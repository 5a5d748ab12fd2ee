//! Owns a UDP listener on one worker: datagrams of clients to endpoints, their answers back, and how flows begin and
//! end. `flows` says which there are, `refusals` which endpoints to avoid; `net::udp` has the sockets.
//! Looks into no datagram.

pub mod flows;
mod refusals;

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::balance::in_flight::InFlight;
use crate::balance::pick::HashKey;
use crate::config::snapshot::{Endpoint, Protocol, Service, Snapshot, StableId, UdpPolicy};
use crate::net::ready_set::ReadySet;
use crate::net::udp::{Client, ClientSocket, EndpointSocket, Trouble};
use crate::observe::udp::{Dropped, FlowEnd, UdpCounters};
use crate::runtime::clock;
use crate::runtime::core::Core;
use crate::runtime::timer::Timer;

use super::balance::hash_of_address;
use super::turn::Turn;
use flows::{FlowId, FlowTable};
use refusals::Refusals;

/// Sockets that are looked at before others have their turn.
const SOCKETS_PER_TURN: usize = 32;

/// A listener's socket on this worker, and the flows through it.
pub struct Forwarder {
    core: Rc<Core>,
    address: SocketAddr,
    socket: ClientSocket,
    /// The listener's socket and those of all flows.
    ready: ReadySet,
    plan: RefCell<Rc<Plan>>,
    flows: RefCell<FlowTable<Client, Rc<Flow>>>,
    refusals: RefCell<Refusals>,
    /// Times in the table count from here.
    epoch: Instant,
    /// The next look at the oldest flow, or at whether a closing listener is done.
    look: Timer,
    /// Set once the listener is removed or the worker drains: when to end although flows are in use.
    closing_until: Cell<Option<Instant>>,
}

/// What the newest snapshot says of the listener.
struct Plan {
    service: Arc<Service>,
    policy: UdpPolicy,
    generation: u64,
    counters: Rc<UdpCounters>,
}

/// One client's way to its endpoint.
struct Flow {
    socket: EndpointSocket,
    endpoint: StableId,
    /// Of the newest snapshot in which the service was seen to have the endpoint.
    generation: Cell<u64>,
    counters: Rc<UdpCounters>,
    _in_flight: InFlight,
}

impl Forwarder {
    /// Takes a socket from `net::udp::open`. `None`: the snapshot has no such listener any more.
    pub fn new(core: &Rc<Core>, address: SocketAddr, socket: Socket) -> io::Result<Option<Rc<Forwarder>>> {
        let Some(plan) = Plan::of(core, &core.snapshot(), address) else { return Ok(None) };
        let (socket, ready) = (ClientSocket::new(socket)?, ReadySet::new(SOCKETS_PER_TURN)?);
        ready.add(&socket, CLIENTS)?;
        Ok(Some(Rc::new(Forwarder {
            core: core.clone(),
            address,
            socket,
            ready,
            plan: RefCell::new(Rc::new(plan)),
            // Keyed at random: clients choose their ports.
            flows: RefCell::new(FlowTable::new(RandomState::new())),
            refusals: RefCell::default(),
            epoch: core.timers.now(),
            look: core.timers.timer(),
            closing_until: Cell::new(None),
        })))
    }

    /// Takes what a new snapshot says. Flows move, where they must, with their client's next datagram: what their
    /// endpoint was asked before may still be answered.
    pub fn adopt(&self, snapshot: &Snapshot) {
        if let Some(plan) = Plan::of(&self.core, snapshot, self.address) {
            self.plan.replace(Rc::new(plan));
            self.look_after(Duration::ZERO);
        }
    }

    /// Takes no new flows from now on, and ends when those there are quiet, or at `until`.
    pub fn close(&self, until: Instant) {
        self.closing_until.set(Some(until));
        self.look_after(Duration::ZERO);
    }

    /// Forwards until closed.
    pub async fn serve(self: Rc<Self>) {
        let mut turn = Turn::default();
        let mut tokens = Vec::new();
        loop {
            self.ready_or_look(&mut turn).await;
            let now = self.core.timers.now();
            let is_late = self.expire(now);
            if self.is_done(now) {
                break;
            }
            self.look_again(now);
            let left_some = self.take_ready(&mut tokens, now);
            turn.moved(0);
            match left_some || is_late {
                true => self.core.turns.give_way().await,
                false => turn.end_if_over(&self.core.turns).await,
            }
        }
        let ended: Vec<_> = std::iter::from_fn(|| self.flows.borrow_mut().end_oldest()).collect();
        ended.iter().for_each(|flow| flow.end(FlowEnd::Closed));
    }

    async fn ready_or_look(&self, turn: &mut Turn) {
        let mut readable = pin!(self.ready.readable());
        poll_fn(|context| {
            // An error of the wait is one of a socket: what is received from it names it.
            let ready = readable.as_mut().poll(context).map(|_| ());
            turn.saw_wait(ready.is_pending());
            if ready.is_ready() { ready } else { self.look.poll(context) }
        })
        .await;
    }

    /// Takes what waits at sockets that are ready, of each at most a turn; `true` if one has more.
    fn take_ready(&self, tokens: &mut Vec<u64>, now: Instant) -> bool {
        tokens.clear();
        // Interrupted: whatever is ready is told of again.
        let _ = self.ready.take(|token, _| tokens.push(token));
        let mut left_some = false;
        for &token in &*tokens {
            left_some |= match token {
                CLIENTS => self.take_datagrams(now) == DATAGRAMS_PER_TURN,
                flow => self.take_answers(FlowId::from_bits(flow), now) == ANSWERS_PER_TURN,
            };
        }
        left_some
    }

    /// Forwards what waits, at most a turn of it; returns how many datagrams that were.
    fn take_datagrams(&self, now: Instant) -> usize {
        let plan = Rc::clone(&self.plan.borrow());
        let mut buffer = self.core.buffers.take_large();
        let room = buffer.spare();
        for taken in 0..DATAGRAMS_PER_TURN {
            match self.socket.receive(room) {
                // What fills the room may have been cut.
                Ok((count, _)) if count == room.len() => plan.counters.dropped(Dropped::TooLarge),
                Ok((count, client)) => {
                    if let Err(why) = self.forward(&plan, client, &room[..count], now) {
                        plan.counters.dropped(why);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
                Err(_) => plan.counters.dropped(Dropped::Other),
            }
        }
        DATAGRAMS_PER_TURN
    }

    /// Sends a datagram to the client's endpoint; to another one if the system says that nobody is there.
    fn forward(&self, plan: &Rc<Plan>, client: Client, datagram: &[u8], now: Instant) -> Result<(), Dropped> {
        for _ in 0..ENDPOINTS_PER_DATAGRAM {
            let (id, flow) = self.flow_of(plan, client, now)?;
            match flow.socket.send(datagram) {
                Ok(_) => {
                    flow.counters.to_endpoint(datagram.len());
                    let answers = plan.policy.responses.map_or(0, u32::from);
                    self.flows.borrow_mut().sent(id, self.ms(now), answers);
                    return Ok(());
                }
                Err(error) => match Trouble::of(&error) {
                    Trouble::Busy => return Err(Dropped::Busy),
                    Trouble::TooLarge => return Err(Dropped::TooLarge),
                    Trouble::Unreachable => self.refused(id, &flow, now),
                    Trouble::Other => {
                        self.end(id, FlowEnd::Unreachable);
                        return Err(Dropped::Other);
                    }
                },
            }
        }
        Err(Dropped::Unreachable)
    }

    /// The client's flow, if its service still has the endpoint; else a new one.
    fn flow_of(&self, plan: &Rc<Plan>, client: Client, now: Instant) -> Result<(FlowId, Rc<Flow>), Dropped> {
        let found = {
            let flows = self.flows.borrow();
            flows.find(&client).and_then(|id| Some((id, Rc::clone(flows.get(id)?))))
        };
        if let Some((id, flow)) = found {
            if flow.is_of(plan) {
                return Ok((id, flow));
            }
            self.end(id, FlowEnd::Moved);
        }
        self.open(plan, client, now)
    }

    fn open(&self, plan: &Rc<Plan>, client: Client, now: Instant) -> Result<(FlowId, Rc<Flow>), Dropped> {
        if self.closing_until.get().is_some() {
            return Err(Dropped::Closing);
        }
        // Before a socket is made: a flood of newcomers costs no more than this.
        if self.flows.borrow().len() >= plan.policy.flows_max {
            return Err(Dropped::FlowsFull);
        }
        let endpoint = self.pick(&plan.service, client, now).ok_or(Dropped::NoEndpoint)?;
        let socket = EndpointSocket::connect(endpoint.address).map_err(|_| Dropped::NoSocket)?;
        let flow = Rc::new(Flow {
            socket,
            endpoint: endpoint.id,
            generation: Cell::new(plan.generation),
            counters: plan.counters.clone(),
            _in_flight: InFlight::take(&endpoint.state, &plan.service.state),
        });
        let opened = self.flows.borrow_mut().open(self.ms(now), client, flow.clone(), plan.policy.flows_max);
        let id = opened.map_err(|_| Dropped::FlowsFull)?;
        if self.ready.add(&flow.socket, id.to_bits()).is_err() {
            self.flows.borrow_mut().end(id);
            return Err(Dropped::NoSocket);
        }
        flow.counters.flow_opened();
        if !self.look.is_set() {
            self.look.set(now, plan.policy.idle);
        }
        Ok((id, flow))
    }

    /// An endpoint; one that refused lately only if there is no other.
    fn pick(&self, service: &Service, client: Client, now: Instant) -> Option<Arc<Endpoint>> {
        let hash = match service.picker.hash_key() {
            Some(HashKey::ClientAddress) => Some(hash_of_address(client.address.ip())),
            // A datagram has none of the others; the config check has warned.
            _ => None,
        };
        let mut refusals = self.refusals.borrow_mut();
        let avoided = refusals.avoided(self.ms(now));
        let picked = self.core.with_pick_state(service.id, |state| {
            let pick = |state: &mut _, avoided: &[_]| service.pick(state, hash, avoided, clock::millis(now));
            let picked = pick(state, avoided);
            if avoided.is_empty() { picked } else { picked.or_else(|| pick(state, &[])) }
        });
        picked.map(|index| Arc::clone(&service.endpoints[index]))
    }

    /// Passes on what the flow's endpoint has sent, at most a turn of it; returns how many datagrams that were.
    fn take_answers(&self, id: FlowId, now: Instant) -> usize {
        let mut buffer = self.core.buffers.take_large();
        let room = buffer.spare();
        for taken in 0..ANSWERS_PER_TURN {
            let Some(flow) = self.flows.borrow().get(id).cloned() else { return taken };
            match flow.socket.receive(room) {
                Ok(count) if count == room.len() => flow.counters.dropped(Dropped::TooLarge),
                Ok(count) => self.answer(id, &flow, &room[..count], now),
                Err(error) => match Trouble::of(&error) {
                    Trouble::Busy => return taken,
                    // One that was sent before does not fit some link on the way.
                    Trouble::TooLarge => flow.counters.dropped(Dropped::TooLarge),
                    Trouble::Unreachable => self.refused(id, &flow, now),
                    Trouble::Other => self.end(id, FlowEnd::Unreachable),
                },
            }
        }
        ANSWERS_PER_TURN
    }

    /// An answer that cannot be sent was one nevertheless: whoever asked must ask again.
    fn answer(&self, id: FlowId, flow: &Flow, datagram: &[u8], now: Instant) {
        let Some(client) = self.flows.borrow().client(id) else { return };
        match self.socket.send(datagram, &client) {
            Ok(_) => flow.counters.to_client(datagram.len()),
            Err(error) => flow.counters.dropped(match Trouble::of(&error) {
                Trouble::Busy => Dropped::Busy,
                Trouble::TooLarge => Dropped::TooLarge,
                Trouble::Unreachable => Dropped::Unreachable,
                Trouble::Other => Dropped::Other,
            }),
        }
        if self.flows.borrow_mut().answered(id, self.ms(now)).is_some() {
            flow.end(FlowEnd::Answered);
        }
    }

    /// Nobody is at the flow's endpoint: the client's next datagram goes to another one.
    fn refused(&self, id: FlowId, flow: &Flow, now: Instant) {
        self.refusals.borrow_mut().add(flow.endpoint, self.ms(now));
        self.end(id, FlowEnd::Unreachable);
    }

    fn end(&self, id: FlowId, why: FlowEnd) {
        let ended = self.flows.borrow_mut().end(id);
        if let Some(flow) = ended {
            flow.end(why);
        }
    }

    /// Ends flows that were silent too long; `true` if more of them wait for another turn.
    fn expire(&self, now: Instant) -> bool {
        let policy = self.plan.borrow().policy;
        let idle = match self.closing_until.get() {
            Some(_) if policy.responses.is_none() => policy.idle.min(CLOSING_SILENCE),
            _ => policy.idle,
        };
        for _ in 0..EXPIRIES_PER_TURN {
            let expired = self.flows.borrow_mut().expire(self.ms(now), idle.as_millis() as u64);
            match expired {
                Some(flow) => flow.end(FlowEnd::Idle),
                None => return false,
            }
        }
        true
    }

    /// A closing listener waits for answers that are due, and for flows that know no end while they are in use.
    fn is_done(&self, now: Instant) -> bool {
        let Some(until) = self.closing_until.get() else { return false };
        let flows = self.flows.borrow();
        let is_quiet = match self.plan.borrow().policy.responses {
            Some(_) => flows.awaiting() == 0,
            None => flows.is_empty(),
        };
        is_quiet || now >= until
    }

    fn look_again(&self, now: Instant) {
        let idle_ms = self.plan.borrow().policy.idle.as_millis() as u64;
        let next_ms = self.flows.borrow().next_expiry_ms(idle_ms);
        match (self.closing_until.get(), next_ms) {
            (Some(_), _) => self.look.set(now, LOOK_INTERVAL_MIN),
            (None, Some(next_ms)) => {
                let after = Duration::from_millis(next_ms.saturating_sub(self.ms(now)));
                self.look.set(now, after.max(LOOK_INTERVAL_MIN));
            }
            (None, None) => self.look.clear(),
        }
    }

    fn look_after(&self, after: Duration) {
        self.look.set(self.core.timers.now(), after);
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

impl Plan {
    fn of(core: &Core, snapshot: &Snapshot, address: SocketAddr) -> Option<Plan> {
        snapshot.listeners.iter().find_map(|listener| match &listener.protocol {
            &Protocol::Udp(policy) if listener.address == address => Some(Plan {
                service: Arc::clone(snapshot.service(policy.to)),
                policy,
                generation: snapshot.generation,
                counters: core.metrics.udp.of(&listener.name),
            }),
            _ => None,
        })
    }
}

impl Flow {
    /// Whether the plan's service has the endpoint; looked up once per snapshot.
    fn is_of(&self, plan: &Plan) -> bool {
        if self.generation.get() == plan.generation {
            return true;
        }
        let is_there = plan.service.endpoints.iter().any(|endpoint| endpoint.id == self.endpoint);
        if is_there {
            self.generation.set(plan.generation);
        }
        is_there
    }

    /// Called once the flow is out of the table.
    fn end(&self, why: FlowEnd) {
        self.counters.flow_ended(why);
    }
}

/// The token of the listener's own socket; flows have their ids.
const CLIENTS: u64 = u64::MAX;
/// Datagrams of clients taken before answers and others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// The same for answers of one endpoint to one client.
const ANSWERS_PER_TURN: usize = 32;
/// Flows ended for silence in a turn: each closes a socket.
const EXPIRIES_PER_TURN: usize = 256;
/// Endpoints that a datagram is tried on: those that refused before are known only when something is sent.
const ENDPOINTS_PER_DATAGRAM: usize = 3;
/// Silence is noticed this much late, so that flows which end one by one do not wake the worker one by one.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// While the listener closes, a flow that knows no other end is over after so much silence.
const CLOSING_SILENCE: Duration = Duration::from_millis(500);
