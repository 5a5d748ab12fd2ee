//! The records of a TLS connection, either side of it ours, beside rustls's own buffered connection on the other. The input
//! is a schedule: what each side does next, how many bytes the wire lets through, and which of them are damaged on the way.
//! What arrives is a prefix of what was sent, always; undamaged, all of it arrives and nobody complains. Damaged, whoever
//! reads is told so, and hears nothing more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use tidegate::net::tls::session::{Handshake, Session, Side, Wire};
use tidegate::runtime::buffer::BufferPool;

const IDENTITY: &[u8] = include_bytes!("../fixtures/localhost.pem");

static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let certificate = || CertificateDer::from_pem_slice(IDENTITY).unwrap();
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(IDENTITY).unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![certificate()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let client =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
});

pub fn tls_records(data: &[u8]) {
    let Some((&first, schedule)) = data.split_first() else { return };
    let buffers = Rc::new(BufferPool::default());
    if first & 2 != 0 {
        // Memory is short: only what is needed is to be had.
        buffers.set_bytes_max(1);
    }
    let (server, client) = &*CONFIGS;
    let name = ServerName::try_from("localhost").unwrap();
    if first & 1 == 0 {
        let ours = UnbufferedServerConnection::new(server.clone()).unwrap();
        let theirs = ClientConnection::new(client.clone(), name).unwrap();
        Run::new(Session::new(ours, buffers, None), theirs.into()).follow(schedule);
    } else {
        let ours = UnbufferedClientConnection::new(client.clone(), name).unwrap();
        let theirs = ServerConnection::new(server.clone()).unwrap();
        Run::new(Session::new(ours, buffers, None), theirs.into()).follow(schedule);
    }
}

/// Our end: bytes that the wire has let through, and those that it takes.
#[derive(Default)]
struct End {
    arrived: RefCell<VecDeque<u8>>,
    sent: RefCell<VecDeque<u8>>,
    room: Cell<usize>,
}

impl Wire for End {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match self.arrived.borrow_mut().read(into)? {
            0 if !into.is_empty() => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room.get());
        self.room.set(self.room.get() - count);
        if count == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            self.sent.borrow_mut().write(&bytes[..count])
        }
    }
}

struct Run<C> {
    ours: Session<C>,
    theirs: Connection,
    end: End,
    /// On its way to us, and perhaps damaged there.
    towards_us: VecDeque<u8>,
    is_shaken: bool,
    is_damaged: bool,
    /// What each side has sent and the other read so far; the bytes themselves follow from their position.
    sent_by_us: usize,
    read_by_them: usize,
    sent_by_them: usize,
    read_by_us: usize,
    /// Encrypted by us and not yet told of as gone: has to be offered again.
    offered: usize,
    is_closed_by_us: bool,
    is_close_queued: bool,
    is_closed_by_them: bool,
    failed: bool,
    they_failed: bool,
}

/// Byte number `at` of either side's data.
fn byte(at: usize) -> u8 {
    (at ^ at >> 8) as u8
}

impl<C: Side> Run<C> {
    fn new(ours: Session<C>, theirs: Connection) -> Run<C> {
        Run {
            ours,
            theirs,
            end: End::default(),
            towards_us: VecDeque::new(),
            is_shaken: false,
            is_damaged: false,
            sent_by_us: 0,
            read_by_them: 0,
            sent_by_them: 0,
            read_by_us: 0,
            offered: 0,
            is_closed_by_us: false,
            is_close_queued: false,
            is_closed_by_them: false,
            failed: false,
            they_failed: false,
        }
    }

    fn follow(&mut self, schedule: &[u8]) {
        for step in schedule.chunks_exact(3) {
            let amount = usize::from(step[1]) << (step[2] % 10);
            match step[0] % 16 {
                0..=2 => self.arrive(amount),
                3..=4 => self.end.room.set(self.end.room.get() + amount),
                5..=6 => self.reach_them(),
                7 => self.they_write(amount),
                8 | 9 => self.we_write(amount),
                10..=12 => self.we_read(amount),
                13 => self.damage(amount, step[2]),
                14 if step[2] == 0 => self.we_close(),
                14 if step[2] == 1 => self.they_close(),
                14 if step[2] == 2 => drop(self.ours.is_silent(&self.end)),
                // Is answered with a message of our own, between records of data.
                14 => drop(self.theirs.refresh_traffic_keys()),
                _ => self.whole_exchange(),
            }
        }
        if !self.is_damaged {
            (0..6).for_each(|_| self.whole_exchange());
            assert!(self.is_shaken, "the handshake has no end");
            assert_eq!(
                (self.read_by_us, self.read_by_them),
                (self.sent_by_them, self.sent_by_us),
                "not all arrived"
            );
        }
    }

    /// Everything that is on its way arrives, and is read.
    fn whole_exchange(&mut self) {
        for _ in 0..8 {
            self.end.room.set(1 << 20);
            self.we_write(0);
            self.reach_them();
            self.arrive(usize::MAX);
            self.we_read(100_000);
        }
        self.end.room.set(0);
    }

    fn arrive(&mut self, amount: usize) {
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut self.towards_us).unwrap();
        }
        let count = amount.min(self.towards_us.len());
        self.end.arrived.borrow_mut().extend(self.towards_us.drain(..count));
    }

    /// Never beside our own close: rustls asserts that no alert follows that, where assertions are compiled in.
    fn damage(&mut self, at: usize, bits: u8) {
        if self.is_close_queued {
            return;
        }
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut self.towards_us).unwrap();
        }
        if let Some(byte) = self.towards_us.get_mut(at)
            && bits != 0
        {
            *byte ^= bits;
            self.is_damaged = true;
        }
    }

    /// What we sent so far.
    fn reach_them(&mut self) {
        self.shake();
        let mut sent = self.end.sent.borrow_mut();
        while !sent.is_empty() && !self.they_failed {
            // Refuses more while it has plaintext enough.
            let _ = self.theirs.read_tls(&mut *sent);
            self.they_failed = self.theirs.process_new_packets().is_err();
            let mut room = [0; 4096];
            while let Ok(count @ 1..) = self.theirs.reader().read(&mut room) {
                check(&room[..count], &mut self.read_by_them);
            }
        }
        assert!(!self.they_failed || self.is_damaged, "they refuse what we sent");
        assert!(self.read_by_them <= self.sent_by_us + self.offered);
    }

    fn shake(&mut self) {
        if !self.is_shaken && !self.failed {
            match self.ours.handshake(&self.end) {
                Ok(shaken) => self.is_shaken = shaken == Handshake::Over,
                Err(error) => self.fail(&error),
            }
        }
    }

    fn they_write(&mut self, amount: usize) {
        if self.is_closed_by_them || self.they_failed || self.theirs.is_handshaking() {
            return;
        }
        let data: Vec<u8> = (self.sent_by_them..self.sent_by_them + amount).map(byte).collect();
        self.sent_by_them += self.theirs.writer().write(&data).unwrap();
    }

    fn we_write(&mut self, amount: usize) {
        self.shake();
        if !self.is_shaken || self.is_close_queued || self.failed {
            return;
        }
        // Whoever was told to wait comes back with the same, and perhaps more.
        let amount = self.offered.max(amount);
        let data: Vec<u8> = (self.sent_by_us..self.sent_by_us + amount).map(byte).collect();
        let (first, second) = data.split_at(amount / 3);
        match self.ours.write(&self.end, first, second) {
            Ok(count) => {
                self.sent_by_us += count;
                self.offered = self.offered.saturating_sub(count);
                assert!(count <= amount && (count > 0 || amount == 0));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.offered = amount,
            Err(error) => self.fail(&error),
        }
    }

    fn we_read(&mut self, amount: usize) {
        self.shake();
        if !self.is_shaken {
            return;
        }
        let mut room = vec![0; amount];
        match self.ours.read(&self.end, &mut room) {
            Ok(0) if amount > 0 => assert!(self.is_closed_by_them, "an end that nobody said"),
            Ok(count) => {
                check(&room[..count], &mut self.read_by_us);
                assert!(self.read_by_us <= self.sent_by_them);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.fail(&error),
        }
    }

    fn we_close(&mut self) {
        if self.is_shaken && self.offered == 0 && !self.is_closed_by_us && !self.failed && !self.is_damaged {
            match self.ours.close_notify(&self.end, &mut self.is_close_queued) {
                Ok(()) => self.is_closed_by_us = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => self.fail(&error),
            }
        }
    }

    fn they_close(&mut self) {
        if !self.theirs.is_handshaking() && !self.is_closed_by_them {
            self.theirs.send_close_notify();
            self.is_closed_by_them = true;
        }
    }

    fn fail(&mut self, error: &io::Error) {
        // After the peer has closed, no more can be written.
        let is_end = self.is_closed_by_them && error.kind() == ErrorKind::BrokenPipe;
        assert!(self.is_damaged || self.they_failed || is_end, "{error}");
        self.failed = true;
    }
}

/// The bytes that stand at this position.
fn check(bytes: &[u8], position: &mut usize) {
    for &seen in bytes {
        assert_eq!(seen, byte(*position), "byte {position}");
        *position += 1;
    }
}
