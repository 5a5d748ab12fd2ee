//! What the admin endpoint shows of the configuration in force: all of it with its defaults, every route in its order, and no
//! secret of any kind anywhere; and how long the answers of services take.

mod harness;

use std::time::Duration;

use harness::gateway::Reload;
use harness::process::Directory;
use harness::tls::Certificate;
use harness::{Backend, Gateway, Setup};
use serde_json::json;

#[test]
fn the_configuration_is_shown_with_its_defaults_and_what_only_a_restart_changes() {
    let backend = Backend::fixed("ok");
    let config = "workers = 1\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
                  [service.m]\nendpoints = [{ address = \"@m@\", weight = 3 }]\n\
                  [[route]]\nname = \"first\"\nmatch = { path = \"/a\" }\nto = \"m\"\n[[route]]\nto = \"m\"\n";
    let mut gateway = Gateway::start(config, &[("m", backend.address)]);
    let shown = gateway.admin_json("/config");
    assert_eq!((&shown["generation"], &shown["last_reload"]), (&json!(1), &json!(null)));
    assert_eq!(shown["file"], gateway.config_file().display().to_string());
    let config_shown = &shown["config"];
    assert_eq!(config_shown["workers"], 1);
    assert_eq!(config_shown["driver"], "auto");
    assert_eq!(config_shown["limits"]["head"], "32KiB");
    assert_eq!(config_shown["listen"]["web"]["address"], gateway.web().to_string());
    let address = backend.address.to_string();
    let endpoint = json!({ "address": address, "weight": 3, "priority": 0 });
    assert_eq!(config_shown["service"]["m"]["endpoints"], json!([endpoint]));
    assert_eq!(config_shown["service"]["m"]["retry"]["attempts"], 3);
    assert_eq!(config_shown["route"][0]["name"], "first");
    assert_eq!(config_shown["route"][1]["to"], "m");

    let other = config.replace("workers = 1", "workers = 2\n[limits]\nhead = \"8KiB\"");
    assert_eq!(gateway.reload(&other), Reload::Taken);
    let shown = gateway.admin_json("/config");
    assert_eq!((&shown["generation"], &shown["last_reload"]["result"]), (&json!(2), &json!("ok")));
    assert_eq!(shown["config"]["limits"]["head"], "8KiB");
    assert_eq!(shown["config"]["workers"], 1, "that is what runs");
    assert_eq!(gateway.reload("nonsense"), Reload::Refused);
    let shown = gateway.admin_json("/config");
    assert_eq!((&shown["generation"], &shown["last_reload"]["result"]), (&json!(2), &json!("refused")));
    assert_eq!(shown["config"]["limits"]["head"], "8KiB", "the old configuration stays");
}

/// Each of these is found nowhere in what the admin endpoint shows.
const SECRETS: [&str; 12] = [
    "inline-secret-of-the-issuer",
    "secret-of-a-file",
    "secret-of-the-environment",
    "token-of-the-admin",
    "user-of-a-url",
    "parameter-of-a-url",
    "credential-of-the-endpoint",
    "key-of-the-endpoint",
    "cookie-of-a-session",
    "key-of-a-client",
    "parameter-of-a-client",
    "password-of-a-redirect",
];

/// `\u0040`: an `@` is the harness's.
fn secretive(directory: &Directory) -> String {
    let token = directory.write("admin.token", "token-of-the-admin\n");
    let secret = directory.write("jwt.secret", "secret-of-a-file-of-32-bytes-or-more\n");
    let keys = directory.write("api.keys", "");
    let (certificate, key) = Certificate::new(&["edge.test"]).write(directory, "edge");
    format!(
        r#"workers = 1
[admin]
address = "@admin@"
token_file = "{token}"
[listen.web]
address = "@web@"
[listen.secure]
address = "@secure@"
protocol = "https"
tls = {{ certificate = "{certificate}", key = "{key}" }}
[service.m]
endpoints = ["@m@"]
[auth.inline]
jwt = {{ secret = "inline-secret-of-the-issuer-and-more", issuer = "https://user-of-a-url:pw\u0040id.test" }}
[auth.file]
jwt.secret_file = "{secret}"
api_keys = {{ file = "{keys}" }}
[auth.environment]
jwt.secret_env = "TIDEGATE_TEST_SECRET"
[auth.url]
jwt.jwks = "http://@m@/keys?api_key=parameter-of-a-url"
[[route]]
name = "asked"
auth = "inline"
to = "m"
match.path = ["/a/**", "/b"]
match.header = {{ x-api-key = "key-of-a-client", x-plain = "shown" }}
match.query = {{ access_token = "parameter-of-a-client" }}
request_headers.set = {{ authorization = "Bearer credential-of-the-endpoint", x-plain = "shown" }}
request_headers.add = {{ x-upstream-key = ["key-of-the-endpoint"] }}
response_headers.set = {{ set-cookie = "id=cookie-of-a-session" }}
canary = {{ to = "m", header = {{ cookie = "cookie-of-a-session" }} }}
[[route]]
name = "moved"
auth = "environment"
redirect.to = "https://ann:password-of-a-redirect\u0040else.test/"
[[route]]
auth = "file"
to = "m"
[[route]]
auth = "url"
to = "m"
"#,
        token = token.display(),
        secret = secret.display(),
        keys = keys.display(),
        certificate = certificate.display(),
        key = key.display(),
    )
}

fn shown(gateway: &Gateway, path: &str) -> String {
    let bearer = "authorization: Bearer token-of-the-admin\r\n";
    let answer = harness::Client::connect(gateway.address("admin")).get_with(path, bearer).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

#[test]
fn no_secret_is_shown() {
    let (directory, backend) = (Directory::new(), Backend::fixed("no key set"));
    let setup = Setup::new().with("m", backend.address);
    let setup = setup.env("TIDEGATE_TEST_SECRET", "secret-of-the-environment-of-32-bytes");
    let config = secretive(&directory);
    let gateway = setup.start(&config);
    let has_none = |gateway: &Gateway| {
        for path in ["/config", "/routes", "/reload", "/services", "/canaries", "/events"] {
            let page = shown(gateway, path);
            for secret in SECRETS {
                assert!(!page.contains(secret), "{path} shows {secret}: {page}");
            }
        }
    };
    has_none(&gateway);
    let page: serde_json::Value = serde_json::from_str(&shown(&gateway, "/config")).unwrap();
    let config_shown = &page["config"];
    assert_eq!(config_shown["auth"]["inline"]["jwt"]["secret"], "<redacted>");
    assert_eq!(config_shown["auth"]["environment"]["jwt"]["secret_env"], "TIDEGATE_TEST_SECRET");
    let file = directory.path().join("jwt.secret").display().to_string();
    assert_eq!(config_shown["auth"]["file"]["jwt"]["secret_file"], file);
    let route = &config_shown["route"][0];
    assert_eq!(route["request_headers"]["set"], json!({ "authorization": "<redacted>", "x-plain": "shown" }));
    assert_eq!(route["match"]["header"], json!({ "x-api-key": "<redacted>", "x-plain": "shown" }));
    assert_eq!(config_shown["route"][1]["redirect"]["to"], "https://<redacted>@else.test/");

    // Nor in what is said of a configuration that is refused for something on the same line.
    let config = std::fs::read_to_string(gateway.config_file()).unwrap().replace("\\u0040", "@");
    let refused = config.replace("issuer = \"https", "leeway = 5, issuer = \"https");
    std::fs::write(gateway.config_file(), refused).unwrap();
    gateway.signal(libc::SIGHUP);
    harness::until("it is refused", || shown(&gateway, "/reload").contains("refused"));
    has_none(&gateway);
    assert!(shown(&gateway, "/reload").contains("secret = ******"), "{}", shown(&gateway, "/reload"));
    assert!(!gateway.stderr().contains("inline-secret"), "{}", gateway.stderr());
}

#[test]
fn routes_are_shown_in_their_order_with_what_they_want() {
    let backend = Backend::fixed("ok");
    let config = r#"
[admin]
address = "@admin@"
[listen.web]
address = "@web@"
[service.model-a]
endpoints = ["@m@"]
[service.model-b]
endpoints = ["@m@"]
[auth.users]
jwt = { secret = "0123456789abcdef0123456789abcdef" }
[authorizer.boss]
to = "model-a"
[limit.each]
key = "client"
rate = 1000
[limit.all]
rate = 1000
[[route]]
name = "models"
match = { host = ["a.test", "*.b.test"], path = "/v2/models/{name}/infer", method = ["GET", "POST"], header = { x-version = "v2*", x-debug = false } }
auth = "users"
allow = { group = "vip" }
limits = ["each", "all"]
to = "model-{header:x-model}"
otherwise = "model-a"
canary = { to = "model-b", percent = 2.5 }
authorizer = "boss"
shadow = { to = "model-b", percent = 0.5 }
[[route]]
name = "old"
match = { listener = "web", path = "~^/v[0-9]+$", query = { q = true } }
redirect = { to = "https://{host}{uri}", status = 308 }
[[route]]
name = "rest"
respond = { status = 404, body = "nothing" }
"#;
    let gateway = Gateway::start(config, &[("m", backend.address)]);
    let conditions = [
        "host: a.test or *.b.test",
        "path: /v2/models/{name}/infer",
        "method: GET or POST",
        "header x-version: \"v2\"*",
        "header x-debug: missing",
    ];
    let expected = json!({ "routes": [
        {
            "name": "models",
            "conditions": conditions,
            "auth": "users",
            "allow": ["claim group: \"vip\""],
            "authorizer": "boss",
            "limits": ["each", "all"],
            "canary": { "to": "model-b", "percent": 2.5, "header": [] },
            "shadow": { "to": "model-b", "percent": 0.5 },
            "action": { "kind": "forward", "to": "model-{header:x-model}", "otherwise": "model-a" },
        },
        {
            "name": "old",
            "conditions": ["listener: web", "path: ~ ^/v[0-9]+$", "query parameter q: there"],
            "auth": null, "allow": [], "authorizer": null, "limits": [], "canary": null, "shadow": null,
            "action": { "kind": "redirect", "status": 308, "to": "https://{host}{uri}" },
        },
        {
            "name": "rest",
            "conditions": [],
            "auth": null, "allow": [], "authorizer": null, "limits": [], "canary": null, "shadow": null,
            "action": { "kind": "respond", "status": 404, "content_type": "text/plain; charset=utf-8" },
        },
    ] });
    assert_eq!(gateway.admin_json("/routes"), expected);
}

#[test]
fn services_say_how_long_their_answers_take() {
    const DELAY: Duration = Duration::from_millis(20);
    let slow = Backend::serve(|_, connection| {
        std::thread::sleep(DELAY);
        let _ = connection.write(&harness::backend::ok(b"slow"));
    });
    let config = "workers = 2\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
                  [service.idle]\nendpoints = [\"@m@\"]\n[service.slow]\nendpoints = [\"@m@\"]\n\
                  [[route]]\nto = \"slow\"\n";
    let gateway = Gateway::start(config, &[("m", slow.address)]);
    // On both workers.
    let mut clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    clients
        .iter_mut()
        .for_each(|client| (0..5).for_each(|_| assert_eq!(client.get("/").unwrap().status, 200)));
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
    let shown = gateway.admin_json("/services");
    let [idle, slow] = [0, 1].map(|index| &shown["services"][index]);
    assert_eq!(
        (&idle["name"], &idle["requests"], &idle["first_byte_ms"]),
        (&json!("idle"), &json!(0), &json!(null))
    );
    assert_eq!((&slow["name"], &slow["requests"]), (&json!("slow"), &json!(20)));
    assert_eq!(slow["endpoints"][0]["requests"], 20);
    assert_eq!(slow["first_byte_ms"]["count"], 20);
    let ms = ["p50", "p90", "p99"].map(|quantile| slow["first_byte_ms"][quantile].as_f64().unwrap());
    // The worker's clock is looked at once a turn.
    assert!(ms[0] >= DELAY.as_millis() as f64 / 2.0 && ms.is_sorted(), "{ms:?}");
}
