//! Owns what a verified token says: its claims, looked up by name or by a path into them. Verifies nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::jwt::Refusal;
use super::quota::Account;

#[derive(Debug, Clone)]
pub struct Claims {
    /// A JSON object.
    said: Value,
    /// Of an API key that has a quota.
    account: Option<Arc<Account>>,
}

/// Who says the same is the same.
impl PartialEq for Claims {
    fn eq(&self, other: &Claims) -> bool {
        self.said == other.said
    }
}

impl Claims {
    pub fn new(object: Value) -> Claims {
        Claims { said: object, account: None }
    }

    /// The same, with requests that count.
    pub fn of_account(&self, account: Account) -> Claims {
        Claims { said: self.said.clone(), account: Some(Arc::new(account)) }
    }

    /// Where requests of whoever this is are counted.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// The claim of exactly this name, or what a path of names leads to: `realm_access.roles`.
    pub fn find(&self, path: &str) -> Option<&Value> {
        let whole = self.said.get(path);
        let inner = || path.split('.').try_fold(&self.said, |value, name| value.get(name));
        whole.or_else(inner).filter(|value| !value.is_null())
    }

    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// The texts of a claim: its own, or those of its list. Numbers and booleans are as JSON writes them. A `scope` is its words,
    /// too (RFC 8693 §4.2).
    pub fn texts(&self, path: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let value = self.find(path);
        let items = match value {
            Some(Value::Array(items)) => &items[..],
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        let words = match value {
            Some(Value::String(text)) if path == "scope" && text.contains(' ') => text.as_str(),
            _ => "",
        };
        items.iter().filter_map(text_of).chain(words.split_ascii_whitespace().map(Cow::Borrowed))
    }

    /// The first text of a claim.
    pub fn text(&self, path: &str) -> Option<Cow<'_, str>> {
        self.texts(path).next()
    }

    pub(super) fn is_text(&self, path: &str) -> bool {
        self.find(path).is_some_and(Value::is_string)
    }

    /// Seconds since 1970, `exp`.
    pub fn expires(&self) -> Result<Option<u64>, Refusal> {
        self.date("exp", Refusal::Malformed("its exp is no time"))
    }

    pub(super) fn not_before(&self) -> Result<Option<u64>, Refusal> {
        self.date("nbf", Refusal::Malformed("its nbf is no time"))
    }

    /// RFC 7519 §2, NumericDate: may have a fraction, which is cut off.
    fn date(&self, name: &str, wrong: Refusal) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.said.get(name) else { return Ok(None) };
        let whole = value.as_u64();
        let real = || value.as_f64().filter(|real| (0.0..=9.0e15).contains(real)).map(|real| real as u64);
        whole.or_else(real).map(Some).ok_or(wrong)
    }
}

fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// JSON in which no object says a name twice: which of the two counts is what parsers differ in (RFC 8725 §2.4, RFC 7519 §4).
pub fn unique(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Unique>(text).map(|Unique(value)| value)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        Once.deserialize(deserializer).map(Unique)
    }
}

struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Once)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Once)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        Claims::new(unique(text.as_bytes()).unwrap())
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = claims(
            r#"{"sub":"a","a.b":"whole","a":{"b":"inner","c":[1,"x",true,null,{"y":1}]},"none":null,"scope":"read write"}"#,
        );
        let texts = |path: &str| claims.texts(path).map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(texts("a.b"), ["whole"]);
        assert_eq!(texts("a.c"), ["1", "x", "true"]);
        assert_eq!(texts("scope"), ["read write", "read", "write"]);
        assert!(texts("a").is_empty() && claims.has("a"));
        assert!(!claims.has("none") && !claims.has("a.c.x") && !claims.has("b"));
    }

    #[test]
    fn no_name_stands_twice() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"[{"a":1,"\u0061":2}]"#] {
            assert!(unique(twice.as_bytes()).is_err(), "{twice}");
        }
        assert!(unique(r#"{"a":{"a":1},"b":{"a":1}}"#.as_bytes()).is_ok());
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert!(unique(deep.as_bytes()).is_err(), "as deep as that is nobody's token");
    }

    #[test]
    fn times_are_numbers() {
        assert_eq!(claims(r#"{"exp":12.9}"#).expires(), Ok(Some(12)));
        assert_eq!(claims("{}").expires(), Ok(None));
        for wrong in
            [r#"{"exp":"12"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, r#"{"exp":null}"#, r#"{"exp":[1]}"#]
        {
            assert!(claims(wrong).expires().is_err(), "{wrong}");
        }
    }
}
