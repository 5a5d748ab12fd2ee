//! An authorizer decides whether requests go on: it is shown who asks and for what, its yes lets a request on with what it says, its no is
//! the client's answer, and where it cannot be asked the route's own word holds. No client says what only the authorizer may.

mod harness;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::backend::answer;
use harness::http2::Http2;
use harness::wire::Request as Heard;
use harness::{Backend, Gateway, Response, until};
use http::Request;

const CONFIG: &str = r#"
workers = 1
[admin]
address = "@admin@"
[listen.web]
address = "@web@"
[service.models]
endpoints = ["@models@"]
[service.judge]
endpoints = ["@judge@"]
timeouts = { idle = "2s" }
retry = { attempts = 1 }
outlier = { failures = "off" }
[authorizer.strict]
to = "judge"
path = "/ask"
timeout = "300ms"
says = ["x-user", "x-tier"]
[authorizer.kind]
to = "judge"
path = "/ask"
timeout = "300ms"
on_failure = "allow"
shows = ["authorization"]
says = "x-user"
[limit.each]
key = "header:x-user"
rate = "1/d"
burst = 2
[[route]]
match = { path = "/kind/**" }
authorizer = "kind"
to = "models"
[[route]]
match = { path = "/limited/**" }
authorizer = "strict"
limits = "each"
to = "models"
[[route]]
match = { path = "/open/**" }
to = "models"
[[route]]
authorizer = "strict"
rewrite = { strip_prefix = "/v" }
request_headers = { set = { x-set = "{header:x-user}" } }
to = "models"
"#;

type Asked = Arc<Mutex<Vec<Heard>>>;

struct Scene {
    gateway: Gateway,
    asked: Asked,
    models: Backend,
    _judge: Backend,
}

/// A judge who says yes to whoever has a token of his name, `authorization: Bearer NAME`, and to others what they ask for.
fn start() -> Scene {
    let asked = Asked::default();
    let heard = asked.clone();
    let judge = Backend::serve(move |request, connection| {
        heard.lock().unwrap().push(request.clone());
        let wanted = request.head.get("authorization").unwrap_or("").to_owned();
        let said = match wanted.strip_prefix("Bearer ").unwrap_or("") {
            "redirect" => answer("302 Found", "location: /login\r\nset-cookie: a=b\r\nset-cookie: c=d\r\nx-no: 1\r\n", b""),
            "forbidden" => answer("403 Forbidden", "content-type: text/x\r\nx-user: no\r\n", b"go away"),
            "broken" => answer("500 No", "", b""),
            "garbage" => b"what?\r\n\r\n".to_vec(),
            "silent" => {
                connection.wait_stop();
                return;
            }
            "nobody" => answer("204 No Content", "", b""),
            "chunks" => b"HTTP/1.1 200 OK\r\nx-user: chunks\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
            "" => answer("401 Unauthorized", "www-authenticate: Bearer realm=\"judge\"\r\n", b"who?"),
            name => answer("200 OK", &format!("x-user: {name}\r\nX-Tier: gold\r\nx-other: 1\r\n"), b"yes"),
        };
        let _ = connection.write(&said);
    });
    let models = Backend::describing("models");
    let gateway = Gateway::start(CONFIG, &[("models", models.address), ("judge", judge.address)]);
    Scene { gateway, asked, models, _judge: judge }
}

impl Scene {
    fn ask(&self, path: &str, token: &str, fields: &str) -> Response {
        let token =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        self.gateway.client().get_with(path, &format!("{token}{fields}")).unwrap()
    }

    fn questions(&self, name: &str, result: &str) -> f64 {
        let labels = [("authorizer", name), ("result", result)];
        self.gateway.metrics().sum("tidegate_authorizer_questions_total", &labels)
    }
}

#[test]
fn a_yes_lets_a_request_on_with_what_it_says() {
    let scene = start();
    let got = scene.ask("/v/x?q=%20", "ann", "x-user: root\r\nX-TIER: none\r\nx-mine: 1\r\ncookie: c=1\r\n");
    let text = got.text();
    assert_eq!(got.status, 200);
    for line in ["x-user: ann\n", "x-tier: gold\n", "x-mine: 1\n", "x-set: ann\n", "cookie: c=1\n"] {
        assert!(text.to_lowercase().contains(line), "{line} in {text}");
    }
    for word in ["root", "none", "x-other", "x-forwarded-method"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    // What it was shown: who asks, for what, under which id, and nothing of what only it may say.
    let asked = scene.asked.lock().unwrap()[0].clone();
    let field = |name: &str| asked.head.all(name).join("|");
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/ask"));
    assert_eq!(field("x-forwarded-method"), "GET");
    assert_eq!(field("x-forwarded-uri"), "/v/x?q=%20");
    assert_eq!((field("authorization"), field("cookie")), ("Bearer ann".into(), "c=1".into()));
    assert_eq!((field("x-user"), field("x-tier")), (String::new(), String::new()));
    assert_eq!(field("x-forwarded-for"), "127.0.0.1");
    assert!(text.contains(&format!("x-request-id: {}", field("x-request-id"))));
    // One that says nothing of it leaves nobody's word.
    for (token, user) in [("nobody", ""), ("chunks", "x-user: chunks\n")] {
        let text = scene.ask("/x", token, "x-user: root\r\nx-tier: none\r\n").text();
        assert!(!text.contains("root") && !text.contains("none") && text.contains(user), "{token}: {text}");
    }
    assert_eq!(scene.questions("strict", "allowed"), 3.0);
    // Other routes ask nobody.
    assert_eq!(scene.ask("/open/x", "", "x-user: root\r\n").status, 200);
    assert_eq!(scene.asked.lock().unwrap().len(), 3);
    let metrics = scene.gateway.metrics();
    assert_eq!(metrics.sum("tidegate_requests_total", &[]), 4.0, "a question is no request");
    assert_eq!(metrics.sum("tidegate_requests_active", &[]), 0.0);
}

#[test]
fn a_no_is_the_clients_answer() {
    let scene = start();
    let nobody = scene.ask("/x", "", "");
    let challenge = nobody.get("www-authenticate").map(str::to_owned);
    assert_eq!((nobody.status, nobody.text()), (401, "who?".into()));
    assert_eq!(challenge.as_deref(), Some("Bearer realm=\"judge\""));
    let forbidden = scene.ask("/x", "forbidden", "");
    assert_eq!((forbidden.status, forbidden.text()), (403, "go away".into()));
    assert_eq!((forbidden.get("content-type"), forbidden.get("x-user")), (Some("text/x"), None));
    let redirect = scene.ask("/x", "redirect", "");
    assert_eq!(
        (redirect.status, redirect.get("location"), redirect.get("x-no")),
        (302, Some("/login"), None)
    );
    assert_eq!(redirect.head.all("set-cookie"), ["a=b", "c=d"]);
    // A call is told in its own way.
    let client = Http2::connect(scene.gateway.web());
    let call = Request::post("http://a.test/s.S/M").header("content-type", "application/grpc");
    let call = client.exchange(call.body(()).unwrap(), Some(&[0; 5]), None).unwrap();
    assert_eq!((call.status, call.fields["grpc-status"].to_str().unwrap()), (200, "16"));
    assert_eq!((scene.questions("strict", "denied"), scene.models.requests()), (4.0, 0));
    until("they are logged as what they are", || {
        let denied = |line: &&serde_json::Value| line["error"] == "authorizer_denied";
        scene.gateway.access_log().iter().filter(denied).count() == 4
    });
}

#[test]
fn where_it_cannot_be_asked_the_route_says_what_then() {
    let scene = start();
    for (count, token) in ["broken", "garbage", "silent"].into_iter().enumerate() {
        let strict = scene.ask("/x", token, "");
        assert_eq!(strict.status, 503, "{token}");
        assert!(strict.text().contains("urn:tidegate:error:authorizer_failed"), "{}", strict.text());
        let kind = scene.ask("/kind/x", token, "x-user: root\r\nx-tier: mine\r\n");
        assert_eq!(kind.status, 200, "{token}");
        assert!(!kind.text().contains("root") && kind.text().contains("x-tier: mine"), "{}", kind.text());
        let count = count as f64 + 1.0;
        assert_eq!((scene.questions("strict", "failed"), scene.questions("kind", "failed")), (count, count));
    }
    // It is shown no more than what it is to see.
    scene.ask("/kind/x", "ann", "cookie: c=1\r\nx-a: b\r\n");
    let last = scene.asked.lock().unwrap().pop().unwrap();
    assert!(last.head.get("cookie").is_none() && last.head.get("x-a").is_none());
    assert_eq!(last.head.get("authorization"), Some("Bearer ann"));
}

/// Limits count by what the authorizer has said, whatever the client says.
#[test]
fn limits_count_by_what_it_says() {
    let scene = start();
    let ask = |token: &str, user: &str| scene.ask("/limited/x", token, &format!("x-user: {user}\r\n")).status;
    let statuses = [ask("ann", "1"), ask("ann", "2"), ask("ann", "3"), ask("bob", "ann"), ask("bob", "4")];
    assert_eq!(statuses, [200, 200, 429, 200, 200]);
}

/// Bodies come after the answer, byte for byte; over HTTP/2 as well, and for who waits to send one.
#[test]
fn bodies_pass_behind_it() {
    let scene = start();
    let body: Vec<u8> = (0..200_000).map(|at| (at % 251) as u8).collect();
    let echo = Backend::serve(|request, connection| {
        let _ = connection.write(&answer("200 OK", "", &request.body));
    });
    let text = CONFIG.replace("@models@", &echo.address.to_string());
    let gateway = Gateway::start(&text, &[("judge", scene._judge.address)]);
    for fields in ["content-length: 200000\r\n", "content-length: 200000\r\nexpect: 100-continue\r\n"] {
        let mut client = gateway.client();
        client.send_all(
            format!(
                "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ann\r\nx-user: root\r\n{fields}\r\n"
            )
            .as_bytes(),
        );
        let got = client.request("POST", &body).unwrap();
        assert_eq!((got.status, got.body == body), (200, true), "{fields}");
        // The same connection serves on.
        assert_eq!(client.get_with("/x", "authorization: Bearer bob\r\n").unwrap().status, 200);
    }
    let request =
        Request::post("http://a.test/x").header("authorization", "Bearer ann").header("x-user", "root");
    let client = Http2::connect(gateway.web());
    let got = client.exchange(request.body(()).unwrap(), Some(&body), None).unwrap();
    assert_eq!((got.status, got.body == body), (200, true));
    let questions = scene.asked.lock().unwrap();
    assert!(
        questions.iter().all(|asked| asked.body.is_empty() && asked.head.get("content-length").is_none())
    );
}

/// A client that leaves takes its question with it.
#[test]
fn nobody_is_asked_about_who_has_gone() {
    let asked = Asked::default();
    let heard = asked.clone();
    let judge = Backend::start(move |connection| {
        if let Ok(request) = connection.read_request() {
            heard.lock().unwrap().push(request);
            connection.wait_end(Duration::from_secs(20));
        }
    });
    let models = Backend::describing("models");
    let text = CONFIG.replace("300ms", "1m");
    let gateway = Gateway::start(&text, &[("models", models.address), ("judge", judge.address)]);
    let mut client = gateway.client();
    client.send_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    until("it is asked", || asked.lock().unwrap().len() == 1);
    drop(client);
    until("its question has ended", || judge.open_connections() == 0);
    assert_eq!(models.requests(), 0);
}

/// However a request is sent, it is asked about, or refused.
#[test]
fn no_way_of_sending_goes_past_it() {
    let scene = start();
    let raw = |text: &str| scene.gateway.client().request("GET", text.as_bytes()).unwrap().status;
    // No Host; as many fields as there may be; a line end before it all.
    assert_eq!(raw("GET /kind/x HTTP/1.0\r\nauthorization: Bearer ann\r\n\r\n"), 200);
    let fields = |name: &str| format!("{name}: 1\r\n").repeat(98);
    for name in ["x-a", "x-forwarded-for"] {
        let many =
            format!("GET /kind/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ann\r\n{}\r\n", fields(name));
        assert_eq!(raw(&many), 200, "{name}");
    }
    assert_eq!(
        raw("\r\nGET /x HTTP/1.1\r\nhost: a\r\nx-user: root\r\nauthorization: Bearer ann\r\n\r\n"),
        200
    );
    assert_eq!(scene.asked.lock().unwrap().len(), 4);
    assert_eq!(scene.questions("kind", "failed"), 0.0);
}

/// What the client says of its connection, or by a name that some take for another, changes nothing.
#[test]
fn no_spelling_says_what_only_it_may() {
    let scene = start();
    let fields = "connection: x-user, x-tier, x-tenant\r\nx-tenant: mine\r\nx_user: root\r\nX.Tier: root\r\n\
                  x_forwarded_uri: /public\r\nx-original-url: /public\r\nX_Original_Method: HEAD\r\naccept-encoding: gzip\r\n";
    let text = scene.ask("/x", "ann", fields).text();
    assert!(text.contains("x-user: ann") && text.to_lowercase().contains("x-tier: gold"), "{text}");
    assert!(!text.contains("root") && text.contains("accept-encoding: gzip"), "{text}");
    let asked = scene.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.head.get("x-forwarded-uri"), Some("/x"));
    for name in
        ["x-tenant", "x_user", "x_forwarded_uri", "x-original-url", "X_Original_Method", "accept-encoding"]
    {
        assert!(asked.head.get(name).is_none(), "{name}");
    }
    // Nor do trailers, in one piece with their body, behind it, or over HTTP/2.
    let head =
        "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ann\r\ntransfer-encoding: chunked\r\n\r\n";
    for name in ["x-user", "X_User"] {
        let end = format!("0\r\n{name}: root\r\n\r\n");
        let whole = format!("{head}1\r\na\r\n{end}");
        assert_eq!(scene.gateway.client().request("POST", whole.as_bytes()).unwrap().status, 400, "{name}");
        let mut client = scene.gateway.client();
        client.send_all(head.as_bytes());
        client.send_all(format!("{:x}\r\n{}\r\n", 100_000, "a".repeat(100_000)).as_bytes());
        assert_eq!(client.request("POST", end.as_bytes()).unwrap().status, 400, "{name}");
    }
    let good = format!("{head}1\r\na\r\n0\r\nx-other: 1\r\n\r\n");
    assert_eq!(scene.gateway.client().request("POST", good.as_bytes()).unwrap().status, 200);
    let trailers = http::HeaderMap::from_iter([("x-user".parse().unwrap(), "root".parse().unwrap())]);
    let request = Request::post("http://a.test/x").header("authorization", "Bearer ann");
    let client = Http2::connect(scene.gateway.web());
    let got = client.exchange(request.body(()).unwrap(), Some(&[7; 100_000]), Some(trailers)).unwrap();
    assert_eq!(got.status, 400);
}

/// One of its endpoints that hangs is found out, and asked no more: that the time is up is no client's doing.
#[test]
fn a_hanging_authorizer_is_ejected() {
    let scene = start();
    let silent = Backend::start(|connection| connection.wait_stop());
    let both = format!("\"{}\", \"@judge@\"", silent.address);
    let text = CONFIG
        .replace("\"@judge@\"", &both)
        .replace("outlier = { failures = \"off\" }", "")
        .replace("300ms", "50ms");
    let models = Backend::describing("models");
    let gateway = Gateway::start(&text, &[("models", models.address), ("judge", scene._judge.address)]);
    let mut client = gateway.client();
    let state = || {
        let services = gateway.admin_json("/services");
        let endpoints = services["services"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|service| service["endpoints"].as_array().unwrap().clone());
        let silent = silent.address.to_string();
        endpoints.into_iter().find(|endpoint| endpoint["address"] == silent.as_str()).unwrap()["state"]
            .clone()
    };
    until("it is ejected", || {
        let status = client.get_with("/x", "authorization: Bearer ann\r\n").unwrap().status;
        assert!([200, 503].contains(&status), "{status}");
        state() == "ejected"
    });
    for _ in 0..10 {
        assert_eq!(client.get_with("/x", "authorization: Bearer ann\r\n").unwrap().status, 200);
    }
}
