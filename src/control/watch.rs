//! Owns the question "did this file change", of the config and of certificates: size, time and inode, asked by the control loop once a
//! second. Polling sees what inotify misses: symlinks that are swapped (Kubernetes) and network file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub struct Watched {
    pub file: PathBuf,
    seen: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Watched {
    pub fn new(file: &Path) -> Watched {
        Watched { file: file.to_owned(), seen: stamp(file) }
    }

    /// Whether the file is another one than at the last call. A file that is away for a moment, as editors do,
    /// is not a change.
    pub fn changed(&mut self) -> bool {
        let now = stamp(&self.file);
        let changed = now.is_some() && now != self.seen;
        if now.is_some() {
            self.seen = now;
        }
        changed
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let meta = fs::metadata(file).ok()?;
    Some(Stamp { inode: meta.ino(), bytes: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
}
