//! Owns what is never shown of a configuration: values of keys, headers and parameters that by their names hold secrets, and
//! what URLs carry of them. Knows names only: a secret under an innocent one is shown.

use std::borrow::Cow;
use std::ops::Range;

use super::schema;

/// What stands in its place.
pub const REDACTED: &str = "<redacted>";

/// Whether the value of a header, a query parameter or a claim of this name is somebody's to keep: `authorization`,
/// `x-api-key`, `access_token`.
pub fn is_secret(name: &str) -> bool {
    let words = || name.split(|byte: char| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let is_key =
        words().count() > 1 && words().next_back().is_some_and(|last| last.eq_ignore_ascii_case("key"));
    is_key || words().any(|word| WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}

const WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
    "tokens",
];

/// A text as it may be shown: without the user of a URL, and the values of its parameters that are secret.
pub fn text(text: &str) -> Cow<'_, str> {
    let without_user = match user_in(text) {
        Some(user) => Cow::Owned(format!("{}{REDACTED}{}", &text[..user.start], &text[user.end..])),
        None => Cow::Borrowed(text),
    };
    match without_user.split_once('?') {
        Some((before, query)) if query.split('&').any(has_secret_value) => {
            let shown: Vec<Cow<'_, str>> = query.split('&').map(parameter).collect();
            Cow::Owned(format!("{before}?{}", shown.join("&")))
        }
        _ => without_user,
    }
}

/// Of a URL.
pub fn user_of(text: &str) -> Option<&str> {
    user_in(text).map(|user| &text[user]).filter(|user| !user.is_empty())
}

fn user_in(text: &str) -> Option<Range<usize>> {
    let begin = text.find("://")? + 3;
    let authority = text[begin..].split(['/', '?', '#']).next().unwrap_or_default();
    authority.rfind('@').map(|end| begin..begin + end)
}

fn has_secret_value(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| is_secret(name) && !value.is_empty())
}

fn parameter(parameter: &str) -> Cow<'_, str> {
    match parameter.split_once('=') {
        Some((name, _)) if has_secret_value(parameter) => Cow::Owned(format!("{name}={REDACTED}")),
        _ => Cow::Borrowed(parameter),
    }
}

/// A line of a config file as it may be quoted: what is written for a secret is `*`, as many as it has characters, so that
/// a mark below the line still points at what it is about.
pub fn line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        shown.push_str(before);
        rest = after;
        let key = key_before(&before[..at]);
        let is_parameter = before[..at].strip_suffix(key).is_some_and(|before| before.ends_with(['?', '&']));
        // A table has keys of its own.
        if !is_secret_key(key) || is_parameter || rest.trim_start().starts_with('{') {
            continue;
        }
        let blank = rest.len() - rest.trim_start().len();
        shown.push_str(&rest[..blank]);
        rest = &rest[blank..];
        let value = written_value(rest);
        shown.push_str(&stars(value));
        rest = &rest[value.len()..];
    }
    shown.push_str(rest);
    let in_urls = secrets_in_urls(&shown);
    in_urls.into_iter().rev().for_each(|at| shown.replace_range(at.clone(), &stars(&shown[at])));
    shown
}

/// A text with URLs in it, as it may be shown.
pub fn urls(text: &str) -> String {
    let mut shown = text.to_owned();
    let found = secrets_in_urls(text);
    found.into_iter().rev().for_each(|at| shown.replace_range(at, REDACTED));
    shown
}

pub fn stars(text: &str) -> String {
    text.chars().map(|_| '*').collect()
}

/// Where URLs have users and secret parameters, in order.
fn secrets_in_urls(line: &str) -> Vec<Range<usize>> {
    let end_of = |begin: usize, ends: &[char]| line[begin..].find(ends).map_or(line.len(), |at| begin + at);
    let users = line.match_indices("://").filter_map(|(at, mark)| {
        let begin = at + mark.len();
        let authority = &line[begin..end_of(begin, &['/', '?', '#', '"', '\'', ' '])];
        authority.rfind('@').map(|end| begin..begin + end)
    });
    let mut at = 0;
    let parameters = line.split_inclusive(['?', '&', '#', '"', '\'', ' ']).filter_map(|piece| {
        let begin = at;
        at += piece.len();
        let written = piece.trim_end_matches(['?', '&', '#', '"', '\'', ' ']);
        let is_parameter = line[..begin].ends_with(['?', '&']);
        let (name, value) = written.split_once('=').filter(|_| is_parameter && has_secret_value(written))?;
        let value_at = begin + name.len() + 1;
        Some(value_at..value_at + value.len())
    });
    let mut found: Vec<_> = users.chain(parameters).collect();
    found.sort_by_key(|at| at.start);
    // One may be inside of another.
    let mut end = 0;
    found.retain(|at| {
        let is_apart = at.start >= end;
        end = end.max(at.end);
        is_apart
    });
    found
}

/// Names of the schema's own are known: of them, only `secret` holds one.
pub fn is_secret_key(key: &str) -> bool {
    key == "secret" || (is_secret(key) && schema::elsewhere("?", key).is_none())
}

/// The last part of the key that ends here.
fn key_before(text: &str) -> &str {
    let text = text.trim_end();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    match text.strip_suffix(['"', '\'']) {
        Some(quoted) => quoted.rsplit(['"', '\'']).next().unwrap_or_default(),
        None => text.rsplit(|letter| !is_part(letter)).next().unwrap_or_default(),
    }
}

/// A string with its quotes, a list of them, or up to what ends any other value. An end that is not on this line is its end.
fn written_value(text: &str) -> &str {
    let end = match text.as_bytes().first() {
        Some(&quote @ (b'"' | b'\'')) => {
            let mut is_escaped = false;
            let end = text.bytes().enumerate().skip(1).find(|&(_, byte)| {
                let is_end = byte == quote && !is_escaped;
                is_escaped = byte == b'\\' && quote == b'"' && !is_escaped;
                is_end
            });
            // Three quotes begin a text of many lines.
            let is_long = text.as_bytes().get(1) == Some(&quote) && text.as_bytes().get(2) == Some(&quote);
            end.filter(|_| !is_long).map(|(at, _)| at + 1)
        }
        Some(b'[') => text.rfind(']').map(|at| at + 1),
        _ => text.find([',', '}']),
    };
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "authorization",
            "Proxy-Authorization",
            "x-api-key",
            "api_key",
            "apikey",
            "cookie",
            "set-cookie",
            "access_token",
            "X-Amz-Security-Token",
            "client_secret",
            "password",
            "X-Goog-Api-Key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in
            ["key", "x-model-version", "host", "content-type", "sub", "x-tokenizer", "monkey", "author"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn urls_are_shown_without_their_secrets() {
        for (written, shown) in [
            ("http://id.test/keys", "http://id.test/keys"),
            ("http://ann:pw@id.test/k@y", "http://<redacted>@id.test/k@y"),
            ("https://id.test/keys?v=1&api_key=abc&x", "https://id.test/keys?v=1&api_key=<redacted>&x"),
            ("/next?token={header:x}", "/next?token=<redacted>"),
            ("~^/v[0-9]?$", "~^/v[0-9]?$"),
        ] {
            assert_eq!(text(written), shown);
        }
    }

    #[test]
    fn a_quoted_line_has_no_secret_and_the_same_length() {
        for (written, shown) in [
            ("jwt = { secret = \"a\\\"b\", leeway = \"1s\" }", "jwt = { secret = ******, leeway = \"1s\" }"),
            ("auth.users.jwt.secret='x'", "auth.users.jwt.secret=***"),
            ("secret = \"\"\"", "secret = ***"),
            ("secret = \"never closed", "secret = *************"),
            ("set = { authorization = \"Bearer x\", b = 1 }", "set = { authorization = **********, b = 1 }"),
            ("\"x-api-key\" = [\"a\", \"b\"]", "\"x-api-key\" = **********"),
            ("secret = 12345 }", "secret = ******}"),
            ("a = \"?token=é?token=é\"", "a = \"?token=*?token=*\""),
            ("to = \"http://ann:pw@a.test/?x=1&token=t\"", "to = \"http://******@a.test/?x=1&token=*\""),
            ("secret_file = \"jwt.secret\"", "secret_file = \"jwt.secret\""),
            ("token_env = \"T\"", "token_env = \"T\""),
            ("auth = \"users\"", "auth = \"users\""),
            ("public_key = \"a.pem\"", "public_key = \"a.pem\""),
        ] {
            assert_eq!(line(written), shown);
            assert_eq!(written.chars().count(), shown.chars().count());
        }
    }
}
