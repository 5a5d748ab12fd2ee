//! Tests of the admin endpoint over a real socket, against a backend that only remembers what it was asked.
//! What the gateway's own backend does is tested where it lives.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::admin::{Answer, Change};
use crate::config::tls::ListenerTls;

struct Fake {
    readiness: Mutex<Readiness>,
    reload: Mutex<Result<String, String>>,
    reloads_ended: AtomicU32,
    changes: Mutex<Vec<Change>>,
}

impl AdminBackend for Fake {
    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { "tidegate_workers 1\n".to_owned() })
    }

    fn readiness(&self) -> Readiness {
        self.readiness.lock().unwrap().clone()
    }

    fn reload(&self) -> Answer<'_, Result<String, String>> {
        Box::pin(async {
            sleep(Duration::from_millis(20)).await;
            self.reloads_ended.fetch_add(1, Ordering::Relaxed);
            self.reload.lock().unwrap().clone()
        })
    }

    fn last_reload(&self) -> String {
        "null".into()
    }

    fn config(&self) -> Answer<'_, Result<String, String>> {
        Box::pin(async { Err("it cannot be shown".to_owned()) })
    }

    fn routes(&self) -> Answer<'_, Result<String, String>> {
        Box::pin(async { Ok("[1]".to_owned()) })
    }

    fn canaries(&self) -> String {
        "[]".into()
    }

    fn services(&self) -> Answer<'_, String> {
        Box::pin(async { "{}".to_owned() })
    }

    fn events(&self) -> String {
        "[2]".into()
    }

    fn change(&self, change: &Change) -> bool {
        self.changes.lock().unwrap().push(change.clone());
        match change {
            Change::Canary { route: name, .. } => name == "models",
            Change::Drain { service: name, .. } | Change::ResetBreaker { service: name } => name == "models",
        }
    }

    fn generation(&self) -> u64 {
        42
    }

    fn tls(&self) -> Option<Arc<ListenerTls>> {
        None
    }
}

/// Runs `test` with a server's address and its backend.
fn with_server<F: Future<Output = ()>>(test: impl FnOnce(std::net::SocketAddr, Arc<Fake>) -> F) {
    with_access(Access::new(None, true, false), test);
}

fn with_access<F: Future<Output = ()>>(
    access: Access,
    test: impl FnOnce(std::net::SocketAddr, Arc<Fake>) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Arc::new(Fake {
            readiness: Mutex::new(Readiness::Ready),
            reload: Mutex::new(Ok("reloaded\n".into())),
            reloads_ended: AtomicU32::new(0),
            changes: Mutex::default(),
        });
        tokio::spawn(serve(listener, access, backend.clone()));
        timeout(Duration::from_secs(10), test(address, backend)).await.expect("in time");
    });
}

/// Sends a request that asks to close, and returns the whole answer.
async fn exchange(address: std::net::SocketAddr, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const LOCAL: &str = "Host: 127.0.0.1:9180\r\n";

#[test]
fn pages_are_served() {
    with_server(|address, _| async move {
        let metrics = exchange(address, "GET /metrics", LOCAL).await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\ntidegate_workers 1\n"), "{metrics}");
        assert!(exchange(address, "GET /healthz", LOCAL).await.ends_with("\r\n\r\nok\n"));
        assert!(exchange(address, "GET /", LOCAL).await.contains("generation 42"));
        let head = exchange(address, "HEAD /metrics", LOCAL).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    });
}

#[test]
fn who_has_no_token_learns_little_and_changes_nothing() {
    with_access(Access::new(Some("secret"), true, false), |address, backend| async move {
        let shown =
            ["/", "/openapi.json", "/metrics", "/config", "/reload", "/routes", "/services", "/events"];
        let shown = shown.map(|path| format!("GET {path}"));
        let done = ["/reload", "/services", "/canaries"].map(|path| format!("POST {path}"));
        for line in shown.iter().chain(&done) {
            for fields in ["", "authorization: Bearer other\r\n"] {
                let answer = exchange(address, line, &format!("{LOCAL}{fields}")).await;
                assert!(answer.starts_with("HTTP/1.1 401"), "{line}: {answer}");
                assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
            }
        }
        assert_eq!(
            (backend.reloads_ended.load(Ordering::Relaxed), backend.changes.lock().unwrap().len()),
            (0, 0)
        );
        for line in ["GET /healthz", "GET /readyz"] {
            assert!(exchange(address, line, LOCAL).await.starts_with("HTTP/1.1 200"), "{line}");
        }
        let token = format!("{LOCAL}authorization: Bearer secret\r\n");
        assert!(exchange(address, "GET /metrics", &token).await.starts_with("HTTP/1.1 200"));
        assert!(exchange(address, "POST /reload", &token).await.starts_with("HTTP/1.1 200"));
    });
    with_access(Access::new(None, false, true), |address, _| async move {
        let refused = exchange(address, "GET /services", LOCAL).await;
        assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("admin.token_file"), "{refused}");
        assert!(exchange(address, "GET /metrics", LOCAL).await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn readiness_says_why_not() {
    with_server(|address, backend| async move {
        assert!(exchange(address, "GET /readyz", LOCAL).await.starts_with("HTTP/1.1 200"));
        *backend.readiness.lock().unwrap() = Readiness::Starting("worker 1 is not up".into());
        let starting = exchange(address, "GET /readyz", LOCAL).await;
        assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting: worker 1 is not up\n"));
        *backend.readiness.lock().unwrap() = Readiness::Draining;
        assert!(exchange(address, "GET /readyz", LOCAL).await.ends_with("\r\n\r\ndraining\n"));
    });
}

#[test]
fn reload_reports_either_way() {
    with_server(|address, backend| async move {
        let accepted = exchange(address, "POST /reload", LOCAL).await;
        assert!(
            accepted.starts_with("HTTP/1.1 200") && accepted.ends_with("\r\n\r\nreloaded\n"),
            "{accepted}"
        );
        *backend.reload.lock().unwrap() = Err("edge.toml:3:1: no such service\n".into());
        let refused = exchange(address, "POST /reload", LOCAL).await;
        assert!(refused.starts_with("HTTP/1.1 422") && refused.contains("edge.toml:3:1"), "{refused}");
    });
}

#[test]
fn a_client_that_goes_away_does_not_stop_a_reload() {
    with_server(|address, backend| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("POST /reload HTTP/1.1\r\n{LOCAL}\r\n").as_bytes()).await.unwrap();
        sleep(Duration::from_millis(5)).await;
        drop(stream);
        while backend.reloads_ended.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_browsers_cross_site_post_is_refused() {
    with_server(|address, backend| async move {
        for headers in [
            "Host: rebound.example:9180\r\n",
            "Host: 127.0.0.1.example\r\n",
            "Host: \r\n",
            "Host: [::1\r\n",
            "Host: 127.0.0.1:9180\r\nOrigin: http://evil.example\r\n",
            "Host: 127.0.0.1:9180\r\nOrigin: null\r\n",
        ] {
            let answer = exchange(address, "POST /reload", headers).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{headers}: {answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
        for headers in [
            LOCAL,
            "Host: localhost\r\n",
            "Host: LOCALHOST:1\r\n",
            "Host: [::1]:9180\r\n",
            "Host: [::1]\r\n",
            "Host: 10.1.2.3\r\nOrigin: http://10.1.2.3\r\n",
        ] {
            let answer = exchange(address, "POST /reload", headers).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{headers}: {answer}");
        }
        assert_eq!(backend.reloads_ended.load(Ordering::Relaxed), 6);
    });
}

/// A page whose name leads here by an attacker's DNS reads nothing of what is not for everybody.
#[test]
fn a_rebound_name_shows_nothing() {
    with_server(|address, _| async move {
        let rebound = "Host: rebound.example:9180\r\n";
        for path in ["/", "/config", "/routes", "/services", "/canaries", "/events", "/reload"] {
            let answer = exchange(address, &format!("GET {path}"), rebound).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
            let answer = exchange(address, &format!("GET {path}"), LOCAL).await;
            assert!(!answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        }
        // Scrapers and probes come by any name.
        for path in ["/metrics", "/healthz", "/readyz"] {
            let answer = exchange(address, &format!("GET {path}"), rebound).await;
            assert!(!answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        }
    });
}

#[test]
fn canaries_are_set_by_name_and_percent() {
    with_server(|address, backend| async move {
        let post = |headers: &'static str, body: &'static str| async move {
            let headers = format!("{headers}Content-Length: {}\r\n", body.len());
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("POST /canaries HTTP/1.1\r\n{headers}Connection: close\r\n\r\n{body}");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let set = post(LOCAL, r#"{"route": "models", "percent": 12.5}"#).await;
        assert!(set.starts_with("HTTP/1.1 200") && set.ends_with("[]"), "{set}");
        let change = Change::Canary { route: "models".into(), millionths: 125_000 };
        assert_eq!(*backend.changes.lock().unwrap(), [change]);
        for (body, status) in [
            ("", "400"),
            ("percent=5", "400"),
            (r#"{"route": "models"}"#, "400"),
            (r#"{"route": 1, "percent": 5}"#, "400"),
            (r#"{"route": "models", "percent": "5"}"#, "400"),
            (r#"{"route": "models", "percent": 101}"#, "422"),
            (r#"{"route": "models", "percent": -1}"#, "422"),
            (r#"{"route": "none", "percent": 5}"#, "404"),
        ] {
            let answer = post(LOCAL, body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{body}: {answer}");
        }
        let foreign = "Host: 127.0.0.1:9180\r\nOrigin: http://evil.example\r\n";
        let answer = post(foreign, r#"{"route": "models", "percent": 5}"#).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(exchange(address, "GET /canaries", LOCAL).await.ends_with("\r\n\r\n[]"));
    });
}

#[test]
fn wrong_paths_and_methods_are_problems() {
    with_server(|address, _| async move {
        let missing = exchange(address, "GET /nope", LOCAL).await;
        assert!(
            missing.starts_with("HTTP/1.1 404") && missing.contains("application/problem+json"),
            "{missing}"
        );
        assert!(missing.contains("\"status\":404"), "{missing}");
        let wrong = exchange(address, "PUT /reload", LOCAL).await;
        assert!(wrong.starts_with("HTTP/1.1 405") && wrong.contains("allow: GET, HEAD, POST\r\n"), "{wrong}");
        let failed = exchange(address, "GET /config", LOCAL).await;
        assert!(failed.starts_with("HTTP/1.1 500") && failed.contains("it cannot be shown"), "{failed}");
        let wrong = exchange(address, "DELETE /metrics", LOCAL).await;
        assert!(wrong.starts_with("HTTP/1.1 405") && wrong.contains("allow: GET, HEAD\r\n"), "{wrong}");
    });
}

#[test]
fn connections_over_the_cap_are_closed_and_the_rest_live() {
    with_server(|address, _| async move {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET /healthz HTTP/1.1\r\n{LOCAL}\r\n").as_bytes()).await.unwrap();
            let mut buffer = [0; 16];
            stream.read_exact(&mut buffer).await.unwrap();
            open.push(stream);
        }
        let mut over = TcpStream::connect(address).await.unwrap();
        let mut nothing = Vec::new();
        let read = over.read_to_end(&mut nothing).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        drop(open);
        sleep(Duration::from_millis(50)).await;
        assert!(exchange(address, "GET /healthz", LOCAL).await.starts_with("HTTP/1.1 200"));
    });
}
