//! ClientHellos of rustls and made by hand: whole, in pieces, damaged.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::config::tls::provider;

/// What rustls says first, asking for this name.
fn hello(name: &'static str) -> Vec<u8> {
    let builder =
        ClientConfig::builder_with_provider(provider().clone()).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

fn asked(bytes: &[u8]) -> Result<Option<Option<String>>, NoHello> {
    let seen = Peek::default().look(bytes)?;
    Ok(seen.map(|hello| hello.server_name.map(|name| name.to_string())))
}

/// The same message in records of so many bytes.
fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
    let message = &bytes[HEADER_BYTES..];
    let record = |part: &[u8]| [&[HANDSHAKE, 3, 1, (part.len() >> 8) as u8, part.len() as u8], part].concat();
    message.chunks(size).flat_map(record).collect()
}

/// A ClientHello of these extensions.
fn with_extensions(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &sized(content)].concat())
        .collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &sized(&extensions)].concat();
    let message = [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat();
    in_records(&[&[0; HEADER_BYTES][..], &message].concat(), RECORD_BYTES_MAX)
}

fn named(name: &[u8]) -> (u16, Vec<u8>) {
    let entry = [&[HOST_NAME][..], &(name.len() as u16).to_be_bytes(), name].concat();
    (SERVER_NAME, [&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
}

#[test]
fn the_name_is_found_in_whatever_pieces_it_comes() {
    let whole = hello("models.Example.test");
    let expected = Ok(Some(Some("models.example.test".to_owned())));
    for size in [1, 2, 3, 4, 5, 50, 200, 1 << 14] {
        let bytes = in_records(&whole, size);
        assert_eq!(asked(&bytes), expected, "records of {size}");
        let mut peek = Peek::default();
        for end in 0..bytes.len() {
            assert_eq!(peek.look(&bytes[..end]), Ok(None), "{end} bytes in records of {size}");
        }
        let found = peek.look(&bytes).unwrap().unwrap();
        assert_eq!(found.server_name.as_deref(), Some("models.example.test"));
    }
    let behind = [&whole[..], b"what follows"].concat();
    assert_eq!(asked(&behind), expected);
}

#[test]
fn no_name_is_no_fault() {
    assert_eq!(asked(&hello("127.0.0.1")), Ok(Some(None)));
    assert_eq!(asked(&with_extensions(&[])), Ok(Some(None)));
    assert_eq!(asked(&with_extensions(&[(16, vec![1, 2, 3])])), Ok(Some(None)));
    // TLS 1.0 without extensions at all.
    let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    assert_eq!(asked(&in_records(&[&[0; 5][..], &message].concat(), 1000)), Ok(Some(None)));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    assert_eq!(asked(&with_extensions(&[named(b"a.test")])), Ok(Some(Some("a.test".into()))));
    let refused =
        |extensions: &[(u16, Vec<u8>)]| asked(&with_extensions(extensions)) == Err(NoHello::Malformed);
    assert!(refused(&[named(b"a.test"), named(b"b.test")]), "two lists");
    assert!(refused(&[named(b"")]));
    assert!(refused(&[named(b"a.test\0.b.test")]));
    assert!(refused(&[named(b"a b")]));
    assert!(refused(&[named(&[b'a'; 254])]));
    assert!(refused(&[(SERVER_NAME, vec![])]));
    let mut longer = named(b"a.test");
    longer.1.push(0);
    assert!(refused(&[longer]), "something behind the list");
    let two = [&named(b"a.test").1[2..], &named(b"b.test").1[2..]].concat();
    assert!(refused(&[(SERVER_NAME, [&(two.len() as u16).to_be_bytes()[..], &two].concat())]), "two names");
}

#[test]
fn what_is_no_client_hello_is_told_at_its_first_wrong_byte() {
    for garbage in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x15\x03\x03\x00\x02\x01\x00", b"\x16\x02", b"\x80\x2e\x01\x03"]
    {
        assert_eq!(asked(garbage), Err(NoHello::Malformed), "{garbage:?}");
    }
    assert_eq!(asked(b"\x16\x03\x01\x00\x00"), Err(NoHello::Malformed), "an empty record");
    assert_eq!(asked(b"\x16\x03\x01\x40\x01"), Err(NoHello::Malformed), "a record that is too long");
    assert_eq!(asked(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Err(NoHello::Malformed), "a ServerHello");
    assert_eq!(asked(b"\x16\x03\x01\x00\x04\x01\x00\xc0\x01"), Err(NoHello::TooLarge));
    assert_eq!(asked(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"), Err(NoHello::Malformed), "nothing in it");
}

/// Every cut and every changed byte: an answer, and never a name that is not there.
#[test]
fn damage_is_refused_or_harmless() {
    let whole = hello("models.test");
    for at in 0..whole.len() {
        for with in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = with;
            if let Ok(Some(Some(name))) = asked(&bytes) {
                assert_eq!(name.len(), "models.test".len(), "byte {at} as {with}");
            }
        }
    }
}
