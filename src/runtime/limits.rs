//! Owns the look at the process's limits at start: raises what may be raised and says in words what an
//! operator should change. Never fails a start by itself.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors wanted: two per proxied connection at 30,000 connections, and some.
const NOFILE_WANTED: u64 = 65_536;
/// io_uring charges rings to RLIMIT_MEMLOCK on kernels before 5.12 only; still said when tiny.
const MEMLOCK_WANTED: u64 = 8 * 1024 * 1024;

/// Raises RLIMIT_NOFILE to its hard limit and returns what is still too low, one sentence each.
pub fn raise_and_check() -> Vec<String> {
    let mut advice = Vec::new();
    let descriptors = raise_nofile();
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
