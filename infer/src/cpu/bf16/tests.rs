//! The engine in bfloat16, on every unit: what it finds, and that threads and batches change no bit of it.

use std::sync::Arc;

use cloudpose_kernels::{
    Kernels as Single,
    bf16::{Kernels, Unit},
};
use cloudpose_testing::golden::Golden;

use crate::cpu::{PackedModel, PlanHeads, Plans};
use crate::models::movenet::arch::Head;
use crate::models::movenet::decoder::Heads;
use crate::models::movenet::{Decoder, embedded};

/// The score from which on a keypoint is one that users see.
const SURE: f32 = 0.3;

/// Runs `test` on every unit this machine has; the kernels' suite says which.
fn on_every_unit(test: impl Fn(Kernels)) {
    Unit::ALL.into_iter().filter_map(Kernels::of).for_each(test);
}

fn packed(model: &str, kernels: Kernels) -> Arc<PackedModel> {
    Arc::new(PackedModel::pack(&embedded(model), Single::detect().unwrap(), Some(kernels)))
}

/// All that the decoder can read of one picture.
fn read(heads: &mut PlanHeads<'_>) -> [Vec<f32>; 3] {
    let mut offsets = vec![0.0; 34 * heads.grid().cells()];
    for (cell, offsets) in offsets.chunks_exact_mut(34).enumerate() {
        heads.read(Head::Offset, cell, 0, offsets);
    }
    [heads.center().to_vec(), heads.keypoints().to_vec(), offsets]
}

fn picture(height: usize, width: usize, seed: usize) -> Vec<u8> {
    (0..height * width * 3).map(|i| (i * i / (7 + seed) + i) as u8).collect()
}

/// How far the sure keypoints of the golden frames move, as shares of the input.
fn shifts(model: &str, kernels: Kernels) -> Vec<f32> {
    let decoder = Decoder::new(&embedded(model));
    let mut plans = Plans::new(packed(model, kernels), None);
    let mut shifts = Vec::new();
    for golden in Golden::all(model) {
        // Of several people SinglePose takes another one at the least change; its average precision judges that.
        if model != "multipose" && golden.name.starts_with("multi") {
            continue;
        }
        let [_, height, width, _] = golden.shape;
        let mut heads = plans.run(height, width, &[&golden.pixels()]).unwrap().remove(0);
        let found = decoder.decode(&mut heads);
        for row in golden.rows() {
            let sure = |row: &&[f32]| row[2] >= SURE;
            let keypoints: Vec<&[f32]> = row[..51].chunks_exact(3).collect();
            // The same person, wherever in the list.
            let of_person = found.iter().map(|pose| {
                let pairs = keypoints.iter().zip(&pose.keypoints).filter(|(golden, _)| sure(golden));
                pairs.map(|(golden, k)| (golden[0] - k.y).hypot(golden[1] - k.x)).collect::<Vec<f32>>()
            });
            let total = |shifts: &Vec<f32>| shifts.iter().sum::<f32>();
            shifts.extend(of_person.min_by(|a, b| total(a).total_cmp(&total(b))).unwrap_or_default());
        }
    }
    shifts.sort_by(f32::total_cmp);
    shifts
}

#[test]
fn sure_keypoints_stay_where_they_were() {
    on_every_unit(|kernels| {
        for model in ["lightning", "thunder", "multipose"] {
            let shifts = shifts(model, kernels);
            let [median, most] =
                [0.5, 0.95].map(|share| shifts[(share * (shifts.len() - 1) as f64) as usize]);
            println!("{model} on {}: {} keypoints, {median}, {most}", kernels.unit(), shifts.len());
            assert!(median <= 0.002, "{model} on {}: half move by more than {median}", kernels.unit());
            assert!(most <= 0.01, "{model} on {}: one in twenty moves by more than {most}", kernels.unit());
        }
    });
}

#[test]
fn any_number_of_threads_gives_the_same_numbers() {
    on_every_unit(|kernels| {
        for (model, height, width) in
            [("lightning", 192, 192), ("multipose", 160, 256), ("multipose", 32, 64)]
        {
            let (pixels, packed) = (picture(height, width, 0), packed(model, kernels));
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut plans = Plans::new(packed.clone(), Some(Arc::new(pool)));
                read(&mut plans.run(height, width, &[&pixels]).unwrap()[0])
            };
            let alone = run(1);
            assert!(alone.iter().flatten().all(|number| number.is_finite()));
            for threads in [2, 3, 5, 16] {
                let unit = kernels.unit();
                assert!(run(threads) == alone, "{unit} {model} {height}×{width} on {threads} threads");
            }
        }
    });
}

#[test]
fn pictures_at_once_and_again_give_the_same_bits_as_one_by_one() {
    on_every_unit(|kernels| {
        let model = packed("thunder", kernels);
        let pictures: Vec<_> = (0..4).map(|seed| picture(256, 256, seed)).collect();
        let mut plans = Plans::new(model.clone(), None);
        let mut alone = |pixels: &Vec<u8>| read(&mut plans.run(256, 256, &[pixels]).unwrap()[0]);
        let first: Vec<_> = pictures.iter().map(&mut alone).collect();
        let again: Vec<_> = pictures.iter().map(&mut alone).collect();
        assert!(first == again, "{}: what ran before left its mark", kernels.unit());
        let at_once: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let mut heads = plans.run(256, 256, &at_once).unwrap();
        let together: Vec<_> = heads.iter_mut().map(read).collect();
        assert!(together == first, "{}", kernels.unit());
    });
}
