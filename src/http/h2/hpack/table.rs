//! Owns the dynamic table (RFC 7541 §2.3.2, §4): its entries, their eviction and its size. Knows neither the
//! static table nor the representation of fields.

use std::collections::VecDeque;

/// What an entry counts beyond its name and value, in bytes (RFC 7541 §4.1).
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;
/// Between name and value in `Line::text`.
pub(super) const SEPARATOR: &[u8] = b": ";
/// Behind the value in `Line::text`.
pub(super) const LINE_END: &[u8] = b"\r\n";

/// A field, stored as the line that it is in HTTP/1, so that it is copied as one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Name, `SEPARATOR`, value and `LINE_END`.
    pub text: &'a [u8],
    pub name_len: usize,
    /// The first index in the static table with this name, if the name was taken from there; else 0.
    pub name_index: u8,
}

impl<'a> Line<'a> {
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        &self.text[..self.name_len]
    }
    /// The name and the separator.
    #[inline]
    pub fn name_part(&self) -> &'a [u8] {
        &self.text[..self.name_len + SEPARATOR.len()]
    }
    #[inline]
    pub fn value(&self) -> &'a [u8] {
        &self.text[self.name_len + SEPARATOR.len()..self.text.len() - LINE_END.len()]
    }
}

/// The dynamic table. Entries are contiguous in `bytes`, oldest first; evicted ones are left in front until
/// they make up half of it. So `bytes` is at most twice as long as the table's maximum size, an insertion
/// moves few bytes on average, and none of them allocates once the table has been full.
#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// What `Entry::start` says of the first of `bytes`.
    origin: u32,
    /// Newest first.
    entries: VecDeque<Entry>,
    /// The table's size as RFC 7541 §4.1 counts it.
    size: usize,
    size_max: usize,
}

/// Where an entry is. Positions wrap around.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    text_len: u32,
    name_len: u32,
    name_index: u8,
}

impl Entry {
    fn size(&self) -> usize {
        self.text_len as usize - SEPARATOR.len() - LINE_END.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl Table {
    /// An empty table of at most `size_max` bytes. It allocates as it fills.
    pub fn new(size_max: usize) -> Table {
        Table { bytes: Vec::new(), origin: 0, entries: VecDeque::new(), size: 0, size_max }
    }

    /// The entry at `place`: 0 is the newest.
    #[inline]
    pub fn get(&self, place: usize) -> Option<Line<'_>> {
        let entry = self.entries.get(place)?;
        let start = self.position(entry);
        let text = &self.bytes[start..start + entry.text_len as usize];
        Some(Line { text, name_len: entry.name_len as usize, name_index: entry.name_index })
    }

    /// The size in bytes (RFC 7541 §4.1).
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    #[inline]
    pub fn size_max(&self) -> usize {
        self.size_max
    }

    /// Changes the maximum size, in bytes, and evicts what is beyond it (RFC 7541 §4.3).
    pub fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict_to(size_max);
        if self.entries.is_empty() {
            self.bytes = Vec::new();
            self.entries = VecDeque::new();
        }
    }

    /// Adds `line`, after evicting what it displaces. `false` if it is larger than the table, which is empty
    /// then (RFC 7541 §4.4).
    #[inline]
    pub fn insert(&mut self, line: Line<'_>) -> bool {
        let fits = self.make_room(line.text.len(), line.name_len, line.name_index);
        if fits {
            self.bytes.extend_from_slice(line.text);
        }
        fits
    }

    /// `insert` for a line whose parts are apart.
    pub fn insert_parts(&mut self, name: &[u8], value: &[u8], name_index: u8) -> bool {
        let text_len = name.len() + SEPARATOR.len() + value.len() + LINE_END.len();
        let fits = self.make_room(text_len, name.len(), name_index);
        if fits {
            for part in [name, SEPARATOR, value, LINE_END] {
                self.bytes.extend_from_slice(part);
            }
        }
        fits
    }

    /// Enters an entry whose text is appended next, if there can be one of this size.
    #[inline]
    fn make_room(&mut self, text_len: usize, name_len: usize, name_index: u8) -> bool {
        let size = text_len - SEPARATOR.len() - LINE_END.len() + ENTRY_OVERHEAD_BYTES;
        let Some(others_max) = self.size_max.checked_sub(size) else {
            self.evict_to(0);
            return false;
        };
        self.evict_to(others_max);
        if self.bytes.len() + text_len > self.bytes.capacity() {
            self.move_or_grow(text_len);
        }
        let start = self.origin.wrapping_add(self.bytes.len() as u32);
        let (text_len, name_len) = (text_len as u32, name_len as u32);
        self.entries.push_front(Entry { start, text_len, name_len, name_index });
        self.size += size;
        true
    }

    #[inline]
    fn evict_to(&mut self, size_max: usize) {
        while self.size > size_max
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size();
        }
    }

    fn move_or_grow(&mut self, text_len: usize) {
        const BYTES_MIN: usize = 512;
        let dead = self.entries.back().map_or(self.bytes.len(), |oldest| self.position(oldest));
        if dead * 2 >= self.bytes.len() {
            self.bytes.drain(..dead);
            self.origin = self.origin.wrapping_add(dead as u32);
        }
        let needed = self.bytes.len() + text_len;
        if needed > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).max(BYTES_MIN).min(2 * self.size_max);
            self.bytes.reserve_exact(doubled.max(needed) - self.bytes.len());
        }
    }

    #[inline]
    fn position(&self, entry: &Entry) -> usize {
        entry.start.wrapping_sub(self.origin) as usize
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
