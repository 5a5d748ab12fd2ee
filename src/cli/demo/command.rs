//! Owns `tidegate demo`: starts the embedded model servers, writes a config file that can be edited, runs the
//! gateway on it and says what to try.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{ModelServer, Variant, spawn};
use crate::control;

/// Where the demo listens if nobody else does.
const WEB_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9180;
const STABLE_PORT: u16 = 9001;
const V2_PORT: u16 = 9002;

pub fn demo(arguments: &[String]) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(message) => return crate::cli::usage_error(&message),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tidegate: {}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

struct Options {
    dir: PathBuf,
    port: Option<u16>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options { dir: PathBuf::from("tidegate-demo"), port: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--dir" => options.dir = PathBuf::from(value()?),
                "--port" => {
                    let port = value()?;
                    let parsed = port.parse().map_err(|_| format!("`{port}` is no port; write 1 to 65535"));
                    options.port = Some(parsed?);
                }
                unknown => return Err(format!("`demo` knows --dir and --port, not `{unknown}`")),
            }
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<(), String> {
    let (stable, v2) = (model_server(STABLE_PORT, Variant::Stable)?, model_server(V2_PORT, Variant::V2)?);
    let web = match options.port {
        Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        None => free_address(WEB_PORT)?,
    };
    let admin = free_address(ADMIN_PORT)?;
    let failed = |error: std::io::Error| {
        format!("cannot write the demo's config in {}: {error}", options.dir.display())
    };
    fs::create_dir_all(&options.dir).map_err(failed)?;
    let file = options.dir.join("demo.toml");
    fs::write(&file, config(web, admin, stable.address(), v2.address())).map_err(failed)?;
    let hints = hints(web, admin, &file);
    let ran = control::run(&file, |summary| eprintln!("{summary}\n{hints}"));
    ran.map_err(|control::Failure(message)| message)
}

fn model_server(port: u16, variant: Variant) -> Result<ModelServer, String> {
    let failed = |error: std::io::Error| format!("cannot start the demo's model server: {error}");
    // A taken port is no reason to fail: the address is written into the config anyway.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).map_err(failed)?;
    spawn(listener, variant).map_err(failed)
}

/// The wished port if it is free, else any.
fn free_address(wished: u16) -> Result<SocketAddr, String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, wished));
    let bound = bound.or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    bound.and_then(|listener| listener.local_addr()).map_err(|error| format!("no free port: {error}"))
}

fn config(web: SocketAddr, admin: SocketAddr, stable: SocketAddr, v2: SocketAddr) -> String {
    format!(
        r#"# The configuration of the running demo; `tidegate demo` writes it anew at each start.
# Change it, then: kill -HUP {pid}   (or: tidegate reload -c THIS_FILE)

[admin]
address = "{admin}"

[log]
access = "access.log"

[listen.web]
address = "{web}"

[service.model-service-stable]
endpoints = ["{stable}"]

[service.model-service-v2]
endpoints = ["{v2}"]

[[route]]                            # first match wins, in this order
name      = "models"
match     = {{ path = "/v2/**" }}
to        = "model-service-{{header:x-model-version}}"
otherwise = "model-service-stable"

[[route]]
name  = "tokens"
match = {{ path = ["/stream", "/large", "/echo"] }}
to    = "model-service-stable"

[[route]]
name    = "hello"
match   = {{ path = "/hello" }}
respond = {{ status = 200, body = "Edit me, then reload.\n" }}
"#,
        pid = std::process::id()
    )
}

fn hints(web: SocketAddr, admin: SocketAddr, file: &Path) -> String {
    let pid = std::process::id();
    let body = r#"{"inputs":[{"name":"features","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}]}"#;
    let infer = format!("curl -si http://{web}/v2/models/iris/infer -d '{body}'");
    let steps = [
        ("a model version by header (see x-model-server: v2)", format!("{infer} -H 'x-model-version: v2'")),
        ("a version that does not exist falls back to stable", format!("{infer} -H 'x-model-version: v9'")),
        ("tokens as they are made", format!("curl -sN http://{web}/stream")),
        (
            "what the gateway counted",
            format!("curl -s http://{admin}/metrics | grep ^tidegate_requests_total"),
        ),
        (
            "edit a route, reload, lose nothing",
            format!(
                "sed -i 's/Edit me, then reload./It works./' {} && kill -HUP {pid} && sleep 0.2 && curl -s http://{web}/hello",
                file.display()
            ),
        ),
    ];
    let mut text = String::from("\nTry, in another terminal:\n");
    for (number, (what, command)) in steps.iter().enumerate() {
        let _ = write!(text, "\n  {}. {what}\n     {command}\n", number + 1);
    }
    let _ = write!(text, "\nThe configuration is {}. Ctrl-C ends the demo.\n", file.display());
    text
}
