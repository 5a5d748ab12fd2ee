//! Owns the hash of dense ids: cheap, since they are handed out by this process and nobody can aim at it. Not for
//! anything that a peer chooses.

use std::hash::{BuildHasherDefault, Hasher};

/// Fibonacci hashing of one word. The keys are dense numbers made by this process, so nobody can aim at it.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

pub type IdHash = BuildHasherDefault<IdHasher>;

impl Hasher for IdHasher {
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        // The table takes its bucket from the low bits and its tag from the high ones: mix both.
        let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
