//! Owns what a worker says on standard error about faults that come with traffic: one line now and then, however many they
//! are. Counts are for metrics; what happens seldom and matters is an event (`observe::events`).

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use crate::observe::stderr::try_write;

const APART: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Complaints {
    next: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Complaints {
    /// Says it, or keeps silent about one more.
    pub fn say(&self, now: Instant, what: impl FnOnce() -> String) {
        if let Some(line) = self.line(now, what)
            && !try_write(io::stderr(), &format!("tidegate: {line}\n"))
        {
            self.unsaid.set(self.unsaid.get() + 1);
        }
    }

    fn line(&self, now: Instant, what: impl FnOnce() -> String) -> Option<String> {
        if self.next.get().is_some_and(|next| now < next) {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.next.set(Some(now + APART));
        let what = what();
        Some(match self.unsaid.take() {
            0 => what,
            unsaid => format!("{what} (and {unsaid} more since the last line)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_counts_the_others() {
        let complaints = Complaints::default();
        let begin = Instant::now();
        let line = |seconds| complaints.line(begin + Duration::from_secs(seconds), || "no".to_owned());
        assert_eq!(line(0).as_deref(), Some("no"));
        assert_eq!((line(1), line(9)), (None, None));
        assert_eq!(line(10).as_deref(), Some("no (and 2 more since the last line)"));
        assert_eq!(line(20).as_deref(), Some("no"));
    }
}
