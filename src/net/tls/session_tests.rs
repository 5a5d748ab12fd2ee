//! Records on a wire that takes little, and peers that say nothing but TLS.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;
use crate::runtime::buffer::LARGE_BUFFER_BYTES;

const IDENTITY: &[u8] = include_bytes!("../../../fuzz/fixtures/localhost.pem");

type Server = Session<UnbufferedServerConnection>;
type Client = Session<UnbufferedClientConnection>;

/// What one side sent and the other has not received; takes no more than `room`.
struct Way {
    bytes: RefCell<VecDeque<u8>>,
    room: Cell<usize>,
}

/// One side's end of the wire.
struct End<'w> {
    from: &'w Way,
    to: &'w Way,
}

impl Way {
    fn new() -> Way {
        Way { bytes: RefCell::default(), room: Cell::new(usize::MAX) }
    }
}

impl Wire for End<'_> {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.from.bytes.borrow_mut();
        let count = bytes.len().min(into.len());
        bytes.drain(..count).zip(into).for_each(|(byte, room)| *room = byte);
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut queue = self.to.bytes.borrow_mut();
        let count = bytes.len().min(self.to.room.get().saturating_sub(queue.len()));
        queue.extend(&bytes[..count]);
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
}

fn server_config(tickets: usize) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_slice(IDENTITY).unwrap();
    let key = PrivateKeyDer::from_pem_slice(IDENTITY).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.send_tls13_tickets = tickets;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

fn sessions() -> (Server, Client) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(IDENTITY).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let client = UnbufferedClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let server = UnbufferedServerConnection::new(server_config(0)).unwrap();
    let buffers = Rc::new(BufferPool::default());
    (Session::new(server, buffers.clone(), None), Session::new(client, buffers, None))
}

fn shake(server: &mut Server, client: &mut Client, ours: &End, theirs: &End) {
    for _ in 0..100 {
        let (one, other) = (server.handshake(ours).unwrap(), client.handshake(theirs).unwrap());
        if (one, other) == (Handshake::Over, Handshake::Over) {
            return;
        }
    }
    panic!("no end of the handshake");
}

#[test]
fn the_last_words_wait_for_room_on_the_wire() {
    let (up, down) = (Way::new(), Way::new());
    let (ours, theirs) = (End { from: &up, to: &down }, End { from: &down, to: &up });
    let (mut server, mut client) = sessions();
    shake(&mut server, &mut client, &ours, &theirs);
    let data = vec![b'x'; LARGE_BUFFER_BYTES];
    // The wire takes a few bytes at a time, from the middle of the data to the last of the close.
    let mut sent = 0;
    while sent < data.len() {
        down.room.set(1_000);
        match server.write(&ours, &data[sent..], &[]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        read_some(&mut client, &theirs, &data);
    }
    let mut is_queued = false;
    down.room.set(10);
    assert_eq!(server.close_notify(&ours, &mut is_queued).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(is_queued, "it is encrypted once");
    for _ in 0..10 {
        read_some(&mut client, &theirs, &data);
        if server.close_notify(&ours, &mut is_queued).is_ok() {
            break;
        }
    }
    assert_eq!(client.read(&theirs, &mut [0]).unwrap(), 0, "the end was said, whole and once");
    assert!(server.outgoing.is_none() && server.behind.is_none() && down.bytes.borrow().is_empty());
}

/// Takes what there is, all of it data.
fn read_some(client: &mut Client, theirs: &End, data: &[u8]) {
    let mut room = vec![0; data.len()];
    match client.read(theirs, &mut room) {
        Ok(count) => assert!(room[..count].iter().all(|byte| *byte == b'x')),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}

#[test]
fn a_peer_that_sends_nothing_but_tickets_is_ended() {
    for (tickets, is_ended) in [(4, false), (5_000, true)] {
        let (up, down) = (Way::new(), Way::new());
        let theirs = End { from: &down, to: &up };
        let (_, mut client) = sessions();
        // Ours would not send so many.
        let mut server = rustls::ServerConnection::new(server_config(tickets)).unwrap();
        let mut exchange = |client: &mut Client| {
            let shaken = client.handshake(&theirs);
            while !up.bytes.borrow().is_empty() {
                server.read_tls(&mut *up.bytes.borrow_mut()).unwrap();
                server.process_new_packets().unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut *down.bytes.borrow_mut()).unwrap();
            }
            shaken
        };
        while exchange(&mut client).unwrap() != Handshake::Over {}
        assert_eq!(down.bytes.borrow().len() > 1_000_000, is_ended, "{}", down.bytes.borrow().len());
        let read = client.read(&theirs, &mut [0]).unwrap_err();
        let expected = if is_ended { ErrorKind::InvalidData } else { ErrorKind::WouldBlock };
        assert_eq!(read.kind(), expected, "{tickets} tickets: {read}");
        assert_eq!(down.bytes.borrow().is_empty(), !is_ended);
    }
}
