//! Owns the stage that holds requests to their route's rate limits and to the quota of their API key: all of them are looked at, then all
//! are debited, and nobody is debited for what is refused.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::error::{Error, Kind};
use crate::policy::quota::{Account, Spent};
use crate::policy::rate_limit::{Buckets, Key, Rate, Refused, Ticket};
use crate::runtime::clock::nanos;

use super::exchange::Exchange;
use super::identify::now;
use super::input::Values;
use super::routed::values;
use super::rule::Route;
use super::template::{Source, TemplateValues};
use super::transform::field;

/// One `[limit.NAME]`.
#[derive(Debug)]
pub struct Limit {
    pub name: Arc<str>,
    /// What tells one bucket from another. Empty: there is one.
    pub key: Vec<Source>,
    pub rate: Rate,
    /// Carried over reloads by name.
    pub buckets: Arc<Buckets>,
}

/// Of one route.
pub const LIMITS_MAX: usize = 8;

/// Lets a request in if every limit of its route has a token for it, and the account of whoever asks has room.
pub fn admit(exchange: &Exchange, rule: &Route, account: Option<Arc<Account>>) -> Result<(), Error> {
    let Some(account) = account else { return take_tokens(exchange, rule, || Ok(())) };
    let now = now();
    account.look(now).map_err(overdrawn)?;
    take_tokens(exchange, rule, || account.take(now).map_err(overdrawn))
}

/// A token of every limit, if there is one in each and what comes `last` goes well; otherwise none.
fn take_tokens(
    exchange: &Exchange,
    rule: &Route,
    last: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    if rule.limits.is_empty() {
        return last();
    }
    let values = values(exchange, rule);
    // Never 0, which is when buckets are full that nobody has used.
    let now = nanos(exchange.core.timers.now());
    let mut tickets = [Ticket::default(); LIMITS_MAX];
    let mut scratch = exchange.core.take_scratch();
    for (limit, ticket) in rule.limits.iter().zip(&mut tickets) {
        *ticket = limit.ticket(&values, exchange.client_ip(), &mut scratch);
    }
    exchange.core.give_back_scratch(scratch);
    let limits = || rule.limits.iter().zip(tickets);
    if rule.limits.len() > 1 {
        for (limit, ticket) in limits() {
            let seen = limit.buckets.look(ticket, limit.rate, now);
            seen.map_err(|refused| limit.exceeded(refused))?;
        }
    }
    // Where another core was faster.
    let give_back = |count| {
        limits().take(count).for_each(|(limit, ticket)| limit.buckets.give_back(ticket, limit.rate, now));
    };
    for (number, (limit, ticket)) in limits().enumerate() {
        if let Err(refused) = limit.buckets.take(ticket, limit.rate, now) {
            give_back(number);
            return Err(limit.exceeded(refused));
        }
    }
    last().inspect_err(|_| give_back(rule.limits.len()))
}

impl Limit {
    fn ticket(&self, values: &Values<'_>, client: IpAddr, scratch: &mut Vec<u8>) -> Ticket {
        let mut key = self.buckets.key();
        write_key(&self.key, values, client, scratch, &mut key);
        key.ticket()
    }

    fn exceeded(&self, refused: Refused) -> Error {
        let exceeded = Exceeded { name: self.name.clone(), rate: self.rate, refused };
        Error::with_source(Kind::RateLimited, exceeded)
    }
}

/// Who asks, as far as these sources tell requests apart. `scratch` is room for their values.
pub fn write_key(
    sources: &[Source],
    values: &Values<'_>,
    client: IpAddr,
    scratch: &mut Vec<u8>,
    key: &mut Key,
) {
    for source in sources {
        match (source, client) {
            (Source::ClientIp, IpAddr::V4(address)) => key.part(&address.octets()),
            // Who has an address of IPv6 has 2^64 of them.
            (Source::ClientIp, IpAddr::V6(address)) => key.part(&address.octets()[..8]),
            _ => {
                scratch.clear();
                // What is missing is empty: all who lack it are one.
                values.write(source, scratch);
                if is_written_freely(source) {
                    scratch.make_ascii_lowercase();
                }
                key.part(scratch);
            }
        }
    }
}

/// Whether other letters would be another key and mean the same.
fn is_written_freely(source: &Source) -> bool {
    matches!(source, Source::Header(_) | Source::Query(_) | Source::Host)
}

/// A limit has no token left.
#[derive(Debug)]
pub struct Exceeded {
    name: Arc<str>,
    rate: Rate,
    refused: Refused,
}

impl Exceeded {
    fn wait_s(&self) -> u64 {
        seconds(self.refused.wait_nanos)
    }

    /// What the client is told besides.
    pub fn fields(&self, out: &mut Vec<u8>) {
        let window_s = seconds(self.rate.window_nanos());
        fields(&self.name, self.rate.burst(), window_s, self.wait_s(), out);
    }
}

/// RFC 9110 §10.2.3, draft-ietf-httpapi-ratelimit-headers-10.
fn fields(policy: &str, quota: u64, window_s: u64, wait_s: u64, out: &mut Vec<u8>) {
    field(out, b"retry-after", wait_s.to_string().as_bytes());
    field(out, b"ratelimit-policy", format!("\"{policy}\";q={quota};w={window_s}").as_bytes());
    field(out, b"ratelimit", format!("\"{policy}\";r=0;t={wait_s}").as_bytes());
}

fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000).max(1)
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit {} has room again in {} s", self.name, self.wait_s())
    }
}

impl std::error::Error for Exceeded {}

/// An API key has no request left.
#[derive(Debug)]
pub struct Overdrawn(Spent);

fn overdrawn(spent: Spent) -> Error {
    Error::with_source(Kind::QuotaExceeded, Overdrawn(spent))
}

impl Overdrawn {
    /// What the client is told besides.
    pub fn fields(&self, out: &mut Vec<u8>) {
        let Overdrawn(spent) = self;
        fields(spent.period.word(), spent.quota, spent.window_s, spent.wait_s, out);
    }
}

impl fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spent { period, quota, wait_s, .. } = &self.0;
        write!(f, "it may make {quota} in a {}, and has again in {wait_s} s", period.word())
    }
}

impl std::error::Error for Overdrawn {}
