//! Owns the compiled form of a route table: one trie of path segments per host, whose edges (and the hosts, and
//! the values of fields that many routes tell apart) all live in one hash table. Answers "which is the first route"
//! in time that depends on the request and hardly on the number of routes; what cannot be indexed (regular
//! expressions) is tried in order. Never allocates in a lookup. Its meaning is `Route::matches`, nothing more;
//! `build` makes it.
//!
//! ```text
//! (HOSTS, "api.example.com") → host ┐
//! (SUFFIXES, ".example.com") → host ┼ (host, "v2") → node ── (node, "models") → node …
//! no host                    → host ┘   each: ends here / goes on below / any segment →
//! ```
//! A lookup walks every branch that fits and keeps the least route that holds; a branch whose least route is not
//! less than that is not entered. With 100,000 routes it costs what it misses in the caches, so a node is one cache
//! line with its label and its usual one candidate inside, and a node lies right before its children.

use crate::balance::hash::xxh64;
use crate::proxy::path::query_values;
use crate::proxy::route::{HostBuffer, RouteInput};
use crate::proxy::rule::{PathMatch, Route};

mod build;

#[derive(Debug)]
pub(super) struct Index {
    nodes: Box<[Node]>,
    edges: Edges,
    /// Labels too long for their nodes, end to end.
    text: Box<[u8]>,
    lists: Box<[List]>,
    candidates: Box<[Candidate]>,
    switches: Box<[Switch]>,
    /// Method n of some route is bit n of `Candidate::methods`.
    methods: Vec<Box<str>>,
    has_exact_hosts: bool,
    /// Bit n: some `*.` host has n dots (31: or more). Tells which suffixes of a host are worth a lookup.
    suffix_dots: u32,
}

/// A place in a trie. No path ends at a host's own node; its `ends` are routes whose path has to be tested.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Node {
    parent: u32,
    /// The least route in this node and all below it.
    least: u32,
    /// The child that any non-empty segment leads to, or `NONE`.
    any: u32,
    /// The one child by label; `NONE`, or `MANY`: then the edges know them.
    child: u32,
    /// If the path ends here.
    ends: Found,
    /// Wherever the path goes from here.
    below: Found,
    label: Label,
}

/// No candidate (route `NONE`), one, or a list by its number.
#[derive(Debug, Clone, Copy)]
struct Found {
    number: u32,
    /// As in `Candidate`.
    methods: u16,
    conditional: bool,
    is_list: bool,
}

/// A route that matches if its other conditions do.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    route: u32,
    /// Bits of the methods that it takes.
    methods: u16,
    /// More than host, path, method and the values of switches passed has to be checked.
    conditional: bool,
}

/// Candidates in ascending order, and switches over more of them.
#[derive(Debug, Clone, Copy)]
struct List {
    candidates: Range,
    switches: Range,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    start: u32,
    len: u32,
}

/// Routes of one list told apart by the value of one field: the edge (`node`, value) leads to them.
#[derive(Debug)]
struct Switch {
    kind: FieldKind,
    name: Box<str>,
    node: u32,
    least: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FieldKind {
    Header,
    Query,
}

impl Index {
    pub(super) fn new(routes: &[Route]) -> Index {
        build::index(routes)
    }

    /// The number of the first route that matches.
    pub(super) fn first<I: RouteInput>(&self, routes: &[Route], input: &I) -> Option<usize> {
        let method = self.method_bit(input);
        let path = input.path().strip_prefix(b"/");
        let mut search = Search { index: self, routes, input, method, path, best: NONE };
        if self.has_exact_hosts || self.suffix_dots != 0 {
            let mut buffer = HostBuffer::new();
            let host = buffer.fill(input.host());
            if let Some(exact) = self.exact_host(host) {
                search.try_host(exact);
            }
            self.each_suffix(host, |suffix| search.try_host(suffix));
        }
        search.try_host(NO_HOST);
        (search.best != NONE).then_some(search.best as usize)
    }

    fn exact_host(&self, host: &[u8]) -> Option<u32> {
        if self.has_exact_hosts && !host.is_empty() { self.edge(HOSTS, host) } else { None }
    }

    /// Calls `visit` for every `*.` host that `host` falls under.
    fn each_suffix(&self, host: &[u8], mut visit: impl FnMut(u32)) {
        let mut dots = 0;
        let mut left = self.suffix_dots;
        for at in (1..host.len()).rev() {
            if left == 0 {
                return;
            }
            if host[at] != b'.' {
                continue;
            }
            dots += 1;
            let bit = 1 << dots.min(DOTS_BIT_MAX);
            if left & bit == 0 {
                continue;
            }
            if let Some(suffix) = self.edge(SUFFIXES, &host[at..]) {
                visit(suffix);
            }
            if dots < DOTS_BIT_MAX {
                left &= !bit;
            }
        }
    }

    /// 0 for a method that no route names: it fits only candidates that take every method.
    fn method_bit<I: RouteInput>(&self, input: &I) -> u16 {
        let bit = self.methods.iter().position(|method| method.as_bytes() == input.method());
        bit.map_or(0, |bit| 1 << bit)
    }

    fn child(&self, id: u32, label: &[u8]) -> Option<u32> {
        match self.nodes[id as usize].child {
            NONE => None,
            MANY => self.edge(id, label),
            only => (self.label(only) == label).then_some(only),
        }
    }

    fn edge(&self, parent: u32, label: &[u8]) -> Option<u32> {
        let is_meant = |id| self.nodes[id as usize].parent == parent && self.label(id) == label;
        self.edges.find(hash(parent, label), is_meant)
    }

    fn label(&self, id: u32) -> &[u8] {
        self.nodes[id as usize].label.of(&self.text)
    }

    #[cfg(test)]
    pub(super) fn switch_count(&self) -> usize {
        self.switches.len()
    }
}

struct Search<'s, I> {
    index: &'s Index,
    routes: &'s [Route],
    input: &'s I,
    /// Bit of the request's method.
    method: u16,
    /// The segments; `None` for what is no path, such as `*`.
    path: Option<&'s [u8]>,
    /// The least route found so far.
    best: u32,
}

impl<I: RouteInput> Search<'_, I> {
    fn try_host(&mut self, id: u32) {
        let host = &self.index.nodes[id as usize];
        if host.least >= self.best {
            return;
        }
        match self.path {
            Some(path) => self.descend(id, Some(path)),
            None => self.try_found(&host.below),
        }
        if host.ends.is_list {
            self.try_tested(&self.index.lists[host.ends.number as usize]);
        }
    }

    /// Walks `rest`, the segments still to come (`None` after the last one), down from `id`. Recurses only where
    /// a route has `*` or a name, so no deeper than the config's own paths.
    fn descend(&mut self, mut id: u32, mut rest: Option<&[u8]>) {
        while id != NONE {
            let node = &self.index.nodes[id as usize];
            if node.least >= self.best {
                return;
            }
            self.try_found(&node.below);
            let Some(path) = rest else { return self.try_found(&node.ends) };
            // Spares a look at the next nodes, which would be misses in the caches.
            if node.least >= self.best || (node.any == NONE && node.child == NONE) {
                return;
            }
            let (segment, after) = split_segment(path);
            if node.any != NONE && !segment.is_empty() {
                self.descend(node.any, after);
            }
            id = self.index.child(id, segment).unwrap_or(NONE);
            rest = after;
        }
    }

    /// Candidates whose host and path are known to match.
    fn try_found(&mut self, found: &Found) {
        if found.is_list {
            self.try_list(&self.index.lists[found.number as usize]);
        } else if found.number < self.best && self.holds(found.candidate()) {
            self.best = found.number;
        }
    }

    fn try_list(&mut self, list: &List) {
        let index = self.index;
        for &candidate in list.candidates.of(&index.candidates) {
            if candidate.route >= self.best {
                break;
            }
            if self.holds(candidate) {
                self.best = candidate.route;
                break;
            }
        }
        for switch in list.switches.of(&index.switches) {
            if switch.least < self.best {
                self.try_switch(switch);
            }
        }
    }

    fn try_switch(&mut self, switch: &Switch) {
        let (index, input) = (self.index, self.input);
        let mut try_value = |value: &[u8]| {
            if let Some(id) = index.edge(switch.node, value) {
                self.try_found(&index.nodes[id as usize].ends);
            }
            false
        };
        match switch.kind {
            FieldKind::Header => _ = input.any_header(&switch.name, &mut try_value),
            FieldKind::Query => {
                query_values(input.query(), &switch.name).for_each(|value| _ = try_value(value))
            }
        }
    }

    /// Candidates whose path has still to be tested.
    fn try_tested(&mut self, list: &List) {
        for &candidate in list.candidates.of(&self.index.candidates) {
            if candidate.route >= self.best {
                break;
            }
            if self.holds(candidate) && self.path_holds(candidate) {
                self.best = candidate.route;
                break;
            }
        }
    }

    fn holds(&self, candidate: Candidate) -> bool {
        let any_method = candidate.methods == ANY_METHOD;
        (any_method || candidate.methods & self.method != 0)
            && (!candidate.conditional || self.routes[candidate.route as usize].conditions.rest_holds(self.input))
            // What is no path has not been walked: it may be under a host's `/**` or under no condition at all.
            && (self.path.is_some() || self.path_holds(candidate))
    }

    fn path_holds(&self, candidate: Candidate) -> bool {
        let paths = &self.routes[candidate.route as usize].conditions.paths;
        paths.is_empty() || paths.iter().any(|wanted| wanted.matches(self.input.path()))
    }
}

fn split_segment(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    }
}

/// False for what has to be tested in order: regular expressions, and texts that are no path (such as `*`).
fn is_indexed(path: &PathMatch) -> bool {
    match path {
        PathMatch::Exact(text) => text.starts_with('/'),
        PathMatch::Prefix(text) => text.is_empty() || text.starts_with('/'),
        PathMatch::Segments(segments) => !segments.is_empty(),
        PathMatch::Regex(_) => false,
    }
}

impl Found {
    fn candidate(self) -> Candidate {
        Candidate { route: self.number, methods: self.methods, conditional: self.conditional }
    }
}

impl Range {
    fn of<T>(self, all: &[T]) -> &[T] {
        &all[self.start as usize..self.start as usize + self.len as usize]
    }
}

/// The text of the edge into a node: here if it fits, else in `Index::text` from `start` on.
#[derive(Debug, Clone, Copy)]
struct Label {
    start: u32,
    len: u32,
    inline: [u8; LABEL_INLINE_BYTES],
}

impl Label {
    fn of<'l>(&'l self, text: &'l [u8]) -> &'l [u8] {
        let len = self.len as usize;
        if len <= LABEL_INLINE_BYTES {
            &self.inline[..len]
        } else {
            &text[self.start as usize..self.start as usize + len]
        }
    }
}

/// Open addressing over node numbers; the key of an edge is found in the node it leads to.
#[derive(Debug)]
struct Edges {
    slots: Box<[Slot]>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// High half of the hash: spares most looks at nodes that are not meant.
    tag: u32,
    node: u32,
}

impl Edges {
    fn new(count: usize) -> Edges {
        // Two thirds full: small enough to stay in the caches, empty enough for short probes.
        let slots = count + count / 2 + 2;
        Edges { slots: vec![Slot { tag: 0, node: NONE }; slots].into_boxed_slice() }
    }

    /// The key must not be there yet.
    fn insert(&mut self, hash: u64, node: u32) {
        let mut at = self.home(hash);
        while self.slots[at].node != NONE {
            at = self.after(at);
        }
        self.slots[at] = Slot { tag: (hash >> 32) as u32, node };
    }

    /// Every probe ends, since some slots are empty.
    fn find(&self, hash: u64, is_meant: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot.node == NONE {
                return None;
            }
            if slot.tag == (hash >> 32) as u32 && is_meant(slot.node) {
                return Some(slot.node);
            }
            at = self.after(at);
        }
    }

    /// The low half of the hash, scaled to the number of slots.
    fn home(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }
}

fn hash(parent: u32, label: &[u8]) -> u64 {
    xxh64(label, u64::from(parent))
}

const NONE: u32 = u32::MAX;
const MANY: u32 = NONE - 1;
/// Parents that are no nodes; every number from `KINDS_FROM` on is one of these.
const HOSTS: u32 = NONE - 2;
const SUFFIXES: u32 = NONE - 3;
const SWITCHES: u32 = NONE - 4;
const KINDS_FROM: u32 = SWITCHES;
/// The node of routes without a host.
const NO_HOST: u32 = 0;
const ANY_METHOD: u16 = u16::MAX;
/// Fewer than the bits of a mask, so that no mask of some methods is `ANY_METHOD`.
const METHODS_MAX: usize = 15;
const DOTS_BIT_MAX: u32 = 31;
/// What is left of a cache line.
const LABEL_INLINE_BYTES: usize = 24;
const _: () = assert!(size_of::<Node>() == 64);
