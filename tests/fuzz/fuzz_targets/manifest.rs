//! `manifest` of `src/stored.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_fuzz::stored::manifest(bytes));
