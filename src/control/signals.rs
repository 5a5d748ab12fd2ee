//! Owns signals: which the control thread acts on, and that workers see none. Acts on none itself.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP
    Reload,
    /// SIGTERM, SIGQUIT
    Drain,
    /// SIGINT
    Stop,
    /// SIGUSR1
    ReopenLogs,
}

pub struct Signals {
    hangup: unix::Signal,
    terminate: unix::Signal,
    quit: unix::Signal,
    interrupt: unix::Signal,
    user1: unix::Signal,
    /// SIGWINCH is ignored: a gateway in a terminal must not care about its size.
    window_change: unix::Signal,
}

impl Signals {
    pub fn install() -> io::Result<Signals> {
        Ok(Signals {
            hangup: unix::signal(SignalKind::hangup())?,
            terminate: unix::signal(SignalKind::terminate())?,
            quit: unix::signal(SignalKind::quit())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            user1: unix::signal(SignalKind::user_defined1())?,
            window_change: unix::signal(SignalKind::window_change())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return Signal::Reload,
                _ = self.terminate.recv() => return Signal::Drain,
                _ = self.quit.recv() => return Signal::Drain,
                _ = self.interrupt.recv() => return Signal::Stop,
                _ = self.user1.recv() => return Signal::ReopenLogs,
                _ = self.window_change.recv() => {}
            }
        }
    }
}

/// Runs `spawn` with all signals blocked but SIGPROF (the profiler's), so that the threads it starts inherit
/// the mask and no handler ever interrupts a ring.
pub fn with_blocked<R>(spawn: impl FnOnce() -> R) -> R {
    // SAFETY: both masks are plain bit sets, valid when zeroed and initialised by sigfillset before use; the
    // calls only read and write them, and concern this thread's mask alone, which is restored below.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigdelset(&mut all, libc::SIGPROF);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    let result = spawn();
    // SAFETY: `before` was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}
