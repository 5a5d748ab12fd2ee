//! Owns the names behind ids on the control thread: those of the current snapshot, and those that a reload
//! removed, so that their counters keep their labels. Knows names only; counts nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::snapshot::{Snapshot, StableId};
use crate::observe::report::SeriesId;

/// Names of routes, services and endpoints, present and past.
#[derive(Debug, Clone, Default)]
pub struct Names {
    routes: HashMap<StableId, Arc<str>>,
    services: HashMap<StableId, Arc<str>>,
    endpoints: HashMap<StableId, EndpointName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointName {
    pub service: Arc<str>,
    /// The address, not the label: one label ("models.local:8000") may stand for several addresses.
    pub address: Arc<str>,
}

impl Names {
    /// Call with every snapshot that is published, before the first scrape that may count under it.
    pub fn learn(&mut self, snapshot: &Snapshot) {
        self.learn_routes(snapshot.routes.routes().iter().map(|r| (r.id, r.name.clone())));
        self.learn_services(snapshot.services.iter().map(|s| (s.id, s.name.clone())));
        self.learn_endpoints(snapshot.services.iter().flat_map(|service| {
            service.endpoints.iter().map(|endpoint| {
                let address = endpoint.address.to_string().into();
                (endpoint.id, EndpointName { service: service.name.clone(), address })
            })
        }));
    }

    pub fn learn_routes(&mut self, current: impl Iterator<Item = (StableId, Arc<str>)>) {
        learn(&mut self.routes, current);
    }

    pub fn learn_services(&mut self, current: impl Iterator<Item = (StableId, Arc<str>)>) {
        learn(&mut self.services, current);
    }

    pub fn learn_endpoints(&mut self, current: impl Iterator<Item = (StableId, EndpointName)>) {
        learn(&mut self.endpoints, current);
    }

    pub fn route(&self, id: SeriesId) -> &str {
        label(&self.routes, id)
    }

    pub fn service(&self, id: SeriesId) -> &str {
        label(&self.services, id)
    }

    /// Service and address.
    pub fn endpoint(&self, id: SeriesId) -> (&str, &str) {
        match id {
            SeriesId::None => ("", ""),
            SeriesId::Other => (OTHER, OTHER),
            SeriesId::Known(id) => match self.endpoints.get(&id) {
                Some(name) => (&name.service, &name.address),
                None => (REMOVED, REMOVED),
            },
        }
    }
}

/// Adds the current names; drops those of the past only where all together exceed the bound.
fn learn<N>(known: &mut HashMap<StableId, N>, current: impl Iterator<Item = (StableId, N)>) {
    let mut current_ids = HashSet::new();
    for (id, name) in current {
        current_ids.insert(id);
        known.insert(id, name);
    }
    if known.len() > NAMES_MAX.max(current_ids.len()) {
        known.retain(|id, _| current_ids.contains(id));
    }
}

fn label(names: &HashMap<StableId, Arc<str>>, id: SeriesId) -> &str {
    match id {
        SeriesId::None => "",
        SeriesId::Other => OTHER,
        SeriesId::Known(id) => names.get(&id).map_or(REMOVED, |name| name),
    }
}

/// The label value of all ids beyond the bound on different ids.
pub const OTHER: &str = "_other";
/// The label value of ids whose names were forgotten.
pub const REMOVED: &str = "_removed";
/// Names kept per family while a configuration does not itself need more.
pub const NAMES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(ids: std::ops::Range<u32>) -> impl Iterator<Item = (StableId, Arc<str>)> {
        ids.map(|id| (StableId(id), format!("route-{id}").into()))
    }

    #[test]
    fn a_removed_name_is_kept() {
        let mut names = Names::default();
        names.learn_routes(routes(0..2));
        names.learn_routes(routes(1..3));
        assert_eq!(names.route(SeriesId::Known(StableId(0))), "route-0");
        assert_eq!(names.route(SeriesId::Known(StableId(2))), "route-2");
        assert_eq!(names.route(SeriesId::Known(StableId(9))), REMOVED);
        assert_eq!(names.route(SeriesId::None), "");
        assert_eq!(names.route(SeriesId::Other), OTHER);
    }

    #[test]
    fn the_past_is_forgotten_when_the_table_is_full_but_never_the_present() {
        let mut names = Names::default();
        let full = NAMES_MAX as u32;
        names.learn_routes(routes(0..full));
        names.learn_routes(routes(full..full + 1));
        assert_eq!(names.routes.len(), 1);
        names.learn_routes(routes(0..2 * full));
        assert_eq!(names.routes.len(), 2 * NAMES_MAX);
        names.learn_routes(routes(0..2 * full));
        assert_eq!(names.routes.len(), 2 * NAMES_MAX);
    }
}
