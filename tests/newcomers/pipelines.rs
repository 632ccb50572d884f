//! Newcomers through decoder, engine, stages and tracks, without a bus.

use std::num::NonZeroUsize;

use bytes::Bytes;
use cloudpose_infer::{Detail, Detection, Image, Job, Past, Pipeline, cpu::CpuEngine};
use cloudpose_tracks::Registry;
use cloudpose_wire::{Output, Person, Prior};

use crate::{
    folder::{Folder, kite},
    house::House,
    painting::{DARK, KITE, Painting, WHITE, joints, joints_at},
};

fn pipeline() -> (Folder, Pipeline) {
    let folder = Folder::new();
    let pipeline = Pipeline::on_cpu(folder.models().unwrap(), NonZeroUsize::MIN).unwrap();
    (folder, pipeline)
}

fn detect(pipeline: &mut Pipeline, model: &str, image: &Bytes, past: Option<Past<'_>>) -> Detection {
    let model = model.parse().unwrap();
    let job = Job {
        image: Image::Encoded(image),
        detail: Detail::Model,
        model: &model,
        min_score: 0.2,
        top: cloudpose_wire::frame::USUAL_TOP,
        past,
        stream: None,
        pictures: None,
    };
    pipeline.detect(job).unwrap()
}

fn persons(detection: Detection) -> Vec<Person> {
    match detection.output {
        Output::Poses { persons, .. } => persons,
        Output::Classes(classes) => panic!("expected persons, got {classes:?}"),
    }
}

#[test]
fn engine_and_reference_find_what_was_painted() {
    let (folder, mut pipeline) = pipeline();
    let models = folder.models().unwrap();
    let reference = CpuEngine::reference(models.clone()).unwrap();
    let mut reference = Pipeline::with_engine(models, Box::new(reference)).unwrap();
    // A joint that is not there has no score, and takes nothing from the others.
    let mut painting = Painting::new(320, 240, DARK).kite([160, 100], KITE, 20);
    painting.rectangle([90, 120], [110, 140], DARK);
    let image = painting.jpeg();
    for pipeline in [&mut pipeline, &mut reference] {
        pipeline.warm_up(&"tiny".parse().unwrap()).unwrap();
        let [person] = persons(detect(pipeline, "tiny", &image, None)).try_into().unwrap();
        assert_eq!(person.score, 0.8);
        for (index, (keypoint, place)) in person.keypoints.iter().zip(joints_at([160, 100])).enumerate() {
            match index {
                1 => assert_eq!(keypoint.score, 0.0),
                _ => assert_eq!(((keypoint.x, keypoint.y), keypoint.score), (place, 1.0)),
            }
        }
    }
}

/// Two kites of a stream: what is found in each frame, and the stream's tracks.
struct Stream {
    pipeline: Pipeline,
    registry: Registry,
    at: u64,
    _folder: Folder,
}

impl Stream {
    fn new() -> Self {
        let (folder, pipeline) = pipeline();
        Self { pipeline, registry: Registry::default(), at: 1_000, _folder: folder }
    }

    /// The persons of the next frame, 40 ms later, from left to right.
    fn frame(&mut self, middles: &[[i32; 2]], smooth: bool) -> Vec<Person> {
        let ground = Painting::new(640, 240, DARK);
        let image = middles.iter().fold(ground, |painting, &middle| painting.kite(middle, KITE, 20)).jpeg();
        let prior = self.registry.prior();
        let past = Past { prior: &prior, at: self.at, smooth };
        let mut found = detect(&mut self.pipeline, "kites", &image, Some(past));
        let tracks: Prior = found.tracks.take().unwrap();
        assert_eq!(tracks.skeleton.as_str(), "kite-5");
        self.registry.absorb(&kite(), tracks.into());
        self.at += 40;
        let mut persons = persons(found);
        persons.sort_by(|a, b| a.keypoints[3].x.total_cmp(&b.keypoints[3].x));
        persons
    }
}

#[test]
fn persons_of_any_skeleton_keep_their_ids() {
    let mut stream = Stream::new();
    for n in 0..10 {
        let middles = [[100 + 10 * n, 110], [540 - 10 * n, 120]];
        let found = stream.frame(&middles, false);
        let ids: Vec<_> = found.iter().map(|person| person.track_id).collect();
        let expected = if n < 3 { [None; 2] } else { [Some(1), Some(2)] };
        assert_eq!(ids, expected, "frame {n}");
        for (person, middle) in found.iter().zip(middles) {
            assert_eq!(joints(person), joints_at(middle), "frame {n}");
        }
    }
    // Whoever comes later is somebody else.
    let found = (0..4).map(|_| stream.frame(&[[200, 110]], false)).last().unwrap();
    assert_eq!(found[0].track_id, Some(1));
}

#[test]
fn joints_of_any_skeleton_are_smoothed() {
    let mut stream = Stream::new();
    let mut x = 100;
    for _ in 0..5 {
        assert_eq!(
            joints(&stream.frame(&[[x, 110]], true)[0]),
            joints_at([x, 110]),
            "who stands does not tremble"
        );
    }
    for _ in 0..5 {
        x += 20;
        let found = joints(&stream.frame(&[[x, 110]], true)[0]);
        for (found, there) in found.iter().zip(joints_at([x, 110])) {
            let behind = there.0 - found.0;
            assert!(behind > 0.0 && behind < 20.0, "{behind} pixels behind");
            assert!((found.1 - there.1).abs() < 1e-3, "it does not move up or down");
        }
    }
}

/// Joints of kites on sheets of paper: of five pixels, too small for whoever looks at the whole picture.
const SMALL: [[i32; 2]; 5] = [[0, -60], [-60, 30], [60, 30], [0, 0], [0, 65]];

/// Sheets of 160 pixels with a small kite each.
pub(crate) fn sheets(corners: &[usize]) -> Bytes {
    let mut painting = Painting::new(640, 640, DARK);
    for &left in corners {
        painting.rectangle([left, 240], [left + 160, 400], WHITE);
        painting = painting.kite([left as i32 + 82, 322], SMALL, 5);
    }
    painting.jpeg()
}

fn small_joints_at(left: usize) -> Vec<(f32, f32)> {
    SMALL.iter().map(|[dx, dy]| ((left as i32 + 80 + dx) as f32 + 2.5, (320 + dy) as f32 + 2.5)).collect()
}

#[test]
fn the_second_stage_sees_what_the_first_cannot() {
    let (_folder, mut pipeline) = pipeline();
    let image = sheets(&[60, 400]);
    assert_eq!(persons(detect(&mut pipeline, "tiny", &image, None)), [], "too small for one look");
    let found = persons(detect(&mut pipeline, "sheets", &image, None));
    assert_eq!(found.len(), 2, "{found:?}");
    let mut found = persons(detect(&mut pipeline, "closer", &image, None));
    found.sort_by(|a, b| a.bounding_box.x.total_cmp(&b.bounding_box.x));
    assert_eq!(found.iter().map(joints).collect::<Vec<_>>(), [small_joints_at(60), small_joints_at(400)]);
    assert!(found.iter().all(|person| person.score == 1.0));
    assert_eq!(persons(detect(&mut pipeline, "closer", &sheets(&[]), None)), [], "nobody to look closer at");
}

#[test]
fn who_has_other_keypoints_than_those_reported_does_not_stay_as_found() {
    let (_folder, pipeline) = pipeline();
    let mut pipeline = pipeline.refining(1);
    let past = Past { prior: &Prior::default(), at: 1_000, smooth: false };
    let mut found = detect(&mut pipeline, "closer", &sheets(&[60, 400]), Some(past));
    assert_eq!(found.tracks.take().unwrap().tracks.len(), 1);
    let [kite] = persons(found).try_into().unwrap();
    assert_eq!(kite.keypoints.len(), 5, "a sheet has one");
}

#[tokio::test]
async fn stages_are_one_model_to_clients() {
    let house = House::start("tiny").await;
    let event = house.event("?model=closer", sheets(&[240])).await;
    assert_eq!(event.model.as_str(), "closer");
    let Output::Poses { skeleton, persons } = &event.output else { panic!("{event:?}") };
    assert_eq!(skeleton.as_str(), "kite-5");
    assert_eq!(persons.iter().map(joints).collect::<Vec<_>>(), [small_joints_at(240)]);
}
