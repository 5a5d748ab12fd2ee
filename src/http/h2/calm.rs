//! Owns the count of what a peer sends that serves nobody: pings, settings, empty frames, streams that are cancelled as soon
//! as they are opened. Each is cheap alone; without a bound they cost whatever the peer likes. Ends nothing itself.

use std::time::{Duration, Instant};

/// Counts are of this long.
const SPAN: Duration = Duration::from_secs(10);
/// Frames in a span that serve nobody, beyond those that go with useful ones.
const USELESS_MAX: u32 = 2_000;
/// An honest long download has so many WINDOW_UPDATEs for each of our DATA frames, and a few pings.
const USELESS_PER_USEFUL: u32 = 4;
/// Streams in a span that ended by an RST_STREAM of the peer, or of ours for what the peer did, beyond as many that ended well.
const RESETS_MAX: u32 = 100;

#[derive(Debug)]
pub struct Calm {
    began: Instant,
    useless: u32,
    useful: u32,
    resets: u32,
    completed: u32,
}

impl Calm {
    pub fn new(now: Instant) -> Calm {
        Calm { began: now, useless: 0, useful: 0, resets: 0, completed: 0 }
    }

    /// Old counts are forgotten.
    pub fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= SPAN {
            *self = Calm::new(now);
        }
    }

    /// A DATA or HEADERS frame of either side that carried something.
    pub fn useful(&mut self) {
        self.useful = self.useful.saturating_add(1);
    }

    pub fn completed(&mut self) {
        self.completed = self.completed.saturating_add(1);
    }

    /// False once there are too many.
    pub fn allows_useless(&mut self) -> bool {
        self.useless = self.useless.saturating_add(1);
        self.useless <= USELESS_MAX.saturating_add(self.useful.saturating_mul(USELESS_PER_USEFUL))
    }

    /// False once there are too many.
    pub fn allows_reset(&mut self) -> bool {
        self.resets = self.resets.saturating_add(1);
        self.resets <= RESETS_MAX.saturating_add(self.completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_are_seen_and_honest_use_is_not() {
        let now = Instant::now();
        let mut calm = Calm::new(now);
        assert_eq!((0..5_000).take_while(|_| calm.allows_useless()).count(), USELESS_MAX as usize);
        calm.turn(now + SPAN);
        for _ in 0..100_000 {
            calm.useful();
            assert!(calm.allows_useless() && calm.allows_useless());
        }
        assert_eq!((0..500).take_while(|_| calm.allows_reset()).count(), RESETS_MAX as usize);
        calm.turn(now + SPAN + SPAN);
        for _ in 0..10_000 {
            calm.completed();
            assert!(calm.allows_reset());
        }
    }
}
