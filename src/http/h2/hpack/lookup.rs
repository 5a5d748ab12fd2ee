//! Owns how the encoder finds entries of its dynamic table: hashes, and where entries with a hash may be.
//! Holds no entries; what it finds has to be compared.

/// Entries that share a bucket, at most; a further one replaces the oldest.
const WAYS: usize = 4;

/// A set-associative cache from hashes to the numbers of insertions, modulo 2^16. It is never told of
/// evictions: a number that is too long ago is an evicted one. Losing an entry costs bytes, never
/// correctness.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    buckets: Vec<[Slot; WAYS]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Bits of the hash that did not select the bucket.
    tag: u16,
    number: u16,
}

impl Lookup {
    /// Allocates nothing before the first `note`.
    pub const fn new() -> Lookup {
        Lookup { buckets: Vec::new() }
    }

    /// The place in the table of an entry that `hash` was noted for and that `is_it` confirms. Place 0 was
    /// inserted as number `newest`; `is_it` is also asked about places behind the oldest.
    #[inline]
    pub fn find(&self, hash: u64, newest: u16, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let bucket = self.buckets.get(bucket(hash, self.buckets.len()))?;
        bucket
            .iter()
            .filter(|slot| slot.tag == tag(hash))
            .map(|slot| newest.wrapping_sub(slot.number) as usize)
            .find(|&place| is_it(place))
    }

    /// Insertion `number` has this hash. There are at most `entries_max` in the table at once, which is at
    /// most 2^15.
    #[inline]
    pub fn note(&mut self, hash: u64, number: u16, entries_max: usize) {
        if self.buckets.is_empty() {
            self.buckets = vec![Default::default(); (entries_max / 2).next_power_of_two()];
        }
        let index = bucket(hash, self.buckets.len());
        let age = |slot: &&mut Slot| number.wrapping_sub(slot.number);
        if let Some(oldest) = self.buckets[index].iter_mut().max_by_key(age) {
            *oldest = Slot { tag: tag(hash), number };
        }
    }
}

fn bucket(hash: u64, buckets: usize) -> usize {
    hash as usize & buckets.wrapping_sub(1)
}

fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// A hash of `text` and `seed`. Fast, and easy to collide with: see `Lookup`.
#[inline]
pub(super) fn hash(seed: u64, text: &[u8]) -> u64 {
    let mut state = mix(seed, text.len() as u64);
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    if let Some(last) = text.last_chunk::<8>() {
        return mix(state, u64::from_le_bytes(*last));
    }
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
        (Some(first), Some(last), _) => {
            mix(state, u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)))
        }
        (_, _, &[first, .., last]) => {
            mix(state, u64::from_le_bytes([first, rest[rest.len() / 2], last, 0, 0, 0, 0, 0]))
        }
        (_, _, &[only]) => mix(state, only.into()),
        _ => state,
    }
}

#[inline]
fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
