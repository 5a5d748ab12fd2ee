//! Owns what numbers say (RFC 8259 §6): the nearest FP32 or FP64, ties to even, or the very integer. Does not know where they stand.
//!
//! Digits are taken eight at a time. An FP32 is made from an FP64 that may be some units in the last place wrong, which matters only beside
//! the middle of two FP32s: there, and wherever else it is not certain, the standard library reads the text again. So each is rounded once,
//! from the decimal text. (Triton's rapidjson rounds to an FP64 that may be off by some units, and that to an FP32.)

use super::super::refused::Refused;
use super::cursor::Cursor;

/// An element that JSON has numbers for.
pub(super) trait Number: Copy {
    /// The number that is next, without white space before it.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refused>;
    /// Appends it as it lies in a tensor.
    fn put(self, out: &mut Vec<u8>);
}

impl Number for f32 {
    #[inline]
    fn read(cursor: &mut Cursor<'_>) -> Result<f32, Refused> {
        let start = cursor.at;
        let decimal = Decimal::read(cursor)?;
        match decimal.single() {
            Some(single) => Ok(single),
            None => {
                by_the_book(cursor, start).and_then(|single: f32| finite(single, single.is_finite(), start))
            }
        }
    }

    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Number for f64 {
    #[inline]
    fn read(cursor: &mut Cursor<'_>) -> Result<f64, Refused> {
        let start = cursor.at;
        let decimal = Decimal::read(cursor)?;
        match decimal.double() {
            Some(double) => Ok(double),
            None => {
                by_the_book(cursor, start).and_then(|double: f64| finite(double, double.is_finite(), start))
            }
        }
    }

    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Number for $integer {
            #[inline]
            fn read(cursor: &mut Cursor<'_>) -> Result<$integer, Refused> {
                let start = cursor.at;
                let (is_negative, magnitude) = integer(cursor)?;
                let value = if is_negative { -i128::from(magnitude) } else { i128::from(magnitude) };
                <$integer>::try_from(value).map_err(|_| out_of_range(cursor, start))
            }

            #[inline]
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 i8 i16 i32 i64);

/// Takes a number of any form, and only sees to it that it is one.
pub(super) fn token<'t>(cursor: &mut Cursor<'t>) -> Result<&'t [u8], Refused> {
    let start = cursor.at;
    Decimal::read(cursor)?;
    Ok(&cursor.text[start..cursor.at])
}

/// Sign and magnitude of an integer: neither fraction nor exponent, not even of zeros.
#[inline]
fn integer(cursor: &mut Cursor<'_>) -> Result<(bool, u64), Refused> {
    let start = cursor.at;
    let is_negative = cursor.text.get(cursor.at) == Some(&b'-');
    cursor.at += usize::from(is_negative);
    let digits_at = cursor.at;
    let mut magnitude = 0u64;
    while let Some(digit @ 0..=9) = cursor.text.get(cursor.at).map(|byte| byte.wrapping_sub(b'0')) {
        let grown = magnitude.checked_mul(10).and_then(|grown| grown.checked_add(digit.into()));
        let Some(grown) = grown else {
            cursor.at = start;
            token(cursor)?;
            return Err(out_of_range(cursor, start));
        };
        (magnitude, cursor.at) = (grown, cursor.at + 1);
    }
    let is_plain = match (cursor.at - digits_at, cursor.text.get(cursor.at)) {
        (0, _) | (_, Some(b'.' | b'e' | b'E')) => false,
        (count, _) => count == 1 || cursor.text[digits_at] != b'0',
    };
    if !is_plain {
        cursor.at = start;
        token(cursor)?;
        return Err(Refused::invalid("is not written as an integer").at(start));
    }
    Ok((is_negative, magnitude))
}

#[cold]
fn out_of_range(cursor: &Cursor<'_>, start: usize) -> Refused {
    let number = &cursor.text[start..cursor.at.max(start).min(start + 40)];
    Refused::invalid(format!("{} is out of the datatype's range", number.escape_ascii())).at(start)
}

/// The number that ends here, by the standard library, which is right about all of them.
#[cold]
fn by_the_book<T: std::str::FromStr>(cursor: &Cursor<'_>, start: usize) -> Result<T, Refused> {
    let text = str::from_utf8(&cursor.text[start..cursor.at]).ok();
    // It takes all that JSON takes.
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Refused::malformed(start, NO_NUMBER))
}

#[cold]
fn finite<T>(value: T, is_finite: bool, at: usize) -> Result<T, Refused> {
    match is_finite {
        true => Ok(value),
        false => Err(Refused::invalid("is too large for the datatype").at(at)),
    }
}

const NO_NUMBER: &str = "a number is missing";

/// `(whole * 10^tail_digits + tail) * 10^exponent`, unless digits were lost.
#[derive(Debug, Default)]
struct Decimal {
    is_negative: bool,
    /// Below 10^18.
    whole: u64,
    /// What `whole` has no space for: up to eight digits.
    tail: u32,
    tail_digits: usize,
    exponent: i64,
    is_lost: bool,
}

impl Decimal {
    /// The number that is next, without white space before it.
    #[inline]
    fn read(cursor: &mut Cursor<'_>) -> Result<Decimal, Refused> {
        let mut decimal =
            Decimal { is_negative: cursor.text.get(cursor.at) == Some(&b'-'), ..Decimal::default() };
        cursor.at += usize::from(decimal.is_negative);
        let start = cursor.at;
        match cursor.text.get(start) {
            Some(b'0') => cursor.at += 1,
            Some(b'1'..=b'9') => decimal.digits(cursor),
            _ => return Err(no_number(cursor, decimal.is_negative)),
        }
        if cursor.text.get(cursor.at) == Some(&b'.') {
            cursor.at += 1;
            let point = cursor.at;
            decimal.digits(cursor);
            if cursor.at == point {
                return Err(cursor.wrong("a digit is missing"));
            }
            decimal.exponent -= (cursor.at - point) as i64;
        }
        if let Some(b'e' | b'E') = cursor.text.get(cursor.at) {
            decimal.exponent(cursor)?;
        }
        Ok(decimal)
    }

    /// Digits from here on. How many they are, the cursor tells.
    #[inline]
    fn digits(&mut self, cursor: &mut Cursor<'_>) {
        loop {
            let word = word(cursor.text, cursor.at) ^ ZEROS;
            let count = digit_count(word);
            if count > 0 {
                self.take(word << (64 - 8 * count), count);
                cursor.at += count;
            }
            if count < 8 {
                return;
            }
        }
    }

    #[inline]
    fn take(&mut self, block: u64, count: usize) {
        if self.whole < SPACE[count] && self.tail_digits == 0 {
            self.whole = self.whole * TENS[count] + u64::from(eight_digits(block));
        } else {
            self.take_tail(block, count);
        }
    }

    #[cold]
    fn take_tail(&mut self, block: u64, count: usize) {
        if self.tail_digits == 0 {
            (self.tail, self.tail_digits) = (eight_digits(block), count);
        } else {
            self.is_lost = true;
        }
    }

    #[cold]
    fn exponent(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Refused> {
        cursor.at += 1;
        let is_negative = cursor.text.get(cursor.at) == Some(&b'-');
        cursor.at += usize::from(matches!(cursor.text.get(cursor.at), Some(b'+' | b'-')));
        let start = cursor.at;
        let mut power = 0i64;
        while let Some(digit @ 0..=9) = cursor.text.get(cursor.at).map(|byte| byte.wrapping_sub(b'0')) {
            (power, cursor.at) = ((power * 10 + i64::from(digit)).min(POWER_MAX), cursor.at + 1);
        }
        if cursor.at == start {
            return Err(cursor.wrong("a digit is missing"));
        }
        self.exponent += if is_negative { -power } else { power };
        Ok(())
    }

    /// `None`: it is not certain.
    #[inline]
    fn single(&self) -> Option<f32> {
        if self.is_lost {
            return None;
        }
        // What is done below makes the value wrong by at most 2^-53 of itself for each of these: `whole` (1), the tail (2), the power of
        // ten (4, see `power_of_ten`), the product (1). `DOUBT` is far more.
        let mut value = self.whole as i64 as f64;
        if self.tail_digits > 0 {
            value = value * EXACT[self.tail_digits] + f64::from(self.tail);
        }
        let power = POWERS.get(usize::try_from(self.exponent + POWERS_FROM).ok()?)?;
        let value = value * power;
        let sign = if self.is_negative { -1.0 } else { 1.0 };
        let rest = value.to_bits() & LOW_BITS;
        let is_certain = rest.abs_diff(MIDDLE) > DOUBT && NORMAL.contains(&value) || value == 0.0;
        is_certain.then_some((value * sign) as f32)
    }

    /// `None`: it is not certain.
    #[inline]
    fn double(&self) -> Option<f64> {
        // Both are exact then, and what is made of them is rounded once (William Clinger, "How to read floating point numbers accurately").
        let is_exact = self.tail_digits == 0 && !self.is_lost && self.whole <= 1 << 53;
        let power = EXACT.get(usize::try_from(self.exponent.unsigned_abs()).ok()?).filter(|_| is_exact)?;
        let value = self.whole as i64 as f64;
        let value = if self.exponent < 0 { value / power } else { value * power };
        Some(if self.is_negative { -value } else { value })
    }
}

#[cold]
fn no_number(cursor: &Cursor<'_>, is_negative: bool) -> Refused {
    match (cursor.text.get(cursor.at), is_negative) {
        (Some(b'N' | b'I'), _) => cursor.wrong("NaN and Infinity are no JSON numbers"),
        (_, true) => cursor.wrong("a digit is missing"),
        (_, false) => cursor.wrong("a value is missing"),
    }
}

/// An exponent of more is as good as this: it leads to zero or to infinity, however many digits are before it.
const POWER_MAX: i64 = 1 << 40;

/// Bits of an FP64 that an FP32 has none of, and their value in the middle of two FP32s.
const LOW_BITS: u64 = (1 << 29) - 1;
const MIDDLE: u64 = 1 << 28;
/// In units of the FP64's last place.
const DOUBT: u64 = 64;
/// FP32s of full precision. Their bounds belong to those that are read by the book.
const NORMAL: std::ops::Range<f64> = 1.2e-38..3.4e38;

/// Powers of ten that an FP64 holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// From 10^-70, as an FP32 of 26 digits may need, to 10^40.
static POWERS: [f64; 111] = powers();
const POWERS_FROM: i64 = 70;

const fn powers() -> [f64; 111] {
    let mut powers = [0.0; 111];
    let mut at = 0;
    while at < powers.len() {
        powers[at] = power_of_ten(at as i64 - POWERS_FROM);
        at += 1;
    }
    powers
}

/// Rounded at most four times: of four exact factors three products are made, and their reciprocal.
const fn power_of_ten(exponent: i64) -> f64 {
    let (mut left, mut power) = (exponent.unsigned_abs() as usize, 1.0);
    while left > 22 {
        (left, power) = (left - 22, power * EXACT[22]);
    }
    power *= EXACT[left];
    if exponent < 0 { 1.0 / power } else { power }
}

/// By how many digits come: below this, they may be appended to a whole of 18 digits.
const SPACE: [u64; 9] = [
    10u64.pow(18),
    10u64.pow(17),
    10u64.pow(16),
    10u64.pow(15),
    10u64.pow(14),
    10u64.pow(13),
    10u64.pow(12),
    10u64.pow(11),
    10u64.pow(10),
];
const TENS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Eight bytes, of which the first is the lowest; behind the end of the text are zeros, which are no digits.
#[inline]
fn word(text: &[u8], at: usize) -> u64 {
    match text.get(at..at + 8) {
        Some(bytes) => u64::from_le_bytes(bytes.try_into().unwrap_or_default()),
        None => last_word(&text[at.min(text.len())..]),
    }
}

#[cold]
fn last_word(rest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(bytes)
}

/// How many of the eight come before the first that is no digit; each is its digit's value. A byte above 9 has its highest bit set here
/// or by the sum; carries reach only bytes behind such a one.
#[inline]
fn digit_count(word: u64) -> usize {
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
    (others.trailing_zeros() / 8) as usize
}

/// The number that eight digits make, the first in the lowest byte: pairs, then fours, then all.
#[inline]
fn eight_digits(digits: u64) -> u32 {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & MASK).wrapping_mul(0x000f_4240_0000_0064);
    let low = (pairs >> 16 & MASK).wrapping_mul(0x0000_2710_0000_0001);
    (high.wrapping_add(low) >> 32) as u32
}
