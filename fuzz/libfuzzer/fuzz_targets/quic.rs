#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| roost_fuzz::run("quic", input));
