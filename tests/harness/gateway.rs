//! Owns one running `tidegate run -c FILE`: its directory, ports, signals, logs and metrics. Ready means that
//! the admin's `/readyz` said so. Kills its own process on drop and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::process::{Directory, free_port};
use super::prom::Metrics;
use super::{PATIENCE, eventually, until, within};

/// A configuration with `@name@` where an address belongs, and what the names stand for. Names that were not
/// given stand for a free port on 127.0.0.1; `@dir@` is the gateway's own directory.
pub struct Setup {
    names: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    /// Shell commands that the process runs before it becomes the gateway.
    before: String,
}

impl Setup {
    pub fn new() -> Setup {
        Setup { names: BTreeMap::new(), environment: Vec::new(), before: "true".into() }
    }

    /// Runs this in the process that then becomes the gateway: `ulimit -n 100`, or entering a cgroup.
    pub fn under(mut self, command: &str) -> Setup {
        self.before = command.into();
        self
    }

    pub fn with(mut self, name: &str, address: SocketAddr) -> Setup {
        self.names.insert(name.into(), address.to_string());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the gateway on `config` and waits until it is ready.
    pub fn start(self, config: &str) -> Gateway {
        let gateway = self.spawn(config);
        gateway.wait_ready();
        gateway
    }

    /// Starts the gateway without waiting for anything.
    pub fn spawn(self, config: &str) -> Gateway {
        let mut place = Place { directory: Directory::new(), names: self.names };
        place.write_config(config);
        let mut child = Command::new("sh")
            .args(["-c", &format!("{} && exec \"$0\" run -c \"$1\"", self.before)])
            .arg(env!("CARGO_BIN_EXE_tidegate"))
            .arg(place.config_file())
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tidegate starts");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Gateway { child, place, stdout, stderr }
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

pub struct Gateway {
    child: Child,
    place: Place,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// What a reload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    Taken,
    Refused,
}

impl Gateway {
    /// A gateway on `config` with these named addresses.
    pub fn start(config: &str, names: &[(&str, SocketAddr)]) -> Gateway {
        names.iter().fold(Setup::new(), |setup, (name, address)| setup.with(name, *address)).start(config)
    }

    /// One route for everything to one service with these endpoints.
    pub fn before(backends: &[SocketAddr]) -> Gateway {
        Gateway::before_with(backends, "", "")
    }

    /// As `before`, with more top-level keys and tables in front and more keys in the service.
    pub fn before_with(backends: &[SocketAddr], top: &str, service: &str) -> Gateway {
        let list: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
        let endpoints = list.join(", ");
        Gateway::start(
            &format!(
                "{top}\n[service.main]\nendpoints = [{endpoints}]\n{service}\n\
                 [[route]]\nname = \"all\"\nmatch = {{ path = \"/**\" }}\nto = \"main\"\n"
            ),
            &[],
        )
    }

    /// The address that a name stands for, by default that of listener `web`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let text = self.place.names.get(name).unwrap_or_else(|| panic!("the config names no @{name}@"));
        text.parse().expect("an address")
    }

    pub fn web(&self) -> SocketAddr {
        self.address("web")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.web())
    }

    pub fn get(&self, path: &str) -> super::Response {
        super::get(self.web(), path)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn directory(&self) -> &Path {
        self.place.directory.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.place.config_file()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn access_log_file(&self) -> PathBuf {
        self.directory().join("access.log")
    }

    /// Every line of the access log so far, parsed.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.access_log_file()).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?}")))
            .collect()
    }

    /// Replaces the file; takes effect with `reload`.
    pub fn write_config(&mut self, config: &str) {
        self.place.write_config(config);
    }

    /// SIGHUP on a new config, and waits until the gateway says what came of it.
    pub fn reload(&mut self, config: &str) -> Reload {
        self.write_config(config);
        self.reload_file()
    }

    /// SIGHUP on the file as it is.
    pub fn reload_file(&mut self) -> Reload {
        let before = self.metrics();
        let count =
            |metrics: &Metrics, result| metrics.sum("tidegate_config_reloads_total", &[("result", result)]);
        let (taken, refused) = (count(&before, "ok"), count(&before, "error"));
        self.signal(libc::SIGHUP);
        eventually("a reload is reported", || {
            let now = self.metrics();
            match (count(&now, "ok") > taken, count(&now, "error") > refused) {
                (true, _) => Some(Reload::Taken),
                (_, true) => Some(Reload::Refused),
                _ => None,
            }
        })
    }

    pub fn generation(&self) -> u64 {
        self.metrics().sum("tidegate_config_generation", &[]) as u64
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: plain system call; the pid is that of our own child, which has not been reaped by anyone else.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Stops every thread of the process, so that all that comes until `resume` is found there at once.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let is_stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        until("the gateway is stopped", || {
            let mut threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            threads.all(|thread| {
                std::fs::read_to_string(thread.unwrap().path().join("stat")).is_ok_and(is_stopped)
            })
        });
    }

    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.child.try_wait().expect("the child can be waited for"))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin_get("/metrics").expect("the admin answers").text())
            .unwrap_or_else(|error| panic!("the metrics are not Prometheus text: {error}"))
    }

    /// Waits until a metric has this value.
    pub fn until_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut seen = f64::NAN;
        let found = within(PATIENCE, || {
            seen = self.metrics().sum(name, labels);
            (seen == value).then_some(())
        });
        assert!(found.is_some(), "{name}{labels:?} stayed at {seen}, not {value}");
    }

    pub fn admin_get(&self, path: &str) -> Result<super::Response, String> {
        let mut client = Client::try_connect(self.address("admin")).map_err(|error| error.to_string())?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        client.request("GET", head.as_bytes()).map_err(|fault| format!("{fault:?}"))
    }

    /// What the admin endpoint shows there.
    pub fn admin_json(&self, path: &str) -> serde_json::Value {
        let answer = self.admin_get(path).expect("the admin answers");
        let text = answer.text();
        assert_eq!(answer.status, 200, "GET {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("GET {path}: {error} in {text}"))
    }

    pub fn admin_post(&self, path: &str, body: &str) -> super::Response {
        let (admin, length) = (self.address("admin"), body.len());
        let head = format!("POST {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: {length}\r\n\r\n{body}");
        let answer = Client::connect(admin).request("POST", head.as_bytes());
        answer.unwrap_or_else(|fault| panic!("POST {path}: {fault:?}"))
    }

    /// Waits until an event of this kind is told whose text has these words.
    pub fn until_event(&self, kind: &str, words: &str) {
        until(&format!("{kind} with {words:?} is told"), || {
            let told = self.admin_json("/events");
            let mut events = told["events"].as_array().expect("a list").iter();
            events.any(|event| event["kind"] == kind && event["text"].as_str().unwrap().contains(words))
        });
    }

    pub fn wait_ready(&self) {
        let ready = within(PATIENCE, || {
            if !Path::new(&format!("/proc/{}/exe", self.child.id())).exists() {
                return Some(false);
            }
            self.admin_get("/readyz").is_ok_and(|answer| answer.status == 200).then_some(true)
        });
        assert!(ready == Some(true), "the gateway did not become ready; stderr:\n{}", self.stderr());
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most that was ever resident.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of this name");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Processor time that the process has used, all threads together.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process runs");
        let after_name = &stat[stat.rfind(')').expect("a name in parentheses") + 2..];
        let ticks = after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
        // USER_HZ is 100 on every Linux that matters.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Waits until the gateway said this on stderr.
    pub fn until_stderr(&self, words: &str) {
        until(&format!("stderr says {words:?}"), || self.stderr().contains(words));
    }

    /// Waits until nothing accepts on this address any more.
    pub fn until_refused(&self, address: SocketAddr) {
        until(&format!("{address} refuses"), || TcpStream::connect_timeout(&address, PATIENCE).is_err());
    }

    /// Waits until something accepts on this address.
    pub fn until_accepting(&self, address: SocketAddr) {
        until(&format!("{address} accepts"), || TcpStream::connect_timeout(&address, PATIENCE).is_ok());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the gateway's stderr ---\n{}", self.stderr());
        }
    }
}

/// Where a gateway's files are, and what the names in its config stand for.
struct Place {
    directory: Directory,
    names: BTreeMap<String, String>,
}

impl Place {
    fn config_file(&self) -> PathBuf {
        self.directory.path().join("tidegate.toml")
    }

    fn write_config(&mut self, config: &str) {
        let text = self.complete(config);
        fs::write(self.config_file(), text).expect("the config can be written");
    }

    /// Adds what every test's gateway has (workers, driver, log, admin, a listener) and fills the names in.
    fn complete(&mut self, config: &str) -> String {
        let mut text = String::new();
        let says = |name: &str| config.lines().any(|line| line.starts_with(name));
        if !says("workers =") {
            text.push_str("workers = 2\n");
        }
        if let (Ok(driver), false) = (std::env::var("TIDEGATE_TEST_DRIVER"), says("driver =")) {
            text.push_str(&format!("driver = \"{driver}\"\n"));
        }
        text.push_str(config);
        if !says("[log]") {
            text.push_str("\n[log]\naccess = \"@dir@/access.log\"\n");
        }
        if !says("[admin]") {
            text.push_str("\n[admin]\naddress = \"@admin@\"\n");
        }
        if !says("[listen.") {
            text.push_str("\n[listen.web]\naddress = \"@web@\"\nprotocol = \"http\"\n");
        }
        self.fill_names(&text)
    }

    fn fill_names(&mut self, text: &str) -> String {
        let mut filled = String::new();
        for (index, part) in text.split('@').enumerate() {
            if index % 2 == 0 {
                filled.push_str(part);
            } else if part == "dir" {
                filled.push_str(&self.directory.path().to_string_lossy());
            } else {
                let fresh = || format!("127.0.0.1:{}", free_port());
                filled.push_str(self.names.entry(part.to_owned()).or_insert_with(fresh));
            }
        }
        filled
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let shared = text.clone();
    thread::spawn(move || {
        let mut piece = [0u8; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            text.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    });
    shared
}
