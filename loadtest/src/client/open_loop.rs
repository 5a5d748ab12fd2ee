//! Open-loop load: requests start at a fixed rate whether or not earlier ones were answered.
//! A request's latency counts from the moment it was due, so a stall is seen by every request that it delayed
//! (no coordinated omission). wrk cannot do this.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Outcome;
use super::exchange::{Exchange, Request};
use crate::histogram::Histogram;
use crate::sys::{self, EPOLLET, EPOLLIN, Epoll, Ticker};

const TICKER: u64 = u64::MAX;
/// How long after the last request its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);
const BUFFER_BYTES: usize = 16 << 10;

pub fn run(
    address: SocketAddr,
    request: Request,
    connections: usize,
    rate_per_s: u32,
    duration: Duration,
) -> io::Result<Outcome> {
    let mut load = OpenLoop::connect(address, request, connections)?;
    let interval = Duration::from_secs(1) / rate_per_s;
    let planned = (duration.as_nanos() / interval.as_nanos()) as u64;
    let mut ticker = Ticker::every(interval)?;
    load.epoll.add(&ticker, EPOLLIN, TICKER)?;
    let begin = Instant::now();
    let (mut ticks, mut events) = (0_u64, [sys::NO_EVENT; 256]);
    while load.finished() < planned && begin.elapsed() < duration + GRACE {
        let count = load.epoll.wait(&mut events, Some(GRACE))?;
        for event in &events[..count] {
            if event.u64 == TICKER {
                for _ in 0..ticker.expirations() {
                    ticks += 1;
                    if ticks <= planned {
                        load.waiting.push_back(begin + interval * ticks as u32);
                    }
                }
            } else {
                load.receive(event.u64 as usize);
            }
        }
        load.dispatch();
    }
    let unanswered = planned - load.finished();
    Ok(Outcome {
        requests: load.answered,
        errors: load.errors + unanswered,
        elapsed: begin.elapsed(),
        p50_us: load.latencies.percentile_us(50.0),
        p99_us: load.latencies.percentile_us(99.0),
        ..Outcome::default()
    })
}

struct OpenLoop {
    epoll: Epoll,
    exchanges: Vec<Exchange>,
    /// When the request in flight on each connection was due.
    due: Vec<Instant>,
    /// Used in turn, so that all connections stay warm.
    free: VecDeque<usize>,
    /// Due times of requests that found no free connection. At most rate × duration of them.
    waiting: VecDeque<Instant>,
    answered: u64,
    errors: u64,
    latencies: Histogram,
    buffer: Vec<u8>,
}

impl OpenLoop {
    fn connect(address: SocketAddr, request: Request, connections: usize) -> io::Result<Self> {
        let request = Rc::new(request);
        let epoll = Epoll::new()?;
        let mut exchanges = Vec::new();
        for index in 0..connections {
            let exchange = Exchange::connect(address, Rc::clone(&request))?;
            epoll.add(&exchange.stream, EPOLLIN | EPOLLET, index as u64)?;
            exchanges.push(exchange);
        }
        Ok(Self {
            epoll,
            exchanges,
            due: vec![Instant::now(); connections],
            free: (0..connections).collect(),
            waiting: VecDeque::new(),
            answered: 0,
            errors: 0,
            latencies: Histogram::new(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn finished(&self) -> u64 {
        self.answered + self.errors
    }

    fn dispatch(&mut self) {
        while !self.waiting.is_empty() {
            let Some(index) = self.free.pop_front() else { return };
            let Some(due) = self.waiting.pop_front() else { return };
            self.due[index] = due;
            self.exchanges[index].start();
            self.receive(index);
        }
    }

    /// A connection that fails is not used again; its request is an error.
    fn receive(&mut self, index: usize) {
        match self.exchanges[index].advance(&mut self.buffer) {
            Ok(None) => {}
            Ok(Some(_)) => {
                self.latencies.record(self.due[index].elapsed());
                self.answered += 1;
                self.free.push_back(index);
            }
            Err(_) => self.errors += 1,
        }
    }
}
