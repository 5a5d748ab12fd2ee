//! Promise: a wrong configuration or command line is told at once and in full: every mistake with file, line and column,
//! what is wrong and, where it can be guessed, what was meant. `run` serves nothing by halves.

mod harness;

use std::process::Output;

use harness::process::{Directory, tidegate};
use harness::{Gateway, Setup};

/// A file with one mistake, and words that must be told of it.
struct Mistake {
    text: &'static str,
    words: &'static [&'static str],
}

const fn mistake(text: &'static str, words: &'static [&'static str]) -> Mistake {
    Mistake { text, words }
}

/// The place of each mistake is marked by `§`, which is not part of the file.
const MISTAKES: &[Mistake] = &[
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n§colour = \"red\"\n[[route]]\nrespond = {}\n",
        &["colour"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n§adress = \"x\"\n[[route]]\nrespond = {}\n",
        &["adress", "address"],
    ),
    mistake("[listen.web]\naddress = §\"nowhere\"\n[[route]]\nrespond = {}\n", &["nowhere"]),
    mistake("[listen.web]\naddress = §\"127.0.0.1:99999\"\n[[route]]\nrespond = {}\n", &["99999"]),
    mistake("[listen.web]\naddress = §8080\n[[route]]\nrespond = {}\n", &["address"]),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\nprotocol = §\"gopher\"\n[[route]]\nrespond = {}\n",
        &["gopher", "http"],
    ),
    mistake(
        "workers = §0\n[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nrespond = {}\n",
        &["workers"],
    ),
    mistake(
        "workers = §\"many\"\n[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nrespond = {}\n",
        &["many"],
    ),
    mistake(
        "driver = §\"kqueue\"\n[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nrespond = {}\n",
        &["kqueue", "epoll"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[timeouts]\nheader = §\"soon\"\n[[route]]\nrespond = {}\n",
        &["soon"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[timeouts]\nheader = §\"10\"\n[[route]]\nrespond = {}\n",
        &["10"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[timeouts]\nheader = §-1\n[[route]]\nrespond = {}\n",
        &["header"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[limits]\nbody = §\"10 lightyears\"\n[[route]]\nrespond = {}\n",
        &["lightyears"],
    ),
    mistake("[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nto = §\"nobody\"\n", &["nobody"]),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.models]\nendpoints = [\"a:1\"]\n[[route]]\nto = §\"model\"\n",
        &["model", "models"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.models]\nendpoints = [§\"no-port\"]\n[[route]]\nto = \"models\"\n",
        &["no-port"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.models]\nendpoints = [{ address = \"a:1\", weight = §1001 }]\n[[route]]\nto = \"models\"\n",
        &["weight"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.models]\nendpoints = [\"a:1\"]\nbalance = §\"fair\"\n[[route]]\nto = \"models\"\n",
        &["fair", "round-robin"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nmatch = { path = §\"no-slash\" }\nrespond = {}\n",
        &["no-slash"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nmatch = { path = \"~§(\" }\nrespond = {}\n",
        &["("],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nmatch = { host = §\"bad host\" }\nrespond = {}\n",
        &["bad host"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nmatch = { listener = §\"wob\" }\nrespond = {}\n",
        &["wob", "web"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nredirect = { to = \"/§{nonsense}\" }\n",
        &["nonsense"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nredirect = { to = \"/\", status = §200 }\n",
        &["200"],
    ),
    mistake("[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nrespond = { status = §99 }\n", &["99"]),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.a]\nendpoints = [\"a:1\"]\n[[route]]\nto = \"a\"\nrequest_headers = { set = { §\"bad name\" = \"x\" } }\n",
        &["bad name"],
    ),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[forward]\ntrusted = [§\"10.0.0.0/99\"]\n[[route]]\nrespond = {}\n",
        &["10.0.0.0/99"],
    ),
    mistake("[listen.web]\naddress = §\"127.0.0.1:8080\"\n[listen.web]\n", &[]),
    mistake(
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nrespond = {}\n[§video.door]\nrate = 1\n",
        &["video"],
    ),
];

#[test]
fn each_mistake_is_told_where_it_is() {
    let directory = Directory::new();
    let mut failures = Vec::new();
    for mistake in MISTAKES {
        let (before, after) = mistake.text.split_once('§').expect("a marked place");
        let file = directory.write("tidegate.toml", &format!("{before}{after}"));
        let output = tidegate(&["check", "-c", file.to_str().expect("a plain path")]);
        let told = told(&output);
        let line = before.matches('\n').count() + 1;
        let exact = format!(
            "{}:{line}:{}:",
            file.display(),
            before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1
        );
        let placed = match mistake.words {
            // A mistake of TOML itself: its parser may put it elsewhere, but must put it somewhere.
            [] => told.contains(&format!("{}:", file.display())),
            _ => told.contains(&exact) && told.contains("\n1 error"),
        };
        if output.status.code() != Some(1) || !placed || !mistake.words.iter().all(|word| told.contains(word))
        {
            failures.push(format!(
                "expected {exact} and {:?}, got {:?}:\n{told}",
                mistake.words,
                output.status.code()
            ));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), MISTAKES.len(), failures.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once_in_order() {
    let directory = Directory::new();
    let file = directory.write(
        "tidegate.toml",
        "workers = \"many\"\n[listen.web]\naddress = \"nowhere\"\ncolour = 1\n[timeouts]\nidle = \"soon\"\n\
         [service.a]\nendpoints = [\"x\"]\nbalance = \"fair\"\n[[route]]\nto = \"b\"\n[[route]]\nmatch = { path = \"x\" }\nto = \"a\"\n",
    );
    let output = tidegate(&["check", "-c", file.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    let prefix = format!("{}:", file.display());
    let lines: Vec<u32> =
        told.lines().filter_map(|line| line.strip_prefix(&prefix)?.split(':').next()?.parse().ok()).collect();
    for expected in [1, 3, 4, 6, 8, 9, 11, 13] {
        assert!(lines.contains(&expected), "line {expected} is not told:\n{told}");
    }
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn what_is_missing_is_told() {
    let directory = Directory::new();
    for (text, words) in [
        ("", "listen"),
        ("[[route]]\nrespond = {}\n", "listen"),
        ("[listen.web]\n[[route]]\nrespond = {}\n", "address"),
        ("[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nname = \"idle\"\n", "to"),
        ("[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.a]\n[[route]]\nto = \"a\"\n", "endpoints"),
        (
            "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nto = \"a\"\nrespond = {}\n[service.a]\nendpoints = [\"a:1\"]\n",
            "respond",
        ),
        (
            "[listen.a]\naddress = \"127.0.0.1:81\"\n[listen.b]\naddress = \"127.0.0.1:81\"\n[[route]]\nrespond = {}\n",
            "127.0.0.1:81",
        ),
    ] {
        let file = directory.write("tidegate.toml", text);
        let output = tidegate(&["check", "-c", file.to_str().expect("a plain path")]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(told(&output).contains(words), "{text}\n{}", told(&output));
    }
}

#[test]
fn what_will_surprise_is_a_warning() {
    let directory = Directory::new();
    let text =
        "[listen.web]\naddress = \"127.0.0.1:8080\"\n[service.a]\nendpoints = []\n[[route]]\nto = \"a\"\n";
    let file = directory.write("tidegate.toml", text);
    let output = tidegate(&["check", "-c", file.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains(&format!("{}:4:1: warning:", file.display())), "{}", told(&output));
}

#[test]
fn files_that_are_no_text_are_told() {
    let directory = Directory::new();
    let file = directory.path().join("tidegate.toml");
    for bytes in [&b"\xff\xfe\0w\0"[..], b"workers = 1\n\x80\n", b"\0\0\0"] {
        std::fs::write(&file, bytes).expect("a file");
        let output = tidegate(&["check", "-c", file.to_str().expect("a plain path")]);
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains(&format!("{}", file.display())), "{}", told(&output));
    }
    for path in ["/nonexistent/tidegate.toml", "/tmp"] {
        let output = tidegate(&["check", "-c", path]);
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains(path), "{}", told(&output));
    }
}

#[test]
fn a_good_config_is_ok_and_run_refuses_a_bad_one() {
    let directory = Directory::new();
    let good =
        directory.write("good.toml", "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nrespond = {}\n");
    assert_eq!(tidegate(&["check", "-c", good.to_str().expect("a plain path")]).status.code(), Some(0));
    let bad = directory
        .write("bad.toml", "[listen.web]\naddress = \"127.0.0.1:8080\"\n[[route]]\nto = \"nobody\"\n");
    let output = tidegate(&["run", "-c", bad.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains(&format!("{}:4:6:", bad.display())), "{}", told(&output));
}

#[test]
fn run_says_which_port_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for config in [
        format!("[listen.web]\naddress = \"{address}\"\n[[route]]\nrespond = {{}}\n"),
        format!("[admin]\naddress = \"{address}\"\n[[route]]\nrespond = {{}}\n"),
    ] {
        let mut gateway = Setup::new().spawn(&config);
        let status = gateway.wait_exit(harness::PATIENCE).expect("it ends by itself");
        assert_eq!(status.code(), Some(1));
        gateway.until_stderr(&address);
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &[][..],
        &["serve"],
        &["run"],
        &["run", "-c"],
        &["run", "file.toml"],
        &["check", "-c", "a", "b"],
        &["explain"],
        &["explain", "-c", "a"],
        &["explain", "-c", "a", "GET"],
        &["version", "x"],
        &["--frobnicate"],
    ] {
        let output = tidegate(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
        assert!(output.stdout.is_empty(), "{arguments:?} complains on stdout");
    }
    assert!(told(&tidegate(&["chekc"])).contains("check"), "a near miss is guessed");
}

#[test]
fn version_and_help_answer_on_stdout() {
    let version = tidegate(&["version"]);
    assert_eq!(version.status.code(), Some(0));
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(text.starts_with(&format!("tidegate {}", env!("CARGO_PKG_VERSION"))), "{text}");
    let help = tidegate(&["help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("usage"));
}

#[test]
fn paths_are_relative_to_the_file() {
    // The log's path is relative to the config's directory, not to where the gateway was started.
    let gateway = Gateway::start("[log]\naccess = \"requests.log\"\n[[route]]\nrespond = {}\n", &[]);
    gateway.get("/");
    harness::until("the log is beside the config", || {
        std::fs::read_to_string(gateway.directory().join("requests.log"))
            .is_ok_and(|text| text.lines().count() == 1)
    });
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Who comes from nginx or HAProxy types this first.
#[test]
fn a_command_line_of_another_proxy_leads_to_ours() {
    for (typed, expected) in [
        (&["-c", "edge.toml"][..], "`tidegate run -c FILE` serves"),
        (&["-t"], "`tidegate check -c FILE`"),
        (&["run", "edge.toml"], "a configuration is named by `-c edge.toml`"),
        (&["chekc", "-c", "edge.toml"], "did you mean `check`?"),
    ] {
        let output = harness::process::tidegate(typed);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected), "{typed:?}: {said}");
        assert_eq!(output.status.code(), Some(2));
    }
}

/// A log is read by more people than a config file.
#[test]
fn a_quoted_line_shows_where_and_no_secret() {
    let directory = Directory::new();
    let text = "[listen.web]\naddress = \"127.0.0.1:8080\"\n\
                [auth.users]\njwt = { secret = \"häßlich\", leeway = 5 }\n\
                [[route]]\nrequest_headers.set = { authorization = \"Bearer sk-1234\", x = 7 }\nrespond = {}\n";
    let file = directory.write("edge.toml", text);
    let output = tidegate(&["check", "-c", file.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("4 | jwt = { secret = *********, leeway = 5 }"), "{said}");
    assert!(said.contains("authorization = ****************, x = 7"), "{said}");
    assert!(!said.contains("häßlich") && !said.contains("sk-1234"), "{said}");
    // The mark is below what it is about.
    let column = |line: &str, mark: &str| line.chars().take(line.find(mark).unwrap()).count();
    let mut lines = said.lines().skip_while(|line| !line.contains("expected a duration"));
    let (quoted, marked) = (lines.nth(2).unwrap(), lines.next().unwrap());
    assert_eq!(column(marked, "^"), column(quoted, "5 }"), "{said}");
}
