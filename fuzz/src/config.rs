//! Checks of the config compiler: it never panics, every diagnostic points into the text and is short, there are
//! errors exactly where there is no configuration, and the same text compiles to the same again.

use std::path::Path;

use tidegate::config::diagnostic::decode;
use tidegate::config::snapshot::Snapshot;
use tidegate::config::{Diagnostics, Registry, Resolutions, compile};

/// Any bytes as a config file.
pub fn config(data: &[u8]) {
    let file = Path::new("/etc/edge.toml");
    let text = match decode(file, data) {
        Ok(text) => text,
        Err(diagnostics) => {
            assert_eq!(diagnostics.error_count(), 1);
            let readable = data.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            return places_are_inside(&diagnostics, readable);
        }
    };
    let (first, second) = (compiled(file, text), compiled(file, text));
    places_are_inside(&first.0, text);
    assert_eq!(first.0.to_string(), second.0.to_string());
    assert_eq!(first.1.is_none(), first.0.has_errors());
    assert_eq!(first.1, second.1);
}

/// What is wrong, and what it compiled to, in words.
fn compiled(file: &Path, text: &str) -> (Diagnostics, Option<String>) {
    let mut registry = Registry::new();
    let compiled = compile(file, text, None, &mut registry);
    let snapshot = compiled.blueprint.map(|blueprint| {
        let snapshot = blueprint.snapshot(None, &mut registry, &Resolutions::new());
        // A reload of the same file has nothing to warn about that was not said at start.
        let again = compile(file, text, Some(&snapshot), &mut registry);
        assert_eq!(again.diagnostics.to_string(), compiled.diagnostics.to_string());
        in_words(&snapshot)
    });
    (compiled.diagnostics, snapshot)
}

/// All of a snapshot but its hash tables, whose order is not a property.
fn in_words(snapshot: &Snapshot) -> String {
    let Snapshot { settings, listeners, routes, services, .. } = snapshot;
    format!("{settings:?} {listeners:?} {:?} {services:?}", routes.routes())
}

fn places_are_inside(diagnostics: &Diagnostics, text: &str) {
    assert!(diagnostics.iter().count() <= Diagnostics::SHOWN_MAX);
    for one in diagnostics {
        let line = text.split('\n').nth(one.line as usize - 1).expect("the line is in the file");
        let columns = 1..=line.chars().count() as u32 + 1;
        assert!(columns.contains(&one.column), "{one}");
        assert!(one.to_string().len() < 8192, "{one}");
    }
}
