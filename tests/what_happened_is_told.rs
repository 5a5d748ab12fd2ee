//! `GET /events` of the admin endpoint: what has happened to the gateway lately, in its order, with the same words as on
//! standard error. Each kind of thing that operators do or wait for is made to happen here.

mod harness;

use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use harness::backend::{answer, ok};
use harness::gateway::Reload;
use harness::{Backend, Gateway, until};

/// A backend that answers with this status, its health checks included.
fn switched() -> (Backend, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let says = status.clone();
    let backend = Backend::serve(move |_, connection| {
        let bytes = match says.load(Relaxed) {
            200 => ok(b"ok"),
            status => answer(&format!("{status} No"), "", b"no"),
        };
        let _ = connection.write(&bytes);
    });
    (backend, status)
}

fn config(endpoints: &str, more: &str) -> String {
    format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [[route]]\nname = \"all\"\nto = \"m\"\n[service.m]\nendpoints = {endpoints}\n{more}\n"
    )
}

/// Kinds and texts so far, oldest first.
fn events(gateway: &Gateway) -> Vec<(String, String)> {
    let told = gateway.admin_json("/events");
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = told["events"].as_array().unwrap().iter();
    events.map(|event| (text(event, "kind"), text(event, "text"))).collect()
}

fn kinds(gateway: &Gateway) -> Vec<String> {
    events(gateway).into_iter().map(|(kind, _)| kind).collect()
}

fn ask(gateway: &Gateway, times: usize) {
    let mut client = gateway.client();
    (0..times).for_each(|_| drop(client.get("/").unwrap()));
}

#[test]
fn reloads_are_told_with_the_first_thing_that_is_wrong() {
    let (backend, _status) = switched();
    let good = config("[\"@m@\"]", "");
    let mut gateway = Gateway::start(&good, &[("m", backend.address)]);
    assert_eq!(kinds(&gateway), Vec::<String>::new());
    assert_eq!(gateway.reload(&good), Reload::Taken);
    assert_eq!(gateway.reload(&good.replace("to = \"m\"", "to = \"none\"\nadd = 1")), Reload::Refused);
    let told = events(&gateway);
    let file = gateway.config_file();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].0, "reload_taken");
    assert!(told[0].1.starts_with(&format!("reloaded {} in ", file.display())), "{told:?}");
    assert_eq!(told[1].0, "reload_refused");
    let refused = format!("{} refused, the old configuration stays: {}:", file.display(), file.display());
    assert!(told[1].1.starts_with(&refused) && !told[1].1.contains('\n'), "{told:?}");
    // Standard error has it, too, and all that is wrong.
    let said = gateway.stderr();
    assert!(said.contains("refused, the old configuration stays\n") && said.contains("error"), "{said}");

    let last = gateway.admin_json("/reload");
    assert_eq!((&last["generation"], &last["last_reload"]["result"]), (&2.into(), &"refused".into()));
    let text = last["last_reload"]["text"].as_str().unwrap();
    assert!(text.contains("none") && text.contains("add"), "all that is wrong: {text}");
    assert_eq!(gateway.reload(&good), Reload::Taken);
    let last = gateway.admin_json("/reload");
    assert_eq!((&last["generation"], &last["last_reload"]["result"]), (&3.into(), &"ok".into()));
}

#[test]
fn what_operators_do_is_told() {
    let (backend, _status) = switched();
    let more = "breaker = \"adaptive\"\n[service.v2]\nendpoints = [\"@m@\"]\n";
    let canary = config("[\"@m@\"]", more)
        .replace("to = \"m\"\n", "to = \"m\"\ncanary = { to = \"v2\", percent = 1 }\n");
    let gateway = Gateway::start(&canary, &[("m", backend.address)]);
    let address = backend.address;
    let drain = |drained: bool| {
        format!("{{\"service\": \"m\", \"endpoint\": \"{address}\", \"drained\": {drained}}}")
    };
    for (path, body) in [
        ("/canaries", "{\"route\": \"all\", \"percent\": 12.5}".to_owned()),
        ("/services", drain(true)),
        ("/services", drain(true)),
        ("/services", drain(false)),
        ("/services", "{\"service\": \"m\", \"breaker\": \"reset\"}".to_owned()),
    ] {
        assert_eq!(gateway.admin_post(path, &body).status, 200, "{body}");
    }
    let told = |kind: &str, text: String| (kind.to_owned(), text);
    let expected = [
        told("canary_set", "route all: its canary's share is set to 12.5 %".into()),
        told("endpoint_drained", format!("service m: endpoint {address} is drained")),
        told("endpoint_undrained", format!("service m: endpoint {address} is in use again")),
        told("breaker_reset", "service m: its breaker is reset by hand".into()),
    ];
    assert_eq!(events(&gateway), expected, "what changes nothing is no event");
    for (_, text) in expected {
        gateway.until_stderr(&format!("tidegate: {text}\n"));
    }
}

#[test]
fn an_endpoint_that_is_ejected_and_comes_back_is_told() {
    let ((one, _), (two, status)) = (switched(), switched());
    let config = config("[\"@one@\", \"@two@\"]", "outlier = { failures = 3, ejection = \"1s\" }");
    let gateway = Gateway::start(&config, &[("one", one.address), ("two", two.address)]);
    status.store(500, Relaxed);
    ask(&gateway, 10);
    let name = format!("service m: endpoint {}", two.address);
    gateway.until_event("endpoint_ejected", &format!("{name} is ejected for 1 s: bad answers"));
    status.store(200, Relaxed);
    gateway.until_event("endpoint_back", &format!("{name} is in use again after its ejection"));
    assert_eq!(kinds(&gateway), ["endpoint_ejected", "endpoint_back"]);
    gateway.until_stderr(&format!("tidegate: {name} is in use again"));
}

#[test]
fn what_checks_find_is_told() {
    let (backend, status) = switched();
    let checks = "health = { path = \"/\", interval = \"100ms\", timeout = \"5s\" }";
    let gateway = Gateway::start(&config("[\"@m@\"]", checks), &[("m", backend.address)]);
    let name = format!("service m: endpoint {}", backend.address);
    until("it was well once", || backend.requests() > 0);
    status.store(503, Relaxed);
    gateway.until_event("endpoint_down", &format!("{name} is down: it answers 503"));
    status.store(200, Relaxed);
    gateway.until_event("endpoint_up", &format!("{name} is up"));
    assert_eq!(kinds(&gateway), ["endpoint_down", "endpoint_up"]);
}

#[test]
fn a_breaker_that_opens_and_closes_is_told_once_each() {
    let (backend, status) = switched();
    let breaker = "breaker = { window = \"1s\", requests = 10, probes = 1 }\noutlier.failures = \"off\"";
    let gateway = Gateway::start(&config("[\"@m@\"]", breaker), &[("m", backend.address)]);
    status.store(500, Relaxed);
    until("it opens", || {
        ask(&gateway, 1);
        kinds(&gateway).contains(&"breaker_opened".to_owned())
    });
    gateway.until_event("breaker_opened", "service m: its breaker opens: ");
    // A probe that fails is nothing new.
    until("a probe goes", || gateway.get("/").status == 500);
    status.store(200, Relaxed);
    until("a probe goes well", || gateway.get("/").status == 200);
    gateway.until_event("breaker_closed", "service m: its breaker lets all requests through again");
    assert_eq!(kinds(&gateway), ["breaker_opened", "breaker_closed"]);
}

#[test]
fn a_canary_that_is_given_up_is_told() {
    let ((stable, _), (canary, status)) = (switched(), switched());
    status.store(500, Relaxed);
    let more =
        "outlier.failures = \"off\"\n[service.v2]\nendpoints = [\"@v2@\"]\noutlier.failures = \"off\"\n";
    let rollback = "canary = { to = \"v2\", percent = 50, rollback = { requests = 20, latency = \"off\" } }";
    let config = config("[\"@m@\"]", more).replace("to = \"m\"\n", &format!("to = \"m\"\n{rollback}\n"));
    let gateway = Gateway::start(&config, &[("m", stable.address), ("v2", canary.address)]);
    until("it is given up", || {
        ask(&gateway, 20);
        kinds(&gateway).contains(&"canary_given_up".to_owned())
    });
    gateway.until_event("canary_given_up", "route all: its canary is given up: ");
    gateway.until_stderr("tidegate: route all: its canary is given up: ");
}

/// One event however often it fails, or it would soon be the only one that is kept.
#[test]
fn keys_that_cannot_be_fetched_are_one_event_until_they_are() {
    let set = r#"{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"}]}"#;
    let says = Arc::new(Mutex::new(answer("500 No", "", b"no")));
    let said = says.clone();
    let issuer = Backend::serve(move |_, connection| _ = connection.write(&said.lock().unwrap().clone()));
    let (backend, _status) = switched();
    let auth = "[auth.users]\njwt = { jwks = \"http://@issuer@/keys\", refresh = \"1s\" }\n";
    let names = [("m", backend.address), ("issuer", issuer.address)];
    let gateway = Gateway::start(&config("[\"@m@\"]", auth), &names);
    let failed = |gateway: &Gateway| {
        let told = gateway.admin_json("/events");
        let told = told["events"].as_array().unwrap().clone();
        told.into_iter().filter(|event| event["kind"] == "keys_failed").collect::<Vec<_>>()
    };
    until("it failed twice", || failed(&gateway).iter().any(|event| event["times"].as_u64() > Some(1)));
    let told = failed(&gateway);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["text"].as_str().unwrap().contains("it answers 500"), "{told:?}");
    *says.lock().unwrap() = ok(set.as_bytes());
    let words = format!("keys are fetched from http://{}/keys again", issuer.address);
    gateway.until_event("keys_fetched", &words);
    gateway.until_stderr(&words);
}

#[test]
fn a_drain_is_told_while_it_lasts() {
    let asked = Arc::new(AtomicU16::new(0));
    let heard = asked.clone();
    let silent = Backend::serve(move |_, connection| {
        heard.fetch_add(1, Relaxed);
        connection.wait_stop();
    });
    let gateway = Gateway::start(&config("[\"@m@\"]", ""), &[("m", silent.address)]);
    let mut client = gateway.client();
    assert!(client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"));
    until("a request is under way", || asked.load(Relaxed) == 1);
    gateway.signal(libc::SIGTERM);
    gateway.until_event("drain_begun", "draining for at most 30s");
}
