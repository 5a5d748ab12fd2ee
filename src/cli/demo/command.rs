//! Owns `tidegate demo`: starts the embedded model servers, writes a config file that can be edited, runs the
//! gateway on it and says what to try.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::colors::LABELS;
use super::{ModelServer, Variant, spawn};
use crate::cli::token::signed;
use crate::config::Registry;
use crate::control;

/// Where the demo listens if nobody else does.
const WEB_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9180;
const STABLE_PORT: u16 = 9001;
const V2_PORT: u16 = 9002;
const VIP_PORT: u16 = 9003;
const CLASSIFIER_PORT: u16 = 9004;

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

struct Addresses {
    web: SocketAddr,
    admin: SocketAddr,
    /// Stable, v2, vip, classifier.
    models: [SocketAddr; 4],
}

fn run(options: &Options) -> Result<(), String> {
    let servers = [
        model_server(STABLE_PORT, Variant::Stable)?,
        model_server(V2_PORT, Variant::V2)?,
        model_server(VIP_PORT, Variant::Vip)?,
        model_server(CLASSIFIER_PORT, Variant::Classifier)?,
    ];
    let web = match options.port {
        Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        None => free_address(WEB_PORT)?,
    };
    let models = servers.each_ref().map(ModelServer::address);
    let place = Addresses { web, admin: free_address(ADMIN_PORT)?, models };
    let failed = |error: std::io::Error| {
        format!("cannot write the demo's config in {}: {error}", options.dir.display())
    };
    fs::create_dir_all(&options.dir).map_err(failed)?;
    // What the classifier's configuration names, and an image for it.
    fs::write(options.dir.join("colors.txt"), LABELS.join("\n") + "\n").map_err(failed)?;
    fs::write(options.dir.join(IMAGE), SUNSET).map_err(failed)?;
    let file = options.dir.join("demo.toml");
    write_secret(&options.dir.join("jwt.secret"), &secret()?).map_err(failed)?;
    fs::write(&file, config(&place)).map_err(failed)?;
    let (ann, bob) = (token(&file, &[("sub", "ann")])?, token(&file, &[("sub", "bob"), ("group", "vip")])?);
    let hints = hints(&place, &file, &ann, &bob);
    let ran = control::run(&file, |summary| eprintln!("{summary}\n{hints}"));
    ran.map_err(|control::Failure(message)| message)
}

/// For its owner's eyes only.
fn write_secret(file: &Path, secret: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    std::io::Write::write_all(&mut opened, secret.as_bytes())
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

/// examples/gateway.toml at these addresses, with the classifier of examples/inference.toml and what else there is to try.
fn config(place: &Addresses) -> String {
    let gateway = include_str!("../../../examples/gateway.toml");
    let inference = include_str!("../../../examples/inference.toml");
    let (begin, classifier) =
        (gateway.find("[admin]").unwrap_or(0), inference.find("[service.").unwrap_or(inference.len()));
    let mut text = format!("{}\n{}{MORE_ROUTES}", &gateway[begin..], &inference[classifier..]);
    for (written, address) in [
        ("127.0.0.1:8080", place.web),
        ("127.0.0.1:9180", place.admin),
        ("127.0.0.1:9001", place.models[0]),
        ("127.0.0.1:9002", place.models[1]),
        ("127.0.0.1:9003", place.models[2]),
        ("127.0.0.1:9004", place.models[3]),
    ] {
        text = text.replace(&format!("\"{written}\""), &format!("\"{address}\""));
    }
    text = text.replace("\"stdout\"", "\"access.log\"");
    format!(
        "# The configuration of the running demo; `tidegate demo` writes it anew at each start, from examples/gateway.toml and\n\
         # examples/inference.toml. Change it, then: kill -HUP {pid}   (or: tidegate reload -c THIS_FILE)\n\n{text}",
        pid = std::process::id()
    )
}

const SUNSET: &[u8] = include_bytes!("../../../examples/sunset.jpg");
const IMAGE: &str = "sunset.jpg";

const MORE_ROUTES: &str = r#"
[[route]]
name  = "tokens"
match = { path = ["/stream", "/large", "/echo"] }
to    = "model-service-stable"

[[route]]
name    = "hello"
match   = { path = "/hello" }
respond = { status = 200, body = "Edit me, then reload.\n" }
"#;

/// A secret of nobody else's: what is in the repository is known to all.
fn secret() -> Result<String, String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no random numbers are to be had".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A token for these claims that the demo believes.
fn token(file: &Path, claims: &[(&str, &str)]) -> Result<String, String> {
    let (blueprint, _) = control::read_config(file, &mut Registry::new())?;
    let auth = blueprint.auths().first().ok_or("the demo has no [auth.NAME]")?;
    let claims = claims.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
    signed(auth, claims).ok_or_else(|| "the demo's [auth.NAME] has no secret".to_owned())
}

fn hints(place: &Addresses, file: &Path, ann: &str, bob: &str) -> String {
    let Addresses { web, admin, .. } = place;
    let pid = std::process::id();
    let body = r#"{"inputs":[{"name":"features","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}]}"#;
    let infer = format!("curl -si http://{web}/v2/models/iris/infer -d '{body}'");
    let steps = [
        ("nobody is nobody: 401, and why", format!("curl -si http://{web}/v2/models/iris")),
        (
            "ann asks a model (x-model-server says which)",
            format!("ANN={ann}\n     {infer} -H \"authorization: Bearer $ANN\""),
        ),
        (
            "and another version of it",
            format!("{infer} -H \"authorization: Bearer $ANN\" -H 'x-model-version: v2'"),
        ),
        (
            "bob, of the group `vip`, has a server of his own",
            format!("BOB={bob}\n     {infer} -H \"authorization: Bearer $BOB\""),
        ),
        (
            "the canary gets everybody (then ask as ann again)",
            format!("curl -s http://{admin}/canaries -d '{{\"route\": \"models\", \"percent\": 100}}'"),
        ),
        ("tokens as they are made", format!("curl -sN http://{web}/stream")),
        (
            "an image in, a label out (the model gets a tensor)",
            format!(
                "curl -s --data-binary @{} -H 'content-type: image/jpeg' http://{web}/classify",
                file.with_file_name(IMAGE).display()
            ),
        ),
        ("how all services stand", format!("curl -s http://{admin}/services")),
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
