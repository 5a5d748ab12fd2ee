//! Owns the control thread: one tokio runtime beside the workers for start, signals, reload, DNS, file watching
//! and admin. Reaches the workers by published snapshots and letters only; never touches a request.

mod backend;
mod background;
mod checks;
mod dns;
mod jwks;
mod quotas;
mod reload;
mod retired;
mod shown;
mod signals;
mod standings;
mod start;
mod state;
mod watch;
mod watchdog;

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use crate::config::{Blueprint, Registry};
use crate::observe::EventKind;
use crate::runtime::mailbox::Letter;

use reload::Reloader;
use signals::{Signal, Signals};
use state::{Command, Phase};

/// After the drain's deadline or a stop, workers that do not end by themselves are left behind.
const STOP_GRACE: Duration = Duration::from_secs(2);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Why the gateway could not start or had to give up. The message is complete: print it and exit with 1.
#[derive(Debug)]
pub struct Failure(pub String);

/// Reads and compiles a config file without serving it. Beside the blueprint stand warnings; the error is
/// everything that is wrong, as text.
pub fn read_config(file: &Path, registry: &mut Registry) -> Result<(Blueprint, String), String> {
    reload::read(file, None, registry)
}

/// Whether the quota files that a configuration names could be read; what is wrong with one, as text.
pub fn check_quotas(blueprint: &Blueprint) -> Result<(), String> {
    quotas::check(blueprint.auths())
}

/// Runs the gateway with this file until it is told to end. `started` is called once it serves.
pub fn run(file: &Path, started: impl FnOnce(&str)) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure(format!("cannot build the control runtime: {error}")))?;
    runtime.block_on(async {
        // Handlers first, then the mask: a signal that arrives while we start is kept, not fatal.
        let signals =
            Signals::install().map_err(|error| Failure(format!("cannot handle signals: {error}")))?;
        let started_gateway = start::start(file).await?;
        started(&started_gateway.summary);
        serve(started_gateway.reloader, started_gateway.commands, started_gateway.ended, signals).await
    })
}

/// The control loop: one thing at a time, so that reloads never overlap.
async fn serve(
    mut reloader: Reloader,
    mut commands: mpsc::Receiver<Command>,
    mut ended: mpsc::UnboundedReceiver<usize>,
    mut signals: Signals,
) -> Result<(), Failure> {
    let mut dns = ticks(reloader.dns_refresh());
    let mut watch = ticks(WATCH_INTERVAL);
    let (names, mut resolved) = dns::resolver(reloader.state().events.clone());
    loop {
        if dns.period() != reloader.dns_refresh() {
            dns = ticks(reloader.dns_refresh());
        }
        tokio::select! {
            Some(command) = commands.recv() => match command {
                Command::Reload(reply) => {
                    let result = reloader.reload().await;
                    // Whoever asked may have gone; the reload stands.
                    let _ = reply.send(result);
                }
            },
            signal = signals.next() => match signal {
                Signal::Reload => {
                    // Told on stderr by the reloader, whatever comes of it.
                    let _ = reloader.reload().await;
                }
                Signal::ReopenLogs => reloader.reopen_logs(),
                Signal::Drain => return drain(&mut reloader, &mut ended, &mut signals).await,
                Signal::Stop => return stop(&mut reloader, &mut ended).await,
            },
            _ = dns.tick() => names.ask(reloader.names_to_resolve()),
            Some(found) = resolved.recv() => reloader.resolved(found).await,
            _ = watch.tick() => {
                reloader.give_back();
                if reloader.file_changed() {
                    let _ = reloader.reload().await;
                }
            },
            Some(worker) = ended.recv() => {
                return Err(Failure(format!("worker {worker} ended unexpectedly; see the message above")));
            }
        }
    }
}

fn ticks(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Finishes what is under way, within the deadline; a second signal ends it at once.
async fn drain(
    reloader: &mut Reloader,
    ended: &mut mpsc::UnboundedReceiver<usize>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let deadline = reloader.drain_deadline();
    let events = reloader.state().events.clone();
    let text = format!("draining for at most {deadline:?}; signal again to stop now");
    events.tell(EventKind::DrainBegun, text);
    reloader.state().set_phase(Phase::Draining);
    reloader.state().tell_all(|| Letter::Drain { until: Instant::now() + deadline });
    let all_ended = wait_for_all(reloader.state().mailboxes().len(), ended);
    tokio::pin!(all_ended);
    let overdue = tokio::time::sleep(deadline + STOP_GRACE);
    tokio::pin!(overdue);
    loop {
        tokio::select! {
            () = &mut all_ended => break,
            () = &mut overdue => break,
            signal = signals.next() => match signal {
                Signal::Reload => events.tell(EventKind::ReloadRefused, "not reloading while draining"),
                Signal::ReopenLogs => reloader.reopen_logs(),
                Signal::Drain | Signal::Stop => {
                    events.tell(EventKind::Stopping, "stopping now");
                    reloader.state().tell_all(|| Letter::Stop);
                    let _ = tokio::time::timeout(STOP_GRACE, &mut all_ended).await;
                    break;
                }
            },
        }
    }
    reloader.finish();
    events.tell(EventKind::Stopping, "stopped");
    Ok(())
}

async fn stop(reloader: &mut Reloader, ended: &mut mpsc::UnboundedReceiver<usize>) -> Result<(), Failure> {
    reloader.state().set_phase(Phase::Draining);
    reloader.state().tell_all(|| Letter::Stop);
    let _ = tokio::time::timeout(STOP_GRACE, wait_for_all(reloader.state().mailboxes().len(), ended)).await;
    reloader.finish();
    reloader.state().events.tell(EventKind::Stopping, "stopped");
    Ok(())
}

async fn wait_for_all(workers: usize, ended: &mut mpsc::UnboundedReceiver<usize>) {
    for _ in 0..workers {
        if ended.recv().await.is_none() {
            return;
        }
    }
}
