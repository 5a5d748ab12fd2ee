//! Owns what the admin endpoint shows and does, by asking the shared state and the workers. Speaks no HTTP.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::admin::{AdminBackend, Answer, Readiness};
use crate::net::splice;
use crate::observe::report::SharedReport;
use crate::observe::{CoreReport, GatewayStats, ProcessStats, Scrape, Stuck, render};
use crate::runtime::mailbox::{Letter, REPORT_TIMEOUT};

use super::state::{Command, Phase, State};
use super::watchdog::Watched;

pub struct Backend(pub Arc<State>);

impl AdminBackend for Backend {
    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async move {
            let cores = reports(&self.0).await;
            let shared = SharedReport::of(&self.0.published.load());
            let stuck: Vec<_> = self.0.watchdog().workers().iter().map(stuck).collect();
            let scrape = Scrape {
                cores: &cores,
                shared: &shared,
                names: &self.0.names(),
                gateway: gateway_stats(&self.0),
                stuck: &stuck,
                process: ProcessStats::read(),
            };
            render(&scrape)
        })
    }

    fn readiness(&self) -> Readiness {
        match self.0.phase() {
            Phase::Starting => Readiness::Starting("the listeners are not open yet".into()),
            Phase::Serving => Readiness::Ready,
            Phase::Draining => Readiness::Draining,
        }
    }

    fn reload(&self) -> Answer<'_, Result<String, String>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let gone = || Err("the gateway is ending".to_owned());
            if self.0.commands.send(Command::Reload(reply)).await.is_err() {
                return gone();
            }
            answer.await.unwrap_or_else(|_| gone())
        })
    }

    fn canaries(&self) -> String {
        let snapshot = self.0.published.load();
        let percent = |millionths: u32| f64::from(millionths) / 10_000.0;
        let canaries = snapshot.routes.routes().iter().filter_map(|route| {
            let canary = route.canary.as_ref()?;
            Some(serde_json::json!({
                "route": &*route.name,
                "to": &*snapshot.service(canary.to).name,
                "percent": percent(canary.share.now()),
                "configured": percent(canary.share.configured()),
            }))
        });
        serde_json::json!({ "canaries": canaries.collect::<Vec<_>>() }).to_string() + "\n"
    }

    fn set_canary(&self, route: &str, millionths: u32) -> Option<String> {
        let snapshot = self.0.published.load();
        let named = snapshot.routes.routes().iter().find(|known| *known.name == *route);
        named?.canary.as_ref()?.share.set(millionths);
        Some(self.canaries())
    }

    fn generation(&self) -> u64 {
        self.0.published.load().generation
    }
}

/// The counters of every worker that answers in time.
async fn reports(state: &State) -> Vec<CoreReport> {
    let asked = state.mailboxes().iter().filter_map(|mailbox| {
        let (reply, answer) = oneshot::channel();
        mailbox.send(Letter::Report(reply)).is_ok().then_some(answer)
    });
    // All are asked before the first answer is waited for.
    let asked: Vec<_> = asked.collect();
    let until = Instant::now() + REPORT_TIMEOUT;
    let mut reports = Vec::with_capacity(asked.len());
    for answer in asked {
        if let Ok(Ok(report)) = timeout_at(until, answer).await {
            reports.push(report);
        }
    }
    reports
}

fn stuck(worker: &Watched) -> Stuck {
    Stuck { is_now: worker.is_stuck(), total: worker.stuck_total }
}

fn gateway_stats(state: &State) -> GatewayStats {
    let reloads = state.reloads();
    let log = state.log.counts();
    GatewayStats {
        version: env!("CARGO_PKG_VERSION"),
        started_unix_seconds: state.started_unix_seconds,
        workers: state.mailboxes().len(),
        pipes_open: splice::open_pipes(),
        snapshots_retired: state.retired(),
        reloads_ok: reloads.ok,
        reloads_failed: reloads.failed,
        last_reload_ok: reloads.last_ok,
        last_reload_unix_seconds: reloads.accepted_unix_seconds,
        access_log_lines: log.lines_written,
        access_log_dropped: log.lines_dropped,
        access_log_write_errors: log.write_errors,
    }
}
