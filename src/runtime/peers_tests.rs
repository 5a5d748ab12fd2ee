//! Hands sockets around between made-up workers: nothing is lost, and no worker is left much heavier.

use super::*;
use crate::runtime::mailbox::{Letters, mailbox};

struct Worker {
    peers: Peers,
    letters: Letters,
}

fn workers(count: usize) -> Vec<Worker> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mailbox().unwrap()).unzip();
    let (shared, senders) = (Workers::new(count), Arc::<[Sender]>::from(senders));
    let worker = |(own, receiver): (usize, super::super::mailbox::Receiver)| Worker {
        peers: Peers::new(own, shared.clone(), senders.clone()),
        letters: receiver.into_letters(),
    };
    receivers.into_iter().enumerate().map(worker).collect()
}

fn socket() -> Socket {
    Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

impl Worker {
    /// Accepts one connection; `true` if it stays here.
    fn accept(&self) -> bool {
        let stays = self.peers.hand_over(ANY, socket(), ANY, self.peers.workers.epoch).is_some();
        if stays {
            self.peers.connection_opened();
        }
        stays
    }

    /// Returns how many connections arrived.
    fn adopt(&mut self) -> usize {
        let letters = self.letters.take();
        for letter in &letters {
            assert!(matches!(letter, Letter::Adopt { .. }));
            self.peers.connection_opened();
            self.peers.arrived();
        }
        letters.len()
    }
}

#[test]
fn connections_that_hash_to_one_worker_are_spread() {
    let mut workers = workers(4);
    let mut adopted = 0;
    for accepted in 0..1000 {
        workers[0].accept();
        if accepted % 7 == 0 {
            adopted += workers[1..].iter_mut().map(Worker::adopt).sum::<usize>();
        }
    }
    adopted += workers[1..].iter_mut().map(Worker::adopt).sum::<usize>();
    let counts: Vec<u32> = workers.iter().map(|worker| worker.peers.connections()).collect();
    assert_eq!(counts.iter().sum::<u32>(), 1000);
    assert_eq!(adopted as u32, counts[1..].iter().sum::<u32>());
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*most <= least + least / SHARE_TOLERATED + 1, "{counts:?}");
}

#[test]
fn an_even_spread_is_left_alone() {
    let workers = workers(2);
    for _ in 0..100 {
        assert!(workers[0].accept());
        assert!(workers[1].accept());
    }
}

#[test]
fn who_closes_or_is_stuck_is_handed_nothing() {
    let mut workers = workers(2);
    for _ in 0..10 {
        workers[0].accept();
    }
    assert!(workers[1].peers.is_expecting());
    workers[1].peers.close();
    assert!(workers[0].accept() && workers[0].accept() && workers[0].accept());
    assert!(workers[1].adopt() > 0, "what was handed over before the close still arrives");
    assert!(!workers[1].peers.is_expecting());

    let [heavy, stuck] = &self::workers(2)[..] else { unreachable!() };
    let later = heavy.peers.workers.epoch + STUCK_AFTER;
    for _ in 0..10 {
        assert!(heavy.peers.hand_over(ANY, socket(), ANY, later).is_some());
        heavy.peers.connection_opened();
    }
    stuck.peers.beat(later);
    assert!(heavy.peers.hand_over(ANY, socket(), ANY, later).is_none());
}

#[test]
fn a_full_mailbox_gives_the_socket_back() {
    let workers = workers(2);
    while workers[0].peers.mailboxes[1].send(Letter::Published).is_ok() {}
    for _ in 0..10 {
        assert!(workers[0].accept());
    }
    assert!(!workers[1].peers.is_expecting());
}

#[test]
fn silence_is_counted_from_the_last_beat_of_those_who_serve() {
    let workers = workers(2);
    let shared = &workers[0].peers.workers;
    let at = |ms| shared.epoch + Duration::from_millis(ms);
    workers[0].peers.beat(at(900));
    workers[1].peers.close();
    assert_eq!(shared.silences(at(1000)), [Some(Duration::from_millis(100)), None]);
}
