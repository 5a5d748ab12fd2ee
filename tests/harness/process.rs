//! Owns what tests need from the system: directories, free ports, commands with a deadline, and a backend in a
//! process of its own that can be killed. Ports come from below the ephemeral range, so that no outgoing
//! connection takes one between its choice and its use.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A directory that goes away with its owner.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file here and says where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file in the temporary directory");
        path
    }
}

impl Default for Directory {
    fn default() -> Directory {
        Directory::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of 127.0.0.1 that nothing listens on, and nothing receives datagrams on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(61);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (start.wrapping_add(step) % 20_000) as u16;
        let place = ("127.0.0.1", port);
        if TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok() {
            return port;
        }
    }
}

/// An address that refuses connections.
pub fn dead_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Lets this process open as many files as it may: a test with a thousand clients needs more than the usual 1,024.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write only `limit`, which outlives them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// One thread of a process of ours that does not run until this is dropped, as if it hung.
pub struct StoppedThread(libc::pid_t);

impl StoppedThread {
    /// Stops the thread of this name. `None`: this machine does not let us (no ptrace).
    pub fn stop(process: u32, name: &str) -> Option<StoppedThread> {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("a running process");
        let mut threads = tasks.map(|task| task.expect("a thread").path());
        let of_name = |thread: &PathBuf| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let thread = threads.find(of_name).expect("a thread of this name");
        let thread: libc::pid_t = thread.file_name()?.to_str()?.parse().ok()?;
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests take no memory of ours; a failure is an error code.
        let stopped = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) == 0
                && libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) == thread
        };
        stopped.then_some(StoppedThread(thread))
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above; a thread that is gone already is an error code.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

/// Runs `tidegate` with these arguments to its end.
pub fn tidegate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    run_to_end(command.args(arguments), super::PATIENCE)
}

/// Runs a command to its end, and panics if it takes longer than `limit`.
pub fn run_to_end(command: &mut Command, limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: stdout.join().expect("no panic"), stderr: stderr.join().expect("no panic") }
}

/// A backend in a process of its own: this test binary again, running only its ignored test `backend_process`.
pub struct BackendProcess {
    child: Child,
    pub address: SocketAddr,
}

impl BackendProcess {
    pub fn start(address: SocketAddr) -> BackendProcess {
        BackendProcess::start_with(address, &[])
    }

    /// As `start`, with more in its environment.
    pub fn start_with(address: SocketAddr, environment: &[(&str, &str)]) -> BackendProcess {
        let child = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", "backend_process", "--ignored", "--nocapture"])
            .env("TIDEGATE_TEST_BACKEND", address.to_string())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test binary starts");
        let process = BackendProcess { child, address };
        super::until("the backend process accepts", || std::net::TcpStream::connect(address).is_ok());
        process
    }

    /// Sends a signal such as SIGSTOP.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child is not waited for before `self` drops, so the pid is still its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0, "signal {signal} to the backend process");
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for BackendProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the ignored test `backend_process`: serves until its parent goes away.
pub fn be_a_backend(serve: impl FnOnce(SocketAddr) -> super::Backend) {
    let Ok(address) = std::env::var("TIDEGATE_TEST_BACKEND") else { return };
    let _backend = serve(address.parse().expect("an address"));
    let mut nothing = [0u8; 1];
    let _ = std::io::stdin().read(&mut nothing);
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}
