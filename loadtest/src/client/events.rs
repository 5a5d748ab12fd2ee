//! Load of event streams: many connections, each receiving server-sent events at a fixed rate.
//! Counts events by a byte that each holds once; whatever chunking a proxy chooses does not matter.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::Outcome;
use crate::backend::answer::EVENT_TIME_DIGITS;
use crate::histogram::Histogram;
use crate::sys::{self, EPOLLIN, Epoll};

/// Once in every event of the backend, never in a head or in chunk framing; the time follows this far behind.
const EVENT_MARK: u8 = b'[';
const TIME_OFFSET: usize = b"[{\"at\":".len();
const WAIT_MAX: Duration = Duration::from_millis(100);

pub fn run(address: SocketAddr, streams: usize, rate_per_s: u32, duration: Duration) -> io::Result<Outcome> {
    let epoll = Epoll::new()?;
    let mut sockets = Vec::new();
    for index in 0..streams {
        let mut socket = TcpStream::connect(address)?;
        let request = format!("GET /sse?rate={rate_per_s} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EPOLLIN, index as u64)?;
        sockets.push(Some(socket));
    }
    let mut outcome = Outcome::default();
    let mut delays = Histogram::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events = [sys::NO_EVENT; 256];
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let count = epoll.wait(&mut events, Some(WAIT_MAX))?;
        for event in &events[..count] {
            let Some(socket) = sockets[event.u64 as usize].as_mut() else { continue };
            match socket.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    outcome.requests += count_events(&buffer[..count], &mut delays);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    // A stream never ends by itself.
                    outcome.errors += 1;
                    sockets[event.u64 as usize] = None;
                }
            }
        }
    }
    outcome.elapsed = begin.elapsed();
    (outcome.p50_us, outcome.p99_us) = (delays.percentile_us(50.0), delays.percentile_us(99.0));
    let expected = streams as f64 * f64::from(rate_per_s) * duration.as_secs_f64();
    if (outcome.requests as f64) < expected * 0.95 {
        outcome.errors += (expected - outcome.requests as f64) as u64;
    }
    Ok(outcome)
}

/// How many events begin in `bytes`; the delay of each is recorded, except where a read ended inside its time.
fn count_events(bytes: &[u8], delays: &mut Histogram) -> u64 {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut events = 0;
    for (position, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == EVENT_MARK) {
        events += 1;
        let start = position + TIME_OFFSET;
        let digits =
            bytes.get(start..start + EVENT_TIME_DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(sent_us) = digits.and_then(|digits| digits.parse().ok()) {
            delays.record(now.saturating_sub(Duration::from_micros(sent_us)));
        }
    }
    events
}
