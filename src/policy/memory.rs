//! Owns how many bytes something may hold at once, over all cores: each holder has a part, which it widens as it needs more and gives
//! back when it is dropped. Allocates nothing itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What is held now.
#[derive(Debug, Default)]
pub struct Envelope(AtomicU64);

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// Others have it.
    Now,
    /// It is more than there is at all.
    Ever,
}

/// One holder's part.
#[derive(Debug)]
pub struct Part {
    envelope: Arc<Envelope>,
    bytes: u64,
    bytes_max: u64,
}

impl Envelope {
    pub fn held(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// `bytes_max`: of all parts. It may be another one for the next, which holds from then on.
    pub fn part(self: &Arc<Self>, bytes_max: u64) -> Part {
        Part { envelope: self.clone(), bytes: 0, bytes_max }
    }
}

impl Part {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From now on it is of at most so many bytes.
    pub fn narrow(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.envelope.0.fetch_sub(less, Relaxed);
        self.bytes -= less;
    }

    /// From now on it is of at least so many bytes, or as it was.
    pub fn widen(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if bytes > self.bytes_max {
            return Err(NoRoom::Ever);
        }
        let more = bytes.saturating_sub(self.bytes);
        // A count by itself, which publishes no other memory.
        let fits = |held: u64| held.checked_add(more).filter(|&held| held <= self.bytes_max);
        if more > 0 && self.envelope.0.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return Err(NoRoom::Now);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.envelope.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_hold_more_than_there_is_and_give_back_all() {
        let envelope = Arc::new(Envelope::default());
        let (mut one, mut other) = (envelope.part(100), envelope.part(100));
        assert_eq!(one.widen(60), Ok(()));
        assert_eq!(one.widen(10), Ok(()), "it has more");
        assert_eq!(other.widen(41), Err(NoRoom::Now));
        assert_eq!(other.widen(101), Err(NoRoom::Ever));
        assert_eq!(other.widen(40), Ok(()));
        assert_eq!(one.widen(61), Err(NoRoom::Now));
        assert_eq!((one.bytes(), other.bytes(), envelope.held()), (60, 40, 100));
        drop(one);
        assert_eq!(other.widen(100), Ok(()));
        other.narrow(30);
        other.narrow(70);
        assert_eq!((other.bytes(), envelope.held()), (30, 30));
        drop(other);
        assert_eq!(envelope.held(), 0);
    }

    #[test]
    fn however_many_widen_at_once_nothing_is_lost() {
        let envelope = Arc::new(Envelope::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..10_000u64 {
                        let mut part = envelope.part(1000);
                        let _ = part.widen(round % 700);
                        assert!(envelope.held() <= 1000);
                        let _ = part.widen(round % 1000);
                    }
                });
            }
        });
        assert_eq!(envelope.held(), 0);
    }
}
