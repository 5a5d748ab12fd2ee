//! The server name of a ClientHello: found in whatever pieces it comes, and where rustls takes the message for one, refused or the
//! one that rustls finds.

use rustls::server::Acceptor;
use tidegate::net::sni::{Hello, NoHello, Peek};

pub fn client_hello(data: &[u8]) {
    let whole = Peek::default().look(data);
    check_pieces(data, &whole);
    let mut acceptor = Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let Ok(ours) = &whole else { return };
                let ours =
                    ours.as_ref().expect("what is whole for rustls is so for us").server_name.as_deref();
                if let Some(name) = accepted.client_hello().server_name() {
                    assert_eq!(ours, Some(&*name.to_ascii_lowercase()));
                }
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// An answer is given once its bytes are there, and is the same for more of them.
fn check_pieces(data: &[u8], whole: &Result<Option<Hello>, NoHello>) {
    let mut peek = Peek::default();
    for end in 0..=data.len() {
        let seen = peek.look(&data[..end]);
        if seen != Ok(None) {
            assert_eq!(&seen, whole, "after {end} bytes");
            return;
        }
    }
    assert_eq!(whole, &Ok(None), "nothing was found piece by piece");
}
