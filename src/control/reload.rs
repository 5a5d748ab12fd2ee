//! Owns going from one configuration to the next: read, compile, resolve, open, and only then swap. On any
//! error the old one stays whole. The only writer of snapshots after start. What takes long is done by `background`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::config::diagnostic;
use crate::config::snapshot::{Binding, Listener, Snapshot, Transport};
use crate::config::{Blueprint, HostPort, Registry, Resolutions, compile};
use crate::net::{listener, udp};
use crate::observe::{EventKind, LogWriter, Names};
use crate::runtime::mailbox::Letter;

use super::background::{Background, Size};
use super::quotas::Quotas;
use super::state::State;
use super::watch::Watched;
use super::{dns, jwks};

/// A removed listener's sockets are still there for the workers' grace: its port is ours that long.
const REMOVED_PORT_MEMORY: Duration = Duration::from_secs(5);
/// Of a config file, at once: some ten microseconds.
const READ_BYTES: u64 = 64 << 10;
/// How long the last log lines may take at the end.
const LOG_FINISH_WAIT: Duration = Duration::from_secs(2);

/// Sockets of one listener, one per worker.
pub type Group = (Binding, Vec<Socket>);

pub struct Reloader {
    file: PathBuf,
    state: Arc<State>,
    background: Background,
    /// Replaced as a whole, with what was made with it.
    registry: Arc<Registry>,
    blueprint: Arc<Blueprint>,
    /// Of the configuration in force.
    size: Size,
    resolutions: Resolutions,
    quotas: Quotas,
    watched: Watched,
    /// Certificates, keys and roots of the configuration in force.
    watched_tls: Vec<Watched>,
    /// The config file is another one than that in force.
    is_edited: bool,
    removed_ports: HashMap<(Transport, u16), Instant>,
}

impl Reloader {
    pub fn new(
        file: &Path,
        state: Arc<State>,
        background: Background,
        registry: Registry,
        blueprint: Blueprint,
        resolutions: Resolutions,
        quotas: Quotas,
    ) -> Reloader {
        let watched = Watched::new(file);
        let removed_ports = HashMap::new();
        let size = Size::of_file(file);
        let (file, registry, blueprint) = (file.to_owned(), Arc::new(registry), Arc::new(blueprint));
        let watched_tls = watch_all(&blueprint);
        Reloader {
            file,
            state,
            background,
            registry,
            blueprint,
            size,
            resolutions,
            quotas,
            watched,
            watched_tls,
            is_edited: false,
            removed_ports,
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reads the file again. Either report is also told.
    pub async fn reload(&mut self) -> Result<String, String> {
        let begun = Instant::now();
        // What it is now is what will be read.
        let _ = self.watched.changed();
        self.is_edited = false;
        let result = self.try_reload().await;
        self.state.count_reload(&result);
        let (file, events) = (self.file.display(), &self.state.events);
        let (kind, text) = match &result {
            Ok(_) => (EventKind::ReloadTaken, format!("reloaded {file} in {:?}", begun.elapsed())),
            Err(_) => (EventKind::ReloadRefused, format!("{file} refused, the old configuration stays")),
        };
        let (Ok(report) | Err(report)) = &result;
        events.tell_at_length(kind, text, report);
        result
    }

    async fn try_reload(&mut self) -> Result<String, String> {
        let current = self.state.published.load_full();
        let file_size = Size::of_file(&self.file);
        // What is done to the old configuration's names counts, too.
        let size = file_size.max(self.size);
        let (file, previous, known) = (self.file.clone(), current.clone(), self.registry.clone());
        let compile = move || {
            let mut registry = Registry::clone(&known);
            let (blueprint, warnings) = read(&file, Some(&previous), &mut registry)?;
            Ok::<_, String>((blueprint, warnings, registry))
        };
        let (blueprint, warnings, registry) =
            self.background.run(size, compile).await.map_err(internal)??;
        self.remember(registry);
        self.quotas.open(blueprint.auths())?;
        let blueprint = Arc::new(blueprint);
        let fresh: Vec<HostPort> = blueprint
            .names_to_resolve()
            .iter()
            .filter(|name| !self.resolutions.contains_key(name))
            .cloned()
            .collect();
        self.resolutions.extend(dns::resolve(&fresh, &self.state.events).await);
        jwks::fetch_new(blueprint.auths(), self.state.mailboxes(), &self.state.events).await;
        let next = self.snapshot(&blueprint, size).await?;
        let log_error = |error| format!("error: the access log cannot be opened: {error}");
        LogWriter::try_open(&next.settings.access_log).map_err(log_error)?;
        let opened = self.open_new_listeners(&current, &next)?;
        let log = self.state.log.set_target(&next.settings.access_log);
        log.map_err(log_error)?;
        self.resolutions.retain(|name, _| blueprint.names_to_resolve().contains(name));
        self.background.free(std::mem::replace(&mut self.blueprint, blueprint));
        self.watched_tls = watch_all(&self.blueprint);
        self.size = file_size;
        self.swap(&current, next, opened);
        self.background.free(self.state.set_text(self.blueprint.text().clone()));
        Ok(warnings)
    }

    /// The snapshot to publish next, its names learned.
    async fn snapshot(&mut self, blueprint: &Arc<Blueprint>, size: Size) -> Result<Snapshot, String> {
        let (current, names) = (self.state.published.load_full(), self.state.names());
        let (known, blueprint, resolutions) =
            (self.registry.clone(), blueprint.clone(), self.resolutions.clone());
        let make = move || {
            let mut registry = Registry::clone(&known);
            let next = blueprint.snapshot(Some(&current), &mut registry, &resolutions);
            let mut names = Names::clone(&names);
            names.learn(&next);
            (next, names, registry)
        };
        let (next, names, registry) = self.background.run(size, make).await.map_err(internal)?;
        self.remember(registry);
        self.background.free(self.state.set_names(names));
        Ok(next)
    }

    fn remember(&mut self, registry: Registry) {
        self.background.free(std::mem::replace(&mut self.registry, Arc::new(registry)));
    }

    /// Frees what was published before and nobody uses any more, and gives the system back what was freed by anybody.
    /// Called about once a second.
    pub fn give_back(&mut self) {
        let unused = self.state.take_unused();
        if !unused.is_empty() {
            self.background.free(unused);
        }
        self.background.purge();
    }

    /// Opens a socket per worker for every address that is new, or nothing at all.
    fn open_new_listeners(&mut self, current: &Snapshot, next: &Snapshot) -> Result<Vec<Group>, String> {
        self.removed_ports.retain(|_, removed| removed.elapsed() < REMOVED_PORT_MEMORY);
        let known: Vec<Binding> = current.listeners.iter().map(Listener::binding).collect();
        let ours = |wanted: Binding| {
            let port = |binding: Binding| (binding.transport, binding.address.port());
            self.removed_ports.contains_key(&port(wanted))
                || known.iter().any(|&known| port(known) == port(wanted))
        };
        let new = next.listeners.iter().map(Listener::binding).filter(|wanted| !known.contains(wanted));
        new.map(|wanted| open_group(wanted, self.state.mailboxes().len(), ours(wanted))).collect()
    }

    /// Publishes, then opens and closes listeners: a connection never meets an address without its routes.
    fn swap(&mut self, current: &Snapshot, next: Snapshot, opened: Vec<Group>) {
        let wanted: Vec<Binding> = next.listeners.iter().map(Listener::binding).collect();
        let known = current.listeners.iter().map(Listener::binding);
        let removed: Vec<Binding> = known.filter(|known| !wanted.contains(known)).collect();
        self.state.publish(next);
        hand_out(&self.state, opened);
        for binding in removed {
            self.removed_ports.insert((binding.transport, binding.address.port()), Instant::now());
            self.state.tell_all(|| Letter::Unlisten { binding });
        }
    }

    /// Takes new addresses of names; publishes only if something changed.
    pub async fn resolved(&mut self, found: Resolutions) {
        let wanted = self.blueprint.names_to_resolve();
        let mut changed = false;
        for (name, mut addresses) in found {
            addresses.sort_unstable();
            addresses.dedup();
            if wanted.contains(&name) && self.resolutions.get(&name) != Some(&addresses) {
                changed = true;
                self.resolutions.insert(name, addresses);
            }
        }
        if changed {
            let blueprint = self.blueprint.clone();
            match self.snapshot(&blueprint, self.size).await {
                Ok(next) => self.state.publish(next),
                Err(report) => {
                    let text = format!("new addresses are not taken: {report}");
                    self.state.events.tell(EventKind::AddressesRefused, text);
                }
            }
        }
    }

    pub fn names_to_resolve(&self) -> &[HostPort] {
        self.blueprint.names_to_resolve()
    }

    /// Asked every second; always `false` unless the config asks to be watched.
    /// Whether to reload, since a file has changed: the config if that is asked for, a certificate always, unless what
    /// would be taken with it is a config that nobody has asked for yet.
    pub fn file_changed(&mut self) -> bool {
        let watches = self.blueprint.settings().watch;
        self.is_edited |= self.watched.changed();
        let mut changed = self.watched_tls.iter_mut().filter_map(|file| file.changed().then_some(&file.file));
        let certificate = changed.next().cloned();
        // All of them are to know what there is now.
        changed.for_each(drop);
        if let (Some(file), true, false) = (&certificate, self.is_edited, watches) {
            let (file, config) = (file.display(), self.file.display());
            let text = format!("{file} has changed, and {config}, too: reload to take both");
            self.state.events.tell(EventKind::FileChanged, text);
        }
        if watches {
            self.is_edited || certificate.is_some()
        } else {
            certificate.is_some() && !self.is_edited
        }
    }

    pub fn dns_refresh(&self) -> Duration {
        self.blueprint.settings().dns_refresh
    }

    pub fn drain_deadline(&self) -> Duration {
        self.blueprint.settings().drain_deadline
    }

    pub fn reopen_logs(&self) {
        let events = &self.state.events;
        match self.state.log.reopen() {
            Ok(()) => events.tell(EventKind::LogReopened, "logs reopened"),
            Err(error) => {
                let text = format!("the access log cannot be reopened, the old one stays: {error}");
                events.tell(EventKind::LogFailed, text);
            }
        }
    }

    /// Has written what is still to be written.
    pub fn finish(&mut self) {
        self.quotas.finish();
        if !self.state.log.finish(LOG_FINISH_WAIT) {
            let text = format!("the access log's last lines could not be written within {LOG_FINISH_WAIT:?}");
            self.state.events.tell(EventKind::LogFailed, text);
        }
    }
}

/// Reads and compiles. The error is all diagnostics as text; beside the blueprint stand warnings.
pub fn read(
    file: &Path,
    current: Option<&Snapshot>,
    registry: &mut Registry,
) -> Result<(Blueprint, String), String> {
    let bytes =
        read_in_pieces(file).map_err(|error| format!("error: cannot read {}: {error}", file.display()))?;
    let text = diagnostic::decode(file, &bytes).map_err(|diagnostics| diagnostics.to_string())?;
    let compiled = compile(file, text, current, registry);
    match compiled.blueprint {
        Some(blueprint) => Ok((blueprint, compiled.diagnostics.to_string())),
        None => Err(compiled.diagnostics.to_string()),
    }
}

/// Not `fs::read`: a kernel that does not preempt itself (PREEMPT_NONE, a usual one) lets nobody else on the core
/// before a call is over, and one that reads 10 MB into new pages takes 5 ms.
fn read_in_pieces(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let mut bytes = Vec::new();
    // What a file claims to hold may be more than there is memory for: an error, as of `fs::read`.
    bytes.try_reserve_exact(usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX))?;
    while (&mut file).take(READ_BYTES).read_to_end(&mut bytes)? > 0 {}
    Ok(bytes)
}

fn internal(message: String) -> String {
    format!("error: {message}")
}

/// One socket per worker. `ours`: this process has the port already, so that probing it would find ourselves.
pub fn open_group(binding: Binding, workers: usize, ours: bool) -> Result<Group, String> {
    let address = binding.address;
    let opened = || -> std::io::Result<Vec<Socket>> {
        match binding.transport {
            Transport::Tcp if !ours => listener::probe_free(address)?,
            Transport::Udp if !ours => udp::probe_free(address)?,
            _ => {}
        }
        let open = match binding.transport {
            Transport::Tcp => listener::open,
            Transport::Udp => udp::open,
        };
        (0..workers).map(|_| open(address)).collect()
    };
    opened().map(|sockets| (binding, sockets)).map_err(|error| explain_bind(binding, &error))
}

fn explain_bind(binding: Binding, error: &std::io::Error) -> String {
    let (address, help) = (
        binding.address,
        match error.kind() {
            std::io::ErrorKind::AddrInUse if binding.transport == Transport::Udp => {
                "another process receives there: `ss -lunp` shows which"
            }
            std::io::ErrorKind::AddrInUse => "another process listens there: `ss -ltnp` shows which",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE or root",
            std::io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
            _ => "see the system's message above",
        },
    );
    format!("error: cannot listen on {address}: {error}\n  help: {help}")
}

/// Gives each worker its socket of every group.
pub fn hand_out(state: &State, groups: Vec<Group>) {
    for (binding, sockets) in groups {
        for (mailbox, socket) in state.mailboxes().iter().zip(sockets) {
            if mailbox.send(Letter::Listen { binding, socket }).is_err() {
                let address = binding.address;
                let text = format!("a worker does not read its mailbox and will not serve {address}");
                state.events.tell(EventKind::ListenerFailed, text);
            }
        }
    }
}

fn watch_all(blueprint: &Blueprint) -> Vec<Watched> {
    blueprint.tls_files().iter().map(|file| Watched::new(&file.path)).collect()
}
