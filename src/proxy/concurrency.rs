//! Owns the stage that gives a request a place at its service, or has it wait for one: for so long, and as long as its client does. The
//! place is given back on every path.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::config::snapshot::Service;
use crate::error::{Error, Kind};
use crate::policy::concurrency::{Entered, Place, Places, Refused, Room, Standing, Waiter};
use crate::runtime::core::Core;
use crate::runtime::waiters;

use super::client::Client;
use super::exchange::Exchange;
use super::limits::write_key;
use super::routed::values;
use super::rule::Route;
use super::template::Source;
use super::transform::field;

/// `concurrency` of a service.
#[derive(Debug)]
pub struct Concurrency {
    pub room: Room,
    /// Longest.
    pub wait: Duration,
    /// What tells one tenant from another. Empty: there is one.
    pub by: Vec<Source>,
}

/// A place, given back when this drops.
pub struct Held {
    core: Rc<Core>,
    service: Arc<Service>,
    place: Place,
}

/// What a request has to do for its place.
pub enum Entry {
    None,
    Held(Held),
    Wait(InLine),
}

/// A place in line, left when this drops.
pub struct InLine {
    core: Rc<Core>,
    service: Arc<Service>,
    /// `None` once it has its place.
    waiter: Option<Arc<Waiter>>,
    woken_at: waiters::Place,
}

/// Errors: there is no place, and none in line.
pub fn enter(exchange: &Exchange, service: &Arc<Service>, rule: &Route) -> Result<Entry, Error> {
    let Some(concurrency) = &service.concurrency else { return Ok(Entry::None) };
    let core = &exchange.core;
    let places = &service.state.places;
    let tenant = tenant(exchange, rule, &concurrency.by, places);
    let mut woken_at = None;
    let slot = || woken_at.insert(core.waiters.place()).slot();
    let (entered, woken) = places.enter(&concurrency.room, tenant, core.id, slot);
    woken.iter().for_each(|waiter| wake(core, waiter));
    let (core, service) = (core.clone(), service.clone());
    match entered {
        Entered::Now(place) => Ok(Entry::Held(Held { core, service, place })),
        Entered::Waits(waiter) => {
            // Its number is asked for where it begins to wait.
            let Some(woken_at) = woken_at else { return Err(Kind::Internal.into()) };
            Ok(Entry::Wait(InLine { core, service, waiter: Some(waiter), woken_at }))
        }
        Entered::Refused(Refused::Full) => Err(full(Kind::QueueFull, &service)),
        Entered::Refused(Refused::TenantFull) => Err(full(Kind::ConcurrencyLimited, &service)),
    }
}

fn tenant(exchange: &Exchange, rule: &Route, by: &[Source], places: &Places) -> u64 {
    if by.is_empty() {
        return 0;
    }
    let mut key = places.key();
    let mut scratch = exchange.core.take_scratch();
    write_key(by, &values(exchange, rule), exchange.client_ip(), &mut scratch, &mut key);
    exchange.core.give_back_scratch(scratch);
    key.finish()
}

impl InLine {
    /// Waits for the place; the client's leaving ends that, too.
    pub async fn wait(mut self, client: &mut Client) -> Result<Held, Error> {
        let wait = self.service.concurrency.as_ref().map_or(Duration::ZERO, |concurrency| concurrency.wait);
        let Client { end, deadline, .. } = client;
        deadline.start(Kind::QueueTimeout, wait);
        let waited = end.unless_gone(pin!(self.admitted()), deadline).await;
        self.core.timers.now();
        waited.map_err(|error| match error.kind {
            Kind::QueueTimeout => full(Kind::QueueTimeout, &self.service),
            _ => error,
        })
    }

    async fn admitted(&mut self) -> Result<Held, Error> {
        poll_fn(|context| {
            let Some(waiter) = &self.waiter else { return Poll::Ready(Err(Kind::Internal.into())) };
            self.woken_at.set(context.waker());
            match waiter.standing() {
                Standing::Waits => Poll::Pending,
                Standing::PushedOut => Poll::Ready(Err(full(Kind::QueueFull, &self.service))),
                Standing::Admitted => {
                    let place = waiter.place();
                    self.waiter = None;
                    Poll::Ready(Ok(Held { core: self.core.clone(), service: self.service.clone(), place }))
                }
            }
        })
        .await
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if let Some(place) = self.service.state.places.give_up(&waiter) {
            leave(&self.core, &self.service, place);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        leave(&self.core, &self.service, self.place);
    }
}

fn leave(core: &Core, service: &Service, place: Place) {
    // Who holds a place has it from this configuration of the service.
    let Some(concurrency) = &service.concurrency else { return };
    for admitted in service.state.places.leave(&concurrency.room, place) {
        wake(core, &admitted);
    }
}

/// On another core by letter. One whose mailbox is full is stuck; its waiters find out when their time is over.
fn wake(core: &Core, waiter: &Waiter) {
    match waiter.core == core.id {
        true => core.waiters.wake(waiter.slot),
        false => core.peers.wake(waiter.core, vec![waiter.slot]),
    }
}

fn full(kind: Kind, service: &Service) -> Error {
    Error::with_source(kind, Full { service: service.name.clone() })
}

/// There is no place at the service.
#[derive(Debug)]
pub struct Full {
    service: Arc<str>,
}

impl Full {
    /// When it is worth asking again (RFC 9110 §10.2.3): nobody knows, but not at once.
    pub fn fields(out: &mut Vec<u8>) {
        field(out, b"retry-after", b"1");
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service {} has as many requests as it may", self.service)
    }
}

impl std::error::Error for Full {}
