//! Owns HTTP/2 on the wire (RFC 9113), ours and without I/O: `frame` is the layout, `hpack` the fields' compression, `head`
//! what a message has to be, `stream` and `conn` the states. Opens no socket and makes no decision about a request.
//!
//! ```text
//! bytes ─► conn::receive ─► frame ─► hpack ─► head ─► Event::Request, an HTTP/1.1 head
//!                             └─► stream (windows, payload) ─► Event::Input
//! answer ─► conn::send ─► hpack, windows ─► output, in as few sends as the socket takes
//! request to an endpoint ─► conn::client ─► the same; its response's heads are the stream's
//! ```

mod calm;
pub mod conn;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod stream;

#[cfg(test)]
mod simulation_tests;
