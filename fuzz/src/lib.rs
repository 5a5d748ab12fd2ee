//! Owns the list of fuzz targets. A target is a function that takes any bytes and panics where a property of
//! the product fails; its module says which. To add one: a module here, a line in `TARGETS`, seeds in
//! `seeds/<name>/`, and an entry in `fuzz_targets/` and Cargo.toml for libFuzzer.

mod api_keys;
mod chunked;
mod client_hello;
mod config;
mod grpc;
mod heads;
mod hpack;
mod http2;
mod http2_client;
mod image;
mod image_tensor;
mod json;
mod jwt;
mod oip;
mod paths;
mod proxy_protocol;
mod quotas;
mod tls_records;
mod udp_flows;
mod websocket;

pub use api_keys::api_keys;
pub use chunked::chunked;
pub use client_hello::client_hello;
pub use config::config;
pub use grpc::grpc;
pub use heads::{request_head, response_head};
pub use hpack::hpack;
pub use http2::http2;
pub use http2_client::http2_client;
pub use image::image;
pub use image_tensor::image_tensor;
pub use json::json;
pub use jwt::jwt;
pub use oip::{oip_binary, oip_json, oip_protobuf};
pub use paths::paths;
pub use proxy_protocol::proxy_protocol;
pub use quotas::quotas;
pub use tls_records::tls_records;
pub use udp_flows::udp_flows;
pub use websocket::websocket;

/// One check, and the name of its seeds' folder.
pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]),
}

/// Every target, for the smoke driver.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", check: request_head },
    Target { name: "response_head", check: response_head },
    Target { name: "chunked", check: chunked },
    Target { name: "config", check: config },
    Target { name: "paths", check: paths },
    Target { name: "proxy_protocol", check: proxy_protocol },
    Target { name: "client_hello", check: client_hello },
    Target { name: "hpack", check: hpack },
    Target { name: "http2", check: http2 },
    Target { name: "http2_client", check: http2_client },
    Target { name: "grpc", check: grpc },
    Target { name: "api_keys", check: api_keys },
    Target { name: "image", check: image },
    Target { name: "image_tensor", check: image_tensor },
    Target { name: "quotas", check: quotas },
    Target { name: "json", check: json },
    Target { name: "jwt", check: jwt },
    Target { name: "oip_json", check: oip_json },
    Target { name: "oip_binary", check: oip_binary },
    Target { name: "oip_protobuf", check: oip_protobuf },
    Target { name: "tls_records", check: tls_records },
    Target { name: "udp_flows", check: udp_flows },
    Target { name: "websocket", check: websocket },
];
