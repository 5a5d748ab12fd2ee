//! Owns shadow traffic: some of a route's requests go to another service, too, whose answers nobody gets. Such a shadow is a request of
//! its own, sent once all of the body is there: whatever becomes of it, the client has its answer as if there were none.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::config::snapshot::ServiceId;
use crate::http::head::{Framing, Method};
use crate::runtime::core::Core;
use crate::runtime::panics::contain;

use super::body::Upload;
use super::client::Client;
use super::deadline::Deadline;
use super::end::{End, Own};
use super::exchange::{Exchange, Role};
use super::forward::{self, Apart};
use super::grpc;
use super::injection::is_drawn;
use super::routed::Routed;
use super::transform;

/// `shadow` of a route.
#[derive(Debug)]
pub struct Shadow {
    pub to: ServiceId,
    /// How many requests, in millionths.
    pub share: u32,
    /// A request with a larger body has none.
    pub body_bytes_max: u64,
    /// For all of it.
    pub timeout: Duration,
}

/// Those of one core, under way or in the making.
#[derive(Debug, Default)]
pub struct Shadows {
    count: Cell<usize>,
    /// Of their bodies.
    bytes: Cell<usize>,
}

/// Of one core; as long as there are as many, requests have none.
const SHADOWS_MAX: usize = 256;
const SHADOW_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a request that was to have a shadow has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Its body is too large.
    TooLarge,
    /// There are as many as there may be.
    Busy,
}

/// A shadow before it is sent.
pub struct Making {
    routed: Routed,
    /// Without framing.
    body: Vec<u8>,
    body_bytes_max: u64,
    timeout: Duration,
    place: Place,
}

/// Draws whether the request has a shadow. If all of the body is there it is sent at once; else it is made as the body passes.
pub fn begin(exchange: &Exchange, client: &Client, routed: &Routed, upload: Upload) {
    let Some(shadow) = &routed.rule().shadow else { return };
    // A tunnel has none.
    let is_plain = exchange.head.method != Method::Connect && !transform::asks_for_upgrade(exchange);
    if exchange.role != Role::Client || !is_plain || !is_drawn(exchange, routed, shadow.share) {
        return;
    }
    let known = match (upload, exchange.head.framing) {
        (Upload::Whole(length), _) => length as u64,
        (Upload::Stream, Framing::Length(length)) => length,
        _ => 0,
    };
    match Making::of(exchange, routed, shadow, known) {
        Err(skipped) => exchange.core.metrics.shadow_skipped(skipped),
        Ok(making) if upload == Upload::Stream => {
            *exchange.shadow.borrow_mut() = Some(Box::new(making));
        }
        Ok(mut making) => {
            if let Upload::Whole(length) = upload {
                client.end.copy_arrived(length, &mut making.body);
                // A stream that is reset meanwhile has nothing left.
                if making.body.len() != length {
                    return;
                }
            }
            making.send(exchange, upload);
        }
    }
}

/// The next piece of a body whose request is to have a shadow. `is_last`: nothing follows it.
pub fn take(exchange: &Exchange, piece: &[u8], is_last: bool) {
    let mut slot = exchange.shadow.borrow_mut();
    let Some(making) = slot.as_mut() else { return };
    let taken = making.take(piece);
    if taken.is_ok() && !is_last {
        return;
    }
    let Some(making) = slot.take() else { return };
    match taken {
        Ok(()) => making.send_whole(exchange),
        Err(skipped) => exchange.core.metrics.shadow_skipped(skipped),
    }
}

impl Making {
    /// `known`: of its body, the bytes that there will be.
    fn of(exchange: &Exchange, routed: &Routed, shadow: &Shadow, known: u64) -> Result<Making, Skipped> {
        if known > shadow.body_bytes_max {
            return Err(Skipped::TooLarge);
        }
        let place = Place::take(&exchange.core, known as usize)?;
        let (body_bytes_max, timeout) = (shadow.body_bytes_max, shadow.timeout);
        Ok(Making { routed: routed.towards(shadow.to), body: Vec::new(), body_bytes_max, timeout, place })
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Skipped> {
        let length = self.body.len() + piece.len();
        if length as u64 > self.body_bytes_max {
            return Err(Skipped::TooLarge);
        }
        self.place.widen(length)?;
        self.body.extend_from_slice(piece);
        Ok(())
    }

    /// All of the body is there.
    fn send_whole(mut self, exchange: &Exchange) {
        if exchange.head.framing == Framing::Chunked {
            self.body = one_chunk(&self.body);
        }
        let upload = Upload::Whole(self.body.len());
        self.send(exchange, upload);
    }

    /// `upload`: what of the body there is, in the framing that the head tells of.
    fn send(self, exchange: &Exchange, upload: Upload) {
        let shadow = exchange.shadow(&self.routed);
        monoio::spawn(async move {
            let core = shadow.core.clone();
            if let Err(message) = contain(self.run(shadow, upload)).await {
                core.metrics.panicked();
                core.complaints.say(core.timers.lately(), || format!("a shadow's task panicked: {message}"));
            }
        });
    }

    async fn run(self, mut exchange: Exchange, upload: Upload) {
        let Making { routed, body, timeout, place, .. } = self;
        // Its original has been found to be well, or it would not be here.
        let _ = grpc::recognise(&mut exchange);
        let deadline = Deadline::new(exchange.core.timers.timer());
        let info = exchange.client.clone();
        exchange.facts.request_bytes.set(body.len() as u64);
        let mut client =
            Client { end: End::Own(Own { body: body.into(), answer: None }), deadline, info, bound: None };
        exchange.core.timers.now();
        client.deadline.bound_request(Some(timeout));
        if let Err(error) = forward::forward::<Apart>(&exchange, &mut client, routed, upload).await {
            exchange.facts.error.set(Some(error.kind));
            exchange.facts.status.set(error.status());
        }
        drop(place);
    }
}

/// A whole body in chunks (RFC 9112 §7.1).
fn one_chunk(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 32);
    if !body.is_empty() {
        framed.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        framed.extend_from_slice(body);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

/// One shadow's part of what a core may have of them.
struct Place {
    core: Rc<Core>,
    bytes: usize,
}

impl Place {
    fn take(core: &Rc<Core>, bytes: usize) -> Result<Place, Skipped> {
        let shadows = &core.shadows;
        if shadows.count.get() == SHADOWS_MAX || shadows.bytes.get() + bytes > SHADOW_BYTES_MAX {
            return Err(Skipped::Busy);
        }
        shadows.count.set(shadows.count.get() + 1);
        shadows.bytes.set(shadows.bytes.get() + bytes);
        Ok(Place { core: core.clone(), bytes })
    }

    /// So many bytes in all, or as many as before.
    fn widen(&mut self, bytes: usize) -> Result<(), Skipped> {
        let more = bytes.saturating_sub(self.bytes);
        let all = &self.core.shadows.bytes;
        if all.get() + more > SHADOW_BYTES_MAX {
            return Err(Skipped::Busy);
        }
        all.set(all.get() + more);
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shadows = &self.core.shadows;
        shadows.count.set(shadows.count.get() - 1);
        shadows.bytes.set(shadows.bytes.get() - self.bytes);
    }
}
