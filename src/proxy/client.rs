//! Owns the life of one client connection: waiting idle with little memory, reading heads, handing each
//! request to the pipeline, and closing so that the last answer arrives. Judges no request. One that speaks HTTP/2 is
//! `http2`'s.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::config::snapshot::{Settings, StableId};
use crate::config::tls::ListenerTls;
use crate::error::{Error, Kind};
use crate::http::h1_conn::Reader;
use crate::http::h1_parse::{self, HeadError, Progress};
use crate::http::h2::frame::PREFACE;
use crate::http::head::Framing;
use crate::net::tcp::Stream;
use crate::observe::Handshake;
use crate::policy::addresses::PerAddress;
use crate::policy::certificate;
use crate::runtime::clock::nanos;
use crate::runtime::core::Core;

use super::deadline::{Deadline, bounded};
use super::end::End;
use super::exchange::{ClientInfo, Exchange};
use super::forward::Within;
use super::http2;
use super::pipeline;
use super::problem;
use super::proxy_header;
use super::turn::Turn;

/// An idle connection is closed this long after a drain began; whoever sends within it is still answered.
pub const DRAIN_IDLE_GRACE: Duration = Duration::from_secs(1);
/// After the last answer: how long and how much unread input is discarded, so that the kernel does not
/// answer it with a reset that destroys the answer on its way (RFC 9112 §9.6).
const LINGER_SILENCE: Duration = Duration::from_secs(2);
const LINGER_TIME: Duration = Duration::from_secs(15);
const LINGER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A connection whose next request comes within this keeps the memory of its last one.
const SOON: Duration = Duration::from_millis(500);
/// Requests served in a row before the connection lets others run.
const REQUESTS_PER_TURN: u32 = 32;

/// Who asks: for the time of a request, or of an HTTP/1 connection.
pub struct Client {
    pub end: End,
    pub deadline: Deadline,
    pub info: Rc<ClientInfo>,
    /// An upstream connection that no other client may use, since it began with this one's address.
    pub bound: Option<Box<Bound>>,
}

pub struct Bound {
    pub endpoint: StableId,
    pub reader: Reader,
}

/// What becomes of a client connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another request may follow.
    KeepAlive,
    /// The answer is complete and said that it is the last.
    Close,
    /// Nothing more goes in either direction.
    Closed,
    /// The answer could not be completed: the connection ends in the middle of it.
    Abort,
}

/// What stands before the first request.
pub struct Begin {
    /// A PROXY header.
    pub expects_header: bool,
    /// What the address may have that it names.
    pub per_address: Option<PerAddress>,
    /// Then a handshake.
    pub tls: Option<Arc<ListenerTls>>,
    /// HTTP/2 may follow, or HTTP/1.
    pub http2: bool,
}

/// Serves a connection until it ends.
pub async fn serve(core: Rc<Core>, stream: Stream, info: Rc<ClientInfo>, begin: Begin) {
    let deadline = Deadline::new(core.timers.timer());
    let reader = Reader::new(stream, core.buffers.clone());
    let mut client = Client { end: End::Http1(reader), deadline, info, bound: None };
    // Boxed, as the requests' future is.
    if begin.expects_header && Box::pin(adopt_proxied(&core, &mut client)).await.is_err() {
        return;
    }
    // Of others it is known when they are accepted; a load balancer that speaks for itself may have what it likes.
    let is_named = client.info.proxied_to.is_some();
    let place = begin
        .per_address
        .as_ref()
        .filter(|_| is_named)
        .map(|limit| limit.enter(client.info.peer.ip(), nanos(core.timers.now())));
    if let Some(None) = place {
        core.metrics.connection_over_address_limit(client.info.listener_index);
        return client.end.socket().into_iter().for_each(Stream::reset_on_close);
    }
    if let Some(tls) = begin.tls
        && let Err(error) = Box::pin(secure(&core, &mut client, tls)).await
    {
        if error.kind == Kind::BadRequest {
            // He has been told why; what he may have sent behind his part must not make a reset of it.
            Box::pin(linger(&core, &mut client)).await;
        }
        return;
    }
    core.timers.now();
    if begin.http2 {
        match Box::pin(speaks_http2(&core, &mut client)).await {
            Some(true) => return serve_http2(&core, &mut client).await,
            Some(false) => {}
            None => return say_end(&mut client).await,
        }
    }
    while wait_for_input(&core, &mut client, Duration::MAX).await != Input::None {
        // The large future of requests lives only while there are any: an idle connection is a small task.
        match Box::pin(serve_requests(&core, &mut client)).await {
            After::KeepAlive => {}
            After::Close => return linger(&core, &mut client).await,
            After::Closed => break,
            After::Abort => return,
        }
    }
    say_end(&mut client).await;
}

/// Whether the connection is an HTTP/2 one: TLS has agreed on that, or the client knows it and begins with the preface (RFC
/// 9113 §3.3), of which the first bytes are no method of HTTP/1.1. `None`: it is over before that is known.
async fn speaks_http2(core: &Rc<Core>, client: &mut Client) -> Option<bool> {
    const BEGIN: &[u8] = PREFACE.split_at(4).0;
    if let Some(socket) = client.end.socket().filter(|socket| !socket.is_plain()) {
        return Some(socket.speaks_http2());
    }
    if wait_for_input(core, client, Duration::MAX).await == Input::None {
        return None;
    }
    match first_bytes(core, client).await {
        Ok(Some(1..)) => {}
        Ok(None) => return Some(false),
        Ok(Some(0)) | Err(_) => return None,
    }
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    deadline.start(Kind::HeaderTimeout, core.snapshot().settings.client_timeouts.header);
    loop {
        if reader.bytes().starts_with(BEGIN) || !BEGIN.starts_with(reader.bytes()) {
            return Some(reader.bytes().starts_with(BEGIN));
        }
        bounded(pin!(more_of_head(reader)), deadline).await.ok()?;
    }
}

async fn serve_http2(core: &Rc<Core>, client: &mut Client) {
    let Client { end, deadline, info, .. } = client;
    deadline.bound_request(None);
    if Box::pin(http2::serve(core, info, http1(end), deadline)).await {
        linger(core, client).await;
    }
}

/// An HTTP/1 connection's tasks make its end, and nothing else does.
fn http1(end: &mut End) -> &mut Reader {
    match end {
        End::Http1(reader) => reader,
        End::Http2(_) | End::Own(_) => {
            unreachable!("an end that is made for one request serves no connection")
        }
    }
}

/// Makes the client that a load balancer names the one that is served.
async fn adopt_proxied(core: &Core, client: &mut Client) -> Result<(), Error> {
    let within = core.snapshot().settings.client_timeouts.header;
    let Client { end, deadline, info, .. } = client;
    client.info = proxy_header::receive(core, http1(end), deadline, within, info).await?;
    Ok(())
}

/// Shakes hands within the time that a head may take.
async fn secure(core: &Core, client: &mut Client, tls: Arc<ListenerTls>) -> Result<(), Error> {
    let listener = client.info.listener_index;
    if core.buffers.is_exhausted() {
        core.metrics.connection_refused(listener);
        return Err(Kind::NoBuffers.into());
    }
    let within = core.snapshot().settings.client_timeouts.header;
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    deadline.start(Kind::HeaderTimeout, within);
    let shake = async {
        if reader.bytes().is_empty() {
            poll_fn(|context| reader.poll_input(context)).await;
        }
        core.handshakes.enter(&core.turns).await;
        reader.secure(&tls).await.map_err(|error| {
            let is_breach = error.kind() == ErrorKind::InvalidData;
            Error::with_source(if is_breach { Kind::BadRequest } else { Kind::ClientClosed }, error)
        })
    };
    let shaken = bounded(pin!(shake), deadline).await;
    let ended = match &shaken {
        Ok(true) => Handshake::Resumed,
        Ok(false) => Handshake::Full,
        Err(Error { kind: Kind::HeaderTimeout, .. }) => Handshake::Timeout,
        Err(Error { kind: Kind::BadRequest, .. }) => Handshake::Failed,
        Err(_) => Handshake::ClientClosed,
    };
    core.metrics.handshake(listener, ended);
    shaken?;
    // Only where they are asked for is one believed.
    if tls.verifier.is_some()
        && let Some(claims) =
            client.end.socket().and_then(|socket| socket.peer_certificate(certificate::claims)).flatten()
    {
        client.info =
            Rc::new(ClientInfo { certificate: Some(Arc::new(claims)), ..ClientInfo::clone(&client.info) });
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    AtOnce,
    AfterWait,
    /// Idle too long, or draining: the connection is to be closed.
    None,
}

/// Waits at most the idle timeout, and at most `most`.
async fn wait_for_input(core: &Rc<Core>, client: &mut Client, most: Duration) -> Input {
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    if !reader.bytes().is_empty() {
        return Input::AtOnce;
    }
    let idle = core.snapshot().settings.client_timeouts.idle.min(most);
    deadline.bound_request(None);
    deadline.start_lately(Kind::HeaderTimeout, idle);
    let mut draining = false;
    let mut found = Input::AtOnce;
    poll_fn(|context| {
        if reader.poll_readable(context).is_ready() {
            return Poll::Ready(found);
        }
        found = Input::AfterWait;
        if core.draining.get() && !draining {
            draining = true;
            deadline.start(Kind::HeaderTimeout, DRAIN_IDLE_GRACE.min(idle));
        }
        deadline.poll(context).map(|_| Input::None)
    })
    .await
}

/// Serves what has arrived; returns `KeepAlive` when the connection idles again.
async fn serve_requests(core: &Rc<Core>, client: &mut Client) -> After {
    let mut served = 0;
    loop {
        // FIN or reset between two requests is how connections end, not a request.
        if http1(&mut client.end).bytes().is_empty() {
            match first_bytes(core, client).await {
                Ok(Some(1..)) => {}
                // What woke it was not for us.
                Ok(None) => return After::KeepAlive,
                Ok(Some(0)) | Err(_) => return After::Closed,
            }
        }
        let snapshot = core.snapshot();
        let mut exchange = Exchange::new(core.clone(), client.info.clone(), snapshot.clone());
        let read = match core.buffers.is_exhausted() {
            true => Err(Kind::NoBuffers.into()),
            false => read_head(client, &mut exchange, &snapshot.settings).await,
        };
        drop(snapshot);
        let is_read = read.is_ok();
        let after = match read {
            Ok(()) => pipeline::handle::<Within>(&mut exchange, client).await,
            Err(error) => problem::answer(&exchange, client, error).await,
        };
        let is_over = after == After::Close && is_read && sends_no_more(&exchange, client);
        drop(exchange);
        if after != After::KeepAlive {
            return if is_over { After::Closed } else { after };
        }
        match wait_for_input(core, client, SOON).await {
            Input::None => return after,
            Input::AfterWait => served = 0,
            Input::AtOnce => served += 1,
        }
        if served > 0 && served % REQUESTS_PER_TURN == 0 {
            core.turns.give_way().await;
        }
    }
}

/// Whether the client has said that this request is its last, and all of it is here: nothing can arrive any more
/// that a close would answer with a reset, which might overtake our answer.
fn sends_no_more(exchange: &Exchange, client: &mut Client) -> bool {
    let (head, reader) = (&exchange.head, http1(&mut client.end));
    // Through TLS it has yet to say so.
    reader.stream.is_plain() && !head.keep_alive && head.framing == Framing::None && reader.bytes().is_empty()
}

/// The input that woke this connection: `Some(0)` is its end, `None` that there is none. Of a TLS record, the rest has
/// as much time as that of a head.
async fn first_bytes(core: &Core, client: &mut Client) -> Result<Option<usize>, Error> {
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    let mut is_awaited = false;
    poll_fn(|context| {
        if let Poll::Ready(filled) = reader.poll_fill(context) {
            let filled = filled.map_err(|error| Error::with_source(Kind::ClientClosed, error));
            return Poll::Ready(filled.map(Some));
        }
        if !reader.stream.awaits_record() {
            return Poll::Ready(Ok(None));
        }
        if !std::mem::replace(&mut is_awaited, true) {
            deadline.start(Kind::HeaderTimeout, core.snapshot().settings.client_timeouts.header);
        }
        deadline.poll(context).map(Err)
    })
    .await
}

/// Reads one head into the exchange.
async fn read_head(client: &mut Client, exchange: &mut Exchange, settings: &Settings) -> Result<(), Error> {
    client.deadline.bound_request(None);
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    let mut progress = Progress::default();
    let mut waiting = false;
    loop {
        let head = &mut exchange.head;
        match h1_parse::parse_request(reader.bytes(), &mut progress, &settings.head_limits, head) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                // Nothing of an unreadable head is believed or logged.
                exchange.forget_head();
                return Err(head_error(error));
            }
        }
        if !waiting {
            // Most heads arrive whole: the clock starts only for those that do not.
            waiting = true;
            deadline.start(Kind::HeaderTimeout, settings.client_timeouts.header);
        }
        if let Err(error) = bounded(pin!(more_of_head(reader)), deadline).await {
            exchange.forget_head();
            return Err(error);
        }
    }
    if waiting {
        exchange.core.timers.now();
    }
    let bytes = reader.split(exchange.head.head_len);
    exchange.set_bytes(bytes);
    Ok(())
}

async fn more_of_head(reader: &mut Reader) -> Result<(), Error> {
    if reader.is_full() {
        if reader.is_large() {
            return Err(Kind::HeadTooLarge.into());
        }
        reader.grow()?;
    }
    match reader.fill().await {
        Ok(0) => Err(Kind::ClientClosed.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::with_source(Kind::ClientClosed, error)),
    }
}

pub fn head_error(error: HeadError) -> Error {
    let kind = match error {
        HeadError::BadRequest(_) => Kind::BadRequest,
        HeadError::TooLarge | HeadError::TooManyFields => Kind::HeadTooLarge,
        HeadError::TargetTooLong => Kind::UriTooLong,
        HeadError::Version => Kind::VersionNotSupported,
        HeadError::Expectation => Kind::ExpectationFailed,
    };
    Error::with_source(kind, error)
}

/// A client that does not take so few bytes needs no word of an end.
async fn say_end(client: &mut Client) {
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    if !reader.stream.is_plain() {
        deadline.bound_request(None);
        deadline.start(Kind::ClientClosed, LINGER_SILENCE);
        let said = async {
            reader.stream.say_end().await;
            Ok(())
        };
        let _: Result<(), Error> = bounded(pin!(said), deadline).await;
    }
}

/// Closes after a complete answer: FIN, then reads and forgets what the client still sends.
async fn linger(core: &Core, client: &mut Client) {
    say_end(client).await;
    let Client { end, deadline, .. } = client;
    let reader = http1(end);
    reader.stream.shutdown_write();
    deadline.bound_request(Some(LINGER_TIME));
    let mut discarded = 0;
    let mut turn = Turn::default();
    while discarded < LINGER_BYTES_MAX {
        reader.consume(reader.bytes().len());
        deadline.start(Kind::ClientClosed, LINGER_SILENCE);
        let fill = async {
            turn.fill(reader, usize::MAX).await.map_err(|error| Error::with_source(Kind::ClientClosed, error))
        };
        match bounded(pin!(fill), deadline).await {
            Ok(0) | Err(_) => return,
            Ok(count) => discarded += count,
        }
        turn.end_if_over(&core.turns).await;
    }
}
