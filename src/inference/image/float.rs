//! Owns rounding of f32 to the two halves that models take: FP16 (IEEE 754 binary16) and BF16. To the nearest, ties to even, as all
//! hardware does. Portable, and no faster than that: it fills tables at load.

/// The bits of the binary16. What is too large is infinite; a NaN stays one, quiet.
pub(super) fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    sign | match magnitude {
        INFINITE.. => {
            0x7c00 | if magnitude > INFINITE { 0x0200 | (magnitude >> 13) as u16 & 0x01ff } else { 0 }
        }
        // Half a unit above the largest finite one, 65504.
        0x477f_f000.. => 0x7c00,
        // Normal: the exponent's bias goes from 127 to 15. A carry of the rounding runs into the exponent, as it has to.
        0x3880_0000.. => round_shifted(magnitude - (112 << 23), 13),
        // Subnormal: a multiple of 2^-24.
        0x3300_0000.. => round_shifted(magnitude & 0x007f_ffff | 0x0080_0000, 126 - (magnitude >> 23)),
        // At most half of the smallest, and that is a tie whose even side is zero.
        _ => 0,
    }
}

/// The upper half of the f32, rounded. A NaN stays one, quiet.
pub(super) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    match bits & 0x7fff_ffff > INFINITE {
        true => (bits >> 16) as u16 | 0x0040,
        false => ((u64::from(bits) + 0x7fff + u64::from(bits >> 16 & 1)) >> 16) as u16,
    }
}

/// `bits >> shift` to the nearest, ties to even.
fn round_shifted(bits: u32, shift: u32) -> u16 {
    let half = 1 << (shift - 1);
    ((bits + (half - 1) + (bits >> shift & 1)) >> shift) as u16
}

/// Of an f32 without its sign: above it are the NaNs.
const INFINITE: u32 = 0x7f80_0000;

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_half_comes_back() {
        for bits in 0..=u16::MAX {
            let wide = f16::from_bits(bits).to_f32();
            let quiet = if wide.is_nan() { 0x0200 } else { 0 };
            assert_eq!(to_f16(wide), bits | quiet, "{bits:04x}");
            let wide = bf16::from_bits(bits).to_f32();
            let quiet = if wide.is_nan() { 0x0040 } else { 0 };
            assert_eq!(to_bf16(wide), bits | quiet, "{bits:04x}");
        }
    }

    #[test]
    fn rounding_is_that_of_hardware() {
        // Between two neighbours of f16 and bf16, all that decides: below, at and above the middle, at every exponent and sign.
        for upper in 0..=u16::MAX {
            for lower in
                [0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff]
            {
                check(u32::from(upper) << 16 | lower);
            }
        }
        let mut bits = 1u64;
        for _ in 0..2_000_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            check((bits >> 32) as u32);
        }
    }

    fn check(bits: u32) {
        let value = f32::from_bits(bits);
        assert_eq!(to_f16(value), f16::from_f32(value).to_bits(), "{bits:08x}");
        assert_eq!(to_bf16(value), bf16::from_f32(value).to_bits(), "{bits:08x}");
    }
}
