//! `stream_file` of `src/compiled.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_fuzz::compiled::stream_file(bytes));
