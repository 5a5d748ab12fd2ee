//! The proxies under test: how each is found, started on its core, and stopped.
//! Owns their processes; only what was started here is ever signalled. Configurations are `config`'s.

mod config;
mod programs;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::machine::{self, ProcessId};
use crate::client;
use crate::sys::{self, SIGKILL, SIGTERM};
pub use programs::Programs;

/// In a proxy's directory: certificate, key, and both in one file.
const CERTIFICATE: &str = "edge.pem";
const KEY: &str = "edge.key";
const BOTH: &str = "both.pem";
const READY_LIMIT: Duration = Duration::from_secs(5);
const STOP_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Tidegate,
    /// Two workers on both cores: what a request costs when they share the machine, with the load on one of them.
    TidegateTwo,
    Nginx,
    /// nginx with larger buffers than its defaults.
    NginxTuned,
    Haproxy,
    HaproxySplice,
    Envoy,
    /// nghttp2's proxy and h2o: for HTTP/2.
    Nghttpx,
    H2o,
    Forwarder,
    ForwarderSplice,
    /// No proxy: the load goes to the backend itself and shows what generator and backend can do.
    Direct,
}

impl Peer {
    pub const ALL: [Self; 12] = [
        Self::Tidegate,
        Self::TidegateTwo,
        Self::Nginx,
        Self::NginxTuned,
        Self::Haproxy,
        Self::HaproxySplice,
        Self::Envoy,
        Self::Nghttpx,
        Self::H2o,
        Self::Forwarder,
        Self::ForwarderSplice,
        Self::Direct,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::TidegateTwo => "tidegate-two",
            Self::Nginx => "nginx",
            Self::NginxTuned => "nginx-tuned",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::Envoy => "envoy",
            Self::Nghttpx => "nghttpx",
            Self::H2o => "h2o",
            Self::Forwarder => "forwarder",
            Self::ForwarderSplice => "forwarder-splice",
            Self::Direct => "direct",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Whether it can be measured there.
    pub fn speaks(self, layer: Layer) -> bool {
        let is_bare = matches!(self, Self::Forwarder | Self::ForwarderSplice | Self::Direct);
        match layer {
            Layer::Http2 => !is_bare,
            // h2o has no HTTP/2 towards backends.
            Layer::Grpc => !is_bare && !matches!(self, Self::HaproxySplice | Self::H2o),
            Layer::Https => !is_bare && !matches!(self, Self::HaproxySplice | Self::Nghttpx | Self::H2o),
            Layer::Http | Layer::Tcp => !matches!(self, Self::Nghttpx | Self::H2o),
        }
    }

    /// The variant of this peer that matters for large bodies only.
    pub fn for_large_bodies(self) -> Option<Self> {
        match self {
            Self::Nginx => Some(Self::NginxTuned),
            Self::Haproxy => Some(Self::HaproxySplice),
            Self::Forwarder => Some(Self::ForwarderSplice),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    Http,
    /// HTTP through TLS towards the client.
    Https,
    /// HTTP/2 without TLS towards the client, HTTP/1.1 towards the backend.
    Http2,
    /// HTTP/2 without TLS on both sides.
    Grpc,
    Tcp,
}

/// What a proxy is to do.
pub struct Setup<'a> {
    pub dir: &'a Path,
    pub backend: SocketAddr,
    pub layer: Layer,
    pub access_log: bool,
    /// Event streams: nothing may be held back to be sent together.
    pub events: bool,
    /// WebSockets pass.
    pub sockets: bool,
    /// Tidegate decides about each request; the peers forward it.
    pub policies: bool,
    /// The proxy's: a worker for each.
    pub cores: &'a [usize],
    pub open_files: u64,
}

/// A proxy that answers. Dropping it stops it.
pub struct Running {
    pub address: SocketAddr,
    peer: Peer,
    layer: Layer,
    child: Option<Child>,
    dir: PathBuf,
}

impl Running {
    /// Starts the proxy and waits until a request comes through it.
    pub fn start(peer: Peer, setup: &Setup, programs: &Programs) -> Result<Self, String> {
        let dir = setup.dir.join(peer.name());
        // What an earlier run left; absent at first.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if peer == Peer::Direct {
            return Ok(Self { address: setup.backend, peer, layer: setup.layer, child: None, dir });
        }
        let failed = |error: io::Error| format!("{}: {error}", peer.name());
        let address = free_address().map_err(failed)?;
        if setup.layer == Layer::Https {
            make_certificate(&dir)?;
        }
        let mut command = config::command(peer, setup, &dir, address, programs)?;
        let log = File::create(dir.join("stderr")).map_err(failed)?;
        let out = File::create(dir.join("stdout")).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        let is_nginx = matches!(peer, Peer::Nginx | Peer::NginxTuned);
        // nginx's master takes its worker along only when it is asked to end.
        sys::bind_child(&mut command, setup.cores, if is_nginx { SIGTERM } else { SIGKILL });
        let child = command.spawn().map_err(failed)?;
        let mut running = Self { address, peer, layer: setup.layer, child: Some(child), dir };
        running.wait_ready(setup.policies)?;
        Ok(running)
    }

    /// That of its TLS, if it speaks TLS.
    pub fn certificate(&self) -> Option<PathBuf> {
        (self.layer == Layer::Https).then(|| self.dir.join(CERTIFICATE))
    }

    /// The processes of the proxy; none for `direct`.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How many bytes HAProxy says it spliced: `option splice-*` alone does not prove that it does.
    pub fn spliced_bytes(&self) -> Option<u64> {
        if self.peer != Peer::HaproxySplice {
            return None;
        }
        let mut socket = UnixStream::connect(self.dir.join("stats")).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        socket.write_all(b"show info\n").ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        // Released versions write it `TotalSplicdedBytesOut`.
        let line = text.lines().find(|line| line.starts_with("TotalSplic"))?;
        line.split_once(':')?.1.trim().parse().ok()
    }

    /// `is_policed`: nobody is answered who does not say who he is.
    fn wait_ready(&mut self, is_policed: bool) -> Result<(), String> {
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < READY_LIMIT {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!("{} ended at start ({status}): {}", self.peer.name(), self.complaint()));
            }
            // Of what is not HTTP/1, that it listens has to do: what it says is seen by the load.
            let answered = match self.layer {
                _ if is_policed => TcpStream::connect(self.address).map(drop),
                Layer::Https | Layer::Http2 | Layer::Grpc => TcpStream::connect(self.address).map(drop),
                Layer::Http | Layer::Tcp => client::get(self.address, "/").map(drop),
            };
            match answered {
                Ok(()) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{} does not answer: {last}; {}", self.peer.name(), self.complaint()))
    }

    /// The end of what the proxy wrote to its standard error.
    fn complaint(&self) -> String {
        let text = fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            stop(child);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One of our own servers (backend, forwarder) on `cores`, with the address that it printed.
pub fn start_own(arguments: &[&str], cores: &[usize]) -> io::Result<(Child, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    sys::bind_child(&mut command, cores, SIGKILL);
    let mut child = command.spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match line.trim().parse() {
        Ok(address) => Ok((child, address)),
        Err(_) => {
            stop(child);
            Err(io::Error::other(format!("`{}` did not start", arguments.join(" "))))
        }
    }
}

/// A P-256 key, as most have, and a certificate of its own for 127.0.0.1.
fn make_certificate(dir: &Path) -> Result<(), String> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=edge",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            KEY,
            "-out",
            CERTIFICATE,
        ])
        .current_dir(dir)
        .output()
        .map_err(|error| format!("openssl: {error}"))?;
    if !made.status.success() {
        return Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let both = [CERTIFICATE, KEY].map(|name| fs::read(dir.join(name)).unwrap_or_default()).concat();
    fs::write(dir.join(BOTH), both).map_err(|error| error.to_string())
}

/// Asks the process to end, and kills it and what it started when it does not.
pub fn stop(mut child: Child) {
    let family: Vec<ProcessId> = machine::tree(child.id()).into_iter().filter_map(ProcessId::of).collect();
    sys::kill(child.id(), SIGTERM);
    let begin = Instant::now();
    while begin.elapsed() < STOP_LIMIT {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    if matches!(child.try_wait(), Ok(None)) {
        sys::kill(child.id(), SIGKILL);
        let _ = child.wait();
    }
    // Workers that outlived their parent; the start time tells them from a reused pid.
    for process in family.iter().filter(|process| process.is_alive()) {
        sys::kill(process.pid, SIGKILL);
    }
}

/// A port that was free just now. The kernel hands out ephemeral ports in turn, so it stays free long enough.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
