//! Owns the files that quotas are kept in: each is locked and read before its keys are served, and written by a thread of its own every
//! few seconds and at the end. What is counted, and how it is written, is `policy::quota`'s. Never on the request path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::observe::{EventKind, Events};
use crate::policy::identity::Auth;
use crate::policy::quota::{self, Entry, Ledger};

use super::signals;

/// What a crash loses at most, but for files of so many keys that they take long to write.
const WRITE_INTERVAL: Duration = Duration::from_secs(2);
/// The thread rests so many times as long as it has written.
const REST_FACTOR: u32 = 20;
/// How long the last write may take.
const FINISH_WAIT: Duration = Duration::from_secs(5);
/// A million keys have a third of it.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The quota files that this process has. None is let go of before its end: what was used may be asked for again.
pub struct Quotas {
    events: Arc<Events>,
    known: Vec<Arc<Ledger>>,
    writer: Option<Writer>,
}

/// The thread that writes. It ends when no more files can come.
struct Writer {
    files: Sender<Kept>,
    ended: Receiver<()>,
}

/// One file.
struct Kept {
    ledger: Arc<Ledger>,
    events: Arc<Events>,
    /// Locked while it is open.
    _lock: File,
    /// Of what it says.
    fingerprint: u64,
    /// It could not be written the last time.
    has_failed: bool,
}

impl Quotas {
    pub fn new(events: Arc<Events>) -> Quotas {
        Quotas { events, known: Vec::new(), writer: None }
    }

    /// Opens the files of these that are not open yet. The error is what is wrong with one, for people. Blocks, for a file of a million
    /// keys for some seconds, and only when a configuration names one that is new.
    pub fn open(&mut self, auths: &[Auth]) -> Result<(), String> {
        for ledger in auths.iter().filter_map(Auth::ledger) {
            if self.known.iter().any(|known| Arc::ptr_eq(known, ledger)) {
                continue;
            }
            let lock = lock(&ledger.file)?;
            match read(&ledger.file)? {
                Some(entries) => ledger.take_in(&entries),
                None => {
                    let file = ledger.file.display();
                    let text = format!("{file} is not there yet: all of its quotas begin at 0");
                    self.events.tell(EventKind::QuotasBegun, text);
                }
            }
            let fingerprint = ledger.fingerprint();
            let (ledger, events) = (ledger.clone(), self.events.clone());
            let kept = Kept { ledger: ledger.clone(), events, _lock: lock, fingerprint, has_failed: false };
            self.keep(kept).map_err(|error| format!("error: cannot start a thread: {error}"))?;
            self.known.push(ledger);
        }
        Ok(())
    }

    fn keep(&mut self, kept: Kept) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::start()?),
        };
        // It ends only when this end does.
        let _ = writer.files.send(kept);
        Ok(())
    }

    /// Has everything written, and waits for that; nothing is written afterwards.
    pub fn finish(&mut self) {
        let Some(Writer { files, ended }) = self.writer.take() else { return };
        drop(files);
        if ended.recv_timeout(FINISH_WAIT) == Err(RecvTimeoutError::Timeout) {
            let text = format!("quotas could not be written within {FINISH_WAIT:?}");
            self.events.tell(EventKind::QuotasFailed, text);
        }
    }
}

/// However the gateway ends.
impl Drop for Quotas {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether the files of these could be read, without opening them for good. The error is for people.
pub fn check(auths: &[Auth]) -> Result<(), String> {
    auths.iter().filter_map(Auth::ledger).try_for_each(|ledger| read(&ledger.file).map(drop))
}

impl Writer {
    fn start() -> io::Result<Writer> {
        let (files, new) = channel();
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().name("quotas".into());
        signals::with_blocked(|| {
            thread.spawn(move || {
                write_for_ever(&new);
                drop(end);
            })
        })?;
        Ok(Writer { files, ended })
    }
}

fn write_for_ever(new: &Receiver<Kept>) {
    let mut files: Vec<Kept> = Vec::new();
    let mut next = Instant::now() + WRITE_INTERVAL;
    loop {
        match new.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(kept) => files.push(kept),
            Err(RecvTimeoutError::Timeout) => {
                let begun = Instant::now();
                files.iter_mut().for_each(Kept::write_if_changed);
                next = Instant::now() + (begun.elapsed() * REST_FACTOR).max(WRITE_INTERVAL);
            }
            Err(RecvTimeoutError::Disconnected) => {
                return files.iter_mut().for_each(Kept::write_if_changed);
            }
        }
    }
}

impl Kept {
    fn write_if_changed(&mut self) {
        // Before what is written: what changes meanwhile is written the next time.
        let fingerprint = self.ledger.fingerprint();
        if fingerprint == self.fingerprint {
            return;
        }
        let file = self.ledger.file.display();
        match replace(&self.ledger.file, &quota::write(&self.ledger.entries(now()))) {
            Ok(()) => {
                if std::mem::take(&mut self.has_failed) {
                    let text = format!("quotas are written to {file} again");
                    self.events.tell(EventKind::QuotasWritten, text);
                }
                self.fingerprint = fingerprint;
            }
            Err(error) => {
                self.ledger.write_errors_total.fetch_add(1, Relaxed);
                if !std::mem::replace(&mut self.has_failed, true) {
                    let text = format!(
                        "quotas cannot be written to {file}: {error}; they are kept in memory, and tried again"
                    );
                    self.events.tell(EventKind::QuotasFailed, text);
                }
            }
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Beside the file, since that is another one after each write. Never removed: somebody may wait to lock it.
fn lock(file: &Path) -> Result<File, String> {
    let path = beside(file, "lock");
    let failed = |error: io::Error| {
        format!(
            "error: quotas cannot be kept in {}: {}: {error}\n  \
             help: it has to be in a directory that the gateway may write",
            file.display(),
            path.display()
        )
    };
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = opened.map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(format!(
            "error: another gateway keeps its quotas in {}: it has locked {}\n  \
             help: end that one, or give this one a file of its own",
            file.display(),
            path.display()
        )),
        Err(error) => Err(failed(error.into())),
    }
}

/// What a file says. `None`: there is none. The error is for people.
fn read(file: &Path) -> Result<Option<Vec<Entry>>, String> {
    let bytes = match bytes_of(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("error: quotas cannot be read from {}: {error}", file.display())),
    };
    let wrong = |line: usize, what: &str| {
        let file = file.display();
        format!(
            "error: {file}, line {line}: this is no quota file: {what}\n  \
             help: mend the line, or move {file} away, and all quotas that were kept in it begin at 0"
        )
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        wrong(before.iter().filter(|&&byte| byte == b'\n').count() + 1, "it has bytes that are no text")
    })?;
    quota::read(text).map(Some).map_err(|found| wrong(found.line, &found.what))
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: a pipe would wait for who writes.
    let about = fs::metadata(file)?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is no ordinary file, or larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// After this, or after a crash at any moment of it, the file is the old one or the new one, whole.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let fresh = beside(file, "new");
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&fresh, file)?;
    // The new name is to outlast a crash of the machine, too; where a file system cannot promise that, the old one may be back.
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let _ = File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
    Ok(())
}

fn beside(file: &Path, word: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(word);
    name.into()
}

#[cfg(test)]
#[path = "quotas_tests.rs"]
mod tests;
