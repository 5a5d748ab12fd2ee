//! Readiness with real sockets, on every driver that works here: no change is missed, whenever it comes, and none is
//! told to a socket that it does not concern.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::*;
use crate::config::snapshot::DriverChoice;
use crate::runtime::driver;

fn on_every_driver<F: Future<Output = ()>>(test: impl Fn(Rc<Readiness>) -> F) {
    for choice in [DriverChoice::Auto, DriverChoice::UringPlain, DriverChoice::Epoll] {
        let Ok(chosen) = driver::choose(choice) else { continue };
        let ran = driver::run(chosen.driver, async {
            let readiness = Readiness::new().unwrap();
            monoio::spawn(readiness.clone().keep());
            test(readiness).await;
        });
        ran.unwrap();
    }
}

fn connection(readiness: &Rc<Readiness>) -> (Rc<Socket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    (readiness.register(ours.into()).unwrap(), theirs)
}

async fn readable(socket: &Socket) {
    let told = poll_fn(|context| socket.poll_readable(context));
    monoio::time::timeout(Duration::from_secs(5), told).await.expect("the input is told of");
}

async fn writable(socket: &Socket) {
    monoio::time::timeout(Duration::from_secs(5), socket.writable()).await.expect("room is told of");
}

/// Reads once, and says of the readiness what a caller has to say.
fn read(socket: &Socket, room: usize) -> io::Result<usize> {
    let mut buffer = vec![0; room];
    match recv(socket, &mut buffer[..], RecvFlags::empty()) {
        Ok((count, _)) => {
            if count < room {
                socket.was_drained();
            }
            Ok(count)
        }
        Err(error) => {
            socket.read_blocked();
            Err(error.into())
        }
    }
}

/// Lets the kernel say what it has to say.
async fn settle() {
    monoio::time::sleep(Duration::from_millis(2)).await;
}

#[test]
fn input_is_told_before_and_after_the_wait_began() {
    on_every_driver(|readiness| async move {
        let (ours, mut theirs) = connection(&readiness);
        for round in 1..20 {
            assert!(!ours.may_read());
            if round % 2 == 0 {
                theirs.write_all(&vec![b'x'; round]).unwrap();
                settle().await;
            } else {
                let mut later = theirs.try_clone().unwrap();
                monoio::spawn(async move {
                    settle().await;
                    later.write_all(&vec![b'x'; round]).unwrap();
                });
            }
            readable(&ours).await;
            assert_eq!(read(&ours, 100).unwrap(), round);
        }
    });
}

#[test]
fn an_end_that_came_with_the_last_bytes_is_still_told() {
    on_every_driver(|readiness| async move {
        let (ours, mut theirs) = connection(&readiness);
        theirs.write_all(b"last").unwrap();
        drop(theirs);
        settle().await;
        readable(&ours).await;
        // A read that took all there was says nothing of the FIN behind it, and no change will.
        assert_eq!(read(&ours, 100).unwrap(), 4);
        readable(&ours).await;
        assert_eq!(read(&ours, 100).unwrap(), 0);
    });
}

#[test]
fn a_reset_is_told_to_who_reads_and_who_writes() {
    on_every_driver(|readiness| async move {
        let (ours, theirs) = connection(&readiness);
        while send(&ours, &[0; 65536], SendFlags::NOSIGNAL).is_ok() {}
        ours.write_blocked();
        socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        drop(theirs);
        writable(&ours).await;
        readable(&ours).await;
        assert_eq!(read(&ours, 1).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn room_to_write_is_told_once_there_is_some() {
    on_every_driver(|readiness| async move {
        let (ours, mut theirs) = connection(&readiness);
        let mut sent = 0;
        for _ in 0..5 {
            loop {
                match send(&ours, &[0; 65536], SendFlags::NOSIGNAL) {
                    Ok(count) => sent += count,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            ours.write_blocked();
            let mut reader = theirs.try_clone().unwrap();
            reader.set_nonblocking(true).unwrap();
            monoio::spawn(async move {
                settle().await;
                let mut buffer = vec![0; 1 << 20];
                while matches!(reader.read(&mut buffer), Ok(1..)) {}
            });
            writable(&ours).await;
        }
        assert!(sent > 5 * 65536, "{sent}");
        let _ = theirs.flush();
    });
}

#[test]
fn an_urgent_byte_hides_nothing_behind_it() {
    on_every_driver(|readiness| async move {
        let (ours, mut theirs) = connection(&readiness);
        theirs.write_all(b"before").unwrap();
        socket2::SockRef::from(&theirs).send_out_of_band(b"!").unwrap();
        theirs.write_all(b"behind").unwrap();
        settle().await;
        for _ in 0..2 {
            readable(&ours).await;
            assert_eq!(read(&ours, 100).unwrap(), 6);
        }
        assert!(ours.may_read() && read(&ours, 100).is_err(), "looked at once more, to be sure");
        assert!(!ours.may_read());
    });
}

#[test]
fn more_sockets_than_are_told_of_in_one_go_are_all_told_of() {
    const SOCKETS: usize = 2 * EVENTS_MAX + 50;
    on_every_driver(|readiness| async move {
        let mut connections: Vec<_> = (0..SOCKETS).map(|_| connection(&readiness)).collect();
        settle().await;
        connections.iter_mut().for_each(|(_, theirs)| theirs.write_all(b"x").unwrap());
        for (ours, _theirs) in &connections {
            readable(ours).await;
            assert_eq!(read(ours, 100).unwrap(), 1);
        }
    });
}

#[test]
fn what_is_said_of_a_closed_socket_reaches_no_other_one() {
    on_every_driver(|readiness| async move {
        for _ in 0..50 {
            let (old, mut theirs) = connection(&readiness);
            settle().await;
            theirs.write_all(b"for the old one").unwrap();
            // Its event is on its way, its slot and perhaps its descriptor go to the next one.
            let slot = old.slot;
            drop(old);
            let (new, _silent) = connection(&readiness);
            assert_eq!(new.slot, slot);
            settle().await;
            assert!(!new.may_read());
        }
    });
}

#[test]
fn an_event_is_matched_by_slot_and_generation() {
    let readiness = driver::run(driver::choose(DriverChoice::Epoll).unwrap().driver, async {
        let readiness = Readiness::new().unwrap();
        let (first, _theirs) = connection(&readiness);
        let slot = first.slot;
        assert!(readiness.slots.borrow().of(u64::from(slot)).is_some());
        drop(first);
        assert!(readiness.slots.borrow().of(u64::from(slot)).is_none());
        let (_second, _theirs) = connection(&readiness);
        assert!(readiness.slots.borrow().of(u64::from(slot)).is_none(), "an event of the first one");
        assert!(readiness.slots.borrow().of(1 << 32 | u64::from(slot)).is_some());
        assert!(readiness.slots.borrow().of(77).is_none());
    });
    readiness.unwrap();
}
