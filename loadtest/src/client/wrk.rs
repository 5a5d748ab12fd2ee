//! Runs wrk for one period, a thread for each core, and reads what it counted, exactly, through a Lua `done` hook.
//! The hook alone costs wrk nothing while it runs (its request stays static).

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::sys::{self, SIGKILL};

/// Printed last, so that the figures are the last line of the output.
const DONE_HOOK: &str = "\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('%d %d %d %d %.1f %.1f\\n', summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
";
/// How much longer than asked a generator may run.
const OVERTIME: Duration = Duration::from_secs(10);

pub struct Load<'a> {
    pub scheme: &'static str,
    pub connections: usize,
    pub path: &'a str,
    pub headers: &'a [&'a str],
}

pub fn run(
    address: SocketAddr,
    load: &Load,
    duration: Duration,
    cores: &[usize],
    dir: &Path,
) -> io::Result<Outcome> {
    let script = dir.join("done.lua");
    std::fs::write(&script, DONE_HOOK)?;
    let mut command = Command::new("wrk");
    command
        .arg(format!("-t{}", cores.len()))
        .arg(format!("-c{}", load.connections))
        .arg(format!("-d{}s", duration.as_secs().max(1)));
    command.arg("-s").arg(&script);
    for header in load.headers {
        command.arg("-H").arg(header);
    }
    command.arg(format!("{}://{address}{}", load.scheme, load.path));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    sys::bind_child(&mut command, cores, SIGKILL);
    let text = output_within(command, duration)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("wrk said:\n{text}")))
}

/// What a generator says that is to end within this. It writes less than fits its pipe, so it may be waited for first and read
/// afterwards.
pub fn output_within(mut command: Command, duration: Duration) -> io::Result<String> {
    let mut child = command.spawn()?;
    wait_at_most(&mut child, duration + OVERTIME)?;
    let mut text = String::new();
    child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.read_to_string(&mut text)?;
    Ok(text)
}

fn wait_at_most(child: &mut Child, limit: Duration) -> io::Result<()> {
    let begin = Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the generator did not end"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn parse(text: &str) -> Option<Outcome> {
    let mut fields = text.trim_end().lines().last()?.split(' ');
    let mut next = || fields.next()?.parse::<f64>().ok();
    let (requests, bytes, elapsed_us, errors) = (next()?, next()?, next()?, next()?);
    Some(Outcome {
        requests: requests as u64,
        body_bytes: bytes as u64,
        errors: errors as u64,
        elapsed: Duration::from_micros(elapsed_us as u64),
        p50_us: next()?,
        p99_us: next()?,
    })
}
