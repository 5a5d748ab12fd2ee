//! Owns what outlives a reload on the control thread: the number of each route, service and endpoint, and the
//! shared state behind services and endpoints, found again by name.
//! Holds states weakly: who uses them (snapshots, in-flight guards) keeps them alive. Never on the request path.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use crate::config::snapshot::{EndpointState, ServiceState, StableId};
use crate::policy::addresses::Addresses;
use crate::policy::jwt::RemoteKeys;
use crate::policy::quota::Ledger;
use crate::policy::rate_limit::Buckets;
use crate::proxy::authorizer::Counts;
use crate::proxy::canary::Share;
use crate::proxy::template::Source;

/// Ids are counted up for each kind and never given to another name, so that a pooled connection or a histogram
/// kept by number can never be taken for another's. A name keeps its number while it is in use or among the
/// last [`Registry::REMOVED_MAX`] removed; after that it would get a new one.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    routes: Names<Arc<str>>,
    services: Names<Arc<str>>,
    endpoints: Names<(Arc<str>, SocketAddr)>,
    service_states: HashMap<Arc<str>, Weak<ServiceState>>,
    endpoint_states: HashMap<(Arc<str>, SocketAddr), Weak<EndpointState>>,
    limits: HashMap<Arc<str>, LimitState>,
    shares: HashMap<Arc<str>, Weak<Share>>,
    addresses: HashMap<Arc<str>, Weak<Addresses>>,
    authorizers: HashMap<Arc<str>, Weak<Counts>>,
    remote_keys: Vec<Weak<RemoteKeys>>,
    ledgers: HashMap<PathBuf, Weak<Ledger>>,
}

/// The buckets of a limit, and what they are told apart by.
#[derive(Debug, Clone)]
struct LimitState {
    key: Vec<Source>,
    keys_max: usize,
    buckets: Weak<Buckets>,
}

impl Registry {
    /// Names remembered, of each kind, beyond those in use.
    pub const REMOVED_MAX: usize = 65_536;

    pub fn new() -> Self {
        Self::default()
    }

    pub fn route(&mut self, name: &Arc<str>) -> StableId {
        self.routes.id(name)
    }

    pub fn service(&mut self, name: &Arc<str>) -> (StableId, Arc<ServiceState>) {
        (self.services.id(name), alive(&mut self.service_states, name))
    }

    pub fn endpoint(&mut self, service: &Arc<str>, address: SocketAddr) -> (StableId, Arc<EndpointState>) {
        let key = (service.clone(), address);
        (self.endpoints.id(&key), alive(&mut self.endpoint_states, &key))
    }

    /// The buckets of a limit: those that it has, unless it tells requests apart in another way by now.
    pub fn limit(&mut self, name: &Arc<str>, key: &[Source], keys_max: usize) -> Arc<Buckets> {
        let known = self.limits.get(name).filter(|known| known.key == key && known.keys_max == keys_max);
        if let Some(buckets) = known.and_then(|known| known.buckets.upgrade()) {
            return buckets;
        }
        let buckets = Arc::new(Buckets::new(keys_max));
        let state = LimitState { key: key.to_vec(), keys_max, buckets: Arc::downgrade(&buckets) };
        self.limits.insert(name.clone(), state);
        buckets
    }

    /// What an authorizer has answered.
    pub fn authorizer(&mut self, name: &Arc<str>) -> Arc<Counts> {
        alive(&mut self.authorizers, name)
    }

    /// Who has how many connections to a listener.
    pub fn addresses(&mut self, listener: &Arc<str>) -> Arc<Addresses> {
        alive(&mut self.addresses, listener)
    }

    /// The share of a route's canary, which its config says to be this.
    pub fn share(&mut self, route: &Arc<str>, millionths: u32) -> Arc<Share> {
        let share = alive(&mut self.shares, route);
        share.configure(millionths);
        share
    }

    /// The keys of a source: those that are known already, if it is known.
    pub fn remote_keys(&mut self, keys: Arc<RemoteKeys>) -> Arc<RemoteKeys> {
        self.remote_keys.retain(|known| known.strong_count() > 0);
        let known: Vec<_> = self.remote_keys.iter().filter_map(Weak::upgrade).collect();
        if let Some(known) = known.iter().find(|known| known.source.is_same(&keys.source)) {
            return known.clone();
        }
        if let Some(other) = known.iter().find(|known| known.source.is_of_same_keys(&keys.source)) {
            keys.begin_with(other);
        }
        self.remote_keys.push(Arc::downgrade(&keys));
        keys
    }

    /// The ledger of a quota file: the one that it has, if it has one.
    pub fn ledger(&mut self, fresh: Arc<Ledger>) -> Arc<Ledger> {
        if let Some(known) = self.ledgers.get(&fresh.file).and_then(Weak::upgrade) {
            return known;
        }
        self.ledgers.insert(fresh.file.clone(), Arc::downgrade(&fresh));
        fresh
    }

    /// Forgets what nobody uses any more. `routes` are the names of the configuration in force; services and
    /// endpoints are in use while their states are alive.
    pub fn collect<'r>(&mut self, routes: impl Iterator<Item = &'r Arc<str>>) {
        self.service_states.retain(|_, state| state.strong_count() > 0);
        self.endpoint_states.retain(|_, state| state.strong_count() > 0);
        self.shares.retain(|_, share| share.strong_count() > 0);
        self.authorizers.retain(|_, counts| counts.strong_count() > 0);
        self.addresses.retain(|_, addresses| addresses.strong_count() > 0);
        self.limits.retain(|_, limit| limit.buckets.strong_count() > 0);
        self.ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        self.services.collect(|name| self.service_states.contains_key(name));
        self.endpoints.collect(|key| self.endpoint_states.contains_key(key));
        if self.routes.ids.len() > Self::REMOVED_MAX {
            let used: HashSet<&Arc<str>> = routes.collect();
            self.routes.collect(|name| used.contains(name));
        }
    }
}

#[cfg(test)]
impl Registry {
    pub fn endpoints_remembered(&self) -> usize {
        self.endpoints.ids.len()
    }
}

/// The state of this key, or a new one.
fn alive<K: Hash + Eq + Clone, S: Default>(states: &mut HashMap<K, Weak<S>>, key: &K) -> Arc<S> {
    if let Some(state) = states.get(key).and_then(Weak::upgrade) {
        return state;
    }
    let state = Arc::new(S::default());
    states.insert(key.clone(), Arc::downgrade(&state));
    state
}

#[derive(Debug, Clone)]
struct Names<K> {
    ids: HashMap<K, u32>,
    next: u32,
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Names { ids: HashMap::new(), next: 0 }
    }
}

impl<K: Hash + Eq + Clone> Names<K> {
    fn id(&mut self, name: &K) -> StableId {
        if let Some(&id) = self.ids.get(name) {
            return StableId(id);
        }
        let id = self.next;
        // At a new endpoint each millisecond this takes 49 days of nothing else; restart before that.
        self.next = id.checked_add(1).expect("fewer than 2^32 names in the life of a process");
        self.ids.insert(name.clone(), id);
        StableId(id)
    }

    /// Forgets the oldest names that are not in use, beyond [`Registry::REMOVED_MAX`].
    fn collect(&mut self, in_use: impl Fn(&K) -> bool) {
        if self.ids.len() <= Registry::REMOVED_MAX {
            return;
        }
        let mut removed: Vec<u32> =
            self.ids.iter().filter(|(key, _)| !in_use(key)).map(|(_, &id)| id).collect();
        if removed.len() <= Registry::REMOVED_MAX {
            return;
        }
        removed.sort_unstable();
        let newest = removed[removed.len() - Registry::REMOVED_MAX];
        self.ids.retain(|key, id| *id >= newest || in_use(key));
    }
}
