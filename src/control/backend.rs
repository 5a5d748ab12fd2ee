//! Owns what the admin endpoint shows and does, by asking the shared state and the workers. Speaks no HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::admin::{AdminBackend, Answer, Change, Readiness};
use crate::config::effective;
use crate::config::snapshot::{Endpoint, Service};
use crate::config::tls::ListenerTls;
use crate::net::splice;
use crate::observe::report::{SharedReport, Totals};
use crate::observe::{
    ComputeStats, CoreReport, EventKind, Events, GatewayStats, ProcessStats, Scrape, Stuck, render,
};
use crate::proxy::canary::Canary;
use crate::runtime::clock::{self, Millis};
use crate::runtime::mailbox::{Letter, REPORT_TIMEOUT};

use super::shown::{self, routes};
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

    fn last_reload(&self) -> String {
        page(&shown::last_reload(self.generation(), &self.0.reloads()))
    }

    fn config(&self) -> Answer<'_, Result<String, String>> {
        let texts = self.0.texts();
        let mut whole = shown::last_reload(self.generation(), &self.0.reloads());
        whole["file"] = self.0.file.display().to_string().into();
        Box::pin(apart(move || {
            whole["config"] = effective(&texts.in_force.0, &texts.at_start.0)?;
            Ok(page(&whole))
        }))
    }

    fn routes(&self) -> Answer<'_, Result<String, String>> {
        let snapshot = self.0.published.load_full();
        Box::pin(apart(move || Ok(page(&routes::shown(&snapshot)))))
    }

    fn canaries(&self) -> String {
        page(&shown::canaries(&self.0.published.load()))
    }

    fn services(&self) -> Answer<'_, String> {
        Box::pin(async {
            let reports = reports(&self.0).await;
            let snapshot = self.0.published.load_full();
            apart(move || {
                let now = clock::millis(std::time::Instant::now());
                page(&shown::services(&snapshot, &Totals::of(&reports), now))
            })
            .await
        })
    }

    fn events(&self) -> String {
        page(&shown::events(&self.0.events.recent()))
    }

    fn change(&self, change: &Change) -> bool {
        let now = clock::millis(std::time::Instant::now());
        let (snapshot, events) = (self.0.published.load(), &*self.0.events);
        let service = |name: &str| snapshot.services.iter().find(|service| *service.name == *name);
        match change {
            Change::Canary { route, millionths } => {
                let route = snapshot.routes.routes().iter().find(|known| *known.name == **route);
                let canary = route.and_then(|route| route.canary.as_ref());
                let name = route.map_or("", |route| &route.name);
                canary.inspect(|canary| set_share(canary, name, *millionths, events)).is_some()
            }
            Change::Drain { service: name, endpoint, is_drained } => {
                service(name).is_some_and(|service| drain(service, endpoint, *is_drained, now, events))
            }
            Change::ResetBreaker { service: name } => {
                let service = service(name).filter(|service| service.health.breaker.is_some());
                service.inspect(|service| reset(service, now, events)).is_some()
            }
        }
    }

    fn generation(&self) -> u64 {
        self.0.published.load().generation
    }

    fn tls(&self) -> Option<Arc<ListenerTls>> {
        self.0.published.load().settings.admin_tls.clone()
    }
}

/// Not on the control thread, which would act on nothing meanwhile: a configuration may have 100,000 routes.
async fn apart<T: Send + 'static>(show: impl FnOnce() -> T + Send + 'static) -> T {
    // One at a time: it goes on when nobody waits for it any more.
    static TURN: Semaphore = Semaphore::const_new(1);
    let turn = TURN.acquire().await;
    let shown = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        show()
    });
    match shown.await {
        Ok(shown) => shown,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn page(value: &Value) -> String {
    value.to_string() + "\n"
}

fn set_share(canary: &Canary, route: &str, millionths: u32, events: &Events) {
    canary.share.set(millionths);
    let percent = shown::percent(millionths);
    events.tell(EventKind::CanarySet, format!("route {route}: its canary's share is set to {percent} %"));
}

fn reset(service: &Service, now: Millis, events: &Events) {
    service.state.breaker.reset(now);
    events.tell(EventKind::BreakerReset, format!("service {}: its breaker is reset by hand", service.name));
}

/// Takes all addresses of an endpoint out, or back in; false if the service has none of this name.
fn drain(service: &Service, name: &str, is_drained: bool, now: Millis, events: &Events) -> bool {
    let is_named =
        |endpoint: &&Arc<Endpoint>| *endpoint.label == *name || endpoint.address.to_string() == name;
    let named: Vec<_> = service.endpoints.iter().filter(is_named).collect();
    for endpoint in &named {
        if endpoint.state.health.set_drained(is_drained, now) {
            let (kind, word) = match is_drained {
                true => (EventKind::EndpointDrained, "drained"),
                false => (EventKind::EndpointUndrained, "in use again"),
            };
            events.tell(kind, format!("service {}: endpoint {} is {word}", service.name, endpoint.name()));
        }
    }
    service.state.health_changed();
    !named.is_empty()
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
    let counts = state.compute.counts();
    GatewayStats {
        compute: ComputeStats {
            waiting: state.compute.waiting(),
            done: counts.done.load(Relaxed),
            left: counts.left.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            panicked: counts.panicked.load(Relaxed),
        },
        version: env!("CARGO_PKG_VERSION"),
        started_unix_seconds: state.started_unix_seconds,
        workers: state.mailboxes().len(),
        pipes_open: splice::open_pipes(),
        snapshots_retired: state.retired(),
        reloads_ok: reloads.ok,
        reloads_failed: reloads.failed,
        last_reload_ok: reloads.is_last_ok(),
        last_reload_unix_seconds: reloads.accepted_unix_seconds,
        access_log_lines: log.lines_written,
        access_log_dropped: log.lines_dropped,
        access_log_write_errors: log.write_errors,
    }
}
