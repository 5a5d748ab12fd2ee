//! Owns the wait for a ClientHello, which stays in the reader to be passed on, and the alert for whom it leads nowhere.

use std::pin::pin;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::http::h1_conn::Reader;
use crate::net::sni::{NoHello, Peek};

use super::super::deadline::{Deadline, bounded};

/// The server name that the client asks for, if it does.
pub async fn server_name(
    client: &mut Reader,
    deadline: &Deadline,
    within: Duration,
) -> Result<Option<Box<str>>, Error> {
    deadline.start(Kind::HeaderTimeout, within);
    let name = bounded(pin!(look(client)), deadline).await;
    deadline.pause();
    name
}

async fn look(client: &mut Reader) -> Result<Option<Box<str>>, Error> {
    let mut peek = Peek::default();
    loop {
        match peek.look(client.bytes()) {
            Ok(Some(hello)) => return Ok(hello.server_name),
            Ok(None) => {}
            Err(NoHello::Malformed | NoHello::TooLarge) => return Err(Kind::BadClientHello.into()),
        }
        if client.is_full() {
            if client.is_large() {
                return Err(Kind::BadClientHello.into());
            }
            client.grow()?;
        }
        let filled = client.fill().await;
        if filled.map_err(|error| Error::with_source(Kind::ClientClosed, error))? == 0 {
            return Err(Kind::ClientClosed.into());
        }
    }
}

/// What a TLS client is told (RFC 8446 §6): a record of its own, not encrypted.
pub fn alert(kind: Kind) -> Option<[u8; 7]> {
    const DECODE_ERROR: u8 = 50;
    const UNRECOGNIZED_NAME: u8 = 112;
    let description = match kind {
        Kind::BadClientHello => DECODE_ERROR,
        Kind::NoRoute => UNRECOGNIZED_NAME,
        _ => return None,
    };
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    Some([ALERT, 3, 3, 0, 2, FATAL, description])
}
