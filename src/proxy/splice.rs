//! Owns the move of a body of known length from one socket to the other by splice(2), for either direction. A
//! pipe is held only while bytes are in it, so that the pool serves many more connections than it has pipes.
//! Keeps no time: the caller's clocks are started before each wait.

use std::io::{self, ErrorKind};

use crate::http::h1_conn::Reader;
use crate::net::splice::Pipe;
use crate::net::tcp::Stream;
use crate::runtime::core::Core;

use super::turn::Turn;

/// What the mover tells its caller.
pub trait Course {
    /// The sender has nothing now: a wait for it begins.
    fn awaits_sender(&self);
    /// The sender has given something up.
    fn taken(&self) {}
    /// The receiver takes nothing now: a wait for it begins.
    fn awaits_receiver(&self);
    /// These many bytes are with the receiver.
    fn moved(&self, bytes: u64);
}

/// Whose side ended the move.
pub enum Broken {
    /// FIN (`None`) or an error of the sender.
    Sender(Option<io::Error>),
    Receiver(io::Error),
}

/// Moves `remaining` bytes, or fewer where no pipe is to be had: the caller copies what is left, which is
/// returned. `from` holds no received bytes.
pub async fn splice(
    core: &Core,
    from: &mut Reader,
    to: &Stream,
    mut remaining: u64,
    pipes_max: usize,
    turn: &mut Turn,
    course: &impl Course,
) -> Result<u64, Broken> {
    while remaining > 0 {
        course.awaits_sender();
        turn.readable(from).await;
        let Some(mut pipe) = core.pipes.take(pipes_max) else { return Ok(remaining) };
        let count = match from.splice_into(&mut pipe, remaining.min(core.turns.turn_bytes() as u64)) {
            Ok(0) => return Err(Broken::Sender(None)),
            Ok(count) => count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(remaining),
            Err(error) => return Err(Broken::Sender(Some(error))),
        };
        course.taken();
        drain(&mut pipe, to, course).await.map_err(Broken::Receiver)?;
        core.metrics.spliced(count);
        remaining -= count;
        turn.moved(count as usize);
        drop(pipe);
        // Not after the last byte: the answer may come meanwhile, and would seem to overtake the body.
        if remaining > 0 {
            turn.end_if_over(&core.turns).await;
        }
    }
    Ok(0)
}

/// Gives the receiver all that the pipe holds.
pub async fn drain(pipe: &mut Pipe, to: &Stream, course: &impl Course) -> io::Result<()> {
    while pipe.held() > 0 {
        match pipe.try_drain(to) {
            Ok(count) => course.moved(count as u64),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                course.awaits_receiver();
                to.writable().await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
