//! Closed-loop load of large bodies: each connection downloads or uploads one after another.
//! Counts whole bodies only; latency is not its subject.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Outcome;
use super::exchange::{Exchange, Request};
use crate::sys::{self, EPOLLET, EPOLLIN, EPOLLOUT, Epoll};

const HEAD_BUFFER_BYTES: usize = 4096;
const WAIT_MAX: Duration = Duration::from_millis(100);

pub fn run(
    address: SocketAddr,
    request: Request,
    connections: usize,
    duration: Duration,
) -> io::Result<Outcome> {
    let request = Rc::new(request);
    let epoll = Epoll::new()?;
    let mut exchanges = Vec::new();
    for index in 0..connections {
        exchanges.push(Some(open(&epoll, address, &request, index)?));
    }
    let mut outcome = Outcome::default();
    let mut buffer = [0; HEAD_BUFFER_BYTES];
    let mut events = [sys::NO_EVENT; 64];
    let begin = Instant::now();
    while begin.elapsed() < duration && exchanges.iter().any(Option::is_some) {
        let count = epoll.wait(&mut events, Some(WAIT_MAX))?;
        for event in &events[..count] {
            let index = event.u64 as usize;
            let Some(exchange) = exchanges[index].as_mut() else { continue };
            if serve(exchange, &mut buffer, &mut outcome).is_err() {
                outcome.errors += 1;
                exchanges[index] = open(&epoll, address, &request, index).ok();
            }
        }
    }
    outcome.elapsed = begin.elapsed();
    Ok(outcome)
}

/// Edge-triggered: goes on, into the next request too, until the socket blocks.
fn serve(exchange: &mut Exchange, buffer: &mut [u8], outcome: &mut Outcome) -> io::Result<()> {
    while let Some(bytes) = exchange.advance(buffer)? {
        outcome.requests += 1;
        outcome.body_bytes += bytes;
        exchange.start();
    }
    Ok(())
}

/// A connection with its first request begun; adding it raises its first event.
fn open(epoll: &Epoll, address: SocketAddr, request: &Rc<Request>, index: usize) -> io::Result<Exchange> {
    let mut exchange = Exchange::connect(address, Rc::clone(request))?;
    exchange.start();
    epoll.add(&exchange.stream, EPOLLIN | EPOLLOUT | EPOLLET, index as u64)?;
    Ok(exchange)
}
