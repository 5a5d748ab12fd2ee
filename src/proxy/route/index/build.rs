//! Owns the making of an `Index`: a draft trie grown route by route, its long lists split by field values, and the
//! result laid out for few cache misses. Runs once per configuration, on the thread that compiles it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::proxy::rule::{FieldMatch, FieldTest, HostMatch, Segment};

pub(super) fn index(routes: &[Route]) -> Index {
    let mut draft = Draft::new(routes);
    for (at, route) in routes.iter().enumerate() {
        draft.insert(at as u32, route);
    }
    draft.split_lists();
    draft.lay_out()
}

/// The index while it grows. Numbers of its nodes are in order of creation; `lay_out` renumbers them.
struct Draft<'r> {
    routes: &'r [Route],
    nodes: Vec<DraftNode>,
    edges: HashMap<(u32, Box<[u8]>), u32>,
    methods: Vec<Box<str>>,
    lists: Vec<List>,
    candidates: Vec<Candidate>,
    switches: Vec<Switch>,
}

struct DraftNode {
    parent: u32,
    label: Box<[u8]>,
    any: Option<u32>,
    /// By label, not `any`.
    children: Vec<u32>,
    ends: Vec<u32>,
    below: Vec<u32>,
    /// Fields that the switches on the way here have checked.
    switched: Vec<(FieldKind, Box<str>)>,
    found_ends: Found,
    found_below: Found,
}

impl<'r> Draft<'r> {
    fn new(routes: &'r [Route]) -> Draft<'r> {
        let mut draft = Draft {
            routes,
            nodes: Vec::new(),
            edges: HashMap::new(),
            methods: common_methods(routes),
            lists: Vec::new(),
            candidates: Vec::new(),
            switches: Vec::new(),
        };
        draft.add(NONE, b"");
        draft
    }

    /// Routes come in ascending order, so every list is in that order too.
    fn insert(&mut self, at: u32, route: &Route) {
        if route.conditions.hosts.is_empty() {
            self.insert_paths(NO_HOST, at, route);
        }
        for host in &route.conditions.hosts {
            let (kind, name) = match host {
                HostMatch::Exact(name) => (HOSTS, name),
                HostMatch::Suffix(suffix) => (SUFFIXES, suffix),
            };
            let node = self.child(kind, name.as_bytes());
            self.insert_paths(node, at, route);
        }
    }

    fn insert_paths(&mut self, host: u32, at: u32, route: &Route) {
        if route.conditions.paths.is_empty() {
            push_once(&mut self.nodes[host as usize].below, at);
        }
        for path in &route.conditions.paths {
            match path {
                PathMatch::Segments(segments) if is_indexed(path) => self.insert_segments(host, segments, at),
                PathMatch::Exact(text) if is_indexed(path) => self.insert_text(host, text, at, false),
                PathMatch::Prefix(text) if is_indexed(path) => self.insert_text(host, text, at, true),
                _ => push_once(&mut self.nodes[host as usize].ends, at),
            }
        }
    }

    fn insert_text(&mut self, mut id: u32, text: &str, at: u32, goes_on: bool) {
        for segment in text.split('/').skip(1) {
            id = self.child(id, segment.as_bytes());
        }
        let node = &mut self.nodes[id as usize];
        push_once(if goes_on { &mut node.below } else { &mut node.ends }, at);
    }

    fn insert_segments(&mut self, mut id: u32, segments: &[Segment], at: u32) {
        for segment in segments {
            id = match segment {
                Segment::Literal(text) => self.child(id, text.as_bytes()),
                Segment::Named(_) | Segment::Any => self.any_child(id),
                Segment::Rest => return push_once(&mut self.nodes[id as usize].below, at),
            };
        }
        push_once(&mut self.nodes[id as usize].ends, at);
    }

    fn any_child(&mut self, parent: u32) -> u32 {
        if let Some(id) = self.nodes[parent as usize].any {
            return id;
        }
        let id = self.add(parent, b"");
        self.nodes[parent as usize].any = Some(id);
        id
    }

    fn child(&mut self, parent: u32, label: &[u8]) -> u32 {
        if let Some(&id) = self.edges.get(&(parent, label.into())) {
            return id;
        }
        let id = self.add(parent, label);
        self.edges.insert((parent, label.into()), id);
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            parent.children.push(id);
        }
        id
    }

    fn add(&mut self, parent: u32, label: &[u8]) -> u32 {
        let id = self.nodes.len() as u32;
        assert!(id < KINDS_FROM, "a route table of over four billion path segments");
        self.nodes.push(DraftNode {
            parent,
            label: label.into(),
            any: None,
            children: Vec::new(),
            ends: Vec::new(),
            below: Vec::new(),
            switched: Vec::new(),
            found_ends: Found::NOTHING,
            found_below: Found::NOTHING,
        });
        id
    }

    /// Turns the lists of every node into what a lookup reads. Splitting one adds nodes, which get their turn.
    fn split_lists(&mut self) {
        let mut id = 0;
        while id < self.nodes.len() {
            let node = &mut self.nodes[id];
            let (ends, below) = (std::mem::take(&mut node.ends), std::mem::take(&mut node.below));
            let switched = node.switched.clone();
            let is_host = node.parent >= KINDS_FROM;
            self.nodes[id].found_ends =
                if is_host { self.tested(&ends) } else { self.split(&ends, &switched) };
            self.nodes[id].found_below = self.split(&below, &switched);
            let node = &mut self.nodes[id];
            (node.ends, node.below) = (ends, below);
            id += 1;
        }
    }

    /// Always a list, in order: their paths have to be tested one by one.
    fn tested(&mut self, list: &[u32]) -> Found {
        if list.is_empty() { Found::NOTHING } else { self.push_list(list, &[], Vec::new()) }
    }

    /// Takes out of a long list the routes that ask for one value of a field, by a switch per field.
    fn split(&mut self, list: &[u32], switched: &[(FieldKind, Box<str>)]) -> Found {
        let mut list = self.reachable(list, switched).to_vec();
        let mut switches = Vec::new();
        while list.len() >= SPLIT_ROUTES_MIN {
            let Some((kind, name)) = commonest_field(self.routes, &list, switched) else { break };
            let (keyed, rest): (Vec<u32>, Vec<u32>) =
                list.iter().partition(|&&at| value_of(&self.routes[at as usize], kind, &name).is_some());
            let mut switched = switched.to_vec();
            switched.push((kind, name.clone()));
            let node = self.add(SWITCHES, b"");
            for &at in &keyed {
                let value = value_of(&self.routes[at as usize], kind, &name).unwrap_or_default();
                let child = self.child(node, value.as_bytes()) as usize;
                self.nodes[child].ends.push(at);
                self.nodes[child].switched.clone_from(&switched);
            }
            switches.push(Switch { kind, name, node, least: keyed[0] });
            list = rest;
        }
        match list.as_slice() {
            [] if switches.is_empty() => Found::NOTHING,
            &[at] if switches.is_empty() => Found::one(self.candidate(at, switched)),
            list => self.push_list(list, switched, switches),
        }
    }

    fn push_list(
        &mut self,
        list: &[u32],
        switched: &[(FieldKind, Box<str>)],
        switches: Vec<Switch>,
    ) -> Found {
        let range = |start: usize, len: usize| Range { start: start as u32, len: len as u32 };
        let number = self.lists.len() as u32;
        self.lists.push(List {
            candidates: range(self.candidates.len(), list.len()),
            switches: range(self.switches.len(), switches.len()),
        });
        let candidates: Vec<Candidate> = list.iter().map(|&at| self.candidate(at, switched)).collect();
        self.candidates.extend(candidates);
        self.switches.extend(switches);
        Found { number, is_list: true, ..Found::NOTHING }
    }

    /// What stands behind a route that always holds is never reached.
    fn reachable<'l>(&self, list: &'l [u32], switched: &[(FieldKind, Box<str>)]) -> &'l [u32] {
        let always = |&at: &u32| {
            let candidate = self.candidate(at, switched);
            let paths = &self.routes[at as usize].conditions.paths;
            // `/**` does not take `*`, which a route without a path behind it does.
            !candidate.conditional && candidate.methods == ANY_METHOD && !paths.iter().any(is_all_paths)
        };
        let end = list.iter().position(always).map_or(list.len(), |at| at + 1);
        &list[..end]
    }

    fn candidate(&self, at: u32, switched: &[(FieldKind, Box<str>)]) -> Candidate {
        let route = &self.routes[at as usize];
        let mask = self.method_mask(&route.conditions.methods);
        let is_switched = |kind, field: &FieldMatch| {
            let is_first =
                value_of(route, kind, &field.name).map(str::as_ptr) == equals(field).map(str::as_ptr);
            is_first && switched.iter().any(|(of_kind, name)| *of_kind == kind && *name == field.name)
        };
        let conditional = mask.is_none()
            || !route.conditions.listeners.is_empty()
            || !route.conditions.claims.is_empty()
            || !route.conditions.content_types.is_empty()
            || !route.conditions.models.is_empty()
            || fields(route).any(|(kind, field)| !is_switched(kind, field));
        Candidate { route: at, methods: mask.unwrap_or(ANY_METHOD), conditional }
    }

    /// `None` if one of them is not among the common ones, so that the route has to be asked.
    fn method_mask(&self, wanted: &[Box<str>]) -> Option<u16> {
        if wanted.is_empty() {
            return Some(ANY_METHOD);
        }
        let bit = |method| self.methods.iter().position(|common| common == method).map(|bit| 1 << bit);
        wanted.iter().try_fold(0, |mask, method| Some(mask | bit(method)?))
    }

    /// Numbers the nodes depth first, children right behind their parent, and makes the final tables.
    fn lay_out(self) -> Index {
        let (order, numbers) = self.depth_first();
        let number = |id: u32| if id < KINDS_FROM { numbers[id as usize] } else { id };
        let mut text = Vec::new();
        let mut nodes: Vec<Node> = Vec::with_capacity(order.len());
        for &id in &order {
            let node = &self.nodes[id as usize];
            let child = match node.children.as_slice() {
                [] => NONE,
                // A switch's children are always asked of the edges.
                [only] if node.parent != SWITCHES => number(*only),
                _ => MANY,
            };
            nodes.push(Node {
                parent: number(node.parent),
                least: node.ends.iter().chain(&node.below).copied().min().unwrap_or(NONE),
                any: node.any.map_or(NONE, number),
                child,
                ends: node.found_ends,
                below: node.found_below,
                label: Label::new(&node.label, &mut text),
            });
        }
        raise_least(&mut nodes);
        let edges = edges(&nodes, &text);
        let mut switches = self.switches;
        switches.iter_mut().for_each(|switch| switch.node = number(switch.node));
        let hosts = |kind| self.nodes.iter().filter(move |node| node.parent == kind);
        let dots = |node: &DraftNode| node.label.iter().filter(|&&byte| byte == b'.').count() as u32;
        Index {
            has_exact_hosts: hosts(HOSTS).next().is_some(),
            suffix_dots: hosts(SUFFIXES).fold(0, |mask, node| mask | 1 << dots(node).min(DOTS_BIT_MAX)),
            nodes: nodes.into(),
            edges,
            text: text.into(),
            lists: self.lists.into(),
            candidates: self.candidates.into(),
            switches: switches.into(),
            methods: self.methods,
        }
    }

    /// All nodes in their final order, and the final number of each.
    fn depth_first(&self) -> (Vec<u32>, Vec<u32>) {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut numbers = vec![NONE; self.nodes.len()];
        let mut stack = Vec::new();
        for start in (0..self.nodes.len() as u32).filter(|&id| self.nodes[id as usize].parent >= KINDS_FROM) {
            stack.push(start);
            while let Some(id) = stack.pop() {
                numbers[id as usize] = order.len() as u32;
                order.push(id);
                let node = &self.nodes[id as usize];
                stack.extend(node.children.iter().rev());
                stack.extend(node.any);
            }
        }
        (order, numbers)
    }
}

/// Parents come before their children, so one pass from the back carries every least route up to its host.
fn raise_least(nodes: &mut [Node]) {
    for id in (0..nodes.len()).rev() {
        let Node { parent, least, .. } = nodes[id];
        if let Some(parent) = nodes.get_mut(parent as usize) {
            parent.least = parent.least.min(least);
        }
    }
}

/// Edges to hosts and to nodes that have siblings; an only child is found without.
fn edges(nodes: &[Node], text: &[u8]) -> Edges {
    let is_edge = |&id: &u32| match nodes[id as usize].parent {
        HOSTS | SUFFIXES => true,
        kind if kind >= KINDS_FROM => false,
        parent => nodes[parent as usize].child == MANY && nodes[parent as usize].any != id,
    };
    let all = || (0..nodes.len() as u32).filter(is_edge);
    let mut edges = Edges::new(all().count());
    for id in all() {
        let node = &nodes[id as usize];
        edges.insert(hash(node.parent, node.label.of(text)), id);
    }
    edges
}

fn is_all_paths(path: &PathMatch) -> bool {
    match path {
        PathMatch::Prefix(text) => text.is_empty(),
        PathMatch::Segments(segments) => segments.first() == Some(&Segment::Rest),
        PathMatch::Exact(_) | PathMatch::Regex(_) => false,
    }
}

/// The methods that get a bit in candidates.
fn common_methods(routes: &[Route]) -> Vec<Box<str>> {
    let mut methods = Vec::new();
    for method in routes.iter().flat_map(|route| &route.conditions.methods) {
        if methods.len() < METHODS_MAX && !methods.contains(method) {
            methods.push(method.clone());
        }
    }
    methods
}

/// The field with the most values among the routes that ask for exactly one, if it is worth a switch.
fn commonest_field(
    routes: &[Route],
    list: &[u32],
    switched: &[(FieldKind, Box<str>)],
) -> Option<(FieldKind, Box<str>)> {
    let mut values: BTreeMap<(FieldKind, &str), HashSet<&str>> = BTreeMap::new();
    for (kind, field) in list.iter().flat_map(|&at| fields(&routes[at as usize])) {
        if let Some(value) = equals(field) {
            values.entry((kind, &field.name)).or_default().insert(value);
        }
    }
    // A field that is switched already has one value left, and would be split into itself for ever.
    values.retain(|(kind, name), _| !switched.iter().any(|(done, of)| done == kind && **of == **name));
    let (&(kind, name), values) = values.iter().max_by_key(|(_, values)| values.len())?;
    (values.len() >= SPLIT_VALUES_MIN).then(|| (kind, name.into()))
}

/// The value that the route asks of the field; the first, if it asks for several.
fn value_of<'r>(route: &'r Route, kind: FieldKind, name: &str) -> Option<&'r str> {
    fields(route)
        .find_map(|(of_kind, field)| (of_kind == kind && *field.name == *name).then(|| equals(field))?)
}

fn equals(field: &FieldMatch) -> Option<&str> {
    match &field.test {
        FieldTest::Equals(value) => Some(value),
        _ => None,
    }
}

fn fields(route: &Route) -> impl Iterator<Item = (FieldKind, &FieldMatch)> {
    let headers = route.conditions.headers.iter().map(|field| (FieldKind::Header, field));
    headers.chain(route.conditions.query.iter().map(|field| (FieldKind::Query, field)))
}

fn push_once(list: &mut Vec<u32>, at: u32) {
    if list.last() != Some(&at) {
        list.push(at);
    }
}

impl Label {
    fn new(label: &[u8], text: &mut Vec<u8>) -> Label {
        let mut made =
            Label { start: text.len() as u32, len: label.len() as u32, inline: [0; LABEL_INLINE_BYTES] };
        match made.inline.get_mut(..label.len()) {
            Some(inline) => inline.copy_from_slice(label),
            None => text.extend_from_slice(label),
        }
        made
    }
}

impl Found {
    const NOTHING: Found = Found { number: NONE, methods: 0, conditional: false, is_list: false };

    fn one(candidate: Candidate) -> Found {
        let Candidate { route, methods, conditional } = candidate;
        Found { number: route, methods, conditional, is_list: false }
    }
}

/// Routes of one list that are quicker to try one by one than to look up by value.
const SPLIT_ROUTES_MIN: usize = 8;
const SPLIT_VALUES_MIN: usize = 4;
