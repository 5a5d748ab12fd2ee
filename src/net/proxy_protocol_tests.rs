//! Headers as in the specification, headers that break it, and that splits change nothing.

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(from: &str, to: &str) -> Origin {
    Origin::Client { from: address(from), to: address(to) }
}

/// The answer to all of the bytes, after every shorter prefix was asked first: each may only say "more", or
/// the final answer.
fn parsed(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let whole = parse(bytes);
    let mut decided = false;
    for end in 0..bytes.len() {
        let early = parse(&bytes[..end]);
        match (&early, &whole) {
            (Ok(None), _) => assert!(!decided, "taken back at {end} of {bytes:?}"),
            (Ok(Some(_)), _) => assert_eq!(early, whole),
            (Err(_), Err(_)) => {}
            (Err(_), Ok(_)) => panic!("refused at {end}, then taken: {bytes:?}"),
        }
        decided |= !matches!(early, Ok(None));
    }
    whole
}

/// A version 2 header from command, family, and what follows the length.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = V2_START.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&(body.len() as u16).to_be_bytes());
    header.extend_from_slice(body);
    header
}

#[test]
fn version_1_as_specified() {
    let cases: [(&[u8], Origin); 8] = [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", client("192.0.2.1:56324", "198.51.100.7:443")),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", client("255.255.255.255:65535", "255.255.255.255:65535")),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", client("0.0.0.0:0", "0.0.0.0:0")),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", client("[2001:db8::1]:1", "[::1]:2")),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            client(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
        (b"PROXY UNKNOWN\r\n", Origin::Own),
        (b"PROXY UNKNOWN whatever \xff stands here\r\n", Origin::Own),
        (
            b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Origin::Own,
        ),
    ];
    for (header, origin) in cases {
        assert!(header.len() <= V1_BYTES_MAX);
        let mut with_data = header.to_vec();
        assert_eq!(parsed(&with_data), Ok(Some(Header { bytes: header.len(), origin })));
        with_data.extend_from_slice(b"\r\nGET / HTTP/1.1\r\n");
        assert_eq!(parsed(&with_data), Ok(Some(Header { bytes: header.len(), origin })));
    }
}

#[test]
fn version_1_refuses_all_else() {
    let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
    assert_eq!(too_long.len(), V1_BYTES_MAX + 1);
    let cases: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"PROXX",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 1\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4\t192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\rX",
        b"PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 +1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 01 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7  443\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.7 1 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.7 1 443\r\n",
        &too_long,
    ];
    for case in cases {
        assert!(parsed(case).is_err(), "{:?}", String::from_utf8_lossy(case));
    }
}

#[test]
fn version_2_as_specified() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    let with = |body: &[u8], tlvs: usize| [body, &vec![0xea; tlvs]].concat();
    let from_v4 = client("192.0.2.1:56324", "198.51.100.7:443");
    let from_v6 = client("[::1]:3", "[::2]:4");
    let cases = [
        (v2(0x21, 0x11, &v4), from_v4),
        (v2(0x21, 0x11, &with(&v4, TLV_BYTES_MAX)), from_v4),
        (v2(0x21, 0x21, &v6), from_v6),
        (v2(0x21, 0x21, &with(&v6, 3)), from_v6),
        // LOCAL: what else it says is to be ignored.
        (v2(0x20, 0x00, &[]), Origin::Own),
        (v2(0x20, 0x11, &v4), Origin::Own),
        (v2(0x20, 0xff, &[1, 2, 3]), Origin::Own),
        (v2(0x21, 0x00, &[]), Origin::Own),
        (v2(0x21, 0x00, &[9; 100]), Origin::Own),
        // Not TCP: the connection is, so these are not its addresses.
        (v2(0x21, 0x12, &v4), Origin::Own),
        (v2(0x21, 0x22, &v6), Origin::Own),
        (v2(0x21, 0x10, &v4), Origin::Own),
        (v2(0x21, 0x31, &[0; 216]), Origin::Own),
        (v2(0x21, 0x32, &with(&[0; 216], TLV_BYTES_MAX)), Origin::Own),
    ];
    for (header, origin) in cases {
        assert!(header.len() <= V2_BYTES_MAX);
        let mut with_data = header.clone();
        assert_eq!(parsed(&with_data), Ok(Some(Header { bytes: header.len(), origin })));
        with_data.extend_from_slice(b"data");
        assert_eq!(parsed(&with_data), Ok(Some(Header { bytes: header.len(), origin })));
    }
}

#[test]
fn version_2_refuses_all_else() {
    let cases = [
        b"\r\n\r\n\0\r\nQUIX".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        b"\x16\x03\x01".to_vec(),
        v2(0x11, 0x11, &[0; 12]),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x41, &[0; 12]),
        v2(0x21, 0x13, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x00, &[0; V2_BYTES_MAX - V2_FIXED_BYTES + 1]),
        v2(0x20, 0x00, &[0; u16::MAX as usize]),
    ];
    for case in cases {
        assert!(parsed(&case).is_err(), "{:?}", &case[..case.len().min(32)]);
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let cases = [
        ("192.0.2.1:1", "198.51.100.7:65535", client("192.0.2.1:1", "198.51.100.7:65535")),
        ("[2001:db8::1]:1", "[::1]:2", client("[2001:db8::1]:1", "[::1]:2")),
        // A dual-stack socket's peer is an IPv4 client.
        ("[::ffff:192.0.2.1]:1", "[::ffff:198.51.100.7]:2", client("192.0.2.1:1", "198.51.100.7:2")),
        ("192.0.2.1:1", "[2001:db8::1]:2", client("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2")),
        ("[2001:db8::1]:1", "192.0.2.1:2", client("[2001:db8::1]:1", "[::ffff:192.0.2.1]:2")),
    ];
    for (from, to, expected) in cases {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut header = Vec::new();
            append(version, address(from), address(to), &mut header);
            assert_eq!(parsed(&header), Ok(Some(Header { bytes: header.len(), origin: expected })));
        }
    }
}

/// As the specification's own examples and other implementations have them, byte by byte.
#[test]
fn bytes_as_others_write_them() {
    let (from, to) = (address("192.168.0.1:56324"), address("192.168.0.11:443"));
    let mut text = Vec::new();
    append(ProxyVersion::V1, from, to, &mut text);
    assert_eq!(text, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    let mut binary = Vec::new();
    append(ProxyVersion::V2, from, to, &mut binary);
    assert_eq!(
        binary,
        b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb"
    );
}
