//! Owns name resolution: asks the system's resolver on tokio's blocking threads, all names at once, each
//! bounded in time. A name that fails keeps its last addresses. Publishes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{HostPort, Resolutions};
use crate::observe::{EventKind, Events};

/// One name's bound; getaddrinfo(3) has its own, longer one.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks up all names; those that fail are missing in the answer and told.
pub async fn resolve(names: &[HostPort], events: &Events) -> Resolutions {
    let failed = |text: String| events.tell(EventKind::LookupFailed, text);
    let mut lookups = JoinSet::new();
    for name in names.iter().cloned() {
        lookups.spawn(async move {
            let found =
                timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name.host.to_string(), name.port))).await;
            (name, found)
        });
    }
    let mut resolved = Resolutions::new();
    while let Some(lookup) = lookups.join_next().await {
        match lookup {
            Ok((name, Ok(Ok(addresses)))) => {
                resolved.insert(name, addresses.collect());
            }
            Ok((name, Ok(Err(error)))) => failed(format!("cannot resolve {name}: {error}")),
            Ok((name, Err(_))) => failed(format!("cannot resolve {name} within {LOOKUP_TIMEOUT:?}")),
            Err(error) => failed(format!("a lookup failed: {error}")),
        }
    }
    resolved
}

/// Asks for names in the background, one batch at a time.
pub struct Asker(mpsc::Sender<Vec<HostPort>>);

/// An asker, and where its answers arrive.
pub fn resolver(events: Arc<Events>) -> (Asker, mpsc::Receiver<Resolutions>) {
    let (ask, mut asked) = mpsc::channel::<Vec<HostPort>>(1);
    let (answer, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(names) = asked.recv().await {
            if answer.send(resolve(&names, &events).await).await.is_err() {
                return;
            }
        }
    });
    (Asker(ask), answers)
}

impl Asker {
    pub fn ask(&self, names: &[HostPort]) {
        if !names.is_empty() {
            // A batch under way will do: the next tick asks again.
            let _ = self.0.try_send(names.to_vec());
        }
    }
}
