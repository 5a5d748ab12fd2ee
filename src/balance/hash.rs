//! Owns the one hash that must never change: XXH64, as published, over whole byte strings.
//! Stickiness outlives restarts, upgrades and machines only if every build hashes a key alike, so neither the
//! algorithm nor a caller's seed may be altered. Not keyed: it is no defence against chosen collisions.

/// XXH64 of `bytes` (xxHash specification 0.1.1, "XXH64 algorithm description").
#[inline]
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let (mut hash, tail) =
        if bytes.len() >= 32 { stripes(bytes, seed) } else { (seed.wrapping_add(P5), bytes) };
    hash = hash.wrapping_add(bytes.len() as u64);

    let mut words = tail.chunks_exact(8);
    for word in words.by_ref() {
        hash = (hash ^ round(0, read_u64(word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let mut rest = words.remainder();
    if let Some((half, after)) = rest.split_first_chunk::<4>() {
        hash = (hash ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1)).rotate_left(23);
        hash = hash.wrapping_mul(P2).wrapping_add(P3);
        rest = after;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    avalanche(hash)
}

/// Inputs of 32 bytes and more: four lanes over whole stripes. Returns the merged lanes and what is left over.
fn stripes(bytes: &[u8], seed: u64) -> (u64, &[u8]) {
    let mut lanes =
        [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
    let mut blocks = bytes.chunks_exact(32);
    for block in blocks.by_ref() {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = round(*lane, read_u64(word));
        }
    }
    let [a, b, c, d] = lanes;
    let mut hash = a
        .rotate_left(1)
        .wrapping_add(b.rotate_left(7))
        .wrapping_add(c.rotate_left(12))
        .wrapping_add(d.rotate_left(18));
    for lane in lanes {
        hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
    }
    (hash, blocks.remainder())
}

#[inline]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

#[inline]
fn avalanche(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

#[inline]
fn read_u64(word: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(word);
    u64::from_le_bytes(bytes)
}

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

#[cfg(test)]
mod tests {
    use super::xxh64;

    /// Published vectors: they pin the algorithm, and with it every sticky key, for all time.
    #[test]
    fn hashes_as_published() {
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xFBCE_A83C_8A37_8BF1);
    }

    #[test]
    fn every_byte_and_the_seed_count() {
        let text: Vec<u8> = (0..100).collect();
        for len in 1..text.len() {
            let hash = xxh64(&text[..len], 7);
            assert_ne!(hash, xxh64(&text[..len], 8));
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] ^= 1;
                assert_ne!(hash, xxh64(&other, 7), "len {len}, byte {at}");
            }
        }
    }
}
