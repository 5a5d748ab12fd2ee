//! The only unsafe code of the load test: thin wrappers over the Linux calls that std lacks.
//! Owns epoll, the periodic timer, pipes and splice, core affinity, CPU clocks, and children that die with us.
//! Holds no policy: callers decide what to wait for, how long, and what an error means.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

pub use libc::{EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT, SIGKILL, SIGTERM};

pub type Event = libc::epoll_event;
pub const NO_EVENT: Event = Event { events: 0, u64: 0 };

/// A readiness queue. Tokens are the caller's own; an entry leaves the queue when its descriptor closes.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; `own` takes a result that nobody else holds.
        unsafe { own(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }.map(Self)
    }

    pub fn add(&self, fd: &impl AsFd, interest: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    pub fn modify(&self, fd: &impl AsFd, interest: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    fn control(&self, operation: i32, fd: &impl AsFd, interest: i32, token: u64) -> io::Result<()> {
        let mut event = Event { events: interest as u32, u64: token };
        let raw = fd.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open for the call, and `event` outlives it (the kernel copies it).
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, raw, &mut event) }).map(drop)
    }

    /// Fills `events` and returns how many are valid; none when the timeout passed or a signal came.
    pub fn wait(&self, events: &mut [Event], timeout: Option<Duration>) -> io::Result<usize> {
        let timeout_ms = timeout.map_or(-1, |limit| limit.as_millis().min(60_000) as i32);
        let room = events.len() as i32;
        // SAFETY: the pointer and length describe `events`, which stays borrowed for the whole call.
        let ready =
            check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) });
        match ready {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other.map(|count| count as usize),
        }
    }
}

/// A timer that fires every `interval` from the moment it is made, and counts what a late reader missed.
pub struct Ticker(File);

impl Ticker {
    pub fn every(interval: Duration) -> io::Result<Self> {
        // SAFETY: no pointers are passed; `own` takes a result that nobody else holds.
        let fd = unsafe {
            own(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK))
        }?;
        let step =
            libc::timespec { tv_sec: interval.as_secs() as i64, tv_nsec: i64::from(interval.subsec_nanos()) };
        let setting = libc::itimerspec { it_interval: step, it_value: step };
        // SAFETY: `setting` is a live, initialised value; the old setting is not asked for.
        check(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &setting, std::ptr::null_mut()) })?;
        Ok(Self(File::from(fd)))
    }

    /// How many intervals passed since the last call.
    pub fn expirations(&mut self) -> u64 {
        let mut count = [0_u8; 8];
        match self.0.read(&mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}

impl AsFd for Ticker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The two ends of a pipe, non-blocking: what is read, what is written.
pub fn pipe(size_bytes: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors that the kernel stores.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: pipe2 succeeded, so both are new descriptors, each owned once here.
    let (read, write) = unsafe { (own(ends[0])?, own(ends[1])?) };
    // SAFETY: an open descriptor and an integer. Refusal (the user's pipe quota) leaves the default size.
    unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, size_bytes as libc::c_int) };
    Ok((read, write))
}

/// Moves up to `length` bytes between a pipe and a non-blocking socket without copying them.
pub fn splice(from: &impl AsFd, to: &impl AsFd, length: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are open for the call; null offsets mean the streams' own positions.
    check_size(unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), length, flags) })
}

/// Drops up to `length` received bytes of a TCP socket inside the kernel (tcp(7), MSG_TRUNC); 0 is the end.
pub fn discard(socket: &impl AsFd, length: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer, so a null one is allowed.
    check_size(unsafe {
        libc::recv(
            socket.as_fd().as_raw_fd(),
            std::ptr::null_mut(),
            length,
            libc::MSG_TRUNC | libc::MSG_DONTWAIT,
        )
    })
}

/// Sets the accept queue's length; std's own is too short for thousands of connections at once.
pub fn set_backlog(listener: &impl AsFd, connections: i32) -> io::Result<()> {
    // SAFETY: an open descriptor and an integer.
    check(unsafe { libc::listen(listener.as_fd().as_raw_fd(), connections) }).map(drop)
}

/// The cores that this thread may run on.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: cpu_set_t is plain bits, for which zero is a value; the size passed is its own.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    // SAFETY: CPU_ISSET reads the set inside its bounds, CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Keeps this thread, and what it starts, on these cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain bits; CPU_SET checks its bound; the kernel copies the set.
    check(unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores.iter().for_each(|&core| libc::CPU_SET(core, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    })
    .map(drop)
}

/// The child will run on `cores` and get `signal` when the thread that starts it is gone.
pub fn bind_child(command: &mut Command, cores: &[usize], signal: i32) {
    let parent = std::process::id();
    let cores = cores.to_vec();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid, sched_setaffinity.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, signal))?;
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            pin(&cores)
        });
    }
}

/// Sends a signal to a process that the caller started and has not yet reaped.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: two integers; a process that is gone is an error that changes nothing.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// CPU time of a whole process, ended threads included, in nanoseconds; `None` when it is gone.
pub fn cpu_time_ns(pid: u32) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both out-pointers are live locals; the clock id is used only if the first call made it.
    let known = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    known.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// CPU time of the calling thread, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live local that the call fills; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Raises the limit of open files to what this user may have, and returns it.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live local that the first call fills and the second reads.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_max
}

pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Ticks per second of /proc's times.
pub fn clock_ticks() -> u64 {
    // SAFETY: takes an integer.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// SAFETY: the caller passes a fresh result; `result` is a call's result, and if it is a descriptor, nobody else owns it.
unsafe fn own(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: by this function's contract `fd` is open and unowned.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}
