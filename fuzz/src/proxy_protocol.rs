//! Checks of the PROXY protocol: any split of the bytes gives the same answer, a header is never longer than its
//! bound, and what we write reads as what was meant.

use tidegate::config::snapshot::ProxyVersion;
use tidegate::net::proxy_protocol::{Origin, V1_BYTES_MAX, V2_BYTES_MAX, append, parse};

pub fn proxy_protocol(data: &[u8]) {
    let whole = parse(data);
    check_prefixes(data, &whole);
    let Ok(Some(header)) = whole else {
        assert!(whole.is_err() || data.len() < V2_BYTES_MAX, "undecided beyond the longest header");
        return;
    };
    let most = if data[0] == b'P' { V1_BYTES_MAX } else { V2_BYTES_MAX };
    assert!(header.bytes <= data.len() && header.bytes <= most, "a header within its bound");
    if let Origin::Client { from, to } = header.origin {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut written = Vec::new();
            append(version, from, to, &mut written);
            let read = parse(&written).expect("ours is well-formed").expect("and whole");
            assert_eq!(read.bytes, written.len());
            let Origin::Client { from: read_from, to: read_to } = read.origin else {
                panic!("it names a client")
            };
            assert_eq!(read_from.ip().to_canonical(), from.ip().to_canonical());
            assert_eq!(read_to.ip().to_canonical(), to.ip().to_canonical());
            assert_eq!((read_from.port(), read_to.port()), (from.port(), to.port()));
        }
    }
}

/// A prefix says "more", or what the whole says.
fn check_prefixes(data: &[u8], whole: &Result<Option<tidegate::net::proxy_protocol::Header>, impl Sized>) {
    for end in 0..data.len().min(300) {
        match (parse(&data[..end]), whole) {
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (Ok(Some(early)), Ok(Some(late))) => assert_eq!(early, *late, "after {end} bytes"),
            _ => panic!("the answer after {end} bytes is not that after all"),
        }
    }
}
