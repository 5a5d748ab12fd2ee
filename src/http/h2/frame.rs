//! Owns the layout of HTTP/2 frames: the nine bytes before each, their types and flags, error codes and settings
//! (RFC 9113 §4, §6, §7). Knows no connection.

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream.
pub const HEADER_BYTES: usize = 9;
/// The largest payload that every endpoint takes, and that we take.
pub const PAYLOAD_BYTES_DEFAULT: usize = 16_384;
/// A flow-control window never exceeds this.
pub const WINDOW_MAX: u32 = (1 << 31) - 1;
pub const WINDOW_DEFAULT: u32 = 65_535;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// To be ignored (§4.1).
    Unknown,
}

impl Kind {
    fn of(byte: u8) -> Kind {
        match byte {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::ResetStream,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
}

impl Header {
    /// The frame that begins here; `None` until its nine bytes are there.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        // The reserved bit is ignored.
        let stream = be_u32(&header[5..]) & WINDOW_MAX;
        Some(Header { length, kind: Kind::of(header[3]), flags: header[4], stream })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The first four bytes; there have to be as many.
pub fn be_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// RFC 9113 §7. Any other number is a code, too, and means no more than `Internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    Connect = 10,
    EnhanceYourCalm = 11,
    InadequateSecurity = 12,
    Http11Required = 13,
}

impl Code {
    /// By their numbers.
    pub const ALL: [Code; 14] = [
        Code::NoError,
        Code::Protocol,
        Code::Internal,
        Code::FlowControl,
        Code::SettingsTimeout,
        Code::StreamClosed,
        Code::FrameSize,
        Code::RefusedStream,
        Code::Cancel,
        Code::Compression,
        Code::Connect,
        Code::EnhanceYourCalm,
        Code::InadequateSecurity,
        Code::Http11Required,
    ];

    pub fn of(number: u32) -> Code {
        Code::ALL.get(number as usize).copied().unwrap_or(Code::Internal)
    }

    /// As the RFC has it, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Code::NoError => "no_error",
            Code::Protocol => "protocol_error",
            Code::Internal => "internal_error",
            Code::FlowControl => "flow_control_error",
            Code::SettingsTimeout => "settings_timeout",
            Code::StreamClosed => "stream_closed",
            Code::FrameSize => "frame_size_error",
            Code::RefusedStream => "refused_stream",
            Code::Cancel => "cancel",
            Code::Compression => "compression_error",
            Code::Connect => "connect_error",
            Code::EnhanceYourCalm => "enhance_your_calm",
            Code::InadequateSecurity => "inadequate_security",
            Code::Http11Required => "http_1_1_required",
        }
    }
}

/// Identifiers of settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// The nine bytes of a frame.
pub fn header(length: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEADER_BYTES] {
    let length = (length as u32).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    [length[1], length[2], length[3], kind as u8, flags, a, b, c, d]
}

/// Appends the nine bytes of a frame.
pub fn begin(out: &mut Vec<u8>, length: usize, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(&header(length, kind, flags, stream));
}

pub fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    begin(out, settings.len() * 6, Kind::Settings, 0, 0);
    for (identifier, value) in settings {
        out.extend_from_slice(&identifier.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn settings_ack(out: &mut Vec<u8>) {
    begin(out, 0, Kind::Settings, ACK, 0);
}

pub fn ping_ack(out: &mut Vec<u8>, payload: &[u8]) {
    begin(out, payload.len(), Kind::Ping, ACK, 0);
    out.extend_from_slice(payload);
}

pub fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    begin(out, 4, Kind::WindowUpdate, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub fn reset_stream(out: &mut Vec<u8>, stream: u32, code: Code) {
    begin(out, 4, Kind::ResetStream, 0, stream);
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub fn go_away(out: &mut Vec<u8>, last_stream: u32, code: Code, debug: &[u8]) {
    begin(out, 8 + debug.len(), Kind::GoAway, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
    out.extend_from_slice(debug);
}
