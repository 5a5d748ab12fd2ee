//! Owns `tidegate reload`: asks the running gateway over its admin endpoint and prints the answer. The address, the token and the
//! certificate that is to be found there are those of the config file; a client certificate is named by the command line.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{ClientConfig, ClientConnection};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, StreamOwned};

use crate::config::Registry;
use crate::config::snapshot::Settings;
use crate::config::tls::{ListenerTls, own};
use crate::control;
use crate::net::tls::refuses_our_certificate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

pub fn reload(arguments: &[String]) -> ExitCode {
    let wanted = match Wanted::parse(arguments) {
        Ok(wanted) => wanted,
        Err(message) => return crate::cli::usage_error(&message),
    };
    match ask(&wanted) {
        Ok((true, report)) => {
            eprint!("{report}");
            println!("reloaded");
            ExitCode::SUCCESS
        }
        Ok((false, report)) => {
            eprintln!("refused, the old configuration stays\n{}", report.trim_end());
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("tidegate: {message}");
            ExitCode::FAILURE
        }
    }
}

struct Wanted<'a> {
    file: &'a Path,
    /// A client certificate and its key.
    identity: Option<(&'a Path, &'a Path)>,
}

impl<'a> Wanted<'a> {
    fn parse(arguments: &'a [String]) -> Result<Wanted<'a>, String> {
        let (mut file, mut certificate, mut key) = (None, None, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let place = match argument.as_str() {
                "-c" | "--config" => &mut file,
                "--cert" => &mut certificate,
                "--key" => &mut key,
                other => return Err(format!("`reload` knows -c, --cert and --key, not `{other}`")),
            };
            *place = Some(rest.next().map(Path::new).ok_or(format!("`{argument}` needs a file"))?);
        }
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("`--cert FILE` and `--key FILE` go together".to_owned()),
        };
        Ok(Wanted { file: file.ok_or("which configuration? add `-c FILE`")?, identity })
    }
}

/// Whether the gateway accepted, and its report.
fn ask(wanted: &Wanted<'_>) -> Result<(bool, String), String> {
    // The file may be broken: then this is the same report that the gateway would give.
    let (blueprint, _) = control::read_config(wanted.file, &mut Registry::new())?;
    let (settings, file) = (blueprint.settings(), wanted.file.display());
    let Some(address) = settings.admin else {
        return Err(format!("{file} has no [admin] address; send SIGHUP to the gateway instead"));
    };
    let tls = match (&settings.admin_tls, wanted.identity) {
        (Some(tls), _) => Some(client(tls, settings, wanted)?),
        (None, Some(_)) => {
            return Err(format!("{file} has no `admin.tls`: nobody would see the certificate"));
        }
        (None, None) => None,
    };
    let answer = exchange(address, tls, &request(address, settings));
    let answer = answer
        .map_err(|error| format!("cannot ask the gateway at {address}: {}", explained(&error, wanted)))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the gateway's answer is cut short")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok((true, body.to_owned())),
        Some("422") => Ok((false, body.to_owned())),
        _ => Err(format!("the gateway answered {}", head.lines().next().unwrap_or_default())),
    }
}

fn client(tls: &ListenerTls, settings: &Settings, wanted: &Wanted<'_>) -> Result<Arc<ClientConfig>, String> {
    let needs_identity = tls
        .verifier
        .as_ref()
        .is_some_and(|verifier| settings.admin_token.is_none() || verifier.client_auth_mandatory());
    if needs_identity && wanted.identity.is_none() {
        let help = "add `--cert FILE --key FILE`, or `kill -HUP` the gateway, which needs none";
        return Err(format!("its admin endpoint asks for a client certificate: {help}"));
    }
    let identity = match wanted.identity {
        Some((certificate, key)) => Some(own::identity(certificate, key)?),
        None => None,
    };
    let certificate = tls.certificate().ok_or("`admin.tls` has no certificate")?;
    own::towards(certificate.clone(), identity).map_err(|error| error.to_string())
}

fn request(address: SocketAddr, settings: &Settings) -> String {
    let token = settings.admin_token.as_ref();
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {}\r\n", token.0));
    format!(
        "POST /reload HTTP/1.1\r\nhost: {address}\r\n{token}content-length: 0\r\nconnection: close\r\n\r\n"
    )
}

fn exchange(address: SocketAddr, tls: Option<Arc<ClientConfig>>, request: &str) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let Some(tls) = tls else { return converse(stream, request) };
    let name = ServerName::from(address.ip());
    converse(StreamOwned::new(ClientConnection::new(tls, name).map_err(io::Error::other)?, stream), request)
}

fn converse(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn explained(error: &io::Error, wanted: &Wanted<'_>) -> String {
    use rustls::Error::{InvalidCertificate, InvalidMessage};
    let instead = "`kill -HUP` the gateway instead";
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        // Renewed files that are not taken yet, as long as the config has been edited as well; or somebody else is there.
        Some(InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            format!(
                "it shows another certificate than that of `admin.tls`, so it was asked nothing; {instead}"
            )
        }
        Some(InvalidMessage(_)) => {
            format!("it speaks no TLS there; has it been started with this `admin.tls`? {instead}")
        }
        _ if refuses_our_certificate(error) => match wanted.identity {
            Some((certificate, _)) => format!("it does not trust {}: {error}", certificate.display()),
            None => format!("it asks for a client certificate: {error}; add `--cert FILE --key FILE`"),
        },
        // The word for it is lost where the request was on its way already.
        _ if error.kind() == io::ErrorKind::ConnectionReset && wanted.identity.is_some() => {
            format!("{error}; does it trust the certificate?")
        }
        _ => error.to_string(),
    }
}
