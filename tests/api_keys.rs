//! API keys: those that `tidegate key` makes are believed, in either field, with the claims that their lines have; those that are not
//! there, revoked or over are not; and a reload reads the file again. The file never has a key.

mod harness;

use std::path::Path;

use harness::process::{Directory, tidegate};
use harness::{Backend, Gateway, Response};

fn make(file: &Path, claims: &[&str]) -> String {
    let arguments = [&["key", file.to_str().unwrap()], claims].concat();
    let output = tidegate(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn config(file: &Path, auth: &str) -> String {
    format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [service.vip]\nendpoints = [\"@vip@\"]\n[service.all]\nendpoints = [\"@all@\"]\n\
         [auth.users]\napi_keys = {{ file = \"{}\" }}\n{auth}\n\
         [[route]]\nmatch = {{ path = \"/v2/**\", claim.group = \"vip\" }}\nauth = \"users\"\nto = \"vip\"\n\
         [[route]]\nmatch = {{ path = \"/v2/**\" }}\nauth = \"users\"\nto = \"all\"\n\
         request_headers.set = {{ x-user = \"{{claim:sub}}\", x-key = \"{{claim:key}}\" }}\n\
         [[route]]\nmatch = {{ path = \"/allowed\" }}\nauth = \"users\"\nallow = {{ team = \"red\" }}\nto = \"all\"\n",
        file.display()
    )
}

struct Scene {
    gateway: Gateway,
    directory: Directory,
    _backends: [Backend; 2],
}

impl Scene {
    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("keys")
    }

    fn ask(&self, path: &str, fields: &str) -> Response {
        self.gateway.client().get_with(path, fields).unwrap()
    }

    fn with(&self, key: &str) -> Response {
        self.ask("/v2/m", &format!("x-api-key: {key}\r\n"))
    }
}

/// A gateway that knows the keys of these owners, and the keys.
fn scene(owners: &[&[&str]], auth: &str) -> (Scene, Vec<String>) {
    let directory = Directory::new();
    let file = directory.path().join("keys");
    let keys = owners.iter().map(|claims| make(&file, claims)).collect();
    let backends = [Backend::fixed("vip"), Backend::describing("all")];
    let names = [("vip", backends[0].address), ("all", backends[1].address)];
    let gateway = Gateway::start(&config(&file, auth), &names);
    (Scene { gateway, directory, _backends: backends }, keys)
}

#[test]
fn a_key_is_its_owner_in_either_field() {
    let (scene, keys) = scene(&[&["sub=ann", "team=red,blue"], &["sub=bob", "group=vip"]], "");
    let [ann, bob] = &keys[..] else { panic!("{keys:?}") };
    for field in ["x-api-key: ", "X-API-Key:   ", "Authorization: Bearer ", "authorization: bearer "] {
        let answer = scene.ask("/v2/m", &format!("{field}{ann}\r\n"));
        assert_eq!(answer.status, 200, "{field}: {}", answer.text());
        assert!(answer.text().to_lowercase().contains("x-user: ann"), "{}", answer.text());
        assert_eq!(scene.ask("/v2/m", &format!("{field}{bob}\r\n")).text(), "vip");
    }
    assert_eq!(scene.ask("/allowed", &format!("x-api-key: {ann}\r\n")).status, 200);
    let denied = scene.ask("/allowed", &format!("x-api-key: {bob}\r\n"));
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert_eq!(scene.ask("/v2/m", "").status, 401);
    harness::until("all of it is logged", || scene.gateway.access_log().len() == 11);
    let log = scene.gateway.access_log();
    let of = |user: &str| log.iter().filter(|line| line["user"] == user).count();
    assert_eq!((of("ann"), of("bob")), (5, 5), "who is not let in is known, too");
    let nobody = log.iter().find(|line| line["status"] == 401).unwrap();
    assert!(nobody.get("user").is_none());
    let text = std::fs::read_to_string(scene.gateway.access_log_file()).unwrap();
    assert!(keys.iter().all(|key| !text.contains(key.as_str())));
}

#[test]
fn what_is_no_key_of_this_gateway_is_401() {
    let (scene, keys) = scene(&[&["sub=ann"]], "");
    let ann = &keys[0];
    let other = make(&scene.directory.path().join("others"), &["sub=ann"]);
    let id = ann.rsplit_once('_').unwrap().0;
    for (key, why) in [
        (other.as_str(), "not known here"),
        (&format!("{id}_x"), "not known here"),
        (&format!("{ann}A"), "not known here"),
        ("abc", "no API key"),
        ("tgk_", "no API key"),
    ] {
        let answer = scene.with(key);
        assert_eq!((answer.status, answer.text().contains(why)), (401, true), "{key}: {}", answer.text());
        assert!(answer.get("www-authenticate").unwrap().contains("invalid_token"));
    }
    assert_eq!(scene.ask("/v2/m", "").get("www-authenticate"), Some("Bearer realm=\"users\""));
    let twice = scene.ask("/v2/m", &format!("x-api-key: {ann}\r\nx-api-key: {ann}\r\n"));
    assert_eq!(twice.status, 401, "two are none");
    // A wrong one is not made good by another one elsewhere.
    let both = scene.ask("/v2/m", &format!("x-api-key: {other}\r\nauthorization: Bearer {ann}\r\n"));
    assert_eq!(both.status, 401);
}

#[test]
fn a_reload_takes_what_the_file_says_then() {
    let (mut scene, keys) = scene(&[&["sub=ann"]], "");
    let file = scene.file();
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = keys[0].rsplit_once('_').unwrap().1;
    assert!(!text.contains(secret), "the file has the key's hash");
    let bob = make(&file, &["sub=bob"]);
    assert_eq!(scene.with(&bob).status, 401, "not before the reload");
    scene.gateway.reload_file();
    assert_eq!((scene.with(&bob).status, scene.with(&keys[0]).status), (200, 200));
    let with_bob = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, with_bob.replacen("sub=ann", "sub=ann revoked", 1)).unwrap();
    scene.gateway.reload_file();
    let revoked = scene.with(&keys[0]);
    assert!(revoked.status == 401 && revoked.text().contains("revoked"), "{}", revoked.text());
    std::fs::write(&file, with_bob.replacen("sub=ann", "sub=ann expires=2020-01-01", 1)).unwrap();
    scene.gateway.reload_file();
    assert!(scene.with(&keys[0]).text().contains("expired"));
    std::fs::write(&file, "nonsense\n").unwrap();
    scene.gateway.reload_file();
    assert_eq!(scene.with(&bob).status, 200, "a file with a mistake changes nothing");
    std::fs::write(&file, text).unwrap();
    scene.gateway.reload_file();
    assert_eq!(
        (scene.with(&bob).status, scene.with(&keys[0]).status),
        (401, 200),
        "who is not there is gone"
    );
}

#[test]
fn keys_and_tokens_may_be_asked_for_on_one_route() {
    let (scene, keys) = scene(&[&["sub=ann"]], "jwt = { secret = \"0123456789abcdef0123456789abcdef\" }");
    let config = scene.gateway.config_file();
    let token = tidegate(&["token", "-c", config.to_str().unwrap(), "sub=carl"]);
    let token = String::from_utf8(token.stdout).unwrap();
    let bearer = |word: &str| scene.ask("/v2/m", &format!("authorization: Bearer {word}\r\n"));
    assert!(bearer(token.trim()).text().contains("x-user: carl"));
    assert!(bearer(&keys[0]).text().contains("x-user: ann"));
    assert_eq!(bearer("x.y.z").status, 401);
}

#[test]
fn limits_and_explain_know_who_has_a_key() {
    let limit = "[limit.each]\nkey = \"claim:sub\"\nrate = \"1/d\"\nburst = 2\n";
    let (mut scene, keys) = scene(&[&["sub=ann"], &["sub=bob"]], "");
    let text = std::fs::read_to_string(scene.gateway.config_file()).unwrap();
    let text = format!("{}{limit}", text.replacen("to = \"all\"", "limits = \"each\"\nto = \"all\"", 1));
    scene.gateway.reload(&text);
    let statuses = keys.iter().flat_map(|key| [1, 2, 3].map(|_| scene.with(key).status));
    assert_eq!(statuses.collect::<Vec<_>>(), [200, 200, 429, 200, 200, 429]);
    let config = scene.gateway.config_file();
    let header = format!("x-api-key: {}", keys[1]);
    let output = tidegate(&["explain", "-c", config.to_str().unwrap(), "GET", "/v2/m", "-H", &header]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("asked by bob"));
}

#[test]
fn key_says_what_it_needs() {
    let directory = Directory::new();
    let said = |arguments: &[&str]| {
        let output = tidegate(&[&["key"], arguments].concat());
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&[]).contains("needs a file"));
    assert!(said(&["sub=ann"]).contains("needs a file"));
    let file = directory.path().join("keys");
    let file = file.to_str().unwrap();
    assert!(said(&[file, "ann"]).contains("line 1: \"ann\" is neither NAME=VALUE"));
    assert!(said(&[file, "expires=soon"]).contains("no date such as"));
    assert!(said(&[file, "sub=a b"]).contains("has a space"));
    assert!(!Path::new(file).exists(), "nothing is written then");
    make(Path::new(file), &["sub=ann"]);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600);
}
