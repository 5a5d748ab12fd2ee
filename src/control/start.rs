//! Owns the start: everything that can fail is done before the first worker runs, so a gateway either serves
//! all of its config or exits with the reason.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::admin::{self, access::Access};
use crate::config::Registry;
use crate::config::snapshot::{Protocol, Settings, Snapshot};
use crate::observe::{EventKind, Events, LogWriter, Teller};
use crate::runtime::compute::Compute;
use crate::runtime::driver::{self, Driver};
use crate::runtime::mailbox::{self, Receiver};
use crate::runtime::peers::Peers;
use crate::runtime::worker::{self, Plan};
use crate::runtime::{cpus, limits};

use super::backend::Backend;
use super::background::Background;
use super::quotas::Quotas;
use super::reload::{self, Reloader};
use super::signals;
use super::state::{Command, Phase, State};
use super::{Failure, checks, dns, jwks, standings, watchdog};

/// Commands waiting for the control loop.
const COMMANDS_MAX: usize = 16;

pub struct Started {
    pub reloader: Reloader,
    pub commands: mpsc::Receiver<Command>,
    /// The number of each worker whose thread ended.
    pub ended: mpsc::UnboundedReceiver<usize>,
    /// One line for people: what runs, how, and where.
    pub summary: String,
}

pub async fn start(file: &Path) -> Result<Started, Failure> {
    let mut registry = Registry::new();
    let (blueprint, warnings) = reload::read(file, None, &mut registry).map_err(Failure)?;
    eprint!("{warnings}");
    for advice in limits::raise_and_check() {
        eprintln!("tidegate: {advice}");
    }
    let (events, teller, told) = Events::new();
    let mut quotas = Quotas::new(events.clone());
    quotas.open(blueprint.auths()).map_err(Failure)?;
    let settings = blueprint.settings().clone();
    let driver = choose_driver(&settings)?;
    let resolutions = dns::resolve(blueprint.names_to_resolve(), &events).await;
    jwks::fetch_new(blueprint.auths(), &[], &events).await;
    let snapshot = blueprint.snapshot(None, &mut registry, &resolutions);

    let workers = settings.workers.unwrap_or_else(cpus::worker_count);
    let groups: Result<Vec<_>, String> = snapshot
        .listeners
        .iter()
        .map(|listener| reload::open_group(listener.binding(), workers, false))
        .collect();
    let groups = groups.map_err(Failure)?;
    let admin = bind_admin(&settings).await?;
    let log = signals::with_blocked(|| LogWriter::start(&settings.access_log));
    let log = log.map_err(|error| Failure(format!("error: the access log cannot be opened: {error}")))?;

    let access = access(&snapshot.settings);
    let (mailboxes, receivers) = mailboxes(workers)?;
    let (commands, commands_receiver) = mpsc::channel(COMMANDS_MAX);
    let summary = summary(&snapshot, workers, driver);
    let text = blueprint.text().clone();
    let mailboxes: Arc<[mailbox::Sender]> = mailboxes.into();
    let compute = signals::with_blocked(|| Compute::start(workers, mailboxes.clone(), cpus::give_way));
    let compute = compute.map_err(|error| Failure(format!("cannot start a thread: {error}")))?;
    let state = State::new(file, snapshot, (mailboxes, compute), commands, log, events.clone(), text);
    let state = Arc::new(state);
    let ended = spawn_workers(&state, receivers, driver, &teller)?;
    tokio::spawn(events.keep(told));
    reload::hand_out(&state, groups);
    state.set_phase(Phase::Serving);
    tokio::spawn(watchdog::keep(state.clone()));
    tokio::spawn(standings::keep(state.clone()));
    tokio::spawn(jwks::keep(state.clone()));
    checks::start(state.clone()).map_err(|error| Failure(format!("cannot start a thread: {error}")))?;
    if let Some(listener) = admin {
        tokio::spawn(admin::serve(listener, access, Arc::new(Backend(state.clone()))));
    }
    let background = Background::start();
    let background = background.map_err(|error| Failure(format!("cannot start a thread: {error}")))?;
    let reloader = Reloader::new(file, state, background, registry, blueprint, resolutions, quotas);
    Ok(Started { reloader, commands: commands_receiver, ended, summary })
}

fn choose_driver(settings: &Settings) -> Result<Driver, Failure> {
    let chosen = driver::choose(settings.driver).map_err(|error| Failure(format!("error: {error}")))?;
    for (passed_over, error) in &chosen.passed_over {
        eprintln!("tidegate: driver {} cannot be used here: {error}", passed_over.word());
    }
    Ok(chosen.driver)
}

async fn bind_admin(settings: &Settings) -> Result<Option<tokio::net::TcpListener>, Failure> {
    let Some(address) = settings.admin else { return Ok(None) };
    match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => Err(Failure(format!("error: cannot listen on admin.address {address}: {error}"))),
    }
}

fn access(settings: &Settings) -> Access {
    let is_local = settings.admin.is_some_and(|address| address.ip().is_loopback());
    let token = settings.admin_token.as_ref().map(|token| &*token.0);
    Access::new(token, is_local, settings.metrics_public)
}

fn mailboxes(workers: usize) -> Result<(Vec<mailbox::Sender>, Vec<Receiver>), Failure> {
    let pairs: std::io::Result<Vec<_>> = (0..workers).map(|_| mailbox::mailbox()).collect();
    let pairs =
        pairs.map_err(|error| Failure(format!("error: cannot make the workers' mailboxes: {error}")))?;
    Ok(pairs.into_iter().unzip())
}

fn spawn_workers(
    state: &Arc<State>,
    receivers: Vec<Receiver>,
    driver: Driver,
    teller: &Teller,
) -> Result<mpsc::UnboundedReceiver<usize>, Failure> {
    let cpus = cpus::allowed();
    let (ends, ended) = mpsc::unbounded_channel();
    for (id, letters) in receivers.into_iter().enumerate() {
        let plan = Plan {
            id,
            cpu: cpus.get(id % cpus.len()).copied(),
            driver,
            published: state.published.clone(),
            letters,
            log: state.log.core(),
            events: teller.clone(),
            peers: Peers::new(id, state.workers.clone(), state.mailboxes().clone()),
            compute: state.compute.clone(),
        };
        let (ends, events) = (ends.clone(), state.events.clone());
        let body = move || {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(plan)));
            if let Ok(Err(error)) = ran {
                events.tell(EventKind::WorkerFailed, format!("worker {id} failed: {error}"));
            }
            // The control loop may be gone already.
            let _ = ends.send(id);
        };
        let spawned = signals::with_blocked(|| {
            std::thread::Builder::new().name(format!("{}{id}", worker::WORKER_THREAD)).spawn(body)
        });
        spawned.map_err(|error| Failure(format!("error: cannot start worker {id}: {error}")))?;
    }
    Ok(ended)
}

fn summary(snapshot: &Snapshot, workers: usize, driver: Driver) -> String {
    let mut parts = vec![format!(
        "tidegate {}: {workers} worker{} on {}",
        env!("CARGO_PKG_VERSION"),
        if workers == 1 { "" } else { "s" },
        driver.word()
    )];
    let listeners = snapshot.listeners.iter();
    parts.extend(listeners.map(|listener| {
        let scheme = match listener.protocol {
            Protocol::Http if listener.tls.is_some() => "https",
            Protocol::Http => "http",
            Protocol::Tcp { .. } => "tcp",
            Protocol::TlsPassthrough { .. } => "tls",
            Protocol::Udp(_) => "udp",
        };
        format!("{} on {scheme}://{}", listener.name, listener.address)
    }));
    if let Some(admin) = snapshot.settings.admin {
        let scheme = if snapshot.settings.admin_tls.is_some() { "https" } else { "http" };
        parts.push(format!("admin on {scheme}://{admin}"));
    }
    parts.join(", ")
}
