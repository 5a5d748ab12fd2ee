//! Owns the process's limits: raises at start what may be raised, says in words what an operator should change,
//! and knows when descriptors are scarce. Never fails a start by itself, and counts no descriptor.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors wanted: two per proxied connection at 30,000 connections, and some.
const NOFILE_WANTED: u64 = 65_536;
/// io_uring charges rings to RLIMIT_MEMLOCK on kernels before 5.12 only; still said when tiny.
const MEMLOCK_WANTED: u64 = 8 * 1024 * 1024;

/// The last descriptors, one of this many, are not for clients: upstream connections of those who are already
/// here live on them.
const DESCRIPTORS_KEPT_SHARE: i32 = 8;
/// Half of these, up to this many, are not for upstream connections either: the admin endpoint, DNS and files live
/// on them, or nobody could see what is wrong while everything is in use.
const DESCRIPTORS_OWN_MAX: i32 = 128;

/// Descriptors from here on are not for clients.
static SCARCE_FROM: AtomicI32 = AtomicI32::new(i32::MAX);
/// Descriptors from here on are for the gateway's own needs.
static OWN_FROM: AtomicI32 = AtomicI32::new(i32::MAX);

/// Whether nearly all descriptors are in use, judged by one that was just opened: the kernel gives the lowest
/// that is free (POSIX), so that all below this one are taken. No new client is let in then, and none is pooled.
pub fn is_scarce(descriptor: &impl AsRawFd) -> bool {
    descriptor.as_raw_fd() >= SCARCE_FROM.load(Relaxed)
}

/// Takes what was opened for traffic, unless it stands on one of the descriptors kept for the gateway's own needs:
/// closed then, and the error is the one that the kernel gives when no descriptor is left.
pub fn for_traffic<T: AsRawFd>(opened: T) -> std::io::Result<T> {
    match opened.as_raw_fd() < OWN_FROM.load(Relaxed) {
        true => Ok(opened),
        false => Err(std::io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

/// Whether a system call failed because there is no descriptor left, or no room in the kernel for one more socket:
/// ENOSPC is `fs.epoll.max_user_watches`.
pub fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM))
}

/// Raises RLIMIT_NOFILE to its hard limit and returns what is still too low, one sentence each.
pub fn raise_and_check() -> Vec<String> {
    let mut advice = Vec::new();
    let descriptors = raise_nofile();
    let count = RawFd::try_from(descriptors).unwrap_or(RawFd::MAX);
    let kept = count / DESCRIPTORS_KEPT_SHARE;
    SCARCE_FROM.store(count - kept, Relaxed);
    OWN_FROM.store(count - (kept / 2).min(DESCRIPTORS_OWN_MAX), Relaxed);
    if descriptors < NOFILE_WANTED {
        advice.push(format!(
            "open files are limited to {descriptors}: about {} connections; raise it with `ulimit -Hn {NOFILE_WANTED}` or LimitNOFILE={NOFILE_WANTED} in the systemd unit",
            descriptors / 2
        ));
    }
    let memlock = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    if memlock < MEMLOCK_WANTED && kernel_before(5, 12) {
        advice.push(format!(
            "locked memory is limited to {} KiB, and this kernel counts io_uring rings into it: set LimitMEMLOCK=8M or more",
            memlock / 1024
        ));
    }
    if let Some(sentence) = pipes_advice() {
        advice.push(sentence);
    }
    advice
}

/// The soft limit after raising it as far as allowed.
fn raise_nofile() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

/// Splicing wants pipes of 1 MiB; an unprivileged user gets `pipe-user-pages-soft` pages of pipe buffers.
fn pipes_advice() -> Option<String> {
    let pages: u64 = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").ok()?.trim().parse().ok()?;
    let is_root = rustix::process::geteuid().is_root();
    let mebibytes = pages * 4096 / (1024 * 1024);
    let is_low = pages != 0 && mebibytes < 64 && !is_root;
    is_low.then(|| {
        format!("pipe buffers are limited to {mebibytes} MiB for this user: raise fs.pipe-user-pages-soft to 16384")
    })
}

fn kernel_before(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found != (0, 0) && found < (major, minor)
}
