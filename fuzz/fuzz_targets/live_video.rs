//! Access units of a live stream: each begins with two bytes that say how long it is.
#![no_main]

use cloudpose_video::LiveDecoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cloudpose_fuzz::caught(&["/re_mp4-", "/rusty_h264-"]), |bytes: &[u8]| {
    let Ok(mut decoder) = LiveDecoder::new(512 * 512, |_| true) else { return };
    let mut rest = bytes;
    if bytes.first().is_some_and(|first| first & 1 == 1) {
        decoder.skip_earlier();
    }
    while let [high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (unit, after) = more.split_at(length);
        let _is_earlier = LiveDecoder::is_earlier(unit);
        if decoder.decode(unit, length % 3 != 0).is_err() {
            assert!(decoder.needs_key(), "after any error only a key frame is decoded");
        }
        rest = after;
    }
});
