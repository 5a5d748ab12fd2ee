//! The documentation has exactly the schema's keys, and the schema's defaults are what the reader reads.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::schema::{elsewhere, knows, later, reference_markdown, sections};
use crate::config::{Registry, compile};

const BEGIN: &str = "<!-- reference: begin -->\n";
const END: &str = "<!-- reference: end -->";

#[test]
fn the_reference_in_the_documentation_is_the_schemas() {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(&document).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the reference begins");
    let (written, after) = rest.split_once(END).expect("the reference ends");
    let expected = format!("\n{}\n", reference_markdown());
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&document, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(written == expected, "docs/configuration.md is not the schema's: run with TIDEGATE_BLESS=1");
}

#[test]
fn every_key_of_the_schema_is_read_and_means_its_default() {
    let text = every_default();
    let compiled = |text: &str| compile(Path::new("edge.toml"), text, None, &mut Registry::new());
    let written = compiled(&text);
    assert!(!written.diagnostics.has_errors(), "{}\n{text}", written.diagnostics);
    let least = compiled(
        "[listen.NAME]\naddress = \"0.0.0.0:1\"\n[service.NAME]\nendpoints = [\"10.0.0.1:1\"]\n[[route]]\nto = \"NAME\"\n",
    );
    let [written, least] = [written, least].map(|compiled| {
        compiled.blueprint.unwrap().snapshot(None, &mut Registry::new(), &Default::default())
    });
    assert_eq!(format!("{:?}", written.settings), format!("{:?}", least.settings));
    assert_eq!(format!("{:?}", written.listeners), format!("{:?}", least.listeners));
    let known = |service: &crate::config::snapshot::Service| {
        format!("{:?} {:?} {:?}", service.timeouts, service.retry, service.health)
    };
    assert_eq!(known(&written.services[0]), known(&least.services[0]));
}

/// A file with every key that has a default written out.
fn every_default() -> String {
    let mut text = String::new();
    for section in sections()
        .filter(|section| !section.path.starts_with("route") && !section.path.ends_with("endpoints"))
        .filter(|section| {
            !section.path.ends_with("proxy_protocol")
                && !section.path.starts_with("listen.*.tls")
                && !section.path.starts_with("admin.tls")
                && !section.path.ends_with(".sni")
                && !section.path.starts_with("auth.")
                && !section.path.starts_with("limit.")
                && !section.path.ends_with(".health")
                && !section.path.ends_with(".breaker")
                && !section.path.ends_with(".concurrency")
                && !section.path.contains(".model")
                && !section.path.ends_with(".per_address")
        })
    {
        if !section.path.is_empty() {
            text.push_str(&format!("[{}]\n", section.path.replace('*', "NAME")));
        }
        for key in section.keys {
            let value = match (section.path, key.name) {
                ("listen.*", "address") => "\"0.0.0.0:1\"",
                ("authorizer.*", "to") => "\"NAME\"",
                ("service.*", "endpoints") => "[\"10.0.0.1:1\"]",
                ("service.*", "hash_by") => continue,
                _ if is_a_value(key.default) => key.default,
                _ => continue,
            };
            text.push_str(&format!("{} = {value}\n", key.name));
        }
    }
    text.push_str("[[route]]\nto = \"NAME\"\n");
    text
}

fn is_a_value(default: &str) -> bool {
    DeValue::parse(default).is_ok()
}

/// `Section::value` parses these at run time and counts on it.
#[test]
fn defaults_are_toml_or_words() {
    for key in sections().flat_map(|section| section.keys) {
        let words = ["required", "none", "every", "that of", "those", "the endpoint", "made of"];
        let word = words.iter().any(|word| key.default.starts_with(word));
        assert!(word != is_a_value(key.default), "{}: {}", key.name, key.default);
        assert!(
            !key.doc.contains('|') && !key.kind.contains('|'),
            "a `|` would break the table: {}",
            key.name
        );
    }
}

#[test]
fn paths_are_in_order_and_each_stands_once() {
    for (at, section) in sections().enumerate() {
        assert!(sections().take(at).all(|other| other.path != section.path), "{} stands twice", section.path);
        for (at, key) in section.keys.iter().enumerate() {
            assert!(
                section.keys[..at].iter().all(|other| other.name != key.name),
                "{} stands twice",
                key.name
            );
            assert!(knows(section.path, key.name) && later(section.path, key.name).is_none());
        }
    }
    assert!(
        knows("", "listen") && knows("service.*", "timeouts") && knows("route.match.header", "x-anything")
    );
    assert!(!knows("", "listne") && !knows("route", "x"));
    assert_eq!(elsewhere("route", "strip_prefix").unwrap().path, "route.rewrite");
}

#[test]
fn what_other_proxies_call_it_leads_to_a_key_that_exists() {
    for (section, words, ours) in crate::config::suggest::SYNONYMS {
        let (path, name) = ours.rsplit_once('.').map_or((*section, *ours), |(table, name)| {
            (sections().find(|known| known.path == format!("{section}.{table}")).unwrap().path, name)
        });
        let table = sections().any(|known| known.path == format!("{section}.{ours}"));
        assert!(knows(path, name) || table, "{section}: {words:?} leads to {ours}");
        for word in *words {
            assert!(!knows(section, word), "{section}: {word} is a key");
            assert!(later(section, word).is_none(), "{section}: {word} comes later");
        }
    }
}

#[test]
fn the_examples_are_valid_and_without_warnings() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&file).unwrap();
            let compiled = compile(&file, &text, None, &mut Registry::new());
            assert!(compiled.diagnostics.is_empty(), "{}", compiled.diagnostics);
            count += 1;
        }
    }
    assert!(count >= 3);
}

/// Every TOML block of the documentation, completed with the services that it names.
#[test]
fn the_documentations_examples_are_valid() {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(document).unwrap();
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        let mut whole = block.to_owned();
        if !block.contains("[listen") {
            whole.push_str("[listen.web]\naddress = \"0.0.0.0:1\"\n");
        }
        for name in ["models", "models-stable", "models-v2", "chat", "resolvers"] {
            let parsed = DeTable::parse(&whole).unwrap();
            let known = parsed.get_ref().get("service").and_then(|services| services.get_ref().get(name));
            if known.is_none() {
                whole.push_str(&format!("[service.{name}]\nendpoints = [\"10.0.0.1:1\"]\n"));
            }
        }
        let compiled = compile(Path::new("edge.toml"), &whole, None, &mut Registry::new());
        assert!(!compiled.diagnostics.has_errors(), "{}\n{whole}", compiled.diagnostics);
    }
}
