//! Owns quotas: how many requests a key may make in a day and in a month (UTC), and how many it has made; exact over all cores, without
//! a lock. Has no clock and opens no file.
//!
//! What is used of a period is one number, the period's own beside the count. Whoever comes first in a new period begins at 0; nobody has
//! to be there at midnight.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::calendar::{self, DAY_SECONDS};
use crate::sync::AtomicU64;

pub use file::{Entry, Wrong, read, write};
pub use ledger::Ledger;

mod file;
mod ledger;

/// Of a key that has a quota: what it may, and what it has done.
pub struct Account {
    quota: Quota,
    used: Arc<Used>,
    ledger: Arc<Ledger>,
}

/// Requests in each period. `None`: as many as come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    pub day: Option<u64>,
    pub month: Option<u64>,
}

/// The most that a quota may be.
pub const REQUESTS_MAX: u64 = 1_000_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Day,
    Month,
}

/// A request is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub period: Period,
    /// Requests in one.
    pub quota: u64,
    /// Of the whole period.
    pub window_s: u64,
    /// Until the next one begins, from 1.
    pub wait_s: u64,
}

impl Account {
    pub fn new(quota: Quota, used: Arc<Used>, ledger: Arc<Ledger>) -> Account {
        Account { quota, used, ledger }
    }

    /// Whether there is room for one more request, without counting it. `now`: seconds since 1970.
    pub fn look(&self, now: u64) -> Result<(), Spent> {
        for period in Period::ALL {
            let seen = self.used.of(period).look(period.at(now), self.quota.of(period));
            seen.map_err(|full| self.spent(period, full, now))?;
        }
        Ok(())
    }

    /// Counts one more request, in both periods or in none.
    pub fn take(&self, now: u64) -> Result<(), Spent> {
        let Used { day, month } = &*self.used;
        let counted = day.take(Period::Day.at(now), self.quota.day);
        let counted = counted.map_err(|full| self.spent(Period::Day, full, now))?;
        // Whoever finds the day full meanwhile would find the month full as well.
        let taken = month.take(Period::Month.at(now), self.quota.month);
        taken.map(drop).map_err(|full| {
            day.give_back(counted);
            self.spent(Period::Month, full, now)
        })
    }

    /// `number`: of the period that has none left.
    fn spent(&self, period: Period, number: u64, now: u64) -> Spent {
        self.ledger.refused(period).fetch_add(1, Relaxed);
        let (begins, ends) = (period.begins(number), period.begins(number + 1));
        Spent {
            period,
            quota: self.quota.of(period).unwrap_or_default(),
            window_s: ends - begins,
            wait_s: ends.saturating_sub(now).max(1),
        }
    }
}

/// Alike wherever it was made: what is used is no part of a configuration.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.quota.fmt(f)
    }
}

impl Quota {
    pub fn is_none(&self) -> bool {
        self.day.is_none() && self.month.is_none()
    }

    fn of(&self, period: Period) -> Option<u64> {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
        }
    }
}

impl Period {
    pub const ALL: [Period; 2] = [Period::Day, Period::Month];

    pub fn word(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
        }
    }

    /// The number of the one that a second is in.
    pub fn at(self, now: u64) -> u64 {
        let day = now / DAY_SECONDS;
        match self {
            Period::Day => day,
            Period::Month => calendar::month_of(day),
        }
    }

    /// Its first second.
    fn begins(self, number: u64) -> u64 {
        let day = match self {
            Period::Day => number,
            Period::Month => calendar::first_day(number),
        };
        day * DAY_SECONDS
    }
}

/// What a key has used, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Used {
    day: Count,
    month: Count,
}

impl Used {
    fn of(&self, period: Period) -> &Count {
        match period {
            Period::Day => &self.day,
            Period::Month => &self.month,
        }
    }
}

/// Requests of one period: its number in 16 bits (days until 2149), then how many there were.
#[derive(Debug, Default)]
struct Count(AtomicU64);

const COUNT_BITS: u32 = 48;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const NUMBER_MAX: u64 = u16::MAX as u64;

impl Count {
    /// The period that counts, and what is used of it.
    fn get(&self) -> (u64, u64) {
        let word = self.0.load(Relaxed);
        (word >> COUNT_BITS, word & COUNT_MAX)
    }

    fn set(&self, (number, used): (u64, u64)) {
        self.0.store(word(number, used), Relaxed);
    }

    /// Errors: the period that has room for no more.
    fn look(&self, now: u64, most: Option<u64>) -> Result<(), u64> {
        one_more(standing(self.get(), now), most).map(drop)
    }

    /// The period in which it was counted.
    fn take(&self, now: u64, most: Option<u64>) -> Result<u64, u64> {
        let mut seen = self.get();
        loop {
            let (number, used) = one_more(standing(seen, now), most)?;
            // Nothing else is read or written by what this says.
            match self.0.compare_exchange_weak(word(seen.0, seen.1), word(number, used), Relaxed, Relaxed) {
                Ok(_) => return Ok(number),
                Err(_) => seen = self.get(),
            }
        }
    }

    /// Takes back what was counted in this period, unless it is over.
    fn give_back(&self, number: u64) {
        let less = |seen: u64| (seen >> COUNT_BITS == number && seen & COUNT_MAX > 0).then(|| seen - 1);
        let _ = self.0.fetch_update(Relaxed, Relaxed, less);
    }
}

/// What counts at this time. A clock that is a period behind is that of a core that has not seen midnight yet, or was set back over it:
/// what comes is counted in the period that has begun. One that is further behind was wrong before: the present period begins with what
/// was used of the other one. So nothing is given back when a clock is set back. When it is set forward a new day begins, as if the time had
/// passed: nobody can tell.
fn standing((number, used): (u64, u64), now: u64) -> (u64, u64) {
    let now = now.min(NUMBER_MAX);
    if now > number {
        (now, 0)
    } else if number - now <= 1 {
        (number, used)
    } else {
        (now, used)
    }
}

fn one_more((number, used): (u64, u64), most: Option<u64>) -> Result<(u64, u64), u64> {
    if most.is_some_and(|most| used >= most) { Err(number) } else { Ok((number, (used + 1).min(COUNT_MAX))) }
}

fn word(number: u64, used: u64) -> u64 {
    number << COUNT_BITS | used
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
