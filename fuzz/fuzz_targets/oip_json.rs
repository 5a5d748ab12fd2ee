//! libFuzzer's entry to `tidegate_fuzz::oip_json`, which says what is checked. Does nothing else: the
//! smoke driver runs the same check on a stable compiler.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::oip_json(data));
