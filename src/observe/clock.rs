//! Owns wall-clock text: RFC 3339 in UTC with milliseconds, formatted once per second and core.
//! Measures no durations (`Instant` does) and knows no time zones.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// Formats timestamps; keeps the text of the last second seen.
#[derive(Debug)]
pub struct Clock {
    second: Cell<u64>,
    text: Cell<[u8; SECOND_BYTES]>,
}

impl Clock {
    /// Appends `2026-01-31T23:59:59.999Z`.
    pub fn append_rfc3339(&self, unix_ms: u64, out: &mut Vec<u8>) {
        let second = unix_ms / 1000;
        if second != self.second.get() {
            self.text.set(format_second(second));
            self.second.set(second);
        }
        let ms = (unix_ms % 1000) as u16;
        let digit = |n: u16| b'0' + n as u8;
        let mut text = [b'.'; SECOND_BYTES + 5];
        text[..SECOND_BYTES].copy_from_slice(&self.text.get());
        text[SECOND_BYTES + 1..].copy_from_slice(&[
            digit(ms / 100),
            digit(ms / 10 % 10),
            digit(ms % 10),
            b'Z',
        ]);
        out.extend_from_slice(&text);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock { second: Cell::new(0), text: Cell::new(format_second(0)) }
    }
}

/// One moment, for who formats few of them.
pub fn rfc3339(unix_ms: u64) -> String {
    let mut text = Vec::new();
    Clock::default().append_rfc3339(unix_ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Milliseconds since 1970; 0 for a clock set before that.
pub fn unix_ms_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// `2026-01-31T23:59:59`, years up to 9999.
fn format_second(unix_second: u64) -> [u8; SECOND_BYTES] {
    let (year, month, day) = civil_date(unix_second / 86_400);
    let second = unix_second % 86_400;
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, width: usize, mut number: u64| {
        for i in (at..at + width).rev() {
            text[i] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3600);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    text
}

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day is an era year's last (Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

const SECOND_BYTES: usize = "2026-01-31T23:59:59".len();

#[cfg(test)]
mod tests {
    use super::*;

    fn text(clock: &Clock, unix_ms: u64) -> String {
        let mut out = Vec::new();
        clock.append_rfc3339(unix_ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Expected values from `date -u -d @N`.
    #[test]
    fn known_moments() {
        let clock = Clock::default();
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_007, "2000-03-01T00:00:00.007Z"),
            (1_735_689_599_050, "2024-12-31T23:59:59.050Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_456_000_000, "2100-02-28T00:00:00.000Z"),
        ] {
            assert_eq!(text(&clock, unix_ms), expected);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let length = |year: u64, month: u64| match month {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(civil_date(days), expected);
            let (year, month, day) = expected;
            expected = if day < length(year, month) {
                (year, month, day + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
    }

    #[test]
    fn a_clock_that_steps_back_is_followed() {
        let clock = Clock::default();
        assert_eq!(text(&clock, 5_000), "1970-01-01T00:00:05.000Z");
        assert_eq!(text(&clock, 4_999), "1970-01-01T00:00:04.999Z");
    }
}
