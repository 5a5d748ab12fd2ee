//! Owns the scanners of the x86-64 vector units, SSE4.2 and AVX2. Looks at whole blocks only, never outside
//! of one, and knows nothing about where they come from.
//!
//! A scanner is also the proof that the machine has its instructions: only `detect` makes one.

use std::arch::x86_64::*;

use super::{BLOCK, Block, CLASSES, PLAIN, Scan, VALUE, Work};

#[derive(Debug, Clone, Copy)]
pub struct Sse42(());

#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Sse42 {
    pub fn detect() -> Option<Sse42> {
        is_x86_feature_detected!("sse4.2").then_some(Sse42(()))
    }
}

impl Avx2 {
    pub fn detect() -> Option<Avx2> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        found.then_some(Avx2(()))
    }
}

impl Scan for Sse42 {
    const IS_WIDE: bool = true;

    #[inline(always)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "sse4.2")]
        #[inline(never)]
        fn run<W: Work>(scan: Sse42, work: W) -> W::Output {
            work.run(scan)
        }
        // SAFETY: the call needs the features named above. `self` exists only where `detect` found them, and
        // no machine loses them while it runs.
        unsafe { run(self, work) }
    }

    #[inline(always)]
    fn stops<const CLASS: u8>(self, block: &Block) -> u32 {
        // SAFETY: the call needs SSE4.2, of which `self` is the proof, as in `apart`.
        unsafe { sse42_stops::<CLASS>(block) }
    }

    #[inline(always)]
    fn differences(self, token: &Block, lower: &Block) -> u32 {
        // SAFETY: the call needs SSE4.2, of which `self` is the proof, as in `apart`.
        unsafe { sse42_differences(token, lower) }
    }
}

impl Scan for Avx2 {
    const IS_WIDE: bool = true;

    #[inline(always)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,bmi1,bmi2")]
        #[inline(never)]
        fn run<W: Work>(scan: Avx2, work: W) -> W::Output {
            work.run(scan)
        }
        // SAFETY: the call needs the features named above. `self` exists only where `detect` found them, and
        // no machine loses them while it runs.
        unsafe { run(self, work) }
    }

    #[inline(always)]
    fn stops<const CLASS: u8>(self, block: &Block) -> u32 {
        // SAFETY: the call needs AVX2, BMI1 and BMI2, of which `self` is the proof, as in `apart`.
        unsafe { avx2_stops::<CLASS>(block) }
    }

    #[inline(always)]
    fn differences(self, token: &Block, lower: &Block) -> u32 {
        // SAFETY: the call needs AVX2, BMI1 and BMI2, of which `self` is the proof, as in `apart`.
        unsafe { avx2_differences(token, lower) }
    }
}

#[target_feature(enable = "sse4.2")]
#[inline]
fn sse42_stops<const CLASS: u8>(block: &Block) -> u32 {
    let (Some(low), Some(high)) = (block.first_chunk(), block.last_chunk()) else { return 0 };
    sse42_stops_of_half::<CLASS>(low) | sse42_stops_of_half::<CLASS>(high) << HALF
}

#[target_feature(enable = "sse4.2")]
#[inline]
fn sse42_stops_of_half<const CLASS: u8>(half: &[u8; HALF]) -> u32 {
    // SAFETY: an unaligned load of 16 bytes, which `half` has and lends for this call.
    let bytes = unsafe { _mm_loadu_si128(half.as_ptr().cast()) };
    let stops = if CLASS == PLAIN {
        // Plus one and taken as signed, 0x20 to 0x7e are the bytes from 0x21 on.
        _mm_cmpgt_epi8(_mm_set1_epi8(0x21), _mm_add_epi8(bytes, _mm_set1_epi8(1)))
    } else if CLASS == VALUE {
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\t' as i8));
        _mm_or_si128(_mm_andnot_si128(tab, control), _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)))
    } else {
        // A bit for each high nibble with which a low nibble is in the class. For bytes over 0x7f, which are
        // in none of the classes left, a shuffle gives 0.
        let low = _mm_shuffle_epi8(sse42_table(const { low_nibbles(CLASS) }), bytes);
        let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(0x0f));
        let high = _mm_shuffle_epi8(sse42_table(HIGH_NIBBLES), high);
        _mm_cmpeq_epi8(_mm_and_si128(low, high), _mm_setzero_si128())
    };
    _mm_movemask_epi8(stops) as u32
}

#[target_feature(enable = "sse4.2")]
#[inline]
fn sse42_differences(token: &Block, lower: &Block) -> u32 {
    let differences = |at: usize| {
        let half = |block: &Block| u128::from_le_bytes(std::array::from_fn(|index| block[at + index]));
        let cased = _mm_or_si128(sse42_table(half(token)), _mm_set1_epi8(0x20));
        _mm_movemask_epi8(_mm_cmpeq_epi8(cased, sse42_table(half(lower)))) as u32
    };
    !(differences(0) | differences(HALF) << HALF)
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn avx2_differences(token: &Block, lower: &Block) -> u32 {
    // SAFETY: unaligned loads of 32 bytes, which both blocks have and lend for this call.
    let (token, lower) =
        unsafe { (_mm256_loadu_si256(token.as_ptr().cast()), _mm256_loadu_si256(lower.as_ptr().cast())) };
    let cased = _mm256_or_si256(token, _mm256_set1_epi8(0x20));
    !(_mm256_movemask_epi8(_mm256_cmpeq_epi8(cased, lower)) as u32)
}

/// Like `sse42_stops_of_half`, with registers of twice the size.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn avx2_stops<const CLASS: u8>(block: &Block) -> u32 {
    // SAFETY: an unaligned load of 32 bytes, which `block` has and lends for this call.
    let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
    let stops = if CLASS == PLAIN {
        _mm256_cmpgt_epi8(_mm256_set1_epi8(0x21), _mm256_add_epi8(bytes, _mm256_set1_epi8(1)))
    } else if CLASS == VALUE {
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
        let tab = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\t' as i8));
        _mm256_or_si256(_mm256_andnot_si256(tab, control), _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x7f)))
    } else {
        let low = _mm256_shuffle_epi8(avx2_table(const { low_nibbles(CLASS) }), bytes);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0x0f));
        let high = _mm256_shuffle_epi8(avx2_table(HIGH_NIBBLES), high);
        _mm256_cmpeq_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256())
    };
    _mm256_movemask_epi8(stops) as u32
}

const HALF: usize = BLOCK / 2;

#[target_feature(enable = "sse4.2")]
#[inline]
fn sse42_table(table: u128) -> __m128i {
    _mm_set_epi64x((table >> 64) as i64, table as i64)
}

/// Once for each half: a shuffle does not cross them.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn avx2_table(table: u128) -> __m256i {
    _mm256_broadcastsi128_si256(sse42_table(table))
}

/// For each low nibble a byte, in which bit `h` says that the byte with high nibble `h` is in the class.
const fn low_nibbles(class: u8) -> u128 {
    let mut table = [0; 16];
    let mut byte = 0;
    while byte < 128 {
        if CLASSES[byte] & class != 0 {
            table[byte & 0x0f] |= 1 << (byte >> 4);
        }
        byte += 1;
    }
    u128::from_le_bytes(table)
}

/// For each high nibble `h` of ASCII, bit `h`.
const HIGH_NIBBLES: u128 = 0x8040_2010_0804_0201;
