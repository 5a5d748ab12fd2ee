//! Backs the claim that a lookup costs about the same with 10 routes as with 100,000: nanoseconds per
//! `RouteTable::select`, for tables of several shapes and sizes, with requests drawn evenly from all routes (the
//! worst case for caches) and from 64 of them (what traffic looks like). Run: `cargo bench --bench routing`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidegate::config::snapshot::AuthId;
use tidegate::policy::claims::Claims;

use tidegate::config::snapshot::StableId;
use tidegate::proxy::route::{RouteInput, RouteTable};
use tidegate::proxy::rule::{
    Action, Conditions, FieldMatch, FieldTest, HostMatch, PathMatch, Route, Segment,
};

fn main() {
    println!("ns per select          even over all routes       over 64 of them          build");
    println!("routes per table         10   1,000 100,000      10   1,000 100,000       100,000");
    for (name, shape) in SHAPES {
        let even = SIZES.map(|size| measure(*shape, size, size));
        let few = SIZES.map(|size| measure(*shape, size, 64));
        let start = Instant::now();
        drop(black_box(table(*shape, SIZES[2])));
        let [a, b, c] = even;
        let [d, e, f] = few;
        let build = start.elapsed().as_millis();
        println!("{name:20} {a:6.1} {b:7.1} {c:7.1}  {d:6.1} {e:7.1} {f:7.1}   {build:8} ms");
    }
}

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const REQUESTS: usize = 1 << 16;
const ROUNDS: usize = 9;

/// The conditions of route n, and a request that they match.
type Shape = fn(usize) -> (Conditions, Request);

const SHAPES: &[(&str, Shape)] = &[
    ("exact host", |n| {
        let name = format!("model-{n}.example.com");
        let conditions =
            Conditions { hosts: vec![HostMatch::Exact(name.as_str().into())], ..Conditions::default() };
        (conditions, Request { host: name, ..Request::default() })
    }),
    ("wildcard host", |n| {
        let suffix = format!(".tenant-{n}.example.com");
        let host = format!("api{suffix}");
        let conditions =
            Conditions { hosts: vec![HostMatch::Suffix(suffix.into())], ..Conditions::default() };
        (conditions, Request { host, ..Request::default() })
    }),
    ("exact path", |n| {
        let path = format!("/v2/models/model-{n}/infer");
        (with_path(PathMatch::Exact(path.as_str().into())), Request { path, ..Request::default() })
    }),
    ("prefix", |n| {
        let prefix = format!("/team-{n}/models");
        let path = format!("{prefix}/resnet/infer");
        (with_path(PathMatch::Prefix(prefix.into())), Request { path, ..Request::default() })
    }),
    ("named segments", |n| {
        let team = Segment::Literal(format!("team-{n}").into());
        let infer = Segment::Literal("infer".into());
        let path = format!("/team-{n}/resnet/infer");
        let segments = PathMatch::Segments(vec![team, Segment::Named("model".into()), infer]);
        (with_path(segments), Request { path, ..Request::default() })
    }),
    ("header value", |n| {
        let test = FieldTest::Equals(format!("model-{n}").into());
        let headers = vec![FieldMatch { name: "x-model".into(), test }];
        let conditions = Conditions { headers, ..with_path(PathMatch::Prefix("/v2".into())) };
        (conditions, Request { model: format!("model-{n}"), ..Request::default() })
    }),
    ("host, path, method", |n| {
        let name = format!("customer-{}.example.com", n / 10);
        let prefix = format!("/api-{}", n % 10);
        let path = format!("{prefix}/v2/models/resnet/infer");
        let hosts = vec![HostMatch::Exact(name.as_str().into())];
        let methods = vec!["GET".into(), "POST".into()];
        let conditions = Conditions { hosts, methods, ..with_path(PathMatch::Prefix(prefix.into())) };
        (conditions, Request { host: name, path, ..Request::default() })
    }),
];

fn with_path(path: PathMatch) -> Conditions {
    Conditions { paths: vec![path], ..Conditions::default() }
}

struct Request {
    host: String,
    path: String,
    model: String,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            host: "gateway.example.com".into(),
            path: "/v2/models/resnet/infer".into(),
            model: "m".into(),
        }
    }
}

/// A request as it lies in a connection's buffer: its bytes are in the cache when it is routed, so they must not
/// be fetched from memory here either.
struct View<'b> {
    host: &'b [u8],
    path: &'b [u8],
    model: &'b [u8],
}

impl RouteInput for View<'_> {
    fn content_type(&self) -> Option<&[u8]> {
        None
    }
    fn model(&self) -> Option<&str> {
        None
    }
    fn claims(&self, _: AuthId) -> Option<Arc<Claims>> {
        None
    }

    fn method(&self) -> &[u8] {
        b"POST"
    }
    fn host(&self) -> &[u8] {
        self.host
    }
    fn path(&self) -> &[u8] {
        self.path
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn listener(&self) -> &str {
        "web"
    }
    fn any_header(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        lower_name == "x-model" && test(self.model)
    }
}

/// Nanoseconds per select, the best of several rounds, for requests to `targets` of the table's routes.
fn measure(shape: Shape, size: usize, targets: usize) -> f64 {
    let table = table(shape, size);
    let (text, spans) = requests(shape, size, targets.min(size));
    let round = |_| {
        let start = Instant::now();
        let mut rest = text.as_slice();
        for &[host, path, model] in &spans {
            let (here, after) = rest.split_at(host + path + model);
            let view =
                View { host: &here[..host], path: &here[host..host + path], model: &here[host + path..] };
            assert!(black_box(table.select(black_box(&view))).is_some());
            rest = after;
        }
        start.elapsed().as_nanos() as f64 / spans.len() as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn table(shape: Shape, size: usize) -> RouteTable {
    let action = || Action::Respond { status: 204, content_type: "".into(), body: Arc::new([]) };
    let route = |n| Route::new(format!("route-{n}").into(), StableId(n as u32), shape(n).0, action());
    RouteTable::new((0..size).map(route).collect())
}

/// Requests in random order, end to end in memory, with the lengths of their parts.
fn requests(shape: Shape, size: usize, targets: usize) -> (Vec<u8>, Vec<[usize; 3]>) {
    let mut seed = 1u64;
    let mut text = Vec::new();
    let mut draw = |_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let target = (seed >> 33) as usize % targets * (size / targets);
        let Request { host, path, model } = shape(target).1;
        for part in [&host, &path, &model] {
            text.extend_from_slice(part.as_bytes());
        }
        [host.len(), path.len(), model.len()]
    };
    let spans = (0..REQUESTS).map(&mut draw).collect();
    (text, spans)
}
