//! Checks of the HTTP/1 head parsers: they never panic, decide the same however the bytes are cut into
//! pieces and with every level of instructions that this machine has, agree with httparse about what they
//! accept, and accept nothing that another parser could frame differently. Does not check which error a
//! refused head gets; the unit tests do.

use tidegate::http::h1_parse::{Progress, parse_request_at, parse_response_at};
use tidegate::http::head::{Field, Framing, HeadLimits, Name, RequestHead, ResponseHead, Version};
use tidegate::http::scan::Level;

/// Any bytes as a request head.
pub fn request_head(data: &[u8]) {
    let head = same_in_pieces(data, |level, bytes, progress, limits, head: &mut RequestHead| {
        parse_request_at(level, bytes, progress, limits, head).ok()
    });
    let Some(head) = head else { return };
    lines_cover_the_head(data, &head.fields, head.head_len);
    assert!(!data[..head.head_len].contains(&0));
    framing_is_single(&head.fields, head.framing);
    assert!(head.target.end() <= head.head_len && head.path.end() <= head.target.end());
    assert!(head.query.end() <= head.target.end());
    let hosts = head.fields.iter().filter(|field| field.known == Name::Host).count();
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10));
    assert!(!head.authority.is_empty() || hosts == 0);

    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(data), Ok(httparse::Status::Complete(head.head_len)));
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method_bytes(data)));
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target.of(data)));
    assert_eq!(theirs.version, Some(head.version as u8));
    same_fields(data, &head.fields, theirs.headers);
}

/// Any bytes as a response head.
pub fn response_head(data: &[u8]) {
    let head = same_in_pieces(data, |level, bytes, progress, limits, head: &mut ResponseHead| {
        parse_response_at(level, bytes, progress, limits, head).ok()
    });
    let Some(head) = head else { return };
    lines_cover_the_head(data, &head.fields, head.head_len);
    assert!((100..=599).contains(&head.status));
    match head.framing {
        Framing::Close => assert!(!head.keep_alive || head.status == 304),
        framing if matches!(head.status, 100..=199 | 204) => assert_eq!(framing, Framing::None),
        framing => framing_is_single(&head.fields, framing),
    }

    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Response::new(&mut fields);
    assert_eq!(theirs.parse(data), Ok(httparse::Status::Complete(head.head_len)));
    assert_eq!(theirs.code, Some(head.status));
    assert_eq!(theirs.version, Some(head.version as u8));
    same_fields(data, &head.fields, theirs.headers);
}

/// The head, if `data` holds a complete one. Parsed at once, in two pieces and, if short, byte by byte, each
/// with every level.
fn same_in_pieces<H: Default + std::fmt::Debug>(
    data: &[u8],
    parse: impl Fn(Level, &[u8], &mut Progress, &HeadLimits, &mut H) -> Option<bool>,
) -> Option<H> {
    let limits = HeadLimits::default();
    let parse_at = |level, ends: &mut dyn Iterator<Item = usize>| {
        let (mut progress, mut head) = (Progress::default(), H::default());
        for end in ends {
            if parse(level, &data[..end], &mut progress, &limits, &mut head)? {
                return Some(head);
            }
        }
        None
    };
    let whole = parse_at(Level::best(), &mut [data.len()].into_iter());
    let shown = format!("{whole:?}");
    // Where to cut is part of the input, so that a fuzzer can move it.
    let cut = data.iter().fold(0usize, |sum, &byte| sum.wrapping_mul(31) + byte as usize) % (data.len() + 1);
    for level in Level::all() {
        let name = level.name();
        let at_once = parse_at(level, &mut [data.len()].into_iter());
        assert_eq!(format!("{at_once:?}"), shown, "{name} at once");
        let in_two = parse_at(level, &mut [cut, data.len()].into_iter());
        assert_eq!(format!("{in_two:?}"), shown, "{name} cut at {cut}");
        if data.len() <= 512 {
            let by_byte = parse_at(level, &mut (0..=data.len()));
            assert_eq!(format!("{by_byte:?}"), shown, "{name} byte by byte");
        }
    }
    whole
}

/// Field lines are contiguous, end in CRLF, hold no other CR or LF, and the empty line follows them.
fn lines_cover_the_head(data: &[u8], fields: &[Field], head_len: usize) {
    let mut end = head_len - 2;
    assert_eq!(&data[end..head_len], b"\r\n");
    for field in fields.iter().rev() {
        assert_eq!(field.line().end(), end);
        end = field.line().start as usize;
        let line = field.line().of(data).strip_suffix(b"\r\n").expect("a line ends in CRLF");
        assert!(!line.contains(&b'\r') && !line.contains(&b'\n'));
        assert_eq!(field.name.start as usize, end);
        assert_eq!(data[field.name.end()], b':');
        let value = field.value.of(data);
        assert!(field.value.end() <= field.line().end() - 2);
        assert_eq!(value, value.trim_ascii());
    }
    assert_eq!(&data[end - 2..end], b"\r\n", "the start line ends where the fields begin");
}

/// What is accepted has one reading: at most one framing field, in its plainest form.
fn framing_is_single(fields: &[Field], framing: Framing) {
    let count = |known| fields.iter().filter(|field| field.known == known).count();
    let (lengths, encodings) = (count(Name::ContentLength), count(Name::TransferEncoding));
    assert!(lengths + encodings <= 1);
    assert_eq!(framing == Framing::Chunked, encodings == 1);
    assert!(lengths == 1 || !matches!(framing, Framing::Length(_)));
}

fn same_fields(data: &[u8], ours: &[Field], theirs: &[httparse::Header<'_>]) {
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(theirs) {
        assert_eq!((our.name.of(data), our.value.of(data)), (their.name.as_bytes(), their.value));
    }
}
