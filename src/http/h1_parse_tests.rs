//! Tables of heads that must pass or fail, agreement with httparse on generated and mutated heads, and the
//! same outcome however a head is cut into pieces. All of it with every level of instructions.

use super::*;
use crate::http::head::{Field, Name, RequestHead, ResponseHead};

fn request(text: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    request_within(text, &HeadLimits::default())
}

fn request_within(text: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, HeadError> {
    same_at_all_levels(text, |level| {
        let mut head = RequestHead::default();
        let complete = parse_request_at(level, text, &mut Progress::default(), limits, &mut head)?;
        Ok(complete.then_some(head))
    })
}

fn response(text: &[u8]) -> Result<Option<ResponseHead>, HeadError> {
    same_at_all_levels(text, |level| {
        let (limits, mut head) = (HeadLimits::default(), ResponseHead::default());
        let complete = parse_response_at(level, text, &mut Progress::default(), &limits, &mut head)?;
        Ok(complete.then_some(head))
    })
}

/// What all levels of this machine say, and the portable one says first.
#[track_caller]
fn same_at_all_levels<H: fmt::Debug>(
    text: &[u8],
    parse: impl Fn(Level) -> Result<Option<H>, HeadError>,
) -> Result<Option<H>, HeadError> {
    let levels = Level::all();
    let portable = parse(levels[0]);
    for &level in &levels[1..] {
        let shown = format!("{:?}", parse(level));
        assert_eq!(shown, format!("{portable:?}"), "{}: {}", level.name(), text.escape_ascii());
    }
    portable
}

#[track_caller]
fn accepted(text: &str) -> RequestHead {
    request(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}")).expect("complete")
}

#[track_caller]
fn accepted_response(text: &str) -> ResponseHead {
    response(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}")).expect("complete")
}

#[track_caller]
fn refused(text: &str, expected: HeadError) {
    assert_eq!(request(text.as_bytes()).map(|head| head.is_some()), Err(expected), "{text:?}");
}

#[track_caller]
fn refused_bad(text: &str, reason: &'static str) {
    refused(text, HeadError::BadRequest(reason));
}

/// A request with these field lines besides Host.
fn with(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn with_http10(lines: &str) -> String {
    format!("POST / HTTP/1.0\r\n{lines}\r\n")
}

#[test]
fn a_request_is_taken_apart() {
    let text = "POST /a/b?c=%20&d HTTP/1.1\r\nHost: h.test:81\r\nX-Empty:\r\nX-Tab: \t a\tb \t\r\n\
                content-length:007\r\n\r\nBODY";
    let head = accepted(text);
    let bytes = text.as_bytes();
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.method_bytes(bytes), b"POST");
    assert_eq!(head.target.of(bytes), b"/a/b?c=%20&d");
    assert_eq!(head.target_form, TargetForm::Origin);
    assert_eq!(head.path.of(bytes), b"/a/b");
    assert_eq!((head.has_query, head.query.of(bytes)), (true, &b"c=%20&d"[..]));
    assert_eq!(head.authority.of(bytes), b"h.test:81");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Length(7));
    assert_eq!(head.head_len, text.len() - 4);
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (field.known, field.name.of(bytes), field.value.of(bytes), field.line().of(bytes)))
        .collect();
    assert_eq!(
        fields,
        [
            (Name::Host, &b"Host"[..], &b"h.test:81"[..], &b"Host: h.test:81\r\n"[..]),
            (Name::Other, b"X-Empty", b"", b"X-Empty:\r\n"),
            (Name::Other, b"X-Tab", b"a\tb", b"X-Tab: \t a\tb \t\r\n"),
            (Name::ContentLength, b"content-length", b"007", b"content-length:007\r\n"),
        ]
    );
    assert_eq!(head.field(bytes, "x-tab").collect::<Vec<_>>(), [b"a\tb"]);
    assert_eq!(head.first(Name::ContentLength).map(|field| field.value.of(bytes)), Some(&b"007"[..]));
}

#[test]
fn request_lines_are_strict() {
    for (line, reason) in [
        (" GET / HTTP/1.1", "request line does not begin with a method"),
        ("GET  / HTTP/1.1", "two spaces before the target"),
        ("GET /  HTTP/1.1", "two spaces before the version"),
        ("GET / HTTP/1.1 ", "malformed HTTP version"),
        ("GET\t/ HTTP/1.1", "forbidden byte in method"),
        ("GET /\tHTTP/1.1", "forbidden byte in target"),
        ("G\0T / HTTP/1.1", "forbidden byte in method"),
        ("G(T / HTTP/1.1", "forbidden byte in method"),
        ("GET /a b HTTP/1.1", "malformed HTTP version"),
        ("GET /", "no version in request line"),
        ("GET", "forbidden byte in method"),
        ("GET / http/1.1", "malformed HTTP version"),
        ("GET / HTTP/1", "malformed HTTP version"),
        ("GET / HTTP/11.1", "malformed HTTP version"),
        ("GET / HTTP/1.10", "malformed HTTP version"),
        ("GET / HTTP/1.x", "malformed HTTP version"),
        ("GET /\u{e9} HTTP/1.1", "forbidden byte in target"),
        ("GET /\0 HTTP/1.1", "forbidden byte in target"),
        ("GET /\x7f HTTP/1.1", "forbidden byte in target"),
        ("GET /a#b HTTP/1.1", "fragment in target"),
        ("GET /?a#b HTTP/1.1", "fragment in target"),
        ("GET /a\\b HTTP/1.1", "backslash in path"),
        ("GET /\"a\" HTTP/1.1", "forbidden byte in target"),
        ("GET /<a> HTTP/1.1", "forbidden byte in target"),
        ("GET a HTTP/1.1", "target is neither a path nor an http URI"),
        ("GET a.test:80 HTTP/1.1", "target is neither a path nor an http URI"),
        ("GET ?a HTTP/1.1", "target is neither a path nor an http URI"),
        ("GET ftp://a/ HTTP/1.1", "target is neither a path nor an http URI"),
        ("GET http:/a HTTP/1.1", "target is neither a path nor an http URI"),
        ("GET http:///a HTTP/1.1", "empty host"),
        ("GET http://u@a/ HTTP/1.1", "forbidden byte in host"),
        ("GET http://u:p@a/ HTTP/1.1", "malformed port in host"),
        ("GET http://a:65536/ HTTP/1.1", "port over 65535 in host"),
        ("GET * HTTP/1.1", "target * with another method than OPTIONS"),
        ("CONNECT * HTTP/1.1", "CONNECT needs a host and a port"),
        ("CONNECT a HTTP/1.1", "CONNECT needs a host and a port"),
        ("CONNECT a: HTTP/1.1", "CONNECT needs a host and a port"),
        ("CONNECT a:0 HTTP/1.1", "CONNECT needs a host and a port"),
        ("CONNECT / HTTP/1.1", "forbidden byte in host"),
        ("CONNECT http://a:1/ HTTP/1.1", "malformed port in host"),
        ("CONNECT u@a:1 HTTP/1.1", "forbidden byte in host"),
    ] {
        refused_bad(&format!("{line}\r\nHost: a\r\n\r\n"), reason);
    }
    for line in ["GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/1.2", "PRI * HTTP/2.0"] {
        refused(&format!("{line}\r\nHost: a\r\n\r\n"), HeadError::Version);
    }
    refused_bad("GET /\r\n\r\n", "no version in request line");
    refused_bad("GET / HTTP/1.1\nHost: a\r\n\r\n", "bare LF");
    refused_bad("GET / HTTP/1.1\rHost: a\r\n\r\n", "bare CR");
    let method = "M".repeat(32);
    assert_eq!(accepted(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, Method::Other);
    refused_bad(&format!("{method}M"), "method too long");
}

#[test]
fn methods_are_case_sensitive() {
    for (text, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("PATCH", Method::Patch),
        ("get", Method::Other),
        ("GETS", Method::Other),
        ("!#$%&'*+-.^_`|~09aZ", Method::Other),
    ] {
        assert_eq!(accepted(&format!("{text} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, method, "{text}");
    }
}

#[test]
fn targets_have_four_forms() {
    type Expected = (TargetForm, &'static str, &'static str, Option<&'static str>);
    for (line, (form, authority, path, query)) in [
        ("GET /", (TargetForm::Origin, "h", "/", None)),
        ("GET //x/..?", (TargetForm::Origin, "h", "//x/..", Some(""))),
        ("GET /[a]^|{}`%?\\[{|}]^`?/", (TargetForm::Origin, "h", "/[a]^|{}`%", Some("\\[{|}]^`?/"))),
        ("GET http://A.test:1/x?y", (TargetForm::Absolute, "A.test:1", "/x", Some("y"))),
        ("GET HTTPS://a", (TargetForm::Absolute, "a", "", None)),
        ("GET http://a?", (TargetForm::Absolute, "a", "", Some(""))),
        ("GET http://[::1]:8/", (TargetForm::Absolute, "[::1]:8", "/", None)),
        ("OPTIONS *", (TargetForm::Asterisk, "h", "*", None)),
        ("CONNECT a.test:443", (TargetForm::Authority, "a.test:443", "", None)),
        ("CONNECT [::1]:443", (TargetForm::Authority, "[::1]:443", "", None)),
    ] as [(&str, Expected); 10]
    {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = accepted(&text);
        let bytes = text.as_bytes();
        assert_eq!(head.target_form, form, "{line}");
        assert_eq!(head.authority.of(bytes), authority.as_bytes(), "{line}");
        assert_eq!(head.path.of(bytes), path.as_bytes(), "{line}");
        assert_eq!(head.has_query.then(|| head.query.of(bytes)), query.map(str::as_bytes), "{line}");
    }
}

#[test]
fn one_empty_line_may_come_first() {
    let head = accepted("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nnext");
    assert_eq!(head.head_len, 29);
    refused_bad("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request line does not begin with a method");
    refused_bad("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request line does not begin with a method");
    refused_bad("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request line does not begin with a method");
    assert!(response(b"\r\nHTTP/1.1 200 OK\r\n\r\n").is_err());
}

#[test]
fn field_lines_are_strict() {
    for (lines, reason) in [
        ("a : b\r\n", "white space before colon"),
        ("a\t: b\r\n", "white space before colon"),
        ("a: b\r\n c\r\n", "line begins with white space"),
        ("a: b\r\n\tc\r\n", "line begins with white space"),
        (": b\r\n", "empty field name"),
        ("a\r\n", "bare CR"),
        ("a\n", "bare LF"),
        ("a: b\n", "bare LF"),
        ("a: b\rc: d\r\n", "bare CR"),
        ("a: b\r\r\n", "bare CR"),
        ("\rX", "bare CR"),
        ("\n", "bare LF"),
        ("a: \0\r\n", "NUL in field value"),
        ("a: \x01\r\n", "control byte in field value"),
        ("a: \x1f\r\n", "control byte in field value"),
        ("a: \x7f\r\n", "control byte in field value"),
        ("a(: b\r\n", "forbidden byte in field name"),
        ("a\0: b\r\n", "forbidden byte in field name"),
        ("\u{e9}: b\r\n", "forbidden byte in field name"),
        ("a b: c\r\n", "white space before colon"),
    ] {
        refused_bad(&with(lines), reason);
    }
    refused_bad("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "line begins with white space");
    accepted(&with("!#$%&'*+-.^_`|~09aZ: \u{e9}\t\u{ff} \"x\" (y)\r\n"));
}

#[test]
fn framing_is_never_ambiguous() {
    for (lines, reason) in [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "both Content-Length and Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "both Content-Length and Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "both Content-Length and Transfer-Encoding"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "more than one Content-Length"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "more than one Content-Length"),
        ("Content-Length: 5, 5\r\n", "malformed Content-Length"),
        ("Content-Length: +5\r\n", "malformed Content-Length"),
        ("Content-Length: -5\r\n", "malformed Content-Length"),
        ("Content-Length: 5 5\r\n", "malformed Content-Length"),
        ("Content-Length: 0x5\r\n", "malformed Content-Length"),
        ("Content-Length: 5a\r\n", "malformed Content-Length"),
        ("Content-Length: \u{b2}\r\n", "malformed Content-Length"),
        ("Content-Length:\r\n", "empty Content-Length"),
        ("Content-Length: 18446744073709551616\r\n", "Content-Length over 64 bits"),
        ("Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: chunked, gzip\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: chunked,\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: chunked;a\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: \"chunked\"\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: xchunked\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: identity\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding:\r\n", "Transfer-Encoding other than chunked"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "more than one Transfer-Encoding"),
        ("Transfer_Encoding: chunked\r\n", "field name looks like Transfer-Encoding"),
        ("transfer.encoding: chunked\r\n", "field name looks like Transfer-Encoding"),
        ("Content_Length: 5\r\n", "field name looks like Content-Length"),
        ("CONTENT~LENGTH: 5\r\n", "field name looks like Content-Length"),
        ("Content-Length : 5\r\n", "white space before colon"),
    ] {
        refused_bad(&with(lines), reason);
    }
    refused_bad(&with_http10("Transfer-Encoding: chunked\r\n"), "Transfer-Encoding on HTTP/1.0");
    refused_bad("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "CONNECT with content");
    for (lines, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::None),
        ("Content-Length: \t5 \r\n", Framing::Length(5)),
        ("cOnTeNt-LeNgTh: 18446744073709551615\r\n", Framing::Length(u64::MAX)),
        ("TRANSFER-ENCODING:Chunked\r\n", Framing::Chunked),
        ("X-Transfer-Encoding: gzip\r\nContent-Lengths: 1\r\n", Framing::None),
    ] {
        assert_eq!(accepted(&with(lines)).framing, framing, "{lines:?}");
    }
}

#[test]
fn host_is_required_once_and_valid() {
    refused_bad("GET / HTTP/1.1\r\n\r\n", "no Host");
    refused_bad("GET http://a/ HTTP/1.1\r\n\r\n", "no Host");
    refused_bad(&with("Host: a\r\n"), "more than one Host");
    refused_bad(&with_http10("Host: a\r\nHost: b\r\n"), "more than one Host");
    refused_bad("GET / HTTP/1.1\r\nHost:\r\n\r\n", "empty host");
    refused_bad("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "forbidden byte in host");
    refused_bad("GET http://a/ HTTP/1.1\r\nHost: a/b\r\n\r\n", "forbidden byte in host");
    refused_bad("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", "port over 65535 in host");
    assert!(accepted(&with_http10("")).authority.is_empty());
    let text = "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(accepted(text).authority.of(text.as_bytes()), b"a");
}

#[test]
fn connection_decides_reuse_upgrade_and_removal() {
    for (text, keep_alive) in [
        (with(""), true),
        (with("Connection: close\r\n"), false),
        (with("Connection: CLOSE, keep-alive\r\n"), false),
        (with("Connection: keep-alive\r\nConnection: foo ,, close\r\n"), false),
        (with_http10(""), false),
        (with_http10("Connection: Keep-Alive\r\n"), true),
        (with_http10("Connection: keep-alive, close\r\n"), false),
    ] {
        assert_eq!(accepted(&text).keep_alive, keep_alive, "{text:?}");
    }
    for (text, upgrade) in [
        (with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), true),
        (with("Connection: keep-alive, upgrade\r\nUpgrade: a\r\n"), true),
        (with("Connection: upgrade\r\n"), false),
        (with("Connection: upgrade\r\nUpgrade:\r\n"), false),
        (with("Upgrade: websocket\r\n"), false),
        (with_http10("Connection: upgrade\r\nUpgrade: websocket\r\n"), false),
    ] {
        assert_eq!(accepted(&text).upgrade, upgrade, "{text:?}");
    }
    let text =
        with("X-One: 1\r\nConnection: x-one,X-TWO, close\r\nx-two: 2\r\nx-onee: 3\r\nX_Forwarded_For: 4\r\n");
    let marked = accepted(&text).fields;
    let marked: Vec<_> = marked.iter().filter(|field| field.hop_by_hop).map(|field| field.name).collect();
    let names: Vec<_> = marked.iter().map(|name| name.of(text.as_bytes())).collect();
    assert_eq!(names, [&b"X-One"[..], b"x-two", b"X_Forwarded_For"]);

    let abuse = "Connection names a field that is not the connection's";
    for name in
        ["host", "Content-Length", "transfer-encoding", "X-Forwarded-For", "x-forwarded-host", "forwarded"]
    {
        refused_bad(&with(&format!("Connection: close, {name}\r\n")), abuse);
    }
    refused_bad(&with("Connection: a b\r\n"), "malformed Connection");
    refused_bad(&with("Connection: \"close\"\r\n"), "malformed Connection");
    accepted(&with(&format!("Connection: {}\r\n", "a,".repeat(32))));
    refused_bad(&with(&format!("Connection: {}\r\n", "a,".repeat(33))), "too many options in Connection");
}

#[test]
fn expectations_and_te() {
    assert!(accepted(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).expect_continue);
    assert!(!accepted(&with("Expect: 100-continue\r\n")).expect_continue, "nothing to wait with");
    assert!(!accepted(&with_http10("Expect: 100-continue\r\nContent-Length: 1\r\n")).expect_continue);
    accepted(&with_http10("Expect: magic\r\n"));
    refused(&with("Expect: magic\r\n"), HeadError::Expectation);
    refused(&with("Expect: 100-continue, x\r\n"), HeadError::Expectation);
    refused(&with("Expect:\r\n"), HeadError::Expectation);
    assert!(accepted(&with("TE: gzip;q=0.5 , Trailers\r\n")).te_trailers);
    assert!(!accepted(&with("TE: trailersx\r\n")).te_trailers);
}

#[test]
fn limits_are_exact_and_early() {
    let limits = HeadLimits { fields_max: 2, head_bytes_max: 64, target_bytes_max: 10 };
    let outcome = |text: &str| request_within(text.as_bytes(), &limits).map(|head| head.is_some());
    assert_eq!(outcome("GET /234567890 HTTP/1.0\r\n\r\n"), Ok(true));
    assert_eq!(outcome("GET /2345678901 HTTP/1.0\r\n\r\n"), Err(HeadError::TargetTooLong));
    assert_eq!(outcome("GET /2345?7890"), Ok(false));
    assert_eq!(outcome("GET /2345?78901"), Err(HeadError::TargetTooLong), "without its end");
    assert_eq!(outcome("GET / HTTP/1.0\r\na:\r\nb:\r\n\r\n"), Ok(true));
    assert_eq!(outcome("GET / HTTP/1.0\r\na:\r\nb:\r\nc"), Err(HeadError::TooManyFields));
    let fits = format!("GET / HTTP/1.0\r\na:{}\r\n\r\n", "x".repeat(42));
    assert_eq!((fits.len(), outcome(&fits)), (64, Ok(true)));
    assert_eq!(outcome(&format!("{fits}body of the request")), Ok(true));
    assert_eq!(outcome(&fits[..63]), Ok(false));
    assert_eq!(outcome(&format!("GET / HTTP/1.0\r\na:{}\r\n\r\n", "x".repeat(43))), Err(HeadError::TooLarge));
    assert_eq!(outcome(&format!("GET / HTTP/1.0\r\na:{}", "x".repeat(46))), Err(HeadError::TooLarge));

    // Offsets are u16: no configuration makes them overflow.
    let limits = HeadLimits { fields_max: 1 << 20, head_bytes_max: 1 << 20, target_bytes_max: 1 << 20 };
    let head = |len: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(len - 18));
    assert!(request_within(head(u16::MAX as usize).as_bytes(), &limits).is_ok_and(|head| head.is_some()));
    assert_eq!(request_within(head(1 << 16).as_bytes(), &limits).map(|_| ()), Err(HeadError::TooLarge));
}

#[test]
fn a_dripped_head_is_not_scanned_again_and_again() {
    let text = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\nx: {}\r\n{}: y\r\n\r\n",
        "t".repeat(8000),
        "v".repeat(16_000),
        "n".repeat(7000)
    );
    let expected = format!("{:?}", accepted(&text));
    assert_eq!(request_in_pieces(text.as_bytes(), 1..), Ok(Some(expected)));
}

#[test]
fn bad_bytes_are_found_before_the_head_ends() {
    for text in [
        "GET /\0",
        "G\0",
        "\n",
        "GET / HTTX",
        "GET / HTTP/1.1\r\na b",
        "GET / HTTP/1.1\r\na: \0",
        "GET / HTTP/1.1\r\na: \n",
        "GET / HTTP/1.1\r\nHost: a b\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n",
        "GET * HTTP/1.1\r\n",
    ] {
        assert!(request(text.as_bytes()).is_err(), "{text:?}");
    }
    // Even where the bad byte comes after the line was looked at once.
    assert!(request_in_pieces(b"GET / HTTP/1.1\r\na: b\0c\r\n", [18, 20, 22]).is_err());
}

#[test]
fn a_response_is_taken_apart() {
    for (line, status, reason, version) in [
        ("HTTP/1.1 200 OK", 200, "OK", Version::Http11),
        ("HTTP/1.0 404 Not \t Found\u{e9}", 404, "Not \t Found\u{e9}", Version::Http10),
        ("HTTP/1.1 200 ", 200, "", Version::Http11),
        ("HTTP/1.1 599", 599, "", Version::Http11),
    ] {
        let text = format!("{line}\r\nContent-Length: 3\r\nServer: x\r\n\r\nabc");
        let head = accepted_response(&text);
        assert_eq!((head.status, head.reason.of(text.as_bytes())), (status, reason.as_bytes()), "{line}");
        assert_eq!(head.version, version);
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(head.head_len, text.len() - 3);
        assert_eq!(head.field(text.as_bytes(), "SERVER").count(), 1);
        assert!(head.first(Name::Server).is_some());
    }
}

#[test]
fn responses_are_strict() {
    for (text, reason) in [
        ("HTTP/1.1  200 OK\r\n\r\n", "malformed status code"),
        ("HTTP/1.1 20 OK\r\n\r\n", "malformed status code"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "malformed status code"),
        ("HTTP/1.1 099 OK\r\n\r\n", "status code outside 100 to 599"),
        ("HTTP/1.1 600 OK\r\n\r\n", "status code outside 100 to 599"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "malformed status code"),
        ("HTTP/1.1 200\tOK\r\n\r\n", "malformed status code"),
        ("HTTP/1.1 200\n\r\n", "bare LF"),
        ("HTTP/1.1 200 OK\n\r\n", "bare LF"),
        ("HTTP/1.1 200 O\rK\r\n\r\n", "bare CR"),
        ("HTTP/1.1 200 O\x01K\r\n\r\n", "control byte in field value"),
        ("HTTP/1.1\t200 OK\r\n\r\n", "malformed HTTP version"),
        ("ICY 200 OK\r\n\r\n", "malformed HTTP version"),
        ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", "white space before colon"),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", "line begins with white space"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "more than one Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n", "malformed Content-Length"),
        ("HTTP/1.1 200 OK\r\nTransfer_Encoding: chunked\r\n\r\n", "field name looks like Transfer-Encoding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "Transfer-Encoding other than chunked",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding on HTTP/1.0"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "both Content-Length and Transfer-Encoding",
        ),
        ("HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\n", "framing of content on a response that has none"),
        (
            "HTTP/1.1 101 x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "framing of content on a response that has none",
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: content-length\r\n\r\n",
            "Connection names a field that is not the connection's",
        ),
    ] {
        let outcome = response(text.as_bytes()).map(|head| head.is_some());
        assert_eq!(outcome, Err(HeadError::BadRequest(reason)), "{text:?}");
    }
    assert_eq!(response(b"HTTP/2.0 200 OK\r\n\r\n").map(|_| ()), Err(HeadError::Version));
}

#[test]
fn response_framing_depends_on_status_and_method() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = "Content-Length: 5\r\n";
    for (status, lines, method, framing, reuse) in [
        (200, "", Method::Get, Framing::Close, false),
        (200, "", Method::Head, Framing::None, true),
        (200, "Connection: close\r\n", Method::Head, Framing::None, false),
        (200, length, Method::Get, Framing::Length(5), true),
        (200, length, Method::Head, Framing::None, true),
        (200, "Content-Length: 0\r\n", Method::Get, Framing::None, true),
        (200, chunked, Method::Get, Framing::Chunked, true),
        (200, chunked, Method::Connect, Framing::None, true),
        (407, chunked, Method::Connect, Framing::Chunked, true),
        (304, length, Method::Get, Framing::None, true),
        (304, "", Method::Get, Framing::None, true),
        (204, "", Method::Get, Framing::None, true),
        (204, "Content-Length: 0\r\n", Method::Get, Framing::None, true),
        (100, "", Method::Post, Framing::None, true),
    ] {
        let head = accepted_response(&format!("HTTP/1.1 {status} x\r\n{lines}\r\n"));
        assert_eq!(response_framing(&head, method), framing, "{status} {lines:?} {method:?}");
        assert_eq!(head.allows_reuse_after(method), reuse, "{status} {lines:?} {method:?}");
    }
    let head = accepted_response("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n");
    assert!(head.fields[0].hop_by_hop, "RFC 9110 section 8.6 forbids it on 204");
    assert!(!accepted_response("HTTP/1.0 200 x\r\nContent-Length: 1\r\n\r\n").keep_alive);
}

/// The head in text, so that a difference reads well; offsets and all.
type Outcome = Result<Option<String>, HeadError>;

/// Parses as a connection would: again after each piece, until something is decided.
fn request_in_pieces(text: &[u8], ends: impl IntoIterator<Item = usize> + Clone) -> Outcome {
    same_at_all_levels(text, |level| {
        in_pieces(text, ends.clone(), |bytes, progress, head: &mut RequestHead| {
            parse_request_at(level, bytes, progress, &HeadLimits::default(), head)
        })
    })
}

fn response_in_pieces(text: &[u8], ends: impl IntoIterator<Item = usize> + Clone) -> Outcome {
    same_at_all_levels(text, |level| {
        in_pieces(text, ends.clone(), |bytes, progress, head: &mut ResponseHead| {
            parse_response_at(level, bytes, progress, &HeadLimits::default(), head)
        })
    })
}

fn in_pieces<H: Default + fmt::Debug>(
    text: &[u8],
    ends: impl IntoIterator<Item = usize>,
    parse: impl Fn(&[u8], &mut Progress, &mut H) -> Result<bool, HeadError>,
) -> Outcome {
    let (mut progress, mut head) = (Progress::default(), H::default());
    for end in ends.into_iter().chain([text.len()]) {
        let end = end.min(text.len());
        if parse(&text[..end], &mut progress, &mut head)? {
            return Ok(Some(format!("{head:?}")));
        }
        if end == text.len() {
            break;
        }
    }
    Ok(None)
}

#[test]
fn pieces_make_no_difference() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..400 {
        let text = whole_lines(random.head(REQUEST_LINES));
        let whole = request_in_pieces(&text, []);
        for split in 0..text.len() {
            assert_eq!(request_in_pieces(&text, [split]), whole, "{} at {split}", text.escape_ascii());
        }
        assert_eq!(request_in_pieces(&text, 1..), whole, "{}", text.escape_ascii());

        let text = whole_lines(random.head(STATUS_LINES));
        let whole = response_in_pieces(&text, []);
        for split in 0..text.len() {
            assert_eq!(response_in_pieces(&text, [split]), whole, "{} at {split}", text.escape_ascii());
        }
        assert_eq!(response_in_pieces(&text, 1..), whole, "{}", text.escape_ascii());
    }
}

#[test]
fn lengths_around_the_size_of_a_block_make_no_difference() {
    for name_len in [1, 15, 16, 17, 30, 31, 32, 33, 64] {
        for value_len in 0..70 {
            for rest in ["", "Host: a\r\n", "Host: a-host-of-more-than-one-block.example.test:8080\r\n"] {
                let (name, value) = ("n".repeat(name_len), "v".repeat(value_len));
                let text = format!("GET / HTTP/1.0\r\n{name}: {value}\r\n{rest}\r\n{value}");
                let head = accepted(&text);
                assert_eq!(head.fields[0].name.of(text.as_bytes()), name.as_bytes());
                assert_eq!(head.fields[0].value.of(text.as_bytes()), value.as_bytes());
                assert_eq!(head.head_len, text.len() - value_len);
                for bad in ["\x7f", "\0", "\r", "\n"] {
                    let text = text.replacen(": ", &format!(": {bad}"), 1);
                    assert!(request(text.as_bytes()).is_err(), "{text:?}");
                    let text = format!("GET / HTTP/1.0\r\n{name}: {value}{bad}v\r\n{rest}\r\n");
                    assert!(request(text.as_bytes()).is_err(), "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_head_that_is_used_again_keeps_nothing_of_earlier_ones() {
    let with_fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "Te: b\r\n".repeat(count));
    for level in Level::all() {
        let mut head = RequestHead::default();
        for (count, fields_max) in [(99, 100), (0, 100), (15, 16), (16, 16), (40, 41), (3, 3), (40, 100)] {
            let (text, limits) = (with_fields(count), HeadLimits { fields_max, ..HeadLimits::default() });
            let again =
                parse_request_at(level, text.as_bytes(), &mut Progress::default(), &limits, &mut head);
            if count < fields_max {
                assert_eq!((again, head.fields.len()), (Ok(true), count + 1), "{}", level.name());
                assert_eq!(format!("{head:?}"), format!("{:?}", accepted(&text)));
            } else {
                assert_eq!(again, Err(HeadError::TooManyFields), "{count} of {fields_max}");
            }
        }
    }
}

/// A bad byte in a line that was looked at before is found when the line ends, not when it comes.
fn whole_lines(mut text: Vec<u8>) -> Vec<u8> {
    text.extend_from_slice(b"\r\n");
    text
}

#[test]
fn requests_agree_with_httparse() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut accepted = 0;
    for _ in 0..30_000 {
        let text = random.head(REQUEST_LINES);
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut theirs = httparse::Request::new(&mut fields);
        let outcome = theirs.parse(&text);
        let shown = text.escape_ascii();
        match request(&text) {
            Ok(Some(head)) => {
                accepted += 1;
                assert_eq!(outcome, Ok(httparse::Status::Complete(head.head_len)), "{shown}");
                assert_eq!(theirs.method.map(str::as_bytes), Some(head.method_span.of(&text)), "{shown}");
                assert_eq!(theirs.path.map(str::as_bytes), Some(head.target.of(&text)), "{shown}");
                assert_eq!(theirs.version, Some(head.version as u8), "{shown}");
                same_fields(&text, &head.fields, theirs.headers);
            }
            Ok(None) => assert!(!matches!(outcome, Ok(httparse::Status::Complete(_))), "{shown}"),
            Err(error) => is_stricter(error, matches!(outcome, Ok(httparse::Status::Complete(_))), &text),
        }
    }
    assert!(accepted > 3000, "the generator makes too few valid requests: {accepted}");
}

#[test]
fn responses_agree_with_httparse() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut accepted = 0;
    for _ in 0..30_000 {
        let text = random.head(STATUS_LINES);
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut theirs = httparse::Response::new(&mut fields);
        let outcome = theirs.parse(&text);
        let shown = text.escape_ascii();
        match response(&text) {
            Ok(Some(head)) => {
                accepted += 1;
                assert_eq!(outcome, Ok(httparse::Status::Complete(head.head_len)), "{shown}");
                assert_eq!(theirs.code, Some(head.status), "{shown}");
                // httparse shows no reason that is not ASCII.
                if head.reason.of(&text).is_ascii() {
                    assert_eq!(theirs.reason.map(str::as_bytes), Some(head.reason.of(&text)), "{shown}");
                }
                assert_eq!(theirs.version, Some(head.version as u8), "{shown}");
                same_fields(&text, &head.fields, theirs.headers);
            }
            Ok(None) => assert!(!matches!(outcome, Ok(httparse::Status::Complete(_))), "{shown}"),
            Err(error) => is_stricter(error, matches!(outcome, Ok(httparse::Status::Complete(_))), &text),
        }
    }
    assert!(accepted > 3000, "the generator makes too few valid responses: {accepted}");
}

fn same_fields(text: &[u8], ours: &[Field], theirs: &[httparse::Header<'_>]) {
    assert_eq!(ours.len(), theirs.len(), "{}", text.escape_ascii());
    for (our, their) in ours.iter().zip(theirs) {
        assert_eq!(our.name.of(text), their.name.as_bytes(), "{}", text.escape_ascii());
        assert_eq!(our.value.of(text), their.value, "{}", text.escape_ascii());
    }
}

/// What both parsers refuse. Any other reason is one of our stricter rules.
const SHARED_REASONS: [&str; 7] = [
    "bare CR",
    "NUL in field value",
    "control byte in field value",
    "forbidden byte in method",
    "forbidden byte in field name",
    "empty field name",
    "malformed HTTP version",
];

fn is_stricter(error: HeadError, they_accept: bool, text: &[u8]) {
    let shared = SHARED_REASONS.contains(&error.reason());
    assert!(!(they_accept && shared), "{error}: {}", text.escape_ascii());
}

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a/b?c=d HTTP/1.1\r\n",
    "DELETE /a-rather-long-path/with/segments?and=a&query=too HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "GET http://a.test/b HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "CONNECT a.test:443 HTTP/1.1\r\n",
    "\r\nPATCH /%20{}|^ HTTP/1.1\r\n",
    "GET /\"<>#\\ HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/1.2\r\n",
    "GET /\r\n",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 404 Not Found\r\n",
    "HTTP/1.0 500 \r\n",
    "HTTP/1.1 204\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 304 \u{fc}\r\n",
    "HTTP/1.1 999 x\r\n",
    "HTTP/1.1  200 OK\r\n",
];

const FIELD_LINES: &[&str] = &[
    "Host: a.test\r\n",
    "host:b:80\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x-a\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "TE: trailers\r\n",
    "x-a: b\r\n",
    "X-Empty:\r\n",
    "X-Spaces: \t a  b \t \r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
    "Cookie: \u{e9}\u{ff}; a=b\r\n",
    "!#$%&'*+-.^_`|~9: token\r\n",
    "x: a\r\n folded\r\n",
    "x : y\r\n",
    "x: y\n",
];

/// Marsaglia's xorshift64: the same heads on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Start line, fields and an empty line; half of them then damaged.
    fn head(&mut self, start_lines: &[&str]) -> Vec<u8> {
        // The earlier lines of a table are the good ones: prefer them.
        let common = start_lines.len() / 2;
        let bound = if self.below(4) == 0 { start_lines.len() } else { common };
        let mut text = start_lines[self.below(bound)].as_bytes().to_vec();
        if self.below(8) > 0 {
            text.extend_from_slice(b"Host: h.test\r\n");
        }
        for _ in 0..self.below(5) {
            let line = if self.below(3) == 0 { self.below(FIELD_LINES.len()) } else { 7 + self.below(12) };
            text.extend_from_slice(FIELD_LINES[line].as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        if self.below(2) == 0 {
            (0..=self.below(3)).for_each(|_| self.damage(&mut text));
        }
        text
    }

    fn damage(&mut self, text: &mut Vec<u8>) {
        const BYTES: &[u8] = b"\r\n\r\n \t:;,\0\x7f\x80\xff_-/?#%\"\\0123456789abcHTP.";
        let place = self.below(text.len());
        let byte = if self.below(4) == 0 { self.below(256) as u8 } else { BYTES[self.below(BYTES.len())] };
        match self.below(5) {
            0 => text[place] = byte,
            1 => text.insert(place, byte),
            2 if text.len() > 1 => drop(text.remove(place)),
            3 => text.truncate(place.max(1)),
            _ => text[place] ^= 0x20,
        }
    }
}
