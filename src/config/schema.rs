//! Owns what is asked of the list of all keys (`table`): whether there is one, where it belongs, and the reference that
//! docs/configuration.md prints. Does not read values.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

pub use table::{LATER, sections};

mod table;

/// One table of a config file. `*` in a path stands for a name that the operator chooses.
#[derive(Debug)]
pub struct Section {
    pub path: &'static str,
    /// As written in a file.
    pub header: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    /// `*`: any name.
    pub name: &'static str,
    pub kind: &'static str,
    /// `required`, `none`, or the value as it would be written.
    pub default: &'static str,
    pub doc: &'static str,
}

/// The section of this path; every path that the reader opens is in the table (a test opens them all).
pub fn section(path: &str) -> Option<&'static Section> {
    index().sections.get(path).copied()
}

/// Whether a section may hold this key, as a value or as a table of its own.
pub fn knows(path: &str, key: &str) -> bool {
    index().children.get(path).is_some_and(|known| known.contains(&key) || known.contains(&"*"))
}

/// The path of the section `key` inside the section `path`. Asked only for sections that are in the table.
pub fn child(path: &str, key: &str) -> &'static str {
    let found = index().nested.get(&(path, key)).copied();
    debug_assert!(found.is_some(), "the schema has no section {path}.{key}");
    found.unwrap_or("")
}

/// All names that a section may hold.
pub fn names(path: &str) -> &'static [&'static str] {
    index().children.get(path).map_or(&[], |names| names.as_slice())
}

/// A section, other than `path`, that has a key of this name.
pub fn elsewhere(path: &str, key: &str) -> Option<&'static Section> {
    sections().find(|section| section.path != path && section.keys.iter().any(|known| known.name == key))
}

/// What a key that this version does not have yet will do.
pub fn later(path: &str, key: &str) -> Option<&'static str> {
    LATER.iter().find(|(section, name, _)| *section == path && *name == key).map(|&(_, _, what)| what)
}

/// The reference part of docs/configuration.md.
pub fn reference_markdown() -> String {
    let mut out = String::new();
    for section in sections() {
        let title =
            if section.path.is_empty() { section.header.to_owned() } else { format!("`{}`", section.header) };
        let _ = write!(out, "### {title}\n\n{}\n\n", section.doc);
        out.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let path = full_path(section, key);
            let _ = writeln!(
                out,
                "| `{path}` | {} | {} | {} |",
                key.kind,
                default_markdown(key.default),
                key.doc
            );
        }
        out.push('\n');
    }
    out.push_str("### Not in this version\n\nThese are refused with an error that says so:\n\n");
    for (path, name, what) in LATER {
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let _ = writeln!(out, "- `{path}`: {what}");
    }
    out
}

fn full_path(section: &Section, key: &Key) -> String {
    if section.path.is_empty() { key.name.to_owned() } else { format!("{}.{}", section.path, key.name) }
}

fn default_markdown(default: &str) -> String {
    match default {
        "required" | "none" | "every" => default.to_owned(),
        words if words.contains("of `") => words.to_owned(),
        value => format!("`{value}`"),
    }
}

struct Index {
    /// (section, key) to the section's path.
    nested: HashMap<(&'static str, &'static str), &'static str>,
    sections: HashMap<&'static str, &'static Section>,
    children: HashMap<&'static str, Vec<&'static str>>,
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        let split = |path: &'static str| path.rsplit_once('.').unwrap_or(("", path));
        let nested = sections().map(|section| (split(section.path), section.path)).collect();
        for section in sections() {
            children.entry(section.path).or_default().extend(section.keys.iter().map(|key| key.name));
            let mut path = section.path;
            while !path.is_empty() {
                let (parent, name) = split(path);
                let siblings = children.entry(parent).or_default();
                if !siblings.contains(&name) {
                    siblings.push(name);
                }
                path = parent;
            }
        }
        Index { nested, sections: sections().map(|section| (section.path, section)).collect(), children }
    })
}

const fn key(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}
