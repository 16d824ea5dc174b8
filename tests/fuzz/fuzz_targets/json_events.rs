//! `json_events` of `src/decoders.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_fuzz::decoders::json_events(bytes));
