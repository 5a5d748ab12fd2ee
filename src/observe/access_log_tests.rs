//! Tests of the lines (read back with serde_json), of chunks, and of what happens when the queue is full.
//! The queue's other end is the test; the writer thread has tests of its own.

use serde_json::Value;

use super::*;
use crate::observe::log_writer::QUEUE_CHUNKS_MAX;

fn line() -> LogLine<'static> {
    LogLine {
        request_id: b"0192-ab",
        client: "192.0.2.7:54321".parse().unwrap(),
        listener: "web",
        method: b"POST",
        host: b"models.example",
        path: b"/v2/models/iris/infer?a=\"b\"",
        protocol: "HTTP/1.1",
        status: 200,
        route: Some("models"),
        service: Some("stable"),
        endpoint: Some("127.0.0.1:8000"),
        tries: 2,
        duration: Duration::from_nanos(12_345_678),
        upstream_first_byte: Some(Duration::from_micros(9)),
        request_bytes: 10,
        response_bytes: u64::MAX,
        error: None,
        user_agent: Some(b"curl/8 \xff\\"),
        user: Some("ann\"\n"),
    }
}

fn parsed(line: &LogLine<'_>) -> Value {
    let mut out = Vec::new();
    append_line(line, &Clock::default(), 1_735_689_599_050, &mut out);
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
    serde_json::from_slice(&out).unwrap()
}

fn core(queue_chunks: usize) -> (AccessLog, Receiver<Message>) {
    let shared = Arc::new(Shared::default());
    shared.enabled.store(true, Relaxed);
    let (queue, messages) = sync_channel(queue_chunks);
    (AccessLog::new(shared, queue), messages)
}

fn received(messages: &Receiver<Message>) -> Option<Chunk> {
    match messages.try_recv() {
        Ok(Message::Lines(chunk)) => Some(chunk),
        _ => None,
    }
}

#[test]
fn a_line_holds_everything() {
    let expected = serde_json::json!({
        "time": "2024-12-31T23:59:59.050Z", "request_id": "0192-ab", "client": "192.0.2.7:54321",
        "listener": "web", "method": "POST", "host": "models.example", "path": "/v2/models/iris/infer?a=\"b\"",
        "protocol": "HTTP/1.1", "status": 200, "route": "models", "service": "stable",
        "endpoint": "127.0.0.1:8000", "tries": 2, "duration_ms": 12.345, "upstream_first_byte_ms": 0.009,
        "request_bytes": 10, "response_bytes": u64::MAX, "error": null, "user_agent": "curl/8 \u{fffd}\\", "user": "ann\"\n",
    });
    assert_eq!(parsed(&line()), expected);
}

#[test]
fn what_is_absent_is_null() {
    let bare = LogLine {
        route: None,
        service: None,
        endpoint: None,
        upstream_first_byte: None,
        user_agent: None,
        user: None,
        method: b"",
        error: Some(Kind::BadRequest),
        ..line()
    };
    let value = parsed(&bare);
    for key in ["route", "service", "endpoint", "upstream_first_byte_ms", "user_agent"] {
        assert!(value.as_object().unwrap().contains_key(key) && value[key].is_null(), "{key}");
    }
    assert_eq!(value["error"], "bad_request");
    assert_eq!(value["method"], "");
}

#[test]
fn addresses_read_as_the_standard_library_writes_them() {
    for address in ["0.0.0.0:1", "255.255.255.255:65535", "[2001:db8::1]:443", "[::]:1"] {
        assert_eq!(parsed(&LogLine { client: address.parse().unwrap(), ..line() })["client"], address);
    }
    let mapped = "[::ffff:192.0.2.1]:80".parse().unwrap();
    assert_eq!(parsed(&LogLine { client: mapped, ..line() })["client"], "192.0.2.1:80");
    // Whom a header names has no port.
    let named = "192.0.2.1:0".parse().unwrap();
    assert_eq!(parsed(&LogLine { client: named, ..line() })["client"], "192.0.2.1");
}

#[test]
fn a_huge_field_is_cut() {
    let path = vec![b'/'; 10 * FIELD_BYTES_MAX];
    let value = parsed(&LogLine { path: &path, ..line() });
    assert_eq!(value["path"].as_str().unwrap().chars().count(), FIELD_BYTES_MAX + 1);
}

#[test]
fn a_chunk_goes_when_it_is_full_and_on_flush() {
    let (log, messages) = core(8);
    log.flush();
    assert!(received(&messages).is_none(), "nothing to flush");
    let mut lines = 0;
    let full = loop {
        log.record(&line());
        lines += 1;
        if let Some(chunk) = received(&messages) {
            break chunk;
        }
    };
    assert_eq!(full.lines, lines);
    assert!(full.bytes.len() >= CHUNK_BYTES && full.bytes.ends_with(b"}\n"));
    log.record(&line());
    log.flush();
    assert_eq!(received(&messages).unwrap().lines, 1);
}

#[test]
fn the_last_lines_go_when_the_core_ends() {
    let (log, messages) = core(8);
    log.record(&line());
    drop(log);
    assert_eq!(received(&messages).unwrap().lines, 1);
}

#[test]
fn buffers_come_back() {
    let (log, messages) = core(8);
    for _ in 0..10 {
        log.record(&line());
        let before = log.buffer.borrow().as_ptr();
        log.flush();
        received(&messages).unwrap().recycle();
        log.record(&line());
        log.flush();
        received(&messages).unwrap().recycle();
        assert_eq!(log.buffer.borrow().as_ptr(), before, "two buffers take turns");
    }
}

#[test]
fn a_full_queue_drops_lines_and_counts_them() {
    let (log, messages) = core(1);
    for _ in 0..3 {
        log.record(&line());
        log.record(&line());
        log.flush();
    }
    assert_eq!(log.shared.lines_dropped.load(Relaxed), 4);
    assert_eq!(received(&messages).unwrap().lines, 2);
    log.record(&line());
    log.flush();
    assert_eq!(received(&messages).unwrap().lines, 1, "it goes on once there is room");
    const { assert!(QUEUE_CHUNKS_MAX > 1) };
}

#[test]
fn a_writer_that_is_gone_is_no_failure() {
    let (log, messages) = core(1);
    drop(messages);
    log.record(&line());
    log.flush();
    assert_eq!(log.shared.lines_dropped.load(Relaxed), 1);
}

#[test]
fn off_costs_nothing() {
    let (log, messages) = core(1);
    log.shared.enabled.store(false, Relaxed);
    log.record(&line());
    log.flush();
    assert!(received(&messages).is_none());
}
