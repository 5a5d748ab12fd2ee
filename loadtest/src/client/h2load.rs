//! Runs nghttp2's h2load for one period over HTTP/2 without TLS and reads what it counted. It tells no percentiles.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Outcome;
use super::wrk::output_within;
use crate::http2::message;
use crate::sys::{self, SIGKILL};

pub struct Load<'l> {
    pub connections: usize,
    pub streams: usize,
    pub path: &'l str,
    /// Of a gRPC call instead of a GET: the bytes of its message, and where a file for it may lie.
    pub call: Option<(usize, &'l Path)>,
}

pub fn run(address: SocketAddr, load: &Load<'_>, duration: Duration, cores: &[usize]) -> io::Result<Outcome> {
    let Load { connections, streams, path, call } = load;
    let seconds = duration.as_secs().max(1);
    let mut command = Command::new("h2load");
    command.args(["-t", &cores.len().to_string(), "-D", &seconds.to_string()]);
    command.args(["-c", &connections.to_string(), "-m", &streams.to_string()]);
    if let Some((message_bytes, dir)) = call {
        let file = dir.join("message");
        fs::write(&file, message(*message_bytes))?;
        command.arg("-d").arg(file).args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    }
    command.arg(format!("http://{address}{path}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    sys::bind_child(&mut command, cores, SIGKILL);
    let text = output_within(command, Duration::from_secs(seconds))?;
    parse(&text, seconds).ok_or_else(|| io::Error::other(format!("h2load said:\n{text}")))
}

/// `requests: 10 total, 10 started, 10 done, 9 succeeded, 1 failed, 1 errored, 0 timeout` and
/// `traffic: 1.00MB (1048576) total, 10B (10) headers (space savings 95.00%), 1.00MB (1048000) data`.
fn parse(text: &str, seconds: u64) -> Option<Outcome> {
    let line = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
    let requests = line("requests: ")?;
    let count = |word: &str| {
        let entry = requests.split(", ").find(|entry| entry.ends_with(word))?;
        entry.split(' ').next()?.parse::<u64>().ok()
    };
    let data = line("traffic: ")?.rsplit_once('(')?.1.split(')').next()?.parse().ok()?;
    Some(Outcome {
        requests: count("succeeded")?,
        body_bytes: data,
        errors: count("failed")? + count("timeout")?,
        elapsed: Duration::from_secs(seconds),
        p50_us: f64::NAN,
        p99_us: f64::NAN,
    })
}
