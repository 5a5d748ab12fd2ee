//! Owns the proofs that the scanner accepts what serde_json accepts, however the bytes are cut, and peeks what it
//! would find. The shape of inference requests is in `shape_tests`.

use serde_json::Value;

use super::*;

/// Deliberate differences from the oracle: it refuses numbers that an f64 cannot hold, and the 128th level of nesting.
#[rustfmt::skip]
const VALID: [&str; 46] = [
    "0", "-0", "12", "-1.5", "1e9", "1E+9", "1e-9", "0.0e00", "10.25E1", "9007199254740993", "null", "true", "false",
    r#""""#, r#""a""#, r#""é 日本 🦀""#, r#""\"\\\/\b\f\n\r\t""#, r#""\u0000""#, r#""\u00e9\uD83E\udd80""#, "\"\u{7f}\"",
    r#""0123456789abcdef0123456789abcdef0123456789abcdef\n0123456789abcdef""#,
    r#""a longer text, of more than thirty-two bytes, with é behind them""#,
    "[]", "{}", "[[]]", "[{}]", "[1]", "[1,2]", "[ 1 , 2 ]", "[1 ,2]", "[\n1\n]", "[-1.5e3,0,0.5,\t\"a\",null]",
    " \t\r\n1 \t\r\n", "                    1                     ", r#"{"":0}"#, r#"{"a":1,"a":2}"#,
    r#"{ "a" : [ true , false ] , "b" : { } }"#, r#"{"model":"x","n":[1,2,{"model":3}]}"#, r#"{"mod\u0065l":"a\n\u00e9"}"#,
    r#"{"model":"a","model":"b"}"#, r#"{"model":1}"#, r#"{"n":{"model":"x"}}"#, r#"["model"]"#, r#"{"model":{"model":"x"}}"#,
    r#"{"messages":[{"role":"user","content":"Say \"hi\"\n in 日本語"}],"stream":true,"model":"llama","temperature":0.7}"#,
    r#"{"inputs":[{"name":"a","shape":[2,2],"datatype":"FP32","data":[[1.5,-2e-3],[0,4]]}],"id":null}"#,
];

/// With the offset of the byte that gives it away.
#[rustfmt::skip]
const INVALID: [(&[u8], u64, &str); 85] = [
    (b"", 0, "there is no value"), (b" \n", 2, "there is no value"), (b"1 2", 2, "something follows the value"),
    (b"{}{}", 2, "something follows the value"), (b"{},", 2, "something follows the value"),
    (b"\xef\xbb\xbf1", 0, "a value is missing"), (b"\x0b1", 0, "a value is missing"), (b"'a'", 0, "a value is missing"),
    (b"]", 0, "a value is missing"), (b"}", 0, "a value is missing"), (b",", 0, "a value is missing"),
    (b"a", 0, "a value is missing"), (b"+1", 0, "a value is missing"), (b".5", 0, "a value is missing"),
    (b"/**/1", 0, "a value is missing"), (b"1\0", 1, "something follows the value"),
    (b"01", 1, "something follows the value"), (b"[01]", 2, "a comma is missing"), (b"-", 1, "it ends in the middle"),
    (b"-a", 1, "a digit is missing"), (b"--1", 1, "a digit is missing"), (b"-01", 2, "something follows the value"),
    (b"1.", 2, "it ends in the middle"), (b"1.]", 2, "a digit is missing"), (b"[1.,2]", 3, "a digit is missing"),
    (b"1.e3", 2, "a digit is missing"), (b"1e", 2, "it ends in the middle"), (b"[1e]", 3, "a digit is missing"),
    (b"1e+", 3, "it ends in the middle"), (b"1e+-1", 3, "a digit is missing"), (b"1.5.5", 3, "something follows the value"),
    (b"1e5.5", 3, "something follows the value"), (b"1e5e5", 3, "something follows the value"),
    (b"0x10", 1, "something follows the value"), (b"1_000", 1, "something follows the value"),
    (b"[NaN]", 1, number::NO_NUMBER), (b"[1,-Infinity]", 4, number::NO_NUMBER), (b"Infinity", 0, number::NO_NUMBER),
    (b"tru", 3, "it ends in the middle"), (b"trux", 3, "neither true, false nor null"),
    (b"nan", 1, "neither true, false nor null"), (b"nulll", 4, "something follows the value"),
    (b"[truefalse]", 5, "a comma is missing"), (b"True", 0, "a value is missing"), (b"fAlse", 1, "neither true, false nor null"),
    (b"\"", 1, "it ends in the middle"), (b"\"a", 2, "it ends in the middle"), (b"\"\\\"", 3, "it ends in the middle"),
    (b"\"\n\"", 1, "a control character is not escaped"), (b"\"a\0\"", 2, "a control character is not escaped"),
    (b"\"0123456789abcdef0123456789abcdef0123456\x1f\"", 40, "a control character is not escaped"),
    (b"\"\\x\"", 2, "no such escape"), (b"\"\\U0041\"", 2, "no such escape"), (b"\"\\'\"", 2, "no such escape"),
    (b"\"\\u12g4\"", 5, "not four hexadecimal digits"), (b"\"\\u123\"", 6, "not four hexadecimal digits"),
    (b"\"\\u+123\"", 3, "not four hexadecimal digits"),
    (b"\"\\ud800\"", 7, "a surrogate stands alone"), (b"\"\\ud800a\"", 7, "a surrogate stands alone"),
    (b"\"\\ud800\\n\"", 8, "a surrogate stands alone"), (b"\"\\ud800\\u0041\"", 12, "a surrogate stands alone"),
    (b"\"\\ud800\\ud800\"", 12, "a surrogate stands alone"), (b"\"\\udc00\"", 6, "a surrogate stands alone"),
    (b"\"\xff\"", 1, "not UTF-8"), (b"\"a\x80\"", 2, "not UTF-8"), (b"\"\xc3\"", 2, "not UTF-8"),
    (b"\"\xc0\xaf\"", 1, "not UTF-8"), (b"\"\xe0\x80\xaf\"", 2, "not UTF-8"), (b"\"\xed\xa0\x80\"", 2, "not UTF-8"),
    (b"\"\xf4\x90\x80\x80\"", 2, "not UTF-8"), (b"\"\xf5\x80\x80\x80\"", 1, "not UTF-8"),
    (b"\"\xe6\x97\"", 3, "not UTF-8"), (b"\"\xf0\x9f\xa6a\"", 4, "not UTF-8"), (b"\"\xc3", 2, "it ends in the middle"),
    (b"[", 1, "it ends in the middle"), (b"[1", 2, "it ends in the middle"), (b"[1,", 3, "it ends in the middle"),
    (b"[1,]", 3, "a value is missing"), (b"[,1]", 1, "a value is missing"), (b"[1 2]", 3, "a comma is missing"),
    (b"[1}", 2, "a comma is missing"), (b"{\"a\":1]", 6, "a comma is missing"), (b"{\"a\" 1}", 5, "a colon is missing"),
    (b"{a:1}", 1, "a member's name is missing"), (b"{\"a\":1,}", 7, "a member's name is missing"),
];

/// What a scanner says in the end, to be compared.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) result: Result<(), Invalid>,
    peeked: Found,
}

#[derive(Debug, Clone, PartialEq)]
enum Found {
    Text(String),
    Other(&'static str),
}

fn rules(is_inference: bool) -> Rules {
    Rules { depth_max: 100, peek: Some("model".into()), is_inference }
}

fn scan<'a>(rules: Rules, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = Scanner::new(rules);
    let mut result = Ok(());
    for piece in pieces {
        result = scanner.push(piece);
        if result.is_err() {
            break;
        }
    }
    let finished = scanner.finish();
    assert!(result.is_ok() || finished == result, "an error is final");
    let peeked = match scanner.peeked() {
        Peeked::Text(text) => Found::Text(text.into()),
        Peeked::NotYet => Found::Other("not yet"),
        Peeked::Absent => Found::Other("absent"),
        Peeked::NotText => Found::Other("not text"),
        Peeked::TooLong => Found::Other("too long"),
        Peeked::Twice => Found::Other("twice"),
    };
    Outcome { result: finished, peeked }
}

/// Whole, byte by byte and in pieces; all the same.
pub(super) fn scan_all_ways(body: &[u8], is_inference: bool, random: &mut Random) -> Outcome {
    let whole = scan(rules(is_inference), [body]);
    let told = || format!("{} ({is_inference})", body.escape_ascii());
    assert_eq!(scan(rules(is_inference), body.chunks(1)), whole, "byte by byte: {}", told());
    let mut pieces = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(random.below(rest.len().min(40) + 1));
        pieces.push(piece);
        rest = behind;
    }
    assert_eq!(scan(rules(is_inference), pieces.iter().copied()), whole, "{pieces:?}: {}", told());
    whole
}

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    /// xorshift64
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % bound as u64) as usize
    }

    pub(super) fn choose<'a, T: ?Sized>(&mut self, among: &[&'a T]) -> &'a T {
        among[self.below(among.len())]
    }
}

/// Ours and the oracle's judgement, and where both accept, the member; `false`: the oracle has none.
fn compare_with_oracle(body: &[u8], outcome: &Outcome) -> bool {
    let told = body.escape_ascii();
    let oracle = serde_json::from_slice::<Value>(body);
    if oracle.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range")) {
        return false;
    }
    assert_eq!(outcome.result.is_ok(), oracle.is_ok(), "{told}: {:?}, {oracle:?}", outcome.result);
    let Ok(value) = oracle else { return true };
    match (&outcome.peeked, value.get("model")) {
        (Found::Text(text), Some(Value::String(model))) => assert_eq!(text, model, "{told}"),
        (Found::Other("not text"), Some(model)) => assert!(!model.is_string(), "{told}"),
        (Found::Other("absent"), None) | (Found::Other("twice"), Some(_)) => {}
        (Found::Other("too long"), Some(Value::String(model))) => assert!(model.len() > TEXT_BYTES_MAX),
        other => panic!("{told}: {other:?}"),
    }
    true
}

#[test]
fn what_is_json_is_accepted_however_it_is_cut() {
    let mut random = Random::new();
    for body in VALID {
        let outcome = scan_all_ways(body.as_bytes(), false, &mut random);
        assert_eq!(outcome.result, Ok(()), "{body}");
        assert!(compare_with_oracle(body.as_bytes(), &outcome));
    }
}

#[test]
fn what_is_not_is_refused_at_the_byte_that_gives_it_away() {
    let mut random = Random::new();
    for (body, at, reason) in INVALID {
        let outcome = scan_all_ways(body, false, &mut random);
        let expected = Invalid { what: What::Syntax(reason), at };
        assert_eq!(outcome.result, Err(expected), "{}", body.escape_ascii());
        assert!(compare_with_oracle(body, &outcome));
    }
}

#[test]
fn mutants_are_judged_as_serde_json_judges_them() {
    let valid = VALID.iter().map(|body| body.as_bytes());
    let seeds: Vec<&[u8]> = valid.chain(INVALID.iter().map(|(body, ..)| *body)).collect();
    let (mut random, mut valid, mut judged) = (Random::new(), 0, 0);
    for round in 0..100_000 {
        let body = mutant(&seeds, &mut random);
        let outcome = scan_all_ways(&body, false, &mut random);
        valid += usize::from(outcome.result.is_ok());
        judged += usize::from(compare_with_oracle(&body, &outcome));
        // Nothing to compare with but itself.
        if round % 4 == 0 {
            let shaped = scan_all_ways(&body, true, &mut random);
            assert!(outcome.result.is_ok() || shaped.result.is_err());
        }
    }
    assert!(valid > 10_000 && judged > 99_000, "{valid} valid, {judged} judged");
}

/// Bytes that matter somewhere in the grammar.
const SPICE: &[u8] = b"\"\"\\\\{}[],,::  \n\t019-+.eEuDdCc8abftn/\0\x1f\x7f\x80\xbf\xc3\xe6\xed\xf0\xf4";

fn mutant(seeds: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut body = random.choose(seeds).to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(body.len() + 1);
        let end = at + random.below(body.len() - at + 1).min(12);
        match random.below(6) {
            0 => drop(body.drain(at..end)),
            1 => body.insert(at, SPICE[random.below(SPICE.len())]),
            2 if at < body.len() => body[at] = SPICE[random.below(SPICE.len())],
            // A value within another, often a valid place for one.
            3 => drop(body.splice(at..end, random.choose(seeds).iter().copied())),
            4 => {
                let twice = body[at..end].to_vec();
                drop(body.splice(at..at, twice));
            }
            _ => {
                let inner = std::mem::take(&mut body);
                body = [b"{\"model\":".as_slice(), &inner, b"}"].concat();
            }
        }
    }
    body
}

#[test]
fn nesting_is_bounded_at_the_bracket_too_many() {
    for depth_max in [0, 1, 2, 7, 100, 127, 128, 200, 255] {
        let allowed = usize::from(depth_max).min(128);
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for depth in [allowed.saturating_sub(1), allowed, allowed + 1, allowed + 50] {
                let body = open.repeat(depth) + "1" + &close.repeat(depth);
                let rules = Rules { depth_max, peek: None, is_inference: false };
                let at = (allowed * open.len()) as u64;
                let expected =
                    if depth > allowed { Err(Invalid { what: What::TooDeep, at }) } else { Ok(()) };
                assert_eq!(scan(rules.clone(), [body.as_bytes()]).result, expected, "{depth_max} {depth}");
                assert_eq!(scan(rules, body.as_bytes().chunks(1)).result, expected, "{depth_max} {depth}");
            }
        }
    }
}

#[test]
fn brackets_close_what_they_opened_at_every_depth() {
    let body = "[{\"a\":".repeat(64) + "1" + &"}]".repeat(64);
    let rules = Rules { depth_max: 128, peek: None, is_inference: false };
    assert_eq!(scan(rules.clone(), [body.as_bytes()]).result, Ok(()));
    for at in (body.len() - 128)..body.len() {
        let mut wrong = body.clone().into_bytes();
        wrong[at] = if wrong[at] == b'}' { b']' } else { b'}' };
        let expected = Invalid { what: What::Syntax("a comma is missing"), at: at as u64 };
        assert_eq!(scan(rules.clone(), [&wrong[..]]).result, Err(expected));
    }
}

#[test]
fn a_peek_tells_what_is_known_so_far() {
    let stages: [(&str, Peeked); 9] = [
        (" ", Peeked::NotYet),
        ("{\"a\":[\"model\",{\"model\":\"no\"}],", Peeked::NotYet),
        ("\"mod\\u00", Peeked::NotYet),
        ("65l\":", Peeked::NotYet),
        ("\"gpt \\u00", Peeked::NotYet),
        ("e9\"", Peeked::Text("gpt é")),
        (",\"b\":\"c\"", Peeked::Text("gpt é")),
        (",\"model\"", Peeked::Twice),
        (":\"d\",\"model\":1}", Peeked::Twice),
    ];
    let mut scanner = Scanner::new(rules(false));
    assert_eq!(scanner.peeked(), Peeked::NotYet);
    for (piece, expected) in stages {
        assert_eq!(scanner.push(piece.as_bytes()), Ok(()));
        assert_eq!(scanner.peeked(), expected, "{piece}");
    }
    assert_eq!(scanner.finish(), Ok(()));
}

#[test]
fn a_peek_knows_what_is_not_there() {
    let long = format!("{{\"model\":\"{}", "é".repeat(129));
    let exact = format!("{{\"model\":\"{}\"", "é".repeat(128));
    let exact_text = "é".repeat(128);
    let table: [(&str, Peeked); 12] = [
        ("[", Peeked::Absent),
        ("1", Peeked::Absent),
        ("{", Peeked::NotYet),
        ("{}", Peeked::Absent),
        ("{\"Model\":\"a\"}", Peeked::Absent),
        ("{\"models\":\"a\",\"mode\":\"b\"}", Peeked::Absent),
        ("{\"model\":1", Peeked::NotText),
        ("{\"model\":null", Peeked::NotText),
        ("{\"model\":[\"a\"", Peeked::NotText),
        ("{\"model\":1,\"model\":\"a\"", Peeked::Twice),
        (&long, Peeked::NotYet),
        (&exact, Peeked::Text(&exact_text)),
    ];
    for (body, expected) in table {
        let mut scanner = Scanner::new(rules(false));
        assert_eq!(scanner.push(body.as_bytes()), Ok(()));
        assert_eq!(scanner.peeked(), expected, "{body}");
    }
    let mut scanner = Scanner::new(rules(false));
    assert_eq!(scanner.push((long + "\"").as_bytes()), Ok(()));
    assert_eq!(scanner.peeked(), Peeked::TooLong);
    let nothing = Scanner::new(Rules { peek: None, ..rules(false) });
    assert_eq!(nothing.peeked(), Peeked::Absent);
}

#[test]
fn long_strings_are_judged_at_every_offset() {
    for len in 0..100 {
        let plain = "x".repeat(len);
        for at in 0..=len {
            for (inner, valid) in
                [(&b"\\n"[..], true), (b"\x01", false), ("é".as_bytes(), true), (b"\xc3", false)]
            {
                let body = [b"\"", &plain.as_bytes()[..at], inner, &plain.as_bytes()[at..], b"\""].concat();
                assert_eq!(scan(rules(false), [&body[..]]).result.is_ok(), valid, "{}", body.escape_ascii());
            }
        }
    }
}

#[test]
fn an_error_tells_where_and_what() {
    let told = |body: &[u8], is_inference| scan(rules(is_inference), [body]).result.unwrap_err().to_string();
    assert_eq!(told(b"[1 2]", false), "not JSON at byte 3: a comma is missing");
    assert_eq!(told(&[b'['; 200], false), "nested too deep at byte 100");
    assert_eq!(told(b"{}", true), "not an inference request at byte 1: it has no inputs");
}

#[test]
fn a_scanner_is_small() {
    assert!(size_of::<Scanner>() <= 512, "{}", size_of::<Scanner>());
}
