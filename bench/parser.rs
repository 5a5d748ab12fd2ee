//! Measures the head parser beside httparse on the same bytes: `cargo bench --bench parser` prints ns per
//! head. With `count CASE PARSER ROUNDS` it only runs, for `bench/instructions` to count what that costs.
//! httparse finds fields and nothing else; ours also validates the target and Host, decides framing,
//! keep-alive and Connection, and recognises the names the proxy acts on.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tidegate::http::h1_parse::{Progress, parse_request, parse_response};
use tidegate::http::head::{HeadLimits, RequestHead, ResponseHead};

const MINIMAL: &str = "GET /a HTTP/1.1\r\nHost: bench.example\r\n\r\n";

const BROWSER: &str = "GET /wp-content/uploads/2010/03/hello-kitty-darth-vader-pink.jpg HTTP/1.1\r\n\
Host: www.kittyhell.com\r\n\
User-Agent: Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10.6; ja-JP-mac; rv:1.9.2.3) Gecko/20100401 Firefox/3.6.3 Pathtraq/0.9\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: ja,en-us;q=0.7,en;q=0.3\r\n\
Accept-Encoding: gzip,deflate\r\n\
Accept-Charset: Shift_JIS,utf-8;q=0.7,*;q=0.7\r\n\
Keep-Alive: 115\r\n\
Connection: keep-alive\r\n\
Cookie: wp_ozh_wsa_visits=2; wp_ozh_wsa_visit_lasttime=xxxxxxxxxx; __utma=xxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.\
xxxxxxxxxx.x; __utmz=xxxxxxxxx.xxxxxxxxxx.x.x.utmccn=(referral)|utmcsr=reader.livedoor.com|utmcct=/reader/|utmcmd=referral\r\n\r\n";

const API: &str = "POST /v2/models/classifier/versions/3/infer?trace=1 HTTP/1.1\r\n\
host: models.internal.example:8443\r\n\
user-agent: python-httpx/0.27.2\r\n\
accept: application/json\r\n\
accept-encoding: gzip, deflate\r\n\
connection: keep-alive\r\n\
content-type: application/octet-stream\r\n\
content-length: 150528\r\n\
inference-header-content-length: 512\r\n\
authorization: Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJlc2lnbmF0dXJl\r\n\
x-model-version: v2\r\n\
x-request-id: 4bf92f3577b34da6a3ce929d0e0e4736\r\n\
traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
date: Mon, 23 Nov 2026 10:24:06 GMT\r\n\
server: triton\r\n\
content-type: application/json\r\n\
content-length: 1024\r\n\
cache-control: no-store\r\n\r\n";

const CASES: [(&str, &str); 4] =
    [("minimal", MINIMAL), ("browser", BROWSER), ("api", API), ("response", RESPONSE)];

const FIELDS_MAX: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", case, parser, rounds] => count(case, parser, rounds.parse().expect("ROUNDS is a number")),
        ["cases"] => CASES.iter().for_each(|(name, text)| println!("{name} {}", text.len())),
        _ => table(),
    }
}

fn count(case: &str, parser: &str, rounds: u64) {
    let (_, text) = CASES.iter().find(|(name, _)| *name == case).expect("a known case");
    let mut bench = Bench::new(text);
    match parser {
        "ours" => (0..rounds).for_each(|_| bench.ours()),
        "httparse" => (0..rounds).for_each(|_| bench.httparse()),
        _ => panic!("parser is `ours` or `httparse`"),
    }
}

fn table() {
    println!("{:<10} {:>6} {:>10} {:>12} {:>7}", "head", "bytes", "ours ns", "httparse ns", "ratio");
    for (name, text) in CASES {
        let mut bench = Bench::new(text);
        let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
        // Interleaved, and the fastest of each: what else the machine does only ever adds time.
        for _ in 0..20 {
            ours = ours.min(ns_per_round(|| bench.ours()));
            theirs = theirs.min(ns_per_round(|| bench.httparse()));
        }
        println!("{name:<10} {:>6} {ours:>10.1} {theirs:>12.1} {:>7.2}", text.len(), ours / theirs);
    }
}

fn ns_per_round(mut round: impl FnMut()) -> f64 {
    const SLICE: Duration = Duration::from_millis(5);
    let (start, mut rounds) = (Instant::now(), 0u32);
    while start.elapsed() < SLICE {
        (0..256).for_each(|_| round());
        rounds += 256;
    }
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}

struct Bench {
    bytes: Vec<u8>,
    is_response: bool,
    limits: HeadLimits,
    request: RequestHead,
    response: ResponseHead,
}

impl Bench {
    fn new(text: &str) -> Self {
        let (request, response) = (RequestHead::default(), ResponseHead::default());
        let bytes = text.as_bytes().to_vec();
        Bench {
            bytes,
            is_response: text.starts_with("HTTP/"),
            limits: HeadLimits::default(),
            request,
            response,
        }
    }

    #[inline(never)]
    fn ours(&mut self) {
        let bytes = black_box(&self.bytes[..]);
        let mut progress = Progress::default();
        let complete = match self.is_response {
            true => parse_response(bytes, &mut progress, &self.limits, &mut self.response),
            false => parse_request(bytes, &mut progress, &self.limits, &mut self.request),
        };
        assert_eq!(black_box(complete), Ok(true));
        black_box((&self.request, &self.response));
    }

    #[inline(never)]
    fn httparse(&mut self) {
        // Uninitialised storage is httparse's own advice for speed.
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let bytes = black_box(&self.bytes[..]);
        let complete = match self.is_response {
            true => {
                let mut response = httparse::Response::new(&mut []);
                let config = httparse::ParserConfig::default();
                let status = config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
                black_box(&response);
                status
            }
            false => {
                let mut request = httparse::Request::new(&mut []);
                let status = request.parse_with_uninit_headers(bytes, &mut fields);
                black_box(&request);
                status
            }
        };
        assert!(matches!(black_box(complete), Ok(httparse::Status::Complete(_))));
    }
}
