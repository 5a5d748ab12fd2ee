//! Tests of the writer thread with real files: rotation, change of target, failing and blocking targets.
//! What a line holds is tested with `observe::access_log`.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::observe::access_log::LogLine;

const WAIT: Duration = Duration::from_secs(10);

fn line(path: &[u8]) -> LogLine<'_> {
    LogLine {
        request_id: b"1",
        client: "192.0.2.7:54321".parse().unwrap(),
        listener: "web",
        method: b"GET",
        host: b"h",
        path,
        protocol: "HTTP/1.1",
        status: 200,
        route: None,
        service: None,
        endpoint: None,
        tries: 0,
        duration: Duration::ZERO,
        upstream_first_byte: None,
        request_bytes: 0,
        response_bytes: 0,
        error: None,
        user_agent: None,
        user: None,
    }
}

/// A directory of its own per test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-log-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn paths(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let path =
        |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
    text.lines().map(path).collect()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < WAIT, "waited too long for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn all_cores_lines_reach_the_file() {
    let folder = Folder::new("cores");
    let file = folder.file("log");
    let writer = LogWriter::start(&LogTarget::File(file.clone())).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            let log = writer.core();
            scope.spawn(move || (0..1000).for_each(|_| log.record(&line(b"/x"))));
        }
    });
    assert_eq!(writer.counts().lines_dropped, 0);
    assert!(writer.finish(WAIT));
    assert_eq!(paths(&file).len(), 3000);
}

#[test]
fn rotation_loses_no_line() {
    let folder = Folder::new("rotation");
    let (file, rotated) = (folder.file("log"), folder.file("log.1"));
    let writer = LogWriter::start(&LogTarget::File(file.clone())).unwrap();
    let log = writer.core();
    log.record(&line(b"/1"));
    log.flush();
    wait_for("the first line", || writer.counts().lines_written == 1);
    fs::rename(&file, &rotated).unwrap();
    log.record(&line(b"/2"));
    log.flush();
    wait_for("the second line", || writer.counts().lines_written == 2);
    writer.reopen().unwrap();
    log.record(&line(b"/3"));
    log.flush();
    assert!(writer.finish(WAIT));
    assert_eq!((paths(&rotated), paths(&file)), (vec!["/1".into(), "/2".into()], vec!["/3".to_owned()]));
}

#[test]
fn the_target_changes_and_a_bad_one_changes_nothing() {
    let folder = Folder::new("target");
    let (a, b) = (folder.file("a"), folder.file("b"));
    let writer = LogWriter::start(&LogTarget::Off).unwrap();
    let log = writer.core();
    log.record(&line(b"/off"));
    assert!(!log.enabled());
    writer.set_target(&LogTarget::File(a.clone())).unwrap();
    log.record(&line(b"/a"));
    log.flush();
    wait_for("a", || writer.counts().lines_written == 1);
    let error = writer.set_target(&LogTarget::File(folder.file("no/such/log"))).unwrap_err();
    assert!(error.to_string().contains("no/such/log"), "{error}");
    log.record(&line(b"/still-a"));
    log.flush();
    wait_for("still a", || writer.counts().lines_written == 2);
    writer.set_target(&LogTarget::File(b.clone())).unwrap();
    log.record(&line(b"/b"));
    log.flush();
    wait_for("b", || writer.counts().lines_written == 3);
    writer.set_target(&LogTarget::Off).unwrap();
    log.record(&line(b"/off"));
    log.flush();
    assert!(writer.finish(WAIT));
    assert_eq!((paths(&a), paths(&b)), (vec!["/a".into(), "/still-a".into()], vec!["/b".to_owned()]));
}

#[test]
fn a_full_disk_is_counted() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let writer = LogWriter::start(&LogTarget::File(full.into())).unwrap();
    let log = writer.core();
    for _ in 0..2 {
        log.record(&line(b"/x"));
        log.flush();
    }
    wait_for("two errors", || writer.counts().write_errors == 2);
    assert_eq!(writer.counts(), LogCounts { lines_written: 0, lines_dropped: 2, write_errors: 2 });
}

#[test]
fn a_torn_line_is_ended_before_the_next() {
    let folder = Folder::new("torn");
    let file = folder.file("log");
    let sink = Sink::open(&LogTarget::File(file.clone())).unwrap();
    let shared = Arc::new(Shared::default());
    let mut thread = WriterThread { shared, sink, torn: true, last_complaint: None, unreported_errors: 0 };
    let (home, _returned) = sync_channel(1);
    thread.write(&Chunk { bytes: b"{}\n".to_vec(), lines: 1, home });
    assert_eq!(fs::read_to_string(&file).unwrap(), "\n{}\n");
    assert!(!thread.torn);
}

/// A pipe that nobody reads: the writer blocks, the core does not.
#[test]
fn a_stuck_target_blocks_no_core() {
    let folder = Folder::new("stuck");
    let fifo = folder.file("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let mut reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let writer = LogWriter::start(&LogTarget::File(fifo)).unwrap();
    let log = writer.core();
    let mut recorded = 0;
    let start = Instant::now();
    while writer.counts().lines_dropped == 0 {
        (0..100).for_each(|_| log.record(&line(b"/x")));
        recorded += 100;
        assert!(start.elapsed() < WAIT);
    }
    let counts = writer.counts();
    assert!(counts.lines_written < 1000 && recorded > 10_000, "{counts:?} of {recorded}");
    assert!(!writer.finish(Duration::from_millis(50)), "the thread is stuck and left behind");
    // Lets the thread end with the test.
    thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
}
