//! Owns the proof of `proxy::route`: what each condition means, by example, and that the compiled index agrees
//! with that meaning on random tables and requests.

use std::sync::Arc;

use regex::bytes::Regex;

use super::*;
use crate::config::snapshot::StableId;
use crate::proxy::media::MediaType;
use crate::proxy::rule::Action;

#[derive(Debug, Clone, Default)]
struct Request {
    method: String,
    host: String,
    path: String,
    query: Option<String>,
    listener: String,
    headers: Vec<(&'static str, String)>,
    model: Option<String>,
    /// `None`: nobody has been identified.
    claims: Option<Arc<Claims>>,
}

impl RouteInput for Request {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }
    fn listener(&self) -> &str {
        &self.listener
    }
    fn any_header(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(name, value)| *name == lower_name && test(value.as_bytes()))
    }
    fn content_type(&self) -> Option<&[u8]> {
        self.headers.iter().find(|(name, _)| *name == "content-type").map(|(_, value)| value.as_bytes())
    }
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
    fn claims(&self, auth: AuthId) -> Option<Arc<Claims>> {
        self.claims.clone().filter(|_| auth == AuthId(0))
    }
}

fn get(host: &str, path: &str) -> Request {
    Request {
        method: "GET".into(),
        host: host.into(),
        path: path.into(),
        listener: "web".into(),
        ..Request::default()
    }
}

fn route(conditions: Conditions) -> Route {
    let action = Action::Respond { status: 204, content_type: "".into(), body: Arc::new([]) };
    Route::new("route".into(), StableId(0), conditions, action)
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

/// "v2/{model}/*/**" in the words of `Segment`.
fn segments(text: &str) -> PathMatch {
    let segment = |word: &str| match word {
        "*" => Segment::Any,
        "**" => Segment::Rest,
        name if name.starts_with('{') => Segment::Named(name.trim_matches(['{', '}']).into()),
        literal => Segment::Literal(literal.into()),
    };
    PathMatch::Segments(text.split('/').map(segment).collect())
}

fn regex(pattern: &str) -> PathMatch {
    PathMatch::Regex(Regex::new(pattern).unwrap())
}

fn host(text: &str) -> HostMatch {
    match text.strip_prefix('*') {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact(text.into()),
    }
}

/// Asks the plain meaning and the index, which have to agree.
fn holds(conditions: Conditions, request: &Request) -> bool {
    let table = RouteTable::new(vec![route(conditions)]);
    let selected = table.select(request).is_some();
    assert_eq!(selected, table.routes()[0].matches(request), "{table:?} {request:?}");
    selected
}

#[test]
fn hosts_compare_without_case_port_and_trailing_dot() {
    for (wanted, sent, expected) in [
        ("api.example.com", "api.example.com", true),
        ("api.example.com", "API.Example.COM:8443", true),
        ("api.example.com", "api.example.com.", true),
        ("api.example.com", "api.example.com.:80", true),
        ("api.example.com", "api.example.com..", false),
        ("api.example.com", "xapi.example.com", false),
        ("api.example.com", "", false),
        ("[2001:db8::1]", "[2001:DB8::1]:8080", true),
        ("[2001:db8::1]", "[2001:db8::1]", true),
        ("[2001:db8::1]", "2001:db8::1", false),
        ("10.0.0.1", "10.0.0.1:80", true),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "A.b.Example.com:1", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "badexample.com", false),
        ("*.example.com", "a.example.com.evil.org", false),
    ] {
        let conditions = Conditions { hosts: vec![host(wanted)], ..Conditions::default() };
        assert_eq!(holds(conditions, &get(sent, "/")), expected, "{wanted} {sent}");
    }
}

#[test]
fn an_overlong_host_matches_only_routes_without_one() {
    let request = get(&format!("{}.example.com", "a.".repeat(150)), "/");
    let conditions = Conditions { hosts: vec![host("*.example.com")], ..Conditions::default() };
    assert!(!holds(conditions, &request));
    assert!(holds(Conditions::default(), &request));
}

#[test]
fn paths_match_as_written() {
    // What is written, what it matches, what it does not.
    type Case<'c> = (fn() -> PathMatch, &'c [&'c str], &'c [&'c str]);
    let cases: &[Case] = &[
        (|| exact("/v2"), &["/v2"], &["/v2/", "/v2/x", "/V2", "/", "*"]),
        (|| exact("/"), &["/"], &["", "//", "/x"]),
        (|| exact("/a//b"), &["/a//b"], &["/a/b", "/a//b/"]),
        (|| exact("*"), &["*"], &["/", "/*", ""]),
        (|| prefix("/v2"), &["/v2", "/v2/", "/v2/x", "/v2//x"], &["/v22", "/", "/v", "*"]),
        (|| prefix(""), &["/", "/x", "//", ""], &["*"]),
        (|| prefix("/v2/"), &["/v2/", "/v2//", "/v2//x"], &["/v2", "/v2/x"]),
        (
            || segments("v2/{model}/infer"),
            &["/v2/m/infer"],
            &["/v2//infer", "/v2/m/n/infer", "/v2/m/infer/", "/v2/m"],
        ),
        (|| segments("v2/*"), &["/v2/x"], &["/v2", "/v2/", "/v2/x/", "/v2/x/y"]),
        (|| segments("v2/{model}/**"), &["/v2/m", "/v2/m/", "/v2/m/n/o"], &["/v2", "/v2/", "/v2//m"]),
        (|| segments("**"), &["/", "/x/y"], &["*", ""]),
        (|| PathMatch::Segments(Vec::new()), &["/"], &["", "/x", "*"]),
        (|| regex("^/v[0-9]+/"), &["/v1/", "/v22/x"], &["/v/", "/x/v1/"]),
    ];
    for (path, matching, others) in cases {
        for (sent, expected) in
            matching.iter().map(|sent| (sent, true)).chain(others.iter().map(|sent| (sent, false)))
        {
            let conditions = Conditions { paths: vec![path()], ..Conditions::default() };
            assert_eq!(holds(conditions, &get("a", sent)), expected, "{} {sent}", path());
        }
    }
}

#[test]
fn fields_hold_if_any_value_passes() {
    // The test, the values sent, whether it holds.
    type Case<'c> = (fn() -> FieldTest, &'c [&'c str], bool);
    let cases: &[Case] = &[
        (|| FieldTest::Present, &[], false),
        (|| FieldTest::Present, &[""], true),
        (|| FieldTest::Absent, &[], true),
        (|| FieldTest::Absent, &[""], false),
        (|| FieldTest::Equals("v2".into()), &["v1", "v2"], true),
        (|| FieldTest::Equals("v2".into()), &["v1", "V2", "v2 "], false),
        (|| FieldTest::Prefix("v".into()), &["v1"], true),
        (|| FieldTest::Prefix("v".into()), &["xv"], false),
        (|| FieldTest::Regex(Regex::new("^v[0-9]$").unwrap()), &["x", "v3"], true),
        (|| FieldTest::Regex(Regex::new("^v[0-9]$").unwrap()), &[], false),
    ];
    for (test, values, expected) in cases {
        let field = || vec![FieldMatch { name: "x-version".into(), test: test() }];
        let mut request = get("a", "/");
        request.headers = values.iter().map(|value| ("x-version", (*value).to_owned())).collect();
        let conditions = Conditions { headers: field(), ..Conditions::default() };
        assert_eq!(holds(conditions, &request), *expected, "header {:?} {values:?}", test());

        let pairs: Vec<String> = values.iter().map(|value| format!("x-version={value}")).collect();
        let request = Request { query: (!pairs.is_empty()).then(|| pairs.join("&")), ..get("a", "/") };
        let conditions = Conditions { query: field(), ..Conditions::default() };
        assert_eq!(holds(conditions, &request), *expected, "query {:?} {values:?}", test());
    }
}

#[test]
fn methods_and_listeners_are_alternatives() {
    let conditions = || Conditions {
        methods: vec!["GET".into(), "HEAD".into()],
        listeners: vec!["web".into(), "internal".into()],
        ..Conditions::default()
    };
    assert!(holds(conditions(), &get("a", "/")));
    assert!(!holds(conditions(), &Request { method: "get".into(), ..get("a", "/") }));
    assert!(!holds(conditions(), &Request { method: "POST".into(), ..get("a", "/") }));
    assert!(!holds(conditions(), &Request { listener: "other".into(), ..get("a", "/") }));
}

#[test]
fn explains_every_route_up_to_the_winner() {
    let table = RouteTable::new(vec![
        route(Conditions { hosts: vec![host("b.test"), host("*.c.test")], ..Conditions::default() }),
        route(Conditions { paths: vec![prefix("/v1"), segments("v2/{m}/*")], ..Conditions::default() }),
        route(Conditions {
            headers: vec![FieldMatch { name: "x-v".into(), test: FieldTest::Equals("2".into()) }],
            ..Conditions::default()
        }),
        route(Conditions { methods: vec!["GET".into()], ..Conditions::default() }),
        route(Conditions::default()),
    ]);
    let verdicts = table.explain(&get("a.test", "/v2"));
    let words: Vec<(usize, Option<&str>)> = verdicts.iter().map(|(at, why)| (*at, why.as_deref())).collect();
    assert_eq!(
        words,
        [
            (0, Some("host is not b.test or *.c.test")),
            (1, Some("path is not /v1/** or /v2/{m}/*")),
            (2, Some("header x-v is not \"2\"")),
            (3, None),
        ]
    );
}

#[test]
fn an_empty_table_selects_nothing() {
    assert!(RouteTable::new(Vec::new()).select(&get("a", "/")).is_none());
}

/// SplitMix64, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn of<'t, T: ?Sized>(&mut self, words: &[&'t T]) -> &'t T {
        words[self.below(words.len())]
    }
    fn some<T>(&mut self, none_in: usize, mut make: impl FnMut(&mut Dice) -> T) -> Vec<T> {
        if !self.one_in(none_in) {
            return Vec::new();
        }
        (0..1 + self.below(3)).map(|_| make(self)).collect()
    }
}

const HOSTS: [&str; 7] = ["a.test", "b.a.test", "c.b.a.test", "test", "x.b.a.test", "[::1]", "d.c.b.a.test"];
const WORDS: [&str; 5] = ["v2", "models", "m", "", "x"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const NAMES: [&str; 3] = ["x-a", "x-b", "x-c"];
const REGEXES: [&str; 4] = ["^/v2", "m$", "^/[^/]*$", "models/./"];

fn random_path(dice: &mut Dice) -> String {
    match dice.below(20) {
        0 => "*".into(),
        1 => String::new(),
        _ => (0..1 + dice.below(4)).map(|_| format!("/{}", dice.of(&WORDS))).collect(),
    }
}

fn random_path_match(dice: &mut Dice, regexes: &[Regex]) -> PathMatch {
    match dice.below(8) {
        0..2 => exact(&random_path(dice)),
        2..4 => prefix(if dice.one_in(8) { "".into() } else { random_path(dice) }.trim_end_matches('/')),
        4 => prefix(&random_path(dice)),
        5..7 => {
            let mut list = Vec::new();
            for _ in 0..1 + dice.below(4) {
                list.push(match dice.below(4) {
                    0 => Segment::Any,
                    1 => Segment::Named("n".into()),
                    _ => Segment::Literal(dice.of(&WORDS).into()),
                });
            }
            if dice.one_in(3) {
                list.push(Segment::Rest);
            }
            PathMatch::Segments(list)
        }
        _ => PathMatch::Regex(regexes[dice.below(regexes.len())].clone()),
    }
}

fn random_field(dice: &mut Dice, values: usize) -> FieldMatch {
    let value = dice.below(values).to_string();
    let test = match dice.below(8) {
        0 => FieldTest::Present,
        1 => FieldTest::Absent,
        2 => FieldTest::Prefix(value.into()),
        _ => FieldTest::Equals(value.into()),
    };
    FieldMatch { name: dice.of(&NAMES).into(), test }
}

fn random_table(dice: &mut Dice, regexes: &[Regex]) -> (RouteTable, usize) {
    // Few values and few routes overlap a lot; many of both make the index split lists by value.
    let (routes_max, values) = if dice.one_in(4) { (300, 12) } else { (30, 3) };
    let field_in = 1 + dice.below(4);
    let make = |dice: &mut Dice| {
        let host_match = |dice: &mut Dice| match (dice.of(&HOSTS), dice.one_in(2)) {
            (name, true) => HostMatch::Suffix(format!(".{name}").into()),
            (name, false) => HostMatch::Exact(name.into()),
        };
        route(Conditions {
            hosts: dice.some(2, host_match),
            paths: dice.some(1 + field_in % 2, |dice| random_path_match(dice, regexes)),
            methods: dice.some(5, |dice| dice.of(&METHODS).into()),
            headers: dice.some(field_in, |dice| random_field(dice, values)),
            query: dice.some(5, |dice| random_field(dice, values)),
            listeners: dice.some(8, |dice| dice.of(&["web", "internal"]).into()),
            auth: dice.one_in(2).then_some(AuthId(0)),
            claims: dice.some(6, |dice| random_field(dice, values)),
            models: dice.some(8, |dice| random_field(dice, values).test),
            content_types: dice.some(10, |dice| MediaType::parse(dice.of(&["a/b", "a/*", "c/d"])).unwrap()),
        })
    };
    let count = dice.below(routes_max);
    (RouteTable::new((0..count).map(|_| make(dice)).collect()), values)
}

fn random_request(dice: &mut Dice, values: usize) -> Request {
    let mut pair = |dice: &mut Dice| (dice.of(&NAMES), dice.below(values).to_string());
    let headers = dice.some(1, &mut pair);
    let claims: serde_json::Map<String, serde_json::Value> =
        dice.some(1, &mut pair).into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let query: Vec<String> =
        dice.some(2, pair).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = headers;
    if dice.one_in(2) {
        headers.push(("content-type", dice.of(&["a/b", "A/c; x=y", "c/d"]).into()));
    }
    Request {
        model: dice.one_in(2).then(|| dice.below(values).to_string()),
        method: dice.of(&METHODS).into(),
        host: format!("{}{}", dice.of(&["", "", "e."]), dice.of(&HOSTS)),
        path: random_path(dice),
        query: (!query.is_empty()).then(|| query.join("&")),
        listener: dice.of(&["web", "internal", "other"]).into(),
        headers,
        claims: (!dice.one_in(3)).then(|| Arc::new(Claims::new(claims.into()))),
    }
}

#[test]
fn the_index_agrees_with_the_plain_meaning() {
    let regexes: Vec<Regex> = REGEXES.iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
    let mut dice = Dice(2024);
    let (mut found, mut asked, mut switches) = (0, 0, 0);
    for _ in 0..600 {
        let (table, values) = random_table(&mut dice, &regexes);
        switches += table.index.switch_count();
        for _ in 0..100 {
            let request = random_request(&mut dice, values);
            let plain = table.routes().iter().position(|route| route.matches(&request));
            let selected = table
                .select(&request)
                .map(|route| table.routes().iter().position(|other| std::ptr::eq(other, route)).unwrap());
            assert_eq!(selected, plain, "{request:?}\n{:#?}", table.routes());
            found += usize::from(plain.is_some());
            asked += 1;
        }
    }
    // The tables must be neither trivial nor hopeless, and must reach every part of the index.
    assert!(found > asked / 3 && found < asked * 19 / 20, "{found} of {asked} requests found a route");
    assert!(switches > 100, "{switches} switches");
}
