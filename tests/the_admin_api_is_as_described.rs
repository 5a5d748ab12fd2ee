//! `src/admin/openapi.json` and the admin endpoint say the same: every operation of the file is there and answers as the file
//! says, and everything that is there is in the file. Programs may be made from it.

mod harness;

use std::collections::BTreeMap;

use harness::process::Directory;
use harness::schema::Document;
use harness::{Backend, Client, Gateway, Response};
use serde_json::Value;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

fn described() -> Document {
    Document(serde_json::from_str(include_str!("../src/admin/openapi.json")).unwrap())
}

/// Path, method in upper case, and what is said of it.
fn operations(described: &Document) -> Vec<(String, String, Value)> {
    let paths = described.0["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone();
        methods.into_iter().map(|(method, said)| (path.clone(), method.to_uppercase(), said)).collect()
    };
    let operations: Vec<Vec<_>> = paths.iter().map(of_path).collect();
    operations.into_iter().flatten().collect()
}

/// A gateway of which everything that can be shown is there to be shown.
fn gateway(admin: &str) -> (Gateway, Backend) {
    let backend = Backend::fixed("ok");
    let config = format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\n{admin}\n[listen.web]\naddress = \"@web@\"\n\
         [auth.users]\njwt = {{ secret = \"0123456789abcdef0123456789abcdef\" }}\n\
         [limit.all]\nrate = 1000\n[authorizer.boss]\nto = \"models\"\n\
         [service.models]\nendpoints = [\"@models@\"]\nbreaker = \"adaptive\"\nconcurrency = {{ requests = 9 }}\n\
         [service.plain]\nendpoints = []\n\
         [[route]]\nname = \"known\"\nmatch = {{ host = \"known.test\", header = {{ x-a = \"b\" }} }}\nauth = \"users\"\nto = \"models\"\n\
         [[route]]\nname = \"elsewhere\"\nmatch = {{ path = \"/old/**\" }}\nredirect = {{ to = \"/new\", status = 308 }}\n\
         [[route]]\nname = \"fixed\"\nmatch = {{ path = \"/fixed\" }}\nrespond = {{ status = 204 }}\n\
         [[route]]\nname = \"models\"\nlimits = \"all\"\nto = \"{{header:x-service}}\"\notherwise = \"models\"\n\
         canary = {{ to = \"plain\", percent = 0 }}\nshadow = {{ to = \"plain\" }}\nauthorizer = \"boss\"\n"
    );
    (Gateway::start(&config, &[("models", backend.address)]), backend)
}

fn ask(gateway: &Gateway, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let (admin, length) = (gateway.address("admin"), body.len());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let answer = Client::connect(admin).request(method, head.as_bytes());
    answer.unwrap_or_else(|fault| panic!("{method} {path}: {fault:?}"))
}

/// Everything about an answer that is not as the operation says.
fn faults(described: &Document, path: &str, method: &str, said: &Value, answer: &Response) -> Vec<String> {
    let place = format!("{method} {path}: {}", answer.status);
    let response = &said["responses"][answer.status.to_string()];
    if response.is_null() {
        return vec![format!("{place} is not among its answers: {}", answer.text())];
    }
    let response = described.resolved(response);
    let empty = serde_json::Map::new();
    for name in response["headers"].as_object().unwrap_or(&empty).keys() {
        assert!(answer.get(name).is_some(), "{place} has no {name}");
    }
    let Some(content) = response["content"].as_object() else {
        let is_empty = answer.body.is_empty();
        return if is_empty { Vec::new() } else { vec![format!("{place} has a body")] };
    };
    let sent = answer.get("content-type").unwrap_or_default().split(';').next().unwrap();
    let Some(media) = content.get(sent) else {
        return vec![format!("{place} is {sent}, which is not described")];
    };
    let body = match sent.ends_with("json") {
        true => serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{place}: {error}")),
        false => Value::String(answer.text()),
    };
    described.faults(&media["schema"], &body, &place)
}

/// The bodies that the description shows, made about what there is.
fn bodies(said: &Value, gateway: &Gateway) -> Vec<String> {
    let examples = &said["requestBody"]["content"]["application/json"]["examples"];
    let Some(examples) = examples.as_object() else { return vec![String::new()] };
    let address = gateway.address("models").to_string();
    examples.values().map(|example| example["value"].to_string().replace("10.0.0.5:8000", &address)).collect()
}

#[test]
fn every_operation_answers_as_it_is_described() {
    let (described, (gateway, _backend)) = (described(), gateway(""));
    assert_eq!(gateway.get("/").status, 200);
    for (path, method, said) in operations(&described) {
        for body in bodies(&said, &gateway) {
            let answer = ask(&gateway, &method, &path, "", &body);
            assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.text());
            let faults = faults(&described, &path, &method, &said, &answer);
            assert!(faults.is_empty(), "{faults:#?}\nin {}", answer.text());
        }
    }
}

#[test]
fn nothing_is_there_that_is_not_described() {
    let (described, (gateway, _backend)) = (described(), gateway(""));
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, method, _) in operations(&described) {
        known.entry(path).or_default().push(method);
    }
    for (path, methods) in &known {
        for method in METHODS.iter().filter(|method| !methods.iter().any(|known| known == *method)) {
            let answer = ask(&gateway, method, path, "", "");
            assert_eq!(answer.status, 405, "{method} {path}");
            let allowed: Vec<&str> = answer.get("allow").unwrap().split(", ").collect();
            assert_eq!(allowed, *methods, "{path}");
            let problem = serde_json::from_slice(&answer.body).unwrap();
            let schema = &described.0["components"]["schemas"]["Problem"];
            assert_eq!(described.faults(schema, &problem, path), Vec::<String>::new());
        }
    }
    let page = gateway.admin_get("/").unwrap().text();
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("GET ") || line.starts_with("POST ")) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        listed.entry(path).or_default().push(method);
    }
    known.values_mut().for_each(|methods| methods.retain(|method| method != "HEAD"));
    assert_eq!(listed, known);
    assert_eq!(ask(&gateway, "GET", "/nope", "", "").status, 404);
}

#[test]
fn wrong_bodies_are_refused_as_it_is_described() {
    let (described, (gateway, _backend)) = (described(), gateway(""));
    let long = format!("{{\"route\": \"{}\"}}", "x".repeat(5_000));
    for (path, body, status) in [
        ("/canaries", "", 400),
        ("/canaries", "{\"route\": \"models\"}", 400),
        ("/canaries", "{\"route\": \"models\", \"percent\": \"5\"}", 400),
        ("/canaries", "{\"route\": \"models\", \"percent\": 101}", 422),
        ("/canaries", "{\"route\": \"fixed\", \"percent\": 5}", 404),
        ("/canaries", &*long, 413),
        ("/services", "[]", 400),
        ("/services", "{\"service\": \"models\"}", 400),
        ("/services", "{\"service\": \"models\", \"breaker\": \"open\"}", 422),
        ("/services", "{\"service\": \"plain\", \"breaker\": \"reset\"}", 404),
        ("/services", "{\"service\": \"models\", \"endpoint\": \"127.0.0.1:1\", \"drained\": true}", 404),
        ("/services", &*long, 413),
    ] {
        let answer = ask(&gateway, "POST", path, "", body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        let said = &described.0["paths"][path]["post"];
        assert_eq!(faults(&described, path, "POST", said, &answer), Vec::<String>::new());
        // The description of the body itself says so, too, but for names that it cannot know.
        if let (400 | 422, Ok(body)) = (status, serde_json::from_str(body)) {
            let schema = &said["requestBody"]["content"]["application/json"]["schema"];
            assert!(!described.faults(schema, &body, "").is_empty(), "{body} is described as right");
        }
    }
    let foreign = "origin: http://evil.example\r\n";
    for path in ["/canaries", "/services", "/reload"] {
        let answer = ask(&gateway, "POST", path, foreign, "");
        assert_eq!(answer.status, 403);
        let said = &described.0["paths"][path]["post"];
        assert_eq!(faults(&described, path, "POST", said, &answer), Vec::<String>::new());
    }
}

#[test]
fn who_has_no_token_is_refused_as_it_is_described() {
    let (described, directory) = (described(), Directory::new());
    let file = directory.write("token", "0123456789abcdef\n");
    let (gateway, _backend) = gateway(&format!("token_file = \"{}\"", file.display()));
    let bearer = "authorization: Bearer 0123456789abcdef\r\n";
    for (path, method, said) in operations(&described) {
        let is_public = said["security"].as_array().is_some_and(Vec::is_empty);
        let answer = ask(&gateway, &method, &path, "", "");
        assert_eq!(answer.status, if is_public { 200 } else { 401 }, "{method} {path}");
        assert_eq!(faults(&described, &path, &method, &said, &answer), Vec::<String>::new());
        assert_ne!(ask(&gateway, &method, &path, bearer, "").status, 401, "{method} {path}");
    }
}

#[test]
fn a_reload_that_is_refused_is_as_it_is_described() {
    let (described, (mut gateway, _backend)) = (described(), gateway(""));
    gateway.write_config("[listen.web]\naddress = 5\n");
    let answer = ask(&gateway, "POST", "/reload", "", "");
    assert_eq!(answer.status, 422, "{}", answer.text());
    let said = &described.0["paths"]["/reload"];
    assert_eq!(faults(&described, "/reload", "POST", &said["post"], &answer), Vec::<String>::new());
    let shown = ask(&gateway, "GET", "/reload", "", "");
    assert_eq!(faults(&described, "/reload", "GET", &said["get"], &shown), Vec::<String>::new());
    assert!(shown.text().contains("\"result\":\"refused\""), "{}", shown.text());
}
