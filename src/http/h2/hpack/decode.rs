//! Owns the decoder: a header block becomes field lines (RFC 7541 §3, §6), and the dynamic table follows.
//! What a block may expand to is for the `Sink` to bound; the decoder sees to it that a refusal ends the
//! copying.

use std::fmt;
use std::ops::Range;

use super::table::{LINE_END, Line, SEPARATOR, Table};
use super::{huffman, integer, static_table};

/// Where decoded fields go.
pub trait Sink {
    /// The decoder appends each field here as one HTTP/1 line: name, ": ", value, CRLF. It does so before
    /// `field` can refuse it: of one field there may be as much as the dynamic table's size, or 8/5 of the
    /// block.
    fn text(&mut self) -> &mut Vec<u8>;

    /// This line was appended to `text`. A refusal is final: the rest of the block goes to the dynamic table
    /// only, and neither `text` nor `field` is called again.
    fn field(&mut self, line: FieldLine) -> Result<(), TooLarge>;
}

/// A decoded field line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldLine {
    /// In `Sink::text`; the line begins with it.
    pub name: Range<usize>,
    /// In `Sink::text`; the line ends 2 bytes behind it.
    pub value: Range<usize>,
    /// The first index in the static table (1 to 61, RFC 7541 Appendix A) with this name. 0 if the encoder
    /// did not take the name from there, which does not say that it is not there.
    pub name_index: u8,
    /// The encoder asked that no hop puts this field into a table: send it on with
    /// `Encoder::field_never_indexed` (RFC 7541 §6.2.3).
    pub never_indexed: bool,
}

/// The fields of a block exceed what its `Sink` takes. The fault of the peer, but of this message only: the
/// block was decoded to its end, and the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("header fields too large")
    }
}

impl std::error::Error for TooLarge {}

/// Why a block cannot be decoded. The fault of the peer; the dynamic table is out of step afterwards, so the
/// connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockError {
    /// Breaks RFC 7541, as said here for logs: COMPRESSION_ERROR (RFC 9113 §4.3).
    Malformed(&'static str),
    /// Well-formed, but made to cost far more than its length, and goes on after a refusal:
    /// ENHANCE_YOUR_CALM (RFC 9113 §10.5).
    Excessive,
}

impl fmt::Display for BlockError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BlockError::Malformed(reason) => reason,
            BlockError::Excessive => "header block costs too much",
        })
    }
}

impl std::error::Error for BlockError {}

/// The receiving end of a connection's header compression.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The limit of the table's size that the peer has acknowledged, in bytes.
    table_bytes_max: usize,
    /// The next block has to begin by reducing the table to this or less.
    reduction_due: Option<usize>,
}

impl Decoder {
    /// A decoder whose peer may use a table of `table_bytes_max`. That is `TABLE_BYTES_DEFAULT` until the
    /// peer has acknowledged another value.
    pub fn new(table_bytes_max: usize) -> Decoder {
        Decoder { table: Table::new(table_bytes_max), table_bytes_max, reduction_due: None }
    }

    /// The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE, in bytes. If the table may be larger, the
    /// next block has to begin by reducing it (RFC 7541 §4.2).
    pub fn set_table_bytes_max(&mut self, acknowledged: usize) {
        self.table_bytes_max = acknowledged;
        let least = self.reduction_due.unwrap_or(self.table.size_max());
        if acknowledged < least {
            self.reduction_due = Some(acknowledged);
        }
    }

    /// The size of the dynamic table (RFC 7541 §4.1), in bytes.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// The entry at `place` of the dynamic table, 0 being the newest: its name and value.
    #[cfg(test)]
    pub(super) fn entry(&self, place: usize) -> Option<(&[u8], &[u8])> {
        self.table.get(place).map(|line| (line.name(), line.value()))
    }

    /// Decodes one whole header block into `sink`. The outer error ends the connection, the inner one only
    /// the message.
    ///
    /// The work is proportional to the block and to what the sink has taken.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<Result<(), TooLarge>, BlockError> {
        let mut rest = self.size_updates(block)?;
        while !rest.is_empty() {
            if self.field(&mut rest, sink)? == Err(TooLarge) {
                return self.rest_without_sink(rest).map(|()| Err(TooLarge));
            }
        }
        Ok(Ok(()))
    }

    /// Reads the size updates at the start of a block: two at most, the first of them no larger than a
    /// reduction of the limit that the peer has acknowledged since the last block (RFC 7541 §4.2, §6.3).
    fn size_updates<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], BlockError> {
        let mut rest = block;
        for _ in 0..2 {
            let Some((&first @ 0x20..=0x3f, mut behind)) = rest.split_first() else { break };
            let size_max = integer::read(first, 5, &mut behind)?;
            if size_max > self.reduction_due.take().unwrap_or(self.table_bytes_max) {
                return Err(BlockError::Malformed("dynamic table size update above the limit"));
            }
            self.table.set_size_max(size_max);
            rest = behind;
        }
        match self.reduction_due {
            Some(_) => Err(BlockError::Malformed("dynamic table size update missing")),
            None => Ok(rest),
        }
    }

    /// Decodes the field at the start of `rest`.
    #[inline(always)]
    fn field(&mut self, rest: &mut &[u8], sink: &mut impl Sink) -> Result<Result<(), TooLarge>, BlockError> {
        let text = sink.text();
        let start = text.len();
        let (kind, index) = representation(rest)?;
        if kind == Kind::Indexed {
            let line = line(&self.table, index)?;
            text.extend_from_slice(line.text);
            return Ok(sink.field(field_line(start, line, kind)));
        }
        let name_index = append_name(&self.table, index, rest, text)?;
        let name_len = text.len() - SEPARATOR.len() - start;
        append_value(rest, text)?;
        let line = Line { text: &text[start..], name_len, name_index };
        if kind == Kind::Literal {
            self.table.insert(line);
        }
        let line = field_line(start, line, kind);
        Ok(sink.field(line))
    }

    /// Keeps the table in step when the sink has refused. Copies only what enters the table.
    #[cold]
    fn rest_without_sink(&mut self, mut rest: &[u8]) -> Result<(), BlockError> {
        let mut scratch = Vec::new();
        let mut names_bytes = 0;
        while !rest.is_empty() {
            let (kind, index) = representation(&mut rest)?;
            scratch.clear();
            match kind {
                Kind::Indexed => drop(line(&self.table, index)?),
                Kind::Literal => names_bytes += self.insert_only(index, &mut rest, &mut scratch)?,
                Kind::LiteralNotIndexed | Kind::LiteralNeverIndexed => {
                    self.check_only(index, &mut rest, &mut scratch)?;
                }
            }
            if names_bytes > NAMES_BYTES_MAX {
                return Err(BlockError::Excessive);
            }
        }
        Ok(())
    }

    /// Enters a literal into the table. Returns the length of the name if that came from a table: a copy that
    /// the block does not pay for.
    fn insert_only(
        &mut self,
        index: usize,
        rest: &mut &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<usize, BlockError> {
        let name_index = append_name(&self.table, index, rest, scratch)?;
        let name_len = scratch.len() - SEPARATOR.len();
        append_value(rest, scratch)?;
        self.table.insert(Line { text: scratch, name_len, name_index });
        Ok(if index == 0 { 0 } else { name_len })
    }

    /// Checks a literal that no table gets.
    fn check_only(&self, index: usize, rest: &mut &[u8], scratch: &mut Vec<u8>) -> Result<(), BlockError> {
        match index {
            0 => append_string(rest, scratch)?,
            _ => drop(line(&self.table, index)?),
        }
        append_string(rest, scratch)
    }
}

/// What may be copied, after the sink has refused, of names that are in a table, in bytes. Only names that
/// are hundreds of bytes long or fields by the thousand get there.
const NAMES_BYTES_MAX: usize = 128 * 1024;

/// How a field is represented (RFC 7541 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Indexed,
    /// With incremental indexing.
    Literal,
    LiteralNotIndexed,
    LiteralNeverIndexed,
}

/// Takes what comes before the strings of a field: its kind, and the index of the field or its name.
#[inline(always)]
fn representation(rest: &mut &[u8]) -> Result<(Kind, usize), BlockError> {
    let Some((&first, behind)) = rest.split_first() else { return Err(CUT_OFF) };
    *rest = behind;
    Ok(match first {
        0x80.. => (Kind::Indexed, integer::read(first, 7, rest)?),
        0x40..=0x7f => (Kind::Literal, integer::read(first, 6, rest)?),
        0x10..=0x1f => (Kind::LiteralNeverIndexed, integer::read(first, 4, rest)?),
        0x00..=0x0f => (Kind::LiteralNotIndexed, integer::read(first, 4, rest)?),
        0x20..=0x3f => return Err(BlockError::Malformed("dynamic table size update out of place")),
    })
}

/// The field at `index` of both tables (RFC 7541 §2.3.3).
#[inline(always)]
fn line(table: &Table, index: usize) -> Result<Line<'_>, BlockError> {
    let line = if index <= static_table::COUNT {
        static_table::get(index)
    } else {
        table.get(index - static_table::COUNT - 1)
    };
    line.ok_or(BlockError::Malformed("index not in the tables"))
}

/// Appends a literal's name, a string if `index` is 0, and the separator. Returns its `Line::name_index`.
#[inline(always)]
fn append_name(table: &Table, index: usize, rest: &mut &[u8], text: &mut Vec<u8>) -> Result<u8, BlockError> {
    if index == 0 {
        append_string(rest, text)?;
        text.extend_from_slice(SEPARATOR);
        return Ok(0);
    }
    let line = line(table, index)?;
    text.extend_from_slice(line.name_part());
    Ok(line.name_index)
}

#[inline(always)]
fn append_value(rest: &mut &[u8], text: &mut Vec<u8>) -> Result<(), BlockError> {
    append_string(rest, text)?;
    text.extend_from_slice(LINE_END);
    Ok(())
}

/// Takes a string (RFC 7541 §5.2) and appends it to `text`.
#[inline(always)]
fn append_string(rest: &mut &[u8], text: &mut Vec<u8>) -> Result<(), BlockError> {
    let Some((&first, behind)) = rest.split_first() else { return Err(CUT_OFF) };
    *rest = behind;
    let len = integer::read(first, 7, rest)?;
    let Some((string, behind)) = rest.split_at_checked(len) else { return Err(CUT_OFF) };
    *rest = behind;
    if first & 0x80 != 0 {
        huffman::decode(string, text)
    } else {
        text.extend_from_slice(string);
        Ok(())
    }
}

const CUT_OFF: BlockError = BlockError::Malformed("field cut off");

/// `line`, which is in the sink's text from `start` on.
#[inline(always)]
fn field_line(start: usize, line: Line<'_>, kind: Kind) -> FieldLine {
    let name_end = start + line.name_len;
    FieldLine {
        name: start..name_end,
        value: name_end + SEPARATOR.len()..start + line.text.len() - LINE_END.len(),
        name_index: line.name_index,
        never_indexed: kind == Kind::LiteralNeverIndexed,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
