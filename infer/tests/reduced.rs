//! Poses from a reduced decode beside those from all pixels.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use cloudpose_infer::{Detail, Image, Job, Models, Pipeline, StoreConfig};
use cloudpose_pixels::{Component, Decoder, Encoder, Limits, PlanarImage, Pool};
use cloudpose_wire::{ModelId, Person};

/// Keypoints below this are guesses, which no decode makes steady.
const SEEN: f32 = 0.3;
/// How far a keypoint may be from where all pixels put it, as a share of the image's longer side: 2.6 pixels
/// of the model's 256.
const TOLERANCE: f32 = 0.01;
const MODEL_SIDE: f32 = 256.0;

fn pipeline() -> Pipeline {
    Pipeline::on_cpu(Arc::new(Models::open(&StoreConfig::default()).unwrap()), NonZeroUsize::MIN).unwrap()
}

/// The picture with each pixel as a square of two by two: large enough to be reduced.
fn doubled(image: &PlanarImage) -> PlanarImage {
    let mut large = PlanarImage::new(2 * image.width(), 2 * image.height(), image.subsampling());
    let (luma, chroma) = large.planes_mut();
    let planes = std::iter::once(luma).chain(chroma.into_iter().flatten());
    for (component, mut to) in [Component::Y, Component::U, Component::V].into_iter().zip(planes) {
        let from = image.plane(component).unwrap();
        for y in 0..to.height {
            let row = from.row((y / 2).min(from.height - 1));
            for (x, sample) in to.row_mut(y).iter_mut().enumerate() {
                *sample = row[(x / 2).min(from.width - 1)];
            }
        }
    }
    large
}

fn job<'a>(image: &'a [u8], model: &'a ModelId) -> Job<'a> {
    Job {
        image: Image::Encoded(image),
        detail: Detail::Full,
        model,
        min_score: 0.0,
        top: cloudpose_wire::frame::USUAL_TOP,
        past: None,
        stream: None,
        pictures: None,
    }
}

fn images() -> Vec<PathBuf> {
    std::fs::read_dir(cloudpose_testing::golden::images())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// How far each seen keypoint of `expected` is from where `got` has it, in pixels of the image.
fn distances(expected: &Person, got: &Person) -> Vec<f32> {
    let pairs = expected.keypoints.iter().zip(&got.keypoints);
    pairs.filter(|(a, _)| a.score >= SEEN).map(|(a, b)| (a.x - b.x).hypot(a.y - b.y)).collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

#[test]
fn multipose_sees_the_same_in_a_reduced_picture() {
    let mut pipeline = pipeline();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    let (model, mut all) = ("multipose".parse().unwrap(), Vec::new());
    let pool = Pool::new(2);
    for path in images() {
        decoder.decode(&std::fs::read(&path).unwrap(), &mut image).unwrap();
        let jpeg = Encoder::new().unwrap().encode(&doubled(&image), 90).unwrap();
        let job = Job { pictures: Some(&pool), ..job(&jpeg, &model) };
        let full = pipeline.detect(Job { min_score: 0.3, ..job }).unwrap();
        let whole = full.picture.unwrap().width();
        let reduced = pipeline.detect(Job { detail: Detail::Model, min_score: 0.25, ..job }).unwrap();
        assert_eq!(reduced.picture.unwrap().width(), whole / 4, "{}", path.display());
        assert_eq!((reduced.width, reduced.height), (full.width, full.height));
        for person in full.output.persons() {
            let to_each = reduced.output.persons().iter().map(|other| distances(person, other));
            let nearest = to_each.min_by(|a, b| mean(a).total_cmp(&mean(b)));
            let longer = full.width.max(full.height) as f32;
            let nearest = nearest.unwrap_or_else(|| panic!("nobody is found in {}", path.display()));
            all.extend(nearest.iter().map(|distance| distance / longer));
        }
    }
    all.sort_by(f32::total_cmp);
    let worst = *all.last().unwrap();
    println!(
        "{} keypoints, off by {:.2} model pixels on average, {:.2} at most",
        all.len(),
        mean(&all) * MODEL_SIDE,
        worst * MODEL_SIDE
    );
    assert!(all.len() > 100, "only {} keypoints were seen", all.len());
    assert!(worst < TOLERANCE, "a keypoint is off by {worst} of the image");
}

#[test]
fn single_pose_models_see_all_pixels() {
    let mut pipeline = pipeline();
    let jpeg = std::fs::read(&images()[0]).unwrap();
    for model in ["lightning", "thunder"] {
        let model = model.parse().unwrap();
        let job = job(&jpeg, &model);
        let full = pipeline.detect(job).unwrap();
        let reduced = pipeline.detect(Job { detail: Detail::Model, ..job }).unwrap();
        assert_eq!(reduced.output, full.output);
    }
}
