//! Every kind of bad config: what is said, where, and what is suggested. Each case has exactly one mistake, and
//! must give exactly one diagnostic: a mistake that echoes would hide the next one.

use std::path::Path;

use crate::config::{Diagnostics, Registry, Severity, compile};

fn diagnose(text: &str) -> Diagnostics {
    compile(Path::new("edge.toml"), text, None, &mut Registry::new()).diagnostics
}

/// The case, with what it does not have itself added after it.
fn complete(case: &str) -> String {
    let mut text = format!("{case}\n");
    for (header, section) in [
        ("[listen", "[listen.web]\naddress = \"0.0.0.0:8080\"\n"),
        ("[service", "[service.m]\nendpoints = [\"10.0.0.1:80\"]\n"),
        ("[route", "[[route]]\nto = \"m\"\n"),
    ] {
        if !case.contains(header) {
            text.push_str(section);
        }
    }
    text
}

/// (what is written, line:column, part of the message, part of the help)
type Case = (&'static str, &'static str, &'static str, &'static str);

/// Tells all cases that fail, not the first.
fn assert_cases(severity: Severity, cases: &[Case]) {
    let failed: Vec<String> = cases.iter().filter_map(|case| failure(severity, case)).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn failure(severity: Severity, &(case, place, message, help): &Case) -> Option<String> {
    let found = diagnose(&complete(case));
    let helped = |help: Option<&str>, part: &str| {
        help.is_some() != part.is_empty() && help.unwrap_or("").contains(part)
    };
    let ok = match found.iter().collect::<Vec<_>>()[..] {
        [only] => {
            only.severity == severity
                && format!("{}:{}", only.line, only.column) == place
                && only.message.contains(message)
                && helped(only.help.as_deref(), help)
        }
        _ => false,
    };
    (!ok).then(|| format!("---- {case}\n expected {place} {message:?} help {help:?}\n got {found}"))
}

const SYNTAX: &[Case] = &[
    ("workers = ", "1:11", "", "quote"),
    ("workers = \"auto", "1:16", "invalid basic string", "same quote"),
    ("workers auto", "1:9", "key with no value", "key = value"),
    ("[log]\naccess = off", "2:10", "must be quoted", "quotes"),
    ("[admin]\naddress = 127.0.0.1:9180", "2:16", "invalid float", "quotes"),
    ("[log\naccess = \"off\"", "1:5", "unclosed table", ""),
    ("workers = 1\nworkers = 2", "2:1", "duplicate key", "only once"),
    ("[log]\n[log]", "2:2", "duplicate key", "only once"),
    ("[service.m]\nendpoints = [\"a:1\" \"b:2\"]", "2:20", "comma", ""),
    ("workers = 99999999999999999999999", "1:11", "out of range", ""),
];

#[test]
fn syntax() {
    assert_cases(Severity::Error, SYNTAX);
}

const UNKNOWN: &[Case] = &[
    ("workes = 1", "1:1", "unknown key `workes`", "did you mean `workers`?"),
    ("threads = 1", "1:1", "unknown key `threads`", "did you mean `workers`?"),
    ("worker-processes = 1", "1:1", "unknown key", "`workers`"),
    ("[upstream.a]\nx = 1", "1:2", "unknown key `upstream`", "did you mean `service`?"),
    ("[frontend.a]\nx = 1", "1:2", "unknown key `frontend`", "did you mean `listen`?"),
    ("[[location]]\nx = 1", "1:3", "unknown key `location`", "did you mean `route`?"),
    ("[quux]\nx = 1", "1:2", "unknown key `quux`", "known here: `workers`"),
    ("[dns]\nworkers = 2", "2:1", "unknown key `workers` in `dns`", "at the top of the file"),
    ("[limits]\nclient_max_body_size = \"1MiB\"", "2:1", "in `limits`", "did you mean `body`?"),
    ("[timeouts]\nfirst-byte = \"1s\"", "2:1", "unknown key `first-byte`", "`first_byte`"),
    ("[listen.web]\nport = 80", "2:1", "in `listen.web`", "did you mean `address`?"),
    ("[service.m]\nservers = [\"a:1\"]", "2:1", "in `service.m`", "did you mean `endpoints`?"),
    ("[service.m]\nendpoints = [\"a:1\"]\ntimeout = \"1s\"", "3:1", "unknown key `timeout`", "`timeouts`"),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nconnect = \"1s\"",
        "3:1",
        "unknown key `connect`",
        "belongs to `[timeouts]`",
    ),
    (
        "[service.m]\nendpoints = [{ address = \"a:1\", wieght = 2 }]",
        "2:33",
        "unknown key `wieght`",
        "`weight`",
    ),
    ("[[route]]\nproxy_pass = \"m\"", "2:1", "unknown key `proxy_pass` in this route", "did you mean `to`?"),
    ("[[route]]\npath = \"/x\"\nto = \"m\"", "2:1", "unknown key `path`", "did you mean `match.path`?"),
    (
        "[[route]]\nto = \"m\"\nmatch = { verb = \"GET\" }",
        "3:11",
        "in `route.match`",
        "did you mean `method`?",
    ),
    ("[[route]]\nredirect = { location = \"/x\" }", "2:14", "in `route.redirect`", "did you mean `to`?"),
    ("[[route]]\nrespond = { code = 200 }", "2:13", "in `route.respond`", "did you mean `status`?"),
];

#[test]
fn unknown_keys() {
    assert_cases(Severity::Error, UNKNOWN);
}

#[path = "error_tls_tests.rs"]
mod tls;

#[path = "error_auth_tests.rs"]
mod auth;

#[path = "error_health_tests.rs"]
mod health;

#[path = "error_model_tests.rs"]
mod model;

const LATER: &[Case] = &[
    ("[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"http2\"", "3:12", "not supported", "\"http\""),
    ("[video]", "1:2", "`video` is not supported", "camera"),
];

#[test]
fn keys_of_later_versions() {
    assert_cases(Severity::Error, LATER);
}

const VALUES: &[Case] = &[
    ("workers = \"four\"", "1:11", "expected \"auto\" or a whole number", ""),
    ("workers = \"4\"", "1:11", "expected a whole number", "write `4`, without quotes"),
    ("workers = 0", "1:11", "0 is out of range", ""),
    ("workers = 1025", "1:11", "from 1 to 1024", ""),
    ("workers = -1", "1:11", "-1 is out of range", ""),
    ("workers = 1.5", "1:11", "found the number 1.5", ""),
    ("workers = []", "1:11", "found a list", ""),
    ("driver = \"io_uring\"", "1:10", "is none of \"auto\"", "did you mean \"uring\"?"),
    ("driver = \"epol\"", "1:10", "\"epol\" is none of", "\"epoll\""),
    ("admin = \"127.0.0.1:1\"", "1:9", "expected a table", ""),
    ("[admin]\naddress = \"localhost:9180\"", "2:11", "is not an IP address", "\"127.0.0.1:9180\""),
    ("[admin]\naddress = 9180", "2:11", "found the number 9180", "\"0.0.0.0:9180\""),
    ("[admin]\naddress = \":9180\"", "2:11", "is not an IP address", "\"0.0.0.0:9180\""),
    ("[admin]\naddress = \"::1:9180\"", "2:11", "is not an IP address", "\"[::1]:9180\""),
    ("[admin]\naddress = \"10.0.0.1\"", "2:11", "is not an IP address", "add the port"),
    ("[admin]\naddress = \"10.0.0.1:0\"", "2:11", "port 0", "1 to 65535"),
    ("[admin]\naddress = \"10.0.0.1:70000\"", "2:11", "is not an IP address", "1 to 65535"),
    ("[admin]\naddress = \"unix:/run/x\"", "2:11", "is not an IP address", "Unix sockets"),
    ("[log]\naccess = \"stdot\"", "2:10", "is none of", "did you mean \"stdout\"?"),
    ("[log]\naccess = true", "2:10", "found `true`", ""),
    ("[reload]\nwatch = \"yes\"", "2:9", "expected `true` or `false`", "write `true`"),
    ("[reload]\nwatch = 1", "2:9", "expected `true` or `false`", ""),
    ("[shutdown]\ndeadline = 30", "2:12", "expected a duration", "\"30s\""),
    ("[shutdown]\ndeadline = \"30\"", "2:12", "is not a duration", "\"30s\""),
    ("[shutdown]\ndeadline = \"30 sec\"", "2:12", "is not a duration", "\"30s\""),
    ("[shutdown]\ndeadline = \"1.5s\"", "2:12", "is not a duration", "whole number"),
    ("[shutdown]\ndeadline = \"0s\"", "2:12", "duration of 0", "1ms"),
    ("[shutdown]\ndeadline = \"off\"", "2:12", "is not a duration", "cannot be turned off"),
    ("[shutdown]\ndeadline = \"999999d\"", "2:12", "too long", "365d"),
    ("[shutdown]\ndeadline = \"99999999999999999999s\"", "2:12", "not a duration", "whole number"),
    ("[dns]\nrefresh = \"10ms\"", "2:11", "at most once a second", "\"1s\""),
    ("[timeouts]\nrequest = false", "2:11", "found `false`", "\"off\""),
    ("[limits]\nbody = \"10M\"", "2:8", "is not a size", "\"10MiB\""),
    ("[limits]\nbody = \"ten\"", "2:8", "is not a size", "whole number"),
    ("[limits]\nbody = -1", "2:8", "-1 is out of range", ""),
    ("[limits]\nbody = \"99999999999GiB\"", "2:8", "too large", ""),
    ("[limits]\nhead = \"64KiB\"", "2:8", "65536 bytes is out of range", ""),
    ("[limits]\nhead = \"2KiB\"\nuri = \"4KiB\"", "3:7", "does not fit", "raise `limits.head`"),
    ("[limits]\nheaders = 0", "2:11", "from 1 to 1000", ""),
    ("[forward]\ntrusted = [\"10.0.0.0/8\", \"10.0.0.1/8\"]", "2:26", "is not a network", "\"10.0.0.0/8\""),
    ("[forward]\ntrusted = [\"10.0.0.0/33\"]", "2:12", "is not a network", "0 to 32"),
    ("[forward]\ntrusted = \"everyone\"", "2:11", "is not a network", "10.0.0.0/8"),
];

#[test]
fn values() {
    assert_cases(Severity::Error, VALUES);
}

const LISTENERS: &[Case] = &[
    ("[service.m]\nendpoints = [\"a:1\"]\n[listen]", "1:1", "nothing to listen on", "[listen.web]"),
    ("[listen.web]", "1:1", "`listen.web` has no `address`", "address = "),
    ("[listen]\naddress = \"0.0.0.0:1\"", "2:1", "expected a table `[listen.address]`", "has a name"),
    ("[[listen]]\naddress = \"0.0.0.0:1\"", "1:1", "tables with names", "single brackets"),
    (
        "[listen.a]\naddress = \"0.0.0.0:1\"\n[listen.b]\naddress = \"0.0.0.0:1\"",
        "4:11",
        "`listen.a` has the address",
        "port",
    ),
    (
        "[admin]\naddress = \"127.0.0.1:1\"\n[listen.b]\naddress = \"127.0.0.1:1\"",
        "4:11",
        "`admin` has the address",
        "port",
    ),
    ("[listen.\"a b\"]\naddress = \"0.0.0.0:1\"", "1:9", "` ` is not allowed in a name", "letters"),
    ("[listen.\"\"]\naddress = \"0.0.0.0:1\"", "1:9", "a name cannot be empty", ""),
    ("[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"htp\"", "3:12", "is none of \"http\"", "\"http\""),
    ("[listen.web]\naddress = \"0.0.0.0:1\"\nto = \"m\"", "3:1", "`to` is for listeners", "`[[route]]`"),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nidle_timeout = \"1m\"",
        "3:1",
        "`idle_timeout` is for listeners with `protocol = \"tcp\"`, `\"tls-passthrough\"` or `\"udp\"`",
        "`timeouts.idle`",
    ),
    ("[listen.web]\naddress = \"0.0.0.0:1\"\nproxy_protocol = true", "3:18", "expected a table", ""),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nproxy_protocol = {}",
        "3:18",
        "`listen.web.proxy_protocol` has no `trusted`",
        "10.0.0.0/8",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nproxy_protocol.trusted = [\"10.0.0.0/33\"]",
        "3:27",
        "is not a network",
        "0 to 32",
    ),
];

/// A listener `db` that speaks TCP, with these lines; the routes keep a listener of their own.
const TCP: &[Case] = &[
    ("[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"", "1:1", "has no `to`", "add `to = "),
    (
        "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nproxy_pass = \"m\"",
        "4:1",
        "unknown key `proxy_pass`",
        "did you mean `to`?",
    ),
    (
        "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"mm\"",
        "4:6",
        "there is no service \"mm\"",
        "\"m\"",
    ),
    (
        "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\nproxy_timeout = \"1m\"",
        "5:1",
        "unknown key",
        "`idle_timeout`",
    ),
    (
        "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\n[listen.web]\naddress = \"0.0.0.0:2\"\n\
         [[route]]\nto = \"m\"\nmatch.listener = [\"web\", \"db\"]",
        "9:26",
        "no route sees what comes to the TCP listener \"db\"",
        "its `to`",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nproxy_protocol = \"v3\"",
        "3:18",
        "is none of \"v1\", \"v2\"",
        "\"v",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nsend_proxy = true",
        "3:1",
        "unknown key `send_proxy`",
        "did you mean `proxy_protocol`?",
    ),
];

#[test]
fn tcp() {
    assert_cases(Severity::Error, TCP);
    let warnings: &[Case] = &[
        (
            "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\n[listen.web]\naddress = \"0.0.0.0:2\"\n\
             [service.m]\nendpoints = [\"a:1\"]\nbalance = \"hash\"\nhash_by = \"path\"",
            "10:1",
            "has nothing of this",
            "\"client\"",
        ),
        (
            "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\n[[route]]\nto = \"m\"",
            "5:1",
            "no request reaches the routes",
            "[listen.web]",
        ),
        (
            "[listen.web]\naddress = \"0.0.0.0:1\"\nproxy_protocol = { trusted = [] }",
            "3:20",
            "no peer is trusted",
            "load balancers",
        ),
    ];
    assert_cases(Severity::Warning, warnings);
    let alone = "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\n[service.m]\nendpoints = [\"a:1\"]\n";
    let found = diagnose(alone);
    assert!(found.is_empty(), "a TCP listener needs no route: {found}");
}

/// A listener `dns` that speaks UDP, or keys that only such a one has.
const UDP: &[Case] = &[
    ("[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"", "1:1", "has no `to`", "add `to = "),
    (
        "[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"mm\"",
        "4:6",
        "there is no service \"mm\"",
        "\"m\"",
    ),
    (
        "[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"\nproxy_responses = 1",
        "5:1",
        "unknown key",
        "`responses`",
    ),
    (
        "[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"\nresponses = 0",
        "5:13",
        "from 1 to 1000",
        "",
    ),
    (
        "[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"\nproxy_protocol.trusted = [\"::/0\"]",
        "5:1",
        "`proxy_protocol` is for listeners with `protocol = \"http\"` or `\"tcp\"`",
        "no PROXY header",
    ),
    (
        "[listen.db]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\nresponses = 1",
        "5:1",
        "`responses` is for listeners with `protocol = \"udp\"`",
        "add `protocol",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nflows_max = 10",
        "3:1",
        "`flows_max` is for listeners with `protocol = \"udp\"`",
        "add `protocol",
    ),
    (
        "[listen.a]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"\n\
         [listen.b]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"",
        "6:11",
        "`listen.a` has the address",
        "port",
    ),
];

#[test]
fn udp() {
    assert_cases(Severity::Error, UDP);
    let warnings: &[Case] = &[
        (
            "[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"\n[listen.web]\naddress = \"0.0.0.0:2\"\n\
             [service.m]\nendpoints = [\"a:1\"]\nbalance = \"hash\"\nhash_by = \"path\"",
            "10:1",
            "a flow of the UDP listener",
            "\"client\"",
        ),
        (
            "[listen.dns]\naddress = \"0.0.0.0:1\"\nprotocol = \"udp\"\nto = \"m\"\n[listen.web]\naddress = \"0.0.0.0:2\"\n\
             [service.m]\nendpoints = [\"a:1\"]\nproxy_protocol = \"v2\"",
            "4:6",
            "datagrams carry no PROXY header",
            "of its own",
        ),
    ];
    assert_cases(Severity::Warning, warnings);
    let both = "[listen.dns]\naddress = \"0.0.0.0:53\"\nprotocol = \"udp\"\nto = \"m\"\nresponses = 1\n\
                [listen.dns-tcp]\naddress = \"0.0.0.0:53\"\nprotocol = \"tcp\"\nto = \"m\"\n\
                [service.m]\nendpoints = [\"a:53\"]\n";
    let found = diagnose(both);
    assert!(found.is_empty(), "UDP and TCP have ports of their own, and need no route: {found}");
}

#[test]
fn listeners() {
    assert_cases(Severity::Error, LISTENERS);
}

const SERVICES: &[Case] = &[
    ("[service.m]", "1:1", "`service.m` has no `endpoints`", "endpoints = "),
    ("[service.m]\nendpoints = \"10.0.0.1\"", "2:13", "is not an endpoint", "\"10.0.0.1:8000\""),
    ("[service.m]\nendpoints = [\"models\"]", "2:14", "is not an endpoint", "\"models:8000\""),
    ("[service.m]\nendpoints = [\"models:http\"]", "2:22", "is not an endpoint", "1 to 65535"),
    ("[service.m]\nendpoints = [\"models:0\"]", "2:22", "is not an endpoint", "1 to 65535"),
    ("[service.m]\nendpoints = [\"10.0.0.1:0\"]", "2:14", "port 0", "1 to 65535"),
    ("[service.m]\nendpoints = [\"http://a:80/x\"]", "2:14", "is not an endpoint", "write \"a:80\""),
    ("[service.m]\nendpoints = [\"https://a/x\"]", "2:14", "is not an endpoint", "write \"a:443\""),
    ("[service.m]\nendpoints = [\"::1:80\"]", "2:14", "is not an endpoint", "\"[::1]:80\""),
    ("[service.m]\nendpoints = [\"unix:/x\"]", "2:14", "is not an endpoint", "Unix sockets"),
    ("[service.m]\nendpoints = [\"10.0.0.999:80\"]", "2:14", "looks like an IP address", ""),
    ("[service.m]\nendpoints = [\"a b:80\"]", "2:16", "` ` is not allowed", ""),
    ("[service.m]\nendpoints = [\"a..b:80\"]", "2:14", "between two dots", ""),
    ("[service.m]\nendpoints = [80]", "2:14", "expected an endpoint", ""),
    ("[service.m]\nendpoints = [\"a:1\", \"a:1\"]", "2:21", "stands twice, first on line 2", "weight = 2"),
    (
        "[service.m]\nendpoints = [\n  \"a:1\",\n  { address = \"A:1\" },\n]",
        "4:15",
        "first on line 3",
        "weight",
    ),
    ("[service.m]\nendpoints = [{ weight = 2 }]", "2:14", "has no `address`", ""),
    ("[service.m]\nendpoints = [{ address = \"a:1\", weight = 1001 }]", "2:42", "from 0 to 1000", ""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nbalance = \"leastconn\"",
        "3:11",
        "is none of",
        "\"least-request\"",
    ),
    ("[service.m]\nendpoints = [\"a:1\"]\nbalance = \"rnadom\"", "3:11", "is none of", "\"random\""),
    ("[service.m]\nendpoints = [\"a:1\"]\nhash_by = \"path\"", "3:1", "does nothing", "balance = \"hash\""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nbalance = \"hash\"\nhash_by = \"header\"",
        "4:11",
        "is none of",
        "\"header:NAME\"",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nbalance = \"hash\"\nhash_by = \"client_ip\"",
        "4:11",
        "is none of",
        "\"client\"",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nbalance = \"hash\"\nhash_by = \"header:a b\"",
        "4:11",
        "is none of",
        "NAME",
    ),
    ("[service.m]\nendpoints = [\"a:1\"]\nretry = { attempts = 0 }", "3:22", "from 1 to 10", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\nretry = { on_status = [502, 200] }", "3:29", "from 400 to 599", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\nretry = 3", "3:9", "expected a table", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\nprotocol = \"http2\"", "3:12", "is none of", "http1"),
    ("[service.m]\nendpoints = [\"a:1\"]\nprotocol = \"auto\"", "3:1", "without `tls`", "protocol = \"h2\""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nprotocol = \"h2\"\nproxy_protocol = \"v2\"",
        "4:1",
        "names one client",
        "x-forwarded-for",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\ntimeouts = { connect = \"5\" }",
        "3:24",
        "not a duration",
        "\"5s\"",
    ),
];

#[test]
fn services() {
    assert_cases(Severity::Error, SERVICES);
}

const ROUTES: &[Case] = &[
    ("[route]\nto = \"m\"", "1:1", "expected a list of tables", "[[route]]"),
    ("[[route]]\nname = \"x\"", "1:1", "this route does nothing", "add `to"),
    ("[[route]]\nto = \"m\"\nredirect = { to = \"/x\" }", "3:1", "both `to` and `redirect`", "remove one"),
    ("[[route]]\nto = \"mm\"", "2:6", "there is no service \"mm\"", "did you mean \"m\"?"),
    ("[[route]]\nto = \"elsewhere\"", "2:6", "there is no service", "[service.elsewhere]"),
    (
        "[[route]]\nto = \"m-{header:x}\"\notherwise = \"n\"\n[service.m-v2]\nendpoints = [\"a:1\"]",
        "3:13",
        "there is no service \"n\"",
        "[service.n]",
    ),
    ("[[route]]\nto = \"m\"\notherwise = \"{host}\"", "3:13", "not a template", ""),
    ("[[route]]\notherwise = \"m\"\nrespond = {}", "2:1", "`otherwise` does nothing", "write `to`"),
    ("[[route]]\nto = [\"m\", \"n\"]", "2:6", "expected one service", "balances"),
    ("[[route]]\nto = \"\"", "2:6", "empty", ""),
    ("[[route]]\nto = \"m-{headr:x}\"", "2:9", "unknown source", ""),
    ("[[route]]\nto = \"m-{header:x\"", "2:9", "never closed", ""),
    (
        "[[route]]\nname = \"a\"\nto = \"m\"\nmatch.path = \"/a\"\n[[route]]\nname = \"a\"\nto = \"m\"",
        "6:8",
        "taken on line 2",
        "another",
    ),
    ("[[route]]\nname = \"a b\"\nto = \"m\"", "2:10", "not allowed in a name", "letters"),
    ("[[route]]\nto = \"m\"\ntimeout = 5", "3:11", "expected a duration", "\"5s\""),
    ("[[route]]\nto = \"m\"\nbody_limit = \"5 MB\"", "3:14", "is not a size", "\"5MiB\""),
    ("[[route]]\nto = \"m\"\ncors = {}", "3:8", "has no `origins`", ""),
    ("[[route]]\nto = \"m\"\ncors = { origins = \"https://a.test/\" }", "3:20", "is no origin", "no slash"),
    ("[[route]]\nto = \"m\"\ncors = { origins = \"a.test\" }", "3:20", "is no origin", "\"https://app"),
    (
        "[[route]]\nto = \"m\"\ncors = { origins = \"*\", credentials = true }",
        "3:25",
        "any page could act",
        "name the origins",
    ),
    ("[[route]]\nredirect = {}", "2:12", "has no `to`", ""),
    ("[[route]]\nredirect = { to = \"x\" }", "2:19", "neither a URL nor a path", "\"/x\""),
    ("[[route]]\nredirect = { to = \"/x\", status = 304 }", "2:34", "304 is no redirect", "301"),
    ("[[route]]\nrespond = { status = 100 }", "2:22", "from 200 to 599", ""),
    ("[[route]]\nrespond = { status = 204, body = \"x\" }", "2:34", "has no body", ""),
    ("[[route]]\nrespond = { content_type = \"json\" }", "2:28", "is not a media type", "application/json"),
    ("[[route]]\nrespond = {}\nrewrite = { path = \"/x\" }", "3:1", "`rewrite` does nothing", "remove it"),
    ("[[route]]\nto = \"m\"\nrewrite = {}", "3:11", "does nothing", "strip_prefix"),
    (
        "[[route]]\nto = \"m\"\nrewrite = { path = \"/x\", strip_prefix = \"/y\" }",
        "3:26",
        "either `path` or `strip_prefix`",
        "remove one",
    ),
    ("[[route]]\nto = \"m\"\nrewrite = { path = \"x\" }", "3:20", "starts with `/`", "\"/x\""),
    ("[[route]]\nto = \"m\"\nrewrite = { path = \"/x?y\" }", "3:23", "cannot stand in a path", ""),
    ("[[route]]\nto = \"m\"\nrewrite = { strip_prefix = \"/\" }", "3:28", "nothing to strip", "\"/api\""),
    (
        "[[route]]\nto = \"m\"\nrewrite = { regex = \"a(b\", replacement = \"\" }",
        "3:23",
        "unclosed group",
        "",
    ),
    (
        "[[route]]\nto = \"m\"\nrewrite = { regex = \"a(b)\", replacement = \"/$2\" }",
        "3:45",
        "no group `2`",
        "",
    ),
    (
        "[[route]]\nto = \"m\"\nrewrite = { regex = \"a(b)\", replacement = \"/$1x\" }",
        "3:45",
        "no group `1x`",
        "${1}x",
    ),
    (
        "[[route]]\nto = \"m\"\nrewrite = { regex = \"a(?P<name>b)\", replacement = \"${nam}\" }",
        "3:52",
        "no group `nam`",
        "${name}",
    ),
    ("[[route]]\nto = \"m\"\nrewrite = { regex = \"a\" }", "3:11", "has no `replacement`", ""),
    ("[[route]]\nto = \"m\"\nrewrite = { replacement = \"a\" }", "3:13", "without `regex`", "add `regex`"),
    (
        "[[route]]\nto = \"m\"\nrewrite.path = \"/{path:model}\"",
        "3:1",
        "`{path:model}` is not named",
        "`{model}`",
    ),
    (
        "[[route]]\nto = \"m\"\nmatch = { path = [\"/a/{x}\", \"/b\"] }\nrequest_headers = { set = { x = \"{path:x}\" } }",
        "4:19",
        "`{path:x}` is not named in every",
        "`{x}`",
    ),
];

#[test]
fn routes() {
    assert_cases(Severity::Error, ROUTES);
}

/// After `[[route]]` and `to`, the condition that is wrong.
const CONDITIONS: &[Case] = &[
    ("path = \"v2\"", "3:8", "is not a path", "\"/v2\""),
    ("path = \"*\"", "3:8", "is not a path", "\"/**\""),
    ("path = \"^/v2\"", "3:8", "is not a path", "\"~^/v2\""),
    ("path = \"/a?b=c\"", "3:11", "is not a path", "match.query"),
    ("path = \"/a b\"", "3:11", "is not a path", "%20"),
    ("path = \"/é\"", "3:10", "is not a path", "%C3%A9"),
    ("path = \"/a/../b\"", "3:8", "is not a path", "\"/b\""),
    ("path = \"/%zz\"", "3:8", "is not a path", "hex digits"),
    ("path = \"/%41\"", "3:8", "is not a path", "\"/A\""),
    ("path = \"/a/**/b\"", "3:12", "only at the end", "regex"),
    ("path = \"/img-*\"", "3:10", "mixes text and a wildcard", "regex"),
    ("path = \"/{a}x\"", "3:10", "mixes text", "regex"),
    ("path = \"/{}\"", "3:10", "not the name of a segment", "`*`"),
    ("path = \"/{a}/{a}\"", "3:14", "stands twice", "own name"),
    ("path = []", "3:1", "an empty list", "leave it out"),
    ("path = [\"/a\", 3]", "3:15", "expected a path", ""),
    ("path = \"~^/v([0-9]\"", "3:13", "unclosed group", ""),
    ("path = '~ /\\d{2,1}'", "3:14", "this regex is wrong", ""),
    ("path = \"~\"", "3:8", "empty regex", "leave it out"),
    ("path = \"~\\\\w{500}{500}\"", "3:8", "too large", "smaller"),
    ("host = \"*\"", "3:8", "is not a host", "leave `host` out"),
    ("host = \"a.com:80\"", "3:8", "is not a host", "\"a.com\""),
    ("host = \"http://a.com\"", "3:8", "is not a host", "\"a.com\""),
    ("host = \"a.*.com\"", "3:8", "is not a host", "in front"),
    ("host = \"a.com.\"", "3:8", "is not a host", "none at the end"),
    ("host = \"bücher.de\"", "3:8", "is not a host", "xn--"),
    ("host = \"a_b/c\"", "3:8", "is not a host", "`/`"),
    ("host = \"[::g]\"", "3:8", "is not a host", "IPv6"),
    ("method = \"get\"", "3:10", "is not a method", "\"GET\""),
    ("method = \"*\"", "3:10", "is not a method", "leave `method` out"),
    ("method = [\"GET\", \"P OST\"]", "3:18", "is not a method", "letters"),
    ("listener = \"wbe\"", "3:12", "there is no listener \"wbe\"", "\"web\""),
    ("header = { \"x y\" = true }", "3:12", "is not the name of a header", "letters"),
    ("header = { \"x:\" = true }", "3:12", "is not the name of a header", "colon"),
    ("header = { x = 3 }", "3:16", "expected a text", "\"3\""),
    ("header = { x = [\"a\", \"b\"] }", "3:16", "found a list", "regex"),
    ("header = { x = \"a*b*\" }", "3:18", "only at the end", "regex"),
    ("header = \"x\"", "3:10", "expected a table", ""),
    ("query = { x = \"~[\" }", "3:17", "this regex is wrong", ""),
    ("query = { x = \"a\\nb\" }", "3:15", "control character", ""),
];

#[test]
fn conditions() {
    let before = "match = { ";
    let whole = CONDITIONS.iter().map(|&(condition, place, message, help)| {
        let column: usize = place.strip_prefix("3:").and_then(|column| column.parse().ok()).unwrap();
        let case: &str = format!("[[route]]\nto = \"m\"\n{before}{condition} }}").leak();
        let place: &str = format!("3:{}", column + before.len()).leak();
        (case, place, message, help)
    });
    assert_cases(Severity::Error, &whole.collect::<Vec<_>>());
}

/// After `[[route]]` and `to`.
const EDITS: &[Case] = &[
    (
        "request_headers = { set = { Connection = \"x\" } }",
        "3:29",
        "`connection` cannot be changed",
        "framed",
    ),
    ("request_headers = { add = { content-length = \"1\" } }", "3:29", "`content-length` cannot", "framed"),
    ("response_headers = { remove = [\"transfer-encoding\"] }", "3:32", "cannot be changed", "framed"),
    ("request_headers = { remove = \"host\" }", "3:30", "`host` cannot be changed", "`set`"),
    ("request_headers = { add = { host = \"a\" } }", "3:29", "`host` cannot be changed", "`set`"),
    ("request_headers = { set = { \"a b\" = \"x\" } }", "3:29", "is not the name of a header", "letters"),
    ("request_headers = { set = { x = \"a\\r\\nb: c\" } }", "3:33", "cannot stand in a header", ""),
    ("request_headers = { set = { x = 'ab ' } }", "3:33", "no space at its ends", ""),
    ("request_headers = { set = { x = 1 } }", "3:33", "expected a text", "\"1\""),
    ("request_headers = { set = { x = [\"a\"] } }", "3:33", "found a list", ""),
    ("request_headers = { set = { x = \"{nope}\" } }", "3:34", "unknown source", ""),
    ("request_headers = { set = { x-a = \"1\", X-A = \"2\" } }", "3:40", "stands twice", ""),
    ("request_headers = { replace = { x = \"1\" } }", "3:21", "unknown key `replace`", "`set`"),
];

#[test]
fn header_edits() {
    let whole = EDITS.iter().map(|&(edit, place, message, help)| {
        let case: &str = format!("[[route]]\nto = \"m\"\n{edit}").leak();
        (case, place, message, help)
    });
    assert_cases(Severity::Error, &whole.collect::<Vec<_>>());
}

const WARNINGS: &[Case] = &[
    ("[service.m]\nendpoints = []", "2:1", "a service without endpoints", "503"),
    (
        "[service.m]\nendpoints = [\"a:1\"]\n[service.n]\nendpoints = [\"a:1\"]",
        "3:10",
        "nothing uses the service \"n\"",
        "",
    ),
    ("[[route]]\nto = \"m\"\notherwise = \"m\"", "3:13", "never used", "remove it"),
    ("[[route]]\nto = \"n-{host}\"", "2:6", "no service has a name of the form", "outside the braces"),
    (
        "[[route]]\nto = \"m\"\n[[route]]\nto = \"m\"\nmatch.path = \"/x\"",
        "3:1",
        "never reached: the route on line 1",
        "move this route",
    ),
    (
        "[[route]]\nname = \"all\"\nto = \"m\"\nmatch.path = \"/v2/**\"\n[[route]]\nto = \"m\"\nmatch.path = \"/v2/m/**\"",
        "5:1",
        "the route \"all\" on line 1",
        "first match",
    ),
];

#[test]
fn warnings() {
    assert_cases(Severity::Warning, WARNINGS);
    let found = diagnose("[listen.web]\naddress = \"0.0.0.0:1\"\n");
    assert!(!found.has_errors() && found.to_string().contains("there are no routes"), "{found}");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "workers = 0\n[log]\nacess = 1\n[listen.web]\naddress = \"x\"\n[service.a]\nendpoints = [\"a\", \"b:c\"]\n\
                [[route]]\nto = \"b\"\nmatch = { path = \"x\", method = \"get\" }\n";
    let found = diagnose(text);
    let places: Vec<_> = found.iter().map(|one| (one.line, one.column)).collect();
    assert_eq!(places, [(1, 11), (3, 1), (5, 11), (7, 14), (7, 22), (9, 6), (10, 18), (10, 32)], "{found}");
    assert_eq!(found.error_count(), 8);
}

#[test]
fn a_broken_line_does_not_hide_mistakes_elsewhere_and_makes_none_up() {
    let found =
        diagnose("[service.a]\nendpoints = [\"a:1\n[listen.web]\naddress = 8080\n[[route]]\nto = \"a\"\n");
    assert!(found.iter().any(|one| one.line == 2), "{found}");
    assert!(
        found
            .iter()
            .all(|one| !one.message.contains("no `endpoints`") && !one.message.contains("there is no")),
        "{found}"
    );
}

#[test]
fn a_diagnostic_reads_like_a_compilers() {
    let found = diagnose("[listen.web]\naddress = \"0.0.0.0:1\"\n\tbind = 1\n[[route]]\nrespond = {}\n");
    let expected = "edge.toml:3:2: error: unknown key `bind` in `listen.web`\n  |\n3 |  bind = 1\n  |  ^^^^\n  \
                    = help: did you mean `address`?\n\n1 error";
    assert_eq!(found.to_string(), expected);
}

#[test]
fn columns_count_characters_and_long_lines_are_cut() {
    let found = diagnose(&complete("\u{feff}workers = { ä = 1 }"));
    assert_eq!((found.iter().next().unwrap().line, found.iter().next().unwrap().column), (1, 13));
    let long = format!("[log]\naccess = [\"{}\", \"\u{1b}[31m\"]", "x".repeat(100_000));
    let shown = diagnose(&complete(&long)).to_string();
    assert!(shown.len() < 1000 && !shown.contains('\u{1b}'), "{shown}");
    let quoted = format!("[[route]]\nto = \"{{\\u001b{}}}\"", "x".repeat(100_000));
    let shown = diagnose(&complete(&quoted)).to_string();
    assert!(shown.len() < 2000 && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn their_number_is_bounded() {
    let many: String = (0..5000).map(|n| format!("x{n} = 1\n")).collect();
    let found = diagnose(&complete(&many));
    assert_eq!(found.iter().count(), Diagnostics::SHOWN_MAX);
    assert_eq!(found.error_count(), 5000);
    assert!(found.to_string().contains("... and 4900 more"));
    assert_eq!(found.iter().next().unwrap().line, 1);
}

#[test]
fn a_file_that_is_not_utf8_is_told_where() {
    let found =
        crate::config::diagnostic::decode(Path::new("edge.toml"), b"a = 1\nb = \"\xff\"\n").unwrap_err();
    let only = found.iter().next().unwrap();
    assert_eq!((only.line, only.column), (2, 6), "{found}");
}
