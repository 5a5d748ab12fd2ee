//! Owns the readiness of many sockets waited for as one: an epoll instance, itself waited for through the driver. A
//! socket in it costs no task and no pending poll, closes at once, and its errors are seen on every driver (monoio's
//! epoll driver reports an error alone as no readiness to read). Reads nothing.

use std::cell::Cell;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

pub struct ReadySet {
    epoll: OwnedFd,
    /// A duplicate, owned and closed by monoio; of no kind of socket, and only ever waited for.
    readiness: monoio::net::udp::UdpSocket,
    /// Memory for `take`.
    events: Cell<Vec<Event>>,
    events_max: usize,
}

impl ReadySet {
    /// `events_max` sockets at most are told of in one go.
    pub fn new(events_max: usize) -> io::Result<ReadySet> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let readiness = monoio::net::udp::UdpSocket::from_std(UdpSocket::from(epoll.try_clone()?))?;
        Ok(ReadySet { epoll, readiness, events: Cell::new(Vec::with_capacity(events_max)), events_max })
    }

    /// Adds a socket until it is closed; `token` says which it is. Told of while it has input: what is not read is
    /// said again.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        self.add_for(socket, token, EventFlags::IN)
    }

    /// Adds a socket until it is closed. Told of once for each change: input, urgent or not, room for output, an end,
    /// an error.
    pub fn add_for_changes(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let changes = EventFlags::IN | EventFlags::PRI | EventFlags::OUT | EventFlags::RDHUP;
        self.add_for(socket, token, changes | EventFlags::ET)
    }

    fn add_for(&self, socket: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Resolves once there is something to tell.
    pub async fn readable(&self) -> io::Result<()> {
        self.readiness.readable(false).await
    }

    /// Tells what is known now, of `events_max` sockets at most; those ready longest come first.
    pub fn take(&self, mut tell: impl FnMut(u64, EventFlags)) -> io::Result<()> {
        let mut events = self.events.take();
        events.clear();
        events.reserve(self.events_max);
        let taken = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&Timespec::default()));
        for event in &events {
            tell(event.data.u64(), event.flags);
        }
        self.events.set(events);
        Ok(taken.map(|_| ())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::DriverChoice;
    use crate::runtime::driver;

    #[test]
    fn input_and_errors_are_seen_on_every_driver_until_they_are_read() {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
            let driver = driver::choose(choice).unwrap().driver;
            let seen = driver::run(driver, async {
                let set = ReadySet::new(32).unwrap();
                let take = || {
                    let mut tokens = Vec::new();
                    set.take(|token, _| tokens.push(token)).unwrap();
                    tokens
                };
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(peer.local_addr().unwrap()).unwrap();
                set.add(&socket, 7).unwrap();
                let before = take().len();
                peer.send_to(b"x", socket.local_addr().unwrap()).unwrap();
                set.readable().await.unwrap();
                set.readable().await.unwrap();
                let input = take();
                socket.recv(&mut [0]).unwrap();
                let read = take().len();
                drop(peer);
                socket.send(b"to nobody").unwrap();
                set.readable().await.unwrap();
                let error = take();
                drop(socket);
                (before, input, read, error, take().len())
            });
            assert_eq!(seen.unwrap(), (0, vec![7], 0, vec![7], 0));
        }
    }
}
