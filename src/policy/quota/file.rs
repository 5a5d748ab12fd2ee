//! Owns the text of a quota file: what its keys have used of the day and of the month that they were last seen in. Plain enough to be read
//! and mended by hand, and never guessed at: what is not whole is refused. Opens nothing.

use std::collections::HashSet;
use std::fmt::Write;

use super::{COUNT_MAX, NUMBER_MAX};
use crate::policy::calendar::{read_day, read_month, written_day, written_month};

/// The first line. Another version would be read by somebody else.
const FIRST: &str = "tidegate-quotas 1";
/// The last line, which begins as no id does: a file that was cut off does not pass for one in which others have used nothing.
const LAST: &str = "end-of-file";
const LEGEND: &str = "# id, day (UTC), requests on it, month, requests in it";

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of the key.
    pub id: Box<str>,
    /// Its number, and the requests on it.
    pub day: (u64, u64),
    /// The same.
    pub month: (u64, u64),
}

/// Why a file is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    pub what: String,
}

pub fn write(entries: &[Entry]) -> String {
    let mut text = format!("{FIRST}\n{LEGEND}\n");
    for Entry { id, day, month } in entries {
        let (day, month) = ((written_day(day.0), day.1), (written_month(month.0), month.1));
        let _ = writeln!(text, "{id} {} {} {} {}", day.0, day.1, month.0, month.1);
    }
    text + LAST + "\n"
}

pub fn read(text: &str) -> Result<Vec<Entry>, Wrong> {
    let mut lines = text.lines().zip(1..);
    match lines.next() {
        Some((FIRST, _)) => {}
        Some((line, 1)) if line.starts_with("tidegate-quotas ") => {
            return Err(wrong(1, "it is of another version than 1".to_owned()));
        }
        _ => return Err(wrong(1, format!("it does not begin with `{FIRST}`"))),
    }
    let (mut entries, mut ids) = (Vec::new(), HashSet::new());
    let mut ended = None;
    for (line, number) in lines {
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        if ended.is_some() {
            return Err(wrong(number, format!("something follows `{LAST}`")));
        }
        if content == LAST {
            ended = Some(number);
            continue;
        }
        let entry = entry(content).map_err(|what| wrong(number, what))?;
        if !ids.insert(entry.id.clone()) {
            return Err(wrong(number, format!("the key {} stands twice", entry.id)));
        }
        entries.push(entry);
    }
    let missing = || wrong(text.lines().count(), format!("its last line is not `{LAST}`: a part is missing"));
    ended.map(|_| entries).ok_or_else(missing)
}

fn wrong(line: usize, what: String) -> Wrong {
    Wrong { line, what }
}

fn entry(content: &str) -> Result<Entry, String> {
    let words: Vec<&str> = content.split_ascii_whitespace().collect();
    let [id, day, on_day, month, in_month] = words[..] else {
        return Err("it is not of five words: an id, a day, a number, a month and a number".to_owned());
    };
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("\"{id}\" is no id of a key: letters and digits"));
    }
    let known = |number: &u64| *number <= NUMBER_MAX;
    let day = read_day(day).filter(known).ok_or_else(|| format!("\"{day}\" is no day such as 2027-01-31"))?;
    let month =
        read_month(month).filter(known).ok_or_else(|| format!("\"{month}\" is no month such as 2027-01"))?;
    Ok(Entry { id: id.into(), day: (day, requests(on_day)?), month: (month, requests(in_month)?) })
}

fn requests(text: &str) -> Result<u64, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|&number| is_number && number <= COUNT_MAX);
    number.ok_or_else(|| format!("\"{text}\" is no number of requests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Entry> {
        let entry = |id: &str, day, month| Entry { id: id.into(), day, month };
        vec![
            entry("5d0f3c9a1b7e", (20_784, 812), (682, 15_730)),
            entry("ann", (0, 0), (0, COUNT_MAX)),
            entry("b", (NUMBER_MAX, 1), (NUMBER_MAX, 1)),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let text = write(&some());
        assert!(text.contains("\n5d0f3c9a1b7e 2026-11-27 812 2026-11 15730\n"), "{text}");
        assert_eq!(read(&text), Ok(some()));
        assert_eq!(read(&write(&[])), Ok(Vec::new()));
        let by_hand = "tidegate-quotas 1\r\n\n  ann\t1970-01-01  007 1970-01 7 # hers\nend-of-file";
        assert_eq!(read(by_hand).unwrap()[0], Entry { id: "ann".into(), day: (0, 7), month: (0, 7) });
    }

    #[test]
    fn a_file_that_was_cut_off_is_not_taken() {
        let text = write(&some());
        for end in 0..text.len() - 1 {
            assert!(read(&text[..end]).is_err(), "{:?}", &text[..end]);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (lines, number, what) in [
            ("a 2026-11-27 1 2026-11", 2, "not of five words"),
            ("a 2026-11-27 1 2026-11 1 1", 2, "not of five words"),
            ("\na-b 2026-11-27 1 2026-11 1", 3, "\"a-b\" is no id"),
            ("a 2026-02-29 1 2026-11 1", 2, "\"2026-02-29\" is no day"),
            ("a 2149-06-07 1 2026-11 1", 2, "\"2149-06-07\" is no day"),
            ("a 2026-11-27 1 2026-13 1", 2, "\"2026-13\" is no month"),
            ("a 2026-11-27 -1 2026-11 1", 2, "\"-1\" is no number"),
            ("a 2026-11-27 1 2026-11 +1", 2, "\"+1\" is no number"),
            ("a 2026-11-27 281474976710656 2026-11 1", 2, "is no number"),
            ("a 2026-11-27 1 2026-11 1\na 2026-11-27 1 2026-11 1", 3, "a stands twice"),
            ("end-of-file\na 2026-11-27 1 2026-11 1", 3, "something follows `end-of-file`"),
            ("# nothing", 3, "a part is missing"),
        ] {
            let last = if lines.starts_with('#') { "" } else { "end-of-file" };
            let wrong = read(&format!("tidegate-quotas 1\n{lines}\n{last}\n")).unwrap_err();
            assert!(wrong.line == number && wrong.what.contains(what), "{lines}: {wrong:?}");
        }
        for (text, what) in [
            ("", "does not begin with"),
            ("a 2026-11-27 1 2026-11 1\nend-of-file\n", "does not begin with"),
            ("tidegate-quotas 2\nend-of-file\n", "another version"),
            ("tidegate-quotas 10\nend-of-file\n", "another version"),
        ] {
            assert!(read(text).unwrap_err().what.contains(what), "{text}");
        }
    }
}
