//! Owns a response's body on its way from an HTTP/2 endpoint: pieces as they come, framed for who gets them, and the windows
//! opened as those take them.

use std::future::poll_fn;

use crate::error::{Error, Kind};
use crate::http::grpc::TooLarge;
use crate::http::head::Framing;

use super::super::grpc::{Call, Reset};
use super::super::http2::{Failure, Http2Stream, Input};
use super::super::transform::Answer;
use super::super::turn::Turn;
use super::{Body, Source};

impl Source<'_> {
    /// Of an answer that has come to its end, without trailers, how many bytes it has.
    pub(super) fn length_at_hand(&self) -> Option<u64> {
        match self {
            Source::Http2(answering) => match answering.stream.arrived() {
                (count, true) => Some(count as u64),
                _ => None,
            },
            Source::Http1(_) => None,
        }
    }
}

impl Body<'_, '_> {
    pub(super) async fn of_stream(
        &mut self,
        stream: &Http2Stream,
        framing: Framing,
        answer: &Answer,
    ) -> Result<(), Error> {
        if framing == Framing::None {
            return self.send(&[], !answer.switched).await;
        }
        let exchange = self.link.exchange;
        let mut messages =
            exchange.call.as_ref().and_then(|call| call.answer(self.link.bounds.message_bytes_max));
        let form = exchange.call.as_ref().and_then(Call::translated).filter(|_| framing == Framing::Chunked);
        let mut written = Vec::new();
        let encodes = framing == Framing::Chunked && !answer.decodes_chunks;
        let mut turn = Turn::default();
        loop {
            let input = match stream.input_now() {
                Some(input) => input,
                None => Box::pin(self.more_of_stream(stream, &mut turn)).await?,
            };
            let piece = match input {
                Input::Piece(piece) => piece,
                Input::End(trailers) => {
                    exchange.call.iter().for_each(|call| call.has_ended(&trailers));
                    let Some(form) = form else { return self.end(&trailers, encodes).await };
                    written.clear();
                    form.write_trailers(&trailers, &mut written);
                    return self.piece(&written, encodes, true).await;
                }
                Input::Gone => {
                    let kind = Kind::ResponseTruncated;
                    return Err(match stream.failure() {
                        Failure::Reset(code) => Error::with_source(kind, Reset(code)),
                        _ => kind.into(),
                    });
                }
            };
            let (bytes, is_last) = (piece.filled(), stream.arrived() == (0, true));
            if let Some(messages) = &mut messages {
                messages.see(bytes).map_err(|TooLarge| Kind::MessageTooLarge)?;
            }
            match form {
                None => self.piece(bytes, encodes, is_last).await?,
                Some(form) => {
                    written.clear();
                    form.write(bytes, &mut written);
                    self.piece(&written, encodes, is_last).await?;
                }
            }
            self.link.sent(bytes.len() as u64);
            stream.credit(bytes.len());
            if is_last {
                return Ok(());
            }
            turn.moved(bytes.len());
            turn.end_if_over(&exchange.core.turns).await;
        }
    }

    /// Waits for more. What there is of the answer leaves first.
    async fn more_of_stream(&mut self, stream: &Http2Stream, turn: &mut Turn) -> Result<Input, Error> {
        if !self.head.is_empty() {
            self.send(&[], false).await?;
        }
        self.let_go_of_plan();
        self.link.upstream_is_silent();
        let progress = self.link.progress;
        progress.receiving.set(true);
        let input = poll_fn(|context| {
            let input = stream.poll_input(context);
            turn.saw_wait(input.is_pending());
            input
        })
        .await;
        progress.receiving.set(false);
        Ok(input)
    }

    async fn end(&mut self, trailers: &[u8], encodes: bool) -> Result<(), Error> {
        if encodes {
            self.head.extend_from_slice(b"0\r\n");
            self.head.extend_from_slice(trailers);
            self.head.extend_from_slice(b"\r\n");
        }
        self.send(&[], encodes || trailers.is_empty()).await?;
        if !encodes {
            self.link.client.end_with(trailers);
        }
        Ok(())
    }

    async fn piece(&mut self, bytes: &[u8], encodes: bool, is_last: bool) -> Result<(), Error> {
        if !encodes {
            return self.send(bytes, is_last).await;
        }
        self.chunk(bytes, is_last);
        self.send(&[], is_last).await
    }

    fn chunk(&mut self, bytes: &[u8], is_last: bool) {
        self.head.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        self.head.extend_from_slice(bytes);
        self.head.extend_from_slice(if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
    }
}
