//! Draws four people on one 1280×720 frame, 4:2:0, on one core.

use cloudpose_annotate::overlay::{Style, draw};
use cloudpose_pixels::{PlanarImage, Subsampling};
use cloudpose_wire::{Keypoint, Person, Skeleton, event::BoundingBox};
use criterion::{Criterion, criterion_group, criterion_main};

/// Joints on a wide zigzag, so that limbs are as long as those of someone close.
fn person(x: f32) -> Person {
    let coco = Skeleton::coco_17();
    let keypoints = coco.keypoints().iter().enumerate();
    Person {
        track_id: Some(x as u32),
        score: 0.9,
        bounding_box: BoundingBox { x, y: 100., width: 250., height: 550. },
        keypoints: keypoints
            .map(|(i, kind)| Keypoint {
                name: kind.name.clone(),
                x: x + if i % 2 == 0 { 60. } else { 190. },
                y: 110. + 33. * i as f32,
                score: 0.9,
            })
            .collect(),
        coarse: false,
    }
}

fn overlay(c: &mut Criterion) {
    let persons: Vec<Person> = (0..4).map(|i| person(20. + 300. * i as f32)).collect();
    let coco = Skeleton::coco_17();
    let style = Style { boxes: true, ..Style::default() };
    let mut frame = PlanarImage::new(1280, 720, Subsampling::S420);
    c.bench_function("draw 4 persons 1280x720", |b| b.iter(|| draw(&mut frame, &coco, &persons, &style)));
}

criterion_group!(benches, overlay);
criterion_main!(benches);
