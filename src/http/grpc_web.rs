//! Owns the forms that gRPC-Web has on the wire (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>): trailers as
//! a message at the end of a body, and all of it as base64 for browsers that read nothing else. Knows no connection.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Binary,
    Text,
}

const GRPC: &[u8] = b"application/grpc";
const BINARY: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"application/grpc-web-text";
/// The flag of the message that is trailers.
const TRAILERS: u8 = 0x80;

impl Form {
    /// Of a content-type, with what stands behind its name: `+proto`, parameters. `None`: it is not gRPC-Web's.
    pub fn of(content_type: &[u8]) -> Option<(Form, &[u8])> {
        [(Form::Text, TEXT), (Form::Binary, BINARY)]
            .into_iter()
            .find_map(|(form, name)| Some((form, after(content_type, name)?)))
    }

    fn name(self) -> &'static [u8] {
        match self {
            Form::Binary => BINARY,
            Form::Text => TEXT,
        }
    }

    /// Appends the content-type of the same call in gRPC.
    pub fn write_grpc(self, content_type: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(GRPC);
        out.extend_from_slice(after(content_type, self.name()).unwrap_or_default());
    }

    /// Appends the content-type of an answer that came with this one of gRPC.
    pub fn write_web(self, content_type: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.name());
        out.extend_from_slice(after(content_type, GRPC).unwrap_or_default());
    }

    /// Appends a piece of an answer's body.
    pub fn write(self, piece: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::Binary => out.extend_from_slice(piece),
            // Each with an end of its own, so that nothing of it has to wait for the next.
            Form::Text => out.extend_from_slice(BASE64.encode(piece).as_bytes()),
        }
    }

    /// Appends the message that these lines of trailers are.
    pub fn write_trailers(self, lines: &[u8], out: &mut Vec<u8>) {
        let mut message = vec![TRAILERS];
        message.extend_from_slice(&(lines.len() as u32).to_be_bytes());
        message.extend_from_slice(lines);
        self.write(&message, out);
    }
}

/// What follows the name, if it is that.
fn after<'t>(content_type: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = content_type.split_at_checked(name.len())?;
    let ends = matches!(rest.first(), None | Some(b'+' | b';' | b' '));
    (ends && start.eq_ignore_ascii_case(name)).then_some(rest)
}

/// Base64 as it comes, of one text or of several end to end.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Of four digits, those that are there.
    carry: Vec<u8>,
}

/// It is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Digits that stand for three bytes.
const GROUP: usize = 4;

impl Decoder {
    /// Appends what these digits stand for. `is_last`: none follow.
    pub fn decode(&mut self, digits: &[u8], is_last: bool, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.carry.extend_from_slice(digits);
        let whole = self.carry.len() / GROUP * GROUP;
        if is_last && whole < self.carry.len() {
            return Err(Malformed);
        }
        let mut rest = &self.carry[..whole];
        while !rest.is_empty() {
            // Padding ends a text, and another one may follow.
            let padding = rest.iter().position(|&digit| digit == b'=');
            let (text, more) = rest.split_at(padding.map_or(rest.len(), |at| (at / GROUP + 1) * GROUP));
            BASE64.decode_vec(text, out).map_err(|_| Malformed)?;
            rest = more;
        }
        self.carry.drain(..whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_those_of_both_sides() {
        let of = |text: &'static str| Form::of(text.as_bytes()).map(|(form, rest)| (form, rest.to_vec()));
        assert_eq!(of("application/grpc-web"), Some((Form::Binary, b"".to_vec())));
        assert_eq!(of("application/grpc-web+proto"), Some((Form::Binary, b"+proto".to_vec())));
        assert_eq!(of("Application/gRPC-Web-Text+proto"), Some((Form::Text, b"+proto".to_vec())));
        for other in ["application/grpc", "application/grpc-webby", "application/grpc-web-texts", ""] {
            assert_eq!(of(other), None, "{other}");
        }
        let mut out = Vec::new();
        Form::Text.write_grpc(b"application/grpc-web-text+proto", &mut out);
        out.push(b' ');
        Form::Text.write_web(b"application/grpc+proto", &mut out);
        assert_eq!(out, b"application/grpc+proto application/grpc-web-text+proto");
    }

    /// However the digits are cut, and wherever texts end, they stand for the same.
    #[test]
    fn texts_are_read_in_any_pieces() {
        let parts: [&[u8]; 5] = [b"a", b"bc", b"def", b"", b"0123456789"];
        let text: Vec<u8> = parts.iter().flat_map(|part| BASE64.encode(part).into_bytes()).collect();
        for size in 1..=text.len() {
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            for piece in text.chunks(size) {
                decoder.decode(piece, false, &mut out).unwrap();
            }
            decoder.decode(b"", true, &mut out).unwrap();
            assert_eq!(out, parts.concat(), "{size}");
        }
        for wrong in ["a", "ab=", "a===", "a b=", "Zg=a", "====", "Zh=="] {
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            assert_eq!(decoder.decode(wrong.as_bytes(), true, &mut out), Err(Malformed), "{wrong}");
        }
    }

    #[test]
    fn trailers_are_a_message() {
        let mut out = Vec::new();
        Form::Binary.write_trailers(b"grpc-status: 0\r\n", &mut out);
        assert_eq!(out, b"\x80\0\0\0\x10grpc-status: 0\r\n");
    }
}
