//! Owns byte classes: where the bytes of a field name, a field value, a target or a host end. Knows no grammar
//! and reports no errors: the caller looks at the byte behind them. The portable scanner is here, those of
//! the x86-64 vector units in `x86`; `Level` chooses one of them for a whole parse.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

/// A way to look at many bytes at once. All scanners give the same answers.
pub trait Scan: Copy {
    /// `stops` costs no more than to look at a few bytes one by one.
    const IS_WIDE: bool;

    /// Does `work` in a function of its own, compiled for these instructions.
    fn apart<W: Work>(self, work: W) -> W::Output;

    /// One bit for each byte that is not in `CLASS`, the lowest for the first.
    fn stops<const CLASS: u8>(self, block: &Block) -> u32;

    /// One bit for each byte that is not this letter, digit or `-` in lower case, but for case. Both are
    /// tokens where it counts: among their bytes, only the two cases of a letter meet under `| 0x20`.
    fn differences(self, token: &Block, lower: &Block) -> u32;

    /// Where the bytes of `CLASS` that begin at `from` end; `text.len()` if all belong to it. `from` is at
    /// most `text.len()`.
    #[inline(always)]
    fn class_end<const CLASS: u8>(self, text: &[u8], from: usize) -> usize {
        let mut at = from;
        while let Some(block) = text[at..].first_chunk() {
            let stops = self.stops::<CLASS>(block);
            if stops != 0 {
                return at + stops.trailing_zeros() as usize;
            }
            at += BLOCK;
        }
        // What is left is looked at in the last whole block, so that nothing outside of the text is.
        let Some(last) = text.last_chunk() else { return Portable.class_end::<CLASS>(text, at) };
        let left = text.len() - at;
        let stops_and_end = u64::from(self.stops::<CLASS>(last)) | 1 << BLOCK;
        at + (stops_and_end >> (BLOCK - left)).trailing_zeros() as usize
    }
}

/// What a vector unit looks at in one step.
pub const BLOCK: usize = 32;
pub type Block = [u8; BLOCK];

/// RFC 9110 §5.6.2 token: a field name.
pub const TOKEN: u8 = 1;
/// The path of a request target, up to its `?`. See `is_target` for what is accepted; `\` is not, since some
/// servers read it as `/`, and browsers never send it in a path.
pub const PATH: u8 = 2;
/// The query of a request target.
pub const QUERY: u8 = 4;
/// Letters, digits, `-` and `.`: nearly every host name.
pub const PLAIN_HOST: u8 = 8;
/// Printable ASCII: nearly every value, and cheaper to tell than `VALUE`.
pub const PLAIN: u8 = 16;
/// RFC 9110 §5.5: VCHAR, obs-text, SP and HTAB. Everything else would end or corrupt a line.
pub const VALUE: u8 = 32;

/// Something to do with a scanner. `run` has to be `#[inline(always)]`, with all of its callees that scan:
/// only what is inlined into `Level::run` is compiled for the vector unit.
pub trait Work {
    type Output;
    fn run<S: Scan>(self, scan: S) -> Self::Output;
}

/// A set of instructions that this machine has: only `all` and `best` make one.
#[derive(Debug, Clone, Copy)]
pub struct Level(Scanner);

#[derive(Debug, Clone, Copy)]
enum Scanner {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Sse42(x86::Sse42),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
}

impl Level {
    /// The fastest one.
    #[inline(always)]
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| *Level::all().last().expect("the portable level is everywhere"))
    }

    /// All of this machine, the slowest first.
    pub fn all() -> Vec<Level> {
        let mut levels = vec![Level(Scanner::Portable(Portable))];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(x86::Sse42::detect().map(|scan| Level(Scanner::Sse42(scan))));
            levels.extend(x86::Avx2::detect().map(|scan| Level(Scanner::Avx2(scan))));
        }
        levels
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Scanner::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Scanner::Sse42(_) => "sse4.2",
            #[cfg(target_arch = "x86_64")]
            Scanner::Avx2(_) => "avx2",
        }
    }

    #[inline(always)]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Scanner::Portable(scan) => scan.apart(work),
            #[cfg(target_arch = "x86_64")]
            Scanner::Sse42(scan) => scan.apart(work),
            #[cfg(target_arch = "x86_64")]
            Scanner::Avx2(scan) => scan.apart(work),
        }
    }
}

/// Words of 8 bytes, and a table where these do not do.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

impl Scan for Portable {
    const IS_WIDE: bool = false;

    #[inline(always)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    #[inline(always)]
    fn stops<const CLASS: u8>(self, block: &Block) -> u32 {
        let stop = |&byte: &u8| u32::from(CLASSES[byte as usize] & CLASS == 0);
        block.iter().rev().fold(0, |stops, byte| stops << 1 | stop(byte))
    }

    #[inline(always)]
    fn differences(self, token: &Block, lower: &Block) -> u32 {
        let differs = |(&byte, &letter): (&u8, &u8)| u32::from(byte | 0x20 != letter);
        token.iter().zip(lower).rev().fold(0, |bits, pair| bits << 1 | differs(pair))
    }

    #[inline(always)]
    fn class_end<const CLASS: u8>(self, text: &[u8], from: usize) -> usize {
        let rest = &text[from..];
        from + if CLASS == PLAIN { plain_len(rest) } else { class_len::<CLASS>(rest) }
    }
}

/// Everything before the first LF.
pub fn line_len(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<WORD>();
    for (index, word) in words.iter().enumerate() {
        let zero_at_newline = u64::from_le_bytes(*word) ^ repeat(b'\n');
        let stops = zero_at_newline.wrapping_sub(repeat(1)) & !zero_at_newline & HIGH_BITS;
        if stops != 0 {
            return index * WORD + first(stops);
        }
    }
    text.len() - rest.len() + rest.iter().take_while(|&&byte| byte != b'\n').count()
}

/// RFC 9110 §5.6.2 tchar.
#[inline(always)]
pub fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            table[at] |= TOKEN;
        }
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"-.") {
            table[at] |= PLAIN_HOST;
        }
        if is_target(byte) {
            table[at] |= QUERY;
        }
        if is_target(byte) && !is_one_of(byte, b"\\?") {
            table[at] |= PATH;
        }
        if is_plain(byte) {
            table[at] |= PLAIN;
        }
        if is_plain(byte) || byte == b'\t' || byte >= 0x80 {
            table[at] |= VALUE;
        }
        at += 1;
    }
    table
}

/// Printable ASCII without `"`, `#`, `<` and `>`.
///
/// RFC 3986 also excludes `[ ] ^ | { }`, the backtick and `\`, but browsers send those raw in queries (the
/// WHATWG URL query set leaves them alone), some of them in paths too, and nginx and HAProxy pass them on:
/// refusing them would break working sites, and none of them can end a target. The four refused here are
/// always percent-encoded by browsers, and `#` would split one URL into two readings.
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !is_one_of(byte, b"\"#<>")
}

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

#[inline(always)]
fn class_len<const CLASS: u8>(text: &[u8]) -> usize {
    let mut rest = text;
    // Eight at a time, so that the bounds are checked once for them.
    while let Some((chunk, more)) = rest.split_first_chunk::<WORD>() {
        for (index, &byte) in chunk.iter().enumerate() {
            if CLASSES[byte as usize] & CLASS == 0 {
                return text.len() - rest.len() + index;
            }
        }
        rest = more;
    }
    while let [byte, more @ ..] = rest
        && CLASSES[*byte as usize] & CLASS != 0
    {
        rest = more;
    }
    text.len() - rest.len()
}

/// Printable ASCII and nothing else.
#[inline(always)]
fn plain_len(text: &[u8]) -> usize {
    let mut rest = text;
    if let Some((word, more)) = rest.split_first_chunk() {
        let stops = not_plain(u64::from_le_bytes(*word));
        if stops != 0 {
            return first(stops);
        }
        rest = more;
    }
    // LLVM makes a few vector instructions of this test. Which byte it was is left to the words.
    while let Some((block, more)) = rest.split_first_chunk::<BLOCK>() {
        if block.iter().fold(false, |any, &byte| any | !is_plain(byte)) {
            break;
        }
        rest = more;
    }
    while let Some((word, more)) = rest.split_first_chunk() {
        let stops = not_plain(u64::from_le_bytes(*word));
        if stops != 0 {
            return text.len() - rest.len() + first(stops);
        }
        rest = more;
    }
    while let [b' '..=b'~', more @ ..] = rest {
        rest = more;
    }
    text.len() - rest.len()
}

#[inline(always)]
const fn is_plain(byte: u8) -> bool {
    byte.wrapping_sub(b' ') < 0x5f
}

/// The high bit of each byte that is not printable ASCII. Subtraction borrows from
/// later bytes only where this one is a control, and addition carries into them only where it is 0xff: the
/// first stop is always right.
#[inline(always)]
fn not_plain(word: u64) -> u64 {
    (word.wrapping_sub(repeat(b' ')) | word.wrapping_add(repeat(1))) & HIGH_BITS
}

const WORD: usize = 8;
const HIGH_BITS: u64 = repeat(0x80);

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD])
}

/// The index of the first byte, in memory order, whose high bit is set.
#[inline(always)]
fn first(stops: u64) -> usize {
    (stops.trailing_zeros() / 8) as usize
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
