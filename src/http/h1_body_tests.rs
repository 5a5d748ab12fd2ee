//! Tables of chunked bodies that must pass or fail, and agreement with a plain whole-stream reference on
//! generated and damaged streams cut into random pieces.

use super::*;

/// What became of a stream presented as a connection would: unconsumed bytes again, with more behind them.
#[derive(Debug, PartialEq)]
struct Decoded {
    payload: Vec<u8>,
    consumed: usize,
    complete: bool,
}

fn decode(
    stream: &[u8],
    limits: ChunkLimits,
    ends: impl IntoIterator<Item = usize>,
) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkedDecoder::new(limits);
    let (mut payload, mut consumed, mut complete) = (Vec::new(), 0, false);
    for end in ends.into_iter().chain([stream.len()]) {
        let input = &stream[consumed..end.clamp(consumed, stream.len())];
        let advance = decoder.advance(input, |piece| {
            assert!(!piece.is_empty());
            payload.extend_from_slice(piece);
        })?;
        consumed += advance.consumed;
        complete = advance.complete;
        assert_eq!(decoder.is_complete(), complete);
        assert_eq!(decoder.payload_bytes(), payload.len() as u64);
        if complete || end >= stream.len() {
            break;
        }
    }
    Ok(Decoded { payload, consumed, complete })
}

fn outcome(stream: &str) -> Result<(String, bool), ChunkError> {
    let decoded = decode(stream.as_bytes(), ChunkLimits::default(), [])?;
    Ok((String::from_utf8(decoded.payload).expect("the tests' payload is text"), decoded.complete))
}

/// Payload may go by elsewhere instead: the decoder goes on behind it as if it had seen it.
#[test]
fn passed_payload_is_as_good_as_seen() {
    let (head, tail) = (b"5;a=b\r\nab".as_slice(), b"\r\n2\r\nxy\r\n0\r\n\r\n".as_slice());
    for passed in 0..=3 {
        let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
        assert_eq!(decoder.chunk_bytes_left(), 0);
        assert_eq!(decoder.advance(head, |_| {}).map(|advance| advance.consumed), Ok(head.len()));
        assert_eq!(decoder.chunk_bytes_left(), 3);
        decoder.pass(passed);
        assert_eq!((decoder.payload_bytes(), decoder.payload_bytes_announced()), (2 + passed, 5));
        let rest = [&b"cde"[passed as usize..], tail].concat();
        let advance = decoder.advance(&rest, |_| {}).expect("valid");
        assert!(advance.complete && advance.consumed == rest.len() && decoder.payload_bytes() == 7);
    }
}

#[test]
fn valid_streams_decode() {
    for (stream, payload) in [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("003\r\nabc\r\n000\r\n\r\n", "abc"),
        ("0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", "abc"),
        ("a\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n\r\n", "0123456789\r\n"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("1;a\r\nx\r\n1;a=b;c=\"d\\\"\t \u{e9}\";e\r\ny\r\n0;f\r\n\r\n", "xy"),
        ("0\r\nExpires-Not: x\r\ngrpc-status: 0\r\nETag: \"\"\r\n\r\n", ""),
    ] {
        assert_eq!(outcome(stream), Ok((payload.to_owned(), true)), "{stream:?}");
        let stream = format!("{stream}GET / HTTP/1.1\r\n");
        let decoded = decode(stream.as_bytes(), ChunkLimits::default(), []).expect("valid");
        assert_eq!(decoded.consumed, stream.len() - 16, "what follows is the next message's");
    }
}

#[test]
fn malformed_framing_is_refused() {
    for (stream, error) in [
        ("\r\n", ChunkError::Size),
        (";a\r\n", ChunkError::Size),
        ("x\r\n", ChunkError::Size),
        ("+3\r\n", ChunkError::Size),
        ("-1\r\n", ChunkError::Size),
        (" 3\r\n", ChunkError::Size),
        ("3 \r\n", ChunkError::Size),
        ("3\t;a\r\n", ChunkError::Size),
        ("0x3\r\n", ChunkError::Size),
        ("3_0\r\n", ChunkError::Size),
        ("3\n", ChunkError::Size),
        ("3\rx", ChunkError::Size),
        ("3,3\r\n", ChunkError::Size),
        ("3\0\r\n", ChunkError::Size),
        ("00000000000000003\r\n", ChunkError::Size),
        ("10000000000000000\r\n", ChunkError::Size),
        ("3;\r\n", ChunkError::Extension),
        ("3; a\r\n", ChunkError::Extension),
        ("3;a =b\r\n", ChunkError::Extension),
        ("3;a= b\r\n", ChunkError::Extension),
        ("3;a=\r\n", ChunkError::Extension),
        ("3;=b\r\n", ChunkError::Extension),
        ("3;a=b=c\r\n", ChunkError::Extension),
        ("3;a;;b\r\n", ChunkError::Extension),
        ("3;a\n", ChunkError::Extension),
        ("3;a=\"b\n\"\r\n", ChunkError::Extension),
        ("3;a=\"b\r\n\"\r\n", ChunkError::Extension),
        ("3;a=\"b\\\r\n", ChunkError::Extension),
        ("3;a=\"b\"c\r\n", ChunkError::Extension),
        ("3;a\0\r\n", ChunkError::Extension),
        ("3;a=\"\x7f\"\r\n", ChunkError::Extension),
        ("3;a\rb\r\n", ChunkError::Size),
        ("3\r\nabcd\r\n", ChunkError::DataEnd),
        ("3\r\nabc\n", ChunkError::DataEnd),
        ("3\r\nabc\rx", ChunkError::DataEnd),
        ("3\r\nabc0\r\n\r\n", ChunkError::DataEnd),
        ("0\r\na : b\r\n\r\n", ChunkError::Trailer("white space before colon")),
        ("0\r\n a: b\r\n\r\n", ChunkError::Trailer("line begins with white space")),
        ("0\r\na: b\r\n c\r\n\r\n", ChunkError::Trailer("line begins with white space")),
        ("0\r\na: b\n\r\n", ChunkError::Trailer("bare LF")),
        ("0\r\n\n", ChunkError::Trailer("bare LF")),
        ("0\r\na: \0\r\n", ChunkError::Trailer("NUL in field value")),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", ChunkError::Trailer("white space before colon")),
    ] {
        assert_eq!(outcome(stream), Err(error), "{stream:?}");
    }
}

#[test]
fn forbidden_trailers_are_refused_in_any_spelling() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Authorization",
        "Content-Encoding",
        "content-type",
        "Content-Range",
        "Set-Cookie",
        "Cookie",
        "Range",
        "Expect",
        "Keep-Alive",
        "Proxy-Authorization",
        "X-Forwarded-For",
        "Forwarded",
        "Content_Length",
        "Transfer.Encoding",
        "content_type",
        "x_forwarded_for",
        "If-None-Match",
        "X-Request-Id",
    ] {
        let stream = format!("0\r\n{name}: 1\r\n\r\n");
        assert_eq!(outcome(&stream), Err(ChunkError::TrailerName), "{name}");
    }
}

#[test]
fn bounds_are_exact() {
    let limits = ChunkLimits { extension_bytes_max: 6, trailer_bytes_max: 12, trailer_fields_max: 2 };
    let outcome = |stream: &str| decode(stream.as_bytes(), limits, []).map(|decoded| decoded.complete);
    assert_eq!(outcome("1;ab\r\nx\r\n0;cd\r\n\r\n"), Ok(true));
    assert_eq!(outcome("1;ab\r\nx\r\n0;cde\r\n\r\n"), Err(ChunkError::ExtensionsTooLarge), "over all chunks");
    assert_eq!(outcome("1;abcdef"), Err(ChunkError::ExtensionsTooLarge), "before the line ends");
    assert_eq!(outcome("0\r\na: 1\r\nb: 2\r\n\r\n"), Ok(true));
    assert_eq!(outcome("0\r\na: 1\r\nb: 22\r\n\r\n"), Err(ChunkError::TrailersTooLarge));
    assert_eq!(outcome("0\r\na: 123456789"), Err(ChunkError::TrailersTooLarge), "before the line ends");
    assert_eq!(outcome("0\r\na:\r\nb:\r\nc:\r\n"), Err(ChunkError::TooManyTrailers));
    let unbounded = ChunkLimits { trailer_bytes_max: usize::MAX, ..ChunkLimits::default() };
    let stream = format!("0\r\na: {}\r\n\r\n", "x".repeat(70_000));
    assert_eq!(
        decode(stream.as_bytes(), unbounded, []),
        Err(ChunkError::TrailersTooLarge),
        "offsets are u16"
    );
}

#[test]
fn the_largest_size_does_not_overflow() {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    let advance = decoder.advance(b"ffffffffffffffff\r\nabc", |_| {});
    assert_eq!(advance, Ok(Advance { consumed: 21, complete: false }));
    assert_eq!(decoder.payload_bytes(), 3);
}

#[test]
fn unvalidated_bytes_are_never_consumed() {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    for (input, consumed) in [
        ("3", 0),
        ("3;x\r", 0),
        ("3;x\r\n", 5),
        ("", 0),
        ("ab", 2),
        ("c\r", 1),
        ("\r", 0),
        ("\r\n0\r", 2),
        ("0\r\n\r", 3),
        ("\r", 0),
        ("\r\nNEXT", 2),
        ("NEXT", 0),
    ] {
        assert_eq!(
            decoder.advance(input.as_bytes(), |_| {}).map(|advance| advance.consumed),
            Ok(consumed),
            "{input:?}"
        );
    }
    assert!(decoder.is_complete());

    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    for (input, consumed) in
        [("0\r\na: b", 3), ("a: b\r", 0), ("a: b\r\nc", 6), ("c: d\r\n\r", 6), ("\r\n", 2)]
    {
        assert_eq!(
            decoder.advance(input.as_bytes(), |_| {}).map(|advance| advance.consumed),
            Ok(consumed),
            "{input:?}"
        );
    }
    assert!(decoder.is_complete());
}

#[test]
fn length_bodies_leave_the_next_message_alone() {
    let mut body = LengthBody::new(5);
    assert_eq!((body.advance(3), body.is_complete()), (3, false));
    assert_eq!((body.advance(0), body.is_complete()), (0, false));
    assert_eq!((body.advance(10), body.is_complete()), (2, true));
    assert_eq!(body.advance(10), 0);
    assert_eq!(LengthBody::new(u64::MAX).advance(usize::MAX), usize::MAX);
}

/// What a whole stream is, by the plainest reading of RFC 9112 §7.1.
#[derive(Debug, Default)]
struct Reference {
    payload: Vec<u8>,
    /// Ranges that must not be consumed in part: lines, and the line ends behind payload.
    units: Vec<(usize, usize)>,
    verdict: Verdict,
}

#[derive(Debug, Default, PartialEq)]
enum Verdict {
    /// Ends right there.
    Complete(usize),
    Invalid,
    /// Valid so far as its lines are whole.
    #[default]
    Unfinished,
}

fn reference(stream: &[u8]) -> Reference {
    let mut reference = Reference::default();
    reference.verdict = read_chunks(stream, &mut reference).unwrap_or(Verdict::Unfinished);
    reference
}

/// `None` where the stream ends too early.
fn read_chunks(stream: &[u8], reference: &mut Reference) -> Option<Verdict> {
    let mut at = 0;
    loop {
        let Some(line) = take_line(stream, &mut at, reference)? else { return Some(Verdict::Invalid) };
        let (digits, extensions) = match line.split_once(';') {
            Some((digits, extensions)) => (digits, Some(extensions)),
            None => (line.as_str(), None),
        };
        let hex =
            !digits.is_empty() && digits.len() <= 16 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        if !hex || !extensions.is_none_or(are_extensions) {
            return Some(Verdict::Invalid);
        }
        let size = u64::from_str_radix(digits, 16).expect("at most 16 hex digits");
        if size == 0 {
            break;
        }
        let rest = &stream[at..];
        let taken = rest.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        reference.payload.extend_from_slice(&rest[..taken]);
        at += taken;
        if taken as u64 != size {
            return None;
        }
        reference.units.push((at, at + 2));
        match &stream[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return None,
            _ => return Some(Verdict::Invalid),
        }
    }
    loop {
        let Some(line) = take_line(stream, &mut at, reference)? else { return Some(Verdict::Invalid) };
        if line.is_empty() {
            return Some(Verdict::Complete(at));
        }
        let Some((name, value)) = line.split_once(':') else { return Some(Verdict::Invalid) };
        let token = !name.is_empty() && name.bytes().all(scan::is_token);
        let text = value.chars().all(|byte| byte == '\t' || (byte >= ' ' && byte != '\x7f'));
        if !token || !text || is_forbidden_in_trailers(name.as_bytes()) {
            return Some(Verdict::Invalid);
        }
    }
}

/// The bytes before the next LF as Latin-1, without CR; `Some(None)` if that is not before it.
fn take_line(stream: &[u8], at: &mut usize, reference: &mut Reference) -> Option<Option<String>> {
    let start = *at;
    let len = stream[start..].iter().position(|&byte| byte == b'\n');
    reference.units.push((start, len.map_or(stream.len() + 1, |len| start + len + 1)));
    *at = start + len? + 1;
    let line: String = stream[start..*at - 1].iter().map(|&byte| char::from(byte)).collect();
    Some(line.strip_suffix('\r').map(str::to_owned).filter(|line| !line.contains('\r')))
}

/// `token [ "=" ( token / quoted-string ) ] *( ";" ... )`, by recursion.
fn are_extensions(text: &str) -> bool {
    let token_len = |text: &str| text.bytes().take_while(|&byte| scan::is_token(byte)).count();
    let name = token_len(text);
    let mut rest = &text[name..];
    if let Some(value) = rest.strip_prefix('=') {
        let len = if value.starts_with('"') { quoted_len(value) } else { token_len(value) };
        if len == 0 {
            return false;
        }
        rest = &value[len..];
    }
    name > 0 && (rest.is_empty() || rest.strip_prefix(';').is_some_and(are_extensions))
}

/// 0 if it is none.
fn quoted_len(text: &str) -> usize {
    let mut escaped = false;
    for (index, char) in text.char_indices().skip(1) {
        match char {
            '\0'..='\x08' | '\x0a'..='\x1f' | '\x7f' => return 0,
            _ if escaped => escaped = false,
            '"' => return index + 1,
            '\\' => escaped = true,
            _ => {}
        }
    }
    0
}

#[test]
fn random_streams_agree_with_the_reference() {
    let mut random = Random(0x853c_49e6_748f_ea9b);
    let mut complete = 0;
    for _ in 0..30_000 {
        let stream = random.stream();
        let expected = reference(&stream);
        let ends = random.ends(stream.len());
        let shown = stream.escape_ascii();
        match decode(&stream, ChunkLimits::default(), ends.iter().copied()) {
            Ok(decoded) => {
                assert_eq!(decoded.payload, expected.payload, "{shown}");
                match expected.verdict {
                    Verdict::Complete(len) => {
                        assert_eq!((decoded.consumed, decoded.complete), (len, true), "{shown}")
                    }
                    Verdict::Unfinished => assert!(!decoded.complete, "{shown}"),
                    Verdict::Invalid => panic!("accepted: {shown}"),
                }
                let split =
                    expected.units.iter().find(|unit| unit.0 < decoded.consumed && decoded.consumed < unit.1);
                assert_eq!(split, None, "{} of {shown}", decoded.consumed);
                complete += usize::from(decoded.complete);
            }
            // A bad byte in a line that is cut short may be found before its end.
            Err(error) => assert!(!matches!(expected.verdict, Verdict::Complete(_)), "{error}: {shown}"),
        }
        let whole = decode(&stream, ChunkLimits::default(), []).ok();
        let dripped = decode(&stream, ChunkLimits::default(), 1..).ok();
        if expected.verdict != Verdict::Unfinished {
            assert_eq!(dripped, whole, "{shown}");
        }
    }
    assert!(complete > 10_000, "the generator makes too few valid streams: {complete}");
}

/// Marsaglia's xorshift64: the same streams on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn stream(&mut self) -> Vec<u8> {
        const EXTENSIONS: [&str; 6] = ["", "", "", ";a", ";a=b;c", ";a=\"b;\\\"c\""];
        const TRAILERS: [&str; 5] = ["", "", "x: y\r\n", "a:\r\ngrpc-status: 0\r\n", "Content-Length: 1\r\n"];
        let mut stream = Vec::new();
        for _ in 0..self.below(4) {
            let size = 1 + self.below(40);
            let zeros = "0".repeat(self.below(3));
            let extension = EXTENSIONS[self.below(EXTENSIONS.len())];
            stream.extend_from_slice(format!("{zeros}{size:x}{extension}\r\n").as_bytes());
            stream.extend((0..size).map(|_| b"ab\r\n0;"[self.below(6)]));
            stream.extend_from_slice(b"\r\n");
        }
        let trailers = TRAILERS[self.below(TRAILERS.len())];
        stream.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        if self.below(2) == 0 {
            (0..=self.below(3)).for_each(|_| self.damage(&mut stream));
        }
        stream
    }

    fn damage(&mut self, stream: &mut Vec<u8>) {
        const BYTES: &[u8] = b"\r\n\r\n0123fFxX;=\"\\ \t:,+-_\0\x7f\xff";
        let place = self.below(stream.len());
        let byte = BYTES[self.below(BYTES.len())];
        match self.below(4) {
            0 => stream[place] = byte,
            1 => stream.insert(place, byte),
            2 if stream.len() > 1 => drop(stream.remove(place)),
            _ => stream.truncate(place.max(1)),
        }
    }

    fn ends(&mut self, len: usize) -> Vec<usize> {
        let mut ends: Vec<usize> = (0..self.below(5)).map(|_| self.below(len + 1)).collect();
        ends.sort_unstable();
        ends
    }
}
