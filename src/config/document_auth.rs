//! Owns reading `[auth.NAME]`: the keys that tokens are verified with, wherever they are kept, and what tokens must say.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::document_health;
use crate::config::pattern;
use crate::config::reader::{Located, Section};
use crate::config::snapshot::HttpVersion;
use crate::config::snapshot::Secret;
use crate::config::tls::{self, TlsFile};
use crate::config::value::{self, Parsed, Place, shown};
use crate::policy::api_key::ApiKeys;
use crate::policy::identity::Auth;
use crate::policy::jwt::{Algorithm, Key, KeyError, KeySet, Keys, RemoteKeys, Source, Verifier};
use crate::policy::quota::{Ledger, Quota, REQUESTS_MAX};

#[derive(Debug)]
pub struct AuthEntry<'a> {
    pub name: Located<&'a str>,
    /// Where it says that certificates count, if it does.
    pub certificate: Option<Range<usize>>,
    /// `None`: something is wrong, and reported.
    pub auth: Option<Auth>,
}

pub fn auth<'a>(name: Located<&'a str>, section: &Section<'a>, directory: &Path) -> AuthEntry<'a> {
    let by_certificate = section.value("certificate", value::boolean);
    if !section.has("jwt") && !section.has("api_keys") && !by_certificate {
        section.absent("jwt");
    }
    let realm = section.optional("realm", realm).map_or_else(|| name.value.into(), |found| found.value);
    let jwt = section.table("jwt").and_then(|table| verifier(&table, directory));
    let api_keys = section.table("api_keys").and_then(|table| api_keys(&table, directory));
    // All that it says, or it would let in whom it is not to.
    let is_whole = jwt.is_some() == section.has("jwt")
        && api_keys.is_some() == section.has("api_keys")
        && (jwt.is_some() || api_keys.is_some() || by_certificate);
    let certificate = by_certificate.then(|| section.key_span("certificate"));
    AuthEntry { name, certificate, auth: is_whole.then(|| Auth::new(realm, jwt, api_keys, by_certificate)) }
}

/// `[authorizer.NAME]`.
#[derive(Debug)]
pub struct AuthorizerEntry<'a> {
    pub name: Located<&'a str>,
    /// `None`: missing or wrong, and reported.
    pub to: Option<Located<&'a str>>,
    pub path: Box<str>,
    pub timeout: Duration,
    pub is_open: bool,
    pub shown: Option<Vec<Box<str>>>,
    pub says: Vec<Box<str>>,
}

pub fn authorizer<'a>(name: Located<&'a str>, section: &Section<'a>) -> AuthorizerEntry<'a> {
    let names =
        |found: Vec<Located<Box<str>>>| found.into_iter().map(|found| found.value).collect::<Vec<_>>();
    AuthorizerEntry {
        name,
        to: section.required("to", value::text),
        path: section.value("path", document_health::path),
        timeout: section.value("timeout", value::duration),
        is_open: section.value("on_failure", value::word(&[("deny", false), ("allow", true)])),
        shown: section.has("shows").then(|| names(section.list("shows", header))),
        says: names(section.list("says", said)),
    }
}

fn api_keys(table: &Section<'_>, directory: &Path) -> Option<ApiKeys> {
    if !table.has("file") {
        table.absent("file");
    }
    let header = table.value("header", header);
    let quota = table.table("quota");
    let usual = quota
        .map(|quota| Quota { day: quota.value("day", requests), month: quota.value("month", requests) })
        .unwrap_or_default();
    let found = table.optional("file", |value| path(value, directory))?;
    let text = read(table, &found.value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let keys = text.and_then(|text| {
        ApiKeys::read(header, &text, usual).map_err(|wrong| {
            let place = format!("{}, line {}", found.value.display(), wrong.line);
            Problem::new(format!("{place}: {}", wrong.what))
                .help("`tidegate key FILE sub=ann` writes such lines")
        })
    });
    let mut keys = keys.map_err(|problem| table.error(found.span.clone(), "file", problem)).ok()?;
    if keys.is_empty() {
        let problem = Problem::new(format!("{} has no key: nobody is let in", found.value.display()));
        table.warning(found.span, "file", problem.help("`tidegate key FILE sub=ann` makes one"));
    }
    keys.ledger = ledger(table, quota, &keys, directory);
    Some(keys)
}

/// Where it is kept what the keys have used. `None`: nowhere, since none of them has a quota; or something is wrong, and reported.
fn ledger(
    table: &Section<'_>,
    quota: Option<Section<'_>>,
    keys: &ApiKeys,
    directory: &Path,
) -> Option<Arc<Ledger>> {
    if let Some(quota) = quota {
        let file = quota.required("file", |value| path(value, directory))?;
        return Some(Arc::new(Ledger::new(&file.value)));
    }
    if let (Some(id), false) = (keys.with_quota(), table.has("quota")) {
        let problem = Problem::new(format!("the key {id} has a quota, and no file keeps what is used of it"));
        let help = "add `quota = { file = \"keys.used\" }`, which the gateway writes";
        table.error(table.key_span("file"), "file", problem.help(help));
    }
    None
}

/// Of one period. `None`: as many as come.
fn requests(value: &DeValue<'_>) -> Parsed<Option<u64>> {
    match value.as_str() {
        Some("off") => Ok(None),
        _ => value::integer(1..=REQUESTS_MAX)(value).map(Some),
    }
}

/// A field that only an authorizer may say: none that says where a request goes, how it is framed, or where it comes from.
fn said(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let name = header(value)?;
    pattern::check_edited_header(&name, pattern::Edit::RequestAdd)?;
    match name.starts_with("x-forwarded-") || matches!(&*name, "forwarded" | "x-request-id" | "content-type")
    {
        true => Err(Problem::new(format!("`{name}` is not the authorizer's to say"))
            .help("name fields such as \"x-user\"")),
        false => Ok(name),
    }
}

fn header(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    match value::is_token(text) {
        true => Ok(text.to_ascii_lowercase().into()),
        false => {
            Err(Problem::new(format!("\"{}\" is no name of a field", shown(text)))
                .help("write \"x-api-key\""))
        }
    }
}

/// Of the admin endpoint: from a file or the environment, never from the config itself.
pub fn admin_token(section: &Section<'_>, directory: &Path) -> Option<Secret> {
    let (key, bytes) = if let Some(found) = section.optional("token_file", |value| path(value, directory)) {
        let bytes =
            read(section, &found.value).map_err(|problem| section.error(found.span, "token_file", problem));
        ("token_file", bytes.ok()?)
    } else {
        let found = section.optional("token_env", value::text)?;
        match std::env::var_os(found.value) {
            Some(value) => ("token_env", std::os::unix::ffi::OsStringExt::into_vec(value)),
            None => {
                let problem =
                    Problem::new(format!("the environment has no variable `{}`", shown(found.value)));
                section.error(found.span, "token_env", problem);
                return None;
            }
        }
    };
    let text = std::str::from_utf8(line(&bytes)).ok();
    let token = text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
    if token.is_none() {
        let problem = Problem::new("the token is empty, or not of letters, digits and signs alone");
        section.error(section.key_span(key), key, problem.help("`openssl rand -hex 32` makes a good one"));
    }
    token.map(|token| Secret(token.into()))
}

/// It stands in quotes in a header.
fn realm(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?;
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
    match is_plain && !text.is_empty() {
        true => Ok(text.into()),
        false => Err(Problem::new(format!("\"{}\" cannot stand in a header", shown(text)))
            .help("use letters, digits and spaces")),
    }
}

fn verifier(table: &Section<'_>, directory: &Path) -> Option<Verifier> {
    let algorithm = table.optional("algorithm", algorithm);
    if algorithm.is_none() && table.has("algorithm") {
        return None;
    }
    let texts = |key: &'static str| -> Vec<Box<str>> {
        table.list(key, not_empty).into_iter().map(|found| found.value).collect()
    };
    let required = match table.has("require") {
        true => texts("require"),
        false => vec!["exp".into()],
    };
    let (issuers, audiences) = (texts("issuer"), texts("audience"));
    let leeway = table.value("leeway", value::duration).as_secs().try_into().unwrap_or(u32::MAX);
    let keys = keys(table, directory, algorithm.map(|found| found.value))?;
    Some(Verifier { keys, issuers, audiences, leeway, required })
}

fn algorithm(value: &DeValue<'_>) -> Parsed<Algorithm> {
    let text = value::text(value)?;
    Algorithm::of(text).ok_or_else(|| {
        let known: Vec<&str> = Algorithm::ALL.iter().map(|known| known.name()).collect();
        let problem =
            Problem::new(format!("\"{}\" is no algorithm that tokens are signed with", shown(text)));
        problem.help(format!("known: {}", known.join(", ")))
    })
}

fn not_empty(value: &DeValue<'_>) -> Parsed<Box<str>> {
    match value::text(value)? {
        "" => Err(Problem::new("an empty text").help("leave it out, or write what it must be")),
        text => Ok(text.into()),
    }
}

const SOURCES: [&str; 5] = ["secret_file", "secret_env", "secret", "public_key", "jwks"];

fn keys(table: &Section<'_>, directory: &Path, algorithm: Option<Algorithm>) -> Option<Keys> {
    let mut written: Vec<&str> = SOURCES.into_iter().filter(|key| table.has(key)).collect();
    written.sort_by_key(|key| table.key_span(key).start);
    if let [first, second, ..] = written[..] {
        let problem = Problem::new(format!("the keys come from `{first}` and from `{second}`"));
        table.error(table.key_span(second), second, problem.help("remove one of them"));
        return None;
    }
    if written.is_empty() && !SOURCES.into_iter().any(|key| table.misnames(key)) {
        let help = "add `secret_file`, `public_key` or `jwks`";
        let problem = Problem::new("nothing says by which key tokens are verified").help(help);
        table.report().absent(table.span(), "auth.jwt", problem);
    }
    if table.nodes("jwks").first().is_some_and(|node| is_url(node.get_ref())) {
        return remote(table, directory, algorithm).map(|keys| Keys::Remote(Arc::new(keys)));
    }
    for key in ["refresh", "tls"] {
        if table.has(key) && !table.misnames(key) {
            let problem = Problem::new(format!("`{key}` is for keys from a URL"));
            let help = "write `jwks = \"https://id.example.com/jwks.json\"`, or remove this";
            table.error(table.key_span(key), key, problem.help(help));
        }
    }
    let path = |value: &DeValue<'_>| path(value, directory);
    let of_secret = |bytes: &[u8]| Ok(KeySet::one(Key::secret(bytes, algorithm)?, bytes));
    let secret_file = || {
        let found = table.optional("secret_file", path)?;
        let keys = read(table, &found.value)
            .and_then(|bytes| of_secret(line(&bytes)).map_err(in_file(&found.value)));
        let keys = reported(table, "secret_file", &found, keys)?;
        warn_if_short(
            table,
            &found,
            &keys,
            std::fs::metadata(&found.value).map_or(0, |file| file.len() as usize),
        );
        Some(keys)
    };
    let secret_env = || {
        let found = table.optional("secret_env", value::text)?;
        let bytes = std::env::var_os(found.value).map(std::os::unix::ffi::OsStringExt::into_vec);
        let absent = || Problem::new(format!("the environment has no variable `{}`", shown(found.value)));
        let keys = bytes.ok_or_else(absent).and_then(|bytes: Vec<u8>| of_secret(&bytes).map_err(problem));
        reported(table, "secret_env", &found, keys)
    };
    let secret = || {
        let found = table.optional("secret", value::text)?;
        let keys = reported(table, "secret", &found, of_secret(found.value.as_bytes()).map_err(problem))?;
        warn_if_short(table, &found, &keys, found.value.len());
        Some(keys)
    };
    let public_key = || {
        let found = table.optional("public_key", path)?;
        let keys = read(table, &found.value).and_then(|bytes| {
            let key = Key::pem(&bytes, algorithm).map_err(in_file(&found.value))?;
            Ok(KeySet::one(key, &bytes))
        });
        reported(table, "public_key", &found, keys)
    };
    let jwks = || {
        let found = table.optional("jwks", path)?;
        let keys = read(table, &found.value)
            .and_then(|bytes| KeySet::jwks(&bytes, algorithm).map_err(in_file(&found.value)));
        reported(table, "jwks", &found, keys)
    };
    secret_file().or_else(secret_env).or_else(secret).or_else(public_key).or_else(jwks).map(Keys::Known)
}

fn is_url(value: &DeValue<'_>) -> bool {
    value.as_str().is_some_and(|text| text.contains("://"))
}

/// Keys that are to be fetched. `None`: something is wrong, and reported.
fn remote(table: &Section<'_>, directory: &Path, algorithm: Option<Algorithm>) -> Option<RemoteKeys> {
    let often = || Problem::new("keys are fetched every 1s to 24h").help("write \"5m\"");
    let refresh = table.value("refresh", value::duration_within(1..=86_400, often));
    let found = table.optional("jwks", url)?;
    let Url { is_secure, authority, place, target } = found.value;
    let tls = match (is_secure, table.has("tls")) {
        (true, _) => {
            let tls = tls::client(&table.table_or_empty("tls"), directory)?;
            let Some(towards) = tls.towards(&place, HttpVersion::Http1) else {
                let problem = Problem::new(format!("no certificate can be for \"{authority}\""));
                table.error(found.span, "jwks", problem);
                return None;
            };
            Some(towards.http)
        }
        (false, true) => {
            let problem = Problem::new("`tls` is for keys from https");
            table.error(table.key_span("tls"), "tls", problem.help("write \"https://\", or remove this"));
            return None;
        }
        (false, false) => None,
    };
    if tls.is_none() && !matches!(&place, Place::Address(address) if address.ip().is_loopback()) {
        let problem = Problem::new("whoever is on the way can put his own keys in place of these");
        table.warning(found.span, "jwks", problem.help("fetch them from https"));
    }
    let url = table.nodes("jwks").first().and_then(|node| node.get_ref().as_str()).unwrap_or_default().into();
    Some(RemoteKeys::new(Source { url, place, authority, target, tls, refresh, algorithm }))
}

struct Url {
    is_secure: bool,
    authority: Box<str>,
    place: Place,
    /// Path and query.
    target: Box<str>,
}

fn url(value: &DeValue<'_>) -> Parsed<Url> {
    let text = value::text(value)?;
    let problem = |why: &str| {
        let problem = Problem::new(format!("\"{}\" cannot be fetched from: {why}", shown(text)));
        problem.help("write \"https://id.example.com/.well-known/jwks.json\"")
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| problem("it is no URL"))?;
    let is_secure = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(problem("it is neither http nor https")),
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') || text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(problem("it has a user, a fragment or letters that no URL has"));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if is_secure { 443 } else { 80 };
    let place = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let place = value::place(&DeValue::String(place.into())).map_err(|_| problem("it has no host"))?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok(Url { is_secure, authority: authority.into(), place, target: target.into() })
}

fn path(value: &DeValue<'_>, directory: &Path) -> Parsed<PathBuf> {
    let text = value::text(value)?;
    match text.is_empty() || text.contains('\0') {
        true => Err(value::wrong_type("a path to a file", value)),
        false => Ok(directory.join(text)),
    }
}

/// Notes the file, so that its changes are noticed.
fn read(table: &Section<'_>, path: &Path) -> Result<Vec<u8>, Problem> {
    table.report().note_file(TlsFile { path: path.to_owned(), not_after: None });
    std::fs::read(path).map_err(|error| Problem::new(format!("{} cannot be read: {error}", path.display())))
}

/// Editors end files with a line break.
fn line(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn problem(error: KeyError) -> Problem {
    Problem::new(error.0)
}

fn in_file(path: &Path) -> impl Fn(KeyError) -> Problem {
    move |error| Problem::new(format!("{}: {}", path.display(), error.0))
}

fn reported<T>(
    table: &Section<'_>,
    key: &str,
    found: &Located<T>,
    keys: Result<KeySet, Problem>,
) -> Option<KeySet> {
    keys.map_err(|problem| table.error(found.span.clone(), key, problem)).ok()
}

/// RFC 7518 §3.2: a shorter one is guessed from a single token.
fn warn_if_short<T>(table: &Section<'_>, found: &Located<T>, keys: &KeySet, bytes: usize) {
    let Some(algorithm) = keys.algorithms().next() else { return };
    if bytes < algorithm.secret_bytes() {
        let problem = Problem::new(format!("a secret of {bytes} bytes is short for {}", algorithm.name()));
        let help = "whoever has one token can guess it; `openssl rand -hex 32` makes a good one";
        table.warning(found.span.clone(), "secret", problem.help(help));
    }
}
