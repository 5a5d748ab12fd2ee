//! Every scanner of this machine, on every byte at every place of texts around the sizes of their blocks.

use super::*;

/// A class, and what should belong to it.
type Class = (u8, fn(u8) -> bool);

const IN_CLASS: [Class; 6] = [
    (VALUE, |byte| byte >= 0x20 && byte != 0x7f || byte == b'\t'),
    (PLAIN, |byte| matches!(byte, 0x20..=0x7e)),
    (TOKEN, |byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)),
    (PATH, |byte| byte.is_ascii_graphic() && !b"\"#<>\\?".contains(&byte)),
    (QUERY, |byte| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte)),
    (PLAIN_HOST, |byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)),
];

struct ClassEnd<'a> {
    class: u8,
    text: &'a [u8],
    from: usize,
}

impl Work for ClassEnd<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> usize {
        match self.class {
            VALUE => scan.class_end::<VALUE>(self.text, self.from),
            PLAIN => scan.class_end::<PLAIN>(self.text, self.from),
            TOKEN => scan.class_end::<TOKEN>(self.text, self.from),
            PATH => scan.class_end::<PATH>(self.text, self.from),
            QUERY => scan.class_end::<QUERY>(self.text, self.from),
            PLAIN_HOST => scan.class_end::<PLAIN_HOST>(self.text, self.from),
            _ => unreachable!("all classes are above"),
        }
    }
}

#[track_caller]
fn ends_at(class: u8, text: &[u8], from: usize, expected: usize) {
    for level in Level::all() {
        let end = level.run(ClassEnd { class, text, from });
        assert_eq!(end, expected, "{}: {} from {from}", level.name(), text.escape_ascii());
    }
}

#[test]
fn every_byte_stops_or_passes_at_every_place_and_length() {
    for (class, is_in_class) in IN_CLASS {
        for byte in 0..=255 {
            for len in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 40, 47, 48, 63, 64, 65, 71, 97] {
                let mut text = vec![b'a'; len];
                for place in 0..len {
                    text[place] = byte;
                    let end = if is_in_class(byte) { len } else { place };
                    ends_at(class, &text, 0, end);
                    ends_at(class, &text, place / 2, end);
                    ends_at(class, &text, place, end);
                    ends_at(class, &text, place + 1, len);
                    text[place] = b'a';
                }
            }
        }
    }
}

#[test]
fn neighbours_of_a_stop_do_not_move_it() {
    for (class, is_in_class) in IN_CLASS {
        for first in 0..=255 {
            for second in 0..=255 {
                let mut text = [b'a'; 41];
                (text[15], text[16]) = (first, second);
                for len in [17, 32, 41] {
                    let text = &text[..len];
                    let end = text.iter().position(|&byte| !is_in_class(byte)).unwrap_or(len);
                    ends_at(class, text, 0, end);
                }
            }
        }
    }
}

#[test]
fn what_lies_around_the_text_does_not_matter() {
    for (class, _) in IN_CLASS {
        for len in 0..70 {
            for from in 0..=len {
                // Stops right before `from` and right after the text.
                let mut text = [b'a'; 80];
                text[..8 + from].fill(0);
                text[8 + len..].fill(0);
                ends_at(class, &text[8..8 + len], from, len);
            }
        }
    }
}

#[test]
fn the_portable_level_is_first_and_the_best_is_last() {
    let names: Vec<_> = Level::all().iter().map(|level| level.name()).collect();
    assert_eq!(names[0], "portable");
    assert_eq!(names.last(), Some(&Level::best().name()));
}

#[test]
fn lines_end_at_the_first_newline() {
    for len in 0..36 {
        assert_eq!(line_len(&vec![b'a'; len]), len);
        for place in 0..len {
            for other in [0x00, 0x09, 0x0b, 0x8a, 0xff] {
                let mut text = vec![other; len];
                text[place..].fill(b'\n');
                assert_eq!(line_len(&text), place, "{place} of {len} after {other:#x}");
            }
        }
    }
}
