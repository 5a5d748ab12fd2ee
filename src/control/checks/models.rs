//! Owns the look at what live models say of themselves: at start, and whenever a configuration is taken, each declared model is compared
//! with the first endpoint that answers, and where the two differ it is told. Changes nothing: the server decides by itself what it takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};

use crate::config::snapshot::{Endpoint, HttpVersion, Service, Snapshot, StableId};
use crate::inference::conversion::incoming::{self, Failed, Known};
use crate::inference::conversion::{Model, outgoing};
use crate::inference::oip::rest::{Ask, ModelName};
use crate::observe::{EventKind, Events};

use super::probe;

/// Looks that have been begun, by service.
#[derive(Default)]
pub struct Looks(HashMap<StableId, Look>);

struct Look {
    model: Arc<Model>,
    handle: JoinHandle<()>,
}

/// Waits before each attempt to ask: servers take their time to load a model.
const ATTEMPTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30)];
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl Looks {
    /// Begins those of models that are new, and ends those of models that are gone.
    pub fn follow(&mut self, snapshot: &Snapshot, events: &Arc<Events>) {
        let mut before = std::mem::take(&mut self.0);
        for service in &snapshot.services {
            let Some(model) = service.model.as_ref().filter(|model| model.is_declared()) else { continue };
            let known = before.remove(&service.id);
            let look = match known {
                Some(look) if Arc::ptr_eq(&look.model, model) => look,
                other => {
                    other.into_iter().for_each(|look| look.handle.abort());
                    Look::begin(service, model, events)
                }
            };
            self.0.insert(service.id, look);
        }
        before.into_values().for_each(|look| look.handle.abort());
    }
}

impl Look {
    fn begin(service: &Service, model: &Arc<Model>, events: &Arc<Events>) -> Look {
        let (name, protocol) = (service.name.clone(), service.protocol);
        let (endpoints, model, events) = (service.endpoints.clone(), model.clone(), events.clone());
        let handle = spawn_local({
            let model = model.clone();
            async move { compare(&name, protocol, &endpoints, &model, &events).await }
        });
        Look { model, handle }
    }
}

async fn compare(
    name: &str,
    protocol: HttpVersion,
    endpoints: &[Arc<Endpoint>],
    model: &Model,
    events: &Events,
) {
    let mut why = "it has no endpoint".to_owned();
    for wait in ATTEMPTS {
        tokio::time::sleep(wait).await;
        for endpoint in endpoints {
            match ask(protocol, endpoint, model).await {
                Ok(differences) => {
                    for difference in differences {
                        let text = format!("service {name}: {difference} ({})", endpoint.name());
                        events.tell(EventKind::ModelDiffers, text);
                    }
                    return;
                }
                Err(error) => why = format!("{}: {error}", endpoint.name()),
            }
        }
    }
    events.tell(
        EventKind::ModelUnknown,
        format!("service {name}: its model cannot be asked what it takes: {why}"),
    );
}

/// Where the model is not as declared.
async fn ask(protocol: HttpVersion, endpoint: &Endpoint, model: &Model) -> Result<Vec<String>, String> {
    let (name, version) = (model.name.to_string(), model.version.as_deref().map(str::to_owned));
    let ask = Ask::ModelMetadata(ModelName { model: name, version });
    let Some(asks) = outgoing::ask(&model.speaks, &ask) else { return Ok(Vec::new()) };
    let answered = tokio::time::timeout(ANSWER_WITHIN, probe::answer_to(&asks, protocol, endpoint)).await;
    let came = answered.map_err(|_| "it does not answer in time".to_owned())??;
    match incoming::known(&model.speaks, &ask, &came) {
        Ok(Known::Model(live)) => Ok(model.differences(&live)),
        Ok(_) => Err("it says nothing of the model".into()),
        // What it does not know it will not know any better later.
        Err(Failed::Said(404, _)) => Ok(vec![format!("the server has no model {:?}", model.name)]),
        Err(Failed::Said(status, words)) => Err(format!("it answers {status}: {words}")),
        Err(Failed::Unreadable(words)) => Err(words),
    }
}
