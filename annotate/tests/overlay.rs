//! What the overlay changes, what it leaves alone, and that no coordinates can hurt it.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cloudpose_annotate::overlay::{Style, draw};
use cloudpose_pixels::{Component, PlanarImage, Subsampling, bt601};
use cloudpose_wire::{Keypoint, Person, Skeleton, event::BoundingBox, skeleton::KeypointKind};
use proptest::prelude::*;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;

/// Someone standing upright, 150 pixels tall, the nose at (x, y).
fn person(x: f32, y: f32) -> Person {
    const OFFSETS: [[f32; 2]; 17] = [
        [0., 0.],
        [4., -4.],
        [-4., -4.],
        [9., -2.],
        [-9., -2.],
        [22., 25.],
        [-22., 25.],
        [35., 55.],
        [-35., 55.],
        [40., 82.],
        [-40., 82.],
        [14., 80.],
        [-14., 80.],
        [16., 112.],
        [-16., 112.],
        [17., 145.],
        [-17., 145.],
    ];
    let coco = Skeleton::coco_17();
    let keypoints = coco.keypoints().iter().zip(OFFSETS);
    Person {
        track_id: None,
        score: 0.9,
        bounding_box: BoundingBox { x: x - 45., y: y - 15., width: 90., height: 170. },
        keypoints: keypoints
            .map(|(kind, [dx, dy])| Keypoint { name: kind.name.clone(), x: x + dx, y: y + dy, score: 0.9 })
            .collect(),
    }
}

/// A plain picture of one grey.
fn plain(subsampling: Subsampling) -> PlanarImage {
    let mut image = PlanarImage::new(WIDTH, HEIGHT, subsampling);
    let (luma, _) = image.planes_mut();
    luma.samples.fill(90);
    image
}

fn drawn(subsampling: Subsampling, persons: &[Person], style: &Style) -> PlanarImage {
    let mut image = plain(subsampling);
    draw(&mut image, &Skeleton::coco_17(), persons, style);
    image
}

fn rgb_at(image: &PlanarImage, x: usize, y: usize) -> [u8; 3] {
    let (across, down) = image.subsampling().step();
    let chroma = |c| image.plane(c).map_or(128, |p| p.row(y / down)[x / across]);
    bt601::rgb_from_ycc([image.luma().row(y)[x], chroma(Component::U), chroma(Component::V)])
}

/// How far a pixel's centre is from the nearest limb.
fn distance_to_limbs(person: &Person, x: usize, y: usize) -> f32 {
    let point = [x as f32 + 0.5, y as f32 + 0.5];
    let at = |index: usize| [person.keypoints[index].x, person.keypoints[index].y];
    Skeleton::coco_17()
        .limbs()
        .iter()
        .map(|&[from, to]| {
            let (a, b) = (at(from), at(to));
            let (ab, ap) = ([b[0] - a[0], b[1] - a[1]], [point[0] - a[0], point[1] - a[1]]);
            let t = (ap[0] * ab[0] + ap[1] * ab[1]) / (ab[0] * ab[0] + ab[1] * ab[1]).max(1e-6);
            let t = t.clamp(0.0, 1.0);
            (ap[0] - t * ab[0]).hypot(ap[1] - t * ab[1])
        })
        .fold(f32::MAX, f32::min)
}

#[test]
fn pixels_change_along_the_limbs_and_nowhere_else() {
    let someone = person(160., 40.);
    for subsampling in Subsampling::ALL {
        let image = drawn(subsampling, std::slice::from_ref(&someone), &Style::default());
        let (before, (across, down)) = (plain(subsampling), image.subsampling().step());
        let margin = 6.0 + 1.5 * across.max(down) as f32;
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let changed = rgb_at(&image, x, y) != rgb_at(&before, x, y);
                let distance = distance_to_limbs(&someone, x, y);
                assert!(!changed || distance < margin, "{subsampling:?} ({x}, {y}) is {distance} away");
                assert!(changed || distance > 0.5, "{subsampling:?} ({x}, {y}) is on a limb");
            }
        }
    }
}

#[test]
fn a_limb_has_the_persons_colour_under_every_subsampling() {
    // The middle of the left thigh, and where an upright line two pixels wide must show its hue.
    let someone = person(160., 40.);
    let expected =
        rgb_at(&drawn(Subsampling::S444, std::slice::from_ref(&someone), &Style::default()), 175, 136);
    for subsampling in Subsampling::ALL {
        let image = drawn(subsampling, std::slice::from_ref(&someone), &Style::default());
        let [r, g, b] = rgb_at(&image, 175, 136).map(i32::from);
        // The first colour is cyan.
        assert!(b > r + 40 && g > r + 40, "{subsampling:?}: {:?}", (r, g, b));
        assert!(g.abs_diff(expected[1].into()) < 60, "{subsampling:?}: {:?}, not {expected:?}", (r, g, b));
    }
}

#[test]
fn a_grey_picture_gains_colour_only_when_there_is_someone() {
    let alone = drawn(Subsampling::Grey, &[], &Style::default());
    assert_eq!(alone.subsampling(), Subsampling::Grey);
    let image = drawn(Subsampling::Grey, &[person(160., 40.)], &Style::default());
    assert_eq!(image.subsampling(), Subsampling::S420);
    assert_eq!(rgb_at(&image, 5, 5), [90; 3]);
}

#[test]
fn joints_with_a_low_score_are_left_out() {
    let mut someone = person(160., 40.);
    const LEFT_WRIST: usize = 9;
    const LEFT_ELBOW: usize = 7;
    for index in [LEFT_WRIST, LEFT_ELBOW] {
        someone.keypoints[index].score = 0.29;
    }
    let image = drawn(Subsampling::S444, &[someone.clone()], &Style::default());
    let wrist = (200, 122);
    assert_eq!(rgb_at(&image, wrist.0, wrist.1), [90; 3]);
    let everything = Style { keypoint_min_score: 0.2, ..Style::default() };
    let image = drawn(Subsampling::S444, &[someone], &everything);
    assert_ne!(rgb_at(&image, wrist.0, wrist.1), [90; 3]);
}

#[test]
fn colours_follow_the_track_and_not_the_order() {
    let tracked = |x, id| Person { track_id: Some(id), ..person(x, 60.) };
    let style = Style { hide_ids: true, ..Style::default() };
    let there = drawn(Subsampling::S444, &[tracked(80., 1), tracked(240., 2)], &style);
    let back = drawn(Subsampling::S444, &[tracked(240., 2), tracked(80., 1)], &style);
    for component in [Component::Y, Component::U, Component::V] {
        assert_eq!(there.plane(component).unwrap().samples, back.plane(component).unwrap().samples);
    }
    let (one, two) = (rgb_at(&there, 95, 156), rgb_at(&there, 255, 156));
    assert!(one.iter().zip(two).any(|(a, b)| a.abs_diff(b) > 60), "{one:?} and {two:?}");
}

#[test]
fn ids_and_boxes_are_drawn_when_asked_for() {
    let someone = Person { track_id: Some(7), ..person(160., 80.) };
    let changed = |style: &Style, xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
        let image = drawn(Subsampling::S420, std::slice::from_ref(&someone), style);
        ys.flat_map(|y| xs.clone().map(move |x| (x, y))).any(|(x, y)| rgb_at(&image, x, y) != [90; 3])
    };
    let bare = Style { hide_ids: true, boxes: false, ..Style::default() };
    assert!(!changed(&bare, 150..170, 50..65));
    assert!(changed(&Style { hide_ids: false, ..bare }, 150..170, 50..65));
    assert!(!changed(&bare, 110..120, 60..70));
    assert!(changed(&Style { boxes: true, ..bare }, 110..120, 60..70));
}

/// Numbers of every size and kind.
fn wild() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -50f32..400.0,
        2 => any::<f32>(),
        1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e9, -1e9]),
    ]
}

proptest! {
    #[test]
    fn no_coordinates_can_hurt(
        points in prop::collection::vec((wild(), wild(), wild()), 17),
        bounds in (wild(), wild(), wild(), wild()),
        track_id in any::<Option<u32>>(),
        size in (1usize..70, 1usize..70),
        subsampling in prop::sample::select(Subsampling::ALL.to_vec()),
    ) {
        let coco = Skeleton::coco_17();
        let keypoints = coco.keypoints().iter().zip(points);
        let keypoint = |(kind, (x, y, score)): (&KeypointKind, _)| Keypoint { name: kind.name.clone(), x, y, score };
        let (x, y, width, height) = bounds;
        let someone = Person {
            track_id,
            score: 0.5,
            bounding_box: BoundingBox { x, y, width, height },
            keypoints: keypoints.map(keypoint).collect(),
        };
        let mut image = PlanarImage::new(size.0, size.1, subsampling);
        draw(&mut image, &coco, &[someone], &Style { boxes: true, hide_ids: false, keypoint_min_score: 0.3 });
    }
}
