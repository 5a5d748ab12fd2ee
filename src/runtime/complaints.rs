//! Owns what a worker says on standard error about faults that come with traffic: one line now and then, however many they
//! are. Counts are for metrics.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A pipe that takes anything takes so much at once (PIPE_BUF, pipe(7)).
const LINE_BYTES_MAX: usize = 4096;
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

/// Whether it was taken. Waits for nobody: a worker must not stand still because the reader of its words does.
fn try_write(to: impl AsFd, line: &str) -> bool {
    let mut looked = [PollFd::new(&to, PollFlags::OUT)];
    let takes_it = matches!(poll(&mut looked, Some(&Timespec::default())), Ok(1))
        && looked[0].revents().contains(PollFlags::OUT);
    let line = &line.as_bytes()[..line.len().min(LINE_BYTES_MAX)];
    takes_it && rustix::io::write(&to, line).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_reader_that_is_stuck_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let line = "x".repeat(5_000);
        let taken = (0..1_000).take_while(|_| try_write(&writer, &line)).count();
        assert_eq!(taken * LINE_BYTES_MAX, 64 * 1024, "as much as a pipe holds");
        reader.read_exact(&mut [0; LINE_BYTES_MAX]).unwrap();
        assert!(try_write(&writer, "again"));
        drop(reader);
        assert!(!try_write(&writer, "nobody"), "nor does one that has gone");
    }

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
