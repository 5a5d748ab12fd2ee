//! Frames of a WebSocket: where one ends does not depend on how its bytes are cut, and is where a reader of whole frames finds
//! it; nothing is ever added behind a Close.

use tidegate::http::websocket::Frames;

pub fn websocket(data: &[u8]) {
    // The first byte says how the rest is cut.
    let Some((&cut, bytes)) = data.split_first() else { return };
    let mut whole = Frames::default();
    whole.saw(bytes);
    let mut pieces = Frames::default();
    bytes.chunks(usize::from(cut).max(1)).for_each(|piece| pieces.saw(piece));
    assert_eq!(whole.may_close(), pieces.may_close());
    assert_eq!(whole.may_close(), ends_between_frames(bytes));
}

/// RFC 6455 §5.2, read at leisure.
fn ends_between_frames(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let [flags, length, ..] = *bytes else { return false };
        let masked = if length & 0x80 != 0 { 4 } else { 0 };
        let (extended, short) = match length & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let Some(long) = bytes.get(2..2 + extended) else { return false };
        let length =
            if extended == 0 { short } else { long.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)) };
        let whole = (2 + extended + masked) as u64;
        if flags & 0x0f == 8 && bytes.len() as u64 >= whole {
            return false;
        }
        match whole.checked_add(length).filter(|&end| end <= bytes.len() as u64) {
            Some(end) => bytes = &bytes[end as usize..],
            None => return false,
        }
    }
    true
}
