//! As much of HTTP/2's layout as an echo and a client of fixed frames need (RFC 9113 §4, §6). Compresses nothing, and reads no
//! field.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const PADDED: u8 = 8;
pub const END_HEADERS: u8 = 4;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEADER_BYTES: usize = 9;
pub const WINDOW: i64 = 65_535;
/// Everything that one frame may hold.
pub const PAYLOAD_BYTES_MAX: usize = 16_384;
const INITIAL_WINDOW_SIZE: u16 = 4;

pub struct Frame<'b> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The frame that `bytes` begin with, if it is whole.
    pub fn parse(bytes: &'b [u8]) -> Option<Frame<'b>> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
        Some(Frame { kind: header[3], flags: header[4], stream: number(&header[5..]), payload })
    }

    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Of SETTINGS, the window of streams.
    pub fn initial_window(&self) -> Option<i64> {
        let mut entries = self.payload.chunks_exact(6);
        let found = entries.rfind(|entry| entry[..2] == INITIAL_WINDOW_SIZE.to_be_bytes())?;
        Some(number(&found[2..]).into())
    }

    /// Of WINDOW_UPDATE.
    pub fn increment(&self) -> i64 {
        number(self.payload).into()
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) & 0x7fff_ffff
}

pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// SETTINGS that make the windows of streams as wide as they may be, and the connection's with them.
pub fn write_wide_open(out: &mut Vec<u8>) {
    const WIDEST: u32 = (1 << 31) - 1;
    let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &WIDEST.to_be_bytes()].concat();
    write(out, SETTINGS, 0, 0, &setting);
    write(out, WINDOW_UPDATE, 0, 0, &(WIDEST - WINDOW as u32).to_be_bytes());
}

/// A block of literals that nobody indexes, each shorter than 127 bytes.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A gRPC message of this many bytes, and its prefix.
pub fn message(bytes: usize) -> Vec<u8> {
    [&[0][..], &(bytes as u32).to_be_bytes(), &vec![b'm'; bytes]].concat()
}
