//! No key is believed but the one that was made, whatever is presented; and whatever else a file says, if it is read at all, the key in it
//! is still believed and nobody else's.

use tidegate::policy::api_key::{ApiKeys, create};
use tidegate::policy::quota::Quota;

const NOW: u64 = 1_800_000_000;

pub fn api_keys(data: &[u8]) {
    let (key, line) = create(&[7; 38]);
    let read = |text: &str| ApiKeys::read("x-api-key".into(), text, Quota::default());
    let keys = read(&line).expect("a line of its own");
    assert_eq!(keys.verify(data, NOW).is_ok(), data == key.as_bytes());
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(keys) = read(&format!("{line}\n{text}")) {
        assert!(keys.verify(key.as_bytes(), NOW).is_ok());
        let (other, _) = create(&[8; 38]);
        assert!(keys.verify(other.as_bytes(), NOW).is_err());
    }
    // What follows a key's hash says no more than whose it is.
    if let Ok(keys) = read(&format!("{line} {}", text.replace('\n', " "))) {
        let _ = keys.verify(key.as_bytes(), NOW).map(|claims| assert!(claims.has("key")));
    }
}
