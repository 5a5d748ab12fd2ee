//! The pool against a plain model, with real sockets on a real driver: never over its bounds, last in first
//! out, and never a connection that the upstream has closed or spoken on.

use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::config::snapshot::DriverChoice;
use crate::net::readiness::Readiness;
use crate::net::tcp::Stream;
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver;
use std::future::Future;

const LIMITS: PoolLimits =
    PoolLimits { idle_max: 12, idle_per_endpoint_max: 5, idle_timeout: Duration::from_millis(50) };

/// Makes pairs of a pooled reader and the upstream's end of it.
struct Upstream {
    listener: TcpListener,
    buffers: Rc<BufferPool>,
    readiness: Rc<Readiness>,
}

impl Upstream {
    fn new() -> Upstream {
        let (listener, readiness) = (TcpListener::bind("127.0.0.1:0").unwrap(), Readiness::new().unwrap());
        monoio::spawn(readiness.clone().keep());
        Upstream { listener, buffers: Rc::default(), readiness }
    }

    async fn pair(&self) -> (Reader, TcpStream) {
        let stream = Stream::connect(self.listener.local_addr().unwrap(), &self.readiness).await.unwrap();
        let (theirs, _) = self.listener.accept().unwrap();
        (Reader::new(stream, self.buffers.clone()), theirs)
    }
}

/// Which connection a reader is: its own port, unique while it is open.
fn port(reader: &Reader) -> u16 {
    reader.stream.local_address().unwrap().port()
}

/// Lets the driver deliver what the kernel has.
async fn settle() {
    monoio::time::sleep(Duration::from_millis(2)).await;
}

fn on_driver(test: impl Future<Output = ()>) {
    let driver = driver::choose(DriverChoice::Auto).unwrap().driver;
    driver::run(driver, test).unwrap();
}

#[test]
fn agrees_with_a_plain_model() {
    on_driver(async {
        let (upstream, pool) = (Upstream::new(), UpstreamPool::default());
        let mut model: HashMap<StableId, Vec<u16>> = HashMap::new();
        let mut theirs: HashMap<u16, TcpStream> = HashMap::new();
        let (mut seed, now) = (0x5eed_u64, Instant::now());
        // What a sweep leaves of each endpoint's.
        let trim = |waiting: &mut Vec<u16>| {
            let surplus = waiting.len().saturating_sub(LIMITS.idle_per_endpoint_max);
            waiting.drain(..surplus);
        };
        for _ in 0..1500 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (dice, endpoint) = ((seed >> 33) % 10, StableId((seed >> 40) as u32 % 4));
            let idle: usize = model.values().map(Vec::len).sum();
            let waiting = model.entry(endpoint).or_default();
            match dice {
                0..=4 => {
                    let (reader, end) = upstream.pair().await;
                    if idle < LIMITS.idle_max {
                        waiting.push(port(&reader));
                        theirs.insert(port(&reader), end);
                    }
                    pool.put(endpoint, reader, &LIMITS, now);
                }
                5..=7 => {
                    let taken = pool.take(endpoint);
                    assert_eq!(taken.as_ref().map(port), waiting.pop());
                }
                8 => {
                    // The upstream closes or speaks unasked: either way the connection is not fit any more.
                    if let Some(closed) = waiting.pop() {
                        let mut end = theirs.remove(&closed).unwrap();
                        if seed.is_multiple_of(2) {
                            end.write_all(b"HTTP/1.1 408 \r\n\r\n").unwrap();
                        }
                        drop(end);
                        settle().await;
                        pool.sweep(now, &LIMITS, |_| true);
                        model.values_mut().for_each(trim);
                    }
                }
                _ => {
                    pool.sweep(now, &LIMITS, |id| id != endpoint);
                    waiting.clear();
                    model.values_mut().for_each(trim);
                }
            }
            assert_eq!(pool.len(), model.values().map(Vec::len).sum::<usize>());
        }
    });
}

#[test]
fn a_closed_connection_is_never_handed_out() {
    on_driver(async {
        let (upstream, pool) = (Upstream::new(), UpstreamPool::default());
        let (old, _kept) = upstream.pair().await;
        let (young, closing) = upstream.pair().await;
        let expected = port(&old);
        pool.put(StableId(1), old, &LIMITS, Instant::now());
        pool.put(StableId(1), young, &LIMITS, Instant::now());
        drop(closing);
        settle().await;
        assert_eq!(pool.take(StableId(1)).as_ref().map(port), Some(expected));
        assert!(pool.take(StableId(1)).is_none());
        assert!(pool.is_empty());
    });
}

#[test]
fn what_waited_too_long_is_closed() {
    on_driver(async {
        let (upstream, pool) = (Upstream::new(), UpstreamPool::default());
        let (reader, _end) = upstream.pair().await;
        let since = Instant::now();
        pool.put(StableId(1), reader, &LIMITS, since);
        pool.sweep(since + LIMITS.idle_timeout / 2, &LIMITS, |_| true);
        assert_eq!(pool.len(), 1);
        pool.sweep(since + LIMITS.idle_timeout, &LIMITS, |_| true);
        assert!(pool.is_empty());
    });
}
