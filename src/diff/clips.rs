//! The frames that both results have, beside each other.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cloudpose_accuracy::{
    Oks,
    compare::{Comparison, Figure},
};
use cloudpose_wire::{Keypoint, Person, Skeleton, event::BoundingBox};

use super::results::{Groups, Key, Results, Seen};

/// A clip or a stream in both results.
#[derive(Debug)]
pub(super) struct Clip {
    pub(super) name: String,
    /// What it is called in each result.
    pub(super) groups: [String; 2],
    /// By number; photos count from 1.
    pub(super) comparison: Comparison,
    /// Frames that only one of them has.
    pub(super) only: [u64; 2],
    /// What the numbers are of.
    pub(super) keys: BTreeMap<u64, Key>,
}

impl Clip {
    /// Whether its frames follow each other in time.
    pub(super) fn is_video(&self) -> bool {
        self.keys.values().all(|key| matches!(key, Key::Number(_)))
    }

    /// What a frame is called.
    pub(super) fn label(&self, number: u64) -> String {
        match self.keys.get(&number) {
            Some(Key::Photo(name)) => name.clone(),
            _ => format!("frame {number}"),
        }
    }

    /// What was found in a frame.
    pub(super) fn seen<'a>(&self, results: &'a [Results; 2], number: u64) -> Option<[&'a Seen; 2]> {
        let key = self.keys.get(&number)?;
        let of = |which: usize| results[which].groups.get(&self.groups[which])?.get(key);
        Some([of(0)?, of(1)?])
    }
}

/// Compares what both results have.
///
/// # Errors
/// If they have no frame in common, or nothing of it can be compared.
pub(super) fn pair(results: &[Results; 2]) -> Result<Vec<Clip>> {
    let [a, b] = results.each_ref().map(|results| &results.groups);
    let names: Vec<[&String; 2]> = if let (1, 1) = (a.len(), b.len()) {
        // Whatever they are called: somebody wants them compared.
        a.keys().zip(b.keys()).map(|(a, b)| [a, b]).collect()
    } else {
        a.keys().filter(|name| b.contains_key(*name)).map(|name| [name, name]).collect()
    };
    let clips: Vec<Clip> = names.into_iter().map(|names| compare(names, [a, b])).collect();
    ensure!(
        clips.iter().any(|clip| !clip.comparison.frames.is_empty()),
        "{} and {} have no frame in common",
        results[0].name,
        results[1].name
    );
    let is_coco = |results: &Results| {
        let mut persons = results.groups.values().flat_map(BTreeMap::values).flat_map(|seen| &seen.persons);
        persons.next().is_none() || persons.any(|person| joints(person).any(|joint| joint.is_some()))
    };
    for results in results {
        ensure!(is_coco(results), "{} has no joint that COCO has: they cannot be compared", results.name);
    }
    Ok(clips)
}

fn compare(names: [&String; 2], groups: [&Groups; 2]) -> Clip {
    let [a, b] = [0, 1].map(|which| &groups[which][names[which]]);
    // As people write the constants, not as float32 keeps them.
    let sigma = |sigma: f32| (f64::from(sigma) * 1e6).round() / 1e6;
    let sigmas = Skeleton::coco_17().keypoints().iter().map(|kind| sigma(kind.sigma)).collect();
    let mut comparison = Comparison::new(Oks { sigmas });
    let mut keys = BTreeMap::new();
    for (key, seen) in a {
        let Some(other) = b.get(key) else { continue };
        let number = match key {
            Key::Number(number) => *number,
            Key::Photo(_) => 1 + keys.len() as u64,
        };
        let figures = [seen, other].map(|seen| seen.persons.iter().map(figure).collect::<Vec<_>>());
        comparison.push(number, figures.each_ref().map(Vec::as_slice));
        keys.insert(number, key.clone());
    }
    let only = [a.len(), b.len()].map(|frames| (frames - keys.len()) as u64);
    Clip { name: names[0].clone(), groups: names.map(String::clone), comparison, only, keys }
}

/// The person's joints that COCO has, in COCO's order.
fn joints(person: &Person) -> impl Iterator<Item = Option<&Keypoint>> {
    // Whoever has COCO's joints has them first and in this order, mostly.
    let find = move |(index, kind): (usize, &cloudpose_wire::skeleton::KeypointKind)| {
        let is_it = |keypoint: &&Keypoint| keypoint.name == kind.name;
        person.keypoints.get(index).filter(is_it).or_else(|| person.keypoints.iter().find(is_it))
    };
    let found: Vec<_> = Skeleton::coco_17().keypoints().iter().enumerate().map(find).collect();
    found.into_iter()
}

/// The person with COCO's joints alone; those that the model does not find have a score of 0.
pub(super) fn with_cocos_joints(person: &Person) -> Person {
    let skeleton = Skeleton::coco_17();
    let unseen = |kind: &cloudpose_wire::skeleton::KeypointKind| Keypoint {
        name: kind.name.clone(),
        x: 0.0,
        y: 0.0,
        score: 0.0,
    };
    let keypoints = joints(person).zip(skeleton.keypoints());
    let keypoints = keypoints.map(|(joint, kind)| joint.cloned().unwrap_or_else(|| unseen(kind))).collect();
    Person { keypoints, ..person.clone() }
}

fn figure(person: &Person) -> Figure {
    let keypoint = |joint: Option<&Keypoint>| joint.map_or([0.0; 3], |k| [k.x, k.y, k.score].map(f64::from));
    let BoundingBox { width, height, .. } = person.bounding_box;
    Figure {
        keypoints: joints(person).map(keypoint).collect(),
        area: f64::from(width.max(0.0)) * f64::from(height.max(0.0)),
        track: person.track_id,
    }
}
