//! Owns reading `[limit.NAME]`: how many requests, of whom.

use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::reader::{Located, Section};
use crate::config::value::{self, Parsed, shown};
use crate::policy::rate_limit::{BURST_MAX, RATE_MAX, Rate};
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
