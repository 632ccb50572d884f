//! `cloudpose eval`: how right a model's poses are on labelled photos.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::{
    collections::HashMap,
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cloudpose_accuracy::{
    Annotation, Annotations, Joint, Oks, Scored, Summary, interval, joints, match_photo, summary,
};
use cloudpose_infer::{Detail, Image, Job, Models, Pipeline, cpu::CpuEngine};
use cloudpose_wire::{Person, Skeleton};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{cli::Eval, detect::progress};

/// Sets of photos that are drawn for the interval, always the same ones.
const ROUNDS: usize = 1000;
const SEED: u64 = 1;

/// What there is to say of a model.
struct Report {
    summary: Summary,
    interval: Option<[f64; 2]>,
    joints: Vec<Joint>,
    photos: usize,
    persons: usize,
    /// Of each photo.
    times: Vec<Duration>,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, a photo is missing, the labels do not fit the model, or the model cannot be run.
pub(crate) fn run(command: &Eval) -> Result<()> {
    let truth: Annotations = read(&command.annotations)?;
    let models = Arc::new(Models::open(&command.store)?);
    let info = models.served(&command.model)?.info;
    let Some(skeleton) = info.skeleton().cloned() else { bail!("{} finds no persons", command.model) };
    let category = category(&truth, &skeleton)?;
    // One photo at a time, so it gets all cores.
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let engine = CpuEngine::new(models.clone(), threads)?.in_precision(command.numbers.precision)?;
    let mut pipeline = Pipeline::with_engine(models, Box::new(engine))?;
    pipeline.warm_up(&command.model)?;

    let mut photos: Vec<_> = truth.images.iter().collect();
    photos.sort_by_key(|photo| photo.id);
    let bar = progress(photos.len());
    let (mut results, mut times) = (Vec::new(), Vec::new());
    for photo in &photos {
        bar.set_message(photo.file_name.clone());
        let path = command.images.join(&photo.file_name);
        let image = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let job = Job {
            image: Image::Encoded(&image),
            detail: Detail::Model,
            model: &command.model,
            min_score: command.min_score,
            top: cloudpose_wire::frame::USUAL_TOP,
            past: None,
            stream: None,
            pictures: None,
        };
        let begun = Instant::now();
        let found = pipeline.detect(job).with_context(|| path.display().to_string())?;
        times.push(begun.elapsed());
        results.extend(found.output.persons().iter().map(|person| scored(photo.id, category, person)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(out) = &command.out {
        fs::write(out, serde_json::to_vec(&results)?)
            .with_context(|| format!("cannot write {}", out.display()))?;
    }
    let ids: Vec<_> = photos.iter().map(|photo| photo.id).collect();
    let report = measure(&truth, category, &skeleton, &ids, &results, times);
    if command.json {
        print_json(&report, &skeleton, command)
    } else {
        print_text(&report, &skeleton)
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is no file of labelled people in COCO's format", path.display()))
}

/// The kind of thing whose keypoints are the skeleton's.
fn category(truth: &Annotations, skeleton: &Skeleton) -> Result<u64> {
    let names: Vec<&str> = skeleton.keypoints().iter().map(|kind| kind.name.as_str()).collect();
    let fits = truth.categories.iter().find(|category| category.keypoints == names);
    let Some(category) = fits else {
        bail!(
            "no category has the keypoints of {}: {}; the labels' `categories` list theirs",
            skeleton.name(),
            names.join(", ")
        );
    };
    let whole = |annotation: &&Annotation| annotation.keypoints.len() == 3 * names.len();
    let of_category = truth.annotations.iter().filter(|a| a.category_id == category.id);
    if let Some(odd) = of_category.clone().find(|annotation| !whole(annotation)) {
        bail!("an annotation of photo {} has {} numbers of keypoints", odd.image_id, odd.keypoints.len());
    }
    Ok(category.id)
}

fn scored(image_id: u64, category_id: u64, person: &Person) -> Scored {
    let keypoint = |k: &cloudpose_wire::Keypoint| [k.x, k.y, k.score].map(f64::from);
    let keypoints = person.keypoints.iter().flat_map(keypoint).collect();
    Scored { image_id, category_id, keypoints, score: person.score.into() }
}

fn measure(
    truth: &Annotations,
    category: u64,
    skeleton: &Skeleton,
    photos: &[u64],
    results: &[Scored],
    times: Vec<Duration>,
) -> Report {
    // As people write the constants, not as float32 keeps them.
    let sigma = |sigma: f32| (f64::from(sigma) * 1e6).round() / 1e6;
    let oks = Oks { sigmas: skeleton.keypoints().iter().map(|kind| sigma(kind.sigma)).collect() };
    let mut people: HashMap<u64, Vec<&Annotation>> = HashMap::new();
    for person in truth.annotations.iter().filter(|annotation| annotation.category_id == category) {
        people.entry(person.image_id).or_default().push(person);
    }
    let mut found: HashMap<u64, Vec<&Scored>> = HashMap::new();
    for result in results {
        found.entry(result.image_id).or_default().push(result);
    }
    let mut of_joints = vec![Joint::default(); skeleton.keypoints().len()];
    let mut matches = Vec::with_capacity(photos.len());
    for photo in photos {
        let (people, found) = (
            people.get(photo).map_or(&[][..], Vec::as_slice),
            found.get(photo).map_or(&[][..], Vec::as_slice),
        );
        matches.push(match_photo(&oks, people, found));
        joints(&oks, people, found, &mut of_joints);
    }
    Report {
        summary: summary(&matches),
        interval: interval(&matches, ROUNDS, SEED),
        joints: of_joints,
        photos: photos.len(),
        persons: results.len(),
        times,
    }
}

impl Report {
    fn median_ms(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn persons_per_second(&self) -> f64 {
        self.persons as f64 / self.times.iter().sum::<Duration>().as_secs_f64()
    }
}

fn print_text(report: &Report, skeleton: &Skeleton) {
    let percent =
        |share: Option<f64>| share.map_or("   –".to_owned(), |share| format!("{:4.1}", 100.0 * share));
    let s = &report.summary;
    let between = report.interval.map_or(String::new(), |[low, high]| {
        format!("  ({:.1} to {:.1} on 95 of 100 such sets)", 100.0 * low, 100.0 * high)
    });
    println!("AP {}{between}", percent(s.ap));
    println!(
        "AP50 {}  AP75 {}  medium {}  large {}",
        percent(s.ap_50),
        percent(s.ap_75),
        percent(s.ap_medium),
        percent(s.ap_large)
    );
    println!("AR {}", percent(s.ar));
    println!(
        "AR50 {}  AR75 {}  medium {}  large {}",
        percent(s.ar_50),
        percent(s.ar_75),
        percent(s.ar_medium),
        percent(s.ar_large)
    );
    println!("\nkeypoint          found  of labelled");
    for (kind, joint) in skeleton.keypoints().iter().zip(&report.joints) {
        let share = (joint.labelled > 0).then(|| joint.found as f64 / joint.labelled as f64);
        println!("{:16} {} %  {:5}", kind.name.as_str(), percent(share), joint.labelled);
    }
    println!(
        "\n{} photos, {} persons reported; median {:.1} ms a photo, {:.1} persons a second",
        report.photos,
        report.persons,
        report.median_ms(),
        report.persons_per_second()
    );
}

fn print_json(report: &Report, skeleton: &Skeleton, command: &Eval) {
    let s = &report.summary;
    let names = skeleton.keypoints().iter().map(|kind| kind.name.as_str());
    let of_joints: serde_json::Map<_, _> = names
        .zip(&report.joints)
        .map(|(name, joint)| (name.to_owned(), json!({"labelled": joint.labelled, "found": joint.found})))
        .collect();
    let line = json!({
        "model": command.model, "photos": report.photos, "persons": report.persons,
        "ap": s.ap, "ap_interval": report.interval, "ap_50": s.ap_50, "ap_75": s.ap_75,
        "ap_medium": s.ap_medium, "ap_large": s.ap_large,
        "ar": s.ar, "ar_50": s.ar_50, "ar_75": s.ar_75, "ar_medium": s.ar_medium, "ar_large": s.ar_large,
        "keypoints": of_joints,
        "median_ms": report.median_ms(), "persons_per_second": report.persons_per_second(),
    });
    println!("{line}");
}
