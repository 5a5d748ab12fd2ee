//! Owns active health checks: a thread of its own with a task for each endpoint whose service has them, and one for each model that
//! is compared with its declaration (`models`). What a check says is `probe`'s, what many of them say `balance::health`'s. Never on the
//! request path.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::balance::hash::xxh64;
use crate::balance::health::{Checked, Checks};
use crate::config::snapshot::{
    CheckPolicy, Endpoint, HttpVersion, Service, ServiceState, Snapshot, StableId,
};
use crate::observe::{EventKind, Events};
use crate::runtime::clock;

use super::signals;
use super::state::State;

mod models;
mod probe;

/// Checks under way at once: each holds a descriptor.
const CHECKS_MAX: usize = 256;
/// Endpoints are checked at different times: each waits for up to so much of its interval more.
const SPREAD: f64 = 0.1;

/// Checks the endpoints of whatever is published, for ever.
pub fn start(state: Arc<State>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let thread = std::thread::Builder::new().name("health-checks".into());
    let body = move || LocalSet::new().block_on(&runtime, keep(&state));
    signals::with_blocked(|| thread.spawn(body)).map(drop)
}

/// A task, and what it was begun with.
struct Task {
    policy: Arc<CheckPolicy>,
    protocol: HttpVersion,
    endpoint: Arc<Endpoint>,
    handle: JoinHandle<()>,
}

impl Task {
    /// Whether it would do just what a new one would.
    fn is_for(&self, policy: &CheckPolicy, service: &Service, endpoint: &Endpoint) -> bool {
        let config = |endpoint: &Endpoint| endpoint.tls.as_ref().map(|tls| Arc::as_ptr(&tls.http.config));
        *self.policy == *policy
            && self.protocol == service.protocol
            && self.endpoint.label == endpoint.label
            && config(&self.endpoint) == config(endpoint)
    }
}

async fn keep(state: &State) {
    let mut tasks: HashMap<StableId, Task> = HashMap::new();
    let room = Rc::new(Semaphore::new(CHECKS_MAX));
    let mut looks = models::Looks::default();
    let mut changed = state.subscribe();
    loop {
        changed.mark_unchanged();
        let snapshot = state.published.load_full();
        follow(&mut tasks, &snapshot, &room, &state.events);
        looks.follow(&snapshot, &state.events);
        // Not kept while nothing changes: it may be large.
        drop(snapshot);
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Begins the tasks that are missing, and ends those whose endpoints are gone.
fn follow(
    tasks: &mut HashMap<StableId, Task>,
    snapshot: &Snapshot,
    room: &Rc<Semaphore>,
    events: &Arc<Events>,
) {
    let mut before = std::mem::take(tasks);
    for service in &snapshot.services {
        let Some(policy) = &service.health.checks else { continue };
        for endpoint in &service.endpoints {
            let task = match before.remove(&endpoint.id) {
                Some(task) if task.is_for(policy, service, endpoint) => task,
                other => {
                    other.iter().for_each(|task| task.handle.abort());
                    begin(service, endpoint, policy, room, events)
                }
            };
            tasks.insert(endpoint.id, task);
        }
    }
    for (_, task) in before {
        task.handle.abort();
        // Whoever still has it is not to hold it for down: nobody looks any more.
        task.endpoint.state.health.set_checked(Checked::Unknown, clock::millis(Instant::now()));
    }
    for service in &snapshot.services {
        service.state.health_changed();
    }
}

fn begin(
    service: &Arc<Service>,
    endpoint: &Arc<Endpoint>,
    policy: &Arc<CheckPolicy>,
    room: &Rc<Semaphore>,
    events: &Arc<Events>,
) -> Task {
    // Not the service itself: it would keep its endpoints of then.
    let check = Check {
        service_name: service.name.clone(),
        protocol: service.protocol,
        service_state: service.state.clone(),
        endpoint: endpoint.clone(),
        policy: policy.clone(),
        events: events.clone(),
    };
    let handle = spawn_local(check.repeat(room.clone()));
    Task { policy: policy.clone(), protocol: service.protocol, endpoint: endpoint.clone(), handle }
}

/// Of one endpoint.
struct Check {
    service_name: Arc<str>,
    protocol: HttpVersion,
    service_state: Arc<ServiceState>,
    endpoint: Arc<Endpoint>,
    policy: Arc<CheckPolicy>,
    events: Arc<Events>,
}

impl Check {
    async fn repeat(self, room: Rc<Semaphore>) {
        let health = &self.endpoint.state.health;
        let mut checks = Checks::new(self.policy.thresholds, health.checked());
        loop {
            let Ok(permit) = room.acquire().await else { return };
            let result = self.look().await;
            drop(permit);
            self.take_in(&mut checks, result);
            tokio::time::sleep(self.wait(health.checks_total.load(Relaxed))).await;
        }
    }

    /// What is wrong with it now, in words.
    async fn look(&self) -> Result<(), String> {
        let probe = probe::probe(&self.policy, self.protocol, &self.endpoint);
        match tokio::time::timeout(self.policy.timeout, probe).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", self.policy.timeout)),
        }
    }

    fn take_in(&self, checks: &mut Checks, result: Result<(), String>) {
        let health = &self.endpoint.state.health;
        let before = health.checked();
        health.checks_total.fetch_add(1, Relaxed);
        health.failed_checks_total.fetch_add(u64::from(result.is_err()), Relaxed);
        let verdict = checks.add(result.is_ok());
        if !health.set_checked(verdict, clock::millis(Instant::now())) {
            return;
        }
        self.service_state.health_changed();
        let (service, label) = (&self.service_name, self.endpoint.name());
        match (verdict, result) {
            (Checked::Down, Err(why)) => {
                let text = format!("service {service}: endpoint {label} is down: {why}");
                self.events.tell(EventKind::EndpointDown, text);
            }
            _ if before == Checked::Down => {
                self.events.tell(EventKind::EndpointUp, format!("service {service}: endpoint {label} is up"));
            }
            _ => {}
        }
    }

    fn wait(&self, number: u64) -> Duration {
        // Another part each time, and another one for each endpoint: no numbers need be drawn for that.
        let part = xxh64(&number.to_le_bytes(), u64::from(self.endpoint.id.0)) % 1000;
        self.policy.interval.mul_f64(1.0 + SPREAD * part as f64 / 1000.0)
    }
}
