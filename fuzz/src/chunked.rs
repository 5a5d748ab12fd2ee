//! Checks of the chunk decoder: it never panics, decodes the same however the bytes are cut into pieces,
//! never consumes beyond the message, and what it lets pass decodes to the same payload again.

use tidegate::http::h1_body::{ChunkError, ChunkLimits, ChunkedDecoder};

/// Any bytes as a chunked body.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, &[data.len()]);
    let cut = data.iter().fold(0usize, |sum, &byte| sum.wrapping_mul(31) + byte as usize) % (data.len() + 1);
    same(&whole, &decode(data, &[cut, data.len()]));
    if data.len() <= 512 {
        same(&whole, &decode(data, &(0..=data.len()).collect::<Vec<_>>()));
    }
    if let Ok(whole) = whole {
        assert!(whole.payload.len() <= whole.consumed);
        // The proxy passes the consumed bytes on: they have to mean the same to the next reader.
        let passed = &data[..whole.consumed];
        assert_eq!(decode(passed, &[passed.len()]), Ok(whole));
    }
}

#[derive(Debug, PartialEq)]
struct Decoded {
    payload: Vec<u8>,
    consumed: usize,
    complete: bool,
}

/// An error in a line that is cut short may be found only when its end comes: the pieces then say nothing.
fn same(whole: &Result<Decoded, ChunkError>, pieces: &Result<Decoded, ChunkError>) {
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Err(_), Ok(pieces)) => assert!(!pieces.complete),
        (Ok(whole), Err(error)) => panic!("{error} only in pieces, not in {whole:?}"),
        (Err(_), Err(_)) => {}
    }
}

fn decode(data: &[u8], ends: &[usize]) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    let mut decoded = Decoded { payload: Vec::new(), consumed: 0, complete: false };
    for &end in ends {
        let input = &data[decoded.consumed..end.max(decoded.consumed)];
        let advance = decoder.advance(input, |piece| decoded.payload.extend_from_slice(piece))?;
        assert!(advance.consumed <= input.len());
        decoded.consumed += advance.consumed;
        decoded.complete = advance.complete;
        assert_eq!(decoder.payload_bytes(), decoded.payload.len() as u64);
        if advance.complete {
            assert_eq!(&data[decoded.consumed - 2..decoded.consumed], b"\r\n");
            break;
        }
    }
    Ok(decoded)
}
