//! Owns what one direction of a connection moves in a row, and its end: after so much without a wait, others are to
//! have their turn. A direction that waits for its sender gives way by that. Moves nothing itself.

use std::future::poll_fn;
use std::io;

use crate::http::h1_conn::Reader;
use crate::runtime::turns::Turns;

const TURN_PIECES: u32 = 16;

/// What a direction moved without a wait.
#[derive(Default)]
pub struct Turn {
    bytes: usize,
    pieces: u32,
}

impl Turn {
    /// The driver has been asked whenever the direction had to wait.
    pub fn saw_wait(&mut self, waited: bool) {
        if waited {
            *self = Turn::default();
        }
    }

    /// A piece was moved.
    pub fn moved(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.pieces += 1;
    }

    /// Lets others have their turn if this one is over.
    pub async fn end_if_over(&mut self, turns: &Turns) {
        if self.is_over(turns) {
            turns.end_turn();
            turns.give_way().await;
            *self = Turn::default();
        }
    }

    /// Waits for input without taking it.
    pub async fn readable(&mut self, from: &mut Reader) {
        poll_fn(|context| {
            let readable = from.poll_input(context);
            self.saw_wait(readable.is_pending());
            readable
        })
        .await;
    }

    /// Receives once, at most `most` bytes. Who fills its buffer gets a large one for what follows.
    pub async fn fill(&mut self, from: &mut Reader, most: usize) -> io::Result<usize> {
        let filled = poll_fn(|context| {
            let filled = from.poll_fill_at_most(context, most);
            self.saw_wait(filled.is_pending());
            filled
        });
        let count = filled.await?;
        self.moved(count);
        if from.is_full() {
            from.prefer_large(true);
        }
        Ok(count)
    }

    fn is_over(&self, turns: &Turns) -> bool {
        self.bytes >= turns.turn_bytes() || self.pieces >= TURN_PIECES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_bounded_by_bytes_and_by_pieces_and_begins_anew_after_a_wait() {
        let turns = &Turns::new().unwrap();
        let mut turn = Turn::default();
        turn.moved(turns.turn_bytes());
        assert!(turn.is_over(turns));
        let mut turn = Turn::default();
        for _ in 0..10 * TURN_PIECES {
            turn.saw_wait(true);
            turn.moved(1);
            assert!(!turn.is_over(turns));
            turn.saw_wait(false);
        }
        for _ in 1..TURN_PIECES {
            turn.moved(1);
        }
        assert!(turn.is_over(turns));
    }

    #[test]
    fn beside_small_requests_turns_are_short_for_a_while() {
        let turns = Turns::new().unwrap();
        let alone = turns.turn_bytes();
        turns.saw_small_request();
        let beside = turns.turn_bytes();
        assert!(beside < alone);
        let short = (0..10_000).take_while(|_| {
            turns.end_turn();
            turns.turn_bytes() == beside
        });
        assert!((100..10_000).contains(&short.count()));
        assert_eq!(turns.turn_bytes(), alone);
    }
}
