//! Owns a connection after 101 or a successful CONNECT: bytes both ways, each direction with its own end
//! (half-close is kept), until both ended or nothing moved for the tunnel's idle timeout.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::http::h1_conn::{Reader, write_all};
use crate::net::tcp::Stream;
use crate::runtime::turns::Turns;

use super::client::Client;
use super::deadline::bounded;
use super::exchange::Exchange;
use super::turn::Turn;

pub async fn run(exchange: &Exchange, client: &mut Client, mut upstream: Reader, idle: Duration) {
    exchange.let_go_of_snapshot();
    let _open = Open::count(exchange);
    let Client { reader, deadline, .. } = client;
    deadline.bound_request(None);
    let restart = || deadline.start(Kind::RequestTimeout, idle);
    restart();
    let (client_stream, upstream_stream) = (reader.stream.clone(), upstream.stream.clone());
    let facts = &exchange.facts;
    let turns = &exchange.core.turns;
    let up = copy(reader, &upstream_stream, turns, |count| {
        restart();
        facts.request_bytes.set(facts.request_bytes.get() + count);
    });
    let down = copy(&mut upstream, &client_stream, turns, |count| {
        restart();
        facts.response_bytes.set(facts.response_bytes.get() + count);
    });
    let ended = bounded(pin!(both(up, down)), deadline).await;
    if ended.is_err_and(|error| error.kind == Kind::ClientClosed) {
        // One of them has gone in the middle: the other one must not take that for an end.
        upstream_stream.reset_on_close();
        client_stream.reset_on_close();
        return;
    }
    upstream_stream.shutdown_both();
    client_stream.shutdown_both();
}

/// Counts the tunnel until it drops.
struct Open<'a>(&'a Exchange);

impl<'a> Open<'a> {
    fn count(exchange: &'a Exchange) -> Open<'a> {
        exchange.core.metrics.tunnel_opened();
        Open(exchange)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.core.metrics.tunnel_closed();
    }
}

/// Moves bytes until the sender's FIN, which is passed on.
async fn copy(from: &mut Reader, to: &Stream, turns: &Turns, moved: impl Fn(u64)) -> Result<(), Error> {
    let mut turn = Turn::default();
    loop {
        let count = from.bytes().len();
        if count > 0 {
            let sent = write_all(to, from.bytes(), || {}).await;
            sent.map_err(|error| Error::with_source(Kind::ClientClosed, error))?;
            from.consume(count);
            moved(count as u64);
        }
        turn.end_if_over(turns).await;
        match turn.fill(from, usize::MAX).await {
            Ok(0) => {
                to.say_end().await;
                to.shutdown_write();
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => return Err(Error::with_source(Kind::ClientClosed, error)),
        }
    }
}

/// Ends when both have, or when one fails.
async fn both(
    one: impl Future<Output = Result<(), Error>>,
    other: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_ended, mut other_ended) = (false, false);
    poll_fn(|context| {
        if !one_ended && let Poll::Ready(result) = one.as_mut().poll(context) {
            result?;
            one_ended = true;
        }
        if !other_ended && let Poll::Ready(result) = other.as_mut().poll(context) {
            result?;
            other_ended = true;
        }
        if one_ended && other_ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
