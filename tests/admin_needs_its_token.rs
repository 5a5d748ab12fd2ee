//! The admin endpoint with a token: who does not have it learns whether the gateway lives, and changes nothing; `tidegate reload` has it
//! from the config. The token is shown nowhere.

mod harness;

use harness::process::{Directory, tidegate};
use harness::{Backend, Client, Gateway, Response};

const TOKEN: &str = "0123456789abcdef";

fn ask(gateway: &Gateway, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    Client::connect(gateway.address("admin")).request(method, head.as_bytes()).unwrap()
}

fn start(directory: &Directory, more: &str) -> (Gateway, Backend) {
    let file = directory.write("token", &format!("{TOKEN}\n"));
    let backend = Backend::fixed("ok");
    let config = format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\ntoken_file = \"{}\"\n{more}\n[listen.web]\naddress = \"@web@\"\n\
         [service.m]\nendpoints = [\"@m@\"]\n[[route]]\nto = \"m\"\n",
        file.display()
    );
    (Gateway::start(&config, &[("m", backend.address)]), backend)
}

#[test]
fn without_the_token_nothing_is_told_or_changed() {
    let directory = Directory::new();
    let (gateway, backend) = start(&directory, "");
    let drain = format!("{{\"service\": \"m\", \"endpoint\": \"{}\", \"drained\": true}}", backend.address);
    for fields in
        ["", "authorization: Bearer 0123456789abcdeg\r\n", "authorization: Basic 0123456789abcdef\r\n"]
    {
        for (method, path, body) in [
            ("GET", "/", ""),
            ("GET", "/metrics", ""),
            ("GET", "/services", ""),
            ("POST", "/reload", ""),
            ("POST", "/services", &*drain),
        ] {
            let answer = ask(&gateway, method, path, fields, body);
            assert_eq!(
                (answer.status, answer.get("www-authenticate")),
                (401, Some("Bearer realm=\"tidegate\"")),
                "{path}"
            );
            assert!(!answer.text().contains(TOKEN));
        }
    }
    assert_eq!(gateway.get("/").status, 200, "nothing was drained");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&gateway, "GET", path, "", "").status, 200, "{path}");
    }
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    assert!(ask(&gateway, "GET", "/metrics", &bearer, "").text().contains("tidegate_workers 1"));
    assert_eq!(ask(&gateway, "POST", "/services", &bearer, &drain).status, 200);
    assert_eq!(gateway.get("/").status, 503);
    assert!(!gateway.stderr().contains(TOKEN));
}

#[test]
fn the_reload_command_has_it_from_the_config() {
    let directory = Directory::new();
    let (gateway, _backend) = start(&directory, "metrics_public = true");
    assert_eq!(gateway.metrics().sum("tidegate_workers", &[]), 1.0, "they are public");
    let file = gateway.config_file();
    let reload = || tidegate(&["reload", "-c", file.to_str().unwrap()]);
    let done = reload();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(gateway.generation(), 2);
    directory.write("token", "another");
    let refused = reload();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
    assert_eq!(gateway.generation(), 2);
}

#[test]
fn an_address_for_all_without_a_token_is_warned_of() {
    let directory = Directory::new();
    let text = "[admin]\naddress = \"0.0.0.0:9180\"\n[listen.web]\naddress = \"127.0.0.1:1\"\n[[route]]\nrespond = { status = 204 }\n";
    let file = directory.write("edge.toml", text);
    let said = String::from_utf8(tidegate(&["check", "-c", file.to_str().unwrap()]).stderr).unwrap();
    assert!(said.contains("0.0.0.0:9180 is no loopback address") && said.contains("token_file"), "{said}");
}
