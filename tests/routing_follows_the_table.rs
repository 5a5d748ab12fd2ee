//! Promise: the first route of the file that matches takes the request, does to it what it says, and `tidegate
//! explain` names the same one. Each answer carries the name of its route, so that a wrong one cannot pass.

mod harness;

use harness::{Backend, Client, Gateway, Response, process};

/// (method, target, host, more fields, expected route or "" for none)
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

#[test]
fn the_first_match_takes_the_request_and_explain_agrees() {
    let origin = Backend::describing("origin");
    let mut config = format!("[service.main]\nendpoints = [\"{}\"]\n", origin.address);
    for (name, conditions) in ROUTES {
        config.push_str(&format!(
            "[[route]]\nname = \"{name}\"\nmatch = {{ {conditions} }}\nto = \"main\"\n\
             response_headers = {{ set = {{ x-route = \"{{route}}\" }} }}\n"
        ));
    }
    let gateway = Gateway::start(&config, &[]);
    let mut client = gateway.client();
    for row @ (method, target, host, fields, route) in ROWS {
        let raw = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        let answer =
            client.request(method, raw.as_bytes()).unwrap_or_else(|fault| panic!("{row:?}: {fault:?}"));
        let expected = if route.is_empty() { (404, None) } else { (200, Some(*route)) };
        assert_eq!((answer.status, answer.get("x-route")), expected, "{row:?}");
        assert_eq!(explained(&gateway, row), *route, "explain disagrees on {row:?}");
    }
}

/// The route that `tidegate explain` names, "" for none.
fn explained(gateway: &Gateway, (method, target, host, fields, _): &Row) -> String {
    let file = gateway.config_file();
    let url = format!("http://{host}{target}");
    let mut arguments = vec!["explain", "-c", file.to_str().expect("a plain path"), method, &url];
    for field in fields.split_terminator("\r\n") {
        arguments.extend(["-H", field]);
    }
    let output = process::tidegate(&arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find_map(|line| line.strip_prefix("> ")?.split_whitespace().next());
    assert_eq!(output.status.success(), found.is_some(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    found.unwrap_or_default().to_owned()
}

const ROUTES: &[(&str, &str)] = &[
    ("exact-host", "host = \"one.example\", path = \"/host\""),
    ("wildcard-host", "host = \"*.wild.example\", path = \"/host\""),
    ("either-host", "host = [\"a.example\", \"b.example\"], path = \"/host\""),
    ("any-host", "path = \"/host\""),
    ("exact", "path = \"/exact\""),
    ("post-under", "method = \"POST\", path = \"/under/**\""),
    ("several-methods", "method = [\"PUT\", \"DELETE\"], path = \"/under/**\""),
    ("deep", "path = \"/under/deep/**\""),
    ("under", "path = \"/under/**\""),
    ("segments", "path = \"/v2/models/{model}/infer\""),
    ("versioned", "path = \"/v2/models/{model}/versions/{version}/infer\""),
    ("star", "path = \"/star/*/end\""),
    ("regex", "path = \"~^/r[0-9]+/x$\""),
    ("header-exact", "path = \"/header\", header = { x-model-version = \"v2\" }"),
    ("header-prefix", "path = \"/header\", header = { X-Model-Version = \"v3*\" }"),
    ("header-regex", "path = \"/header\", header = { x-model-version = \"~^v[45]$\" }"),
    ("header-present", "path = \"/header\", header = { x-there = true }"),
    ("header-absent", "path = \"/header\", header = { x-model-version = false }"),
    ("two-headers", "path = \"/header\", header = { x-model-version = \"v9\", x-tenant = \"a\" }"),
    ("query-exact", "path = \"/query\", query = { v = \"2\" }"),
    ("query-present", "path = \"/query\", query = { debug = true }"),
    ("query-absent", "path = \"/query\", query = { v = false }"),
    (
        "everything",
        "path = \"/all\", host = \"all.example\", method = \"GET\", header = { a = \"1\" }, query = { b = \"2\" }",
    ),
    ("either-path", "path = [\"/left\", \"/right/**\"]"),
];

const ROWS: &[Row] = &[
    ("GET", "/host", "one.example", "", "exact-host"),
    ("GET", "/host", "ONE.Example", "", "exact-host"),
    ("GET", "/host", "one.example:8080", "", "exact-host"),
    ("GET", "/host", "sub.one.example", "", "any-host"),
    ("GET", "/host", "x.wild.example", "", "wildcard-host"),
    ("GET", "/host", "x.y.wild.example:81", "", "wildcard-host"),
    ("GET", "/host", "wild.example", "", "any-host"),
    ("GET", "/host", "notwild.example", "", "any-host"),
    ("GET", "/host", "xwild.example", "", "any-host"),
    ("GET", "/host", "b.example", "", "either-host"),
    ("GET", "/host", "127.0.0.1", "", "any-host"),
    ("GET", "/exact", "h", "", "exact"),
    ("GET", "/exact?a=b", "h", "", "exact"),
    ("GET", "/exact/", "h", "", ""),
    ("GET", "/exactly", "h", "", ""),
    ("GET", "/Exact", "h", "", ""),
    ("GET", "/a/../exact", "h", "", "exact"),
    ("GET", "/%65xact", "h", "", "exact"),
    ("GET", "/exact%2F", "h", "", ""),
    ("POST", "/under/a", "h", "Content-Length: 0\r\n", "post-under"),
    ("PUT", "/under/a", "h", "Content-Length: 0\r\n", "several-methods"),
    ("DELETE", "/under/deep/a", "h", "", "several-methods"),
    ("GET", "/under/a/b/c", "h", "", "under"),
    ("GET", "/under", "h", "", "under"),
    ("GET", "/under/", "h", "", "under"),
    ("GET", "/underneath", "h", "", ""),
    ("GET", "/under/deep", "h", "", "deep"),
    ("GET", "/under/deep/er", "h", "", "deep"),
    ("GET", "/under/deeper", "h", "", "under"),
    ("GET", "/under/deep/../x", "h", "", "under"),
    ("GET", "/v2/models/resnet/infer", "h", "", "segments"),
    ("GET", "/v2/models//infer", "h", "", ""),
    ("GET", "/v2/models/a/b/infer", "h", "", ""),
    ("GET", "/v2/models/resnet/versions/3/infer", "h", "", "versioned"),
    ("GET", "/v2/models/resnet/infer/", "h", "", ""),
    ("GET", "/star/x/end", "h", "", "star"),
    ("GET", "/star/x/y/end", "h", "", ""),
    ("GET", "/r17/x", "h", "", "regex"),
    ("GET", "/rx/x", "h", "", ""),
    ("GET", "/r17/xy", "h", "", ""),
    ("GET", "/header", "h", "X-Model-Version: v2\r\n", "header-exact"),
    ("GET", "/header", "h", "x-MODEL-version: v2\r\n", "header-exact"),
    ("GET", "/header", "h", "X-Model-Version: v3-beta\r\n", "header-prefix"),
    ("GET", "/header", "h", "X-Model-Version: v5\r\n", "header-regex"),
    ("GET", "/header", "h", "X-Model-Version: v6\r\n", ""),
    ("GET", "/header", "h", "X-Model-Version: V2\r\n", ""),
    ("GET", "/header", "h", "X-Model-Version: v6\r\nX-There: \r\n", "header-present"),
    ("GET", "/header", "h", "", "header-absent"),
    ("GET", "/header", "h", "X-Model-Version: v9\r\nX-Tenant: a\r\n", "two-headers"),
    ("GET", "/header", "h", "X-Model-Version: v9\r\nX-Tenant: b\r\n", ""),
    ("GET", "/header", "h", "X-Model-Version: v6\r\nX-Model-Version: v2\r\n", "header-exact"),
    ("GET", "/query?v=2", "h", "", "query-exact"),
    ("GET", "/query?a=b&v=2&c", "h", "", "query-exact"),
    ("GET", "/query?v=22", "h", "", ""),
    ("GET", "/query?v=3&debug", "h", "", "query-present"),
    ("GET", "/query?v=3&debug=1", "h", "", "query-present"),
    ("GET", "/query", "h", "", "query-absent"),
    ("GET", "/query?V=2", "h", "", "query-absent"),
    ("GET", "/all?b=2", "all.example", "A: 1\r\n", "everything"),
    ("POST", "/all?b=2", "all.example", "A: 1\r\nContent-Length: 0\r\n", ""),
    ("GET", "/all?b=2", "other.example", "A: 1\r\n", ""),
    ("GET", "/all?b=3", "all.example", "A: 1\r\n", ""),
    ("GET", "/all?b=2", "all.example", "A: 2\r\n", ""),
    ("GET", "/left", "h", "", "either-path"),
    ("GET", "/right/hand", "h", "", "either-path"),
    ("GET", "/left/hand", "h", "", ""),
];

#[test]
fn a_version_header_chooses_the_service() {
    let (stable, v2) = (Backend::describing("stable"), Backend::describing("v2"));
    let gateway = Gateway::start(
        r#"
[service.model-service-stable]
endpoints = ["@stable@"]
[service.model-service-v2]
endpoints = ["@v2@"]
[[route]]
name = "strict"
match = { path = "/strict/**" }
to = "model-service-{header:x-model-version}"
[[route]]
name = "path"
match = { path = "/by-path/{version}/**" }
to = "model-service-{path:version}"
otherwise = "model-service-stable"
[[route]]
name = "query"
match = { path = "/by-query" }
to = "model-service-{query:version}"
otherwise = "model-service-stable"
[[route]]
name = "models"
to = "model-service-{header:x-model-version}"
otherwise = "model-service-stable"
"#,
        &[("stable", stable.address), ("v2", v2.address)],
    );
    let mut client = gateway.client();
    let mut ask = |path: &str, fields: &str| -> String {
        let answer = client.get_with(path, fields).expect("an answer");
        if answer.status == 200 {
            answer.text().lines().next().unwrap_or_default().into()
        } else {
            answer.status.to_string()
        }
    };
    assert_eq!(ask("/", "X-Model-Version: v2\r\n"), "v2");
    assert_eq!(ask("/", "X-Model-Version: stable\r\n"), "stable");
    assert_eq!(ask("/", ""), "stable", "no header falls back");
    assert_eq!(ask("/", "X-Model-Version: v3\r\n"), "stable", "no such service falls back");
    assert_eq!(ask("/", "X-Model-Version: ../v2\r\n"), "stable");
    assert_eq!(ask("/", &format!("X-Model-Version: {}\r\n", "v".repeat(5000))), "stable");
    assert_eq!(ask("/strict/", "X-Model-Version: v2\r\n"), "v2");
    assert_eq!(ask("/strict/", "X-Model-Version: v3\r\n"), "404");
    assert_eq!(ask("/strict/", ""), "404");
    assert_eq!(ask("/by-path/v2/x", ""), "v2");
    assert_eq!(ask("/by-path/v7/x", ""), "stable");
    assert_eq!(ask("/by-query?version=v2", ""), "v2");
    assert_eq!(ask("/by-query", ""), "stable");
}

#[test]
fn redirects_and_fixed_answers_need_no_backend() {
    let gateway = Gateway::start(
        r#"
[[route]]
name = "moved"
match = { path = "/old/**" }
redirect = { to = "https://{host}{path}", status = 301 }
[[route]]
name = "default-status"
match = { path = "/temporary" }
redirect = { to = "/new" }
[[route]]
name = "uri"
match = { path = "/uri" }
redirect = { to = "https://new.example{uri}", status = 308 }
[[route]]
name = "fixed"
match = { path = "/fixed" }
respond = { status = 418, body = "short\nand stout", content_type = "text/teapot" }
response_headers = { set = { x-kind = "pot" } }
[[route]]
name = "empty"
match = { path = "/empty" }
respond = { status = 204 }
"#,
        &[],
    );
    let mut client = gateway.client();
    let moved = client.get("/old/place?a=b").expect("an answer");
    assert_eq!((moved.status, moved.get("location")), (301, Some("https://test.example/old/place")));
    let temporary = client.get("/temporary").expect("an answer");
    assert_eq!((temporary.status, temporary.get("location")), (307, Some("/new")));
    let uri = client.get("/uri?a=b").expect("an answer");
    assert_eq!((uri.status, uri.get("location")), (308, Some("https://new.example/uri?a=b")));
    let fixed = client.get("/fixed").expect("an answer");
    assert_eq!((fixed.status, fixed.text().as_str()), (418, "short\nand stout"));
    assert_eq!((fixed.get("content-type"), fixed.get("x-kind")), (Some("text/teapot"), Some("pot")));
    let empty = client.get("/empty").expect("an answer");
    assert!(empty.status == 204 && empty.body.is_empty());
    // A body that a fixed answer leaves unread does not become a request.
    let raw = b"POST /fixed HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\nGET /empty HTTP/1.1\r\nHost: evil\r\n\r\n";
    let mut client = gateway.client();
    assert_eq!(client.request("POST", raw).expect("an answer").status, 418);
    match client.get("/temporary") {
        Ok(answer) => assert_eq!(answer.status, 307),
        Err(fault) => assert!(matches!(fault, harness::Fault::Closed | harness::Fault::Reset), "{fault:?}"),
    }
}

#[test]
fn rewrites_change_the_path_and_keep_the_query() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::start(
        r#"
[service.main]
endpoints = ["@origin@"]
[[route]]
match = { path = "/strip/**" }
to = "main"
rewrite = { strip_prefix = "/strip" }
[[route]]
match = { path = "/v1/{model}/{rest}" }
to = "main"
rewrite = { path = "/v2/models/{path:model}/{path:rest}" }
[[route]]
match = { path = "/regex/**" }
to = "main"
rewrite = { regex = "^/regex/([a-z]+)/(?P<n>[0-9]+)", replacement = "/${n}/$1" }
"#,
        &[("origin", origin.address)],
    );
    let mut client = gateway.client();
    for (target, seen) in [
        ("/strip/a/b?c=d", "/a/b?c=d"),
        ("/strip", "/"),
        ("/strip/", "/"),
        ("/strip?x", "/?x"),
        ("/strip/strip/a", "/strip/a"),
        ("/strip//evil.example/", "//evil.example/"),
        ("/v1/resnet/infer?q=1", "/v2/models/resnet/infer?q=1"),
        ("/regex/abc/42/tail?x=y", "/42/abc/tail?x=y"),
        ("/regex/ABC/42", "/regex/ABC/42"),
    ] {
        let answer = client.get(target).expect("an answer");
        assert_eq!(answer.text().lines().nth(1), Some(format!("GET {seen}").as_str()), "{target}");
    }
}

#[test]
fn header_edits_apply_both_ways_in_order() {
    let origin = Backend::serve(|request, conn| {
        let fields = "Server: secret\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Replace: old\r\nX-Keep: kept\r\n";
        let _ = conn.write(&harness::backend::answer(
            "200 OK",
            fields,
            &harness::backend::describe("origin", request),
        ));
    });
    let gateway = Gateway::start(
        r#"
[service.main]
endpoints = ["@origin@"]
[[route]]
name = "edited"
match = { path = "/m/{model}" }
to = "main"
[route.request_headers]
remove = ["X-Secret", "cookie"]
set = { X-Model = "{path:model}", x-replace = "new", X-Client = "{client.ip}", x-scheme = "{scheme}", x-id = "{request.id}" }
add = { x-many = "gateway", X-Route = "{route}/{method}" }
[route.response_headers]
remove = ["server", "X-Twice"]
set = { x-replace = "new", X-Model = "{path:model}", x-from = "{header:x-from}" }
add = { x-keep = "added" }
"#,
        &[("origin", origin.address)],
    );
    let fields = "X-Secret: 1\r\nCookie: a\r\nCookie: b\r\nX-Replace: one\r\nx-replace: two\r\nX-Many: client\r\nX-From: there\r\n";
    let answer = gateway.client().get_with("/m/resnet", fields).expect("an answer");
    let seen = |name: &str| values_seen(&answer, name);
    assert!(seen("x-secret").is_empty() && seen("cookie").is_empty(), "{}", answer.text());
    assert_eq!(seen("x-model"), ["resnet"]);
    assert_eq!(seen("x-replace"), ["new"]);
    assert_eq!(seen("x-client"), ["127.0.0.1"]);
    assert_eq!(seen("x-scheme"), ["http"]);
    assert_eq!(seen("x-many"), ["client", "gateway"]);
    assert_eq!(seen("x-route"), ["edited/GET"]);
    assert_eq!(seen("x-id"), answer.head.all("x-request-id"));
    assert!(!answer.head.has("server") && !answer.head.has("x-twice"), "{:?}", answer.head);
    assert_eq!(answer.head.all("x-replace"), ["new"]);
    assert_eq!(answer.head.all("x-model"), ["resnet"]);
    assert_eq!(answer.head.all("x-from"), ["there"]);
    assert_eq!(answer.head.all("x-keep"), ["kept", "added"]);
}

#[test]
fn a_template_never_carries_a_line_end_into_a_head() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::start(
        "[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n\
         request_headers = { set = { x-copy = \"{query:v}\" } }\nresponse_headers = { set = { x-copy = \"{query:v}\" } }\n",
        &[("origin", origin.address)],
    );
    let answer = gateway.get("/?v=a%0d%0aX-Evil:%201");
    assert_eq!(answer.status, 200);
    assert!(!answer.head.has("x-evil") && values_seen(&answer, "x-evil").is_empty(), "{:?}", answer);
}

#[test]
fn a_route_may_ask_for_its_listener() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::start(
        r#"
[listen.web]
address = "@web@"
[listen.inside]
address = "@inside@"
[service.main]
endpoints = ["@origin@"]
[[route]]
name = "inside"
match = { listener = "inside", path = "/admin" }
to = "main"
[[route]]
name = "open"
match = { path = "/open" }
to = "main"
"#,
        &[("origin", origin.address)],
    );
    let status = |listener: &str, path: &str| {
        Client::connect(gateway.address(listener)).get(path).expect("an answer").status
    };
    assert_eq!(status("inside", "/admin"), 200);
    assert_eq!(status("web", "/admin"), 404);
    assert_eq!((status("inside", "/open"), status("web", "/open")), (200, 200));
}

/// The values of a field in what a describing backend answered.
fn values_seen(answer: &Response, name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    answer.text().lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
}
