//! A quota file is refused or read whole: what is read is written so that it reads the same, cut off anywhere it is refused, and a ledger
//! that takes it says nothing that was not in it.

use std::path::Path;

use tidegate::policy::quota::{Ledger, read, write};

pub fn quotas(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(entries) = read(text) else { return };
    let written = write(&entries);
    assert_eq!(read(&written).as_ref(), Ok(&entries));
    let whole = written.trim_end();
    let cut = data.iter().fold(0, |sum: usize, byte| (sum * 31 + usize::from(*byte)) & 0xFFFF) % whole.len();
    assert!(whole.is_ascii() && read(&whole[..cut]).is_err());
    let ledger = Ledger::new(Path::new("used"));
    ledger.take_in(&entries);
    for now in [0, 1_795_737_600, u64::MAX] {
        assert!(ledger.entries(now).iter().all(|kept| entries.contains(kept)));
    }
}
