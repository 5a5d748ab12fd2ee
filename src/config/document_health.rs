//! Owns reading how a service takes failures: `health`, `outlier`, `breaker`, `slow_start` and `panic` of `[service.NAME]`.

use std::sync::Arc;

use toml::de::DeValue;

use crate::balance::health::{OutlierPolicy, Thresholds};
use crate::config::diagnostic::Problem;
use crate::config::reader::Section;
use crate::config::snapshot::{CheckKind, CheckPolicy, HealthPolicy};
use crate::config::value::{self, Parsed, shown};
use crate::policy::breaker::BreakerPolicy;

pub fn health(section: &Section<'_>) -> HealthPolicy {
    HealthPolicy {
        checks: section.table("health").map(|table| Arc::new(checks(&table))),
        outlier: outlier(&section.table_or_empty("outlier")),
        breaker: breaker(section),
        slow_start: section.value("slow_start", value::duration_or_off),
        panic_percent: section.value("panic", value::integer(0..=100)) as u32,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KindWord {
    Http,
    Tcp,
    Grpc,
}

const KINDS: &[(&str, KindWord)] =
    &[("http", KindWord::Http), ("tcp", KindWord::Tcp), ("grpc", KindWord::Grpc)];

fn checks(section: &Section<'_>) -> CheckPolicy {
    let word = section.value("type", value::word(KINDS));
    let foreign: &[&'static str] = match word {
        KindWord::Http => &["service"],
        KindWord::Tcp => &["path", "host", "status", "service"],
        KindWord::Grpc => &["path", "host", "status"],
    };
    for key in foreign.iter().filter(|key| section.has(key)) {
        let whose = if *key == "service" { "grpc" } else { "http" };
        let problem = Problem::new(format!("`{key}` is for checks with `type = \"{whose}\"`"));
        section.error(section.key_span(key), key, problem.help("change `type`, or remove this"));
    }
    let kind = match word {
        KindWord::Tcp => CheckKind::Tcp,
        KindWord::Grpc => CheckKind::Grpc { service: section.value("service", text) },
        KindWord::Http => CheckKind::Http {
            path: section.value("path", path),
            host: section.optional("host", text).map(|found| found.value),
            statuses: section
                .list("status", value::integer(200..=599))
                .into_iter()
                .map(|found| found.value as u16)
                .collect(),
        },
    };
    let interval = section.value("interval", interval);
    CheckPolicy {
        kind,
        port: section.optional("port", value::integer(1..=65_535)).map(|found| found.value as u16),
        interval,
        timeout: section.value("timeout", value::duration),
        thresholds: Thresholds {
            healthy: section.value("healthy", value::integer(1..=100)) as u32,
            unhealthy: section.value("unhealthy", value::integer(1..=100)) as u32,
        },
    }
}

/// More often, checks would be a load of their own.
const INTERVAL_MIN_MS: u128 = 100;

fn interval(value: &DeValue<'_>) -> Parsed<std::time::Duration> {
    let interval = value::duration(value)?;
    if interval.as_millis() < INTERVAL_MIN_MS {
        return Err(Problem::new("checks are made at most every 100ms").help("write \"100ms\" or more"));
    }
    Ok(interval)
}

/// What may stand in a request line.
pub fn path(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(text.into());
    }
    let problem = Problem::new(format!("\"{}\" is no path", shown(text)));
    Err(problem.help("write \"/healthz\": a slash, then letters without spaces"))
}

/// What may stand in a field.
fn text(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err(Problem::new(format!("\"{}\" has letters that no name has", shown(text)))),
    }
}

fn outlier(section: &Section<'_>) -> Option<OutlierPolicy> {
    Some(OutlierPolicy {
        failures: section.value("failures", failures)?,
        ejection: section.value("ejection", value::duration),
        percent_max: section.value("percent", value::integer(1..=100)) as u32,
    })
}

fn failures(value: &DeValue<'_>) -> Parsed<Option<u32>> {
    match value.as_str() {
        Some("off") => Ok(None),
        Some(_) => Err(value::wrong_type("1 to 1000 or \"off\"", value)),
        None => Ok(Some(value::integer(1..=1000)(value)? as u32)),
    }
}

const BREAKERS: &[(&str, bool)] = &[("adaptive", true), ("off", false)];

fn breaker(section: &Section<'_>) -> Option<BreakerPolicy> {
    let node = section.nodes("breaker").first()?;
    let table = match node.get_ref() {
        DeValue::String(_) => {
            let is_on = section.parsed("breaker", node, value::word(BREAKERS))?.value;
            is_on.then(|| section.defaults_of("breaker"))?
        }
        _ => section.table_of("breaker", node)?,
    };
    let percent = |key| table.located(key, value::integer(1..=100));
    let (shed_above, reject_above) = (percent("shed_above"), percent("reject_above"));
    if shed_above.value > reject_above.value {
        let problem = Problem::new(format!(
            "half of the requests are shed above {} %, and all above {} %",
            shed_above.value, reject_above.value
        ));
        let key = if table.has("shed_above") { "shed_above" } else { "reject_above" };
        let help = "let `shed_above` be no more than `reject_above`; equal, nothing is shed by half";
        table.error(table.key_span(key), key, problem.help(help));
    }
    Some(BreakerPolicy {
        window: table.value(
            "window",
            value::duration_within(1..=3600, || {
                Problem::new("the window is from 1s to 1h").help("write \"10s\"")
            }),
        ),
        requests_min: table.value("requests", value::integer(1..=1_000_000)) as u32,
        shed_above: shed_above.value as u32,
        reject_above: reject_above.value as u32,
        probes: table.value("probes", value::integer(1..=100)) as u32,
    })
}
