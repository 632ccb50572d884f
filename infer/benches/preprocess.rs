//! Model inputs from one 1280×720 frame, 4:2:0, on one core.

use std::hint::black_box;

use cloudpose_infer::preprocess::{Fit, ModelInput, Preprocessor};
use cloudpose_pixels::{PlanarImage, Subsampling};
use criterion::{Criterion, criterion_group, criterion_main};

fn preprocess(c: &mut Criterion) {
    let frame = PlanarImage::new(1280, 720, Subsampling::S420);
    let mut input = ModelInput::default();
    for (name, fit) in [
        ("letterbox 192 from 1280x720", Fit::Letterbox { side: 192 }),
        ("letterbox 256 from 1280x720", Fit::Letterbox { side: 256 }),
        ("aspect 256 from 1280x720", Fit::Aspect { longer_side: 256 }),
    ] {
        let mut preprocessor = Preprocessor::new(fit);
        c.bench_function(name, |b| b.iter(|| preprocessor.run(black_box(&frame), None, &mut input)));
    }
}

criterion_group!(benches, preprocess);
criterion_main!(benches);
