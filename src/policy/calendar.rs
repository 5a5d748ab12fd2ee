//! Owns the calendar: days and months as numbers since 1970 (UTC, the Gregorian calendar of ISO 8601), when they begin, and how they are
//! written. Has no clock.

pub const DAY_SECONDS: u64 = 24 * 3600;

/// Years of the calendar repeat after these.
const CYCLE_YEARS: u64 = 400;
const CYCLE_DAYS: u64 = 146_097;
/// From 0000-03-01 to 1970-01-01: counted from a March, leap days are the last ones of their years.
const EPOCH_DAYS: u64 = 719_468;

/// A day, in the words of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
}

impl Date {
    /// H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn of(day: u64) -> Date {
        let since = day + EPOCH_DAYS;
        let (cycle, day_of_cycle) = (since / CYCLE_DAYS, since % CYCLE_DAYS);
        let leaps = day_of_cycle / 1460 + day_of_cycle / 146_096 - day_of_cycle / 36_524;
        let year_of_cycle = (day_of_cycle - leaps) / 365;
        let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Date {
            year: year_of_cycle + cycle * CYCLE_YEARS + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
        }
    }

    /// The same, `days_from_civil`. From 1970 on.
    fn number(self) -> u64 {
        let year = self.year - u64::from(self.month <= 2);
        let (cycle, year_of_cycle) = (year / CYCLE_YEARS, year % CYCLE_YEARS);
        let from_march = (self.month + 9) % 12;
        let day_of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
        cycle * CYCLE_DAYS + day_of_cycle - EPOCH_DAYS
    }
}

/// The month that a day is in.
pub fn month_of(day: u64) -> u64 {
    let date = Date::of(day);
    (date.year - 1970) * 12 + date.month - 1
}

/// The first day of a month.
pub fn first_day(month: u64) -> u64 {
    Date { year: 1970 + month / 12, month: month % 12 + 1, day: 1 }.number()
}

/// `2026-11-27`.
pub fn written_day(day: u64) -> String {
    let Date { year, month, day } = Date::of(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11`.
pub fn written_month(month: u64) -> String {
    format!("{:04}-{:02}", 1970 + month / 12, month % 12 + 1)
}

/// The number of a day that is written so. `None`: there is no such day, or it was before 1970.
pub fn read_day(text: &str) -> Option<u64> {
    let (month, day) = text.rsplit_once('-')?;
    let (first, day) = (first_day(read_month(month)?), digits(day, 2)?.checked_sub(1)?);
    let number = first + day;
    (month_of(number) == month_of(first)).then_some(number)
}

/// The same of a month.
pub fn read_month(text: &str) -> Option<u64> {
    let (year, month) = text.split_once('-')?;
    let (year, month) = (digits(year, 4)?.checked_sub(1970)?, digits(month, 2)?);
    (1..=12).contains(&month).then(|| year * 12 + month - 1)
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_is_the_one_after_the_day_before() {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut number = 0;
        for year in 1970..2500 {
            let february = if is_leap(year) { 29 } else { 28 };
            for (month, days) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                assert_eq!(first_day(month_of(number)), number);
                for day in 1..=days {
                    let date = Date { year, month, day };
                    assert_eq!((Date::of(number), date.number()), (date, number));
                    assert_eq!(month_of(number), (year - 1970) * 12 + month - 1);
                    assert_eq!(read_day(&written_day(number)), Some(number));
                    number += 1;
                }
                assert_eq!(read_month(&written_month(month_of(number))), Some(month_of(number)));
            }
        }
    }

    #[test]
    fn what_is_no_day_is_none() {
        assert_eq!(read_day("1970-01-01"), Some(0));
        assert_eq!(read_day("2024-02-29"), Some(19_782));
        for text in [
            "",
            "2026",
            "2026-11",
            "2026-1-1",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "2100-02-29",
            "2026-04-31",
            "2026-01-00",
            "2026-01-01-01",
            "1969-12-31",
            "2026-+1-01",
            "2026-01-+1",
            "+026-01-01",
            "２026-01-01",
            "soon",
        ] {
            assert_eq!(read_day(text), None, "{text}");
        }
        for text in ["", "2026", "2026-1", "2026-13", "2026-00", "1969-12", "2026-11-27", "+026-01"] {
            assert_eq!(read_month(text), None, "{text}");
        }
    }
}
