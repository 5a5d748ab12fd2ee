//! Owns the grammar of numbers (RFC 8259 §6), and runs of them with commas between, which is what tensors are. Knows
//! neither their values nor their ranges.

use super::automaton::{self, BITS, STOP, Table};

/// How Python and JavaScript write what JSON has no number for.
pub(super) const NO_NUMBER: &str = "NaN and Infinity are no JSON numbers";

/// How far a number has come.
///
/// ```text
///            0 ► Zero ───────┬──► Point ► Fraction ─┐     + -
///   Item ─►  - ► Minus       │ .         0-9        ├─► Exponent ► Sign ─┐
///    ▲    1-9 ► Integer ─────┴──────────────────────┘ e E   │            │ 0-9
///    │           0-9                                        └────────────┴────► Power
///    └── , and white space: only in a list
/// ```
///
/// Nine states of an automaton.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Number(u8);

/// A number may begin. The default, so that its first byte is judged like all others.
const ITEM: u8 = 0;
const MINUS: u8 = BITS;
const ZERO: u8 = 2 * BITS;
const INTEGER: u8 = 3 * BITS;
const POINT: u8 = 4 * BITS;
const FRACTION: u8 = 5 * BITS;
const EXPONENT: u8 = 6 * BITS;
const SIGN: u8 = 7 * BITS;
const POWER: u8 = 8 * BITS;

impl Number {
    /// Takes what belongs to the number, and with `is_list` to all that follow it until something else comes: how many
    /// bytes that was, and how far the last number has come.
    pub(super) fn advance(self, rest: &[u8], is_list: bool) -> (usize, Number) {
        let table = if is_list { &LIST } else { &SINGLE };
        let (taken, state) = automaton::run(table, self.0, rest);
        (taken, Number(state))
    }

    /// It may end here.
    pub(super) fn is_whole(self) -> bool {
        matches!(self.0, ZERO | INTEGER | FRACTION | POWER)
    }

    /// If it ends here, it has neither a fraction nor an exponent.
    pub(super) fn is_integer(self) -> bool {
        matches!(self.0, ZERO | INTEGER)
    }

    /// A comma is behind it.
    pub(super) fn is_between(self) -> bool {
        self.0 == ITEM
    }
}

static LIST: Table = table(true);
static SINGLE: Table = table(false);

const fn table(is_list: bool) -> Table {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut state = ITEM;
        while state < STOP {
            table[byte] |= (next(state, byte as u8, is_list) as u64) << state;
            state += BITS;
        }
        byte += 1;
    }
    table
}

const fn next(state: u8, byte: u8, is_list: bool) -> u8 {
    match (state, byte) {
        (ITEM, b' ' | b'\t' | b'\n' | b'\r') if is_list => ITEM,
        (ZERO | INTEGER | FRACTION | POWER, b',') if is_list => ITEM,
        (ITEM, b'-') => MINUS,
        (ITEM | MINUS, b'0') => ZERO,
        (ITEM | MINUS, b'1'..=b'9') | (INTEGER, b'0'..=b'9') => INTEGER,
        (ZERO | INTEGER, b'.') => POINT,
        (POINT | FRACTION, b'0'..=b'9') => FRACTION,
        (ZERO | INTEGER | FRACTION, b'e' | b'E') => EXPONENT,
        (EXPONENT, b'+' | b'-') => SIGN,
        (EXPONENT | SIGN | POWER, b'0'..=b'9') => POWER,
        _ => STOP,
    }
}
