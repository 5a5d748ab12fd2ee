//! Owns reading `[[route]]`: conditions, the one action, rewrite and header edits, each checked by itself and
//! against the rest of its own route. Whether services, listeners and other routes fit is `check`'s.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::document_limit;
use crate::config::pattern::{self, Edit};
use crate::config::reader::{Located, Section};
use crate::config::value::{self, DURATION_MAX, Parsed, shown};
use crate::inference::json_scan::DEPTH_MAX;
use crate::policy::rollback::RollbackPolicy;
use crate::proxy::cors::{Cors, Origin};
use crate::proxy::injection::Injection;
use crate::proxy::inspection::{Check, ImageBounds, JsonCheck};
use crate::proxy::limits::LIMITS_MAX;
use crate::proxy::media::MediaType;
use crate::proxy::rule::{Conditions, FieldMatch, HeaderEdits, PathMatch, Rewrite, Segment};
use crate::proxy::template::{Source, Template};

#[derive(Debug)]
pub struct RouteEntry<'a> {
    pub span: Range<usize>,
    /// Nothing in it was wrong, so that it says what its author meant.
    pub sound: bool,
    pub name: Option<Located<&'a str>>,
    /// Without listeners: those are `listeners` until they are known to exist.
    pub conditions: Conditions,
    pub listeners: Vec<Located<&'a str>>,
    /// `None`: missing or wrong, and reported.
    pub action: Option<ActionEntry<'a>>,
    pub rewrite: Option<Rewrite>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub request_timeout: Option<Duration>,
    pub first_byte_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    /// `None`: as `limits.body` says.
    pub body_bytes_max: Option<u64>,
    pub takes: Vec<MediaType>,
    pub check: Option<Box<Check>>,
    pub message_bytes_max: Option<u64>,
    pub cors: Option<Box<Cors>>,
    pub auth: Option<Located<&'a str>>,
    pub allow: Vec<FieldMatch>,
    pub authorizer: Option<Located<&'a str>>,
    pub limits: Vec<Located<&'a str>>,
    pub canary: Option<CanaryEntry<'a>>,
    pub shadow: Option<ShadowEntry<'a>>,
    pub injection: Option<Box<Injection>>,
}

#[derive(Debug)]
pub struct ShadowEntry<'a> {
    /// `None`: missing or wrong, and reported.
    pub to: Option<Located<&'a str>>,
    /// Millionths.
    pub share: u32,
    pub body_bytes_max: u64,
    pub timeout: Duration,
}

#[derive(Debug)]
pub struct CanaryEntry<'a> {
    /// `None`: missing or wrong, and reported.
    pub to: Option<Located<&'a str>>,
    /// Millionths.
    pub share: u32,
    pub by: Option<Located<Source>>,
    pub headers: Vec<FieldMatch>,
    pub rollback: Option<RollbackPolicy>,
}

#[derive(Debug)]
pub enum ActionEntry<'a> {
    Forward { to: Located<Template>, text: &'a str, otherwise: Option<Located<&'a str>> },
    Redirect { status: u16, location: Template },
    Respond { status: u16, content_type: Box<str>, body: Arc<[u8]> },
}

/// Routes of one file.
const ROUTES_MAX: usize = 1_000_000;

pub fn read<'a>(root: &Section<'a>) -> Vec<RouteEntry<'a>> {
    let nodes = root.tables("route");
    if nodes.len() > ROUTES_MAX {
        let problem =
            Problem::new(format!("a file has at most {ROUTES_MAX} routes, this has {}", nodes.len()));
        root.error(root.key_span("route"), "route", problem);
        return Vec::new();
    }
    let read = nodes.iter().filter_map(|node| {
        let errors_before = root.report().error_count();
        let mut entry = route(&root.table_of("route", node)?);
        entry.sound = root.report().error_count() == errors_before;
        Some(entry)
    });
    read.collect()
}

fn route<'a>(section: &Section<'a>) -> RouteEntry<'a> {
    let name = section.optional("name", name);
    let (conditions, listeners) = section.table("match").map(|table| conditions(&table)).unwrap_or_default();
    let route = RouteEntry {
        span: section.span(),
        sound: true,
        name,
        listeners,
        action: action(section),
        rewrite: section.table("rewrite").and_then(|table| rewrite(&table)),
        request_headers: header_edits(section, "request_headers", REQUEST_EDITS),
        response_headers: header_edits(section, "response_headers", RESPONSE_EDITS),
        request_timeout: section.optional("timeout", timeout).map(|found| found.value),
        first_byte_timeout: section.optional("first_byte_timeout", value::duration).map(|found| found.value),
        idle_timeout: section.optional("idle_timeout", value::duration).map(|found| found.value),
        body_bytes_max: section.optional("body_limit", value::size_or_off).map(|found| found.value),
        takes: values(section.list("content_types", media_type)),
        check: section.table("check").map(|table| Box::new(check(&table))),
        message_bytes_max: section
            .optional("response_message_limit", value::size_or_off)
            .map(|found| found.value),
        cors: section.table("cors").map(|table| Box::new(cors(&table))),
        auth: section.optional("auth", self::name),
        authorizer: section.optional("authorizer", self::name),
        allow: section.table("allow").map(|table| field_matches(&table, false)).unwrap_or_default(),
        limits: limits(section),
        canary: section.table("canary").map(|table| canary(&table)),
        shadow: section.table("shadow").map(|table| ShadowEntry {
            to: table.required("to", value::text),
            share: table.value("percent", millionths),
            body_bytes_max: table.value("body_limit", value::size),
            timeout: table.value("timeout", value::duration),
        }),
        injection: section.table("fault").map(|table| Box::new(injection(&table))),
        conditions,
    };
    refuse_useless(section, &route);
    check_sources(section, &route);
    refuse_claims(section, &route);
    route
}

fn canary<'a>(table: &Section<'a>) -> CanaryEntry<'a> {
    CanaryEntry {
        to: table.required("to", value::text),
        share: table.value("percent", millionths),
        by: table.optional("by", document_limit::source),
        headers: table.table("header").map(|headers| field_matches(&headers, true)).unwrap_or_default(),
        rollback: table.table("rollback").map(|table| RollbackPolicy {
            window: table.value(
                "window",
                value::duration_within(1..=3600, || {
                    Problem::new("the window is from 1s to 1h").help("write \"1m\"")
                }),
            ),
            requests_min: table.value("requests", value::integer(1..=1_000_000)) as u32,
            errors: table.value("errors", factor),
            latency: table.value("latency", factor),
        }),
    }
}

fn injection(table: &Section<'_>) -> Injection {
    let delay = table.optional("delay", value::duration).map(|found| found.value);
    let abort = table.optional("abort", value::integer(400..=599)).map(|found| found.value as u16);
    for (key, of) in [("delay_percent", "delay"), ("abort_percent", "abort")] {
        if table.has(key) && !table.has(of) {
            let problem = Problem::new(format!("`{key}` does nothing without `{of}`"));
            table.error(table.key_span(key), key, problem.help(format!("add `{of}`, or remove this")));
        }
    }
    if !["delay", "abort", "delay_percent", "abort_percent"].into_iter().any(|key| table.has(key)) {
        let problem = Problem::new("this fault does nothing");
        let help = "add `delay = \"200ms\"` or `abort = 503`";
        table.report().absent(table.span(), "route.fault", problem.help(help));
    }
    Injection {
        headers: table.table("header").map(|headers| field_matches(&headers, true)).unwrap_or_default(),
        delay: delay.map(|delay| (delay, table.value("delay_percent", millionths))),
        abort: abort.map(|status| (status, table.value("abort_percent", millionths))),
    }
}

fn check(table: &Section<'_>) -> Check {
    let is_inference = table.optional("json", value::word(&[("any", false), ("inference", true)]));
    let has_images = table.value("images", value::boolean);
    for (key, of, is_there) in [
        ("json_depth", "json = \"any\"", table.has("json")),
        ("image_side", "images = true", has_images),
        ("image_pixels", "images = true", has_images),
    ] {
        if table.has(key) && !is_there {
            let problem = Problem::new(format!("`{key}` does nothing without `{of}`"));
            table.error(table.key_span(key), key, problem.help(format!("add `{of}`, or remove this")));
        }
    }
    if !["json", "images", "json_depth", "image_side", "image_pixels"].into_iter().any(|key| table.has(key)) {
        let problem = Problem::new("this check does nothing");
        let help = "add `json = \"inference\"` or `images = true`";
        table.report().absent(table.span(), "route.check", problem.help(help));
    }
    let depth_max = table.value("json_depth", value::integer(1..=DEPTH_MAX.into())) as u8;
    let bounds = ImageBounds {
        side_max: table.value("image_side", value::integer(1..=u32::MAX.into())) as u32,
        pixels_max: table.value("image_pixels", value::integer(1..=u64::from(u32::MAX))),
    };
    Check {
        json: is_inference.map(|found| JsonCheck { depth_max, is_inference: found.value }),
        image: has_images.then_some(bounds),
    }
}

/// How many times as much, or `"off"`.
fn factor(value: &DeValue<'_>) -> Parsed<Option<f64>> {
    let number = match value {
        DeValue::String(text) if &**text == "off" => return Ok(None),
        DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        _ => None,
    };
    let factor = number.filter(|factor| (1.0..=1000.0).contains(factor));
    factor.map(Some).ok_or_else(|| value::wrong_type("a number from 1 to 1000, or \"off\"", value))
}

/// Of a whole, from percent to four decimals.
fn millionths(value: &DeValue<'_>) -> Parsed<u32> {
    let text = match value {
        DeValue::Integer(number) => number.as_str().replace('_', ""),
        DeValue::Float(number) => number.as_str().replace('_', ""),
        _ => return Err(value::wrong_type("a number from 0 to 100", value)),
    };
    let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
    let problem =
        || Problem::new(format!("{} is out of range: expected a number from 0 to 100", shown(&text)));
    percent.map(|percent| (percent * 10_000.0).round() as u32).ok_or_else(problem)
}

fn limits<'a>(section: &Section<'a>) -> Vec<Located<&'a str>> {
    let limits = section.list("limits", self::name);
    if let Some(limit) = limits.get(LIMITS_MAX) {
        let problem = Problem::new(format!("a route has at most {LIMITS_MAX} limits"));
        section.error(limit.span.clone(), "limits", problem);
    }
    limits
}

fn name<'a>(value: &'a DeValue<'a>) -> Parsed<&'a str> {
    let text = value::text(value)?;
    value::check_name(text)?;
    Ok(text)
}

/// "off" must beat the service's own timeout, so it is a long one rather than none.
fn timeout(value: &DeValue<'_>) -> Parsed<Duration> {
    Ok(value::duration_or_off(value)?.unwrap_or(DURATION_MAX))
}

fn cors(table: &Section<'_>) -> Cors {
    if !table.has("origins") {
        table.absent("origins");
    }
    let cors = Cors {
        origins: values(table.list("origins", origin)),
        headers: values(table.list("headers", header_name)),
        expose: values(table.list("expose", header_name)),
        credentials: table.value("credentials", value::boolean),
        max_age: table.value("max_age", value::duration),
    };
    if cors.credentials && cors.origins.contains(&Origin::Any) {
        let problem = Problem::new("any page could act in the name of whoever looks at it");
        let help = "name the origins, or remove `credentials`";
        table.error(table.key_span("credentials"), "credentials", problem.help(help));
    }
    cors
}

fn header_name(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    pattern::check_header_name(text)?;
    Ok(text.to_ascii_lowercase().into())
}

fn origin(value: &DeValue<'_>) -> Parsed<Origin> {
    let text = value::text(value)?;
    let problem = || {
        let problem = Problem::new(format!("\"{}\" is no origin", shown(text)));
        problem.help("write \"https://app.example.com\", \"https://*.example.com\" or \"*\": no path, no slash at the end")
    };
    if text == "*" {
        return Ok(Origin::Any);
    }
    let (scheme, host) = text.split_once("://").ok_or_else(problem)?;
    let is_host = |host: &str| {
        let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-.[]:".contains(&byte);
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        !name.is_empty() && name.bytes().all(is_name) && port.is_none_or(is_port)
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match host.strip_prefix("*.") {
        Some(name) if is_scheme && is_host(name) => {
            let scheme = format!("{}://", scheme.to_ascii_lowercase());
            Ok(Origin::Below(scheme.into(), format!(".{}", name.to_ascii_lowercase()).into()))
        }
        None if is_scheme && is_host(host) => Ok(Origin::Exact(text.to_ascii_lowercase().into())),
        _ => Err(problem()),
    }
}

fn conditions<'a>(table: &Section<'a>) -> (Conditions, Vec<Located<&'a str>>) {
    for key in ["host", "path", "method", "listener", "model", "content_type"] {
        if table.has(key) && table.nodes(key).is_empty() {
            let problem = Problem::new(format!("an empty list: no request would match `{key}`"));
            table.error(table.key_span(key), key, problem.help("leave it out to match every request"));
        }
    }
    let conditions = Conditions {
        hosts: values(table.list("host", pattern::host)),
        paths: values(table.list("path", pattern::path_match)),
        methods: values(table.list("method", pattern::method)),
        headers: table.table("header").map(|headers| field_matches(&headers, true)).unwrap_or_default(),
        query: table.table("query").map(|query| field_matches(&query, false)).unwrap_or_default(),
        claims: table.table("claim").map(|claims| field_matches(&claims, false)).unwrap_or_default(),
        models: values(table.list("model", pattern::field_test)),
        content_types: values(table.list("content_type", media_type)),
        listeners: Vec::new(),
        auth: None,
    };
    (conditions, table.list("listener", value::text))
}

fn values<T>(found: Vec<Located<T>>) -> Vec<T> {
    found.into_iter().map(|found| found.value).collect()
}

fn field_matches(table: &Section<'_>, headers: bool) -> Vec<FieldMatch> {
    let mut found = Vec::new();
    for (name, node) in table.entries() {
        if headers && let Err(problem) = pattern::check_header_name(name.value) {
            table.error(name.span, name.value, problem);
            continue;
        }
        let stored = if headers { name.value.to_ascii_lowercase() } else { name.value.to_owned() };
        if let Some(test) = table.parsed(name.value, node, pattern::field_test) {
            found.push(FieldMatch { name: stored.into(), test: test.value });
        }
    }
    found
}

/// Exactly one of `to`, `redirect` and `respond`.
fn action<'a>(section: &Section<'a>) -> Option<ActionEntry<'a>> {
    const ACTIONS: [&str; 3] = ["to", "redirect", "respond"];
    let mut written: Vec<&str> = ACTIONS.into_iter().filter(|key| section.has(key)).collect();
    written.sort_by_key(|key| section.key_span(key).start);
    if let [first, second, ..] = written[..] {
        let problem = Problem::new(format!("this route has both `{first}` and `{second}`"));
        section.error(
            section.key_span(second),
            second,
            problem.help("a route does one thing; remove one of them"),
        );
    }
    if written.is_empty() && !ACTIONS.into_iter().any(|key| section.misnames(key)) {
        let problem =
            Problem::new("this route does nothing").help("add `to = \"SERVICE\"`, `redirect` or `respond`");
        section.report().absent(section.span(), "route.to", problem);
    }
    if section.has("otherwise") && !section.has("to") {
        let problem = Problem::new("`otherwise` does nothing without `to`");
        section.error(section.key_span("otherwise"), "otherwise", problem.help("write `to` instead"));
    }
    let forward = forward(section);
    let redirect = section.table("redirect").and_then(|table| redirect(&table));
    let respond = section.table("respond").and_then(|table| respond(&table));
    forward.or(redirect).or(respond)
}

fn forward<'a>(section: &Section<'a>) -> Option<ActionEntry<'a>> {
    let otherwise = section.optional("otherwise", |value| {
        let text = value::text(value)?;
        let braces = text.contains(['{', '}']);
        if braces { Err(Problem::new("`otherwise` is a service's name, not a template")) } else { Ok(text) }
    });
    let to = section.optional("to", |value| {
        let listed = matches!(value, DeValue::Array(_)).then(|| {
            let problem = value::wrong_type("one service", value);
            problem.help("put the endpoints into one service; it balances between them")
        });
        listed.map_or_else(|| pattern::template(value), Err)
    })?;
    let text = section.nodes("to").first().and_then(|node| node.get_ref().as_str()).unwrap_or("");
    Some(ActionEntry::Forward { to, text, otherwise })
}

const REDIRECTS: [u64; 5] = [301, 302, 303, 307, 308];

fn redirect<'a>(table: &Section<'a>) -> Option<ActionEntry<'a>> {
    let status = table.value("status", |value| {
        let status = value::integer(300..=399)(value)?;
        let known = REDIRECTS.contains(&status);
        let problem =
            || Problem::new(format!("{status} is no redirect")).help("use 301, 302, 303, 307 or 308");
        if known { Ok(status as u16) } else { Err(problem()) }
    });
    let location = table.required("to", pattern::location)?.value;
    Some(ActionEntry::Redirect { status, location })
}

/// Bytes of a fixed response.
const RESPOND_BYTES_MAX: usize = 64 * 1024;

fn respond<'a>(table: &Section<'a>) -> Option<ActionEntry<'a>> {
    let status = table.value("status", value::integer(200..=599)) as u16;
    let content_type = table.value("content_type", content_type);
    let body = table.located("body", |value| {
        let text = value::text(value)?;
        if text.len() > RESPOND_BYTES_MAX {
            return Err(Problem::new(format!("a body of {} bytes; at most 64KiB is allowed", text.len())));
        }
        Ok(Arc::<[u8]>::from(text.as_bytes()))
    });
    if matches!(status, 204 | 205 | 304) && !body.value.is_empty() {
        table.error(body.span, "body", Problem::new(format!("a response with status {status} has no body")));
        return None;
    }
    Some(ActionEntry::Respond { status, content_type, body: body.value })
}

fn media_type(value: &DeValue<'_>) -> Parsed<MediaType> {
    let text = value::text(value)?;
    let problem = || Problem::new(format!("\"{}\" is not a media type", shown(text)));
    MediaType::parse(text)
        .ok_or_else(|| problem().help("write it as \"application/json\" or \"image/*\", without parameters"))
}

fn content_type(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
    let subtype = rest.split([';', ' ']).next().unwrap_or("");
    let visible = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if value::is_token(kind) && value::is_token(subtype) && visible {
        return Ok(text.into());
    }
    let problem = Problem::new(format!("\"{}\" is not a media type", shown(text)));
    Err(problem.help("write it as \"application/json\" or \"text/html; charset=utf-8\""))
}

fn rewrite(table: &Section<'_>) -> Option<Rewrite> {
    const KINDS: [&str; 3] = ["path", "strip_prefix", "regex"];
    let replaces = table.has("replacement");
    let written: Vec<&str> = KINDS.into_iter().filter(|key| table.has(key)).collect();
    if let [first, second, ..] = written[..] {
        let problem = Problem::new(format!("a rewrite has either `{first}` or `{second}`"));
        table.error(table.key_span(second), second, problem.help("remove one of them"));
    }
    if written.is_empty() && !replaces && !KINDS.into_iter().any(|key| table.misnames(key)) {
        let problem = Problem::new("this rewrite does nothing");
        let help = "add `path`, `strip_prefix`, or `regex` with `replacement`";
        table.report().absent(table.span(), "route.rewrite", problem.help(help));
    }
    if replaces && !table.has("regex") {
        let problem = Problem::new("`replacement` does nothing without `regex`");
        table.error(table.key_span("replacement"), "replacement", problem.help("add `regex`, or use `path`"));
    }
    let path = table.optional("path", pattern::path_template).map(|found| Rewrite::Path(found.value));
    let prefix = table.optional("strip_prefix", strip_prefix).map(|found| Rewrite::StripPrefix(found.value));
    path.or(prefix).or_else(|| regex_rewrite(table))
}

/// Stored without its last `/`, so that what remains starts with one.
fn strip_prefix(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    let trimmed = text.strip_suffix("/**").unwrap_or(text).trim_end_matches('/');
    if trimmed.is_empty() {
        return Err(Problem::new("there is nothing to strip").help("write a prefix such as \"/api\""));
    }
    match pattern::path_match(value)? {
        PathMatch::Exact(_) | PathMatch::Prefix(_) => Ok(trimmed.into()),
        _ => Err(Problem::new("a prefix to strip has no wildcards").help("use `regex` and `replacement`")),
    }
}

fn regex_rewrite(table: &Section<'_>) -> Option<Rewrite> {
    let pattern = table.optional("regex", |value| {
        let text = value::text(value)?;
        // `~` marks a regex elsewhere; here nothing else can stand.
        let pattern = text.strip_prefix('~').unwrap_or(text);
        pattern::regex(pattern, text.len() - pattern.len())
    })?;
    let replacement = table.required("replacement", |value| {
        let text = value::text(value)?;
        pattern::check_replacement(text, &pattern.value)?;
        Ok(text)
    })?;
    Some(Rewrite::Regex { pattern: pattern.value, replacement: replacement.value.as_bytes().into() })
}

const REQUEST_EDITS: [Edit; 3] = [Edit::RequestRemove, Edit::RequestSet, Edit::RequestAdd];
const RESPONSE_EDITS: [Edit; 3] = [Edit::ResponseRemove, Edit::ResponseSet, Edit::ResponseAdd];

fn header_edits(section: &Section<'_>, key: &'static str, [remove, set, add]: [Edit; 3]) -> HeaderEdits {
    let Some(table) = section.table(key) else { return HeaderEdits::default() };
    let removed = table.list("remove", |value| {
        let name = pattern::header_name(value)?;
        pattern::check_edited_header(name, remove)?;
        Ok(Box::<str>::from(name.to_ascii_lowercase()))
    });
    HeaderEdits {
        remove: values(removed),
        set: table.table("set").map(|table| header_values(&table, set, false)).unwrap_or_default(),
        add: table.table("add").map(|table| header_values(&table, add, true)).unwrap_or_default(),
    }
}

fn header_values(table: &Section<'_>, edit: Edit, many: bool) -> Vec<(Box<str>, Template)> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (name, node) in table.entries() {
        if let Err(problem) = pattern::check_edited_header(name.value, edit) {
            table.error(name.span.clone(), name.value, Problem { offset: None, ..problem });
        } else if !seen.insert(name.value.to_ascii_lowercase()) {
            let problem = Problem::new(format!("`{}` stands twice, in another case", name.value));
            table.error(name.span.clone(), name.value, problem);
        }
        let nodes: &[Spanned<DeValue<'_>>] = match node.get_ref() {
            DeValue::Array(items) if many => items,
            _ => std::slice::from_ref(node),
        };
        let values = nodes.iter().filter_map(|node| table.parsed(name.value, node, pattern::header_value));
        found.extend(values.map(|value| (Box::from(name.value), value.value)));
    }
    found
}

/// Edits of a request that is never sent on.
fn refuse_useless(section: &Section<'_>, route: &RouteEntry<'_>) {
    if !matches!(route.action, Some(ActionEntry::Redirect { .. } | ActionEntry::Respond { .. })) {
        return;
    }
    for key in [
        "canary",
        "check",
        "fault",
        "rewrite",
        "request_headers",
        "shadow",
        "timeout",
        "first_byte_timeout",
        "idle_timeout",
    ] {
        if section.has(key) {
            let problem = Problem::new(format!("`{key}` does nothing in a route that answers by itself"));
            section.error(
                section.key_span(key),
                key,
                problem.help("remove it, or send the request `to` a service"),
            );
        }
    }
}

/// Nobody has verified anything in a route without `auth`.
fn refuse_claims(section: &Section<'_>, route: &RouteEntry<'_>) {
    if section.has("auth") {
        return;
    }
    let by_claim =
        |canary: &CanaryEntry<'_>| canary.by.as_ref().is_some_and(|by| matches!(by.value, Source::Claim(_)));
    let wanted = [
        ("allow", !route.allow.is_empty()),
        ("match", !route.conditions.claims.is_empty()),
        ("canary", route.canary.as_ref().is_some_and(by_claim)),
    ];
    for (key, _) in wanted.into_iter().filter(|(_, is_used)| *is_used) {
        let problem = Problem::new("a claim is only known where `auth` has verified it");
        section.error(section.key_span(key), key, problem.help("add `auth = \"NAME\"` of an `[auth.NAME]`"));
    }
}

/// `{path:NAME}` in a template, or in a limit's key, needs a segment `{NAME}` in every path of the route, and `{claim:NAME}` an `auth`.
fn check_sources(section: &Section<'_>, route: &RouteEntry<'_>) {
    let mut used: Vec<(&str, &Template)> = Vec::new();
    match &route.action {
        Some(ActionEntry::Forward { to, .. }) => used.push(("to", &to.value)),
        Some(ActionEntry::Redirect { location, .. }) => used.push(("redirect", location)),
        _ => {}
    }
    if let Some(Rewrite::Path(template)) = &route.rewrite {
        used.push(("rewrite", template));
    }
    let edits = [("request_headers", &route.request_headers), ("response_headers", &route.response_headers)];
    for (key, edits) in edits {
        used.extend(edits.set.iter().chain(&edits.add).map(|(_, template)| (key, template)));
    }
    for (key, template) in used {
        for source in template.sources() {
            if let (Source::Claim(name), false) = (source, section.has("auth")) {
                let problem =
                    Problem::new(format!("`{{claim:{name}}}` is only known where `auth` has verified it"));
                let help = "add `auth = \"NAME\"` of an `[auth.NAME]`";
                section.error(value_span(section, key), key, problem.help(help));
            }
            if let Source::PathSegment(name) = source
                && !names_segment(&route.conditions.paths, name)
            {
                let problem =
                    Problem::new(format!("`{{path:{name}}}` is not named in every path of this route"));
                let help = format!("write `{{{name}}}` for that segment in `match.path`");
                section.error(value_span(section, key), key, problem.help(help));
            }
        }
    }
}

pub fn names_segment(paths: &[PathMatch], name: &str) -> bool {
    let named = |segment: &Segment| matches!(segment, Segment::Named(other) if **other == *name);
    let has = |path: &PathMatch| matches!(path, PathMatch::Segments(segments) if segments.iter().any(named));
    !paths.is_empty() && paths.iter().all(has)
}

fn value_span(section: &Section<'_>, key: &str) -> Range<usize> {
    section.nodes(key).first().map_or_else(|| section.key_span(key), Spanned::span)
}
