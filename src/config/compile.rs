//! Owns turning the text of a config file into what the data path reads, or into everything that is wrong with
//! it. `compile` gives a `Blueprint`: all but the addresses behind DNS names; `Blueprint::snapshot` adds those, as
//! often as they change. Does no I/O: the caller reads the file and resolves the names.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::balance::pick::{Balance, Picker};
use crate::config::check;
use crate::config::diagnostic::{self, Diagnostics, Problem, Report};
use crate::config::document::{
    self, Document, EndpointEntry, ListenerEntry, ProtocolWord, ServiceEntry, StartOnly,
};
use crate::config::document_auth::AuthorizerEntry;
use crate::config::document_limit::LimitEntry;
use crate::config::document_route::{ActionEntry, RouteEntry, ShadowEntry};
use crate::config::reader;
use crate::config::registry::Registry;
use crate::config::route_name::RouteNames;
use crate::config::snapshot::{
    AuthId, Endpoint, HealthPolicy, HttpVersion, Listener, Protocol, ProxyVersion, RetryPolicy, Secret,
    ServerNames, Service, ServiceId, Settings, Snapshot, StableId, UdpPolicy, UpstreamTimeouts,
};
use crate::config::tls::{ListenerTls, TlsFile, UpstreamTls};
use crate::config::value::{HostPort, Place};
use crate::inference::conversion::Model;
use crate::policy::addresses::PerAddress;
use crate::policy::identity::Auth;
use crate::policy::jwt::Keys;
use crate::proxy::authorizer::Authorizer;
use crate::proxy::canary::Canary;
use crate::proxy::concurrency::Concurrency;
use crate::proxy::limits::Limit;
use crate::proxy::route::RouteTable;
use crate::proxy::rule::{Action, Conditions, HostMatch, Rewrite, Route, Target, To};
use crate::proxy::shadow::Shadow;
use crate::proxy::template::{Source, Template};
use crate::runtime::clock::{self, Millis};

/// What became of a file.
#[derive(Debug)]
pub struct Compiled {
    /// `None` if there are errors.
    pub blueprint: Option<Blueprint>,
    /// Errors and warnings, all of them.
    pub diagnostics: Diagnostics,
}

/// A valid configuration, complete but for the addresses behind DNS names.
#[derive(Debug)]
pub struct Blueprint {
    /// What it was compiled from, for people to see (`effective`).
    text: Secret,
    settings: Settings,
    listeners: Vec<Listener>,
    routes: Arc<RouteTable>,
    services: Vec<ServiceBlueprint>,
    service_by_name: HashMap<Box<str>, ServiceId>,
    names_to_resolve: Vec<HostPort>,
    auths: Arc<[Auth]>,
    auth_names: Arc<[Arc<str>]>,
    limits: Arc<[Arc<Limit>]>,
    authorizers: Arc<[Arc<Authorizer>]>,
    tls_files: Arc<[TlsFile]>,
    model_member: Option<Arc<str>>,
}

/// Where requests name their model: OpenAI's, and those that follow it.
const MODEL: &str = "model";

#[derive(Debug)]
struct ServiceBlueprint {
    name: Arc<str>,
    endpoints: Vec<EndpointEntry>,
    balance: Balance,
    timeouts: UpstreamTimeouts,
    retry: RetryPolicy,
    health: HealthPolicy,
    concurrency: Option<Arc<Concurrency>>,
    protocol: HttpVersion,
    proxy_protocol: Option<ProxyVersion>,
    tls: Option<UpstreamTls>,
    model: Option<Arc<Model>>,
}

/// The addresses behind each name, as the control thread last resolved them. A name that is not here has none.
pub type Resolutions = HashMap<HostPort, Vec<SocketAddr>>;

/// Bytes of a config file: what 100,000 routes need, several times over.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Compiles the text of `file`, whose path is for messages and for what relative paths start from. `previous`,
/// the snapshot in force, keeps the settings that only a restart changes. Ids come from `registry`; a file with
/// errors leaves it as it was.
pub fn compile(file: &Path, text: &str, previous: Option<&Snapshot>, registry: &mut Registry) -> Compiled {
    if text.len() > FILE_BYTES_MAX {
        let report = Report::new(diagnostic::Source::new(file, ""));
        let problem = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len());
        report.error(0..1, "", Problem::new(problem));
        return Compiled { blueprint: None, diagnostics: report.finish() };
    }
    let (report, table) = reader::parse(file, text);
    let mut document = document::read(file, &report, &table);
    check::check(&document, &report);
    if let Some(previous) = previous {
        keep_start_only(&mut document.settings, &previous.settings, &document.start_only, &report);
    }
    let blueprint = (!report.has_errors()).then(|| blueprint(document, text, report.tls_files(), registry));
    Compiled { blueprint, diagnostics: report.finish() }
}

fn keep_start_only(settings: &mut Settings, before: &Settings, places: &StartOnly, report: &Report<'_>) {
    let warn = |changed: bool, key: &str, place: &std::ops::Range<usize>| {
        if changed {
            let problem = Problem::new(format!("`{key}` has changed and takes effect after a restart"));
            report.warning(place.clone(), key, problem.help("until then the old value stays"));
        }
    };
    warn(settings.workers != before.workers, "workers", &places.workers);
    warn(settings.driver != before.driver, "driver", &places.driver);
    warn(settings.admin != before.admin, "admin.address", &places.admin);
    settings.workers = before.workers;
    settings.driver = before.driver;
    settings.admin = before.admin;
    let is_other =
        settings.admin_token != before.admin_token || settings.metrics_public != before.metrics_public;
    warn(is_other, "admin", &places.admin);
    settings.admin_token.clone_from(&before.admin_token);
    settings.metrics_public = before.metrics_public;
    // Who may ask changes with the token, all at once: half of a change could let everybody in.
    if asks_certificates(&settings.admin_tls) != asks_certificates(&before.admin_tls) {
        warn(true, "admin.tls", &places.admin_tls);
        settings.admin_tls.clone_from(&before.admin_tls);
    }
}

/// `None`: there is no TLS.
fn asks_certificates(tls: &Option<Arc<ListenerTls>>) -> Option<bool> {
    tls.as_ref().map(|tls| tls.verifier.is_some())
}

fn blueprint(
    document: Document<'_>,
    text: &str,
    tls_files: Vec<TlsFile>,
    registry: &mut Registry,
) -> Blueprint {
    let services: Vec<ServiceBlueprint> = document.services.into_iter().map(service).collect();
    let by_index = services.iter().zip(0..);
    let service_by_name: HashMap<Box<str>, ServiceId> =
        by_index.map(|(service, index)| (Box::from(&*service.name), ServiceId(index))).collect();
    let settings = &document.settings;
    let listeners: Vec<Listener> = document
        .listeners
        .iter()
        .filter_map(|entry| listener(entry, &service_by_name, settings, registry))
        .collect();
    let limits: Arc<[Arc<Limit>]> =
        document.limits.into_iter().filter_map(|entry| limit(entry, registry)).collect();
    let authorizers: Arc<[Arc<Authorizer>]> = document
        .authorizers
        .into_iter()
        .filter_map(|entry| authorizer(entry, &service_by_name, registry))
        .collect();
    let auth_names: Vec<&str> = document.auths.iter().map(|entry| entry.name.value).collect();
    let lookup = Lookup {
        services: &service_by_name,
        auths: &auth_names.iter().zip(0..).map(|(name, index)| (*name, AuthId(index))).collect(),
        authorizers: &authorizers,
        limits: &limits.iter().map(|limit| (&*limit.name, limit)).collect(),
        listeners: &listeners,
        body_bytes_max: document.body_bytes_max,
        message_bytes_max: document.message_bytes_max,
    };
    let mut names =
        RouteNames::new(document.routes.iter().filter_map(|route| Some(route.name.as_ref()?.value)));
    let routes: Vec<Route> =
        document.routes.into_iter().filter_map(|entry| lookup.route(entry, &mut names, registry)).collect();
    let wants_model = routes.iter().any(reads_model)
        || services
            .iter()
            .filter_map(|service| service.concurrency.as_ref())
            .any(|concurrency| concurrency.by.contains(&Source::Model));
    Blueprint {
        text: Secret(text.into()),
        auth_names: auth_names.iter().map(|&name| name.into()).collect(),
        settings: document.settings,
        model_member: wants_model.then(|| MODEL.into()),
        routes: Arc::new(RouteTable::new(routes)),
        names_to_resolve: names_to_resolve(&services),
        listeners,
        services,
        service_by_name,
        // One that is wrong has been reported.
        limits: limits.clone(),
        authorizers: authorizers.clone(),
        auths: document.auths.into_iter().filter_map(|entry| Some(auth(entry.auth?, registry))).collect(),
        tls_files: tls_files.into(),
    }
}

/// `None` never happens here: what is missing has been reported.
fn listener(
    entry: &ListenerEntry<'_>,
    services: &HashMap<Box<str>, ServiceId>,
    settings: &Settings,
    registry: &mut Registry,
) -> Option<Listener> {
    let timeouts = &settings.client_timeouts;
    let to = || services.get(entry.to.as_ref()?.value).copied();
    let protocol = match entry.protocol {
        ProtocolWord::Http | ProtocolWord::Https => Protocol::Http,
        ProtocolWord::Tcp => Protocol::Tcp { to: to()?, idle: entry.idle_timeout.unwrap_or(timeouts.tcp) },
        ProtocolWord::TlsPassthrough => Protocol::TlsPassthrough {
            names: Arc::new(server_names(entry, services)),
            idle: entry.idle_timeout.unwrap_or(timeouts.tcp),
        },
        ProtocolWord::Udp => Protocol::Udp(UdpPolicy {
            to: to()?,
            idle: entry.idle_timeout.unwrap_or(timeouts.udp),
            responses: entry.responses,
            flows_max: entry.flows_max.unwrap_or(settings.flows_max),
        }),
    };
    Some(Listener {
        name: entry.name.value.into(),
        address: entry.address.as_ref()?.value,
        protocol,
        tls: entry.tls.clone(),
        http2: entry.http2,
        proxy_trusted: entry.proxy_trusted.clone(),
        per_address: entry.per_address.as_ref().map(|limit| PerAddress {
            connections_max: limit.connections_max,
            rate: limit.rate,
            state: registry.addresses(&entry.name.value.into()),
        }),
    })
}

fn server_names(entry: &ListenerEntry<'_>, services: &HashMap<Box<str>, ServiceId>) -> ServerNames {
    let mut names = ServerNames {
        otherwise: entry.to.as_ref().and_then(|to| services.get(to.value).copied()),
        ..ServerNames::default()
    };
    for (name, service) in &entry.sni {
        let Some(&id) = services.get(service.value) else { continue };
        match name {
            HostMatch::Exact(name) => names.exact.insert(name.clone(), id),
            HostMatch::Suffix(suffix) => names.suffixes.insert(suffix.clone(), id),
        };
    }
    names
}

fn service(entry: ServiceEntry<'_>) -> ServiceBlueprint {
    ServiceBlueprint {
        name: entry.name.value.into(),
        endpoints: entry.endpoints,
        balance: entry.balance,
        timeouts: entry.timeouts,
        retry: entry.retry,
        health: entry.health,
        concurrency: entry.concurrency.map(Arc::new),
        protocol: entry.protocol,
        proxy_protocol: entry.proxy_protocol,
        tls: entry.tls,
        model: entry.model.map(Arc::new),
    }
}

/// `None` never happens here: what is missing has been reported.
fn authorizer(
    entry: AuthorizerEntry<'_>,
    services: &HashMap<Box<str>, ServiceId>,
    registry: &mut Registry,
) -> Option<Arc<Authorizer>> {
    let name: Arc<str> = entry.name.value.into();
    let to = *services.get(entry.to?.value)?;
    let action = Action::Forward(Target { to: To::Service(to), otherwise: None });
    let counts = registry.authorizer(&name);
    // Nothing is counted by it.
    let route = Route::new(name.clone(), StableId(0), Conditions::default(), action);
    let AuthorizerEntry { path, timeout, is_open, shown, says, .. } = entry;
    Some(Arc::new(Authorizer { name, to, path, timeout, is_open, shown, says, route, counts }))
}

/// `None` never happens here: what is missing has been reported.
fn limit(entry: LimitEntry<'_>, registry: &mut Registry) -> Option<Arc<Limit>> {
    let name: Arc<str> = entry.name.value.into();
    let buckets = registry.limit(&name, &entry.key, entry.keys_max);
    Some(Arc::new(Limit { name, key: entry.key, rate: entry.rate?, buckets }))
}

/// Its keys from a URL are those that are known already, and what its API keys have used stays used.
fn auth(mut auth: Auth, registry: &mut Registry) -> Auth {
    if let Some(jwt) = &mut auth.jwt
        && let Some(keys) = jwt.keys.remote()
    {
        jwt.keys = Keys::Remote(registry.remote_keys(keys.clone()));
    }
    if let Some(keys) = &mut auth.api_keys
        && let Some(fresh) = keys.ledger.take()
    {
        keys.count_in(registry.ledger(fresh));
    }
    auth
}

/// Whether something of the route is chosen by the model that a body names.
fn reads_model(route: &Route) -> bool {
    let edits = [&route.request_headers, &route.response_headers];
    let mut templates: Vec<&Template> = edits
        .iter()
        .flat_map(|edits| edits.set.iter().chain(&edits.add))
        .map(|(_, template)| template)
        .collect();
    match &route.action {
        Action::Forward(Target { to: To::Template(template), .. })
        | Action::Redirect { location: template, .. } => templates.push(template),
        _ => {}
    }
    if let Some(Rewrite::Path(template)) = &route.rewrite {
        templates.push(template);
    }
    let limits = route.limits.iter().flat_map(|limit| &limit.key);
    let canary = route.canary.iter().filter_map(|canary| canary.by.as_ref());
    !route.conditions.models.is_empty()
        || templates
            .into_iter()
            .flat_map(Template::sources)
            .chain(limits)
            .chain(canary)
            .any(|source| *source == Source::Model)
}

fn names_to_resolve(services: &[ServiceBlueprint]) -> Vec<HostPort> {
    let places = services.iter().flat_map(|service| &service.endpoints).map(|endpoint| &endpoint.place);
    let names = places.filter_map(|place| match place {
        Place::Name(name) => Some(name),
        Place::Address(_) => None,
    });
    let mut seen = HashSet::new();
    names.filter(|name| seen.insert(*name)).cloned().collect()
}

/// What routes refer to.
struct Lookup<'d> {
    services: &'d HashMap<Box<str>, ServiceId>,
    auths: &'d HashMap<&'d str, AuthId>,
    authorizers: &'d [Arc<Authorizer>],
    limits: &'d HashMap<&'d str, &'d Arc<Limit>>,
    listeners: &'d [Listener],
    body_bytes_max: u64,
    message_bytes_max: u64,
}

impl Lookup<'_> {
    /// `None` never happens here: `check` has reported every reference to nothing, and `document_route` every
    /// route without an action.
    fn route(&self, entry: RouteEntry<'_>, names: &mut RouteNames, registry: &mut Registry) -> Option<Route> {
        let name = names.name_of(&entry);
        let named = |wanted: &str| self.listeners.iter().find(|listener| *listener.name == *wanted);
        let mut conditions = entry.conditions;
        conditions.listeners =
            entry.listeners.iter().filter_map(|wanted| Some(named(wanted.value)?.name.clone())).collect();
        conditions.auth = match &entry.auth {
            // Never let in for lack of an entry.
            Some(name) => Some(*self.auths.get(name.value)?),
            None => None,
        };
        let canary = match entry.canary {
            Some(canary) => {
                let share = registry.share(&name, canary.share);
                let to = *self.services.get(canary.to?.value)?;
                let by = canary.by.map(|by| by.value);
                let rollback = canary.rollback.map(Arc::new);
                Some(Box::new(Canary::new(&name, to, canary.headers, by, share, rollback)))
            }
            None => None,
        };
        let shadow = match entry.shadow {
            Some(shadow) => {
                let ShadowEntry { to, share, body_bytes_max, timeout } = shadow;
                Some(Box::new(Shadow { to: *self.services.get(to?.value)?, share, body_bytes_max, timeout }))
            }
            None => None,
        };
        let route = Route {
            reserved: None,
            canary,
            shadow,
            injection: entry.injection,
            id: registry.route(&name),
            name,
            conditions,
            action: self.action(entry.action?)?,
            rewrite: entry.rewrite,
            request_headers: entry.request_headers,
            response_headers: entry.response_headers,
            request_timeout: entry.request_timeout,
            first_byte_timeout: entry.first_byte_timeout,
            idle_timeout: entry.idle_timeout,
            body_bytes_max: entry.body_bytes_max.unwrap_or(self.body_bytes_max),
            message_bytes_max: entry.message_bytes_max.unwrap_or(self.message_bytes_max),
            takes: entry.takes,
            check: entry.check,
            cors: entry.cors,
            allow: entry.allow,
            authorizer: match entry.authorizer {
                // Never let in for lack of an entry.
                Some(name) => Some(self.authorizers.iter().find(|known| *known.name == *name.value)?.clone()),
                None => None,
            },
            // All of them, or it would let more through than it says.
            limits: entry
                .limits
                .iter()
                .map(|wanted| self.limits.get(wanted.value).map(|&limit| limit.clone()))
                .collect::<Option<_>>()?,
        };
        Some(route.with_reserved())
    }

    fn action(&self, entry: ActionEntry<'_>) -> Option<Action> {
        match entry {
            ActionEntry::Forward { to, otherwise, .. } => {
                let to = match to.value.as_literal() {
                    Some(name) => To::Service(*self.services.get(name)?),
                    None => To::Template(to.value),
                };
                let otherwise = match otherwise {
                    Some(name) => Some(*self.services.get(name.value)?),
                    None => None,
                };
                Some(Action::Forward(Target { to, otherwise }))
            }
            ActionEntry::Redirect { status, location } => Some(Action::Redirect { status, location }),
            ActionEntry::Respond { status, content_type, body } => {
                Some(Action::Respond { status, content_type, body })
            }
        }
    }
}

/// Addresses taken from one name: a resolver's answer is not ours to trust without bound.
const ADDRESSES_PER_NAME_MAX: usize = 256;

impl Blueprint {
    /// What `snapshot` wants resolved, each once.
    pub fn names_to_resolve(&self) -> &[HostPort] {
        &self.names_to_resolve
    }

    /// Other files that were read with the config.
    pub fn tls_files(&self) -> &[TlsFile] {
        &self.tls_files
    }

    pub fn auths(&self) -> &[Auth] {
        &self.auths
    }

    /// What it was compiled from.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The snapshot after `previous`. States of services and endpoints that it also has are carried over.
    pub fn snapshot(
        &self,
        previous: Option<&Snapshot>,
        registry: &mut Registry,
        resolved: &Resolutions,
    ) -> Snapshot {
        registry.collect(self.routes.routes().iter().map(|route| &route.name));
        // Who is there from the start has nobody to come after.
        let begins = previous.map(|_| clock::millis(Instant::now()));
        let services: Vec<_> =
            self.services.iter().map(|service| Arc::new(service.build(registry, resolved, begins))).collect();
        let endpoints = services.iter().flat_map(|service| &service.endpoints);
        Snapshot {
            generation: previous.map_or(1, |previous| previous.generation + 1),
            settings: self.settings.clone(),
            listeners: self.listeners.clone(),
            routes: self.routes.clone(),
            endpoint_ids: endpoints.map(|endpoint| endpoint.id).collect(),
            services,
            service_by_name: self.service_by_name.clone(),
            auths: self.auths.clone(),
            auth_names: self.auth_names.clone(),
            limits: self.limits.clone(),
            authorizers: self.authorizers.clone(),
            tls_files: self.tls_files.clone(),
            model_member: self.model_member.clone(),
        }
    }
}

impl ServiceBlueprint {
    /// `begins`: now, for those of its endpoints that are new.
    fn build(&self, registry: &mut Registry, resolved: &Resolutions, begins: Option<Millis>) -> Service {
        let endpoints = self.resolve(registry, resolved, begins);
        let (id, state) = registry.service(&self.name);
        Service {
            picker: Picker::new(self.balance.clone(), &endpoints),
            name: self.name.clone(),
            id,
            endpoints,
            timeouts: self.timeouts,
            retry: self.retry.clone(),
            health: self.health.clone(),
            concurrency: self.concurrency.clone(),
            protocol: self.protocol,
            proxy_protocol: self.proxy_protocol,
            model: self.model.clone(),
            state,
        }
    }

    /// Each address once, in the order of the file. Those of a name are sorted: resolvers rotate their answers,
    /// and the order decides what consistent hashing and round robin do.
    fn resolve(
        &self,
        registry: &mut Registry,
        resolved: &Resolutions,
        begins: Option<Millis>,
    ) -> Vec<Arc<Endpoint>> {
        let mut seen = HashSet::new();
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for entry in &self.endpoints {
            let label: Arc<str> = entry.place.to_string().into();
            let tls = self.tls.as_ref().map(|tls| tls.towards(&entry.place, self.protocol));
            // Whom no certificate can be for is never spoken to as if that were not asked for; the check has refused it.
            if matches!(tls, Some(None)) {
                continue;
            }
            let tls = tls.flatten();
            for address in addresses(&entry.place, resolved) {
                if seen.insert(address) {
                    let (id, state) = registry.endpoint(&self.name, address);
                    if let (Some(now), 1) = (begins, Arc::strong_count(&state)) {
                        state.health.begin(now);
                    }
                    endpoints.push(Arc::new(Endpoint {
                        id,
                        address,
                        label: label.clone(),
                        tls: tls.clone(),
                        weight: entry.weight,
                        priority: entry.priority,
                        state,
                    }));
                }
            }
        }
        endpoints
    }
}

fn addresses(place: &Place, resolved: &Resolutions) -> Vec<SocketAddr> {
    match place {
        Place::Address(address) => vec![*address],
        Place::Name(name) => {
            let mut found = resolved.get(name).cloned().unwrap_or_default();
            found.sort_unstable();
            found.dedup();
            found.truncate(ADDRESSES_PER_NAME_MAX);
            found
        }
    }
}
