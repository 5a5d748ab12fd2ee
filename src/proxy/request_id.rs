//! Owns request ids: 32 hex digits, made at the edge, unique over cores and restarts without a shared
//! counter. Also the rule for an id that a trusted peer sends. Not secret and not a trace id.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Longest id kept from a trusted peer, bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// The ids of one core: 64 random bits drawn at start, then 64 bits of a counter, mixed so that neighbours
/// do not look alike.
pub struct RequestIds {
    prefix: u64,
    counter: Cell<u64>,
}

impl RequestIds {
    pub fn new(core: usize) -> RequestIds {
        let random = |salt: u64| {
            // RandomState is seeded by the operating system, once per process; the core and salt set apart.
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u64(core as u64);
            hasher.write_u64(salt);
            hasher.finish()
        };
        RequestIds { prefix: random(1), counter: Cell::new(random(2)) }
    }

    pub fn make(&self) -> RequestId {
        self.counter.set(self.counter.get().wrapping_add(1));
        let mut made = [0; MADE_BYTES];
        hex(self.prefix, &mut made[..16]);
        hex(mix(self.counter.get()), &mut made[16..]);
        RequestId { made, kept: None }
    }
}

#[derive(Clone)]
pub struct RequestId {
    made: [u8; MADE_BYTES],
    kept: Option<Box<str>>,
}

/// Hex digits of 128 bits.
const MADE_BYTES: usize = 32;

impl RequestId {
    /// Four bytes that nobody could foresee.
    pub fn mask(&self) -> [u8; 4] {
        let hash = mix(self.made.iter().fold(0, |hash, &byte| mix(hash ^ u64::from(byte))));
        (hash as u32).to_be_bytes()
    }

    /// An id from a trusted peer: visible ASCII, bounded. `None` if it is not fit to be kept.
    pub fn kept(value: &[u8]) -> Option<RequestId> {
        let is_fit = !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX;
        let text =
            std::str::from_utf8(value).ok().filter(|_| is_fit && value.iter().all(u8::is_ascii_graphic));
        text.map(|text| RequestId { made: [b'0'; MADE_BYTES], kept: Some(text.into()) })
    }

    pub fn as_bytes(&self) -> &[u8] {
        match &self.kept {
            Some(kept) => kept.as_bytes(),
            None => &self.made,
        }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// A bijection on u64 (the finalizer of SplitMix64), so distinct counters stay distinct.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Two digits at a time.
fn hex(value: u64, out: &mut [u8]) {
    for (pair, byte) in out.as_chunks_mut().0.iter_mut().zip(value.to_be_bytes()) {
        *pair = HEX_PAIRS[usize::from(byte)];
    }
}

static HEX_PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_and_between_cores() {
        let (one, two) = (RequestIds::new(0), RequestIds::new(1));
        let ids: std::collections::HashSet<String> =
            (0..1000).flat_map(|_| [one.make(), two.make()]).map(|id| id.as_str().to_owned()).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn only_fit_ids_are_kept() {
        assert_eq!(RequestId::kept(b"abc-1").unwrap().as_str(), "abc-1");
        assert!(RequestId::kept(b"").is_none());
        assert!(RequestId::kept(b"a b").is_none());
        assert!(RequestId::kept(&[b'a'; REQUEST_ID_BYTES_MAX + 1]).is_none());
        assert!(RequestId::kept("é".as_bytes()).is_none());
    }
}
