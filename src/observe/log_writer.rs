//! Owns the one thread that writes the access log, its bounded queue, and the open target. Reopens the file on
//! request and changes the target on reload; a failed write drops its lines and is counted.
//! Does not make lines (`observe::access_log`) and does not decide where they go (`config`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::snapshot::LogTarget;
use crate::observe::access_log::AccessLog;

/// The control thread's end of the access log.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    queue: SyncSender<Message>,
    /// Disconnected when the writer thread has ended.
    ended: Mutex<Receiver<()>>,
    target: Mutex<LogTarget>,
}

/// Since start, all cores together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounts {
    pub lines_written: u64,
    /// For a full queue or a failed write.
    pub lines_dropped: u64,
    pub write_errors: u64,
}

/// What the cores, the control thread and the writer share. No core touches it per line but for `enabled`.
#[derive(Debug, Default)]
pub struct Shared {
    pub enabled: AtomicBool,
    pub lines_written: AtomicU64,
    pub lines_dropped: AtomicU64,
    pub write_errors: AtomicU64,
    /// A new sink for the writer to change to; taken by it before the next chunk.
    next_sink: Mutex<Option<Sink>>,
    stop: AtomicBool,
}

#[derive(Debug)]
pub enum Message {
    Lines(Chunk),
    /// Look at `Shared`: a new sink, or the end.
    Wake,
}

/// Whole lines of one core.
#[derive(Debug)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub lines: u32,
    /// Where the emptied buffer goes.
    pub home: SyncSender<Vec<u8>>,
}

impl LogWriter {
    /// Opens the target and starts the thread.
    pub fn start(target: &LogTarget) -> io::Result<LogWriter> {
        let sink = Sink::open(target)?;
        let shared = Arc::new(Shared::default());
        shared.enabled.store(*target != LogTarget::Off, Relaxed);
        let (queue, messages) = sync_channel(QUEUE_CHUNKS_MAX);
        let (end, ended) = sync_channel(0);
        let for_thread = shared.clone();
        thread::Builder::new().name("access-log".into()).spawn(move || {
            let _end = end;
            WriterThread {
                shared: for_thread,
                sink,
                torn: false,
                last_complaint: None,
                unreported_errors: 0,
            }
            .run(&messages);
        })?;
        Ok(LogWriter { shared, queue, ended: Mutex::new(ended), target: Mutex::new(target.clone()) })
    }

    /// A core's end of the log, to be moved to its worker.
    pub fn core(&self) -> AccessLog {
        AccessLog::new(self.shared.clone(), self.queue.clone())
    }

    /// Whether the target can be opened, without changing to it.
    pub fn try_open(target: &LogTarget) -> io::Result<()> {
        Sink::open(target).map(drop)
    }

    /// Changes where lines go. On an error the old target stays.
    pub fn set_target(&self, target: &LogTarget) -> io::Result<()> {
        let mut current = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == *target {
            return Ok(());
        }
        let sink = Sink::open(target)?;
        *current = target.clone();
        self.change_sink(sink);
        self.shared.enabled.store(*target != LogTarget::Off, Relaxed);
        Ok(())
    }

    /// Opens the file again, after somebody renamed it. On an error the old file stays.
    pub fn reopen(&self) -> io::Result<()> {
        let current = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let sink = Sink::open(&current)?;
        self.change_sink(sink);
        Ok(())
    }

    pub fn counts(&self) -> LogCounts {
        LogCounts {
            lines_written: self.shared.lines_written.load(Relaxed),
            lines_dropped: self.shared.lines_dropped.load(Relaxed),
            write_errors: self.shared.write_errors.load(Relaxed),
        }
    }

    /// Writes what is queued and ends the thread. False if that takes longer than `wait` (a stuck disk or
    /// pipe): the thread is then left behind.
    pub fn finish(&self, wait: Duration) -> bool {
        self.shared.stop.store(true, Relaxed);
        self.wake();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Disconnected))
    }

    fn change_sink(&self, sink: Sink) {
        *self.shared.next_sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
        self.wake();
    }

    /// A full queue needs no waking: the writer looks at `Shared` before every chunk.
    fn wake(&self) {
        let _ = self.queue.try_send(Message::Wake);
    }
}

impl Chunk {
    /// Gives the buffer back to its core, unless one huge line made it huge.
    pub fn recycle(mut self) {
        if self.bytes.capacity() <= RECYCLED_BYTES_MAX {
            self.bytes.clear();
            let _ = self.home.try_send(self.bytes);
        }
    }
}

impl From<TrySendError<Message>> for Message {
    fn from(error: TrySendError<Message>) -> Self {
        match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        }
    }
}

/// Where bytes go.
#[derive(Debug)]
enum Sink {
    Off,
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(File),
}

impl Sink {
    fn open(target: &LogTarget) -> io::Result<Sink> {
        Ok(match target {
            LogTarget::Off => Sink::Off,
            LogTarget::Stdout => Sink::Stdout(io::stdout()),
            LogTarget::Stderr => Sink::Stderr(io::stderr()),
            LogTarget::File(path) => Sink::File(open_file(path)?),
        })
    }

    /// Stdout keeps what follows the last newline, so this is flushed where chunks hold whole lines.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Off => Err(io::Error::other("the access log was switched off")),
            Sink::Stdout(out) => out.write(bytes),
            Sink::Stderr(out) => out.write(bytes),
            Sink::File(file) => file.write(bytes),
        }
    }
}

/// O_APPEND: a copytruncate rotation and a second process during an upgrade may both write.
fn open_file(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

struct WriterThread {
    shared: Arc<Shared>,
    sink: Sink,
    /// The last write ended inside a line.
    torn: bool,
    last_complaint: Option<Instant>,
    unreported_errors: u64,
}

impl WriterThread {
    fn run(mut self, messages: &Receiver<Message>) {
        while !self.shared.stop.load(Relaxed) {
            // Every sender gone: the gateway is over.
            let Ok(message) = messages.recv() else { return };
            self.handle(message);
        }
        while let Ok(message) = messages.try_recv() {
            self.handle(message);
        }
    }

    fn handle(&mut self, message: Message) {
        if let Some(sink) = self.shared.next_sink.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.sink = sink;
            self.torn = false;
        }
        if let Message::Lines(chunk) = message {
            self.write(&chunk);
            chunk.recycle();
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        if matches!(self.sink, Sink::Off) {
            // Lines of the moments around the switch: nobody wants them, and they are no failure.
            self.shared.lines_dropped.fetch_add(chunk.lines.into(), Relaxed);
            return;
        }
        let (written_bytes, result) = self.write_all(&chunk.bytes);
        let lines = u64::from(chunk.lines);
        let Err(error) = result else {
            self.shared.lines_written.fetch_add(lines, Relaxed);
            return;
        };
        let whole_lines = chunk.bytes[..written_bytes].iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.shared.lines_written.fetch_add(whole_lines, Relaxed);
        self.shared.lines_dropped.fetch_add(lines - whole_lines, Relaxed);
        self.shared.write_errors.fetch_add(1, Relaxed);
        self.complain(&error);
    }

    /// Like `Write::write_all`, but tells how far it came. A full disk tears a line: the next success ends it
    /// first, so that one failure spoils one line and not its neighbour.
    fn write_all(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            let next = if self.torn { &b"\n"[..] } else { &bytes[written..] };
            match self.sink.write(next) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(_) if self.torn => self.torn = false,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn |= written > 0 && bytes[written - 1] != b'\n';
                    return (written, Err(error));
                }
            }
        }
        (written, Ok(()))
    }

    /// To stderr, at most once per `COMPLAINT_INTERVAL`, whatever the rate of failures.
    fn complain(&mut self, error: &io::Error) {
        self.unreported_errors += 1;
        if self.last_complaint.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            let failed = std::mem::take(&mut self.unreported_errors);
            let _ = writeln!(io::stderr(), "access log: {failed} failed writes, lines dropped: {error}");
            self.last_complaint = Some(Instant::now());
        }
    }
}

/// Chunks waiting for the writer, all cores together: about 8 MiB. More are dropped and counted.
pub const QUEUE_CHUNKS_MAX: usize = 256;
const RECYCLED_BYTES_MAX: usize = 128 * 1024;
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "log_writer_tests.rs"]
mod tests;
