//! Owns writing to standard error without standing still for whoever reads it. Decides nothing about what is said.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

/// A pipe that takes anything takes so much at once (PIPE_BUF, pipe(7)).
const PIECE_BYTES_MAX: usize = 4096;

/// Of two who see room for one, the second would stand still in write(2).
static TURN: Mutex<()> = Mutex::new(());

/// Whether it was taken; what is longer than a piece is cut. Waits for nobody: a worker must not stand still because the
/// reader of its words does.
pub fn try_write(to: impl AsFd, text: &str) -> bool {
    let bytes = text.as_bytes();
    // Who has the turn may wait.
    let Ok(_turn) = TURN.try_lock() else { return false };
    write_piece(to, &bytes[..bytes.len().min(PIECE_BYTES_MAX)], Duration::ZERO)
}

/// Whether all of it was taken; waits for room for each piece, and gives up when there is none within `patience`.
pub fn write(to: impl AsFd, text: &str, patience: Duration) -> bool {
    text.as_bytes().chunks(PIECE_BYTES_MAX).all(|piece| {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        write_piece(&to, piece, patience)
    })
}

fn write_piece(to: impl AsFd, piece: &[u8], patience: Duration) -> bool {
    let mut looked = [PollFd::new(&to, PollFlags::OUT)];
    let patience = Timespec::try_from(patience).unwrap_or_default();
    let polled = retry_on_intr(|| poll(&mut looked, Some(&patience)));
    let takes_it = matches!(polled, Ok(1)) && looked[0].revents().contains(PollFlags::OUT);
    takes_it && rustix::io::write(&to, piece).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::*;

    #[test]
    fn a_reader_that_is_stuck_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let line = "x".repeat(5_000);
        let taken = (0..1_000).take_while(|_| try_write(&writer, &line)).count();
        assert_eq!(taken * PIECE_BYTES_MAX, 64 * 1024, "as much as a pipe holds");
        assert!(!write(&writer, "more", Duration::from_millis(1)), "nor for longer than it was told to wait");
        reader.read_exact(&mut [0; PIECE_BYTES_MAX]).unwrap();
        assert!(try_write(&writer, "again"));
        drop(reader);
        assert!(!try_write(&writer, "nobody"), "nor does one that has gone");
    }

    #[test]
    fn a_long_text_is_written_whole() {
        let (mut reader, writer) = io::pipe().unwrap();
        let text = "0123456789".repeat(2_000);
        assert!(write(&writer, &text, Duration::ZERO));
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }
}
