//! `loadtest scale`: what more workers on more cores give, beside the peers.
//! Owns what is measured of each, in which order, and the table.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::machine::{self, Watch};
use super::measure::{SETTLE, WARM_UP, is_dirty};
use super::plan::{Plan, cores_apart};
use super::pulse::{self, Pulse};
use super::{ROUNDS_MAX, SECONDS_MAX, TemporaryDir, choose_peers, report};
use crate::args::Args;
use crate::client::{Outcome, wrk};
use crate::peers::{Layer, Peer, Programs, Running, Setup};
use crate::sys;

const DEFAULT_WORKERS: &str = "1,2,4";
const DEFAULT_PEERS: &str = "tidegate,nginx,haproxy";
/// For each worker, so that all of them have the same to do whatever their number.
const CONNECTIONS_PER_WORKER: usize = 64;

pub fn main(words: &[String]) -> Result<(), String> {
    let args = Args::parse(words, &["workers", "peers", "rounds", "seconds", "tidegate"], &[])?;
    let programs = Programs::find(args.text("tidegate"));
    let workers = worker_counts(args.text("workers").unwrap_or(DEFAULT_WORKERS))?;
    let peers = choose_peers(Some(args.text("peers").unwrap_or(DEFAULT_PEERS)), &programs)?;
    let rounds = args.get("rounds")?.unwrap_or(3).clamp(1, ROUNDS_MAX);
    let seconds = args.get("seconds")?.unwrap_or(3).clamp(1, SECONDS_MAX);
    if programs.wrk.is_none() {
        return Err("wrk is missing: apt-get install wrk".to_owned());
    }
    let workers_max = workers.iter().copied().max().unwrap_or(1);
    let plan = Plan::new(&cores_apart(sys::allowed_cores()), workers_max)?;
    sys::pin(&plan.load).map_err(|error| error.to_string())?;
    pulse::calibrate();
    let open_files = sys::raise_open_files();
    let dir = TemporaryDir::new()?;
    let (_backend, backend) = plan.start_backend()?;
    let duration = Duration::from_secs(seconds);
    let stage = Stage { plan: &plan, programs, backend, dir: &dir.0, open_files, duration };
    let mut rows: Vec<Row> = Vec::new();
    for &peer in &peers {
        rows.extend(workers.iter().map(|&workers| Row { peer, workers, points: Vec::new() }));
    }
    for round in 1..=rounds {
        for row in &mut rows {
            let point = stage.point(row.peer, row.workers)?;
            eprintln!("round {round} {} with {}: {point:?}", row.peer.name(), row.workers);
            row.points.push(point);
        }
    }
    println!("{}", table(&rows));
    println!("Medians of {rounds} rounds on {}; {}.", report::machine_name(), plan.in_words());
    Ok(())
}

fn worker_counts(list: &str) -> Result<Vec<usize>, String> {
    let counts = list.split(',').map(|word| word.parse().ok().filter(|count| *count > 0));
    counts.collect::<Option<Vec<usize>>>().ok_or_else(|| format!("--workers: `{list}` is no list of numbers"))
}

struct Stage<'a> {
    plan: &'a Plan,
    programs: Programs,
    backend: SocketAddr,
    dir: &'a Path,
    open_files: u64,
    duration: Duration,
}

#[derive(Debug, Clone)]
struct Point {
    requests_per_s: f64,
    cpu_us: f64,
    /// Of its cores: well under 1, the load was the limit.
    busy: f64,
    p99_us: f64,
    errors: u64,
    dirty: bool,
}

struct Row {
    peer: Peer,
    workers: usize,
    points: Vec<Point>,
}

impl Stage<'_> {
    fn point(&self, peer: Peer, workers: usize) -> Result<Point, String> {
        let setup = Setup {
            dir: self.dir,
            backend: self.backend,
            layer: Layer::Http,
            access_log: false,
            events: false,
            sockets: false,
            policies: false,
            cores: &self.plan.proxy[..workers],
            open_files: self.open_files,
        };
        let running = Running::start(peer, &setup, &self.programs)?;
        thread::sleep(SETTLE);
        self.measure(&running, workers)
            .map_err(|error| format!("{} with {workers} workers: {error}", peer.name()))
    }

    fn measure(&self, running: &Running, workers: usize) -> io::Result<Point> {
        let connections = CONNECTIONS_PER_WORKER * workers;
        let load = wrk::Load { scheme: "http", connections, path: "/", headers: &[] };
        let run = |time| -> io::Result<Outcome> {
            wrk::run(running.address, &load, time, &self.plan.load, self.dir)
        };
        run(WARM_UP)?;
        let cores = self.plan.all();
        let (pulse, watch) = (Pulse::start(&cores), Watch::start(&cores));
        let cpu_ns = || running.pid().map_or(0, machine::cpu_ns);
        let (before, begin) = (cpu_ns(), Instant::now());
        let outcome = run(self.duration)?;
        let (used_ns, wall) = ((cpu_ns() - before) as f64, begin.elapsed());
        let (foreign_share, slow_share) = (watch.foreign_share(), pulse.slow_share());
        Ok(Point {
            requests_per_s: outcome.requests as f64 / outcome.elapsed.as_secs_f64(),
            cpu_us: used_ns / 1000.0 / outcome.requests.max(1) as f64,
            busy: used_ns / wall.as_nanos() as f64 / workers as f64,
            p99_us: outcome.p99_us,
            errors: outcome.errors,
            dirty: is_dirty(foreign_share, slow_share),
        })
    }
}

impl Row {
    /// The median of what is clean, or of all if nothing is.
    fn median(&self, figure: impl Fn(&Point) -> f64) -> f64 {
        let clean = self.points.iter().filter(|point| !point.dirty);
        let mut values: Vec<f64> = clean.map(&figure).collect();
        if values.is_empty() {
            values = self.points.iter().map(&figure).collect();
        }
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| proxy | workers | requests/s | × fewest | CPU µs/request | cores busy | p99 µs | errors | noisy |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let rate = row.median(|point| point.requests_per_s);
        let first = rows.iter().find(|first| first.peer == row.peer).unwrap_or(row);
        let times = rate / first.median(|point| point.requests_per_s);
        let errors: u64 = row.points.iter().map(|point| point.errors).sum();
        let dirty = row.points.iter().filter(|point| point.dirty).count();
        text += &format!(
            "| {} | {} | {rate:.0} | {times:.2} | {:.1} | {:.0} % | {:.0} | {errors} | {dirty} of {} |\n",
            row.peer.name(),
            row.workers,
            row.median(|point| point.cpu_us),
            100.0 * row.median(|point| point.busy),
            row.median(|point| point.p99_us),
            row.points.len(),
        );
    }
    text
}
