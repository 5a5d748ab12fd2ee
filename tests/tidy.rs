//! The code keeps the house style that can be counted: every file says what it owns, files and functions stay
//! short, unsafe code is rare, allowed by name, and argued. Exceptions are listed here and may only shrink.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// How many `unsafe` blocks each file may have; exact, so that the list shrinks with the code.
const UNSAFE_ALLOWED: &[(&str, usize)] = &[
    ("src/runtime/cpus.rs", 1),
    ("src/control/signals.rs", 2),
    ("src/http/scan/x86.rs", 9),
    ("src/runtime/memory.rs", 2),
];

/// Functions over the limit, and how long they may be; the list may only shrink.
const LONG_FUNCTIONS_ALLOWED: &[(&str, &str, usize)] = &[];

/// loadtest/ and fuzz/ are tools, not the gateway: their unsafe code is counted by their own SAFETY comments.
const TOOLS: &[&str] = &["loadtest/", "fuzz/", "tests/", "bench/"];

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.name)
        .collect();
    assert!(silent.is_empty(), "these files do not open with `//!` and what they own: {silent:#?}");
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|source| (source.name, source.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "files over {FILE_LINES_MAX} lines: {long:#?}");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut long = Vec::new();
    let mut allowed: Vec<_> = LONG_FUNCTIONS_ALLOWED.to_vec();
    for source in sources() {
        for (function, lines) in functions(&source.text) {
            let place = allowed.iter().position(|(file, name, _)| *file == source.name && *name == function);
            let limit = place.map_or(FUNCTION_LINES_MAX, |place| allowed.remove(place).2);
            if lines > limit {
                long.push(format!("{}: fn {function}: {lines} lines of code", source.name));
            }
        }
    }
    assert!(long.is_empty(), "functions over {FUNCTION_LINES_MAX} lines of code: {long:#?}");
    assert!(allowed.is_empty(), "take these off the allowlist, they are gone: {allowed:#?}");
}

#[test]
fn unsafe_is_rare_and_argued() {
    let mut wrong = Vec::new();
    for source in sources() {
        // This file spells the forms that it looks for.
        if source.name == "tests/tidy.rs" {
            continue;
        }
        let lines: Vec<&str> = source.text.lines().collect();
        let mut count = 0;
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| has_unsafe(line)) {
            count += 1;
            let argued = lines[at.saturating_sub(6)..at].iter().any(|before| before.contains("// SAFETY:"));
            if !argued {
                wrong.push(format!(
                    "{}:{}: unsafe without a SAFETY comment above it: {line}",
                    source.name,
                    at + 1
                ));
            }
        }
        let is_tool = TOOLS.iter().any(|tool| source.name.starts_with(tool));
        let allowed =
            UNSAFE_ALLOWED.iter().find(|(file, _)| *file == source.name).map_or(0, |(_, most)| *most);
        if !is_tool && count != allowed {
            wrong.push(format!("{}: {count} unsafe, the allowlist says {allowed}", source.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_for_later_in_code() {
    // Spelled apart, so that this file does not find itself.
    let marks =
        [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!("), concat!("FIX", "ME")];
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) || line.contains(concat!("TO", "DO")) {
                found.push(format!("{}:{}: {}", source.name, at + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            if !document.parent().unwrap().join(path).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_dependency_is_explained() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let explained = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let missing: Vec<&str> = dependencies
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .filter(|name| !explained.contains(name))
        .collect();
    assert!(missing.is_empty(), "not in docs/dependencies.md: {missing:?}");
}

struct Source {
    name: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the repository, by path from its root.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "bench", "loadtest/src", "fuzz/src", "fuzz/fuzz_targets"] {
        collect(&root().join(folder), "rs", &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| Source { name: name(path), text: fs::read_to_string(path).unwrap() }).collect()
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    collect(&root().join("docs"), "md", &mut found);
    collect(&root().join("loadtest"), "md", &mut found);
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, extension, found);
        } else if entry.extension().is_some_and(|found| found == extension) {
            found.push(entry);
        }
    }
}

fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|form| code.contains(form))
}

/// Name and lines of code (without blank lines and comments) of every function. rustfmt closes a function at
/// the indentation at which it began, which is all the parsing this needs.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let closes = |candidate: &&str| {
            candidate.len() - candidate.trim_start().len() == indent && candidate.trim_end().ends_with('}')
        };
        let Some(length) = lines[at + 1..].iter().position(closes) else { continue };
        let is_code = |line: &&&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        found.push((name, lines[at..=at + 1 + length].iter().filter(is_code).count()));
    }
    found
}

/// Of a line that begins a function with a body on later lines.
fn function_name(line: &str) -> Option<String> {
    let code = line.trim_start();
    let is_start = [
        "fn ",
        "pub fn ",
        "pub(super) fn ",
        "pub(crate) fn ",
        "async fn ",
        "pub async fn ",
        "const fn ",
        "pub const fn ",
        "unsafe fn ",
    ]
    .iter()
    .any(|start| code.starts_with(start));
    let ends_here = code.ends_with(';') || code.ends_with('}');
    let after = code.split("fn ").nth(1)?;
    let name = after.split(|byte: char| !byte.is_alphanumeric() && byte != '_').next()?;
    (is_start && !ends_here).then(|| name.to_owned())
}
