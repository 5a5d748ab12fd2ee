//! Owns how small automata are run over bytes at one byte a cycle or two: the states are distances in bits, and the
//! row of a byte, shifted by one, begins with the next (Per Vognsen's "shift-based DFA"). A table that is indexed by
//! the state would wait for a load at each byte, and branches are mispredicted at each number's or character's end.
//! Knows no grammar: those are with `number` and `string`.

/// A row for each byte: at the distance of each state the state that follows.
pub(super) type Table = [u64; 256];

/// What a state takes up in a row. States are multiples of it below `STOP`.
pub(super) const BITS: u8 = 6;

/// The byte is not for this automaton. The last of ten states that a row has space for; nothing follows it.
pub(super) const STOP: u8 = 9 * BITS;

/// Runs up to a byte that leads to `STOP`: how many bytes come before it, and the state there.
#[inline]
pub(super) fn run(table: &Table, state: u8, bytes: &[u8]) -> (usize, u8) {
    let mut state = u64::from(state);
    for (at, &byte) in bytes.iter().enumerate() {
        let next = table[usize::from(byte)] >> (state & MASK);
        if next & MASK == STOP as u64 {
            return (at, (state & MASK) as u8);
        }
        // Bits above the mask stay: the next shift ignores them, which keeps the mask off its path.
        state = next;
    }
    (bytes.len(), (state & MASK) as u8)
}

const MASK: u64 = (1 << BITS) - 1;
