//! Video files.
#![no_main]

use std::io::Write as _;

use cloudpose_pixels::PlanarImage;
use cloudpose_video::Video;
use libfuzzer_sys::fuzz_target;

/// Behind these are more of the same.
const PICTURES: usize = 8;

fuzz_target!(init: cloudpose_fuzz::caught(&["/re_mp4-", "/rusty_h264-"]), |bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("there is a place for files");
    file.write_all(bytes).expect("there is room");
    let Ok(mut video) = Video::open(file.path()) else { return };
    let mut picture = PlanarImage::default();
    for _ in 0..PICTURES {
        if !matches!(video.next_into(&mut picture), Ok(Some(_))) {
            break;
        }
    }
});
