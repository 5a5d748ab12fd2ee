//! Owns the life of one request on a stream: its head becomes an exchange, which the pipeline handles. Judges no request.

use std::rc::Rc;

use crate::error::{Error, Kind};
use crate::http::h1_parse::{self, Progress};
use crate::http::h2::conn::Opened;
use crate::http::h2::frame::Code;
use crate::http::head::Method;
use crate::http::websocket;
use crate::runtime::buffer::Buffer;
use crate::runtime::panics::contain;

use super::super::client::{After, Client, head_error};
use super::super::deadline::Deadline;
use super::super::end::End;
use super::super::exchange::{ClientInfo, Exchange};
use super::super::forward::Apart;
use super::super::{pipeline, problem};
use super::Http2Stream;

/// How a request's text ends whose content has no length yet.
const UNTOLD_LENGTH: &[u8] = b"\r\ntransfer-encoding: chunked\r\n\r\n";

/// Serves the stream; a panic ends it alone.
pub async fn contained(stream: Rc<Http2Stream>, info: Rc<ClientInfo>, opened: Opened) {
    let core = stream.shared.core.clone();
    if let Err(message) = contain(serve(stream, info, opened)).await {
        core.metrics.panicked();
        core.complaints.say(core.timers.lately(), || format!("a stream's task panicked: {message}"));
    }
}

async fn serve(stream: Rc<Http2Stream>, info: Rc<ClientInfo>, opened: Opened) {
    let core = stream.shared.core.clone();
    let deadline = Deadline::new(core.timers.timer());
    let snapshot = core.snapshot();
    let mut exchange = Exchange::new(core.clone(), info.clone(), snapshot.clone());
    exchange.is_http2 = true;
    let read = match opened {
        _ if core.buffers.is_exhausted() => Err(Kind::NoBuffers.into()),
        Opened::TooLarge => Err(Kind::HeadTooLarge.into()),
        Opened::Head(text) => read_head(&stream, &mut exchange, text),
    };
    drop(snapshot);
    if exchange.is_extended_connect() {
        exchange.websocket_key = websocket::key();
    }
    if exchange.head.method == Method::Connect && read.is_ok() {
        stream.ends_with(Code::Http11Required);
        return;
    }
    let mut client = Client { end: End::Http2(stream.clone()), deadline, info, bound: None };
    let after = match read {
        Ok(()) => pipeline::handle::<Apart>(&mut exchange, &mut client).await,
        Err(error) => problem::answer(&exchange, &mut client, error).await,
    };
    if after != After::Abort {
        stream.ends_with(Code::NoError);
    }
}

fn read_head(stream: &Http2Stream, exchange: &mut Exchange, mut text: Buffer) -> Result<(), Error> {
    // All of it is here: its length can be told after all.
    if let (length, true) = stream.arrived()
        && text.filled().ends_with(UNTOLD_LENGTH)
    {
        text.truncate(text.len() - UNTOLD_LENGTH.len());
        text.append(format!("\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    }
    let limits = exchange.snapshot().map(|snapshot| snapshot.settings.head_limits).unwrap_or_default();
    let parsed =
        h1_parse::parse_request(text.filled(), &mut Progress::default(), &limits, &mut exchange.head);
    match parsed {
        Ok(true) => {
            exchange.set_bytes(text);
            Ok(())
        }
        // The text is whole: it can only have been too long.
        Ok(false) => {
            exchange.forget_head();
            Err(Kind::HeadTooLarge.into())
        }
        Err(error) => {
            exchange.forget_head();
            Err(head_error(error))
        }
    }
}
