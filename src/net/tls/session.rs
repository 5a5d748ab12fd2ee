//! Owns the records of one TLS connection: what was received and what is to be sent, decrypted and encrypted. The wire
//! beneath is whoever receives and sends, a socket or a test. No call waits: `WouldBlock` means what it means on a plain
//! socket. Holds a buffer only while bytes wait in it.

use std::io::{self, ErrorKind};
use std::ops::DerefMut;
use std::rc::Rc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedConnectionCommon,
    UnbufferedStatus, WriteTraffic,
};

use crate::runtime::buffer::{BUFFER_BYTES, Buffer, BufferPool};

/// A record's header: type, version, length (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;
/// The most that a record adds to its plaintext, header included (RFC 8446 §5.2, RFC 5246 §6.2.3).
const OVERHEAD_BYTES: usize = 64;
/// The most plaintext of one record.
const RECORD_BYTES: usize = 16 * 1024;
/// A receiver can use nothing of a record before all of it is there: the first ones of an answer fit a few segments.
const EARLY_RECORD_BYTES: usize = 4 * 1024;
/// So much of an answer goes in small records.
const EARLY_BYTES: usize = 64 * 1024;

/// Buffers without data that a peer may send in a row.
const SILENT_MAX: u32 = 32;

/// What carries the records.
pub trait Wire {
    /// As recv(2) on a socket that does not block: 0 is the peer's end.
    fn receive(&self, into: &mut [u8]) -> io::Result<usize>;

    /// As send(2) on a socket that does not block.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// One of the two sides. Their states differ in type only.
pub trait Side: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
}

pub struct Session<C> {
    connection: C,
    buffers: Rc<BufferPool>,
    /// Received and not yet processed.
    incoming: Option<Buffer>,
    /// Of which so much was looked at in vain: it is of use with more behind it.
    examined: usize,
    /// Decrypted and not yet taken, from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Encrypted and not yet taken by the kernel.
    outgoing: Option<Buffer>,
    /// Goes after `outgoing`.
    behind: Option<Buffer>,
    /// Plaintext bytes in `outgoing` of which the writer does not know yet that they are gone.
    owed: usize,
    /// Since plaintext was last received.
    sent_in_a_row: usize,
    /// Buffers of nothing but the protocol's own that were processed since plaintext was last received.
    silent_in_a_row: u32,
    /// The peer said that nothing follows.
    is_peer_closed: bool,
    /// The protocol was broken: nothing is read, written or said any more.
    is_failed: bool,
}

impl<C: Side> Session<C> {
    pub fn new(connection: C, buffers: Rc<BufferPool>, received: Option<Buffer>) -> Session<C> {
        Session {
            connection,
            buffers,
            incoming: received,
            examined: 0,
            plain: Vec::new(),
            plain_at: 0,
            outgoing: None,
            behind: None,
            owed: 0,
            sent_in_a_row: 0,
            silent_in_a_row: 0,
            is_peer_closed: false,
            is_failed: false,
        }
    }

    pub fn connection(&self) -> &C {
        &self.connection
    }

    /// Whether a part of a record has been received, and none that is whole.
    pub fn awaits_record(&self) -> bool {
        self.incoming.is_some() && !self.has_input()
    }

    /// Whether a read would return something without asking the wire.
    pub fn has_input(&self) -> bool {
        self.has_plain() || self.is_peer_closed || self.is_failed || self.next_record().is_some()
    }

    /// Takes in what has arrived, if it is of the protocol's own (a ticket, say): false if it is more, or the end.
    pub fn is_silent(&mut self, wire: &impl Wire) -> bool {
        // Who has more to say than that is not.
        const PIECES_MAX: u32 = 4;
        for _ in 0..PIECES_MAX {
            while self.next_record().is_some() && !self.has_plain() {
                if self.process(wire, &mut []).is_err() {
                    return false;
                }
            }
            if self.has_input() {
                return false;
            }
            match self.receive(wire) {
                Ok(()) => {}
                // The rest of a part may be anything.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.incoming.is_none(),
                Err(_) => return false,
            }
        }
        false
    }

    /// `Ok(0)` is the peer's close_notify, or no room; an end without one is `UnexpectedEof`.
    pub fn read(&mut self, wire: &impl Wire, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.take_plain(into);
        loop {
            if filled == into.len() || self.is_peer_closed {
                return Ok(filled);
            }
            if self.is_failed {
                return if filled > 0 { Ok(filled) } else { Err(ErrorKind::InvalidData.into()) };
            }
            match self.next_record() {
                Some(bytes) if filled > 0 && bytes > into.len() - filled => return Ok(filled),
                Some(_) => match self.process(wire, &mut into[filled..]) {
                    Ok(count) => filled += count,
                    // Comes again with the next call.
                    Err(_) if filled > 0 => return Ok(filled),
                    Err(error) => return Err(error),
                },
                None if filled > 0 => return Ok(filled),
                None => self.receive(wire)?,
            }
        }
    }

    /// Goes on with the handshake until it is over or has to wait. Errors: see `Tls::handshake`.
    pub fn handshake(&mut self, wire: &impl Wire) -> io::Result<Handshake> {
        loop {
            self.process(wire, &mut [])?;
            match self.flush(wire) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Handshake::AwaitsRoom),
                flushed => flushed?,
            }
            if !self.connection.is_handshaking() {
                return Ok(Handshake::Over);
            }
            match self.receive(wire) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Handshake::AwaitsInput),
                received => received?,
            }
        }
    }

    /// Receives once. A peer that has gone without a word is `UnexpectedEof`.
    fn receive(&mut self, wire: &impl Wire) -> io::Result<()> {
        let buffer = self.incoming.get_or_insert_with(|| self.buffers.take());
        if buffer.is_full() {
            if buffer.is_large() {
                return Err(io::Error::new(ErrorKind::InvalidData, "a handshake message is too large"));
            }
            // A record may be a little larger than a small buffer; without room for it nothing ends.
            let mut larger = self.buffers.take_large();
            larger.append(buffer.filled());
            *buffer = larger;
        }
        match wire.receive(buffer.spare()) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer.fill(count);
                Ok(())
            }
            Err(error) => {
                if buffer.is_empty() {
                    (self.incoming, self.examined) = (None, 0);
                }
                Err(error)
            }
        }
    }

    /// Processes what was received up to the next plaintext, of which `into` gets what fits; returns how much that was.
    fn process(&mut self, wire: &impl Wire, into: &mut [u8]) -> io::Result<usize> {
        self.process_or_write(wire, into, |_| Ok(()))
    }

    /// `process`, which lets `write` encrypt once there is no more to process.
    fn process_or_write(
        &mut self,
        wire: &impl Wire,
        into: &mut [u8],
        mut write: impl FnMut(&mut WriteTraffic<'_, C::Data>) -> io::Result<()>,
    ) -> io::Result<usize> {
        if self.is_failed {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut processed = 0;
        loop {
            let Session { connection, incoming, outgoing, behind, buffers, plain, plain_at, .. } = self;
            let received = incoming.as_mut().map_or(&mut [][..], Buffer::filled_mut);
            let UnbufferedStatus { mut discard, state, .. } = connection.process(received);
            let mut taken = 0;
            let step = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let (now, later) =
                            record.payload.split_at(record.payload.len().min(into.len() - taken));
                        into[taken..taken + now.len()].copy_from_slice(now);
                        taken += now.len();
                        keep(plain, plain_at, later);
                    }
                    (self.sent_in_a_row, self.silent_in_a_row) = (0, 0);
                    Step::Data
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let last = if behind.is_some() { behind } else { outgoing };
                    encode(last, buffers, |room| data.encode(room).map_err(short))?;
                    Step::On
                }
                // What was encoded is in `outgoing`, in order.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Step::On
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_peer_closed = true;
                    Step::On
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Step::Over(write(&mut traffic)),
                Ok(_) => Step::Over(Ok(())),
                Err(error) => Step::Failed(error),
            };
            self.discard(discard);
            processed += discard;
            match step {
                Step::On => {}
                // Handshake messages and alerts go as far as there is room.
                Step::Data => {
                    let _ = self.flush(wire);
                    return Ok(taken);
                }
                Step::Over(written) => {
                    self.examine();
                    let _ = self.flush(wire);
                    self.note_silence(processed)?;
                    return written.map(|()| taken);
                }
                Step::Failed(error) => {
                    self.is_failed = true;
                    self.encode_alert(wire);
                    return Err(invalid(error));
                }
            }
        }
    }

    /// Some bytes were processed, if any, and no data was among them. A peer may say little about the protocol itself: a few
    /// tickets, a new key. One that goes on and on would hold up whoever reads.
    fn note_silence(&mut self, processed: usize) -> io::Result<()> {
        if processed == 0 || self.connection.is_handshaking() {
            return Ok(());
        }
        self.silent_in_a_row += 1;
        if self.silent_in_a_row <= SILENT_MAX {
            return Ok(());
        }
        self.is_failed = true;
        Err(io::Error::new(ErrorKind::InvalidData, "message after message of TLS itself, and no data"))
    }

    /// The alert that goes with a failure waits in the connection.
    fn encode_alert(&mut self, wire: &impl Wire) {
        let Session { connection, outgoing, behind, buffers, .. } = self;
        // Looks at nothing received while there is something to send.
        while connection.wants_write() {
            let UnbufferedStatus { state, .. } = connection.process(&mut []);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { break };
            let last = if behind.is_some() { &mut *behind } else { &mut *outgoing };
            if encode(last, buffers, |room| data.encode(room).map_err(short)).is_err() {
                break;
            }
        }
        let _ = self.flush(wire);
    }

    fn discard(&mut self, count: usize) {
        if count > 0 {
            self.examined = 0;
        }
        if let Some(buffer) = &mut self.incoming {
            buffer.consume(count);
            if buffer.is_empty() {
                self.incoming = None;
            }
        }
    }

    /// All that could be processed has been. A part of a message, which may be whole records, waits for its rest.
    fn examine(&mut self) {
        self.examined = self.incoming.as_ref().map_or(0, Buffer::len);
    }

    /// Returns how many bytes of `first`, and of `second` behind it, are encrypted and gone. Whoever is told `WouldBlock` has
    /// to come back with bytes that begin with the same.
    pub fn write(&mut self, wire: &impl Wire, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.flush(wire)?;
        if self.owed == 0 {
            self.encrypt(wire, first, second)?;
            self.flush(wire)?;
        }
        let told = self.owed.min(first.len() + second.len());
        self.owed -= told;
        Ok(told)
    }

    /// Encrypts as much as one buffer takes. What the peer sent in the meantime is decrypted first.
    fn encrypt(&mut self, wire: &impl Wire, first: &[u8], second: &[u8]) -> io::Result<()> {
        let total = first.len() + second.len();
        let is_small = total + OVERHEAD_BYTES * (1 + total / EARLY_RECORD_BYTES) <= BUFFER_BYTES;
        let mut out = if is_small { self.buffers.take() } else { self.buffers.take_roomy() };
        let (buffers, mut sent, mut done) = (self.buffers.clone(), self.sent_in_a_row, 0);
        self.until_it_may_write(wire, |traffic| {
            while done < total {
                let most = if sent < EARLY_BYTES { EARLY_RECORD_BYTES } else { RECORD_BYTES };
                let room = out.spare();
                let count = most.min(room.len().saturating_sub(OVERHEAD_BYTES)).min(total - done);
                if count == 0 {
                    break;
                }
                let written = if done >= first.len() {
                    traffic.encrypt(&second[done - first.len()..][..count], room)
                } else if done + count <= first.len() {
                    traffic.encrypt(&first[done..][..count], room)
                } else {
                    let mut joined = buffers.take();
                    joined.append(&first[done..]);
                    joined.append(&second[..count - joined.len()]);
                    traffic.encrypt(joined.filled(), room)
                };
                out.fill(written.map_err(encrypt_failed)?);
                sent += count;
                done += count;
            }
            Ok(())
        })?;
        (self.owed, self.sent_in_a_row) = (done, sent);
        self.append(out);
        Ok(())
    }

    /// Calls `write` once all that was received is processed.
    fn until_it_may_write(
        &mut self,
        wire: &impl Wire,
        mut write: impl FnMut(&mut WriteTraffic<'_, C::Data>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let mut may_write = false;
            let unread_before = self.unread();
            self.process_or_write(wire, &mut [], |traffic| {
                may_write = true;
                write(traffic)
            })?;
            if may_write {
                return Ok(());
            }
            if self.unread() == unread_before {
                return Err(ErrorKind::BrokenPipe.into());
            }
        }
    }

    /// Says that nothing follows; `is_queued` tells whether an earlier call has encrypted that already.
    pub fn close_notify(&mut self, wire: &impl Wire, is_queued: &mut bool) -> io::Result<()> {
        self.flush(wire)?;
        if std::mem::replace(is_queued, true) {
            return Ok(());
        }
        let buffers = self.buffers.clone();
        let mut out = None;
        self.until_it_may_write(wire, |traffic| {
            encode(&mut out, &buffers, |room| traffic.queue_close_notify(room).map_err(|_| None))
        })?;
        out.into_iter().for_each(|out| self.append(out));
        self.flush(wire)
    }

    /// Messages of the connection's own may stand there; never two of these, as the writer flushes before.
    fn append(&mut self, out: Buffer) {
        match self.outgoing {
            Some(_) => self.behind = Some(out),
            None => self.outgoing = Some(out),
        }
    }

    /// Gives the kernel all that is encrypted. `WouldBlock` while something is left.
    fn flush(&mut self, wire: &impl Wire) -> io::Result<()> {
        while let Some(out) = &mut self.outgoing {
            let count = wire.send(out.filled())?;
            out.consume(count);
            if out.is_empty() {
                self.outgoing = self.behind.take();
            }
        }
        Ok(())
    }

    /// Decrypted bytes that nobody has taken.
    fn unread(&self) -> usize {
        self.plain.len() - self.plain_at
    }

    fn has_plain(&self) -> bool {
        self.unread() > 0
    }

    fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_at..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.plain_at += count;
        if !self.has_plain() {
            (self.plain, self.plain_at) = (Vec::new(), 0);
        }
        count
    }

    /// How many bytes of payload the next record has at most, if all of it has been received.
    fn next_record(&self) -> Option<usize> {
        let bytes = self.incoming.as_ref()?.filled();
        if bytes.len() == self.examined {
            return None;
        }
        let (header, payload) = bytes.split_at_checked(HEADER_BYTES)?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // One that is larger than any may be is for the connection to refuse.
        (payload.len() >= length || length > RECORD_BYTES + OVERHEAD_BYTES * 32).then_some(length)
    }
}

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Over,
    /// The wire takes no more now.
    AwaitsRoom,
    AwaitsInput,
}

enum Step {
    /// Another one follows.
    On,
    /// There is plaintext.
    Data,
    /// There is nothing to do before more is received; what became of writing, if it was the time for that.
    Over(io::Result<()>),
    Failed(rustls::Error),
}

/// How much room was lacking, if that was it.
fn short(error: EncodeError) -> Option<InsufficientSizeError> {
    match error {
        EncodeError::InsufficientSize(short) => Some(short),
        EncodeError::AlreadyEncoded => None,
    }
}

/// Keeps `later` behind what of `plain` was not taken.
fn keep(plain: &mut Vec<u8>, plain_at: &mut usize, later: &[u8]) {
    if !later.is_empty() {
        plain.drain(..std::mem::take(plain_at));
        plain.extend_from_slice(later);
    }
}

/// Appends to `outgoing` what `write` puts into the room that it is given; it says how much it lacks.
fn encode(
    outgoing: &mut Option<Buffer>,
    buffers: &Rc<BufferPool>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> io::Result<()> {
    let out = outgoing.get_or_insert_with(|| buffers.take());
    loop {
        match write(out.spare()) {
            Ok(count) => {
                out.fill(count);
                return Ok(());
            }
            Err(Some(_)) if !out.is_large() => {
                out.grow().map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
            }
            Err(_) => return Err(ErrorKind::OutOfMemory.into()),
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

fn encrypt_failed(error: EncryptError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
