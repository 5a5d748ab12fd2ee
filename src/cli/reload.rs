//! Owns `tidegate reload`: asks the running gateway over its admin endpoint and prints the answer. The address
//! is the one in the config file.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Registry;
use crate::control;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

pub fn reload(file: &Path) -> ExitCode {
    match ask(file) {
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

/// Whether the gateway accepted, and its report.
fn ask(file: &Path) -> Result<(bool, String), String> {
    // The file may be broken: then this is the same report that the gateway would give.
    let (blueprint, _) = control::read_config(file, &mut Registry::new())?;
    let Some(address) = blueprint.settings().admin else {
        return Err(format!("{} has no [admin] address; send SIGHUP to the gateway instead", file.display()));
    };
    let failed = |error: std::io::Error| format!("cannot ask the gateway at {address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    let token = blueprint.settings().admin_token.as_ref();
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {}\r\n", token.0));
    let request = format!(
        "POST /reload HTTP/1.1\r\nhost: {address}\r\n{token}content-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the gateway's answer is cut short")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok((true, body.to_owned())),
        Some("422") => Ok((false, body.to_owned())),
        _ => Err(format!("the gateway answered {}", head.lines().next().unwrap_or_default())),
    }
}
