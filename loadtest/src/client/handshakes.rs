//! Load of short TLS connections, with resumed sessions or full handshakes: one after another, each with one request. The
//! client's own work is its core's, so what the proxy does is seen in its CPU time, not in the rate.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use super::Outcome;
use super::idle::{ANSWER_LIMIT, trusting, use_once};
use crate::histogram::Histogram;

/// A handshake that is not resumed is an error, but for the first ones of a run.
const FULL_MAX: u64 = 2;

pub fn run(
    address: SocketAddr,
    certificate: &Path,
    resumed: bool,
    duration: Duration,
) -> io::Result<Outcome> {
    let mut config = trusting(certificate)?;
    if !resumed {
        let mut forgetful = ClientConfig::clone(&config);
        forgetful.resumption = Resumption::disabled();
        config = Arc::new(forgetful);
    }
    let (mut outcome, mut delays, mut full) = (Outcome::default(), Histogram::new(), 0);
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let started = Instant::now();
        let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let name = ServerName::from(address.ip());
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut secured = StreamOwned::new(session, stream);
        // The tickets for the next one come with or before the answer.
        use_once(&mut secured, address)?;
        if secured.conn.handshake_kind() != Some(HandshakeKind::Resumed) {
            full += 1;
        }
        outcome.requests += 1;
        delays.record(started.elapsed());
    }
    outcome.errors = if resumed && full > FULL_MAX { full } else { 0 };
    outcome.elapsed = begin.elapsed();
    (outcome.p50_us, outcome.p99_us) = (delays.percentile_us(50.0), delays.percentile_us(99.0));
    Ok(outcome)
}
