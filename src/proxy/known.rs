//! Owns what a worker knows of one of its TCP or HTTP listeners: its name, what is spoken on it, and whose connections begin
//! with a PROXY header. Looked up once per snapshot and kept after a reload removed the listener, for the
//! connections that its sockets still accept. Opens and reads nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::snapshot::{Binding, Cidr, Protocol, Snapshot, Transport};
use crate::config::tls::ListenerTls;
use crate::policy::addresses::PerAddress;

use super::l4;

pub struct Known {
    pub name: Arc<str>,
    pub serves: Serves,
    proxy_trusted: Vec<Cidr>,
    pub per_address: Option<PerAddress>,
    generation: u64,
}

pub enum Serves {
    Http { tls: Option<Arc<ListenerTls>>, http2: bool },
    Tcp(l4::Plan),
}

impl Known {
    /// What the snapshot says of the listener with this address.
    pub fn of(snapshot: &Snapshot, address: SocketAddr) -> Option<Known> {
        let binding = Binding { transport: Transport::Tcp, address };
        let listener = snapshot.listeners.iter().find(|listener| listener.binding() == binding)?;
        let settings = &snapshot.settings;
        let plan = |to, idle_timeout| l4::Plan {
            to,
            header_timeout: settings.client_timeouts.header,
            idle_timeout,
            splice: settings.splice,
        };
        let serves = match &listener.protocol {
            Protocol::Udp(_) => return None,
            Protocol::Http => Serves::Http { tls: listener.tls.clone(), http2: listener.http2 },
            &Protocol::Tcp { to, idle } => {
                Serves::Tcp(plan(l4::Destination::Service(Arc::clone(snapshot.service(to))), idle))
            }
            Protocol::TlsPassthrough { names, idle } => {
                let services = snapshot.services.iter().cloned().collect();
                Serves::Tcp(plan(l4::Destination::ByServerName { names: names.clone(), services }, *idle))
            }
        };
        Some(Known {
            name: listener.name.clone(),
            serves,
            proxy_trusted: listener.proxy_trusted.clone(),
            per_address: listener.per_address.clone(),
            generation: snapshot.generation,
        })
    }

    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.generation == snapshot.generation
    }

    /// Whether this peer's connections begin with a PROXY header.
    pub fn expects_proxy_header(&self, peer: SocketAddr) -> bool {
        self.proxy_trusted.iter().any(|network| network.contains(peer.ip()))
    }
}
