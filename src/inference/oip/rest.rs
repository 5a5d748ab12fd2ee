//! Owns what a REST path of the protocol asks, and the path that asks it; also which gRPC method asks the same. Reads no body.

use std::borrow::Cow;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    ServerMetadata,
    ServerLive,
    ServerReady,
    ModelMetadata(ModelName),
    ModelReady(ModelName),
    Infer(ModelName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    pub model: String,
    /// `None`: the server chooses.
    pub version: Option<String>,
}

/// Why a method and a path ask nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// The protocol has no such path: 404.
    Path,
    /// It has another method, which this is: 405.
    Method(&'static str),
    /// A name has a malformed escape, or is no UTF-8: 400.
    Name,
}

impl Ask {
    /// `path`: without its query, percent-encoded as it came.
    pub fn of(method: &[u8], path: &[u8]) -> Result<Ask, NotAsked> {
        let path = path.strip_prefix(b"/v2").ok_or(NotAsked::Path)?;
        let segments: Vec<&[u8]> = path.split(|&byte| byte == b'/').take(SEGMENTS_MAX + 1).collect();
        let named = |model, version| ModelName::decode(model, version);
        let ask = match segments[..] {
            [b""] | [b"", b""] => Ask::ServerMetadata,
            [b"", b"health", b"live"] => Ask::ServerLive,
            [b"", b"health", b"ready"] => Ask::ServerReady,
            [b"", b"models", model] => Ask::ModelMetadata(named(model, None)?),
            [b"", b"models", model, b"ready"] => Ask::ModelReady(named(model, None)?),
            [b"", b"models", model, b"infer"] => Ask::Infer(named(model, None)?),
            [b"", b"models", model, b"versions", version] => Ask::ModelMetadata(named(model, Some(version))?),
            [b"", b"models", model, b"versions", version, b"ready"] => {
                Ask::ModelReady(named(model, Some(version))?)
            }
            [b"", b"models", model, b"versions", version, b"infer"] => {
                Ask::Infer(named(model, Some(version))?)
            }
            _ => return Err(NotAsked::Path),
        };
        match method == ask.method().as_bytes() || (method == b"HEAD" && ask.method() == "GET") {
            true => Ok(ask),
            false => Err(NotAsked::Method(ask.method())),
        }
    }

    pub fn method(&self) -> &'static str {
        if let Ask::Infer(_) = self { "POST" } else { "GET" }
    }

    /// The path that asks this, percent-encoded.
    pub fn path(&self) -> String {
        match self {
            Ask::ServerMetadata => "/v2".to_owned(),
            Ask::ServerLive => "/v2/health/live".to_owned(),
            Ask::ServerReady => "/v2/health/ready".to_owned(),
            Ask::ModelMetadata(name) => name.path(""),
            Ask::ModelReady(name) => name.path("/ready"),
            Ask::Infer(name) => name.path("/infer"),
        }
    }

    /// The path of the gRPC method that asks this.
    pub fn grpc_path(&self) -> &'static str {
        match self {
            Ask::ServerMetadata => "/inference.GRPCInferenceService/ServerMetadata",
            Ask::ServerLive => "/inference.GRPCInferenceService/ServerLive",
            Ask::ServerReady => "/inference.GRPCInferenceService/ServerReady",
            Ask::ModelMetadata(_) => "/inference.GRPCInferenceService/ModelMetadata",
            Ask::ModelReady(_) => "/inference.GRPCInferenceService/ModelReady",
            Ask::Infer(_) => "/inference.GRPCInferenceService/ModelInfer",
        }
    }
}

/// Of the longest path.
const SEGMENTS_MAX: usize = 6;

impl ModelName {
    fn decode(model: &[u8], version: Option<&[u8]>) -> Result<ModelName, NotAsked> {
        let name = ModelName { model: decoded(model)?, version: version.map(decoded).transpose()? };
        let is_named = |name: &str| !name.is_empty();
        match is_named(&name.model) && name.version.as_deref().is_none_or(is_named) {
            true => Ok(name),
            false => Err(NotAsked::Path),
        }
    }

    fn path(&self, end: &str) -> String {
        let model = encoded(&self.model);
        match &self.version {
            Some(version) => format!("/v2/models/{model}/versions/{}{end}", encoded(version)),
            None => format!("/v2/models/{model}{end}"),
        }
    }
}

fn decoded(segment: &[u8]) -> Result<String, NotAsked> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((&byte, behind)) = rest.split_first() {
        let (byte, behind) = match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NotAsked::Name);
                ((digit(*high)? << 4 | digit(*low)?) as u8, behind)
            }
            (b'%', _) => return Err(NotAsked::Name),
            _ => (byte, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| NotAsked::Name)
}

fn encoded(name: &str) -> Cow<'_, str> {
    // RFC 3986 §2.3; a name of dots alone would be taken for a way through the path.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_dots = matches!(name, "." | "..");
    if !is_dots && name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let mut text = String::with_capacity(3 * name.len());
    for byte in name.bytes() {
        match is_plain(byte) && !is_dots {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(model: &str, version: Option<&str>) -> ModelName {
        ModelName { model: model.to_owned(), version: version.map(str::to_owned) }
    }

    #[test]
    fn every_path_is_read_as_it_is_written() {
        for (method, path, ask) in [
            ("GET", "/v2", Ask::ServerMetadata),
            ("GET", "/v2/health/live", Ask::ServerLive),
            ("GET", "/v2/health/ready", Ask::ServerReady),
            ("GET", "/v2/models/m", Ask::ModelMetadata(name("m", None))),
            ("GET", "/v2/models/m/versions/1", Ask::ModelMetadata(name("m", Some("1")))),
            ("GET", "/v2/models/m/ready", Ask::ModelReady(name("m", None))),
            ("GET", "/v2/models/m/versions/v2/ready", Ask::ModelReady(name("m", Some("v2")))),
            ("POST", "/v2/models/m/infer", Ask::Infer(name("m", None))),
            ("POST", "/v2/models/m/versions/1/infer", Ask::Infer(name("m", Some("1")))),
            ("POST", "/v2/models/a%2Fb%20%C3%A9/infer", Ask::Infer(name("a/b é", None))),
            ("POST", "/v2/models/ready/infer", Ask::Infer(name("ready", None))),
            ("GET", "/v2/models/%2E%2E", Ask::ModelMetadata(name("..", None))),
        ] {
            assert_eq!(Ask::of(method.as_bytes(), path.as_bytes()), Ok(ask.clone()), "{path}");
            assert_eq!((ask.method(), ask.path().as_str()), (method, path));
        }
        assert_eq!(Ask::of(b"GET", b"/v2/"), Ok(Ask::ServerMetadata));
        assert_eq!(Ask::of(b"HEAD", b"/v2/health/live"), Ok(Ask::ServerLive));
    }

    #[test]
    fn what_asks_nothing_is_told_apart() {
        for (method, path, expected) in [
            ("GET", "/", NotAsked::Path),
            ("GET", "/v1", NotAsked::Path),
            ("GET", "/v20", NotAsked::Path),
            ("GET", "/v2/models", NotAsked::Path),
            ("GET", "/v2/models/", NotAsked::Path),
            ("GET", "/v2/models//ready", NotAsked::Path),
            ("GET", "/v2/models/m/versions", NotAsked::Path),
            ("GET", "/v2/models/m/versions/", NotAsked::Path),
            ("GET", "/v2/models/m/config", NotAsked::Path),
            ("POST", "/v2/models/m/infer/", NotAsked::Path),
            ("POST", "/v2/models/m/versions/1/infer/x/y/z", NotAsked::Path),
            ("GET", "/v2/models/m/infer", NotAsked::Method("POST")),
            ("HEAD", "/v2/models/m/infer", NotAsked::Method("POST")),
            ("POST", "/v2/models/m", NotAsked::Method("GET")),
            ("post", "/v2/models/m/infer", NotAsked::Method("POST")),
            ("POST", "/v2/models/%/infer", NotAsked::Name),
            ("POST", "/v2/models/%2/infer", NotAsked::Name),
            ("POST", "/v2/models/%zz/infer", NotAsked::Name),
            ("POST", "/v2/models/%ff/infer", NotAsked::Name),
        ] {
            assert_eq!(Ask::of(method.as_bytes(), path.as_bytes()), Err(expected), "{method} {path}");
        }
    }
}
