//! A quota file is whole or refused, one gateway's, and written when something was used.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::policy::api_key::{ApiKeys, create};
use crate::policy::claims::Claims;
use crate::policy::quota::Quota;

/// A directory that goes away with its owner.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("tidegate-quotas-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("used")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A way of identifying whose only key may ask three times a day, and whose that is.
fn auth(ledger: &Arc<Ledger>) -> ([Auth; 1], Arc<Claims>) {
    let (key, line) = create(&[7; 38]);
    let mut keys = ApiKeys::read("x-api-key".into(), &format!("{line} day=3"), Quota::default()).unwrap();
    keys.count_in(ledger.clone());
    let claims = keys.verify(key.as_bytes(), 0).unwrap();
    ([Auth::new("a".into(), None, Some(keys), false)], claims)
}

fn passed(claims: &Claims) -> usize {
    let account = claims.account().unwrap();
    (0..10).filter(|_| account.take(now()).is_ok()).count()
}

fn none_kept() -> Quotas {
    Quotas::new(Events::new().0)
}

#[test]
fn what_was_used_is_there_again_and_the_file_is_one_gateways() {
    let directory = Directory::new("again");
    let ledger = || Arc::new(Ledger::new(&directory.file()));
    let (first, claims) = auth(&ledger());
    let mut quotas = none_kept();
    quotas.open(&first).unwrap();
    quotas.open(&first).unwrap();
    claims.account().unwrap().take(now()).unwrap();
    let (second, again) = auth(&ledger());
    let refused = none_kept().open(&second).unwrap_err();
    assert!(refused.contains("another gateway keeps its quotas in"), "{refused}");
    check(&second).unwrap();
    quotas.finish();
    assert_eq!(fs::metadata(directory.file()).unwrap().permissions().mode() & 0o777, 0o600);
    none_kept().open(&second).unwrap();
    // On one day, two were left of it; a new one has all three.
    assert!((2..=3).contains(&passed(&again)));
}

#[test]
fn a_file_that_is_broken_or_foreign_is_refused() {
    let directory = Directory::new("broken");
    let (auth, _) = auth(&Arc::new(Ledger::new(&directory.file())));
    for (bytes, what) in [
        (&b""[..], "line 1: this is no quota file: it does not begin with"),
        (b"tidegate-quotas 1\na b\nend-of-file\n", "line 2: this is no quota file: it is not of five words"),
        (
            b"tidegate-quotas 1\na\xff\nend-of-file\n",
            "line 2: this is no quota file: it has bytes that are no text",
        ),
        (b"\x7fELF", "line 1: this is no quota file"),
    ] {
        fs::write(directory.file(), bytes).unwrap();
        for refused in [check(&auth).unwrap_err(), none_kept().open(&auth).unwrap_err()] {
            assert!(refused.contains(what) && refused.contains("move "), "{refused}");
        }
        assert_eq!(fs::read(directory.file()).unwrap(), bytes, "it stays as it is");
    }
    fs::remove_file(directory.file()).unwrap();
    fs::create_dir(directory.file()).unwrap();
    assert!(check(&auth).unwrap_err().contains("no ordinary file"));
    let nowhere = Arc::new(Ledger::new(&directory.0.join("no/such")));
    let refused = none_kept().open(&self::auth(&nowhere).0).unwrap_err();
    assert!(refused.contains("a directory that the gateway may write"), "{refused}");
}

#[test]
fn it_is_written_only_when_something_was_used_and_tried_again() {
    let directory = Directory::new("written");
    let ledger = Arc::new(Ledger::new(&directory.file()));
    let (_auth, claims) = auth(&ledger);
    let lock = lock(&directory.file()).unwrap();
    let fingerprint = ledger.fingerprint();
    let events = Events::new().0;
    let mut kept = Kept { ledger: ledger.clone(), events, _lock: lock, fingerprint, has_failed: false };
    kept.write_if_changed();
    assert!(!directory.file().exists(), "there is nothing to say");
    passed(&claims);
    // Nobody can write where a directory is.
    fs::create_dir(beside(&directory.file(), "new")).unwrap();
    (0..2).for_each(|_| kept.write_if_changed());
    assert!(kept.has_failed && !directory.file().exists());
    assert_eq!(ledger.write_errors_total.load(Relaxed), 2);
    fs::remove_dir(beside(&directory.file(), "new")).unwrap();
    kept.write_if_changed();
    assert!(!kept.has_failed && read(&directory.file()).unwrap().unwrap().len() == 1);
    fs::remove_file(directory.file()).unwrap();
    kept.write_if_changed();
    assert!(!directory.file().exists(), "nothing was used since");
}
