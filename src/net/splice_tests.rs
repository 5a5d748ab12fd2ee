//! Pipes between real sockets: exactly the bytes asked for, no pipe with bytes in it used again, all of them bounded.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::config::snapshot::DriverChoice;
use crate::net::readiness::Readiness;
use crate::runtime::driver;

/// `OPEN_PIPES` belongs to the process: tests that count pipes take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs `test` where a `Stream` may live, with nobody else counting pipes.
fn alone_on_a_driver(test: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let driver = driver::choose(DriverChoice::Epoll).unwrap().driver;
    driver::run(driver, async { test() }).unwrap();
}

/// Our end of a connection, and the peer's.
fn connection() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    (Stream::from_socket(ours.into(), &Readiness::new().unwrap()).unwrap(), theirs)
}

fn fill_when_there(pipe: &mut Pipe, from: &Stream, most: u64) -> usize {
    loop {
        match pipe.try_fill(from, most) {
            Ok(count) => return count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn bytes_arrive_and_no_more_than_asked_are_taken() {
    alone_on_a_driver(|| {
        let pipes = Rc::new(Pipes::default());
        let (from, mut sender) = connection();
        let (to, mut receiver) = connection();
        sender.write_all(b"first second").unwrap();
        let mut pipe = pipes.take(1).unwrap();
        assert_eq!(fill_when_there(&mut pipe, &from, 6), 6);
        assert_eq!(pipe.try_drain(&to).unwrap(), 6);
        assert_eq!(pipe.held(), 0);
        let mut got = [0; 6];
        receiver.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"first ");
        assert_eq!(fill_when_there(&mut pipe, &from, 100), 6);
        drop(sender);
        assert_eq!(pipe.try_drain(&to).unwrap(), 6);
        assert_eq!(fill_when_there(&mut pipe, &from, 100), 0, "FIN");
    });
}

#[test]
fn an_empty_pipe_is_used_again_and_a_filled_one_never() {
    alone_on_a_driver(|| {
        let pipes = Rc::new(Pipes::default());
        let before = open_pipes();
        drop(pipes.take(before + 1).unwrap());
        assert_eq!(open_pipes(), before + 1, "kept for the next");
        let (from, mut sender) = connection();
        sender.write_all(b"secret").unwrap();
        let mut pipe = pipes.take(before + 1).unwrap();
        fill_when_there(&mut pipe, &from, 100);
        drop(pipe);
        assert_eq!(open_pipes(), before, "closed with what was in it");
        let mut pipe = pipes.take(before + 1).unwrap();
        let (to, _receiver) = connection();
        let nothing = pipe.try_drain(&to);
        assert!(nothing.is_err() || nothing.is_ok_and(|count| count == 0), "a new pipe is empty");
    });
}

#[test]
fn pipes_are_bounded_over_all_workers() {
    alone_on_a_driver(|| {
        let (one, other) = (Rc::new(Pipes::default()), Rc::new(Pipes::default()));
        let most = open_pipes() + 2;
        let held = (one.take(most).unwrap(), other.take(most).unwrap());
        assert!(one.take(most).is_none() && other.take(most).is_none());
        drop(held.0);
        assert!(one.take(most).is_some(), "its own unused one");
        drop(held.1);
    });
}

#[test]
fn unused_pipes_are_closed_in_time() {
    alone_on_a_driver(|| {
        let pipes = Rc::new(Pipes::default());
        let before = open_pipes();
        let held: Vec<Pipe> = (0..FREE_PIPES_MAX + 4).map(|_| pipes.take(usize::MAX).unwrap()).collect();
        drop(held);
        assert_eq!(open_pipes(), before + FREE_PIPES_MAX);
        for _ in 0..8 {
            pipes.shrink();
        }
        assert_eq!(open_pipes(), before);
    });
}
