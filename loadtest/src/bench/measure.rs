//! One sample: start one proxy, warm it up, load it, read what it used, stop it.
//! Owns what a figure means; which samples are taken and which count is `bench`'s.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Case, Load, Metric};
use super::machine::{self, Watch};
use super::plan::Plan;
use super::pulse::Pulse;
use crate::client::exchange::Request;
use crate::client::stream::Stream;
use crate::client::{
    self, Outcome, echo, events, h2load, handshakes, idle, messages, open_loop, transfer, wrk,
};
use crate::peers::{Layer, Peer, Programs, Running, Setup};

/// After readiness, before the first figure is read.
pub const SETTLE: Duration = Duration::from_millis(300);
pub const WARM_UP: Duration = Duration::from_secs(1);
/// How long connections have idled when their memory is read: what a request left behind is gone by then.
const IDLE_BEFORE: Duration = Duration::from_secs(5);
/// How long after closing idle connections their memory may take to go back.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(10);
/// What a token can be signed by.
const TOKEN_CONFIG: &str = "[auth.users]\njwt = { secret = \"for-measuring-only-0123456789abcdef\", audience = \"models\" }\n\
    [listen.web]\naddress = \"127.0.0.1:1\"\n[[route]]\nrespond = { status = 204 }\n";
const MIB: f64 = 1_048_576.0;

/// The machine as one measurement uses it.
pub struct Bench<'a> {
    pub programs: &'a Programs,
    pub dir: &'a Path,
    pub backend: SocketAddr,
    /// Of gRPC calls.
    pub http2_backend: SocketAddr,
    pub plan: &'a Plan,
    pub duration: Duration,
    pub access_log: bool,
    pub open_files: u64,
}

#[derive(Debug, Clone)]
pub struct Sample {
    /// In the order of the case's metrics; NaN where a peer has no such figure.
    pub values: Vec<f64>,
    pub requests: u64,
    pub errors: u64,
    /// The part of the cores' time that others had.
    pub foreign_share: f64,
    /// The part of the time in which the cores ran slower than usual.
    pub slow_share: f64,
    pub note: Option<String>,
}

/// Others' part of our cores, and the slow part of the time, above which a sample does not count.
const MODEL_TYPE: &str = "x-model-type: iris";
const FOREIGN_SHARE_MAX: f64 = 0.08;
const SLOW_SHARE_MAX: f64 = 0.2;

impl Sample {
    pub fn is_dirty(&self) -> bool {
        is_dirty(self.foreign_share, self.slow_share)
    }
}

/// Whether what was measured beside so much does not count.
pub fn is_dirty(foreign_share: f64, slow_share: f64) -> bool {
    foreign_share > FOREIGN_SHARE_MAX || slow_share > SLOW_SHARE_MAX
}

impl Bench<'_> {
    pub fn sample(&self, case: &Case, peer: Peer) -> Result<Sample, String> {
        let both = [self.plan.proxy[0], self.plan.load[0]];
        let setup = Setup {
            dir: self.dir,
            backend: if case.layer == Layer::Grpc { self.http2_backend } else { self.backend },
            layer: case.layer,
            access_log: self.access_log,
            events: matches!(case.load, Load::Events { .. }),
            sockets: matches!(case.load, Load::Echo { .. }),
            policies: matches!(case.load, Load::Policed { .. } | Load::OpenLoop { policed: true, .. }),
            cores: if peer == Peer::TidegateTwo { &both } else { &both[..1] },
            open_files: self.open_files,
        };
        let running = Running::start(peer, &setup, self.programs)?;
        thread::sleep(SETTLE);
        let result = match case.load {
            Load::Idle { connections } => self.sample_idle(case, &running, connections),
            _ => self.sample_load(case, &running),
        };
        result.map_err(|error| format!("{} under {}: {error}", peer.name(), case.name))
    }

    fn sample_load(&self, case: &Case, running: &Running) -> io::Result<Sample> {
        self.load(case, running, WARM_UP)?;
        let cpu_ns = || running.pid().map(machine::cpu_ns);
        let (served_before, spliced_before) = (self.served()?, running.spliced_bytes());
        let cores = self.plan.all();
        let (pulse, watch) = (Pulse::start(&cores), Watch::start(&cores));
        let before = cpu_ns();
        let begin = Instant::now();
        let outcome = self.load(case, running, self.duration)?;
        let wall = begin.elapsed();
        let used_ns =
            cpu_ns().zip(before).map_or(f64::NAN, |(after, before)| after.saturating_sub(before) as f64);
        let (foreign_share, slow_share) = (watch.foreign_share(), pulse.slow_share());
        let rss_bytes = running.pid().map_or(f64::NAN, |pid| machine::rss_bytes(pid) as f64);
        let value = |&metric: &Metric| match metric {
            Metric::RssMib => rss_bytes / MIB,
            _ => figure(metric, &outcome, used_ns, wall),
        };
        let values = case.metrics.iter().map(value).collect();
        let (requests, errors) = (outcome.requests, outcome.errors);
        let mut sample = Sample { values, requests, errors, foreign_share, slow_share, note: None };
        if requests == 0 {
            sample.errors += 1;
            sample.note = Some("nothing was answered".to_owned());
        }
        // A proxy that answers by itself would look cheap.
        let served = self.served()? - served_before;
        if served < outcome.requests && case.layer != Layer::Grpc {
            sample.errors += outcome.requests - served;
            sample.note = Some(format!("the backend saw {served} of {} requests", outcome.requests));
        }
        if let (Some(before), Some(after)) = (spliced_before, running.spliced_bytes()) {
            let percent = 100.0 * (after - before) as f64 / outcome.body_bytes.max(1) as f64;
            sample.note = Some(format!("{:.0} % spliced", percent.min(100.0)));
        }
        Ok(sample)
    }

    fn load(&self, case: &Case, running: &Running, duration: Duration) -> io::Result<Outcome> {
        let (address, certificate) = (running.address, running.certificate());
        match case.load {
            Load::Wrk { connections, path, headers } => {
                let scheme = if case.layer == Layer::Https { "https" } else { "http" };
                let load = wrk::Load { scheme, connections, path, headers };
                wrk::run(address, &load, duration, &self.plan.load, self.dir)
            }
            Load::Policed { connections, path } => {
                let bearer = self.bearer()?;
                let headers = [&*bearer, MODEL_TYPE];
                let load = wrk::Load { scheme: "http", connections, path, headers: &headers };
                wrk::run(address, &load, duration, &self.plan.load, self.dir)
            }
            Load::H2load { connections, streams, path } => {
                let load = h2load::Load { connections, streams, path, call: None };
                h2load::run(address, &load, duration, &self.plan.load)
            }
            Load::Calls { connections, streams, message_bytes } => {
                let call = Some((message_bytes, self.dir));
                let load = h2load::Load { connections, streams, path: "/load.Test/Echo", call };
                let outcome = h2load::run(address, &load, duration, &self.plan.load)?;
                // A proxy that answers by itself would look cheap.
                match outcome.body_bytes >= outcome.requests * message_bytes as u64 {
                    true => Ok(outcome),
                    false => Err(io::Error::other("not all messages were echoed")),
                }
            }
            Load::Messages { streams, message_bytes } => {
                messages::run(address, streams, message_bytes, duration)
            }
            Load::Download { connections, body_bytes } => {
                let request = Request::get(address, &format!("/bytes/{body_bytes}"));
                transfer::run(address, request, connections, duration)
            }
            Load::Upload { connections, body_bytes } => {
                transfer::run(address, Request::post(address, "/upload", body_bytes), connections, duration)
            }
            Load::OpenLoop { connections, rate_per_s, stream, policed } => {
                let _stream = stream.then(|| Stream::start(address)).transpose()?;
                let fields = match policed {
                    true => format!("{}\r\n{MODEL_TYPE}\r\n", self.bearer()?),
                    false => String::new(),
                };
                let request = Request::get_with(address, "/", &fields);
                open_loop::run(address, request, connections, rate_per_s, duration)
            }
            Load::Events { streams, rate_per_s } => events::run(address, streams, rate_per_s, duration),
            Load::Echo { sockets, message_bytes } => echo::run(address, sockets, message_bytes, duration),
            Load::Handshakes { resumed } => {
                let certificate = certificate.as_deref().ok_or(io::ErrorKind::InvalidInput)?;
                handshakes::run(address, certificate, resumed, duration)
            }
            Load::Idle { .. } => Ok(Outcome::default()),
        }
    }

    /// The field with Ann's token, which Tidegate believes; the peers pass it on.
    fn bearer(&self) -> io::Result<String> {
        let tidegate = self.programs.tidegate.as_ref();
        let tidegate =
            tidegate.ok_or_else(|| io::Error::other("tokens are signed by tidegate, which is missing"))?;
        let file = self.dir.join("token.toml");
        std::fs::write(&file, TOKEN_CONFIG)?;
        let signed = Command::new(tidegate).args(["token", "sub=ann", "-c"]).arg(&file).output()?;
        match signed.status.success() {
            true => Ok(format!("authorization: Bearer {}", String::from_utf8_lossy(&signed.stdout).trim())),
            false => Err(io::Error::other(String::from_utf8_lossy(&signed.stderr).into_owned())),
        }
    }

    fn sample_idle(&self, case: &Case, running: &Running, connections: usize) -> io::Result<Sample> {
        let rss = || running.pid().map_or(f64::NAN, |pid| machine::rss_bytes(pid) as f64);
        let start = rss();
        let held = idle::open(running.address, connections, running.certificate().as_deref())?;
        thread::sleep(IDLE_BEFORE);
        let full = rss();
        let requests = held.len() as u64;
        drop(held);
        let closed = Instant::now();
        let grown = (full - start).max(1.0);
        let returned = || 100.0 * (full - rss()).max(0.0) / grown;
        while closed.elapsed() < GIVE_BACK_LIMIT && returned() < 100.0 {
            thread::sleep(Duration::from_millis(250));
        }
        let values = case.metrics.iter().map(|metric| match metric {
            Metric::IdleKbPerConnection => (full - start) / 1024.0 / connections as f64,
            Metric::StartRssMib => start / MIB,
            Metric::ReturnedPercent => returned(),
            _ => f64::NAN,
        });
        let values = values.collect();
        // Memory does not depend on who else runs.
        Ok(Sample { values, requests, errors: 0, foreign_share: 0.0, slow_share: 0.0, note: None })
    }

    /// Requests that reached the backend so far.
    fn served(&self) -> io::Result<u64> {
        let body = client::get(self.backend, "/count")?;
        String::from_utf8_lossy(&body).parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

fn figure(metric: Metric, outcome: &Outcome, used_ns: f64, wall: Duration) -> f64 {
    let requests = outcome.requests as f64;
    let gigabytes = outcome.body_bytes as f64 / 1e9;
    match metric {
        Metric::CpuUsPerRequest | Metric::CpuUsPerEvent => used_ns / 1000.0 / requests,
        Metric::RequestsPerSecond => requests / outcome.elapsed.as_secs_f64(),
        Metric::P50Us => outcome.p50_us,
        Metric::P99Us => outcome.p99_us,
        Metric::CpuSecondsPerGb => used_ns / 1e9 / gigabytes,
        Metric::GbPerSecond => gigabytes / outcome.elapsed.as_secs_f64(),
        Metric::CorePercent => 100.0 * used_ns / wall.as_nanos() as f64,
        Metric::IdleKbPerConnection | Metric::StartRssMib | Metric::RssMib | Metric::ReturnedPercent => {
            f64::NAN
        }
    }
}
