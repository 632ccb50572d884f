//! Pictures: their heads, all of them, and as models want them.
#![no_main]

use std::cell::RefCell;

use cloudpose_pixels::{Decoder, Limits, PlanarImage, probe};
use libfuzzer_sys::fuzz_target;

/// A larger picture only takes longer.
const LIMITS: Limits = Limits { max_pixels: 512 * 512 };

thread_local! {
    static DECODER: RefCell<(Decoder, PlanarImage)> =
        RefCell::new((Decoder::new(LIMITS).expect("there is memory"), PlanarImage::default()));
}

fuzz_target!(|bytes: &[u8]| {
    DECODER.with_borrow_mut(|(decoder, picture)| {
        let head = probe(bytes, LIMITS);
        let all = decoder.decode(bytes, picture);
        if let Ok(header) = all {
            assert_eq!(head.ok(), Some(header), "what decodes has a head that says what it is");
            assert_eq!((picture.width(), picture.height()), (header.width as usize, header.height as usize));
        }
        let reduced =
            decoder.decode_reduced(bytes, |width, height| (width.div_ceil(5), height.div_ceil(5)), picture);
        drop(reduced);
    });
});
