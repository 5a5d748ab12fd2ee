//! Owns the question whether a route can be reached at all, given those above it: it cannot if one of them has a
//! part of its conditions and no others, with the same path or one around it.
//! Finds the mistakes people make (a catch-all first, `/v2/**` above `/v2/models/**`, a copy), not every overlap:
//! lists, regexes and prefixes of headers are compared as written. Linear, by hashing.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::proxy::rule::{Conditions, FieldMatch, FieldTest, HostMatch, PathMatch, Segment};

/// The routes so far.
#[derive(Debug, Default)]
pub struct Reach {
    /// What a route asks for beside its path, and one of its paths; then its index.
    routes: HashMap<([u64; ASPECTS], u64), usize>,
    /// Which aspects are asked for by any route so far, as bits: others need no look-up.
    shapes: HashSet<u8>,
}

/// Hosts, methods, headers, query, listeners, claims, content types, models.
const ASPECTS: usize = 8;

/// An aspect or a path that is not asked for.
const ANY: u64 = 0;

/// Paths of one route that are looked at: each costs a look-up for each of its segments.
const PATHS_MAX: usize = 64;

impl Reach {
    /// Adds the next route. Returns the earlier one that leaves nothing for it.
    pub fn add<'c>(
        &mut self,
        index: usize,
        conditions: &Conditions,
        listeners: impl Iterator<Item = &'c str>,
    ) -> Option<usize> {
        if conditions.paths.len() > PATHS_MAX {
            return None;
        }
        let aspects = [
            any_of(conditions.hosts.iter().map(host_hash)),
            any_of(conditions.methods.iter().map(hash)),
            any_of(conditions.headers.iter().map(field_hash)),
            any_of(conditions.query.iter().map(field_hash)),
            any_of(listeners.map(hash)),
            any_of(conditions.claims.iter().map(field_hash)),
            any_of(conditions.content_types.iter().map(hash)),
            any_of(conditions.models.iter().map(test_hash)),
        ];
        let mut earlier = None;
        let paths: Vec<Vec<u64>> = match conditions.paths.as_slice() {
            [] => vec![vec![ANY]],
            paths => paths.iter().map(around).collect(),
        };
        for path in &paths {
            match self.covers(&aspects, path) {
                // One of its paths is free.
                None => {
                    earlier = None;
                    break;
                }
                found => earlier = earlier.max(found),
            }
        }
        self.shapes.insert(shape(&aspects));
        for path in &paths {
            self.routes.entry((aspects, path[0])).or_insert(index);
        }
        earlier
    }

    /// A route that asks for some of the aspects, and one of the paths (itself and those around it).
    fn covers(&self, aspects: &[u64; ASPECTS], paths: &[u64]) -> Option<usize> {
        let mine = shape(aspects);
        let within = self.shapes.iter().filter(|&&shape| shape & mine == shape);
        let found = within.flat_map(|&shape| {
            let masked = std::array::from_fn(|at| if shape >> at & 1 == 1 { aspects[at] } else { ANY });
            paths.iter().filter_map(move |path| self.routes.get(&(masked, *path)).copied())
        });
        found.min()
    }
}

fn shape(aspects: &[u64; ASPECTS]) -> u8 {
    aspects.iter().enumerate().fold(0, |bits, (at, &aspect)| bits | u8::from(aspect != ANY) << at)
}

/// Independent of order; `ANY` if there are none.
fn any_of(hashes: impl Iterator<Item = u64>) -> u64 {
    let mut hashes: Vec<u64> = hashes.collect();
    if hashes.is_empty() {
        return ANY;
    }
    hashes.sort_unstable();
    hashes.dedup();
    hash(&hashes)
}

/// Never `ANY`. A collision of 64 bits would cost a wrong warning, nothing more.
fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

fn host_hash(host: &HostMatch) -> u64 {
    match host {
        HostMatch::Exact(name) => hash(&(0, name)),
        HostMatch::Suffix(name) => hash(&(1, name)),
    }
}

fn field_hash(field: &FieldMatch) -> u64 {
    hash(&(&field.name, test_hash(&field.test)))
}

fn test_hash(test: &FieldTest) -> u64 {
    match test {
        FieldTest::Present => hash(&0),
        FieldTest::Absent => hash(&1),
        FieldTest::Equals(text) => hash(&(2, text)),
        FieldTest::Prefix(text) => hash(&(3, text)),
        FieldTest::Regex(regex) => hash(&(4, regex.as_str())),
    }
}

/// The path itself, then the patterns that match at least what it matches.
fn around(path: &PathMatch) -> Vec<u64> {
    let mut found = match path {
        PathMatch::Exact(text) => {
            let mut found = vec![hash(&(0, text))];
            found.extend(prefixes(text));
            found
        }
        PathMatch::Prefix(text) => prefixes(text).collect(),
        PathMatch::Segments(segments) => {
            let text = literal_start(segments);
            let own = segments.iter().map(segment_hash).collect::<Vec<_>>();
            let mut found = vec![hash(&(2, own))];
            found.extend(prefixes(&text));
            found
        }
        // It may match what no prefix does: `*`, for one.
        PathMatch::Regex(regex) => vec![hash(&(3, regex.as_str()))],
    };
    found.push(ANY);
    found
}

/// `/a/b/**`, `/a/**` and `/**` for "/a/b".
fn prefixes(text: &str) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(text), |text| text.rsplit_once('/').map(|(parent, _)| parent))
        .map(|text| hash(&(1, text)))
}

/// `/a/b` for "/a/b/{name}/c".
fn literal_start(segments: &[Segment]) -> String {
    let literals = segments.iter().map_while(|segment| match segment {
        Segment::Literal(text) => Some(format!("/{text}")),
        _ => None,
    });
    literals.collect()
}

/// Names do not matter for what is matched.
fn segment_hash(segment: &Segment) -> u64 {
    match segment {
        Segment::Literal(text) => hash(&(0, text)),
        Segment::Named(_) | Segment::Any => hash(&1),
        Segment::Rest => hash(&2),
    }
}
