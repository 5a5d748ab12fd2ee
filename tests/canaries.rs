//! A canary gets its share and no other requests: who asks is always on the same side, whichever worker is asked and over reloads;
//! those who ask for a version get it; and the share changes at run time.

mod harness;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use harness::process::{Directory, tidegate};
use harness::{Backend, Gateway, Response, until};

const USERS: usize = 400;

fn config(canary: &str) -> String {
    format!(
        "workers = 2\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [service.model-stable]\nendpoints = [\"@stable@\"]\n[service.model-v2]\nendpoints = [\"@v2@\"]\n\
         [service.model-v3]\nendpoints = [\"@v3@\"]\n\
         [[route]]\nname = \"models\"\nto = \"model-{{header:x-model-version}}\"\notherwise = \"model-stable\"\n\
         canary = {{ to = \"model-v2\", {canary} }}\n"
    )
}

struct Scene {
    gateway: Gateway,
    backends: [Backend; 3],
}

fn scene(canary: &str) -> Scene {
    let backends = ["stable", "v2", "v3"].map(Backend::fixed);
    let [stable, v2, v3] = &backends;
    let names = [("stable", stable.address), ("v2", v2.address), ("v3", v3.address)];
    Scene { gateway: Gateway::start(&config(canary), &names), backends }
}

impl Scene {
    fn ask(&self, fields: &str) -> String {
        let answer = self.gateway.client().get_with("/", fields).unwrap();
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Of all users, those whom the canary serves.
    fn on_canary(&self) -> HashSet<usize> {
        (0..USERS).filter(|user| self.ask(&format!("x-user: user-{user}\r\n")) == "v2").collect()
    }

    fn reload(&mut self, canary: &str) {
        let [stable, v2, v3] = self.backends.each_ref().map(|backend| backend.address.to_string());
        let text = config(canary).replace("@stable@", &stable).replace("@v2@", &v2).replace("@v3@", &v3);
        self.gateway.reload(&text);
    }

    fn set(&self, body: &str) -> Response {
        let head = format!(
            "POST /canaries HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        harness::Client::connect(self.gateway.address("admin")).request("POST", head.as_bytes()).unwrap()
    }
}

#[test]
fn the_same_one_is_always_on_the_same_side() {
    let mut scene = scene("percent = 20, by = \"header:x-user\"");
    let first = scene.on_canary();
    // Five standard deviations around 80.
    assert!((40..120).contains(&first.len()), "{} of {USERS}", first.len());
    assert_eq!(scene.on_canary(), first);
    scene.reload("percent = 50, by = \"header:x-user\"");
    let more = scene.on_canary();
    assert!(more.is_superset(&first) && more.len() > first.len(), "{} and {}", first.len(), more.len());
    scene.reload("percent = 20, by = \"header:x-user\"");
    assert_eq!(scene.on_canary(), first, "those who were first");
    for _ in 0..50 {
        assert_eq!(scene.ask(""), "stable", "nobody is nobody's share");
    }
    scene.reload("percent = 100, by = \"header:x-user\"");
    assert_eq!(scene.on_canary().len(), USERS);
    scene.reload("percent = 0, by = \"header:x-user\"");
    assert!(scene.on_canary().is_empty());
}

#[test]
fn who_asks_for_a_version_gets_it() {
    let scene = scene("percent = 100, header = { x-model-type = \"image-classification\" }");
    assert_eq!(scene.ask(""), "v2");
    for (version, expected) in [("stable", "stable"), ("v3", "v3"), ("v2", "v2"), ("none", "v2")] {
        assert_eq!(scene.ask(&format!("x-model-version: {version}\r\n")), expected);
    }
}

#[test]
fn a_header_leads_there_whatever_the_share() {
    let scene = scene("header = { x-model-type = \"image-classification\", x-canary = true }");
    assert_eq!(scene.ask(""), "stable");
    assert_eq!(scene.ask("X-Model-Type: image-classification\r\n"), "v2");
    assert_eq!(scene.ask("X-Model-Type: text\r\n"), "stable");
    assert_eq!(scene.ask("X-Canary: 1\r\n"), "v2");
    assert_eq!(scene.ask("X-Canary: 1\r\nx-model-version: v3\r\n"), "v3");
}

#[test]
fn without_an_id_each_request_is_drawn() {
    let scene = scene("percent = 50");
    let mut client = scene.gateway.client();
    let drawn = (0..400).filter(|_| client.get("/").unwrap().text() == "v2").count();
    assert!((150..250).contains(&drawn), "{drawn} of 400");
}

#[test]
fn the_share_changes_at_run_time_and_stays_over_a_reload() {
    let mut scene = scene("percent = 10, by = \"cookie:id\"");
    let share = |scene: &Scene| scene.gateway.metrics().sum("tidegate_canary_share", &[("route", "models")]);
    assert_eq!(share(&scene), 0.1);
    let answer = scene.set("{\"route\": \"models\", \"percent\": 100}");
    assert_eq!(answer.status, 200);
    let set: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let expected = serde_json::json!({
        "canaries": [{ "route": "models", "to": "model-v2", "percent": 100.0, "configured": 10.0, "given_up": null }]
    });
    assert_eq!(set, expected);
    let user = "Cookie: a=b; id=ann; c=d\r\n";
    assert_eq!((scene.ask(user), share(&scene)), ("v2".into(), 1.0));
    scene.reload("percent = 10, by = \"cookie:id\"");
    assert_eq!(scene.ask(user), "v2", "the config has said nothing new");
    scene.reload("percent = 0, by = \"cookie:id\"");
    assert_eq!((scene.ask(user), share(&scene)), ("stable".into(), 0.0));
    assert_eq!(scene.set("{\"route\": \"other\", \"percent\": 1}").status, 404);
}

/// A route of two services: the old one is well, the canary answers as it is told.
fn failing(rollback: &str) -> (Gateway, [Backend; 2], Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let says = status.clone();
    let canary = Backend::serve(move |_, connection| {
        let bytes = match says.load(Relaxed) {
            200 => harness::backend::ok(b"v2"),
            // It takes its time.
            0 => {
                std::thread::sleep(Duration::from_millis(150));
                harness::backend::ok(b"v2")
            }
            status => harness::backend::answer(&format!("{status} No"), "", b"no"),
        };
        let _ = connection.write(&bytes);
    });
    let stable = Backend::fixed("stable");
    let config = format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [service.stable]\nendpoints = [\"@stable@\"]\n[service.v2]\nendpoints = [\"@v2@\"]\n\
         [[route]]\nname = \"models\"\nto = \"stable\"\n\
         canary = {{ to = \"v2\", percent = 50, header = {{ x-canary = true }}, rollback = {rollback} }}\n"
    );
    let gateway = Gateway::start(&config, &[("stable", stable.address), ("v2", canary.address)]);
    (gateway, [stable, canary], status)
}

fn answers(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut client = gateway.client();
    (0..count).map(|_| client.get("/").unwrap().text()).collect()
}

#[test]
fn a_canary_that_fails_or_is_slow_is_given_up() {
    for (fault, why) in [(500, "% of its requests fail"), (0, "99th percentile")] {
        let (gateway, backends, status) = failing("{ requests = 20 }");
        assert!(answers(&gateway, 100).contains(&"v2".into()));
        status.store(fault, Relaxed);
        until("the canary is given up", || {
            answers(&gateway, 20);
            gateway.metrics().sum("tidegate_canary_rollbacks_total", &[("route", "models")]) == 1.0
        });
        gateway.until_stderr("route models: its canary is given up: ");
        let before = backends[1].requests();
        assert!(answers(&gateway, 100).iter().all(|answer| answer == "stable"));
        assert_eq!(backends[1].requests(), before);
        let shown = gateway.admin_get("/canaries").unwrap().text();
        assert!(shown.contains(why) && shown.contains("\"percent\":0.0"), "{shown}");
        // Who asks for it gets it all the same; and whoever sets it again begins anew.
        gateway.client().get_with("/", "x-canary: 1\r\n").unwrap();
        assert_eq!(backends[1].requests(), before + 1);
        status.store(200, Relaxed);
        let set = "{\"route\": \"models\", \"percent\": 50}";
        let head = format!(
            "POST /canaries HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{set}",
            set.len()
        );
        let mut admin = harness::Client::connect(gateway.address("admin"));
        assert!(admin.request("POST", head.as_bytes()).unwrap().text().contains("\"given_up\":null"));
        assert!(answers(&gateway, 200).contains(&"v2".into()));
        assert_eq!(gateway.metrics().sum("tidegate_canary_share", &[("route", "models")]), 0.5);
    }
}

#[test]
fn a_canary_whose_breaker_answers_for_it_is_given_up() {
    let (mut gateway, backends, status) = failing("{ requests = 50 }");
    // It opens long before the canary has had so many requests.
    let text = std::fs::read_to_string(gateway.config_file()).unwrap();
    let with_breaker =
        text.replace("[service.v2]", "[service.v2]\nbreaker = { requests = 5, window = \"1h\" }");
    gateway.reload(&with_breaker);
    status.store(500, Relaxed);
    until("the canary is given up", || {
        answers(&gateway, 20);
        gateway.metrics().sum("tidegate_canary_rollbacks_total", &[("route", "models")]) == 1.0
    });
    assert!(backends[1].requests() < 50);
    assert!(answers(&gateway, 50).iter().all(|answer| answer == "stable"));
}

#[test]
fn a_canary_that_is_as_good_as_the_others_stays() {
    // How long both take is the machine's affair.
    let (gateway, _backends, _status) = failing("{ requests = 20, latency = \"off\" }");
    answers(&gateway, 1_000);
    assert_eq!(gateway.metrics().sum("tidegate_canary_share", &[("route", "models")]), 0.5);
    let (gateway, _backends, status) = failing("{ requests = 20, errors = \"off\", latency = \"off\" }");
    status.store(500, Relaxed);
    answers(&gateway, 400);
    assert_eq!(gateway.metrics().sum("tidegate_canary_rollbacks_total", &[("route", "models")]), 0.0);
}

#[test]
fn explain_knows_the_canary() {
    let directory = Directory::new();
    let text = config("percent = 100, by = \"header:x-user\"");
    let text = ["stable", "v2", "v3", "web", "admin"]
        .iter()
        .zip(1..)
        .fold(text, |text, (name, port)| text.replace(&format!("@{name}@"), &format!("127.0.0.1:{port}")));
    let file = directory.write("edge.toml", &text);
    let explain = |field: &str| {
        let output = tidegate(&["explain", "-c", file.to_str().unwrap(), "GET", "/", "-H", field]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let canary = explain("x-user: ann");
    assert!(canary.contains("goes to service model-v2 (the route's canary)"), "{canary}");
    let named = explain("x-model-version: v3");
    assert!(named.contains("goes to service model-v3 (named by its template)"), "{named}");
    assert!(explain("x: y").contains("goes to service model-stable"));
}
