//! `tidegate demo`, which is examples/gateway.toml before embedded model servers: who asks is known, versions and groups have servers of
//! their own, the canary moves, an image has a label, and what a reload changes is there. And `tidegate token`, whose tokens its configuration
//! believes.

mod harness;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use harness::process::{Directory, tidegate};
use harness::{Client, Response, until};

struct Demo {
    child: Child,
    directory: Directory,
    web: SocketAddr,
    admin: SocketAddr,
    ann: String,
    bob: String,
}

impl Demo {
    fn start() -> Demo {
        // Each looks for free ports, which nobody has taken until its gateway listens.
        static STARTS: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = Directory::new();
        let log = directory.path().join("stderr");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["demo", "--port", &harness::process::free_port().to_string(), "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        until("the demo says what to try", || said().contains("Ctrl-C ends the demo"));
        let said = said();
        let after = |mark: &str| {
            let rest = said.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {said}")).1;
            rest.split(|c: char| c.is_whitespace() || c == ',').next().unwrap().to_owned()
        };
        let [web, admin] = ["web on http://", "admin on http://"].map(|mark| after(mark).parse().unwrap());
        let [ann, bob] = ["ANN=", "BOB="].map(after);
        Demo { child, directory, web, admin, ann, bob }
    }

    fn ask(&self, path: &str, fields: &str) -> Response {
        Client::connect(self.web).get_with(path, fields).unwrap()
    }

    /// Which model server answers who has this token.
    fn server(&self, token: &str, fields: &str) -> String {
        let answer = self.ask("/v2/models/iris", &format!("authorization: Bearer {token}\r\n{fields}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.get("x-model-server").unwrap().to_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn everybody_has_the_server_that_is_theirs() {
    let demo = Demo::start();
    let nobody = demo.ask("/v2/models/iris", "");
    assert_eq!((nobody.status, nobody.get("www-authenticate")), (401, Some("Bearer realm=\"users\"")));
    assert_eq!(demo.server(&demo.bob, ""), "vip");
    assert_eq!(demo.server(&demo.bob, "x-model-version: v2\r\n"), "vip");
    assert_eq!(demo.server(&demo.ann, "x-model-version: v2\r\n"), "v2");
    assert_eq!(demo.server(&demo.ann, "x-model-type: image-classification\r\n"), "v2");
    // No template leads there.
    assert_ne!(demo.server(&demo.ann, "x-model-version: vip\r\n"), "vip");
    let file = demo.directory.path().join("demo.toml");
    let users = (0..60).map(|number| {
        let claim = format!("sub=user-{number}");
        let output = tidegate(&["token", "-c", file.to_str().unwrap(), &claim]);
        let token = String::from_utf8(output.stdout).unwrap();
        demo.server(token.trim(), "")
    });
    let on_canary = users.filter(|server| server == "v2").count();
    // A tenth of 60; more than 20 come once in a million times.
    assert!(on_canary <= 20, "{on_canary} of 60");
    let body = "{\"route\": \"models\", \"percent\": 100}";
    let head =
        format!("POST /canaries HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(Client::connect(demo.admin).request("POST", head.as_bytes()).unwrap().status, 200);
    assert_eq!(demo.server(&demo.ann, ""), "v2");
}

#[test]
fn an_image_has_a_label() {
    let demo = Demo::start();
    let image = demo.directory.path().join("sunset.jpg");
    let said = std::fs::read_to_string(demo.directory.path().join("stderr")).unwrap();
    let line = format!(
        "curl -s --data-binary @{} -H 'content-type: image/jpeg' http://{}/classify",
        image.display(),
        demo.web
    );
    assert!(said.contains(&line), "{said}");
    let image = std::fs::read(image).unwrap();
    let length = image.len();
    let head = format!(
        "POST /classify HTTP/1.1\r\nhost: a\r\ncontent-type: image/jpeg\r\ncontent-length: {length}\r\n\r\n"
    );
    let request = [head.as_bytes(), &image].concat();
    let answer = Client::connect(demo.web).request("POST", &request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(told["model"], "classifier", "{told}");
    let classes = told["predictions"][0].as_array().unwrap();
    assert_eq!((classes.len(), classes[0]["label"].as_str()), (3, Some("orange")), "{told}");
    let score = classes[0]["score"].as_f64().unwrap();
    assert!((0.3..1.0).contains(&score), "{told}");
}

#[test]
fn what_is_edited_is_there_after_a_reload() {
    let demo = Demo::start();
    assert_eq!(demo.ask("/hello", "").text(), "Edit me, then reload.\n");
    let file = demo.directory.path().join("demo.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("Edit me, then reload.", "It works.");
    std::fs::write(&file, text).unwrap();
    let reloaded = tidegate(&["reload", "-c", file.to_str().unwrap()]);
    assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    assert_eq!(demo.ask("/hello", "").text(), "It works.\n");
}

#[test]
fn the_demos_secret_is_nobody_elses() {
    use std::os::unix::fs::MetadataExt;
    let [one, other] = [Demo::start(), Demo::start()];
    let metadata = std::fs::metadata(one.directory.path().join("jwt.secret")).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    let stranger = format!("authorization: Bearer {}\r\n", other.ann);
    assert_eq!(one.ask("/v2/models/iris", &stranger).status, 401);
}

#[test]
fn token_says_what_it_needs() {
    let said = |arguments: &[&str]| {
        let output = tidegate(&[&["token"], arguments].concat());
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway.toml");
    let without = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/proxy.toml");
    assert!(said(&["sub=ann"]).contains("needs a configuration"));
    assert!(said(&["-c", example, "ann"]).contains("NAME=VALUE, not `ann`"));
    assert!(said(&["-c", example, "--auth", "x"]).contains("takes one of `users`"));
    assert!(said(&["-c", without, "sub=ann"]).contains("has no [auth.NAME]"));
    let expired = tidegate(&["token", "-c", example, "sub=ann", "exp=1"]);
    let token = String::from_utf8(expired.stdout).unwrap();
    let header = format!("authorization: Bearer {}", token.trim());
    let explained = tidegate(&["explain", "-c", example, "GET", "http://a/v2/models/iris", "-H", &header]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("expired"));
}
