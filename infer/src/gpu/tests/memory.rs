//! A running engine takes no more memory, whatever it is sent.

use super::*;
use crate::gpu::engine::warm_up;
use crate::preprocess::Fit;
use cloudpose_wire::ModelId;

#[test]
fn nothing_that_a_client_can_send_takes_memory_after_the_warm_up() {
    let mut engine = engine(Precision::F16);
    let models = models();
    let on_gpu = |model: &&ModelId| models.get(model).unwrap().on_gpu().is_some();
    for model in models.ids().iter().filter(on_gpu) {
        warm_up(&mut engine, &models, model, 2).unwrap();
    }
    let warm = engine.allocations();
    for model in models.ids().iter().filter(on_gpu) {
        let Fit::Aspect { longer_side } = models.get(model).unwrap().fit() else { continue };
        // Of detectors, which look at large pictures, a flat and a half-high one: the warm-up was with the square.
        let step = if longer_side > 256 { longer_side / 2 } else { CELL_PX * 8 };
        for short in (CELL_PX * 8..=longer_side).step_by(step) {
            for [width, height] in [[longer_side, short], [short, longer_side]] {
                let images = [noise(3 * width * height, 1), noise(3 * width * height, 1)];
                let poses = run_rgb(&mut engine, model.as_str(), &images, [height, width]);
                assert_eq!(poses.len(), 2);
                assert_eq!(poses[0], poses[1]);
                assert_eq!(engine.allocations(), warm, "{model} {width}×{height}");
            }
        }
    }
}
