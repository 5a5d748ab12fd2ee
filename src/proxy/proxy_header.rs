//! Owns the PROXY headers of connections: waits for the one that a trusted load balancer's connection begins with,
//! and makes the one that an endpoint is sent. Parses nothing (`net::proxy_protocol`) and trusts nobody by itself
//! (`proxy::known`).

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::config::snapshot::ProxyVersion;
use crate::error::{Error, Kind};
use crate::http::h1_conn::{Reader, write_all};
use crate::net::proxy_protocol::{Origin, append, parse};
use crate::net::tcp::Stream;
use crate::runtime::core::Core;

use super::deadline::{Deadline, bounded};
use super::exchange::ClientInfo;

/// Takes the header off the front of what the client sends; what follows stays in the reader. Returns the client
/// that it names. A failure is counted, unless the peer left without a byte, as health checks do.
pub async fn receive(
    core: &Core,
    reader: &mut Reader,
    deadline: &Deadline,
    within: Duration,
    info: &ClientInfo,
) -> Result<Rc<ClientInfo>, Error> {
    deadline.start(Kind::HeaderTimeout, within);
    let origin = bounded(pin!(read(reader)), deadline).await;
    deadline.pause();
    let (peer, proxied_to) = match origin {
        Ok(Origin::Own) => (info.peer, None),
        Ok(Origin::Client { from, to }) => (from, Some(to)),
        Err(error) => {
            if error.kind != Kind::ClientClosed {
                core.metrics.proxy_header_failed(info.listener_index);
            }
            return Err(error);
        }
    };
    Ok(Rc::new(ClientInfo {
        peer,
        address: peer.ip().to_string().into(),
        proxied_to,
        ..ClientInfo::clone(info)
    }))
}

async fn read(reader: &mut Reader) -> Result<Origin, Error> {
    loop {
        match parse(reader.bytes()) {
            Ok(Some(header)) => {
                reader.consume(header.bytes);
                return Ok(header.origin);
            }
            // A header fits the smallest buffer several times: there is room.
            Ok(None) => {}
            Err(malformed) => return Err(Error::with_source(Kind::BadProxyHeader, malformed)),
        }
        match reader.fill().await {
            Ok(0) if reader.bytes().is_empty() => return Err(Kind::ClientClosed.into()),
            Ok(0) => return Err(Kind::BadProxyHeader.into()),
            Ok(_) => {}
            Err(error) => return Err(Error::with_source(Kind::ClientClosed, error)),
        }
    }
}

/// Appends the header that tells an endpoint of this client, whose own connection to us is `stream`.
pub fn announce(
    version: ProxyVersion,
    info: &ClientInfo,
    stream: Option<&Stream>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let to = match info.proxied_to {
        Some(to) => to,
        // Fails only on a connection that is gone. Where there is none, no service is told of it: the config refuses that.
        None => {
            let stream = stream.ok_or(Kind::Internal)?;
            stream.local_address().map_err(|error| Error::with_source(Kind::ClientClosed, error))?
        }
    };
    append(version, info.peer, to, out);
    Ok(())
}

/// Sends the header by itself.
pub async fn send(
    core: &Core,
    version: ProxyVersion,
    info: &ClientInfo,
    client: Option<&Stream>,
    to: &Stream,
) -> Result<(), Error> {
    let mut header = core.take_scratch();
    announce(version, info, client, &mut header)?;
    let sent = write_all(to, &header, || {}).await;
    core.give_back_scratch(header);
    sent.map_err(|error| Error::with_source(Kind::UpstreamClosed, error))
}
