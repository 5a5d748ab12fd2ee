//! Owns where the frames of a WebSocket begin and end (RFC 6455 §5.2), as they pass by, so that a Close of our own never
//! stands in the middle of one. Forges nothing else, and leaves what they mean to both ends.

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key for a handshake of ours. `None`: the operating system has no random bytes.
pub fn key() -> Option<Box<str>> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    Some(BASE64.encode(nonce).into())
}

/// What a server answers to a key (RFC 6455 §4.2.2).
pub fn accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    BASE64.encode(context.finish())
}

/// How far one direction has come.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes of the header that have been seen.
    seen: usize,
    /// Bytes of the payload that have not.
    left: u64,
    is_closing: bool,
}

/// Flags, length in up to nine bytes, mask.
const HEADER_BYTES_MAX: usize = 14;
const CLOSE: u8 = 8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// RFC 6455 §7.4.1: "an endpoint is going away".
const GOING_AWAY: [u8; 2] = 1001u16.to_be_bytes();

impl Frames {
    /// These bytes have been passed on.
    pub fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((&byte, rest)) = bytes.split_first() else { return };
            self.header[self.seen] = byte;
            self.seen += 1;
            bytes = rest;
            if let Some(payload) = self.payload() {
                self.is_closing |= self.header[0] & 0x0f == CLOSE;
                (self.seen, self.left) = (0, payload);
            }
        }
    }

    /// Nothing of a frame is still to come, and neither side has said that it closes.
    pub fn may_close(&self) -> bool {
        self.seen == 0 && self.left == 0 && !self.is_closing
    }

    /// The length of the payload, once the header is whole.
    fn payload(&self) -> Option<u64> {
        if self.seen < 2 {
            return None;
        }
        let (length, is_masked) = (self.header[1] & 0x7f, self.header[1] & MASKED != 0);
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + extended + if is_masked { 4 } else { 0 };
        if self.seen < whole {
            return None;
        }
        let long = self.header[2..2 + extended].iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
        Some(if extended == 0 { u64::from(length) } else { long })
    }
}

/// A Close frame to a client: the server's are not masked.
pub fn close_to_client() -> [u8; 4] {
    [FINAL | CLOSE, 2, GOING_AWAY[0], GOING_AWAY[1]]
}

/// A Close frame to a server: the client's are masked (§5.3).
pub fn close_to_server(mask: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = mask;
    [FINAL | CLOSE, MASKED | 2, a, b, c, d, GOING_AWAY[0] ^ a, GOING_AWAY[1] ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = vec![FINAL | opcode];
        let masked = if mask.is_some() { MASKED } else { 0 };
        match length {
            0..=125 => bytes.push(masked | length as u8),
            126..=65_535 => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask.into_iter().flatten());
        bytes.extend(std::iter::repeat_n(0x88, length));
        bytes
    }

    #[test]
    fn a_boundary_is_where_a_frame_ends_however_it_is_cut() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let bytes = frame(2, length, mask);
                for piece in [1, 2, 3, 7, 1_000, usize::MAX] {
                    let mut frames = Frames::default();
                    let (mut sent, mut ends) = (0, Vec::new());
                    let twice = [&bytes[..], &bytes[..]].concat();
                    for chunk in twice.chunks(piece) {
                        frames.saw(chunk);
                        sent += chunk.len();
                        if frames.may_close() {
                            ends.push(sent);
                        }
                    }
                    let expected: Vec<usize> = [bytes.len(), twice.len()]
                        .into_iter()
                        .filter(|end| end % piece == 0 || *end == twice.len())
                        .collect();
                    assert_eq!(ends, expected, "{length} bytes in pieces of {piece}");
                }
            }
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut frames = Frames::default();
        frames.saw(&frame(9, 4, None));
        assert!(frames.may_close());
        frames.saw(&close_to_client());
        assert!(!frames.may_close());
        let mut frames = Frames::default();
        frames.saw(&close_to_server([9, 8, 7, 6]));
        assert!(!frames.may_close());
        assert!(frames.seen == 0 && frames.left == 0, "it is a whole frame");
    }

    #[test]
    fn a_close_says_1001_behind_its_mask() {
        let [_, _, mask @ ..] = close_to_server([0xaa, 0xbb, 0xcc, 0xdd]);
        assert_eq!([mask[4] ^ mask[0], mask[5] ^ mask[1]], [0x03, 0xe9]);
    }
}
