//! Owns what is known of a connection of a TCP listener: whose it is, where it went, what moved, how it failed. Its
//! drop counts and logs it, so that every exit is seen. Decides nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::config::snapshot::{Endpoint, Service};
use crate::error::Kind;
use crate::observe::{LogLine, TcpSeries};
use crate::runtime::core::Core;

use super::super::exchange::ClientInfo;

pub struct Observed {
    pub core: Rc<Core>,
    pub client: Rc<ClientInfo>,
    series: TcpSeries,
    service: Arc<str>,
    endpoint: RefCell<Option<Arc<str>>>,
    tries: Cell<u32>,
    started: Instant,
    received_bytes: Cell<u64>,
    sent_bytes: Cell<u64>,
    error: Cell<Option<Kind>>,
}

impl Observed {
    pub fn new(core: Rc<Core>, client: Rc<ClientInfo>, service: &Service) -> Observed {
        let series = core.metrics.tcp.opened(&client.listener, service.id);
        Observed {
            core,
            client,
            series,
            service: service.name.clone(),
            endpoint: RefCell::default(),
            tries: Cell::new(0),
            started: Instant::now(),
            received_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            error: Cell::new(None),
        }
    }

    pub fn trying(&self, endpoint: &Endpoint, tries: u32) {
        *self.endpoint.borrow_mut() = Some(endpoint.label.clone());
        self.tries.set(tries);
    }

    /// Bytes of the client's were passed on.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.set(self.received_bytes.get() + bytes);
        self.core.metrics.tcp.received(self.series, bytes);
    }

    /// Bytes were passed on to the client.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.set(self.sent_bytes.get() + bytes);
        self.core.metrics.tcp.sent(self.series, bytes);
    }

    pub fn failed(&self, kind: Kind) {
        self.error.set(Some(kind));
        self.core.metrics.tcp.failed(self.series, kind);
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
                host: b"",
                path: b"",
                protocol: "TCP",
                status: self.error.get().map_or(ENDED_WELL, Kind::status),
                route: None,
                service: Some(&self.service),
                endpoint: self.endpoint.borrow().as_deref(),
                tries: self.tries.get(),
                duration: self.started.elapsed(),
                upstream_first_byte: None,
                request_bytes: self.received_bytes.get(),
                response_bytes: self.sent_bytes.get(),
                error: self.error.get(),
                user_agent: None,
            });
        });
    }
}
