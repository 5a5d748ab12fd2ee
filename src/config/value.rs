//! Owns what single values mean: durations, sizes, numbers, addresses, networks, names. Each function takes one
//! TOML value and gives what it stands for, or a `Problem` that says what was expected.
//! Does not know where the value stands (`reader`) and does not look at two values together (`document`, `check`).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::snapshot::Cidr;
use crate::config::suggest;

pub type Parsed<T> = Result<T, Problem>;

/// Text, whatever it holds.
pub fn text<'v>(value: &'v DeValue<'_>) -> Parsed<&'v str> {
    value.as_str().ok_or_else(|| wrong_type("a text in quotes", value))
}

pub fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    let problem = || {
        let help = match value.as_str() {
            Some("yes" | "on" | "true" | "1") => Some("write `true`, without quotes".to_owned()),
            Some("no" | "off" | "false" | "0") => Some("write `false`, without quotes".to_owned()),
            _ => None,
        };
        wrong_type("`true` or `false`", value).help_if(help)
    };
    value.as_bool().ok_or_else(problem)
}

/// A whole number inside `range`.
pub fn integer(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<u64> {
    move |value| {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = number(value) else {
            let quoted = value.as_str().filter(|text| text.parse::<u64>().is_ok());
            let help = quoted.map(|digits| format!("write `{digits}`, without quotes"));
            return Err(wrong_type(&expected, value).help_if(help));
        };
        let inside = u64::try_from(number).ok().filter(|number| range.contains(number));
        inside.ok_or_else(|| Problem::new(format!("{number} is out of range: expected {expected}")))
    }
}

/// Beyond 64 bits, the nearest that fits: out of every range either way.
fn number(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    let beyond = if integer.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
    Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(beyond))
}

pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// `"250ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"`; at least 1 ms.
pub fn duration(value: &DeValue<'_>) -> Parsed<Duration> {
    let text = match value {
        DeValue::Integer(_) => {
            let problem = wrong_type("a duration such as \"10s\"", value);
            let seconds = number(value).filter(|&seconds| seconds > 0);
            return Err(problem.help_if(seconds.map(|seconds| format!("write \"{seconds}s\" for seconds"))));
        }
        _ => value.as_str().ok_or_else(|| wrong_type("a duration such as \"10s\"", value))?,
    };
    let (digits, unit) = split_unit(text);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(not_a_duration(text, digits, unit)),
    };
    let Ok(count) = digits.parse::<u64>() else { return Err(not_a_duration(text, digits, unit)) };
    match count.checked_mul(unit_ms).map(Duration::from_millis) {
        Some(Duration::ZERO) => Err(Problem::new("a duration of 0").help("the least is \"1ms\"")),
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(Problem::new(format!("\"{}\" is too long", shown(text))).help("the most is \"365d\"")),
    }
}

/// A duration of so many seconds; `problem` says of which.
pub fn duration_within(
    seconds: RangeInclusive<u64>,
    problem: impl Fn() -> Problem,
) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let duration = duration(value)?;
        if seconds.contains(&duration.as_secs()) { Ok(duration) } else { Err(problem()) }
    }
}

/// A duration, or `"off"`.
pub fn duration_or_off(value: &DeValue<'_>) -> Parsed<Option<Duration>> {
    match value {
        DeValue::String(text) if &**text == "off" => Ok(None),
        DeValue::Boolean(false) => Err(wrong_type("a duration or \"off\"", value).help("write \"off\"")),
        _ => match duration(value) {
            Ok(duration) => Ok(Some(duration)),
            Err(problem) if problem.help.is_none() => {
                Err(problem.help("write a duration such as \"10s\", or \"off\""))
            }
            Err(problem) => Err(problem),
        },
    }
}

fn not_a_duration(text: &str, digits: &str, unit: &str) -> Problem {
    let problem = Problem::new(format!("\"{}\" is not a duration", shown(text)));
    let known = |word: &str| match word {
        "" => Some("s"),
        "sec" | "secs" | "second" | "seconds" | "S" => Some("s"),
        "min" | "mins" | "minute" | "minutes" | "M" => Some("m"),
        "hr" | "hour" | "hours" | "H" => Some("h"),
        "day" | "days" => Some("d"),
        "msec" | "millis" | "milliseconds" | "MS" => Some("ms"),
        _ => None,
    };
    match known(unit.trim()) {
        Some(ours) if digits.parse::<u64>().is_ok() => {
            problem.help(format!("did you mean \"{digits}{ours}\"?"))
        }
        _ if text == "off" || text == "none" => {
            problem.help("this one cannot be turned off; write a long one, such as \"1d\"")
        }
        _ => problem.help("write a whole number with one unit: \"250ms\", \"10s\", \"5m\", \"1h\" or \"7d\""),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `"512KiB"`, `"10MiB"`, `"1MB"`, `"1GiB"`, or a whole number of bytes.
pub fn size(value: &DeValue<'_>) -> Parsed<u64> {
    let expected = "a size such as \"10MiB\", or a whole number of bytes";
    if let Some(bytes) = number(value) {
        let problem = || Problem::new(format!("{bytes} is out of range: expected {expected}"));
        return u64::try_from(bytes).map_err(|_| problem());
    }
    let text = value.as_str().ok_or_else(|| wrong_type(expected, value))?;
    let (digits, unit) = split_unit(text);
    let unit_bytes: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(not_a_size(text, digits, unit)),
    };
    let Ok(count) = digits.parse::<u64>() else { return Err(not_a_size(text, digits, unit)) };
    // TOML's own integers end there, too.
    let bytes = count.checked_mul(unit_bytes).filter(|&bytes| bytes <= i64::MAX as u64);
    bytes.ok_or_else(|| Problem::new(format!("\"{}\" is too large", shown(text))))
}

/// A size inside `range`, which is said as `bounds`.
pub fn size_within(range: RangeInclusive<u64>, bounds: &'static str) -> impl Fn(&DeValue<'_>) -> Parsed<u64> {
    move |value| {
        let bytes = size(value)?;
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        Err(Problem::new(format!("{bytes} bytes is out of range: expected {bounds}")))
    }
}

/// A size, or `"off"` for no bound.
pub fn size_or_off(value: &DeValue<'_>) -> Parsed<u64> {
    match value {
        DeValue::String(text) if &**text == "off" => Ok(u64::MAX),
        _ => size(value),
    }
}

fn not_a_size(text: &str, digits: &str, unit: &str) -> Problem {
    let problem = Problem::new(format!("\"{}\" is not a size", shown(text)));
    let known = match unit.trim().to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" | "ki" => Some("KiB"),
        "m" | "mb" | "mib" | "mi" => Some("MiB"),
        "g" | "gb" | "gib" | "gi" => Some("GiB"),
        _ => None,
    };
    match known {
        Some(ours) if digits.parse::<u64>().is_ok() => {
            problem.help(format!("did you mean \"{digits}{ours}\"?"))
        }
        _ => problem.help(
            "write a whole number with a unit: \"512KiB\", \"10MiB\", \"1GiB\"; or bytes without quotes",
        ),
    }
}

/// One of some words.
pub fn word<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let list = || choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let text = value.as_str().ok_or_else(|| wrong_type(&format!("one of {}", list()), value))?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*chosen);
        }
        let problem = Problem::new(format!("\"{}\" is none of {}", shown(text), list()));
        let names = || choices.iter().map(|(word, _)| *word);
        let meant = suggest::value_synonym(text).filter(|meant| names().any(|name| name == *meant));
        let meant = meant.or_else(|| suggest::nearest(text, names()));
        Err(problem.help_if(meant.map(|meant| format!("did you mean \"{meant}\"?"))))
    }
}

/// An IP address and a port to listen on.
pub fn socket_address(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let expected = "an IP address and a port such as \"0.0.0.0:8080\"";
    if let Some(port) = number(value).filter(|&port| (1..=65_535).contains(&port)) {
        return Err(wrong_type(expected, value)
            .help(format!("write \"0.0.0.0:{port}\" for every address of this host")));
    }
    let text = value.as_str().ok_or_else(|| wrong_type(expected, value))?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(Problem::new("port 0 cannot be listened on").help("choose a port from 1 to 65535"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(not_an_address(text)),
    }
}

fn not_an_address(text: &str) -> Problem {
    let problem = Problem::new(format!("\"{}\" is not an IP address with a port", shown(text)));
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if text.starts_with("unix:") || text.starts_with('/') {
        return problem.help("Unix sockets are not supported");
    }
    if let Some(help) = bare_ip_help(text, 8080) {
        return problem.help(help);
    }
    let Some(port) = port.parse::<u16>().ok().filter(|&port| port > 0) else {
        return problem.help("write it as \"0.0.0.0:8080\" or \"[::]:8080\", with a port from 1 to 65535");
    };
    match host {
        "" | "*" => problem.help(format!("write \"0.0.0.0:{port}\" for every address of this host")),
        "localhost" => problem.help(format!("write \"127.0.0.1:{port}\"")),
        host if host.parse::<Ipv6Addr>().is_ok() => {
            problem.help(format!("did you mean \"[{host}]:{port}\"?"))
        }
        _ => problem.help("a name cannot be listened on; write the address itself, or \"0.0.0.0\" for all"),
    }
}

/// For an IP address without port, or IPv6 without brackets: "::1:80" is an address by itself, but seldom meant so.
fn bare_ip_help(text: &str, port: u16) -> Option<String> {
    if let Some((host, port)) = text.rsplit_once(':')
        && host.parse::<Ipv6Addr>().is_ok()
        && let Ok(port @ 1..) = port.parse::<u16>()
    {
        return Some(format!("did you mean \"[{host}]:{port}\"?"));
    }
    let ip = text.parse::<IpAddr>().ok()?;
    Some(format!("add the port: \"{}\"", SocketAddr::new(ip, port)))
}

/// A DNS name and a port, to be resolved. Shared by all endpoints that name the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// In lower case.
    pub host: Arc<str>,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    Address(SocketAddr),
    Name(HostPort),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => address.fmt(f),
            Place::Name(name) => name.fmt(f),
        }
    }
}

/// `"host:port"`, the host an IP address or a DNS name.
pub fn place(value: &DeValue<'_>) -> Parsed<Place> {
    let text = value.as_str().ok_or_else(|| wrong_type("an endpoint such as \"10.0.0.5:8000\"", value))?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(Problem::new("port 0 cannot be connected to").help("choose a port from 1 to 65535"));
        }
        return Ok(Place::Address(address));
    }
    let problem = || Problem::new(format!("\"{}\" is not an endpoint", shown(text)));
    if let Some(help) = endpoint_help(text) {
        return Err(problem().help(help));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(problem().help(format!("add the port: \"{}:8000\"", shown(text))));
    };
    let port_at = host.len() + 1;
    let Some(port) = port.parse::<u16>().ok().filter(|&port| port > 0) else {
        return Err(problem().help("the port is a number from 1 to 65535").at(port_at));
    };
    check_dns_name(host)?;
    Ok(Place::Name(HostPort { host: host.to_ascii_lowercase().into(), port }))
}

fn endpoint_help(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let port = if scheme == "https" { 443 } else { 80 };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let ours = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        return Some(format!("an endpoint has no scheme and no path; write \"{}\"", shown(&ours)));
    }
    if text.starts_with("unix:") || text.starts_with('/') {
        return Some("Unix sockets are not supported".to_owned());
    }
    if let Some(help) = bare_ip_help(text, 8000) {
        return Some(help);
    }
    text.contains('/').then(|| {
        format!("an endpoint has no path; write \"{}\"", shown(text.split('/').next().unwrap_or("")))
    })
}

/// RFC 1123 §2.1 with underscores, which Docker and Kubernetes use.
fn check_dns_name(host: &str) -> Parsed<()> {
    let problem = |why: &str| Problem::new(format!("\"{}\" is not a host name: {why}", shown(host)));
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Err(problem("it is empty"));
    }
    if name.len() > 253 || name.split('.').any(|label| label.len() > 63) {
        return Err(problem("a name has at most 253 characters, and 63 between dots"));
    }
    if name.split('.').any(str::is_empty) {
        return Err(problem("there is nothing between two dots"));
    }
    if let Some((at, bad)) =
        name.char_indices().find(|&(_, c)| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
    {
        return Err(problem(&format!("`{}` is not allowed", bad.escape_debug())).at(at));
    }
    if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(problem("no part begins or ends with `-`"));
    }
    let last = name.rsplit('.').next().unwrap_or("");
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(problem("it looks like an IP address, but is none"));
    }
    Ok(())
}

/// `"10.0.0.0/8"`, or an address alone.
pub fn network(value: &DeValue<'_>) -> Parsed<Cidr> {
    let text = value.as_str().ok_or_else(|| wrong_type("a network such as \"10.0.0.0/8\"", value))?;
    let problem = || Problem::new(format!("\"{}\" is not a network", shown(text)));
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(problem().help("write it as \"10.0.0.0/8\", \"2001:db8::/32\", or one address"));
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(str::parse::<u8>) {
        None => bits,
        Some(Ok(prefix)) if prefix <= bits => prefix,
        Some(_) => return Err(problem().help(format!("the prefix is a number from 0 to {bits}"))),
    };
    let network = masked(address, prefix);
    if network != address {
        return Err(
            problem().help(format!("bits are set after the prefix; did you mean \"{network}/{prefix}\"?"))
        );
    }
    Ok(Cidr { network, prefix })
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Bytes of the name of a listener, service or route.
pub const NAME_BYTES_MAX: usize = 128;

/// The name of a listener, service or route: visible ASCII without quotes and braces.
pub fn check_name(name: &str) -> Parsed<()> {
    if name.is_empty() {
        return Err(Problem::new("a name cannot be empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Problem::new(format!(
            "a name has at most {NAME_BYTES_MAX} bytes, this has {}",
            name.len()
        )));
    }
    match name.char_indices().find(|&(_, c)| !c.is_ascii_graphic() || "{}\"'\\`".contains(c)) {
        Some((at, bad)) => {
            let problem = Problem::new(format!("`{}` is not allowed in a name", bad.escape_debug())).at(at);
            Err(problem.help("use letters, digits and `-`, `_`, `.`, `/`, `:`"))
        }
        None => Ok(()),
    }
}

/// RFC 9110 §5.6.2.
pub fn is_token(text: &str) -> bool {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(in_token)
}

/// "expected ..., found ...".
pub fn wrong_type(expected: &str, value: &DeValue<'_>) -> Problem {
    let found = match value {
        DeValue::String(text) => format!("the text \"{}\"", shown(text)),
        DeValue::Integer(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Float(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Boolean(boolean) => format!("`{boolean}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    Problem::new(format!("expected {expected}, found {found}"))
}

/// A value as a message shows it: short, and without control characters.
pub fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}
