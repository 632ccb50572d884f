//! What the overlay changes, what it leaves alone, and that no coordinates can hurt it.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cloudpose_annotate::overlay::{Style, draw};
use cloudpose_pixels::{Component, PlanarImage, Subsampling, bt601};
use cloudpose_wire::{Keypoint, Person, Skeleton, event::BoundingBox, skeleton::KeypointKind};
use proptest::prelude::*;

mod person;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;

/// Someone standing upright, 150 pixels tall, the nose at (x, y).
fn person(x: f32, y: f32) -> Person {
    person::standing([x, y], 1.0)
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

/// The first and last column and row of what differs, or None if nothing does.
fn difference(a: &PlanarImage, b: &PlanarImage) -> Option<[usize; 4]> {
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    let changed = pixels.filter(|&(x, y)| rgb_at(a, x, y) != rgb_at(b, x, y));
    changed.fold(None, |bounds, (x, y)| {
        let [left, right, top, bottom] = bounds.unwrap_or([x, x, y, y]);
        Some([left.min(x), right.max(x), top.min(y), bottom.max(y)])
    })
}

/// Where the label of someone with the nose at (x, y) is.
fn label_at(x: f32, y: f32, id: u32) -> [usize; 4] {
    let someone = Person { track_id: Some(id), ..person(x, y) };
    let with = |hide_ids| {
        let style = Style { hide_ids, ..Style::default() };
        drawn(Subsampling::S444, std::slice::from_ref(&someone), &style)
    };
    difference(&with(true), &with(false)).expect("the label shows")
}

#[test]
fn every_number_has_a_label_of_its_own() {
    // All have the first colour, and as many digits.
    let labels: Vec<PlanarImage> = (1..10)
        .map(|digit| {
            let someone = Person { track_id: Some(10 * digit), ..person(160., 60.) };
            drawn(Subsampling::S444, &[someone], &Style::default())
        })
        .collect();
    for (i, a) in labels.iter().enumerate() {
        for (j, b) in labels.iter().enumerate().skip(i + 1) {
            assert!(difference(a, b).is_some(), "{}0 and {}0 look the same", i + 1, j + 1);
        }
    }
}

#[test]
fn a_label_is_above_its_person_and_stays_inside_the_picture() {
    let size = |[left, right, top, bottom]: [usize; 4]| [right - left, bottom - top];
    let free = label_at(160., 60., 888);
    assert!(
        ((free[0] + free[1]) / 2).abs_diff(164) <= 1,
        "centred over the topmost joint, the left eye: {free:?}"
    );
    assert!(free[3] < 56, "above the eyes");
    for (x, y) in [(0., 5.), (319., 5.), (160., 0.), (-20., 30.), (340., 200.), (160., -30.)] {
        let label = label_at(x, y, 888);
        let off = size(label).into_iter().zip(size(free)).map(|(a, b)| a.abs_diff(b)).max();
        assert!(off <= Some(1), "({x}, {y}): {label:?} is cut off, {free:?} is not");
    }
    assert!(size(label_at(160., 60., 8888))[0] > size(free)[0] + 3, "a digit more needs room");
}

#[test]
fn the_best_person_is_on_top() {
    let (left, right) = (person(150., 60.), person(170., 60.));
    let style = Style::default();
    let alone = drawn(Subsampling::S444, std::slice::from_ref(&left), &style);
    let together = drawn(Subsampling::S444, &[left, right.clone()], &style);
    // On the first one's thigh: whatever is below does not show.
    assert_eq!(rgb_at(&together, 165, 156), rgb_at(&alone, 165, 156));
    let both = drawn(Subsampling::S444, &[right, person(150., 60.)], &style);
    assert_ne!(difference(&together, &both), None);
}

#[test]
fn boxes_are_marked_at_their_corners_and_nowhere_else() {
    let someone = person(160., 40.);
    let with = |boxes| {
        let style = Style { boxes, ..Style::default() };
        drawn(Subsampling::S444, std::slice::from_ref(&someone), &style)
    };
    let (bare, boxed) = (with(false), with(true));
    let BoundingBox { x, y, width, height } = someone.bounding_box;
    let (xs, ys) = ([x, x + width], [y, y + height]);
    for corner_x in xs {
        for corner_y in ys {
            assert_ne!(rgb_at(&boxed, corner_x as usize, corner_y as usize), [90; 3]);
        }
    }
    let middle = [x + width / 2., y + height / 2.];
    for (x, y) in [(middle[0], ys[0]), (middle[0], ys[1]), (xs[0], middle[1]), (xs[1], middle[1])] {
        assert_eq!(rgb_at(&boxed, x as usize, y as usize), rgb_at(&bare, x as usize, y as usize));
    }
    let [left, right, top, bottom] = difference(&bare, &boxed).unwrap();
    let near = |found: usize, wanted: f32| (found as f32 - wanted).abs() <= 3.0;
    assert!(near(left, xs[0]) && near(right, xs[1]) && near(top, ys[0]) && near(bottom, ys[1]));
}

#[test]
fn a_box_that_ends_absurdly_far_away_is_not_drawn() {
    let [x, y] = [0.9 * WIDTH as f32, 0.9 * HEIGHT as f32];
    let style = Style { boxes: true, ..Style::default() };
    let with = |width, height| {
        let bounding_box = BoundingBox { x, y, width, height };
        let someone = Person { bounding_box, keypoints: Vec::new(), ..person(0., 0.) };
        difference(&plain(Subsampling::S444), &drawn(Subsampling::S444, &[someone], &style))
    };
    assert_ne!(with(4.0 * WIDTH as f32, 4.0 * HEIGHT as f32), None);
    assert_eq!(with(4.2 * WIDTH as f32, 20.), None);
    assert_eq!(with(20., 4.2 * HEIGHT as f32), None);
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
            coarse: false,
        };
        let mut image = PlanarImage::new(size.0, size.1, subsampling);
        draw(&mut image, &coco, &[someone], &Style { boxes: true, hide_ids: false, keypoint_min_score: 0.3 });
    }
}
