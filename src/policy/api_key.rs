//! Owns API keys: what one looks like, the file that has their hashes, and whether one that is presented is believed. A key is
//! `tgk_ID_SECRET`; the file has the SHA-256 of the secret, which is 256 random bits, so that nothing slower is needed. Opens no file and
//! has no clock.
//!
//! A line of the file: `ID HASH NAME=VALUE...`, `#` begins a comment. The values are claims, as a token's; one with commas is a list.
//! `expires=2027-01-31` is the last day, `revoked` alone refuses the key; `day=1000` and `month=20000` are how many requests it may make,
//! or `off`.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::calendar::{DAY_SECONDS, read_day};
use super::claims::Claims;
use super::jwt::{Refusal, digest_of};
use super::quota::{Account, Ledger, Quota, REQUESTS_MAX};

pub const PREFIX: &str = "tgk_";
/// Lines of one file.
const KEYS_MAX: usize = 1_000_000;
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

#[derive(Debug)]
pub struct ApiKeys {
    /// The field that a key stands in, in lower case. `authorization: Bearer KEY` is as good.
    pub header: Box<str>,
    /// Where it is counted what they have used of their quotas.
    pub ledger: Option<Arc<Ledger>>,
    by_id: HashMap<Box<str>, ApiKey>,
}

#[derive(Debug)]
struct ApiKey {
    hash: [u8; 32],
    claims: Arc<Claims>,
    /// Seconds since 1970.
    ends: Option<u64>,
    quota: Quota,
    is_revoked: bool,
}

/// A line that says nothing that can be understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    pub what: String,
}

impl ApiKeys {
    /// `usual`: the quota of keys that say nothing of theirs.
    pub fn read(header: Box<str>, text: &str, usual: Quota) -> Result<ApiKeys, Wrong> {
        let mut by_id = HashMap::new();
        for (line, number) in text.lines().zip(1..) {
            let wrong = |what: String| Wrong { line: number, what };
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let (id, key) = entry(content, usual).map_err(wrong)?;
            if by_id.len() >= KEYS_MAX {
                return Err(wrong(format!("it has more than {KEYS_MAX} keys")));
            }
            if by_id.insert(id.into(), key).is_some() {
                return Err(wrong(format!("the key {id} stands twice")));
            }
        }
        Ok(ApiKeys { header, ledger: None, by_id })
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The id of a key that has a quota, the first of them.
    pub fn with_quota(&self) -> Option<&str> {
        let bound = self.by_id.iter().filter(|(_, key)| !key.quota.is_none());
        bound.map(|(id, _)| &**id).min()
    }

    /// Has their quotas counted there from now on.
    pub fn count_in(&mut self, ledger: Arc<Ledger>) {
        for (id, key) in self.by_id.iter_mut().filter(|(_, key)| !key.quota.is_none()) {
            let account = Account::new(key.quota, ledger.used(id), ledger.clone());
            key.claims = Arc::new(key.claims.of_account(account));
        }
        self.ledger = Some(ledger);
    }

    /// `now`: seconds since 1970.
    pub fn verify(&self, presented: &[u8], now: u64) -> Result<Arc<Claims>, Refusal> {
        let text = std::str::from_utf8(presented).ok().and_then(|text| text.strip_prefix(PREFIX));
        let (id, secret) = text.and_then(|text| text.split_once('_')).ok_or(Refusal::NoApiKey)?;
        let key = self.by_id.get(id).ok_or(Refusal::UnknownApiKey)?;
        // Known to who has the secret only, so that nobody learns more of a key than that it is not theirs.
        verify_slices_are_equal(&digest_of([secret.as_bytes()]), &key.hash)
            .map_err(|_| Refusal::UnknownApiKey)?;
        if key.is_revoked {
            return Err(Refusal::ApiKeyRevoked);
        }
        match key.ends {
            Some(ends) if now >= ends => Err(Refusal::ApiKeyExpired),
            _ => Ok(key.claims.clone()),
        }
    }
}

fn entry(content: &str, usual: Quota) -> Result<(&str, ApiKey), String> {
    let mut words = content.split_ascii_whitespace();
    let id = words.next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("\"{id}\" is no id of a key: letters and digits"));
    }
    let hash = words.next().ok_or("it has no hash")?;
    let hash = unhex(hash).ok_or_else(|| format!("\"{hash}\" is no SHA-256: 64 hexadecimal digits"))?;
    let mut claims = Map::from_iter([("key".to_owned(), Value::from(id))]);
    let (mut ends, mut is_revoked, mut quota) = (None, false, usual);
    for word in words {
        match word.split_once('=') {
            None if word == "revoked" => is_revoked = true,
            Some(("expires", date)) => {
                ends = Some(end_of(date).ok_or_else(|| format!("\"{date}\" is no date such as 2027-01-31"))?)
            }
            Some(("day", most)) => quota.day = requests(most)?,
            Some(("month", most)) => quota.month = requests(most)?,
            Some(("key", _)) => return Err("`key` is the key's own id".to_owned()),
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                claims.insert(name.to_owned(), claim(value));
            }
            _ => return Err(format!("\"{word}\" is neither NAME=VALUE nor `revoked`")),
        }
    }
    let claims = Arc::new(Claims::new(Value::Object(claims)));
    Ok((id, ApiKey { hash, claims, ends, quota, is_revoked }))
}

fn claim(value: &str) -> Value {
    match value.contains(',') {
        true => value.split(',').collect::<Vec<_>>().into(),
        false => value.into(),
    }
}

/// The last second of a day, and one more.
fn end_of(date: &str) -> Option<u64> {
    read_day(date).map(|day| (day + 1) * DAY_SECONDS)
}

/// How many a key may make. `None`: as many as it likes.
fn requests(text: &str) -> Result<Option<u64>, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_number && (1..=REQUESTS_MAX).contains(number));
    match text {
        "off" => Ok(None),
        _ => number.map(Some).ok_or_else(|| {
            format!("\"{text}\" is no number of requests: from 1 to {REQUESTS_MAX}, or `off`")
        }),
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A new key, and its line without what is known of its owner. `random`: nobody else's.
pub fn create(random: &[u8; ID_BYTES + SECRET_BYTES]) -> (String, String) {
    let (id, secret) = random.split_at(ID_BYTES);
    let (id, secret) = (hex(id), URL_SAFE_NO_PAD.encode(secret));
    let hash = hex(&digest_of([secret.as_bytes()]));
    (format!("{PREFIX}{id}_{secret}"), format!("{id} {hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> ApiKeys {
        ApiKeys::read("x-api-key".into(), text, Quota::default()).unwrap()
    }

    #[test]
    fn a_key_that_was_made_is_believed_and_no_other() {
        let (key, line) = create(&[7; 38]);
        let (other, _) = create(&[8; 38]);
        let keys = keys(&format!("# all\n\n{line} sub=ann group=vip,beta # hers\n"));
        let claims = keys.verify(key.as_bytes(), 0).unwrap();
        assert_eq!(claims.text("sub").as_deref(), Some("ann"));
        assert_eq!(claims.texts("group").collect::<Vec<_>>(), ["vip", "beta"]);
        assert_eq!(claims.text("key").as_deref(), Some("070707070707"));
        assert!(!line.contains(key.split('_').next_back().unwrap()), "the secret is not in the file");
        let (id, _) = key.rsplit_once('_').unwrap();
        for (presented, refusal) in [
            (other.clone(), Refusal::UnknownApiKey),
            (format!("{id}_"), Refusal::UnknownApiKey),
            (format!("{key}x"), Refusal::UnknownApiKey),
            (key.replace("tgk_", "tgx_"), Refusal::NoApiKey),
            (String::new(), Refusal::NoApiKey),
            ("tgk_abc".into(), Refusal::NoApiKey),
        ] {
            assert_eq!(keys.verify(presented.as_bytes(), 0), Err(refusal), "{presented}");
        }
        assert_eq!(keys.verify(b"\xff", 0), Err(Refusal::NoApiKey));
    }

    #[test]
    fn keys_end_with_their_last_day_or_when_they_are_revoked() {
        let (key, line) = create(&[7; 38]);
        let dated = keys(&format!("{line} expires=2026-02-28"));
        // 2026-03-01 00:00 UTC.
        assert!(dated.verify(key.as_bytes(), 1_772_323_199).is_ok());
        assert_eq!(dated.verify(key.as_bytes(), 1_772_323_200), Err(Refusal::ApiKeyExpired));
        assert_eq!(keys(&format!("{line} revoked")).verify(key.as_bytes(), 0), Err(Refusal::ApiKeyRevoked));
        let wrong = create(&[7; 38]).0.replace("BwcH", "CwcH");
        assert_eq!(keys(&format!("{line} revoked")).verify(wrong.as_bytes(), 0), Err(Refusal::UnknownApiKey));
    }

    #[test]
    fn keys_have_their_own_quota_or_the_usual_one() {
        let (key, line) = create(&[7; 38]);
        let usual = Quota { day: Some(5), month: Some(9) };
        for (words, day, month) in [
            ("", Some(5), Some(9)),
            ("day=7", Some(7), Some(9)),
            ("month=1000000000000 sub=ann day=1", Some(1), Some(REQUESTS_MAX)),
            ("day=off", None, Some(9)),
            ("day=off month=off", None, None),
        ] {
            let mut keys = ApiKeys::read("x-api-key".into(), &format!("{line} {words}"), usual).unwrap();
            let quota = Quota { day, month };
            assert_eq!(keys.with_quota().is_none(), quota.is_none(), "{words}");
            let before = keys.verify(key.as_bytes(), 0).unwrap();
            assert!(before.account().is_none() && !before.has("day") && !before.has("month"));
            keys.count_in(Arc::new(Ledger::new("used".as_ref())));
            let claims = keys.verify(key.as_bytes(), 0).unwrap();
            assert_eq!(claims, before);
            assert_eq!(claims.account().is_some(), !quota.is_none(), "{words}");
            if let Some(account) = claims.account() {
                assert_eq!(format!("{account:?}"), format!("{quota:?}"));
            }
        }
        assert!(keys(&line).with_quota().is_none());
    }

    #[test]
    fn lines_that_say_nothing_are_told() {
        let (_, line) = create(&[7; 38]);
        for (text, number, what) in [
            ("a".to_owned(), 1, "it has no hash"),
            ("\n\na-b x".to_owned(), 3, "\"a-b\" is no id"),
            ("a 00".to_owned(), 1, "no SHA-256"),
            (format!("{line} sub"), 1, "\"sub\" is neither NAME=VALUE"),
            (format!("{line} sub="), 1, "\"sub=\" is neither"),
            (format!("{line} key=other"), 1, "the key's own id"),
            (format!("{line} expires=tomorrow"), 1, "\"tomorrow\" is no date"),
            (format!("{line} expires=2026-02-29"), 1, "\"2026-02-29\" is no date"),
            (format!("{line} day=0"), 1, "\"0\" is no number of requests"),
            (format!("{line} day=+5"), 1, "\"+5\" is no number of requests"),
            (format!("{line} month=1000000000001"), 1, "is no number of requests"),
            (format!("{line} month=many"), 1, "\"many\" is no number of requests"),
            (format!("{line} sub=a\n{line} sub=b"), 2, "stands twice"),
        ] {
            let wrong = ApiKeys::read("x-api-key".into(), &text, Quota::default()).unwrap_err();
            assert!(wrong.line == number && wrong.what.contains(what), "{text}: {wrong:?}");
        }
        assert!(keys("").is_empty() && keys("# none\n").is_empty());
    }
}
