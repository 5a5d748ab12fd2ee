//! What is said of mistakes in everything that is about TLS.

use super::*;

const TLS: &[Case] = &[
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"https\"",
        "1:1",
        "`listen.web` has no `tls`",
        "edge.pem",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nto = \"m\"\ntls = {}",
        "5:1",
        "`tls` is for listeners with `protocol = \"https\"`",
        "https",
    ),
];

const PASSTHROUGH: &[Case] = &[
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"tls-passthrough\"",
        "1:1",
        "`listen.web` has no `to`",
        "add `to",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nsni = { \"a.test\" = \"m\" }",
        "3:1",
        "`sni` is for listeners with `protocol = \"tls-passthrough\"`",
        "add `protocol",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"tls-passthrough\"\nsni = { \"https://a\" = \"m\" }",
        "4:9",
        "is not a host to match",
        "no scheme",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"tls-passthrough\"\nsni = { \"a.test\" = \"m\", \"A.test\" = \"m\" }\n[service.m]\nendpoints = [\"a:1\"]",
        "4:25",
        "stands twice",
        "remove one",
    ),
    (
        "[listen.web]\naddress = \"0.0.0.0:1\"\nprotocol = \"tls-passthrough\"\nsni = { \"a.test\" = \"else\" }\n[service.m]\nendpoints = [\"a:1\"]",
        "4:20",
        "there is no service \"else\"",
        "add a section",
    ),
];

#[test]
fn tls_passthrough() {
    assert_cases(Severity::Error, PASSTHROUGH);
}

const UPSTREAM_TLS: &[Case] = &[
    (
        "[service.m]\nendpoints = [\"a:1\"]\ntls = { server_name = \"https://a:1\", verify = false }",
        "3:23",
        "is no name that a certificate may be for",
        "without a port",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\ntls = { roots = \"ca.pem\", verify = false }",
        "3:9",
        "`roots` has no effect with `verify = false`",
        "remove one",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\ntls = { roots = \"absent.pem\" }",
        "3:17",
        "absent.pem cannot be read",
        "",
    ),
];

#[test]
fn tls_towards_endpoints() {
    assert_cases(Severity::Error, UPSTREAM_TLS);
    assert_cases(
        Severity::Warning,
        &[(
            "[service.m]\nendpoints = [\"a:1\"]\ntls = { verify = false }",
            "3:9",
            "whoever answers",
            "roots",
        )],
    );
}

const ADMIN: &[Case] = &[
    ("[admin]\naddress = \"127.0.0.1:1\"\ntls = true", "3:7", "expected a table", ""),
    (
        "[admin]\naddress = \"127.0.0.1:1\"\nssl = { certificate = \"a.pem\", key = \"a.key\" }",
        "3:1",
        "unknown key `ssl`",
        "did you mean `tls`?",
    ),
];

/// In one table each mistake is told.
#[test]
fn tls_of_the_admin_endpoint() {
    assert_cases(Severity::Error, ADMIN);
    let told = |tls: &str| {
        let text = format!("[admin]\naddress = \"127.0.0.1:1\"\ntls = {{ {tls} }}");
        diagnose(&complete(&text)).to_string()
    };
    let said = told("certificate = \"absent.pem\", client_certificates = \"optional\", client_ca = \"a\"");
    for words in [
        "`admin.tls` has no `key`",
        "absent.pem cannot be read",
        "nothing says whose certificates are accepted",
        "unknown key `client_ca` in `admin.tls`",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = told("certificate = \"a.pem\", key = \"a.key\", client_roots = \"absent.pem\"");
    assert!(said.contains("absent.pem cannot be read"), "{said}");
}

/// What the files hold is in tests/tls_keeps_every_promise.rs.
#[test]
fn tls() {
    assert_cases(Severity::Error, TLS);
}
