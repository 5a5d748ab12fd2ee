//! Measures the head parser beside httparse on the same bytes: `cargo bench --bench parser` prints ns per
//! head, for each level of instructions that this machine has. With `count CASE PARSER ROUNDS` it only runs,
//! for `bench/instructions` to count what that costs. httparse finds fields and nothing else; ours also
//! validates the target and Host, decides framing, keep-alive and Connection, and recognises the names the
//! proxy acts on. `httparse+rules` is httparse and behind it the least of that without which no proxy can go on. It
//! chooses its own instructions, as it is built by default.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tidegate::http::h1_parse::{Progress, host, parse_request_at, parse_response_at};
use tidegate::http::head::{HeadLimits, RequestHead, ResponseHead};
use tidegate::http::scan::Level;

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

fn cases() -> [(&'static str, String); 6] {
    let short_fields: String = (0..39).map(|index| format!("X-F{index}: v{index}\r\n")).collect();
    let cookie = "session=0123456789abcdef; ".repeat(4096 / 26);
    [
        ("minimal", MINIMAL.to_owned()),
        ("browser", BROWSER.to_owned()),
        ("api", API.to_owned()),
        ("response", RESPONSE.to_owned()),
        ("40-fields", format!("GET / HTTP/1.1\r\nHost: a.example\r\n{short_fields}\r\n")),
        ("cookie-4k", format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: {cookie}end=1\r\n\r\n")),
    ]
}

const FIELDS_MAX: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", case, parser, rounds] => count(case, parser, rounds.parse().expect("ROUNDS is a number")),
        ["cases"] => cases().iter().for_each(|(name, text)| println!("{name} {}", text.len())),
        ["levels"] => Level::all().iter().for_each(|level| println!("{}", level.name())),
        _ => table(),
    }
}

/// `parser` is the name of a level, `httparse` or `httparse+rules`.
fn count(case: &str, parser: &str, rounds: u64) {
    let cases = cases();
    let (_, text) = cases.iter().find(|(name, _)| *name == case).expect("a known case");
    let mut bench = Bench::new(text);
    match Level::all().into_iter().find(|level| level.name() == parser) {
        Some(level) => (0..rounds).for_each(|_| bench.ours(level)),
        None if parser == "httparse" => (0..rounds).for_each(|_| bench.httparse::<false>()),
        None if parser == "httparse+rules" => (0..rounds).for_each(|_| bench.httparse::<true>()),
        None => panic!("the parser is httparse, httparse+rules or a level of this machine"),
    }
}

fn table() {
    println!(
        "{:<10} {:>6} {:<9} {:>10} {:>12} {:>7} {:>12} {:>7}",
        "head", "bytes", "level", "ours ns", "httparse ns", "ratio", "with rules", "ratio"
    );
    for (name, text) in cases() {
        let mut bench = Bench::new(&text);
        for level in Level::all() {
            let (mut ours, mut theirs, mut ruled) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
            // Interleaved, and the fastest of each: what else the machine does only ever adds time.
            for _ in 0..20 {
                ours = ours.min(ns_per_round(|| bench.ours(level)));
                theirs = theirs.min(ns_per_round(|| bench.httparse::<false>()));
                ruled = ruled.min(ns_per_round(|| bench.httparse::<true>()));
            }
            let (len, level) = (text.len(), level.name());
            let (ratio, of_ruled) = (ours / theirs, ours / ruled);
            println!(
                "{name:<10} {len:>6} {level:<9} {ours:>10.1} {theirs:>12.1} {ratio:>7.2} {ruled:>12.1} {of_ruled:>7.2}"
            );
        }
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
    fn ours(&mut self, level: Level) {
        let bytes = black_box(&self.bytes[..]);
        let mut progress = Progress::default();
        let complete = match self.is_response {
            true => parse_response_at(level, bytes, &mut progress, &self.limits, &mut self.response),
            false => parse_request_at(level, bytes, &mut progress, &self.limits, &mut self.request),
        };
        assert!(matches!(black_box(complete), Ok(true)));
        black_box((&self.request, &self.response));
    }

    #[inline(never)]
    fn httparse<const RULES: bool>(&mut self) {
        // Uninitialised storage is httparse's own advice for speed.
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let bytes = black_box(&self.bytes[..]);
        let complete = match self.is_response {
            true => {
                let mut response = httparse::Response::new(&mut []);
                let config = httparse::ParserConfig::default();
                let status = config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
                if RULES {
                    black_box(Rules::of(response.headers).expect("a valid head"));
                }
                black_box(&response);
                status
            }
            false => {
                let mut request = httparse::Request::new(&mut []);
                let status = request.parse_with_uninit_headers(bytes, &mut fields);
                if RULES {
                    let rules = Rules::of(request.headers).expect("a valid head");
                    host::check(rules.host).expect("a valid Host");
                    black_box(rules);
                }
                black_box(&request);
                status
            }
        };
        assert!(matches!(black_box(complete), Ok(httparse::Status::Complete(_))));
    }
}

/// What httparse leaves to its caller and every proxy must know before it goes on: which message this is for, where
/// it ends, and whether the connection does. As one would write it; the names that ours recognises beyond these, and
/// the fields that it marks, are left out.
#[derive(Debug, Default)]
struct Rules<'a> {
    host: &'a [u8],
    content_length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    upgrades: bool,
    expects: bool,
}

impl<'a> Rules<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Option<Rules<'a>> {
        let mut rules = Rules::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") && rules.host.is_empty() => rules.host = field.value,
                4 if is("host") => return None,
                10 if is("connection") => {
                    let says = |option: &[u8]| field.value.eq_ignore_ascii_case(option);
                    rules.closes |= says(b"close");
                    rules.upgrades |= says(b"upgrade");
                }
                14 if is("content-length") => {
                    let length = std::str::from_utf8(field.value).ok()?.parse().ok()?;
                    if rules.content_length.replace(length).is_some() || rules.is_chunked {
                        return None;
                    }
                }
                17 if is("transfer-encoding") => {
                    if rules.is_chunked || rules.content_length.is_some() {
                        return None;
                    }
                    rules.is_chunked = field.value.eq_ignore_ascii_case(b"chunked").then_some(true)?;
                }
                6 if is("expect") => rules.expects = true,
                _ => {}
            }
        }
        Some(rules)
    }
}
