//! Owns the names of routes that were given none: made of what they match, so that metrics and logs say something
//! and a reload that moves routes around keeps their counters. Does not decide what a given name may hold.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::config::document_route::RouteEntry;
use crate::config::value::NAME_BYTES_MAX;
use crate::proxy::rule::{HostMatch, PathMatch, Segment};

/// The names taken so far.
#[derive(Debug)]
pub struct RouteNames {
    /// How often each was made.
    taken: HashMap<String, u32>,
}

impl RouteNames {
    /// `given`: the names that routes were given, which are never made.
    pub fn new<'n>(given: impl Iterator<Item = &'n str>) -> Self {
        RouteNames { taken: given.map(|name| (name.to_owned(), 1)).collect() }
    }

    /// The given name, or one such as `POST api.example.com/v2/**`.
    pub fn name_of(&mut self, entry: &RouteEntry<'_>) -> Arc<str> {
        if let Some(name) = &entry.name {
            return name.value.into();
        }
        let mut made = made_of(entry);
        loop {
            let count = self.taken.entry(made.clone()).or_insert(0);
            *count += 1;
            match *count {
                1 => return made.into(),
                // Almost always free; if somebody gave just this name, the next round makes another.
                count => made = format!("{made}#{count}"),
            }
        }
    }
}

fn made_of(entry: &RouteEntry<'_>) -> String {
    let conditions = &entry.conditions;
    let mut name = conditions.methods.join("|");
    if !name.is_empty() {
        name.push(' ');
    }
    match conditions.hosts.first() {
        Some(HostMatch::Exact(host)) => name.push_str(host),
        Some(HostMatch::Suffix(host)) => _ = write!(name, "*{host}"),
        None => {}
    }
    match conditions.paths.first() {
        Some(path) => push_path(&mut name, path),
        None if name.is_empty() => name.push_str("any"),
        None => {}
    }
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '_' };
    // Room for the number of a repeated name.
    name.trim_end().chars().map(printable).take(NAME_BYTES_MAX - 16).collect()
}

fn push_path(name: &mut String, path: &PathMatch) {
    match path {
        PathMatch::Exact(text) => name.push_str(text),
        PathMatch::Prefix(text) => _ = write!(name, "{text}/**"),
        PathMatch::Regex(regex) => _ = write!(name, "~{}", regex.as_str()),
        PathMatch::Segments(segments) => {
            for segment in segments {
                match segment {
                    Segment::Literal(text) => _ = write!(name, "/{text}"),
                    Segment::Named(text) => _ = write!(name, "/{{{text}}}"),
                    Segment::Any => name.push_str("/*"),
                    Segment::Rest => name.push_str("/**"),
                }
            }
        }
    }
}
