//! Owns the configuration as it is shown to an operator: what the file says, what it leaves out by the schema's defaults, and
//! no secret (`redact`). JSON, as all that the admin endpoint tells programs: whoever reads one of its answers can read this
//! one, and the file itself is TOML that nobody need write again. Judges nothing: the text has been compiled before.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{redact, schema};

/// What `text` says. Settings that only a restart changes are those of `at_start`.
pub fn effective(text: &str, at_start: &str) -> Result<Value, String> {
    let mut shown = parse(text)?;
    // The same text until the first reload.
    let mut before = if std::ptr::eq(text, at_start) { shown.clone() } else { parse(at_start)? };
    follow_tls(&mut before, &shown);
    for key in START_ONLY {
        match before.remove(key) {
            Some(value) => shown.insert(key.to_owned(), value),
            None => shown.remove(key),
        };
    }
    for key in ALWAYS {
        shown.entry(key).or_insert_with(|| Value::Object(Map::new()));
    }
    let mut filler = Filler::default();
    filler.table(&mut shown, "");
    Ok(Value::Object(shown))
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    // Not the parser's own words, which quote the text.
    toml::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|_| "the file cannot be read again".to_owned())
}

/// The admin endpoint's TLS changes with a reload, unless who may ask changes with it (`compile`).
fn follow_tls(before: &mut Map<String, Value>, now: &Map<String, Value>) {
    let tls = |file: &Map<String, Value>| file.get("admin")?.get("tls").cloned();
    let asks = |tls: &Value| tls.get("client_roots").is_some();
    if let (Some(then), Some(now)) = (tls(before), tls(now))
        && asks(&then) == asks(&now)
    {
        before["admin"]["tls"] = now;
    }
}

const START_ONLY: [&str; 3] = ["workers", "driver", "admin"];
/// Tables that mean something when they are not there.
const ALWAYS: [&str; 9] =
    ["log", "reload", "shutdown", "dns", "limits", "timeouts", "pool", "splice", "forward"];
const ALWAYS_OF_SERVICES: [&str; 2] = ["retry", "outlier"];
/// Keys that mean something only beside others: their defaults would be refused in a file that has not got these.
const BESIDE_OTHERS: [(&str, &str); 8] = [
    ("admin.tls", "client_certificates"),
    ("listen.*", "http2"),
    ("listen.*.tls", "client_certificates"),
    ("service.*", "hash_by"),
    ("service.*.health", "path"),
    ("service.*.health", "status"),
    ("service.*.health", "service"),
    ("auth.*.jwt", "refresh"),
];

/// Walks a file by the schema.
#[derive(Default)]
struct Filler {
    /// By section; parsed once, not for every one of 100,000 routes.
    defaults: HashMap<&'static str, Vec<(&'static str, Value)>>,
}

impl Filler {
    fn table(&mut self, table: &mut Map<String, Value>, path: &str) {
        if path == "service.*" {
            for key in ALWAYS_OF_SERVICES {
                table.entry(key).or_insert_with(|| Value::Object(Map::new()));
            }
        }
        for (key, value) in &mut *table {
            match section_of(path, key) {
                Some(section) => self.value(value, &section),
                None if is_secret(path, key) => hide(value),
                None => hide_in_texts(value),
            }
        }
        for (key, default) in self.defaults_of(path) {
            if !table.contains_key(*key) {
                table.insert((*key).to_owned(), default.clone());
            }
        }
    }

    /// A table, or a list of them; some may be written as something simpler.
    fn value(&mut self, value: &mut Value, path: &str) {
        match value {
            Value::Object(table) => self.table(table, path),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, path)),
            other => hide_in_texts(other),
        }
    }

    fn defaults_of(&mut self, path: &str) -> &[(&'static str, Value)] {
        let Some(section) = schema::section(path) else { return &[] };
        self.defaults.entry(section.path).or_insert_with(|| {
            let keys = section.keys.iter().filter(|key| !BESIDE_OTHERS.contains(&(section.path, key.name)));
            keys.filter_map(|key| Some((key.name, default(key.default)?))).collect()
        })
    }
}

/// `None`: words, not a value.
fn default(written: &str) -> Option<Value> {
    let mut line: Map<String, Value> = toml::from_str(&format!("default = {written}")).ok()?;
    line.remove("default")
}

/// The section that `key` of the section `path` is, if it is one.
fn section_of(path: &str, key: &str) -> Option<String> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    [below(key), below("*")].into_iter().find(|section| !schema::names(section).is_empty())
}

fn is_secret(path: &str, key: &str) -> bool {
    match schema::section(path) {
        Some(section) if section.keys.iter().any(|known| known.name == key) => {
            (path, key) == ("auth.*.jwt", "secret")
        }
        // A name of the operator's choice: a header, a parameter, a claim.
        _ => redact::is_secret(key),
    }
}

/// Whether there is one may be known.
fn hide(value: &mut Value) {
    match value {
        Value::Bool(_) | Value::Null => {}
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(table) => table.values_mut().for_each(hide),
        Value::Number(_) | Value::String(_) => *value = redact::REDACTED.into(),
    }
}

fn hide_in_texts(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let std::borrow::Cow::Owned(shown) = redact::text(text) {
                *text = shown;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_in_texts),
        Value::Object(table) => table.values_mut().for_each(hide_in_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = r#"
workers = 2
[admin]
address = "127.0.0.1:9180"
[listen.web]
address = "127.0.0.1:8080"
[service.m]
endpoints = ["127.0.0.1:9001", { address = "127.0.0.1:9002" }]
breaker = "adaptive"
[auth.token]
jwt = { secret = "inline-secret", issuer = "https://ann:pw@id.test" }
[[route]]
auth = "token"
to = "m"
match = { header = { x-api-key = "hidden-too", x-seen = "v2" }, query = { token = true } }
[route.request_headers.set]
authorization = "Bearer sk-upstream"
x-who = "{claim:sub}"
"#;

    #[test]
    fn defaults_are_filled_in() {
        let shown = effective(FILE, FILE).unwrap();
        assert_eq!(shown["driver"], "auto");
        assert_eq!(shown["limits"]["body"], "10MiB");
        assert_eq!(shown["admin"]["metrics_public"], false);
        assert_eq!(shown["service"]["m"]["outlier"]["failures"], 5);
        assert_eq!(shown["service"]["m"]["endpoints"][0], "127.0.0.1:9001");
        assert_eq!(shown["service"]["m"]["endpoints"][1]["weight"], 1);
        assert_eq!(shown["service"]["m"]["breaker"], "adaptive");
        assert_eq!(shown["auth"]["token"]["jwt"]["require"], json!(["exp"]));
        assert_eq!(shown["route"][0]["limits"], json!([]));
        assert!(shown["route"][0].get("canary").is_none(), "what is off stays away");
    }

    #[test]
    fn secrets_are_not() {
        let shown = effective(FILE, FILE).unwrap();
        let route = &shown["route"][0];
        assert_eq!(shown["auth"]["token"]["jwt"]["secret"], redact::REDACTED);
        assert_eq!(shown["auth"]["token"]["jwt"]["issuer"], "https://<redacted>@id.test");
        assert_eq!(route["auth"], "token");
        assert_eq!(route["match"]["header"], json!({ "x-api-key": redact::REDACTED, "x-seen": "v2" }));
        assert_eq!(route["match"]["query"], json!({ "token": true }));
        let set = json!({ "authorization": redact::REDACTED, "x-who": "{claim:sub}" });
        assert_eq!(route["request_headers"]["set"], set);
    }

    #[test]
    fn what_only_a_restart_changes_is_as_it_was_at_the_start() {
        let later = FILE.replace("workers = 2", "workers = 3\ndriver = \"epoll\"").replace("9180", "9181");
        let shown = effective(&later, FILE).unwrap();
        assert_eq!((&shown["workers"], &shown["driver"]), (&json!(2), &json!("auto")));
        assert_eq!(shown["admin"]["address"], "127.0.0.1:9180");
    }

    #[test]
    fn the_admins_tls_is_shown_as_it_is_in_force() {
        let with = |tls: &str| FILE.replace("9180\"", &format!("9180\"\n{tls}"));
        let tls = |now: &str, then: &str| effective(&with(now), &with(then)).unwrap()["admin"]["tls"].take();
        let first = "tls = { certificate = \"a.pem\", key = \"a.key\" }";
        let other = "tls = { certificate = \"b.pem\", key = \"b.key\" }";
        let asking = "tls = { certificate = \"b.pem\", key = \"b.key\", client_roots = \"c.pem\" }";
        assert_eq!(
            tls(other, first),
            json!({ "certificate": "b.pem", "key": "b.key", "min_version": "1.2" })
        );
        for (now, then, certificate) in
            [(asking, first, "a.pem"), (first, asking, "b.pem"), ("", first, "a.pem")]
        {
            assert_eq!(tls(now, then)["certificate"], certificate, "{now}");
        }
        assert!(tls(first, "").is_null());
    }
}
