//! Owns what a `content-type` says (RFC 9110 §8.3.1): its media type, compared with those that a config names. Reads no content.

use std::fmt;

/// `image/jpeg`, or `image/*`; in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MediaType {
    Exact(Box<str>),
    /// With its slash.
    Any(Box<str>),
}

impl MediaType {
    /// `None`: it is none.
    pub fn parse(text: &str) -> Option<MediaType> {
        let (kind, subtype) = text.split_once('/')?;
        let is_token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
        };
        match subtype {
            "*" if is_token(kind) => Some(MediaType::Any(format!("{kind}/").to_ascii_lowercase().into())),
            _ if is_token(kind) && is_token(subtype) => {
                Some(MediaType::Exact(text.to_ascii_lowercase().into()))
            }
            _ => None,
        }
    }

    /// Whether a field's value is of this type, whatever its parameters.
    pub fn is_of(&self, value: &[u8]) -> bool {
        let essence = essence(value);
        match self {
            MediaType::Exact(name) => essence.eq_ignore_ascii_case(name.as_bytes()),
            MediaType::Any(kind) => {
                essence.len() > kind.len() && essence[..kind.len()].eq_ignore_ascii_case(kind.as_bytes())
            }
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MediaType::Exact(name) => f.write_str(name),
            MediaType::Any(kind) => write!(f, "{kind}*"),
        }
    }
}

/// Messages in frames of their own, whatever they are: those of gRPC, and of Connect's streams.
pub fn is_framed(value: &[u8]) -> bool {
    let essence = essence(value);
    [&b"application/grpc"[..], b"application/connect+"]
        .into_iter()
        .any(|begin| essence.get(..begin.len()).is_some_and(|found| found.eq_ignore_ascii_case(begin)))
}

/// Without parameters.
pub fn essence(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

/// `application/json`, `application/problem+json` and the like (RFC 6839 §3.1).
pub fn is_json(value: &[u8]) -> bool {
    let essence = essence(value);
    let ends = |end: &[u8]| {
        essence.len() > end.len() && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end)
    };
    ends(b"/json") || ends(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_compared_without_parameters_and_case() {
        let jpeg = MediaType::parse("Image/JPEG").unwrap();
        let image = MediaType::parse("image/*").unwrap();
        for (value, is_jpeg, is_image) in [
            ("image/jpeg", true, true),
            ("IMAGE/jpeg ; q=1", true, true),
            ("image/png", false, true),
            ("image/", false, false),
            ("imagex/jpeg", false, false),
            ("image/jpegx", false, true),
            ("", false, false),
        ] {
            assert_eq!(
                (jpeg.is_of(value.as_bytes()), image.is_of(value.as_bytes())),
                (is_jpeg, is_image),
                "{value}"
            );
        }
        for none in ["image", "", "image/", "/jpeg", "*/*", "image/j peg", "image/jpeg; q=1"] {
            assert_eq!(MediaType::parse(none), None, "{none}");
        }
    }

    #[test]
    fn json_has_several_names() {
        for is in
            ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/json"]
        {
            assert!(is_json(is.as_bytes()), "{is}");
        }
        for framed in ["application/grpc+json", "application/grpc-web+json", "Application/Connect+json"] {
            assert!(is_framed(framed.as_bytes()), "{framed}");
        }
        assert!(!is_framed(b"application/json") && !is_framed(b"application/graphql+json"));
        for is_not in ["application/jsonl", "json", "+json", "text/plain; a=/json", ""] {
            assert!(!is_json(is_not.as_bytes()), "{is_not}");
        }
    }
}
