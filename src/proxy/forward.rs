//! Owns the tries of one request: balance → forward, again while that is safe. One try sends the request,
//! relays the body up and the response down at the same time, and decides what becomes of both connections.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::snapshot::{PoolLimits, Service};
use crate::error::{Error, Kind};
use crate::http::grpc::{self, UNAVAILABLE};
use crate::http::h1_conn::{Reader, write_all};
use crate::http::head::{Framing, Method};
use crate::net::tcp::Stream;
use crate::runtime::clock;

use super::balance::{self, Chosen, Upstream};
use super::body::{Outgoing, Progress, Replay, Uplink, Upload, Whole};
use super::bounds::Bounds;
use super::client::{After, Bound, Client};
use super::concurrency::{self, Entry};
use super::deadline::{Deadline, supervised};
use super::end::End;
use super::exchange::{Exchange, Role};
use super::fault::{Trial, is_bad};
use super::http2::{self, Http2Stream};
use super::relay::{self, Answering, Downlink, Ended, Source};
use super::retry::{Failure, Tries, Verdict};
use super::routed::Routed;
use super::{proxy_header, shadow, transform, tunnel};

/// Where a future lives that only some requests need: a request's own is as large as the largest that it may hold.
pub trait Room {
    fn of<F: Future>(future: F) -> impl Future<Output = F::Output>;
}

/// In the request's own: for a connection that has one request at a time.
pub struct Within;

/// Apart, once it is needed: for one of many streams, most of which may need another.
pub struct Apart;

impl Room for Within {
    fn of<F: Future>(future: F) -> impl Future<Output = F::Output> {
        future
    }
}

impl Room for Apart {
    fn of<F: Future>(future: F) -> impl Future<Output = F::Output> {
        Box::pin(future)
    }
}

/// How a try ended without an error.
enum Tried {
    Finished(After),
    /// The response was given up for another try.
    Again,
}

/// Bounds the whole request, tries and waits included, from now on.
pub fn bound(exchange: &Exchange, client: &Client, routed: &Routed) {
    let by_service = routed.service().and_then(|service| service.timeouts.request);
    let by_route = routed.rule().request_timeout.or(by_service);
    let bound = match &exchange.call {
        Some(call) => call.bound(by_route, exchange.core.timers.lately()),
        None => by_route,
    };
    client.deadline.bound_request(bound);
}

/// Sends the request, which is bounded, to its service until a response is relayed or nothing more may be tried.
pub async fn forward<R: Room>(
    exchange: &Exchange,
    client: &mut Client,
    routed: Routed,
    upload: Upload,
) -> Result<After, Error> {
    let Some(service) = routed.service().cloned() else { return Err(Kind::NoService.into()) };
    let _place = match concurrency::enter(exchange, &service, routed.rule())? {
        Entry::None => None,
        Entry::Held(place) => Some(place),
        // Apart, since most requests wait for nobody.
        Entry::Wait(line) => Some(Box::pin(line.wait(client)).await?),
    };
    let trial = Trial::begin(exchange, &service, &routed)?;
    shadow::begin(exchange, client, &routed, upload);
    let (mut tries, replay) = (Tries::default(), Replay::default());
    let mut routed = Some(routed);
    loop {
        // Counted in flight until the next try: who asks for a retry is still one of those that the budget counts.
        let chosen =
            balance::choose(exchange, &service, &mut tries).inspect_err(|error| trial.given_up(error))?;
        exchange.facts.tries.set(tries.begin());
        let mut attempt = Attempt {
            exchange,
            service: &service,
            trial: &trial,
            upload,
            tries: &mut tries,
            replay: &replay,
            progress: Progress::default(),
            was_pooled: false,
        };
        let result = attempt.run::<R>(client, &mut routed, &chosen).await;
        let (was_pooled, upload_begun) = (attempt.was_pooled, attempt.progress.upload_begun.get());
        match result {
            Ok(Tried::Finished(after)) => return Ok(after),
            Ok(Tried::Again) => _ = exchange.core.timers.now(),
            Err(error) => {
                let failure = Failure {
                    error: &error,
                    method: exchange.head.method,
                    is_replayable: !upload_begun || replay.is_whole(),
                    was_pooled,
                    is_answered: exchange.facts.answered.get() || exchange.facts.informed.get(),
                    now: clock::millis(exchange.core.timers.lately()),
                };
                trial.failed(&chosen.endpoint, &error, tries.is_stale(&failure));
                match tries.again(&failure, chosen.endpoint.id, &service) {
                    Verdict::Again => {}
                    Verdict::OverBudget if Box::pin(tries.room(&service, &client.deadline)).await => {}
                    Verdict::OverBudget | Verdict::Over => {
                        trial.given_up(&error);
                        return Err(error);
                    }
                }
                exchange.core.timers.now();
            }
        }
    }
}

struct Attempt<'a> {
    exchange: &'a Exchange,
    service: &'a Arc<Service>,
    trial: &'a Trial<'a>,
    upload: Upload,
    tries: &'a mut Tries,
    replay: &'a Replay,
    progress: Progress,
    was_pooled: bool,
}

/// An endpoint's end of a try.
struct Way<'a> {
    /// The request's, if it is still to be sent.
    head: Option<Vec<u8>>,
    outgoing: Outgoing<'a>,
    source: Source<'a>,
}

impl Attempt<'_> {
    /// `routed` is taken once the response's head is relayed: a long stream keeps no snapshot.
    async fn run<R: Room>(
        &mut self,
        client: &mut Client,
        routed: &mut Option<Routed>,
        chosen: &Chosen,
    ) -> Result<Tried, Error> {
        let exchange = self.exchange;
        let Some(plan) = routed.as_ref() else { return Err(Kind::Internal.into()) };
        let bounds = Bounds {
            shared: plan.snapshot().bounds.clone(),
            upstream_timeouts: plan.rule().upstream_timeouts(&self.service.timeouts),
            body_bytes_max: plan.rule().body_bytes_max,
            message_bytes_max: plan.rule().message_bytes_max,
        };
        let fresh = self.tries.fresh_connection;
        let (upstream, was_pooled) =
            balance::connect(exchange, client, self.service, &chosen.endpoint, fresh).await?;
        self.was_pooled = was_pooled;
        match upstream {
            Upstream::Http1(reader) => R::of(self.over_http1(client, routed, &bounds, reader, chosen)).await,
            Upstream::Http2(link) => Box::pin(self.over_http2(client, routed, &bounds, &link, chosen)).await,
        }
    }

    /// On a connection that is this request's alone.
    async fn over_http1(
        &mut self,
        client: &mut Client,
        routed: &mut Option<Routed>,
        bounds: &Bounds,
        mut upstream: Reader,
        chosen: &Chosen,
    ) -> Result<Tried, Error> {
        let exchange = self.exchange;
        let Some(plan) = routed.as_ref() else { return Err(Kind::Internal.into()) };
        let mut head = exchange.core.take_scratch();
        // Before TLS it has gone already.
        if let (Some(version), false, None) =
            (self.service.proxy_protocol, self.was_pooled, &chosen.endpoint.tls)
        {
            proxy_header::announce(version, &exchange.client, client.end.socket(), &mut head)?;
        }
        exchange.call.iter().for_each(|call| call.goes_over(false));
        transform::request_head(exchange, plan, &mut head);
        if let Upload::Whole(length) = self.upload {
            client.end.copy_arrived(length, &mut head);
        }
        let stream = upstream.stream.clone();
        let outgoing = Outgoing::Http1(&stream);
        let way = Way { head: Some(head), outgoing, source: Source::Http1(&mut upstream) };
        let ended = self.converse(client, routed, bounds, way, chosen).await;
        match ended {
            Ok(Ended::Complete { upstream_reusable, after }) => {
                self.finish(client, upstream, upstream_reusable, &bounds.pool, chosen);
                Ok(Tried::Finished(after))
            }
            Ok(Ended::GivenUp) => Ok(Tried::Again),
            Ok(Ended::Switched) => {
                if let Upload::Whole(length) = self.upload {
                    client.end.consume(length);
                }
                Ok(Tried::Finished(open_tunnel(exchange, client, End::Http1(upstream), bounds).await))
            }
            Err(error) => {
                // The upstream learns at once that nobody waits any more.
                upstream.stream.shutdown_both();
                let endpoint = &chosen.endpoint;
                let (core, service) = (&exchange.core, &self.service.name);
                let error = balance::unless_refused(core, service, &endpoint.label, error, None);
                let _ = balance::note_connect_error(&exchange.core, endpoint, &error);
                Err(error)
            }
        }
    }

    /// On a stream of a connection that others use, too.
    async fn over_http2(
        &mut self,
        client: &mut Client,
        routed: &mut Option<Routed>,
        bounds: &Bounds,
        link: &Rc<http2::Shared>,
        chosen: &Chosen,
    ) -> Result<Tried, Error> {
        let exchange = self.exchange;
        let Some(plan) = routed.as_ref() else { return Err(Kind::Internal.into()) };
        if exchange.head.method == Method::Connect {
            return Err(Kind::MethodNotAllowed.into());
        }
        let protocol = transform::protocol_to_connect(exchange);
        if protocol.is_some() && !is_taken(client, link, bounds).await? {
            let why = "the endpoint takes no CONNECT with a protocol (RFC 8441)";
            return Err(Error::with_source(Kind::BadResponse, why));
        }
        exchange.call.iter().for_each(|call| call.goes_over(true));
        let mut head = exchange.core.take_scratch();
        transform::request_head(exchange, plan, &mut head);
        let stream = link.request(&head, protocol, self.upload == Upload::None && protocol.is_none());
        exchange.core.give_back_scratch(head);
        // It had room a moment ago.
        let stream = stream.ok_or(Kind::UpstreamClosed)?;
        let whole = self.begin_whole(client, bounds, &stream)?;
        let (deadline, first_byte) = (&client.deadline, bounds.upstream_timeouts.first_byte);
        match self.upload {
            Upload::Stream if exchange.head.expect_continue => {
                deadline.start(Kind::FirstByteTimeout, first_byte);
            }
            Upload::Stream => deadline.pause(),
            Upload::Whole(_) if whole.is_some() => deadline.pause(),
            Upload::Whole(_) | Upload::None => {
                self.progress.upload_done.set(true);
                deadline.start_lately(Kind::FirstByteTimeout, first_byte);
            }
        }
        self.progress.head_sent.set(true);
        let way = Way {
            head: None,
            outgoing: Outgoing::Http2(&stream, whole),
            source: Source::Http2(Answering { stream: &stream, heads: Vec::new() }),
        };
        match self.converse(client, routed, bounds, way, chosen).await {
            Ok(Ended::Complete { after, .. }) => {
                if let Upload::Whole(length) = self.upload {
                    client.end.consume(length);
                }
                Ok(Tried::Finished(after))
            }
            Ok(Ended::GivenUp) => Ok(Tried::Again),
            Ok(Ended::Switched) => {
                Ok(Tried::Finished(open_tunnel(exchange, client, End::Http2(stream), bounds).await))
            }
            Err(error) => {
                let is_late = matches!(error.kind, Kind::FirstByteTimeout | Kind::RequestTimeout);
                if is_late && !self.progress.head_received.get() {
                    stream.doubt();
                }
                let (core, service, label) = (&exchange.core, &self.service.name, &chosen.endpoint.label);
                let cause = stream.connection_error().filter(|_| error.kind == Kind::UpstreamClosed);
                Err(balance::unless_refused(core, service, label, error, cause.as_deref()))
            }
        }
    }

    /// Sends what can go at once of a body that is all there; what is left of it.
    fn begin_whole(
        &self,
        client: &Client,
        bounds: &Bounds,
        stream: &Http2Stream,
    ) -> Result<Option<Whole>, Error> {
        let Upload::Whole(length) = self.upload else { return Ok(None) };
        let bytes = client.end.taken(length);
        let is_chunked = self.exchange.head.framing == Framing::Chunked;
        let mut whole = Whole::of(bytes, is_chunked, bounds.chunk_limits);
        // What we ask ourselves is as large as it has to be.
        if let Some(call) = self.exchange.call.as_ref().filter(|_| self.exchange.role != Role::Question) {
            let mut intake = call.intake(bounds.body_bytes_max);
            let judged = intake.take(&whole.payload, true)?;
            // As it came, unless it came as text.
            if judged.as_ptr() != whole.payload.as_ptr() {
                whole.payload = Bytes::copy_from_slice(judged);
            }
        }
        Ok(whole.begin(stream))
    }

    /// Both directions of one try, side by side in this task.
    async fn converse(
        &mut self,
        client: &mut Client,
        routed: &mut Option<Routed>,
        bounds: &Bounds,
        way: Way<'_>,
        chosen: &Chosen,
    ) -> Result<Ended, Error> {
        let Way { head, outgoing, mut source } = way;
        let Self { exchange, service, trial, upload, tries, progress, replay, .. } = self;
        let Client { end, deadline, .. } = client;
        let outlet = end.outlet();
        let uplink =
            Uplink { exchange, progress, upload: *upload, bounds, replay, response_deadline: deadline };
        let downlink = Downlink {
            exchange,
            progress,
            upload: *upload,
            bounds,
            deadline,
            client: &outlet,
            started: exchange.core.timers.lately(),
        };
        let down = async {
            if let (Some(head), Outgoing::Http1(stream)) = (head, &outgoing) {
                send_head(stream, &head, deadline, &downlink).await?;
                // Not kept for the answer, which may take its time.
                exchange.core.give_back_scratch(head);
                progress.head_sent.set(true);
            }
            let head = downlink.receive_head(&mut source).await?;
            let is_replayable = !progress.upload_begun.get() || replay.is_whole();
            let (method, endpoint) = (exchange.head.method, chosen.endpoint.id);
            let call = exchange.call.as_ref();
            let status = call.and_then(|_| source.bare_status(&head));
            let is_unavailable = status == Some(UNAVAILABLE);
            let now = clock::millis(exchange.core.timers.lately());
            let is_given_up = tries.again_for_status(head.status, method, is_replayable, endpoint, service)
                || (is_unavailable && tries.again_for_unavailable(is_replayable, endpoint, service, now));
            let says_later = call.filter(|_| !is_given_up && source.says_at_its_end(&head));
            match says_later {
                Some(_) => trial.begins_to_answer(&chosen.endpoint),
                None => match status.and_then(grpc::Failure::of) {
                    Some(failure) if !is_given_up => trial.ended(&chosen.endpoint, Some(failure)),
                    failure => {
                        let is_bad = is_bad(head.status) || failure == Some(grpc::Failure::Server);
                        trial.answered(&chosen.endpoint, is_bad, !is_given_up);
                    }
                },
            }
            if is_given_up {
                return Ok(Ended::GivenUp);
            }
            tries.settle();
            replay.forget();
            let ended = relay::relay(&downlink, routed, &mut source, head).await;
            if let (Some(call), Ok(_)) = (says_later, &ended) {
                trial.ended(&chosen.endpoint, call.failure());
            }
            ended
        };
        supervised(pin!(down), pin!(uplink.run(end, &outgoing)), deadline).await
    }

    /// The response is complete: both connections may serve again, if nothing is left over on them.
    fn finish(
        &self,
        client: &mut Client,
        upstream: Reader,
        reusable: bool,
        pool: &PoolLimits,
        chosen: &Chosen,
    ) {
        if let Upload::Whole(length) = self.upload {
            client.end.consume(length);
        }
        let endpoint = chosen.endpoint.id;
        if !reusable || !upstream.bytes().is_empty() {
            upstream.stream.shutdown_both();
        } else if self.service.proxy_protocol.is_none() {
            let core = &self.exchange.core;
            core.pool.put(endpoint, upstream, pool, core.timers.lately());
        } else {
            let mut reader = upstream;
            let is_fit = reader.begin_idle();
            client.bound = is_fit.then(|| Box::new(Bound { endpoint, reader }));
        }
    }
}

async fn open_tunnel(exchange: &Exchange, client: &mut Client, upstream: End, bounds: &Bounds) -> After {
    let timeouts = &bounds.client_timeouts;
    let tunnel_bounds = tunnel::Bounds { idle: timeouts.tunnel, age: timeouts.tunnel_age };
    let is_websocket = transform::asks_for_websocket(exchange);
    Box::pin(tunnel::run(exchange, client, upstream, tunnel_bounds, is_websocket)).await
}

/// Whether the endpoint takes CONNECT with a protocol. It may have to say so first.
async fn is_taken(client: &mut Client, link: &http2::Shared, bounds: &Bounds) -> Result<bool, Error> {
    let Client { end, deadline, .. } = client;
    deadline.start(Kind::FirstByteTimeout, bounds.upstream_timeouts.first_byte);
    let said = async { link.takes_protocols().await.ok_or_else(|| Kind::UpstreamClosed.into()) };
    end.unless_gone(pin!(said), deadline).await
}

/// Sends the head, with a whole body behind it. Tells apart whether a byte may have reached the upstream.
async fn send_head(
    upstream: &Stream,
    bytes: &[u8],
    deadline: &Deadline,
    downlink: &Downlink<'_>,
) -> Result<(), Error> {
    let first = match upstream.try_write(bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
        Err(error) => {
            let error = Error::with_source(Kind::UpstreamClosed, error);
            // Of what is encrypted, a part may have gone before the rest could not.
            return Err(if upstream.is_plain() { error } else { error.after_sending() });
        }
    };
    if first < bytes.len() {
        let restart = || deadline.start(Kind::ResponseTimeout, downlink.bounds.upstream_timeouts.idle);
        restart();
        let sent = Box::pin(write_all(upstream, &bytes[first..], restart)).await;
        sent.map_err(|error| Error::with_source(Kind::UpstreamClosed, error).after_sending())?;
        // A wait: the clock of the next phase starts now.
        downlink.exchange.core.timers.now();
    }
    match downlink.upload {
        // The client waits for the upstream's 100, and so do we.
        Upload::Stream if downlink.exchange.head.expect_continue => {
            deadline.start(Kind::FirstByteTimeout, downlink.bounds.upstream_timeouts.first_byte);
        }
        Upload::Stream => deadline.pause(),
        _ => {
            downlink.progress.upload_done.set(true);
            deadline.start_lately(Kind::FirstByteTimeout, downlink.bounds.upstream_timeouts.first_byte);
        }
    }
    Ok(())
}
