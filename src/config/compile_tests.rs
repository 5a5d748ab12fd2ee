//! Good configs compile to what they say, and a reload keeps what it should: ids, states, settings of the start.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::balance::pick::{Balance, HashKey};
use crate::config::snapshot::*;
use crate::config::{Blueprint, HostPort, Registry, Resolutions, compile};
use crate::proxy::rule::*;

fn blueprint(text: &str, registry: &mut Registry) -> Blueprint {
    let compiled = compile(Path::new("/etc/tidegate/edge.toml"), text, None, registry);
    assert!(!compiled.diagnostics.has_errors(), "{}\n{text}", compiled.diagnostics);
    compiled.blueprint.unwrap()
}

fn snapshot(text: &str) -> Snapshot {
    let mut registry = Registry::new();
    blueprint(text, &mut registry).snapshot(None, &mut registry, &Resolutions::new())
}

/// A listener and the services `a` and `b`, then `rest`.
fn with(rest: &str) -> String {
    format!(
        "{}[listen.web]\naddress = \"0.0.0.0:8080\"\n[service.a]\nendpoints = [\"10.0.0.1:80\"]\n\
         [service.b]\nendpoints = [\"10.0.0.2:80\"]\n{}",
        rest.split("[[").next().unwrap(),
        rest.find("[[").map_or("", |at| &rest[at..])
    )
}

/// The route of a file with these lines in it.
fn route(lines: &str) -> &'static Route {
    let snapshot = Box::leak(Box::new(snapshot(&with(&format!("[[route]]\n{lines}\n")))));
    &snapshot.routes.routes()[0]
}

#[test]
fn settings() {
    let text = "workers = 3\ndriver = \"epoll\"\nlog.access = \"logs/access.json\"\nadmin.address = \"[::1]:9180\"\n\
                reload.watch = true\nlimits = { head = 2000, body = \"1MB\", trailers = \"1KiB\" }\n\
                forward = { trusted = [\"10.0.0.0/8\", \"::1\"], forwarded = true }\n\
                timeouts = { header = \"250ms\", tunnel = \"2d\", connect = \"1s\", request = \"1m\" }\n";
    let snapshot = snapshot(&with(&format!("{text}[[route]]\nto = \"a\"\n")));
    let settings = &snapshot.settings;
    assert_eq!((settings.workers, settings.driver), (Some(3), DriverChoice::Epoll));
    assert_eq!(settings.access_log, LogTarget::File("/etc/tidegate/logs/access.json".into()));
    assert_eq!(settings.admin, Some("[::1]:9180".parse().unwrap()));
    assert!(settings.watch && settings.forwarded);
    assert_eq!(settings.head_limits.head_bytes_max, 2000);
    assert_eq!(settings.head_limits.target_bytes_max, 2000, "never more than the head");
    assert_eq!(settings.chunk_limits.trailer_bytes_max, 1024);
    assert_eq!(settings.client_timeouts.header, Duration::from_millis(250));
    assert_eq!(settings.client_timeouts.tunnel, Duration::from_secs(2 * 86_400));
    let networks: Vec<_> =
        settings.trusted.iter().map(|cidr| format!("{}/{}", cidr.network, cidr.prefix)).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(snapshot.services[0].timeouts.connect, Duration::from_secs(1));
    assert_eq!(snapshot.services[0].timeouts.request, Some(Duration::from_secs(60)));
    assert_eq!(snapshot.routes.routes()[0].body_bytes_max, 1_000_000);
}

#[test]
fn defaults_are_the_products() {
    let snapshot = snapshot(&with("[[route]]\nto = \"a\"\n"));
    let settings = &snapshot.settings;
    assert_eq!((settings.workers, settings.admin, settings.watch), (None, None, false));
    assert_eq!(settings.access_log, LogTarget::Stdout);
    assert_eq!((settings.head_limits.fields_max, settings.head_limits.head_bytes_max), (100, 32 << 10));
    assert_eq!(
        (settings.head_limits.target_bytes_max, settings.chunk_limits.trailer_bytes_max),
        (8 << 10, 16 << 10)
    );
    assert_eq!(settings.chunk_limits.extension_bytes_max, 4 << 10);
    assert_eq!((settings.pool.idle_max, settings.pool.idle_per_endpoint_max), (1000, 100));
    assert_eq!(settings.pool.idle_timeout, Duration::from_secs(90));
    assert_eq!(snapshot.routes.routes()[0].body_bytes_max, 10 << 20);
    let service = &snapshot.services[0];
    assert_eq!((service.retry.budget_percent, service.retry.budget_min), (20, 3));
    assert_eq!(service.timeouts.request, None);
    assert_eq!(service.picker.policy(), &Balance::RoundRobin);
}

#[test]
fn listeners_and_services_stand_in_the_order_of_the_file() {
    let text = "[listen.z]\naddress = \"[::]:1\"\n[listen.a]\naddress = \"0.0.0.0:1\"\nprotocol = \"http\"\n\
                [service.z]\nendpoints = \"10.0.0.1:80\"\n[service.a]\nendpoints = [\"10.0.0.1:80\"]\n[[route]]\nto = \"z\"\n";
    let snapshot = snapshot(text);
    let listeners: Vec<&str> = snapshot.listeners.iter().map(|listener| &*listener.name).collect();
    let services: Vec<&str> = snapshot.services.iter().map(|service| &*service.name).collect();
    assert_eq!((listeners, services), (vec!["z", "a"], vec!["z", "a"]));
    for (name, id) in &snapshot.service_by_name {
        assert_eq!(&*snapshot.service(*id).name, &**name);
    }
}

#[test]
fn tcp_listeners() {
    let text = "timeouts.tcp = \"1m\"\n[listen.a]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"t\"\n\
                proxy_protocol.trusted = [\"10.0.0.0/8\", \"::1\"]\n\
                [listen.b]\naddress = \"0.0.0.0:2\"\nprotocol = \"tcp\"\nto = \"s\"\nidle_timeout = \"5s\"\n\
                [service.s]\nendpoints = \"10.0.0.1:80\"\nproxy_protocol = \"v2\"\n[service.t]\nendpoints = \"10.0.0.1:80\"\n";
    let snapshot = snapshot(text);
    let protocols: Vec<Protocol> =
        snapshot.listeners.iter().map(|listener| listener.protocol.clone()).collect();
    let expected = [
        Protocol::Tcp { to: ServiceId(1), idle: Duration::from_secs(60) },
        Protocol::Tcp { to: ServiceId(0), idle: Duration::from_secs(5) },
    ];
    assert_eq!(protocols, expected);
    let trusted = |at: usize| snapshot.listeners[at].proxy_trusted.len();
    assert_eq!((trusted(0), trusted(1)), (2, 0));
    let sent: Vec<_> = snapshot.services.iter().map(|service| service.proxy_protocol).collect();
    assert_eq!(sent, [Some(ProxyVersion::V2), None]);
}

#[test]
fn udp_listeners() {
    let text = "timeouts.udp = \"90s\"\n[listen.dns]\naddress = \"0.0.0.0:53\"\nprotocol = \"udp\"\nto = \"t\"\n\
                responses = 1\nidle_timeout = \"5s\"\n\
                [listen.rtp]\naddress = \"0.0.0.0:54\"\nprotocol = \"udp\"\nto = \"s\"\nflows_max = 9\n\
                [service.s]\nendpoints = \"10.0.0.1:80\"\n[service.t]\nendpoints = \"10.0.0.1:80\"\n";
    let snapshot = snapshot(text);
    let udp = |at: usize| match &snapshot.listeners[at].protocol {
        Protocol::Udp(policy) => *policy,
        other => panic!("{other:?} is not UDP"),
    };
    let dns = UdpPolicy {
        to: ServiceId(1),
        idle: Duration::from_secs(5),
        responses: NonZeroU32::new(1),
        flows_max: 16_384,
    };
    let rtp = UdpPolicy { to: ServiceId(0), idle: Duration::from_secs(90), responses: None, flows_max: 9 };
    assert_eq!((udp(0), udp(1)), (dns, rtp));
    assert_eq!(snapshot.listeners[0].binding().transport, Transport::Udp);
}

#[test]
fn services() {
    let text = "[listen.web]\naddress = \"0.0.0.0:1\"\n[service.s]\n\
                endpoints = [{ address = \"10.0.0.1:80\", weight = 3 }, \"[::1]:80\", { address = \"10.0.0.3:80\", weight = 0 }]\n\
                balance = \"hash\"\nhash_by = \"header:X-User\"\ntimeouts = { connect = \"1s\", request = \"off\" }\n\
                retry = { attempts = 1, on_status = [503, 502, 503], budget_percent = 0, budget_min = 0 }\n[[route]]\nto = \"s\"\n";
    let snapshot = snapshot(text);
    let service = &snapshot.services[0];
    assert_eq!(service.picker.policy(), &Balance::ConsistentHash { key: HashKey::Header("x-user".into()) });
    let endpoints: Vec<_> =
        service.endpoints.iter().map(|one| (one.address.to_string(), one.weight)).collect();
    assert_eq!(endpoints, [("10.0.0.1:80".into(), 3), ("[::1]:80".into(), 1), ("10.0.0.3:80".into(), 0)]);
    assert_eq!(service.timeouts.connect, Duration::from_secs(1));
    assert_eq!(service.timeouts.first_byte, Duration::from_secs(60));
    assert_eq!((service.retry.attempts_max, &*service.retry.on_status), (1, &[502, 503][..]));
}

#[test]
fn paths() {
    let paths = |written: &str| &route(&format!("to = \"a\"\nmatch.path = {written}")).conditions.paths[..];
    assert!(matches!(paths("\"/v2\""), [PathMatch::Exact(text)] if &**text == "/v2"));
    assert!(matches!(paths("\"/v2/**\""), [PathMatch::Prefix(text)] if &**text == "/v2"));
    assert!(matches!(paths("\"/**\""), [PathMatch::Prefix(text)] if text.is_empty()));
    assert!(matches!(paths("\"/\""), [PathMatch::Exact(text)] if &**text == "/"));
    assert!(matches!(paths("\"~ ^/v[0-9]\""), [PathMatch::Regex(regex)] if regex.as_str() == "^/v[0-9]"));
    assert_eq!(paths("[\"/a\", \"/b/**\"]").len(), 2);
    let segments = paths("\"/a/{model}/*/**\"");
    let [PathMatch::Segments(segments)] = segments else { panic!("{segments:?}") };
    let expected =
        [Segment::Literal("a".into()), Segment::Named("model".into()), Segment::Any, Segment::Rest];
    assert_eq!(segments[..], expected);
}

#[test]
fn other_conditions() {
    let route = route(
        "to = \"a\"\nmatch.host = [\"A.example.com\", \"*.B.com\", \"[::1]\"]\nmatch.method = [\"GET\", \"PURGE\"]\n\
         match.header = { X-A = true, x-b = false, x-c = \"v\", x-d = \"v*\", x-e = \"~^v$\", x-f = \"*\" }\n\
         match.query = { Q = \"\" }\nmatch.listener = \"web\"",
    );
    let conditions = &route.conditions;
    let hosts = [
        HostMatch::Exact("a.example.com".into()),
        HostMatch::Suffix(".b.com".into()),
        HostMatch::Exact("[::1]".into()),
    ];
    assert_eq!(conditions.hosts, hosts);
    assert_eq!(conditions.methods, ["GET".into(), "PURGE".into()]);
    let tests: Vec<String> =
        conditions.headers.iter().map(|field| format!("{} {:?}", field.name, field.test)).collect();
    let expected = [
        "x-a Present",
        "x-b Absent",
        "x-c Equals(\"v\")",
        "x-d Prefix(\"v\")",
        "x-e Regex(Regex(\"^v$\"))",
        "x-f Present",
    ];
    assert_eq!(tests, expected);
    assert!(
        matches!(&conditions.query[..], [FieldMatch { name, test: FieldTest::Equals(text) }] if &**name == "Q" && text.is_empty())
    );
    assert_eq!(conditions.listeners, ["web".into()]);
}

#[test]
fn actions() {
    let Action::Forward(Target { to: To::Service(id), otherwise: None }) = &route("to = \"b\"").action else {
        panic!()
    };
    assert_eq!(*id, ServiceId(1));
    let forward = &route("to = \"a{header:x}\"\notherwise = \"b\"").action;
    assert!(matches!(
        forward,
        Action::Forward(Target { to: To::Template(_), otherwise: Some(ServiceId(1)) })
    ));
    let redirect = &route("redirect = { to = \"https://x{uri}\" }").action;
    assert!(matches!(redirect, Action::Redirect { status: 307, .. }));
    let respond = &route("respond = { body = \"hi\" }").action;
    let Action::Respond { status: 200, content_type, body } = respond else { panic!("{respond:?}") };
    assert_eq!((&**content_type, &**body), ("text/plain; charset=utf-8", &b"hi"[..]));
    assert!(matches!(&route("respond = { status = 204 }").action, Action::Respond { status: 204, .. }));
}

#[test]
fn edits() {
    let route = route(
        "to = \"a\"\nrewrite.strip_prefix = \"/api/\"\ntimeout = \"off\"\nbody_limit = \"off\"\n\
         request_headers = { set = { Host = \"b\", x-a = \"1\" }, add = { x-b = [\"1\", \"2\"] }, remove = \"X-C\" }\n\
         response_headers.remove = [\"Server\"]",
    );
    assert!(matches!(&route.rewrite, Some(Rewrite::StripPrefix(prefix)) if &**prefix == "/api"));
    assert_eq!(route.request_timeout, Some(Duration::from_secs(365 * 86_400)), "off beats the service's");
    assert_eq!(route.body_bytes_max, u64::MAX);
    let names = |edits: &[(Box<str>, _)]| edits.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&route.request_headers.set), ["Host", "x-a"]);
    assert_eq!(names(&route.request_headers.add), ["x-b", "x-b"]);
    assert_eq!(route.request_headers.remove, ["x-c".into()]);
    assert_eq!(route.response_headers.remove, ["server".into()]);
}

#[test]
fn rewrites() {
    let rewrite = |written: &str| {
        &route(&format!("to = \"a\"\nmatch.path = \"/{{m}}/x\"\nrewrite = {written}")).rewrite
    };
    assert!(matches!(rewrite("{ path = \"/y/{path:m}\" }"), Some(Rewrite::Path(_))));
    assert!(matches!(rewrite("{ path = \"{path}/y\" }"), Some(Rewrite::Path(_))));
    let regex = rewrite("{ regex = '^/(?P<a>.)(.)', replacement = '/$2${a}$$' }");
    assert!(matches!(regex, Some(Rewrite::Regex { replacement, .. }) if **replacement == *b"/$2${a}$$"));
}

#[test]
fn routes_without_a_name_are_named_after_what_they_match() {
    let text = "[[route]]\nmatch = { path = \"/a/**\", method = [\"GET\", \"PUT\"] }\nto = \"a\"\n\
                [[route]]\nmatch = { host = \"*.x.com\", path = \"/{m}/*\" }\nto = \"a\"\n\
                [[route]]\nmatch.header.x = \"1\"\nto = \"a\"\n[[route]]\nmatch.header.x = \"2\"\nto = \"a\"\n\
                [[route]]\nname = \"any#3\"\nmatch.header.x = \"3\"\nto = \"a\"\n[[route]]\nto = \"a\"\n";
    let snapshot = snapshot(&with(text));
    let names: Vec<&str> = snapshot.routes.routes().iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["GET|PUT /a/**", "*.x.com/{m}/*", "any", "any#2", "any#3", "any#3#2"]);
}

#[test]
fn names_are_resolved_from_outside_and_again_without_the_file() {
    let mut registry = Registry::new();
    let text = "[listen.web]\naddress = \"0.0.0.0:1\"\n[service.s]\nendpoints = [\"Models.local:80\", \"10.0.0.9:80\"]\n\
                [service.t]\nendpoints = [\"models.LOCAL:80\", \"other:81\"]\n[[route]]\nto = \"s\"\n[[route]]\nmatch.path = \"/t\"\nto = \"t\"\n";
    let blueprint = blueprint(text, &mut registry);
    let names: Vec<String> = blueprint.names_to_resolve().iter().map(HostPort::to_string).collect();
    assert_eq!(names, ["models.local:80", "other:81"]);

    let mut resolved = Resolutions::new();
    let first = blueprint.snapshot(None, &mut registry, &resolved);
    assert_eq!(first.services[0].endpoints.len(), 1);
    assert!(first.services[1].endpoints.is_empty());

    let addresses: Vec<SocketAddr> =
        ["10.0.0.2:80", "10.0.0.1:80", "10.0.0.9:80"].iter().map(|a| a.parse().unwrap()).collect();
    resolved.insert(blueprint.names_to_resolve()[0].clone(), addresses);
    let second = blueprint.snapshot(Some(&first), &mut registry, &resolved);
    assert_eq!((first.generation, second.generation), (1, 2));
    assert!(Arc::ptr_eq(&first.routes, &second.routes));
    let found: Vec<_> =
        second.services[0].endpoints.iter().map(|one| (one.address.to_string(), &*one.label)).collect();
    let label = "models.local:80";
    let expected = [("10.0.0.1:80", label), ("10.0.0.2:80", label), ("10.0.0.9:80", label)];
    assert_eq!(
        found,
        expected.map(|(address, label)| (address.to_owned(), label)),
        "each address once, sorted"
    );
    let same = |snapshot: &Snapshot| {
        snapshot.services[0]
            .endpoints
            .iter()
            .find(|one| one.address.to_string() == "10.0.0.9:80")
            .unwrap()
            .clone()
    };
    assert!(Arc::ptr_eq(&same(&first).state, &same(&second).state));
    assert_eq!(same(&first).id, same(&second).id);
}

#[test]
fn ids_and_states_are_carried_over_by_name() {
    let mut registry = Registry::new();
    let before = blueprint(
        &with(
            "[[route]]\nname = \"r\"\nmatch.path = \"/r\"\nto = \"a\"\n[[route]]\nname = \"s\"\nto = \"b\"\n",
        ),
        &mut registry,
    );
    let before = before.snapshot(None, &mut registry, &Resolutions::new());
    before.services[1].endpoints[0].state.in_flight.store(7, Relaxed);
    before.services[1].state.active.store(8, Relaxed);
    // `a` is gone, `b` comes first, its endpoint has company, and the routes have changed places.
    let text = "[listen.web]\naddress = \"0.0.0.0:1\"\n[service.b]\nendpoints = [\"10.0.0.9:80\", \"10.0.0.2:80\"]\n\
                [service.c]\nendpoints = [\"10.0.0.2:80\"]\n[[route]]\nname = \"s\"\nmatch.path = \"/s\"\nto = \"b\"\n[[route]]\nname = \"r\"\nto = \"c\"\n";
    let after = blueprint(text, &mut registry).snapshot(Some(&before), &mut registry, &Resolutions::new());
    let (old, new) = (&before.services[1], &after.services[0]);
    assert_eq!((old.id, old.endpoints[0].id), (new.id, new.endpoints[1].id));
    assert_eq!(new.endpoints[1].state.in_flight.load(Relaxed), 7);
    assert_eq!(new.state.active.load(Relaxed), 8);
    assert_eq!(new.endpoints[0].state.in_flight.load(Relaxed), 0);
    let other = &after.services[1].endpoints[0];
    assert_ne!(other.id, old.endpoints[0].id, "the same address in another service is another endpoint");
    assert_eq!(other.state.in_flight.load(Relaxed), 0);
    let id = |snapshot: &Snapshot, name: &str| {
        snapshot.routes.routes().iter().find(|route| &*route.name == name).unwrap().id
    };
    assert_eq!((id(&before, "r"), id(&before, "s")), (id(&after, "r"), id(&after, "s")));
}

#[test]
fn states_go_with_their_last_user_and_come_back_fresh() {
    let mut registry = Registry::new();
    let with_a = with("[[route]]\nto = \"a\"\n");
    let first = blueprint(&with_a, &mut registry).snapshot(None, &mut registry, &Resolutions::new());
    let in_flight = first.services[0].endpoints[0].state.clone();
    in_flight.in_flight.store(1, Relaxed);
    let id = first.services[0].id;
    drop(first);
    let again = blueprint(&with_a, &mut registry).snapshot(None, &mut registry, &Resolutions::new());
    assert_eq!(again.services[0].id, id);
    assert_eq!(again.services[0].endpoints[0].state.in_flight.load(Relaxed), 1, "a request still holds it");
    drop((again, in_flight));
    let later = blueprint(&with_a, &mut registry).snapshot(None, &mut registry, &Resolutions::new());
    assert_eq!(later.services[0].endpoints[0].state.in_flight.load(Relaxed), 0);
}

#[test]
fn removed_names_are_remembered_up_to_a_bound() {
    let mut registry = Registry::new();
    let held = registry.endpoint(&"held".into(), "10.0.0.1:1".parse().unwrap());
    let name = Arc::from("churn");
    for port in 0..3 * Registry::REMOVED_MAX as u32 {
        let ip = std::net::Ipv4Addr::from(0x0b00_0000 + port);
        registry.endpoint(&name, SocketAddr::new(ip.into(), 1));
        if port % 50_000 == 0 {
            registry.collect(std::iter::empty());
        }
    }
    registry.collect(std::iter::empty());
    assert!(registry.endpoints_remembered() <= Registry::REMOVED_MAX + 1);
    assert_eq!(
        registry.endpoint(&"held".into(), "10.0.0.1:1".parse().unwrap()).0,
        held.0,
        "in use, so never forgotten"
    );
}

#[test]
fn settings_of_the_start_stay_until_a_restart() {
    let mut registry = Registry::new();
    let before = blueprint(&with("workers = 2\ndriver = \"epoll\"\n[[route]]\nto = \"a\"\n"), &mut registry);
    let before = before.snapshot(None, &mut registry, &Resolutions::new());
    let text = with(
        "workers = 4\n[admin]\naddress = \"127.0.0.1:9\"\n[dns]\nrefresh = \"5s\"\n[[route]]\nto = \"a\"\n[[route]]\nto = \"b\"\n",
    );
    let compiled = compile(Path::new("edge.toml"), &text, Some(&before), &mut registry);
    let told: Vec<String> =
        compiled.diagnostics.iter().map(|one| format!("{}:{} {}", one.line, one.column, one.key)).collect();
    assert_eq!(told[..3], ["1:1 workers", "1:1 driver", "3:1 admin.address"]);
    let after = compiled.blueprint.unwrap().snapshot(Some(&before), &mut registry, &Resolutions::new());
    assert_eq!((after.settings.workers, after.settings.driver), (Some(2), DriverChoice::Epoll));
    assert_eq!(after.settings.admin, None);
    assert_eq!(after.settings.dns_refresh, Duration::from_secs(5));
}

#[test]
fn a_file_with_errors_leaves_the_registry_as_it_was() {
    let mut registry = Registry::new();
    let bad = compile(
        Path::new("edge.toml"),
        &with("[[route]]\nname = \"x\"\nto = \"nope\"\n"),
        None,
        &mut registry,
    );
    assert!(bad.blueprint.is_none());
    assert_eq!(registry.route(&"first".into()), StableId(0));
}

#[test]
fn reach_finds_what_can_never_match_and_nothing_else() {
    let warned = |first: &str, second: &str| {
        let text = with(&format!("[[route]]\nto = \"a\"\n{first}\n[[route]]\nto = \"b\"\n{second}\n"));
        let compiled = compile(Path::new("edge.toml"), &text, None, &mut Registry::new());
        assert!(!compiled.diagnostics.has_errors(), "{}", compiled.diagnostics);
        compiled.diagnostics.iter().any(|one| one.message.contains("never reached"))
    };
    for (first, second) in [
        ("", ""),
        ("", "match.path = \"/x\""),
        ("match.path = \"/**\"", "match.path = \"/x\""),
        ("match.path = \"/a/**\"", "match.path = \"/a\""),
        ("match.path = \"/a/**\"", "match.path = \"/a/b/{c}/d\""),
        ("match.path = \"/a/{x}\"", "match.path = \"/a/{y}\""),
        ("match.path = [\"/a\", \"/b\"]", "match.path = \"/b\""),
        ("match.path = \"/**\"", "match.path = [\"/a\", \"/b/**\"]"),
        ("match.path = \"~^/x\"", "match = { path = \"~^/x\", method = \"GET\" }"),
        ("match.host = [\"a.com\", \"b.com\"]", "match.host = [\"b.com\", \"A.com\"]"),
        ("match.header.x = \"1\"", "match = { header = { X = \"1\" }, path = \"/a\" }"),
    ] {
        assert!(warned(first, second), "{first} then {second}");
    }
    for (first, second) in [
        ("match.path = \"/x\"", ""),
        ("match.path = \"/x\"", "match.path = \"/x/**\""),
        ("match.path = \"/a/b/**\"", "match.path = \"/a/**\""),
        ("match.path = \"/a/**\"", "match.path = \"/ab\""),
        ("match.path = \"/a\"", "match.path = [\"/a\", \"/b\"]"),
        ("match = { path = \"/a\", method = \"GET\" }", "match.path = \"/a\""),
        ("match.header.x = \"1\"", "match.header.x = \"2\""),
        ("match.header.x = \"1\"", "match.query.x = \"1\""),
        ("match.host = \"a.com\"", "match.host = \"b.com\""),
        ("match.path = \"/**\"", ""),
    ] {
        assert!(!warned(first, second), "{first} then {second}");
    }
}

/// Not a benchmark: that nothing is quadratic. In release 100,000 routes take under a second.
#[test]
fn many_routes_and_services_are_compiled_in_linear_time() {
    let mut text = String::from("[listen.web]\naddress = \"0.0.0.0:1\"\n");
    for n in 0..5000 {
        text.push_str(&format!("[service.s{n}]\nendpoints = [\"10.0.0.1:80\"]\n"));
        text.push_str(&format!("[[route]]\nname = \"r{n}\"\nmatch = {{ host = \"h{n}.com\", path = \"/v2/{n}/**\" }}\nto = \"s{n}\"\n"));
    }
    let start = std::time::Instant::now();
    let snapshot = snapshot(&text);
    assert_eq!((snapshot.routes.routes().len(), snapshot.services.len()), (5000, 5000));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
