//! A running engine takes no more memory, whatever it is sent.

use super::*;
use crate::gpu::engine::warm_up;

/// Pictures that need the most of something, and where to look in them.
fn largest() -> Vec<(PlanarImage, Option<Square>)> {
    let crop = |x, y, side| Some(Square { x, y, side });
    vec![
        (PlanarImage::new(4096, 4096, Subsampling::S444), None),
        (PlanarImage::new(4096, 4096, Subsampling::S444), crop(0.0, 0.0, 4096.0)),
        // The widest that there is: every row that is read is uploaded whole.
        (PlanarImage::new(65_500, 256, Subsampling::S444), crop(30_000.0, 0.0, 256.0)),
        (PlanarImage::new(256, 65_500, Subsampling::S444), crop(0.0, 30_000.0, 256.0)),
        (PlanarImage::new(1280, 720, Subsampling::S420), None),
        (PlanarImage::new(720, 1280, Subsampling::Grey), None),
        (PlanarImage::new(1, 1, Subsampling::S420), None),
    ]
}

#[test]
fn nothing_that_a_client_can_send_takes_memory_after_the_warm_up() {
    let mut engine = engine(Precision::F16);
    let models = models();
    for model in models.ids() {
        warm_up(&mut engine, &models, model, 2).unwrap();
    }
    let warm = engine.allocations();
    for (image, crop) in largest() {
        let source = Source { width: image.width(), height: image.height(), scale: Scale::FULL };
        for model in models.ids() {
            let fit = models.get(model).unwrap().fit();
            let crop = crop.filter(|_| matches!(fit, Fit::Letterbox { .. }));
            let pictures = [(); 2].map(|()| {
                let mut picture = Picture::default();
                picture.pack(&image, Preprocessor::new(fit).plan(&image, source, crop));
                picture
            });
            let poses = engine.run_pictures(model, &pictures.each_ref()).unwrap().poses;
            assert_eq!(poses.len(), 2);
            assert_eq!(poses[0], poses[1]);
            assert_eq!(engine.allocations(), warm, "{model} on {source:?} {crop:?}");
        }
    }
}
