//! `state` of `src/compiled.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_fuzz::compiled::state(bytes));
