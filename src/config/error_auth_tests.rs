//! What is said of mistakes in everything that is about who asks.

use super::*;

const AUTHORIZERS: &[Case] = &[
    ("[authorizer.a]\npath = \"/x\"", "1:1", "has no `to`", ""),
    (
        "[authorizer.a]\nto = \"n\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"",
        "2:6",
        "there is no service \"n\"",
        "did you mean \"m\"?",
    ),
    (
        "[authorizer.a]\nto = \"m\"\npath = \"x\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"",
        "3:8",
        "\"x\" is no path",
        "a slash",
    ),
    (
        "[authorizer.a]\nto = \"m\"\non_failure = \"pass\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"",
        "3:14",
        "pass",
        "",
    ),
    (
        "[authorizer.a]\nto = \"m\"\nsays = [\"x y\"]\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"",
        "3:9",
        "no name of a field",
        "x-api-key",
    ),
    (
        "[authorizer.a]\nto = \"m\"\nsays = \"content-length\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"",
        "3:8",
        "`content-length` cannot be changed",
        "framed",
    ),
    (
        "[authorizer.a]\nto = \"m\"\nsays = \"x-forwarded-for\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"",
        "3:8",
        "is not the authorizer's to say",
        "x-user",
    ),
    (
        "[authorizer.a]\nto = \"m\"\nsays = \"x-tier\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nmatch = { header.x-tier = true }\nto = \"m\"\nauthorizer = \"a\"",
        "9:14",
        "the route is chosen by `x-tier`",
        "or from `says`",
    ),
    (
        "[authorizer.a]\nto = \"m-a\"\nsays = \"x-tier\"\n[service.m-a]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m-{header:x-tier}\"\notherwise = \"m-a\"\nauthorizer = \"a\"",
        "9:14",
        "the route is chosen by `x-tier`",
        "or from `says`",
    ),
    (
        "[authorizer.abc]\nto = \"m\"\n[service.m]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"m\"\nauthorizer = \"abd\"",
        "7:14",
        "there is no authorizer \"abd\"",
        "did you mean \"abc\"?",
    ),
];

#[test]
fn authorizers() {
    assert_cases(Severity::Error, AUTHORIZERS);
}

const AUTH: &[Case] = &[
    ("[admin]\naddress = \"127.0.0.1:1\"\ntoken_file = \"/no/such\"", "3:14", "/no/such cannot be read", ""),
    (
        "[admin]\naddress = \"127.0.0.1:1\"\ntoken_file = \"/dev/null\"",
        "3:1",
        "the token is empty",
        "openssl rand",
    ),
    ("[admin]\naddress = \"127.0.0.1:1\"\ntoken_env = \"NO_SUCH_TIDEGATE\"", "3:13", "no variable", ""),
    ("[admin]\naddress = \"127.0.0.1:1\"\ntoken = \"x\"", "3:1", "unknown key `token`", "did you mean"),
    ("[auth.users]\napi_keys = \"keys\"", "2:12", "expected a table such as `api_keys", ""),
    ("[auth.users]\napi_keys = {}", "2:12", "`auth.users.api_keys` has no `file`", ""),
    ("[auth.users]\napi_keys = { file = \"/no/such\" }", "2:21", "/no/such cannot be read", ""),
    (
        "[auth.users]\napi_keys = { file = \"/proc/version\" }",
        "2:21",
        "/proc/version, line 1",
        "tidegate key",
    ),
    ("[auth.users]\nrealm = \"x\"", "1:1", "`auth.users` has no `jwt`", ""),
    ("[auth.users]\njwt = 1", "2:7", "expected a table such as `jwt", ""),
    ("[auth.users]\njwt = {}", "2:7", "nothing says by which key", "secret_file"),
    (
        "[auth.users]\njwt = { jwks = \"ftp://a/b\" }",
        "2:16",
        "neither http nor https",
        "https://id.example.com",
    ),
    ("[auth.users]\njwt = { jwks = \"https://\" }", "2:16", "it has no host", "https://id.example.com"),
    ("[auth.users]\njwt = { jwks = \"https://a@b/\" }", "2:16", "it has a user", "https://id.example.com"),
    (
        "[auth.users]\njwt = { jwks = \"http://127.0.0.1/\", tls = {} }",
        "2:37",
        "`tls` is for keys from https",
        "https://",
    ),
    (
        "[auth.users]\njwt = { jwks = \"https://127.0.0.1/\", refresh = \"1ms\" }",
        "2:48",
        "every 1s to 24h",
        "5m",
    ),
    (
        "[auth.users]\njwt = { secret = \"0123456789abcdef0123456789abcdef\", refresh = \"5m\" }",
        "2:54",
        "`refresh` is for keys from a URL",
        "jwks",
    ),
    (
        "[auth.users]\njwt = { secret = \"a\", jwks = \"b\" }",
        "2:23",
        "from `secret` and from `jwks`",
        "remove one",
    ),
    ("[auth.users]\njwt = { secret = \"\" }", "2:18", "the secret is empty", ""),
    ("[auth.users]\njwt = { secret_file = \"/no/such\" }", "2:23", "/no/such cannot be read", ""),
    (
        "[auth.users]\njwt = { secret_env = \"NO_SUCH_TIDEGATE\" }",
        "2:22",
        "no variable `NO_SUCH_TIDEGATE`",
        "",
    ),
    ("[auth.users]\njwt = { jwks = \"/dev/null\" }", "2:16", "/dev/null: it is no JSON", ""),
    ("[auth.users]\njwt = { public_key = \"/dev/null\" }", "2:22", "no public key in it", ""),
    (
        "[auth.users]\njwt = { secret = \"a\", algorithm = \"none\" }",
        "2:35",
        "\"none\" is no algorithm",
        "HS256",
    ),
    (
        "[auth.users]\njwt = { secret = \"a\", algorithm = \"RS256\" }",
        "2:18",
        "the key is not one for RS256",
        "",
    ),
    (
        "[auth.users]\nrealm = \"a\\\"b\"\njwt = { secret = \"0123456789abcdef0123456789abcdef\" }",
        "2:9",
        "cannot stand in a header",
        "letters",
    ),
    (
        "[auth.users]\njwt = { secret = \"0123456789abcdef0123456789abcdef\", issuer = \"\" }",
        "2:63",
        "an empty text",
        "leave it out",
    ),
    ("[[route]]\nto = \"m\"\nauth = \"users\"", "3:8", "there is no auth \"users\"", "[auth.users]"),
    ("[[route]]\nto = \"m\"\nmatch = { claim.group = \"vip\" }", "3:1", "a claim is only known", "add `auth"),
    ("[[route]]\nto = \"m\"\nallow = { group = \"vip\" }", "3:1", "a claim is only known", "add `auth"),
    ("[[route]]\nto = \"{claim:sub}\"", "2:6", "`{claim:sub}` is only known", "add `auth"),
];

const LIMITS: &[Case] = &[
    ("[limit.a]\nburst = 5", "1:1", "`limit.a` has no `rate`", ""),
    ("[limit.a]\nrate = 0", "2:8", "0 is out of range", ""),
    ("[limit.a]\nrate = \"10\"", "2:8", "\"10\" is no rate", "\"100/m\""),
    ("[limit.a]\nrate = \"10/w\"", "2:8", "is no rate", "\"100/m\""),
    ("[limit.a]\nrate = \"0/m\"", "2:8", "is no rate", "\"100/m\""),
    ("[limit.a]\nrate = 1\nburst = 0", "3:9", "0 is out of range", ""),
    ("[limit.a]\nrate = 1\nkey = \"user\"", "3:7", "\"user\" is no key", "claim:NAME"),
    ("[limit.a]\nrate = 1\nkey = \"{client}\"", "3:7", "it has braces", "\"client\""),
    ("[limit.a]\nrate = 1\nkey = \"request.id\"", "3:7", "every request has its own", "client"),
    (
        "[[route]]\nto = \"m\"\ncanary = { to = \"other\" }",
        "3:17",
        "there is no service \"other\"",
        "[service.other]",
    ),
    ("[[route]]\nto = \"m\"\ncanary = { percent = 5 }", "3:10", "`route.canary` has no `to`", ""),
    ("[[route]]\nto = \"m\"\ncanary = { to = \"m\", percent = 101 }", "3:32", "101 is out of range", ""),
    ("[[route]]\nto = \"m\"\ncanary = { to = \"m\", percent = \"5\" }", "3:32", "a number from 0 to 100", ""),
    (
        "[[route]]\nto = \"m\"\ncanary = { to = \"m\", by = \"claim:sub\" }",
        "3:1",
        "a claim is only known",
        "add `auth",
    ),
    ("[[route]]\nto = \"m\"\nlimits = \"a\"", "3:10", "there is no limit \"a\"", "[limit.a]"),
    (
        "[limit.a]\nrate = 1\nkey = \"claim:sub\"\n[[route]]\nto = \"m\"\nlimits = \"a\"",
        "6:10",
        "by the claim sub",
        "add `auth",
    ),
    (
        "[limit.a]\nrate = 1\nkey = \"path:x\"\n[[route]]\nto = \"m\"\nlimits = \"a\"",
        "6:10",
        "by the segment x",
        "match.path",
    ),
];

#[test]
fn limits() {
    assert_cases(Severity::Error, LIMITS);
}

#[test]
fn auth() {
    assert_cases(Severity::Error, AUTH);
}

#[test]
fn quotas() {
    let file = std::env::temp_dir().join(format!("tidegate-keys-with-quotas-{}", std::process::id()));
    std::fs::write(&file, format!("abc {} sub=ann day=5\n", "0".repeat(64))).unwrap();
    for (quota, message, help) in [
        ("", "the key abc has a quota, and no file keeps what is used of it", "add `quota = {"),
        (", quota = 5", "expected a table such as `quota", ""),
        (", quota = { day = 5 }", "`auth.users.api_keys.quota` has no `file`", "add `file = \"keys.used\"`"),
        (", quota = { files = \"used\" }", "unknown key `files`", "did you mean `file`?"),
        (", quota = { file = \"\" }", "expected a path to a file", ""),
        (", quota = { file = \"used\", day = 0 }", "0 is out of range", ""),
        (", quota = { file = \"used\", month = \"1000\" }", "expected a whole number", "without quotes"),
    ] {
        let text = format!("[auth.users]\napi_keys = {{ file = \"{}\"{quota} }}", file.display());
        let found = diagnose(&complete(&text));
        let only: Vec<_> = found.iter().collect();
        assert!(only.len() == 1 && only[0].message.contains(message), "{quota}: {found}");
        assert!(only[0].help.as_deref().unwrap_or_default().contains(help), "{quota}: {found}");
    }
    std::fs::remove_file(file).unwrap();
}

const SHORT: &[Case] = &[
    (
        "[auth.users]\njwt = { secret = \"short\" }",
        "2:18",
        "a secret of 5 bytes is short for HS256",
        "openssl",
    ),
    (
        "[auth.users]\ncertificate = true",
        "2:1",
        "no listener asks its clients for a certificate",
        "client_roots",
    ),
    ("[auth.users]\njwt = { jwks = \"http://id.test/\" }", "2:16", "his own keys", "https"),
];

#[test]
fn weak_secrets() {
    assert_cases(Severity::Warning, SHORT);
}

/// Whatever is wrong with it, or near it.
#[test]
fn secrets_are_told_by_no_mistake() {
    for text in [
        "[auth]\nsecret = \"hunter2\"",
        "[auth.a]\njwt = \"hunter2\"",
        "[auth.a.jwt]\nsecret = 1452890",
        "[auth.a.jwt]\nsecret = [\"hunter2\"]",
        "[auth.a.jwt]\nsecret = \"\"\"\nhunter2\\q\n\"\"\"",
        "[auth.a.jwt]\njwks = \"https://ann:hunter2@id.test/keys\"",
        "[service.m]\nendpoints = [\"https://ann:hunter2@10.0.0.5\"]",
        "[[route]]\nto = \"m\"\nmatch.header.x-api-key = 1452890",
        "[[route]]\nto = \"m\"\nrequest_headers.set.authorization = 1452890",
    ] {
        let told = compile(Path::new("edge.toml"), text, None, &mut Registry::new()).diagnostics;
        assert!(told.has_errors(), "{text}");
        let told = told.to_string();
        assert!(!told.contains("hunter2") && !told.contains("1452890"), "{told}\nof {text}");
    }
}
