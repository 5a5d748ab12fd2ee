//! Owns HTTP on the wire: HTTP/1.1's heads, bodies and the reading half of a connection, HTTP/2's frames and streams. Opens
//! no socket and makes no decision about a request.

pub mod grpc;
pub mod grpc_web;
pub mod h1_body;
pub mod h1_conn;
pub mod h1_parse;
pub mod h2;
pub mod head;
pub mod scan;
pub mod websocket;
