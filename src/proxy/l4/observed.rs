//! Owns what is known of a connection of a TCP listener: whose it is, where it went, what moved, how it failed. Its
//! drop counts and logs it, so that every exit is seen. Decides nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::config::snapshot::{Endpoint, Service};
use crate::error::{Error, Kind};
use crate::observe::{LogLine, TcpSeries};
use crate::policy::addresses::Place;
use crate::runtime::core::Core;

use super::super::balance::unless_refused;
use super::super::exchange::ClientInfo;

pub struct Observed {
    pub core: Rc<Core>,
    pub client: Rc<ClientInfo>,
    /// Among the connections of the address that a PROXY header names.
    pub place: Option<Place>,
    /// Known once it is known where it goes.
    series: Cell<Option<TcpSeries>>,
    service: RefCell<Option<Arc<str>>>,
    /// The server name that was asked for.
    name: RefCell<Box<str>>,
    endpoint: RefCell<Option<Arc<str>>>,
    tries: Cell<u32>,
    started: Instant,
    received_bytes: Cell<u64>,
    sent_bytes: Cell<u64>,
    error: Cell<Option<Kind>>,
}

impl Observed {
    pub fn new(core: Rc<Core>, client: Rc<ClientInfo>) -> Observed {
        Observed {
            core,
            client,
            place: None,
            series: Cell::new(None),
            service: RefCell::default(),
            name: RefCell::default(),
            endpoint: RefCell::default(),
            tries: Cell::new(0),
            started: Instant::now(),
            received_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            error: Cell::new(None),
        }
    }

    pub fn asked_for(&self, name: Option<&str>) {
        *self.name.borrow_mut() = name.unwrap_or_default().into();
    }

    pub fn goes_to(&self, service: &Service) {
        self.series.set(Some(self.core.metrics.tcp.opened(&self.client.listener, Some(service.id))));
        *self.service.borrow_mut() = Some(service.name.clone());
    }

    /// Its counters; those of no service as long as it has none.
    fn series(&self) -> TcpSeries {
        self.series.get().unwrap_or_else(|| {
            let series = self.core.metrics.tcp.opened(&self.client.listener, None);
            self.series.set(Some(series));
            series
        })
    }

    pub fn trying(&self, endpoint: &Endpoint, tries: u32) {
        *self.endpoint.borrow_mut() = Some(endpoint.label.clone());
        self.tries.set(tries);
    }

    /// Bytes of the client's were passed on.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.set(self.received_bytes.get() + bytes);
        self.core.metrics.tcp.received(self.series(), bytes);
    }

    /// Bytes were passed on to the client.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.set(self.sent_bytes.get() + bytes);
        self.core.metrics.tcp.sent(self.series(), bytes);
    }

    /// What an endpoint's end means if it is about our certificate.
    pub fn unless_refused(&self, error: Error) -> Error {
        let (service, endpoint) = (self.service.borrow(), self.endpoint.borrow());
        let (service, endpoint) = (service.as_deref().unwrap_or(""), endpoint.as_deref().unwrap_or(""));
        unless_refused(&self.core, service, endpoint, error, None)
    }

    pub fn failed(&self, kind: Kind) {
        self.error.set(Some(kind));
        self.core.metrics.tcp.failed(self.series(), kind);
    }
}

/// The status of a connection that ended well, as nginx's stream log has it; one that did not has its error's.
const ENDED_WELL: u16 = 200;

impl Drop for Observed {
    fn drop(&mut self) {
        self.core.log_line(|log| {
            log.record(&LogLine {
                request_id: self.core.request_ids.make().as_bytes(),
                client: self.client.peer,
                listener: &self.client.listener,
                method: b"",
                host: self.name.borrow().as_bytes(),
                path: b"",
                protocol: "TCP",
                status: self.error.get().map_or(ENDED_WELL, Kind::status),
                route: None,
                service: self.service.borrow().as_deref(),
                endpoint: self.endpoint.borrow().as_deref(),
                tries: self.tries.get(),
                duration: self.started.elapsed(),
                upstream_first_byte: None,
                request_bytes: self.received_bytes.get(),
                response_bytes: self.sent_bytes.get(),
                error: self.error.get(),
                user_agent: None,
                user: None,
            });
        });
    }
}
