//! `routed` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: windrow_fuzz::keep_quiet(),
    |bytes: &[u8]| windrow_fuzz::run("routed", bytes)
);
