//! Owns the field lines of a head: `field-name ":" OWS field-value OWS CRLF` (RFC 9112 §5), as many as there
//! are, up to the empty line. Lines as nearly all are go through a loop that looks at a block for the name and
//! a block for the value; the rest, and the portable scanner's, through one that knows all forms. Hands each
//! known name to `framing`, and does not know what it means.

use super::framing;
use super::{HeadError, Progress, line_ends, span};
use crate::http::head::{Field, Fields, HeadLimits, Name, Version};
use crate::http::scan::{BLOCK, Block, PLAIN, PLAIN_HOST, Portable, Scan, TOKEN, VALUE, Work};

/// All field lines and the empty line; `true` once they are there, with `progress.line` behind them.
#[inline(always)]
pub(super) fn field_lines<S: Scan, const REQUEST: bool>(
    scan: S,
    window: &[u8],
    progress: &mut Progress,
    limits: &HeadLimits,
    version: Version,
    fields: &mut Fields,
) -> Result<bool, HeadError> {
    let mut start = progress.line;
    if S::IS_WIDE {
        let mut lines = Lines { window, limits, version, fields, seen: &mut progress.seen };
        start = usual_lines::<S, REQUEST>(scan, &mut lines, start)?;
    }
    if window[start..].first() != Some(&b'\r') {
        let lines = Lines { window, limits, version, fields, seen: &mut progress.seen };
        start = scan.apart(AnyLines::<REQUEST> { lines, start })?;
    }
    if window[start..].first_chunk() == Some(b"\r\n") {
        progress.line = start + 2;
        return Ok(true);
    }
    no_empty_line(window, progress, start)
}

#[cold]
fn no_empty_line(window: &[u8], progress: &mut Progress, start: usize) -> Result<bool, HeadError> {
    progress.line = start;
    match window[start..] {
        [b'\r', _, ..] => return Err(HeadError::BadRequest("bare CR")),
        [b'\r'] => {}
        _ => progress.scanned = window.len(),
    }
    Ok(false)
}

/// Where field lines come from and go to.
struct Lines<'a> {
    window: &'a [u8],
    limits: &'a HeadLimits,
    version: Version,
    fields: &'a mut Fields,
    seen: &'a mut framing::Seen,
}

/// Lines as nearly all are: a name of less than a block, one space, a value that is printable ASCII. Returns
/// where the first line begins that is not, or is not whole.
#[inline(always)]
fn usual_lines<S: Scan, const REQUEST: bool>(
    scan: S,
    lines: &mut Lines<'_>,
    mut start: usize,
) -> Result<usize, HeadError> {
    let (window, version) = (lines.window, lines.version);
    let room = lines.fields.room(lines.limits.fields_max);
    let places = room.len();
    let mut usual = UsualLines { window, version, room, seen: lines.seen };
    if start + REACH <= window.len() {
        start = usual.take::<S, REQUEST>(scan, window, 0, start)?;
    }
    // Too near to the end to look at all that a usual line may be: goes on in a copy with room behind it.
    let mut copy = [0; 2 * REACH];
    if start + REACH > window.len()
        && let Some(base) = copy_end(window, &mut copy)
    {
        start = usual.take::<S, REQUEST>(scan, &copy, base, start)?;
    }
    let used = places - usual.room.len();
    lines.fields.add(used);
    Ok(start)
}

/// How far from its start a usual line is looked at: a block for the name, a colon, a space, a block for the
/// value, CR and LF. One less, as a stop is in each block.
const REACH: usize = 2 * BLOCK + 2;

/// Copies at least the last `REACH - 1` bytes of the window, and returns where in it the copy begins.
#[inline(always)]
fn copy_end(window: &[u8], copy: &mut [u8; 2 * REACH]) -> Option<usize> {
    const HALF: usize = REACH / 2;
    if let Some(end) = window.last_chunk::<REACH>() {
        copy[..REACH].copy_from_slice(end);
        return Some(window.len() - REACH);
    }
    // The halves overlap.
    let (first, last) = (window.first_chunk::<HALF>()?, window.last_chunk::<HALF>()?);
    copy[..HALF].copy_from_slice(first);
    copy[window.len() - HALF..][..HALF].copy_from_slice(last);
    Some(0)
}

/// Where usual lines go to.
struct UsualLines<'a> {
    window: &'a [u8],
    version: Version,
    /// Places for fields that are left.
    room: &'a mut [Field],
    seen: &'a mut framing::Seen,
}

impl UsualLines<'_> {
    /// `text` is the window from `base` on; zeros may follow it, which end no usual line.
    #[inline(always)]
    fn take<S: Scan, const REQUEST: bool>(
        &mut self,
        scan: S,
        text: &[u8],
        base: usize,
        start: usize,
    ) -> Result<usize, HeadError> {
        let mut rest = &text[start - base..];
        while let Some(line) = rest.first_chunk::<REACH>() {
            let Some(name) = line.first_chunk() else { break };
            let name_len = scan.stops::<TOKEN>(name).trailing_zeros() as usize;
            if !(1..BLOCK).contains(&name_len) || line[name_len..].first_chunk() != Some(b": ") {
                break;
            }
            let Some(block) = line[name_len + 2..].first_chunk::<BLOCK>() else { break };
            let stops = scan.stops::<PLAIN>(block);
            let (stop, last, after) = if stops != 0 {
                let stop = name_len + 2 + stops.trailing_zeros() as usize;
                (stop, line[stop - 1], whole_line_end(rest, stop))
            } else {
                let stop = scan.class_end::<PLAIN>(rest, name_len + 2 + BLOCK);
                (stop, rest[stop - 1], whole_line_end(rest, stop))
            };
            // Neither end of the value is a space; an empty one begins with its CR.
            let Some(after) = after.filter(|_| block[0] > b' ' && last != b' ') else { break };
            let Some(field) = self.room.split_off_first_mut() else { break };
            let start = base + text.len() - rest.len();
            let (value, value_end) = (start + name_len + 2, start + stop);
            *field = Line { name_end: start + name_len, value, value_end, end: value_end + 2 }.field(start);
            rest = after;
            self.known::<S, REQUEST>(scan, name, name_len, block, field)?;
        }
        Ok(base + text.len() - rest.len())
    }

    /// Recognises the field by its name, and notes what it says. `name` and `value` are the blocks in which
    /// these begin.
    #[inline(always)]
    fn known<S: Scan, const REQUEST: bool>(
        &mut self,
        scan: S,
        name: &Block,
        name_len: usize,
        value: &Block,
        field: &mut Field,
    ) -> Result<(), HeadError> {
        let letters = &name[..name_len];
        if REQUEST && framing::is_host(letters) {
            let plain_len = scan.stops::<PLAIN_HOST>(value).trailing_zeros() as usize;
            return framing::host_field(self.window, plain_len, field, self.seen);
        }
        let Some(known) = Name::candidate(letters) else { return Ok(()) };
        if scan.differences(name, &known.block) << (BLOCK - name_len) != 0 {
            return framing::candidate_field::<REQUEST>(self.window, self.version, field, self.seen);
        }
        field.known = known.name;
        if !framing::acts_on(known.name) {
            return Ok(());
        }
        framing::note::<REQUEST>(known.name, field.value.of(self.window), self.version, self.seen)
    }
}

/// What follows the CRLF at `stop`, if there is one.
#[inline(always)]
fn whole_line_end(text: &[u8], stop: usize) -> Option<&[u8]> {
    let (end, after) = text[stop..].split_first_chunk()?;
    (end == b"\r\n").then_some(after)
}

/// Lines of any form; where the first line begins that is not whole, or the empty line.
struct AnyLines<'a, const REQUEST: bool> {
    lines: Lines<'a>,
    start: usize,
}

impl<const REQUEST: bool> Work for AnyLines<'_, REQUEST> {
    type Output = Result<usize, HeadError>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Result<usize, HeadError> {
        let AnyLines { mut lines, mut start } = self;
        let window = lines.window;
        while window.get(start).is_some_and(|&byte| byte != b'\r') {
            if lines.fields.len() >= lines.limits.fields_max {
                return Err(HeadError::TooManyFields);
            }
            let Some(line) = field_line(scan, window, start)? else { break };
            let field = lines.fields.push(line.field(start), lines.limits.fields_max);
            let name = &window[start..line.name_end];
            if REQUEST && framing::is_host(name) {
                framing::host_field(window, 0, field, lines.seen)?;
            } else if Name::candidate(name).is_some() {
                framing::candidate_field::<REQUEST>(window, lines.version, field, lines.seen)?;
            }
            start = line.end;
            if S::IS_WIDE {
                start = usual_lines::<S, REQUEST>(scan, &mut lines, start)?;
            }
        }
        Ok(start)
    }
}

/// One `field-line CRLF`, as offsets into the window it is in.
pub(in crate::http) struct Line {
    pub(in crate::http) name_end: usize,
    value: usize,
    value_end: usize,
    /// Behind CRLF.
    pub(in crate::http) end: usize,
}

impl Line {
    #[inline(always)]
    fn field(&self, start: usize) -> Field {
        Field {
            name: span(start, self.name_end),
            value: span(self.value, self.value_end),
            line_len: (self.end - start) as u16,
            ..Field::default()
        }
    }
}

/// The line of a trailer, at the start of `text`; `None` if it is cut short.
pub(in crate::http) fn trailer_line(text: &[u8]) -> Result<Option<Line>, HeadError> {
    field_line(Portable, text, 0)
}

/// `field-name ":" OWS field-value OWS CRLF` (RFC 9112 §5) at `start`; `None` if it is cut short.
#[inline(always)]
fn field_line<S: Scan>(scan: S, window: &[u8], start: usize) -> Result<Option<Line>, HeadError> {
    let name_end = scan.class_end::<TOKEN>(window, start);
    let value = match &window[name_end..] {
        // Nearly every line: one space and then something.
        [b':', b' ', first, ..] if name_end > start && *first > b' ' => name_end + 2,
        [b':', rest @ ..] if name_end > start => window.len() - without_leading_space(rest).len(),
        [] => return Ok(None),
        [byte, ..] => return Err(name_error(*byte, name_end == start)),
    };
    let stop = value_end(scan, window, value);
    if !line_ends(window, stop)? {
        return Ok(None);
    }
    let value_end = match window[value..stop] {
        [.., b'\t' | b' '] => value + without_trailing_space(&window[value..stop]).len(),
        _ => stop,
    };
    Ok(Some(Line { name_end, value, value_end, end: stop + 2 }))
}

/// Where the value that begins at `value` stops: at the end of its line, if that is well-formed.
#[inline(always)]
pub(super) fn value_end<S: Scan>(scan: S, window: &[u8], value: usize) -> usize {
    let end = scan.class_end::<PLAIN>(window, value);
    match window.get(end) {
        None | Some(b'\r') => end,
        // HTAB and obs-text are rare, and telling them from what is not allowed costs more.
        Some(_) => scan.class_end::<VALUE>(window, end),
    }
}

/// OWS is SP and HTAB (RFC 9110 §5.6.3).
#[cold]
fn without_leading_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

#[cold]
fn without_trailing_space(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cold]
fn name_error(byte: u8, empty: bool) -> HeadError {
    HeadError::BadRequest(match (byte, empty) {
        (b':', _) => "empty field name",
        // RFC 9112 §2.2 before the first field, §5.2 (obs-fold) after one.
        (b' ' | b'\t', true) => "line begins with white space",
        // RFC 9112 §5.1: has been used to hide a field from one of two readers.
        (b' ' | b'\t', false) => "white space before colon",
        (b'\r', _) => "bare CR",
        (b'\n', _) => "bare LF",
        _ => "forbidden byte in field name",
    })
}
