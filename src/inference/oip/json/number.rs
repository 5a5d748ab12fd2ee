//! Owns what numbers say (RFC 8259 §6): the nearest FP32 or FP64, ties to even, or the very integer. Does not know where they stand.
//!
//! Digits are taken eight at a time. An FP32 is made from an FP64 that may be some units in the last place wrong, which matters only beside
//! the middle of two FP32s: there, and wherever else it is not certain, the standard library reads the text again. So each is rounded once,
//! from the decimal text. (Triton's rapidjson rounds to an FP64 that may be off by some units, and that to an FP32.)

use super::super::refused::Refused;
use super::cursor::Cursor;

/// An element that JSON has numbers for.
pub(super) trait Number: Copy {
    /// The number that begins there, and where it ends. `None`: there is none of this kind, and `fault` says why. Apart from what may go
    /// wrong, so that the loop over millions of them stays in registers.
    fn scan(text: &[u8], at: usize) -> Option<(Self, usize)>;
    /// What is wrong with the number that begins there.
    fn fault(cursor: &mut Cursor<'_>) -> Refused;
    /// Appends it as it lies in a tensor.
    fn put(self, out: &mut Vec<u8>);

    /// The number that is next, without white space before it.
    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refused> {
        match Self::scan(cursor.text, cursor.at) {
            Some((number, end)) => {
                cursor.at = end;
                Ok(number)
            }
            None => Err(Self::fault(cursor)),
        }
    }
}

impl Number for f32 {
    #[inline(always)]
    fn scan(text: &[u8], at: usize) -> Option<(f32, usize)> {
        let (decimal, end) = Decimal::scan(text, at)?;
        match decimal.single() {
            Some(single) => Some((single, end)),
            None => by_the_book(&text[at..end])
                .filter(|single: &f32| single.is_finite())
                .map(|single| (single, end)),
        }
    }

    fn fault(cursor: &mut Cursor<'_>) -> Refused {
        fault(cursor, |start, _| Refused::invalid("is too large for the datatype").at(start))
    }

    #[inline(always)]
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Number for f64 {
    #[inline(always)]
    fn scan(text: &[u8], at: usize) -> Option<(f64, usize)> {
        let (decimal, end) = Decimal::scan(text, at)?;
        match decimal.double() {
            Some(double) => Some((double, end)),
            None => by_the_book(&text[at..end])
                .filter(|double: &f64| double.is_finite())
                .map(|double| (double, end)),
        }
    }

    fn fault(cursor: &mut Cursor<'_>) -> Refused {
        fault(cursor, |start, _| Refused::invalid("is too large for the datatype").at(start))
    }

    #[inline(always)]
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Number for $integer {
            #[inline(always)]
            fn scan(text: &[u8], at: usize) -> Option<($integer, usize)> {
                let (is_negative, magnitude, end) = integer(text, at)?;
                let value = if is_negative { -i128::from(magnitude) } else { i128::from(magnitude) };
                Some((<$integer>::try_from(value).ok()?, end))
            }

            fn fault(cursor: &mut Cursor<'_>) -> Refused {
                fault(cursor, integer_fault)
            }

            #[inline(always)]
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
    match Decimal::scan(cursor.text, start) {
        Some((_, end)) => {
            cursor.at = end;
            Ok(&cursor.text[start..end])
        }
        None => Err(fault(cursor, |start, _| Refused::malformed(start, NO_NUMBER))),
    }
}

/// What no grammar lets pass, or else what is said of the number from its start, once it is known to be one.
#[cold]
fn fault(cursor: &mut Cursor<'_>, of_a_number: impl Fn(usize, &[u8]) -> Refused) -> Refused {
    let start = cursor.at;
    cursor.at += usize::from(cursor.text.get(start) == Some(&b'-'));
    match cursor.text.get(cursor.at) {
        Some(b'0') => cursor.at += 1,
        Some(b'1'..=b'9') => skip_digits(cursor),
        Some(b'N' | b'I') => return cursor.wrong("NaN and Infinity are no JSON numbers"),
        _ => return cursor.wrong(if cursor.at > start { NO_DIGIT } else { NO_NUMBER }),
    }
    for (begins, signs) in [(&b"."[..], &b""[..]), (b"eE", b"+-")] {
        if cursor.text.get(cursor.at).is_some_and(|byte| begins.contains(byte)) {
            cursor.at += 1;
            cursor.at += usize::from(cursor.text.get(cursor.at).is_some_and(|byte| signs.contains(byte)));
            let digits_at = cursor.at;
            skip_digits(cursor);
            if cursor.at == digits_at {
                return cursor.wrong(NO_DIGIT);
            }
        }
    }
    match cursor.text.get(cursor.at) {
        // A zero before other digits.
        Some(b'0'..=b'9') => cursor.wrong("a comma is missing"),
        _ => of_a_number(start, &cursor.text[start..cursor.at]),
    }
}

fn skip_digits(cursor: &mut Cursor<'_>) {
    cursor.at += cursor.text[cursor.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
}

fn integer_fault(start: usize, number: &[u8]) -> Refused {
    let is_plain = !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    let number = number[..number.len().min(40)].escape_ascii();
    Refused::invalid(match is_plain {
        true => format!("{number} is out of the datatype's range").into(),
        false => std::borrow::Cow::Borrowed("is not written as an integer"),
    })
    .at(start)
}

/// Sign and magnitude of an integer, and where it ends: neither fraction nor exponent, not even of zeros.
#[inline(always)]
fn integer(text: &[u8], start: usize) -> Option<(bool, u64, usize)> {
    let is_negative = *text.get(start)? == b'-';
    let digits_at = start + usize::from(is_negative);
    let (mut at, mut magnitude) = (digits_at, 0u64);
    while let Some(digit @ 0..=9) = text.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        // 19 digits always fit.
        magnitude = match at - digits_at < 19 {
            true => magnitude * 10 + u64::from(digit),
            false => magnitude.checked_mul(10)?.checked_add(digit.into())?,
        };
        at += 1;
    }
    let is_plain = match (at - digits_at, text.get(at)) {
        (0, _) | (_, Some(b'.' | b'e' | b'E')) => false,
        (count, _) => count == 1 || text[digits_at] != b'0',
    };
    is_plain.then_some((is_negative, magnitude, at))
}

/// By the standard library, which is right about all of them, and takes all that JSON takes.
#[cold]
#[inline(never)]
fn by_the_book<T: std::str::FromStr>(number: &[u8]) -> Option<T> {
    str::from_utf8(number).ok()?.parse().ok()
}

const NO_NUMBER: &str = "a value is missing";
const NO_DIGIT: &str = "a digit is missing";

/// `(whole * 10^tail_digits + tail) * 10^exponent`, unless digits were lost.
#[derive(Debug, Default, Clone, Copy)]
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
    /// The number that begins there, and where it ends.
    #[inline(always)]
    fn scan(text: &[u8], start: usize) -> Option<(Decimal, usize)> {
        let mut decimal = Decimal { is_negative: *text.get(start)? == b'-', ..Decimal::default() };
        let digits_at = start + usize::from(decimal.is_negative);
        let mut at = match text.get(digits_at..digits_at + 2) {
            // As most fractions begin: quicker than eight at a time.
            Some(&[digit @ b'0'..=b'9', b'.']) => {
                decimal.whole = u64::from(digit - b'0');
                digits_at + 1
            }
            _ => decimal.digits(text, digits_at),
        };
        if at == digits_at || (at > digits_at + 1 && text[digits_at] == b'0') {
            return None;
        }
        if text.get(at) == Some(&b'.') {
            let point = at + 1;
            at = decimal.digits(text, point);
            if at == point {
                return None;
            }
            decimal.exponent = -((at - point) as i64);
        }
        match text.get(at) {
            Some(b'e' | b'E') => {
                let (power, end) = power(text, at + 1)?;
                decimal.exponent += power;
                Some((decimal, end))
            }
            _ => Some((decimal, at)),
        }
    }

    /// Takes the digits from there on: where they end. Whether eight are full is a branch, which is mostly foretold right; that
    /// the next eight begin behind them then waits for nothing.
    #[inline(always)]
    fn digits(&mut self, text: &[u8], mut at: usize) -> usize {
        loop {
            let word = word(text, at) ^ ZEROS;
            let others = others(word);
            if others != 0 {
                let count = (others.trailing_zeros() / 8) as usize;
                // Twice, as all 64 bits at once cannot be shifted out.
                self.take(word << 8 << (56 - 8 * count), count);
                return at + count;
            }
            self.take(word, 8);
            at += 8;
        }
    }

    #[inline(always)]
    fn take(&mut self, block: u64, count: usize) {
        if self.whole < SPACE[count] && self.tail_digits == 0 {
            self.whole = self.whole * TENS[count] + u64::from(eight_digits(block));
        } else {
            self.take_tail(block, count);
        }
    }

    #[inline(always)]
    fn take_tail(&mut self, block: u64, count: usize) {
        if self.tail_digits == 0 {
            (self.tail, self.tail_digits) = (eight_digits(block), count);
        } else if count > 0 {
            self.is_lost = true;
        }
    }

    /// `None`: it is not certain.
    #[inline(always)]
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
        let value = value * POWERS.get(usize::try_from(self.exponent + POWERS_FROM).ok()?)?;
        let rest = value.to_bits() & LOW_BITS;
        let is_certain = rest.abs_diff(MIDDLE) > DOUBT && NORMAL.contains(&value) || value == 0.0;
        is_certain.then_some(if self.is_negative { -(value as f32) } else { value as f32 })
    }

    /// `None`: it is not certain.
    #[inline(always)]
    fn double(&self) -> Option<f64> {
        // Both are exact then, and what is made of them is rounded once (William Clinger, "How to read floating point numbers accurately").
        let is_exact = self.tail_digits == 0 && !self.is_lost && self.whole <= 1 << 53;
        let power = EXACT.get(usize::try_from(self.exponent.unsigned_abs()).ok()?).filter(|_| is_exact)?;
        let value = self.whole as i64 as f64;
        let value = if self.exponent < 0 { value / power } else { value * power };
        Some(if self.is_negative { -value } else { value })
    }
}

/// What stands behind the `e`, and where it ends.
#[cold]
#[inline(never)]
fn power(text: &[u8], mut at: usize) -> Option<(i64, usize)> {
    let sign = text.get(at).filter(|byte| matches!(byte, b'+' | b'-'));
    at += usize::from(sign.is_some());
    let start = at;
    let mut power = 0i64;
    while let Some(digit @ 0..=9) = text.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        (power, at) = ((power * 10 + i64::from(digit)).min(POWER_MAX), at + 1);
    }
    (at > start).then_some((if sign == Some(&b'-') { -power } else { power }, at))
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
#[inline(always)]
fn word(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(text.get(at..).unwrap_or_default()),
    }
}

#[cold]
#[inline(never)]
fn last_word(rest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(bytes)
}

/// Marks the bytes above 9, by their highest bits. Carries reach only bytes behind such a one, so that the first mark is right.
#[inline(always)]
fn others(word: u64) -> u64 {
    (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080
}

/// The number that eight digits make, the first in the lowest byte: pairs, then fours, then all.
#[inline(always)]
fn eight_digits(digits: u64) -> u32 {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & MASK).wrapping_mul(0x000f_4240_0000_0064);
    let low = (pairs >> 16 & MASK).wrapping_mul(0x0000_2710_0000_0001);
    (high.wrapping_add(low) >> 32) as u32
}
