//! Owns HTTP/1.1 on the wire: heads, bodies and the reading half of a connection. Opens no socket and makes
//! no decision about a request.

pub mod h1_body;
pub mod h1_conn;
pub mod h1_parse;
pub mod head;
pub mod scan;
pub mod websocket;
