//! What the overlay looks like, beside pictures that somebody has looked at.
//!
//! After a change that is meant to show, write them anew, look at each, and say in the commit why they changed:
//!
//! ```text
//! CLOUDPOSE_WRITE_GOLDEN=1 cargo nextest run -p cloudpose-annotate --test golden
//! ```

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::Path;

use cloudpose_annotate::overlay::{Style, draw};
use cloudpose_pixels::{Component, PlanarImage, Subsampling, bt601};
use cloudpose_wire::{Person, Skeleton, event::BoundingBox};
use image::RgbImage;
use person::standing;

mod person;

/// How far a colour may be off: a rounding or two, for sums in another order.
const TOLERANCE: u8 = 3;

/// A picture that falls off from the top left: an overlay must stand out from dark and from bright.
fn background(width: usize, height: usize, subsampling: Subsampling) -> PlanarImage {
    let mut image = PlanarImage::new(width, height, subsampling);
    let (mut luma, _) = image.planes_mut();
    for y in 0..height {
        for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
            *sample = (230 - 180 * x / width - 40 * y / height) as u8;
        }
    }
    image
}

fn rgb(image: &PlanarImage) -> RgbImage {
    let (across, down) = image.subsampling().step();
    RgbImage::from_fn(image.width() as u32, image.height() as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let chroma = |c| image.plane(c).map_or(128, |p| p.row(y / down)[x / across]);
        image::Rgb(bt601::rgb_from_ycc([image.luma().row(y)[x], chroma(Component::U), chroma(Component::V)]))
    })
}

/// Draws `persons` and compares with the golden picture of that name.
fn assert_looks(name: &str, mut image: PlanarImage, persons: &[Person], style: &Style) {
    draw(&mut image, &Skeleton::coco_17(), persons, style);
    let got = rgb(&image);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.png"));
    if std::env::var_os("CLOUDPOSE_WRITE_GOLDEN").is_some() {
        got.save(&path).unwrap();
    }
    let golden = image::open(&path).unwrap().into_rgb8();
    assert_eq!(got.dimensions(), golden.dimensions(), "{name}");
    let off: Vec<(u32, u32)> = got
        .enumerate_pixels()
        .zip(golden.pixels())
        .filter(|((.., a), b)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > TOLERANCE))
        .map(|((x, y, _), _)| (x, y))
        .collect();
    assert!(off.is_empty(), "{name}: {} pixels are off, first {:?}", off.len(), off[0]);
}

fn tracked(id: u32, nose: [f32; 2], scale: f32) -> Person {
    Person { track_id: Some(id), ..standing(nose, scale) }
}

#[test]
fn labels() {
    let ids = [1, 8, 23, 45, 67, 90, 4_294_967_295];
    let persons: Vec<Person> =
        ids.iter().enumerate().map(|(i, &id)| tracked(id, [60. + 85. * i as f32, 70.], 0.8)).collect();
    assert_looks("labels", background(640, 200, Subsampling::S444), &persons, &Style::default());
}

#[test]
fn labels_at_the_edges() {
    let persons = [
        tracked(18, [5., 8.], 0.5),
        tracked(8888, [395., 8.], 0.5),
        tracked(81, [-3., 150.], 0.5),
        tracked(1, [200., 290.], 1.0),
    ];
    assert_looks("edges", background(400, 300, Subsampling::S420), &persons, &Style::default());
}

#[test]
fn box_corners() {
    let style = Style { boxes: true, hide_ids: true, ..Style::default() };
    let flat = BoundingBox { x: 250., y: 330., width: 200., height: 40. };
    let outside = BoundingBox { x: 520., y: -40., width: 300., height: 300. };
    let far = BoundingBox { x: 0., y: 0., width: 1e9, height: 10. };
    let persons = [
        standing([120., 60.], 1.5),
        standing([330., 40.], 0.3),
        Person { bounding_box: flat, keypoints: Vec::new(), ..standing([0., 0.], 1.0) },
        Person { bounding_box: outside, ..standing([600., 60.], 1.2) },
        Person { bounding_box: far, keypoints: Vec::new(), ..standing([0., 0.], 1.0) },
    ];
    assert_looks("boxes", background(720, 400, Subsampling::S420), &persons, &style);
}

#[test]
fn faces_close_and_far() {
    let persons = [standing([180., 150.], 6.0), standing([450., 60.], 2.0), standing([580., 60.], 0.25)];
    assert_looks("faces", background(640, 480, Subsampling::S420), &persons, &Style::default());
}

#[test]
fn the_best_person_on_top() {
    let persons: Vec<Person> = (0..5).map(|i| standing([100. + 22. * i as f32, 40.], 1.0)).collect();
    assert_looks("crowd", background(300, 210, Subsampling::S420), &persons, &Style::default());
}

#[test]
fn someone_seen_in_part() {
    const NOSE: usize = 0;
    const RIGHT_SHOULDER: usize = 6;
    const LEFT_ELBOW: usize = 7;
    const LEFT_KNEE: usize = 13;
    let mut someone = tracked(3, [100., 60.], 1.0);
    for index in [NOSE, LEFT_ELBOW, LEFT_KNEE, RIGHT_SHOULDER] {
        someone.keypoints[index].score = 0.1;
    }
    let mut lying = standing([180., 170.], 1.0);
    for keypoint in &mut lying.keypoints {
        (keypoint.x, keypoint.y) = (180. + keypoint.y - 170., 170. + 0.3 * (keypoint.x - 180.));
    }
    let absurd = &mut lying.keypoints[LEFT_ELBOW];
    (absurd.x, absurd.y) = (f32::NAN, 1e9);
    assert_looks("in-part", background(400, 240, Subsampling::S444), &[someone, lying], &Style::default());
}

#[test]
fn every_subsampling_at_odd_sizes() {
    for subsampling in Subsampling::ALL {
        let persons = [tracked(7, [45., 30.], 0.6), tracked(12, [105., 20.], 0.7)];
        let name = format!("{subsampling:?}").to_lowercase();
        let style = Style { boxes: true, ..Style::default() };
        assert_looks(&name, background(151, 133, subsampling), &persons, &style);
    }
}
