//! Owns reading `[limit.NAME]`: how many requests, of whom.

use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::reader::{Located, Section};
use crate::config::value::{self, Parsed, shown};
use crate::policy::concurrency::Room;
use crate::policy::rate_limit::{BURST_MAX, RATE_MAX, Rate};
use crate::proxy::concurrency::Concurrency;
use crate::proxy::template::{Source, Template};

#[derive(Debug)]
pub struct LimitEntry<'a> {
    pub name: Located<&'a str>,
    pub key: Vec<Source>,
    /// `None`: missing or wrong, and reported.
    pub rate: Option<Rate>,
    /// That may be told apart.
    pub keys_max: usize,
}

pub fn limit<'a>(name: Located<&'a str>, section: &Section<'a>) -> LimitEntry<'a> {
    let key = section.list("key", source).into_iter().map(|found| found.value).collect::<Vec<_>>();
    let burst = section.optional("burst", value::integer(1..=BURST_MAX)).map(|found| found.value);
    let rate = section.required("rate", pace).map(|found| found.value);
    let rate = rate.map(|(tokens, nanos)| Rate::new(tokens, nanos, burst.unwrap_or(tokens)));
    let keys = section.value("keys", value::integer(1..=16_777_216)) as usize;
    LimitEntry { name, keys_max: if key.is_empty() { 0 } else { keys }, key, rate }
}

/// How many requests of a service there may be at once. `None`: something is wrong, and reported.
pub fn concurrency(table: &Section<'_>) -> Option<Concurrency> {
    let by = table.list("by", tenant).into_iter().map(|found| found.value).collect::<Vec<_>>();
    let each = table.optional("each", value::integer(1..=CONCURRENCY_MAX));
    if each.is_some() && !table.has("by") {
        let problem = Problem::new("`each` does nothing without `by`: there is one tenant");
        let help = "write `by = \"claim:sub\"`, or \"client\", or remove this";
        table.error(table.key_span("each"), "each", problem.help(help));
    }
    let waiting_max = table.value("queue", value::integer(0..=100_000)) as u32;
    let wait = table.value("wait", value::duration);
    let requests_max = table.required("requests", value::integer(1..=CONCURRENCY_MAX))?.value as u32;
    let each_max = each.map_or(u32::MAX, |found| found.value as u32);
    Some(Concurrency { room: Room { requests_max, each_max, waiting_max }, wait, by })
}

/// `per_address` of a listener.
#[derive(Debug)]
pub struct PerAddressEntry {
    pub connections_max: Option<u32>,
    pub rate: Option<Rate>,
}

pub fn per_address(table: &Section<'_>) -> PerAddressEntry {
    let connections = table.optional("connections", value::integer(1..=1_000_000));
    let burst = table.optional("burst", value::integer(1..=BURST_MAX)).map(|found| found.value);
    let rate = table.optional("rate", pace).map(|found| found.value);
    if burst.is_some() && !table.has("rate") {
        let problem = Problem::new("`burst` does nothing without `rate`");
        table.error(table.key_span("burst"), "burst", problem.help("add `rate = 10`, or remove this"));
    }
    if !["connections", "rate", "burst"].into_iter().any(|key| table.has(key)) {
        let problem = Problem::new("an address may have anything");
        let help = "add `connections = 100` or `rate = 10`";
        table.report().absent(table.span(), "listen.NAME.per_address", problem.help(help));
    }
    PerAddressEntry {
        connections_max: connections.map(|found| found.value as u32),
        rate: rate.map(|(tokens, nanos)| Rate::new(tokens, nanos, burst.unwrap_or(tokens))),
    }
}

const CONCURRENCY_MAX: u64 = 1_000_000;

/// What a service can tell tenants apart by: routes have their own paths.
fn tenant(value: &DeValue<'_>) -> Parsed<Source> {
    match source(value)? {
        Source::PathSegment(_) => {
            let problem = Problem::new("a service sees requests of several routes, whose paths differ");
            Err(problem.help("write \"claim:NAME\", \"header:NAME\" or \"client\""))
        }
        source => Ok(source),
    }
}

const SECOND: u64 = 1_000_000_000;
const UNITS: [(&str, u64); 4] =
    [("s", SECOND), ("m", 60 * SECOND), ("h", 3600 * SECOND), ("d", 86_400 * SECOND)];

/// `1000` a second, or `"100/m"`: how many, in how many nanoseconds.
fn pace(value: &DeValue<'_>) -> Parsed<(u64, u64)> {
    let Some(text) = value.as_str() else {
        return Ok((value::integer(1..=RATE_MAX)(value)?, SECOND));
    };
    let problem = || {
        let problem = Problem::new(format!("\"{}\" is no rate", shown(text)));
        problem.help("write `1000` for so many a second, or \"100/m\", \"5000/h\", \"100000/d\"")
    };
    let (count, unit) = text.split_once('/').ok_or_else(problem)?;
    let count = count.trim().parse::<u64>().ok().filter(|count| (1..=RATE_MAX).contains(count));
    let nanos = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, nanos)| *nanos);
    count.zip(nanos).ok_or_else(problem)
}

/// What templates take, without their braces.
pub fn source(value: &DeValue<'_>) -> Parsed<Source> {
    let text = value::text(value)?;
    let text = if text == "client" { "client.ip" } else { text };
    let no_key = |why: String| {
        let problem = Problem::new(format!("\"{}\" is no key: {why}", shown(text)));
        problem.help("write \"client\", \"header:NAME\", \"claim:NAME\", \"query:NAME\", \"path:NAME\", \"host\", \"route\", or a list of them")
    };
    if text.contains(['{', '}']) {
        return Err(no_key("it has braces".into()));
    }
    let template = Template::parse(&format!("{{{text}}}")).map_err(|error| no_key(error.message))?;
    let source = template.sources().next().cloned();
    source
        .filter(|source| *source != Source::RequestId)
        .ok_or_else(|| no_key("every request has its own".into()))
}
