//! A connection, byte by byte: heads, queries, forms, and every kind of body behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cloudpose_fuzz::say(bytes, None));
