//! Owns the bytes of a connection, both ways in one task, each direction with its own end: half-close is kept, a
//! reset ends both. Small messages go through a pooled buffer; a direction that keeps filling large ones goes on
//! by splice(2). A direction that waits holds neither buffer nor pipe. Opens no connection.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use crate::config::snapshot::SplicePolicy;
use crate::error::{Error, Kind};
use crate::http::h1_conn::{Reader, write_all};
use crate::net::tcp::Stream;
use crate::runtime::buffer::LARGE_BUFFER_BYTES;
use crate::runtime::core::Core;

use super::super::deadline::{Deadline, bounded};
use super::super::splice::{self, Course};
use super::super::turn::Turn;
use super::super::ways::{Broken, Ends, Failed, both};
use super::observed::Observed;

/// What a connection keeps of the configuration that it began under.
pub struct Bounds {
    pub idle_timeout: Duration,
    pub splice: SplicePolicy,
}

/// Passes bytes on until both sides have ended. The error says which side failed.
pub async fn run(
    client: &mut Reader,
    upstream: &mut Reader,
    deadline: &Deadline,
    bounds: &Bounds,
    observed: &Observed,
) -> Result<(), Error> {
    let core = &*observed.core;
    let (client_stream, upstream_stream) = (client.stream.clone(), upstream.stream.clone());
    let (received, sent) = (|bytes| observed.received(bytes), |bytes| observed.sent(bytes));
    let broken = Broken::default();
    let (ends_up, ends_down) = broken.ends();
    let (from, to) = (Kind::ClientClosed, Kind::UpstreamClosed);
    let up = Way { core, deadline, bounds, from, to, ends: ends_up, moved: received };
    let down = Way { core, deadline, bounds, from: to, to: from, ends: ends_down, moved: sent };
    up.restart_clock();
    let going_up = pin!(up.pump(client, &upstream_stream));
    let going_down = pin!(down.pump(upstream, &client_stream));
    bounded(pin!(both(going_up, going_down)), deadline).await
}

/// One direction.
struct Way<'a, M: Fn(u64)> {
    core: &'a Core,
    deadline: &'a Deadline,
    bounds: &'a Bounds,
    /// Whose failure it is when reading fails, and when writing does.
    from: Kind,
    to: Kind,
    ends: Ends<'a>,
    moved: M,
}

/// What became of one piece.
enum Piece {
    Moved(usize),
    /// The sender's FIN.
    End,
    /// Nothing was there after all, or no pipe was to be had.
    Nothing,
}

impl<M: Fn(u64)> Way<'_, M> {
    /// Moves bytes until the sender's FIN, which is passed on.
    async fn pump(&self, from: &mut Reader, to: &Stream) -> Result<(), Failed<Error>> {
        let may_splice = from.stream.may_splice_to(to);
        let mut pace = Pace::default();
        let mut turn = Turn::default();
        loop {
            let splices = pace.is_splicing;
            let piece = match splices {
                true => self.splice(from, to, &mut turn, &mut pace).await?,
                false => self.copy(from, to, &mut turn).await?,
            };
            match piece {
                Piece::End if !self.ends.is_end(&from.stream) => {
                    return Err(Failed::Reading(self.from.into()));
                }
                Piece::End => {
                    to.say_end().await;
                    to.shutdown_write();
                    return Ok(());
                }
                Piece::Nothing => {}
                Piece::Moved(bytes) => {
                    if may_splice {
                        pace.saw(bytes, self.bounds.splice);
                    }
                    turn.end_if_over(&self.core.turns).await;
                }
            }
        }
    }

    async fn copy(&self, from: &mut Reader, to: &Stream, turn: &mut Turn) -> Result<Piece, Failed<Error>> {
        // Bytes behind a PROXY header are here already.
        if from.bytes().is_empty() {
            let filled = turn.fill(from, usize::MAX).await;
            if filled.map_err(|error| self.sender_failed(error))? == 0 {
                return Ok(Piece::End);
            }
        }
        let count = from.bytes().len();
        let sent = write_all(to, from.bytes(), || self.restart_clock()).await;
        sent.map_err(|error| self.receiver_failed(error))?;
        from.consume(count);
        self.moved(count as u64);
        Ok(Piece::Moved(count))
    }

    async fn splice(
        &self,
        from: &mut Reader,
        to: &Stream,
        turn: &mut Turn,
        pace: &mut Pace,
    ) -> Result<Piece, Failed<Error>> {
        turn.readable(from).await;
        let Some(mut pipe) = self.core.pipes.take(self.bounds.splice.pipes_max) else {
            pace.copy_again();
            return Ok(Piece::Nothing);
        };
        match from.splice_into(&mut pipe, self.core.turns.turn_bytes() as u64) {
            Ok(0) => Ok(Piece::End),
            Ok(count) => {
                let drained = splice::drain(&mut pipe, to, self).await;
                drained.map_err(|error| self.receiver_failed(error))?;
                self.core.metrics.spliced(count as u64);
                turn.moved(count);
                Ok(Piece::Moved(count))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Piece::Nothing)
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                pace.copy_again();
                Ok(Piece::Nothing)
            }
            Err(error) => Err(self.sender_failed(error)),
        }
    }

    fn restart_clock(&self) {
        self.deadline.start(Kind::IdleTimeout, self.bounds.idle_timeout);
    }

    fn sender_failed(&self, error: io::Error) -> Failed<Error> {
        Failed::Reading(Error::with_source(self.from, error))
    }

    fn receiver_failed(&self, error: io::Error) -> Failed<Error> {
        self.ends.receiver_broke();
        Failed::Writing(Error::with_source(self.to, error))
    }
}

impl<M: Fn(u64)> Course for Way<'_, M> {
    fn awaits_sender(&self) {}

    fn awaits_receiver(&self) {
        self.restart_clock();
    }

    fn moved(&self, bytes: u64) {
        (self.moved)(bytes);
        self.restart_clock();
    }
}

/// How a direction moves bytes, by what its last pieces were.
///
/// ```text
/// copying ── full large buffers, `FULL_BUFFERS` in a row ──▶ splicing
/// copying ◀── small pieces, `SMALL_PIECES` in a row ──────── splicing
/// ```
#[derive(Default)]
struct Pace {
    is_splicing: bool,
    /// Pieces in a row that speak for the other way.
    streak: u32,
}

impl Pace {
    fn saw(&mut self, bytes: usize, policy: SplicePolicy) {
        let (speaks_for_change, needed) = match self.is_splicing {
            true => (bytes < LARGE_BUFFER_BYTES, SMALL_PIECES),
            false => (bytes >= LARGE_BUFFER_BYTES && policy.bytes_min < u64::MAX, FULL_BUFFERS),
        };
        self.streak = if speaks_for_change { self.streak + 1 } else { 0 };
        if self.streak >= needed {
            *self = Pace { is_splicing: !self.is_splicing, streak: 0 };
        }
    }

    fn copy_again(&mut self) {
        *self = Pace::default();
    }
}

const FULL_BUFFERS: u32 = 2;
/// More than one, since a fast receiver now and then meets the sender in the middle of a piece.
const SMALL_PIECES: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: SplicePolicy = SplicePolicy { bytes_min: 0, pipes_max: 1 };

    #[test]
    fn only_full_large_buffers_in_a_row_lead_to_splicing_and_small_pieces_back() {
        let mut pace = Pace::default();
        for bytes in [LARGE_BUFFER_BYTES, LARGE_BUFFER_BYTES - 1, LARGE_BUFFER_BYTES] {
            pace.saw(bytes, ALWAYS);
            assert!(!pace.is_splicing);
        }
        pace.saw(LARGE_BUFFER_BYTES, ALWAYS);
        assert!(pace.is_splicing);
        for _ in 1..SMALL_PIECES {
            pace.saw(1, ALWAYS);
        }
        pace.saw(LARGE_BUFFER_BYTES, ALWAYS);
        for _ in 1..SMALL_PIECES {
            pace.saw(1, ALWAYS);
            assert!(pace.is_splicing);
        }
        pace.saw(1, ALWAYS);
        assert!(!pace.is_splicing);
    }

    #[test]
    fn splicing_that_is_off_stays_off() {
        let off = SplicePolicy { bytes_min: u64::MAX, pipes_max: 1 };
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.saw(LARGE_BUFFER_BYTES, off);
        }
        assert!(!pace.is_splicing);
    }
}
