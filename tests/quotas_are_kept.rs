//! Quotas of API keys over the wire: exactly as many requests pass in a day or a month as a key may make, whichever connections and
//! workers they come to, over reloads, restarts and crashes; what is refused for another reason costs nothing; and a file that says
//! nothing certain is never taken for one that says nothing.

mod harness;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::http2::Http2;
use harness::process::{Directory, dead_address, tidegate};
use harness::{Backend, Gateway, PATIENCE, Response, Setup, until};
use http::Request;

const DAY: u64 = 86_400;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What is true of one day (UTC) is tried again if midnight came between.
fn on_one_day(test: impl Fn()) {
    let begun = now() / DAY;
    let result = catch_unwind(AssertUnwindSafe(&test));
    if now() / DAY != begun {
        return test();
    }
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Keys, and where it is kept what they have used, whichever gateway runs.
struct Scene {
    directory: Directory,
    backend: Backend,
    /// Of the owners, in their order.
    keys: Vec<String>,
}

impl Scene {
    fn new(owners: &[&str]) -> Scene {
        let directory = Directory::new();
        let file = directory.path().join("keys");
        let make = |words: &&str| {
            let words = words.split(' ').filter(|word| !word.is_empty());
            let arguments: Vec<&str> = ["key", file.to_str().unwrap()].into_iter().chain(words).collect();
            let output = tidegate(&arguments);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let keys = owners.iter().map(make).collect();
        Scene { directory, backend: Backend::fixed("ok"), keys }
    }

    fn used(&self) -> PathBuf {
        self.directory.path().join("used")
    }

    /// `quota`: more of it than its file. `more`: limits. `route`: keys of the route.
    fn config(&self, quota: &str, more: &str, route: &str) -> String {
        let (directory, backend) = (self.directory.path().display(), self.backend.address);
        format!(
            "workers = 2\n[listen.web]\naddress = \"@web@\"\n\
             [service.m]\nendpoints = [\"{}\", \"{backend}\"]\nretry.attempts = 3\n\
             [auth.users]\napi_keys = {{ file = \"{directory}/keys\", quota = {{ file = \"{directory}/used\"{quota} }} }}\n\
             {more}\n[[route]]\nauth = \"users\"\nto = \"m\"\n{route}\n",
            dead_address()
        )
    }

    fn start(&self) -> Gateway {
        Gateway::start(&self.config("", "", ""), &[])
    }

    fn ask(&self, gateway: &Gateway, key: usize) -> Response {
        gateway.client().get_with("/", &format!("x-api-key: {}\r\n", self.keys[key])).unwrap()
    }

    /// How many of so many pass.
    fn passed(&self, gateway: &Gateway, key: usize, count: usize) -> usize {
        let statuses = (0..count).map(|_| self.ask(gateway, key).status);
        statuses
            .inspect(|status| assert!([200, 429].contains(status), "{status}"))
            .filter(|status| *status == 200)
            .count()
    }

    /// How often the file says that a key was used today, if it says it.
    fn on_file(&self, key: usize) -> Option<usize> {
        let id = self.keys[key].split('_').nth(1).unwrap();
        let text = fs::read_to_string(self.used()).ok()?;
        text.lines().find(|line| line.starts_with(id))?.split(' ').nth(2)?.parse().ok()
    }
}

fn end(mut gateway: Gateway, signal: i32) {
    gateway.signal(signal);
    assert!(gateway.wait_exit(PATIENCE).is_some(), "it has not ended");
}

#[test]
fn a_quota_is_exact_over_all_workers() {
    on_one_day(|| {
        let scene = Scene::new(&["sub=ann day=50", "sub=bob month=20 day=1000", "sub=carl"]);
        let gateway = scene.start();
        let all = |key: usize, each: usize| -> usize {
            thread::scope(|scope| {
                let asks = || scope.spawn(|| scene.passed(&gateway, key, each));
                let clients: Vec<_> = (0..8).map(|_| asks()).collect();
                clients.into_iter().map(|client| client.join().unwrap()).sum()
            })
        };
        assert_eq!((all(0, 40), scene.backend.requests()), (50, 50), "tries are no requests");
        assert_eq!((all(1, 10), all(2, 20)), (20, 160), "who has no quota has no end");
        let answer = scene.ask(&gateway, 0);
        let rest = DAY - now() % DAY;
        let wait: u64 = answer.get("retry-after").unwrap().parse().unwrap();
        assert!(answer.status == 429 && (rest..=rest + 5).contains(&wait), "{wait}, not {rest}");
        assert_eq!(answer.get("ratelimit-policy"), Some("\"day\";q=50;w=86400"));
        assert_eq!(answer.get("ratelimit"), Some(&*format!("\"day\";r=0;t={wait}")));
        assert_eq!(answer.get("content-type"), Some("application/problem+json"));
        assert!(answer.text().contains("urn:tidegate:error:quota_exceeded"), "{}", answer.text());
        assert!(answer.text().contains("it may make 50 in a day"), "{}", answer.text());
        let answer = scene.ask(&gateway, 1);
        let window: u64 = answer
            .get("ratelimit-policy")
            .unwrap()
            .strip_prefix("\"month\";q=20;w=")
            .unwrap()
            .parse()
            .unwrap();
        assert!([28, 29, 30, 31].contains(&(window / DAY)) && window.is_multiple_of(DAY), "{window}");
        let wait: u64 = answer.get("retry-after").unwrap().parse().unwrap();
        assert!((1..=window).contains(&wait) && wait % DAY <= rest + 5, "{wait}");
        let metrics = gateway.metrics();
        let refused = |period| metrics.sum("tidegate_quota_refused_total", &[("period", period)]);
        assert_eq!((refused("day"), refused("month")), (271.0, 61.0));
        assert_eq!(metrics.sum("tidegate_request_errors_total", &[("kind", "quota_exceeded")]), 332.0);
    });
}

#[test]
fn what_was_used_stays_used_over_reloads_restarts_and_crashes() {
    on_one_day(|| {
        let scene = Scene::new(&["sub=ann day=9", "sub=bob month=9"]);
        let both =
            |gateway: &Gateway, count| (scene.passed(gateway, 0, count), scene.passed(gateway, 1, count));
        let mut gateway = scene.start();
        gateway.until_stderr("is not there yet: all of its quotas begin at 0");
        assert_eq!(both(&gateway, 2), (2, 2));
        gateway.reload_file();
        assert_eq!(both(&gateway, 2), (2, 2));
        // Written without being asked to, so that a crash loses little.
        until("it is written", || scene.on_file(0) == Some(4) && scene.on_file(1) == Some(4));
        end(gateway, libc::SIGKILL);
        let gateway = scene.start();
        assert!(!gateway.stderr().contains("is not there yet"), "{}", gateway.stderr());
        assert_eq!(both(&gateway, 3), (3, 3));
        end(gateway, libc::SIGTERM);
        assert_eq!((scene.on_file(0), scene.on_file(1)), (Some(7), Some(7)), "written at the end");
        let gateway = scene.start();
        assert_eq!(both(&gateway, 1), (1, 1));
        end(gateway, libc::SIGINT);
        let gateway = scene.start();
        assert_eq!(both(&gateway, 5), (1, 1));
        end(gateway, libc::SIGTERM);
        // By hand, too.
        let text = fs::read_to_string(scene.used()).unwrap();
        fs::write(scene.used(), text.replace(" 9 ", " 6 ").replace(" 9\n", " 6\n")).unwrap();
        assert_eq!(both(&scene.start(), 5), (3, 3));
    });
}

#[test]
fn a_reload_changes_what_keys_may_and_not_what_they_have_done() {
    on_one_day(|| {
        let scene = Scene::new(&["sub=ann day=3", "sub=bob"]);
        let mut gateway = scene.start();
        assert_eq!((scene.passed(&gateway, 0, 5), scene.passed(&gateway, 1, 5)), (3, 5));
        let keys = scene.directory.path().join("keys");
        let text = fs::read_to_string(&keys).unwrap();
        let with = |gateway: &mut Gateway, words: &str| {
            fs::write(&keys, text.replace("day=3", words)).unwrap();
            gateway.reload_file();
        };
        with(&mut gateway, "day=5");
        assert_eq!(scene.passed(&gateway, 0, 5), 2);
        with(&mut gateway, "day=4");
        assert_eq!(scene.passed(&gateway, 0, 5), 0);
        with(&mut gateway, "day=off");
        assert_eq!(scene.passed(&gateway, 0, 5), 5);
        // One for all that say nothing; who had none begins with it.
        gateway.reload(&scene.config(", day = 7", "", ""));
        assert_eq!((scene.passed(&gateway, 0, 9), scene.passed(&gateway, 1, 9)), (9, 7));
        with(&mut gateway, "day=off # hers");
        gateway.reload(&scene.config(", day = 8, month = 1000", "", ""));
        assert_eq!(scene.passed(&gateway, 1, 9), 1);
        let file = gateway.config_file();
        let without = fs::read_to_string(&file).unwrap().replace(", quota = {", ", quotas = {");
        fs::write(&file, without).unwrap();
        gateway.reload_file();
        assert_eq!(scene.passed(&gateway, 1, 2), 0, "a config with a mistake changes nothing");
    });
}

#[test]
fn what_is_refused_for_another_reason_costs_nothing() {
    on_one_day(|| {
        let scene = Scene::new(&["sub=ann day=10", "sub=bob day=2", "sub=carl day=1 team=red"]);
        let limit = "[limit.all]\nrate = \"1/d\"\nburst = 6\n[limit.each]\nkey = \"claim:sub\"\nrate = \"1/d\"\nburst = 4\n";
        let mut gateway = Gateway::start(&scene.config("", limit, "limits = [\"all\", \"each\"]"), &[]);
        assert_eq!(scene.passed(&gateway, 1, 6), 2, "the quota refuses, and the limits are not debited");
        assert_eq!(scene.passed(&gateway, 0, 9), 4, "a limit refuses");
        assert_eq!(
            scene.ask(&gateway, 0).get("ratelimit-policy").map(|policy| &policy[..6]),
            Some("\"all\";")
        );
        gateway.reload(&scene.config("", "", ""));
        assert_eq!(scene.passed(&gateway, 0, 9), 6, "and the quota was not");
        gateway.reload(&scene.config(
            "",
            "[limits]\nbody = \"4B\"\n",
            "match.path = \"/\"\nallow = { team = \"red\" }",
        ));
        let post = |key: usize, body: &str| {
            let (key, length) = (&scene.keys[key], body.len());
            let head = format!(
                "POST / HTTP/1.1\r\nhost: a.test\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n"
            );
            gateway.client().request("POST", format!("{head}{body}").as_bytes()).unwrap().status
        };
        assert_eq!((post(0, ""), post(2, "12345"), post(2, "1234"), post(2, "1234")), (403, 413, 200, 429));
    });
}

#[test]
fn a_refused_body_leaves_the_connection_of_use_and_calls_are_told_in_their_own_way() {
    on_one_day(|| {
        let scene = Scene::new(&["sub=ann day=1"]);
        let gateway = scene.start();
        let mut client = gateway.client();
        let body = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
            scene.keys[0],
            body.len()
        );
        let mut post = || client.request("POST", &[head.as_bytes(), body].concat()).unwrap().status;
        assert_eq!([post(), post(), post()], [200, 429, 429]);
        let client = Http2::connect(gateway.web());
        let call = Request::post("http://a.test/s.S/M").header("content-type", "application/grpc");
        let call = call.header("authorization", format!("Bearer {}", scene.keys[0]));
        let answer = client.exchange(call.body(()).unwrap(), Some(b"\0\0\0\0\0"), None).unwrap();
        const RESOURCE_EXHAUSTED: &str = "8";
        assert_eq!(
            (answer.status, &answer.fields["grpc-status"]),
            (200, &RESOURCE_EXHAUSTED.parse().unwrap())
        );
        assert!(answer.fields.contains_key("retry-after"));
        assert_eq!(scene.backend.requests(), 1);
    });
}

/// What a gateway says that does not start.
fn refusal(config: &str) -> String {
    let mut gateway = Setup::new().spawn(config);
    let ended = gateway.wait_exit(PATIENCE).expect("it ends");
    assert!(!ended.success());
    gateway.until_stderr("help: ");
    gateway.stderr()
}

#[test]
fn a_broken_or_foreign_file_is_refused_and_stays() {
    let scene = Scene::new(&["sub=ann day=3"]);
    for (text, what) in [
        ("", "line 1: this is no quota file: it does not begin with `tidegate-quotas 1`"),
        (
            "tidegate-quotas 1\nabc 2026-11-31 1 2026-11 1\nend-of-file\n",
            "line 2: this is no quota file: \"2026-11-31\"",
        ),
        ("tidegate-quotas 1\n", "its last line is not `end-of-file`: a part is missing"),
        ("tidegate-quotas 2\nend-of-file\n", "another version"),
    ] {
        fs::write(scene.used(), text).unwrap();
        let config = scene.config("", "", "");
        let said = refusal(&config);
        assert!(said.contains(what) && said.contains("help: mend the line, or move "), "{said}");
        assert_eq!(fs::read_to_string(scene.used()).unwrap(), text, "it stays as it is");
    }
    fs::remove_file(scene.used()).unwrap();
    let gateway = scene.start();
    let said = refusal(&scene.config("", "", ""));
    assert!(said.contains("another gateway keeps its quotas in"), "{said}");
    let check = |gateway: &Gateway| tidegate(&["check", "-c", gateway.config_file().to_str().unwrap()]);
    assert!(check(&gateway).status.success(), "a check needs no lock");
    fs::write(scene.used(), "nonsense").unwrap();
    let said = check(&gateway);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("no quota file"));
}

#[test]
fn a_reload_that_names_a_broken_file_changes_nothing() {
    let scene = Scene::new(&["sub=ann day=1000"]);
    let mut gateway = scene.start();
    let other = scene.directory.path().join("other");
    fs::write(&other, "nonsense").unwrap();
    let config = scene.config("", "", "").replace("/used\"", "/other\"");
    assert_eq!(gateway.reload(&config), harness::gateway::Reload::Refused);
    assert!(gateway.stderr().contains("other, line 1: this is no quota file"), "{}", gateway.stderr());
    assert_eq!(scene.ask(&gateway, 0).status, 200);
    fs::remove_file(&other).unwrap();
    assert_eq!(gateway.reload(&config), harness::gateway::Reload::Taken);
    assert_eq!(scene.ask(&gateway, 0).status, 200);
    end(gateway, libc::SIGTERM);
    assert!(other.exists() && scene.on_file(0) == Some(1));
}

#[test]
fn a_quota_needs_a_file() {
    let scene = Scene::new(&["sub=ann day=3"]);
    let config = scene.config("", "", "");
    let (before, after) = config.split_once(", quota = {").unwrap();
    let said = refusal(&format!("{before} {}", after.split_once('}').unwrap().1));
    assert!(said.contains("has a quota, and no file keeps what is used of it"), "{said}");
    assert!(said.contains("help: add `quota = { file = \"keys.used\" }`"), "{said}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_once_and_requests_go_on() {
    let scene = Scene::new(&["sub=ann day=1000"]);
    let gateway = scene.start();
    // Nobody can write where a directory is, whatever the user may do.
    let fresh = scene.directory.path().join("used.new");
    fs::create_dir(&fresh).unwrap();
    let failed = || gateway.metrics().sum("tidegate_quota_write_errors_total", &[]);
    until("it has failed twice", || scene.passed(&gateway, 0, 1) == 1 && failed() >= 2.0);
    let said = gateway.stderr();
    assert_eq!(said.matches("quotas cannot be written to").count(), 1, "{said}");
    fs::remove_dir(&fresh).unwrap();
    gateway.until_stderr("quotas are written to");
    until("it is", || scene.on_file(0).is_some());
}
