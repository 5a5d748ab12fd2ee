//! Owns the cases at the documented limits: 100 fields, 32 KiB head (431), 8 KiB target (414).

use super::*;

const HEAD_MAX: usize = 32 * 1024;
const TARGET_MAX: usize = 8 * 1024;
const TOO_LARGE: &[u16] = &[431];

pub fn add(table: &mut Table) {
    table.pass("100 fields", get("X: y\r\n".repeat(99)), plain());
    table.refuse_as("101 fields", TOO_LARGE, get("X: y\r\n".repeat(100)));
    table.refuse_as("5000 fields", TOO_LARGE, get("X: y\r\n".repeat(5000)));
    table.pass("head of 31 KiB", sized_head(31 * 1024), plain());
    table.pass("head of exactly 32 KiB", sized_head(HEAD_MAX), plain());
    table.refuse_as("head of 32 KiB and a byte", TOO_LARGE, sized_head(HEAD_MAX + 1));
    table.refuse_as("head of 100 KiB", TOO_LARGE, sized_head(100 * 1024));
    table.refuse_as("name of 40 KiB", TOO_LARGE, get(format!("{}: y\r\n", "X".repeat(40 * 1024))));
    let target = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    let of = |bytes: usize| with_line(format!("GET {} HTTP/1.1", target(bytes)));
    table.pass("target of 8 KiB", of(TARGET_MAX), Shape { target: target(TARGET_MAX), ..plain() });
    table.refuse_as("target of 8 KiB and a byte", &[414], of(TARGET_MAX + 1));
    table.refuse_as("target of 100 KiB", &[414], of(100 * 1024));
    let query = with_line(format!("GET /case?{} HTTP/1.1", "q".repeat(9 * 1024)));
    table.refuse_as("query of 9 KiB", &[414], query);
    table.refuse_as(
        "method of 40 KiB",
        &[400, 431, 501],
        with_line(format!("{} / HTTP/1.1", "M".repeat(40 * 1024))),
    );
}

/// A GET whose head has exactly this many bytes.
fn sized_head(bytes: usize) -> Vec<u8> {
    let filler = bytes - get("X: \r\n").len();
    get(format!("X: {}\r\n", "a".repeat(filler)))
}
