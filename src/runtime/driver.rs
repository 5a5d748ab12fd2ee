//! Owns the choice of the I/O driver: io_uring with the measured flags, else a plain ring, else epoll, found
//! by building each. The only place that builds a monoio runtime.

use std::future::Future;
use std::io::{self, Write};

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder, time::TimeDriver};

use crate::config::snapshot::DriverChoice;

/// Submissions that fit between two entries into the kernel; more flush early.
const RING_ENTRIES: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Uring,
    UringPlain,
    Epoll,
}

impl Driver {
    /// The word in logs, metrics and the config.
    pub const fn word(self) -> &'static str {
        match self {
            Driver::Uring => "uring",
            Driver::UringPlain => "uring-plain",
            Driver::Epoll => "epoll",
        }
    }
}

/// The driver to use, and why the better ones were passed over.
pub struct Chosen {
    pub driver: Driver,
    pub passed_over: Vec<(Driver, io::Error)>,
}

/// Tries the candidates on a thread of its own (a single-issuer ring belongs to the thread that made it).
///
/// Errors: when a forced driver cannot be built, or none can.
pub fn choose(choice: DriverChoice) -> io::Result<Chosen> {
    let candidates: &[Driver] = match choice {
        DriverChoice::Auto => &[Driver::Uring, Driver::UringPlain, Driver::Epoll],
        DriverChoice::Uring => &[Driver::Uring],
        DriverChoice::UringPlain => &[Driver::UringPlain],
        DriverChoice::Epoll => &[Driver::Epoll],
    };
    let mut passed_over = Vec::new();
    for &driver in candidates {
        let tried = std::thread::spawn(move || try_driver(driver)).join();
        match tried.unwrap_or_else(|_| Err(io::Error::other("the driver panicked while it was tried"))) {
            Ok(()) => return Ok(Chosen { driver, passed_over }),
            Err(error) => passed_over.push((driver, error)),
        }
    }
    let reasons: Vec<String> =
        passed_over.iter().map(|(driver, error)| format!("{}: {error}", driver.word())).collect();
    Err(io::Error::other(format!("no I/O driver works here ({})", reasons.join("; "))))
}

/// Builds the driver and lets it wait for a readiness and a timer once.
fn try_driver(driver: Driver) -> io::Result<()> {
    run(driver, async {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = monoio::net::UnixStream::from_std(ours)?;
        theirs.write_all(b"!")?;
        ours.readable(false).await?;
        monoio::time::sleep(std::time::Duration::from_millis(1)).await;
        Ok(())
    })?
}

/// Runs `future` to its end on this thread, with the driver built here.
pub fn run<F: Future>(driver: Driver, future: F) -> io::Result<F::Output> {
    match driver {
        Driver::Uring => Ok(ring(true)?.block_on(future)),
        Driver::UringPlain => Ok(ring(false)?.block_on(future)),
        Driver::Epoll => Ok(epoll()?.block_on(future)),
    }
}

fn ring(measured_flags: bool) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut ring = io_uring::IoUring::builder();
    if measured_flags {
        ring.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    }
    RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()
}

fn epoll() -> io::Result<Runtime<TimeDriver<LegacyDriver>>> {
    RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES).enable_timer().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_runs_or_says_why() {
        for choice in [DriverChoice::Uring, DriverChoice::UringPlain, DriverChoice::Epoll] {
            if let Err(error) = choose(choice) {
                assert_ne!(choice, DriverChoice::Epoll, "epoll always works: {error}");
            }
        }
        assert!(choose(DriverChoice::Auto).is_ok());
    }
}
