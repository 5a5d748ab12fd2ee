//! What gRPC and gRPC-Web say on the wire, in any bytes: a timeout that is read can be written, and no longer; messages are
//! followed, and texts decoded, the same way however the bytes are cut; what is written as text is read as it was.

use tidegate::http::grpc::{Messages, timeout, write_timeout};
use tidegate::http::grpc_web::{Decoder, Form};

pub fn grpc(data: &[u8]) {
    if let Some(asked) = timeout(data) {
        let mut text = Vec::new();
        write_timeout(asked, &mut text);
        assert!(timeout(&text).is_some_and(|written| written <= asked), "{asked:?} became {text:?}");
    }
    let Some((&piece, bytes)) = data.split_first() else { return };
    let is_whole = Messages::new(1_000).see(bytes).is_ok();
    let mut messages = Messages::new(1_000);
    let is_cut = bytes.chunks(usize::from(piece).max(1)).all(|piece| messages.see(piece).is_ok());
    assert_eq!(is_whole, is_cut, "the pieces change what is allowed");

    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let is_whole = Decoder::default().decode(bytes, true, &mut whole).is_ok();
    let mut decoder = Decoder::default();
    let is_cut =
        bytes.chunks(usize::from(piece).max(1)).all(|piece| decoder.decode(piece, false, &mut cut).is_ok())
            && decoder.decode(b"", true, &mut cut).is_ok();
    assert_eq!(is_whole, is_cut, "the pieces change what is base64");
    assert!(!is_whole || whole == cut, "the pieces change what it stands for");
    let (mut text, mut read) = (Vec::new(), Vec::new());
    bytes.chunks(usize::from(piece).max(1)).for_each(|piece| Form::Text.write(piece, &mut text));
    assert!(Decoder::default().decode(&text, true, &mut read).is_ok() && read == bytes);
    if let Some((form, _)) = Form::of(bytes) {
        let mut same = Vec::new();
        form.write_grpc(bytes, &mut same);
        assert!(same.starts_with(b"application/grpc"));
    }
}
