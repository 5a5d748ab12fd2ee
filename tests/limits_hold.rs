//! Rate limits over the wire: exactly as many requests pass as a limit has tokens, whichever workers they come to; keys cannot be
//! evaded by spelling; what is refused debits nobody; and what was used stays used over a reload.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::http2::Http2;
use harness::{Backend, Gateway, Response};
use http::Request;

/// Tokens come so slowly that none comes during a test.
fn config(limits: &str, route: &str) -> String {
    format!(
        "workers = 2\n[listen.web]\naddress = \"@web@\"\n[service.m]\nendpoints = [\"@m@\"]\n\
         {limits}\n[[route]]\nto = \"m\"\n{route}\n"
    )
}

fn start(limits: &str, route: &str) -> (Gateway, Backend) {
    let backend = Backend::fixed("ok");
    (Gateway::start(&config(limits, route), &[("m", backend.address)]), backend)
}

fn ask(gateway: &Gateway, path: &str, fields: &str) -> Response {
    gateway.client().get_with(path, fields).unwrap()
}

/// How many of so many pass.
fn passed(gateway: &Gateway, count: usize, fields: &str) -> usize {
    let statuses = (0..count).map(|_| ask(gateway, "/", fields).status);
    statuses
        .inspect(|status| assert!([200, 429].contains(status), "{status}"))
        .filter(|status| *status == 200)
        .count()
}

#[test]
fn a_burst_is_exact_over_all_workers() {
    let (gateway, backend) = start("[limit.all]\nrate = \"1/d\"\nburst = 50", "limits = \"all\"");
    let passed: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| passed(&gateway, 40, ""))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!((passed, backend.requests()), (50, 50));
    let answer = ask(&gateway, "/", "");
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.get("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    assert_eq!(answer.get("ratelimit"), Some(&*format!("\"all\";r=0;t={wait}")));
    assert_eq!(answer.get("ratelimit-policy"), Some("\"all\";q=50;w=4320000"));
    assert!(answer.text().contains("urn:tidegate:error:rate_limited"), "{}", answer.text());
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_limit_refused_total", &[("limit", "all")]), 271.0);
    assert_eq!(metrics.sum("tidegate_request_errors_total", &[("kind", "rate_limited")]), 271.0);
}

#[test]
fn tokens_come_back_with_time() {
    let (gateway, _backend) = start("[limit.all]\nrate = 2\nburst = 1", "limits = \"all\"");
    assert_eq!(ask(&gateway, "/", "").status, 200);
    assert_eq!(ask(&gateway, "/", "").get("ratelimit-policy"), Some("\"all\";q=1;w=1"));
    harness::until("there is one again", || ask(&gateway, "/", "").status == 200);
}

#[test]
fn keys_cannot_be_evaded_by_spelling() {
    let (gateway, _backend) =
        start("[limit.type]\nkey = \"header:x-model-type\"\nrate = \"1/d\"\nburst = 3", "limits = \"type\"");
    for spelling in [
        "X-Model-Type: image\r\n",
        "x-model-type: IMAGE\r\n",
        "X-MODEL-TYPE:   Image  \r\n",
        "x-model-type:\timage\r\n",
    ] {
        let first = if spelling.starts_with("X-Model") { 3 } else { 0 };
        assert_eq!(passed(&gateway, 5, spelling), first, "{spelling}");
    }
    assert_eq!(passed(&gateway, 5, "X-Model-Type: text\r\n"), 3);
    // All who say nothing share a bucket, also those who say nothing in a field.
    assert_eq!(passed(&gateway, 2, ""), 2);
    assert_eq!(passed(&gateway, 5, "X-Model-Type:\r\n"), 1);
    // Whom the client says it is has no say in who it is.
    let (gateway, _backend) =
        start("[limit.who]\nkey = \"client\"\nrate = \"1/d\"\nburst = 3", "limits = \"who\"");
    for fields in ["", "X-Forwarded-For: 9.9.9.9\r\n", "Forwarded: for=9.9.9.9\r\n", "X-Real-IP: 9.9.9.9\r\n"]
    {
        assert_eq!(passed(&gateway, 5, fields), if fields.is_empty() { 3 } else { 0 }, "{fields}");
    }
}

#[test]
fn what_one_limit_refuses_the_others_are_not_debited_for() {
    let (gateway, _backend) = start(
        "[limit.all]\nrate = \"1/d\"\nburst = 10\n\
         [limit.type]\nkey = [\"header:x-type\", \"query:tenant\"]\nrate = \"1/d\"\nburst = 2",
        "limits = [\"all\", \"type\"]",
    );
    assert_eq!(passed(&gateway, 20, "x-type: a\r\n"), 2);
    assert_eq!(passed(&gateway, 20, "x-type: b\r\n"), 2);
    let of = |path: &str, fields: &str| (0..20).filter(|_| ask(&gateway, path, fields).status == 200).count();
    assert_eq!(of("/?tenant=b", "x-type: a\r\n"), 2);
    assert_eq!(of("/?tenant=ab", ""), 2);
    assert_eq!(of("/?tenant=c", ""), 2);
    assert_eq!(of("/?tenant=d", ""), 0, "ten in all");
}

#[test]
fn what_was_used_stays_used_over_a_reload() {
    let limit = "[limit.all]\nrate = \"1/d\"\nburst = 4";
    let (mut gateway, backend) = start(limit, "limits = \"all\"");
    let again = |text: &str| config(text, "limits = \"all\"").replace("@m@", &backend.address.to_string());
    assert_eq!(passed(&gateway, 3, ""), 3);
    gateway.reload(&again(limit));
    assert_eq!(passed(&gateway, 3, ""), 1);
    // A larger one has as many more.
    gateway.reload(&again("[limit.all]\nrate = \"1/d\"\nburst = 6"));
    assert_eq!(passed(&gateway, 5, ""), 2);
    // One that tells clients apart in another way begins anew.
    gateway.reload(&again("[limit.all]\nkey = \"client\"\nrate = \"1/d\"\nburst = 4"));
    assert_eq!(passed(&gateway, 6, ""), 4);
}

#[test]
fn whoever_is_not_let_in_uses_nothing_up() {
    let (gateway, _backend) = start(
        "[auth.users]\njwt = { secret = \"0123456789abcdef0123456789abcdef\" }\n\
         [limit.all]\nrate = \"1/d\"\nburst = 1\n\
         [[route]]\nmatch.path = \"/closed\"\nauth = \"users\"\nlimits = \"all\"\nto = \"m\"",
        "limits = \"all\"\ncors = { origins = [\"https://a.test\"] }",
    );
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/closed", "").status, 401);
        let preflight = b"OPTIONS / HTTP/1.1\r\nhost: a.test\r\norigin: https://a.test\r\n\
                          access-control-request-method: GET\r\n\r\n";
        assert_eq!(gateway.client().request("OPTIONS", preflight).unwrap().status, 204);
    }
    assert_eq!(passed(&gateway, 3, ""), 1);
}

#[test]
fn a_refused_body_leaves_the_connection_of_use() {
    let (gateway, backend) = start("[limit.all]\nrate = \"1/d\"\nburst = 2", "limits = \"all\"");
    let mut client = gateway.client();
    let chunked =
        b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let statuses: Vec<u16> = (0..6)
        .map(|round| match round % 2 {
            0 => client.post("/", b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").unwrap().status,
            _ => client.request("POST", chunked).unwrap().status,
        })
        .collect();
    assert_eq!(statuses, [200, 200, 429, 429, 429, 429]);
    assert_eq!(backend.requests(), 2);
}

#[test]
fn calls_are_told_in_their_own_way() {
    let (gateway, _backend) = start("[limit.all]\nrate = \"1/d\"\nburst = 1", "limits = \"all\"");
    let client = Http2::connect(gateway.web());
    let call = || {
        let request = Request::post("http://a.test/s.S/M").header("content-type", "application/grpc");
        client.exchange(request.body(()).unwrap(), Some(b"\0\0\0\0\0"), None).unwrap()
    };
    assert!(call().fields.get("grpc-status").is_none());
    let answer = call();
    const RESOURCE_EXHAUSTED: &str = "8";
    assert_eq!((answer.status, &answer.fields["grpc-status"]), (200, &RESOURCE_EXHAUSTED.parse().unwrap()));
    assert!(answer.fields.contains_key("retry-after"));
}

/// Behind a trusted proxy it is whom it names, of all that stands there the last one that it cannot have made up; from others, nobody.
#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let limit = "[limit.each]\nkey = \"client\"\nrate = \"1/d\"\nburst = 2\n";
    let top = format!("{limit}[forward]\ntrusted = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let route = "limits = \"each\"\nrequest_headers = { set = { x-client = \"{client.ip}\" } }";
    let backend = Backend::describing("m");
    let gateway = Gateway::start(&config(&top, route), &[("m", backend.address)]);
    let two = |named: &str| passed(&gateway, 3, &format!("x-forwarded-for: {named}\r\n"));
    assert_eq!([two("192.0.2.1"), two("192.0.2.2")], [2, 2]);
    // The same one, whatever is written before it, and through how many trusted ones it came.
    for same in [
        "192.0.2.9, 192.0.2.1",
        "192.0.2.1, 10.1.1.1",
        "junk, 192.0.2.1:4711",
        "192.0.2.9\r\nx-forwarded-for: 192.0.2.1\r\nX-Forwarded-For: 10.2.2.2",
        "::ffff:192.0.2.1",
    ] {
        assert_eq!(two(same), 0, "{same}");
    }
    assert_eq!([two("2001:db8::1"), two("[2001:db8::2]:80"), two("2001:db8:0:1::1")], [2, 0, 2]);
    // What is no address says nothing: it is the proxy that asks.
    assert_eq!([two("unknown"), two("192.0.2.1, junk"), two("")], [2, 0, 0]);
    let seen = ask(&gateway, "/", "x-forwarded-for: 192.0.2.77, 10.0.0.1\r\n").text();
    assert!(seen.contains("x-client: 192.0.2.77\n") && seen.contains("10.0.0.1, 127.0.0.1\n"), "{seen}");
    harness::until("the log says who", || {
        gateway.access_log().iter().any(|line| line["client"] == "192.0.2.77")
    });
    // Without trust it is a stranger's word.
    let (gateway, _backend) = start(limit, "limits = \"each\"");
    let strangers = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let statuses = strangers.map(|named| ask(&gateway, "/", &format!("x-forwarded-for: {named}\r\n")).status);
    assert_eq!(statuses, [200, 200, 429]);
}

/// Under more load than there are tokens, for a while: never more than rate · t + burst, and hardly less.
#[test]
fn over_time_as_many_pass_as_tokens_come() {
    const RATE: f64 = 500.0;
    const BURST: f64 = 300.0;
    let (gateway, backend) = start("[limit.all]\nrate = 500\nburst = 300", "limits = \"all\"");
    let began = Instant::now();
    let end = began + Duration::from_secs(2);
    let count = |gateway: &Gateway| {
        let mut client = gateway.client();
        let (mut passed, mut refused) = (0u32, 0u32);
        while Instant::now() < end {
            match client.get("/").unwrap().status {
                200 => passed += 1,
                429 => refused += 1,
                other => panic!("{other}"),
            }
        }
        (passed, refused)
    };
    let each: Vec<(u32, u32)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| count(&gateway))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let took = began.elapsed().as_secs_f64();
    let (passed, refused) = each.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert_eq!(u64::from(passed), backend.requests());
    assert!(f64::from(passed) <= BURST + RATE * took, "{passed} in {took} s");
    // While some were refused all the time, no token was left lying about.
    assert!(refused > passed / 2, "too little was asked: {passed} passed, {refused} refused");
    assert!(
        f64::from(passed) >= 0.99 * (BURST + RATE * 2.0) - 8.0,
        "{passed} of {} in 2 s",
        BURST + RATE * 2.0
    );
}

#[test]
fn keys_beyond_the_table_share_a_bucket_and_are_counted() {
    let limit = "[limit.each]\nkey = \"header:x-key\"\nrate = \"1/d\"\nburst = 2\nkeys = 16";
    let (gateway, _backend) = start(limit, "limits = \"each\"");
    let of = |key: usize| passed(&gateway, 1, &format!("x-key: {key}\r\n"));
    let passed: usize = (0..500).map(of).sum();
    let overflowed = gateway.metrics().sum("tidegate_limit_overflowed_total", &[("limit", "each")]);
    assert!(
        (16..=66).contains(&passed),
        "{passed} of 500 keys have a bucket, or two tokens of the one that all share"
    );
    assert!(overflowed > 400.0, "{overflowed}");
}
