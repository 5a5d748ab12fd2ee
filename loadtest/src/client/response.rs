//! Reads the head of a response: status and length. Bodies are the callers'.
//! Only lengths are needed: every path that our own clients ask for answers with one, or is never-ending.

use std::io::{self, ErrorKind};

const HEAD_BYTES_MAX: usize = 16 << 10;

pub struct Head {
    pub head_bytes: usize,
    pub status: u16,
    pub content_length: Option<u64>,
}

impl Head {
    /// `None` while the head is incomplete.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            let too_long = bytes.len() > HEAD_BYTES_MAX;
            return if too_long { Err(ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| ErrorKind::InvalidData)?;
        let status =
            text.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let content_length = text
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        Ok(Some(Self { head_bytes: end + 4, status, content_length }))
    }
}
