//! Reads `--name value` and `--name` flags; every flag must be one that the command knows.
//! Values stay text until a typed getter is asked for them.

use std::collections::BTreeMap;
use std::str::FromStr;

pub struct Args {
    values: BTreeMap<String, String>,
}

impl Args {
    /// `valued` flags take the next word (or `--flag=word`); `switches` stand alone.
    pub fn parse(words: &[String], valued: &[&str], switches: &[&str]) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let flag = word.strip_prefix("--").ok_or_else(|| format!("unexpected `{word}`"))?;
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let value = if switches.contains(&name) && inline.is_none() {
                String::new()
            } else if valued.contains(&name) {
                inline.or_else(|| words.next().cloned()).ok_or_else(|| format!("--{name} needs a value"))?
            } else {
                return Err(format!("unknown flag `{word}`"));
            };
            values.insert(name.to_owned(), value);
        }
        Ok(Self { values })
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| format!("--{name}: `{text}` is not valid here")))
            .transpose()
    }

    pub fn required<T: FromStr>(&self, name: &str) -> Result<T, String> {
        self.get(name)?.ok_or_else(|| format!("--{name} is needed"))
    }
}
