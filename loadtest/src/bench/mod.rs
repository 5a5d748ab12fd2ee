//! `loadtest bench`: interleaved rounds over cases and peers, and the tables that come of them.
//! Owns the order of the samples and which of them count; a sample is `measure`'s, its output `report`'s.

mod case;
pub mod machine;
mod measure;
mod plan;
mod pulse;
mod report;
pub mod scale;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::Duration;

use crate::args::Args;
use crate::peers::{self, Peer, Programs};
use crate::sys;
use case::{Case, Load};
use measure::Bench;
use plan::Plan;
use report::{CaseResult, PeerResult, Run};

const DEFAULT_PEERS: &str = "tidegate,nginx,haproxy,forwarder";
const REPEATS_MAX: usize = 3;
/// Rounds after the asked ones, for the peers that lack clean samples.
const EXTRA_ROUNDS_MAX: usize = 3;
/// Before a repeat, so that what disturbed may end.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
const DIR_PREFIX: &str = "tidegate-loadtest-";
const ROUNDS_MAX: usize = 100;
const SECONDS_MAX: u64 = 60;

pub fn main(words: &[String]) -> Result<(), String> {
    let options = Options::parse(words)?;
    let mut cores = plan::cores_apart(sys::allowed_cores());
    if cores.len() <= options.load_cores {
        let needed = options.load_cores + 1;
        return Err(format!("needs {needed} cores, there are {}: one is the proxy's", cores.len()));
    }
    cores.truncate(1 + options.load_cores);
    let plan = Plan::new(&cores, 1)?;
    sys::pin(&plan.load).map_err(|error| format!("cores {:?}: {error}", plan.load))?;
    pulse::calibrate();
    let open_files = sys::raise_open_files();
    let dir = TemporaryDir::new()?;
    let (_backend, address) = plan.start_backend()?;
    let (backend, http2_address) =
        peers::start_own(&["http2-backend", "--listen", "127.0.0.1:0"], &plan.backend)
            .map_err(|error| format!("backend of gRPC: {error}"))?;
    let _http2_backend = Stopped(Some(backend));
    let bench = Bench {
        programs: &options.programs,
        dir: &dir.0,
        backend: address,
        http2_backend: http2_address,
        plan: &plan,
        duration: Duration::from_secs(options.seconds),
        access_log: options.access_log,
        open_files,
    };
    let cases: Vec<CaseResult> = options.cases.iter().map(|case| run_case(&bench, case, &options)).collect();
    let run = Run::new(cases, options.rounds, &options.programs, words, &plan);
    finish(&run, &options)
}

fn finish(run: &Run, options: &Options) -> Result<(), String> {
    println!("{}", report::markdown(run));
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report::json(run));
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &options.write {
        if !run.is_clean() && !options.allow_noisy {
            return Err(format!(
                "{} not written: some figures are noisy or missing (--allow-noisy)",
                path.display()
            ));
        }
        report::write_between_markers(path, run)?;
    }
    if run.failures().next().is_some() { Err("some peers could not be measured".to_owned()) } else { Ok(()) }
}

struct Options {
    cases: Vec<&'static Case>,
    peers: Vec<Peer>,
    rounds: usize,
    seconds: u64,
    load_cores: usize,
    access_log: bool,
    allow_noisy: bool,
    write: Option<PathBuf>,
    json: Option<PathBuf>,
    programs: Programs,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let valued = ["cases", "peers", "rounds", "seconds", "write", "json", "tidegate", "load-cores"];
        let args = Args::parse(words, &valued, &["access-log", "allow-noisy"])?;
        let programs = Programs::find(args.text("tidegate"));
        let options = Self {
            cases: case::by_names(args.text("cases").unwrap_or(case::DEFAULT))?,
            peers: choose_peers(args.text("peers"), &programs)?,
            rounds: args.get("rounds")?.unwrap_or(3).clamp(1, ROUNDS_MAX),
            seconds: args.get("seconds")?.unwrap_or(3).clamp(1, SECONDS_MAX),
            load_cores: args.get("load-cores")?.unwrap_or(1).max(1),
            access_log: args.has("access-log"),
            allow_noisy: args.has("allow-noisy"),
            write: args.text("write").map(PathBuf::from),
            json: args.text("json").map(PathBuf::from),
            programs,
        };
        let needs_wrk = options.cases.iter().any(|case| matches!(case.load, Load::Wrk { .. }));
        if needs_wrk && options.programs.wrk.is_none() {
            return Err("wrk is missing: apt-get install wrk".to_owned());
        }
        let needs_h2load =
            options.cases.iter().any(|case| matches!(case.load, Load::H2load { .. } | Load::Calls { .. }));
        if needs_h2load && options.programs.h2load.is_none() {
            return Err("h2load is missing: apt-get install nghttp2-client".to_owned());
        }
        Ok(options)
    }
}

/// Peers that were asked for must be there; of the usual ones those that are missing are named and left out.
fn choose_peers(asked: Option<&str>, programs: &Programs) -> Result<Vec<Peer>, String> {
    let mut chosen = Vec::new();
    for name in asked.unwrap_or(DEFAULT_PEERS).split(',') {
        let names = Peer::ALL.map(Peer::name).join(", ");
        let peer = Peer::by_name(name).ok_or_else(|| format!("no peer `{name}`; there are {names}"))?;
        match programs.missing(peer) {
            None => chosen.push(peer),
            Some(advice) if asked.is_some() => return Err(format!("{name} is missing: {advice}")),
            Some(advice) => eprintln!("loadtest: without {name}, which is missing: {advice}"),
        }
    }
    Ok(chosen)
}

/// A B C, A B C, …: what drifts on the machine meets all peers alike.
fn run_case(bench: &Bench, case: &'static Case, options: &Options) -> CaseResult {
    let mut peers: Vec<PeerResult> = case.lineup(&options.peers).into_iter().map(PeerResult::new).collect();
    for round in 1..=options.rounds + EXTRA_ROUNDS_MAX {
        let extra = round > options.rounds;
        for result in peers.iter_mut().filter(|result| result.wants_sample(extra, options.rounds)) {
            eprint!("{} round {round} {:<16} ", case.name, result.peer.name());
            run_sample(bench, case, result);
        }
    }
    CaseResult { case, peers }
}

/// Takes one sample, again if others used the machine meanwhile; the last one stays, marked, if none was clean.
fn run_sample(bench: &Bench, case: &Case, result: &mut PeerResult) {
    for repeat in 0..=REPEATS_MAX {
        match bench.sample(case, result.peer) {
            Err(problem) => {
                eprintln!("failed: {problem}");
                result.failure = Some(problem);
                return;
            }
            Ok(sample) => {
                let dirty = sample.is_dirty();
                eprintln!("{}{}", report::progress(case, &sample), if dirty { " (noisy)" } else { "" });
                if !dirty {
                    result.clean.push(sample);
                    return;
                }
                if repeat == REPEATS_MAX {
                    result.dirty.push(sample);
                    return;
                }
                result.discarded += 1;
                eprint!("  again {}/{REPEATS_MAX} ", repeat + 1);
                thread::sleep(REPEAT_PAUSE);
            }
        }
    }
}

/// Our own directory for configurations and logs, gone at the end.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new() -> Result<Self, String> {
        remove_orphans();
        let path = env::temp_dir().join(format!("{DIR_PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What runs left that were killed; their number is the pid of nobody now.
fn remove_orphans() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(DIR_PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !machine::exists(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

struct Stopped(Option<Child>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            peers::stop(child);
        }
    }
}
