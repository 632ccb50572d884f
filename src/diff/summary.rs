//! The numbers of a comparison.

use std::ops::Range;

use serde_json::{Value, json};

use super::{clips::Clip, results::Results};

/// Parts of the similarities from 0.5 to 1.
pub(super) const PARTS: usize = 10;
/// Frames that are named as the worst.
pub(super) const WORST: usize = 8;
/// How many frames lie between two of a video that are, at least.
const APART: u64 = 15;

/// Numbers in rising order.
#[derive(Debug, Default)]
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        Self(numbers)
    }

    /// Below which a share of them lies, 0 to 1.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        self.0.get((share * (self.0.len() as f64 - 1.0)).round() as usize).copied()
    }

    pub(super) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    fn within(&self, range: Range<f64>) -> usize {
        let below = |limit: f64| self.0.partition_point(|number| *number < limit);
        below(range.end) - below(range.start)
    }
}

/// One of the two results.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) persons: u64,
    /// Seen joints of a person, on average.
    pub(super) joints: Option<f64>,
    pub(super) ids: u64,
    pub(super) switches: u64,
    /// As a share of the person's size.
    pub(super) jitter: Sorted,
}

/// What there is to say of one clip, or of several.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) frames: u64,
    pub(super) only: [u64; 2],
    /// Persons whom both have.
    pub(super) both: u64,
    /// How alike they are.
    pub(super) oks: Sorted,
    pub(super) sides: [Side; 2],
}

impl Summary {
    pub(super) fn of(clips: &[&Clip]) -> Self {
        let all = || clips.iter().map(|clip| &clip.comparison);
        let oks = Sorted::of(all().flat_map(|comparison| comparison.similarities()));
        let sides = [0, 1].map(|which| {
            let sides = || all().map(move |comparison| &comparison.sides[which]);
            let persons = sides().map(|side| side.persons).sum();
            let joints: u64 = sides().map(|side| side.joints).sum();
            Side {
                persons,
                joints: (persons > 0).then(|| joints as f64 / persons as f64),
                ids: sides().map(|side| side.ids.len() as u64).sum(),
                switches: sides().map(|side| side.switches).sum(),
                jitter: Sorted::of(sides().flat_map(|side| side.jitter.iter().copied())),
            }
        });
        Self {
            frames: all().map(|comparison| comparison.frames.len() as u64).sum(),
            only: [0, 1].map(|which| clips.iter().map(|clip| clip.only[which]).sum()),
            both: oks.0.len() as u64,
            oks,
            sides,
        }
    }

    /// Persons whom only the first result has, and only the second.
    pub(super) fn lost_and_found(&self) -> [u64; 2] {
        self.sides.each_ref().map(|side| side.persons - self.both)
    }

    /// How many similarities lie in each of [`PARTS`].
    pub(super) fn parts(&self) -> [usize; PARTS] {
        let limit = |part: usize| 0.5 + 0.05 * part as f64;
        std::array::from_fn(|part| {
            let end = if part + 1 == PARTS { f64::INFINITY } else { limit(part + 1) };
            self.oks.within(limit(part)..end)
        })
    }

    fn json(&self) -> Value {
        let [lost, found] = self.lost_and_found();
        let side = |side: &Side| {
            json!({
                "persons": side.persons, "joints_per_person": side.joints, "ids": side.ids, "switches": side.switches,
                "jitter": {"median": side.jitter.median(), "mean": side.jitter.mean()},
            })
        };
        json!({
            "frames": self.frames, "frames_only_in_a": self.only[0], "frames_only_in_b": self.only[1],
            "both": self.both, "lost": lost, "found": found,
            "oks": {
                "mean": self.oks.mean(), "median": self.oks.median(), "p5": self.oks.quantile(0.05),
                "histogram": self.parts(),
            },
            "a": side(&self.sides[0]), "b": side(&self.sides[1]),
        })
    }
}

/// The frames of all clips in which the results differ most: which clip, and which frame.
pub(super) fn worst(clips: &[Clip]) -> Vec<(&Clip, u64)> {
    let of = |clip: &'_ Clip| {
        let apart = if clip.is_video() { APART } else { 1 };
        clip.comparison
            .worst(WORST, apart)
            .into_iter()
            .map(|frame| (frame.difference(), frame.number))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<_> = clips
        .iter()
        .flat_map(|clip| of(clip).into_iter().map(move |(difference, number)| (difference, clip, number)))
        .collect();
    // Stable: of equal ones those that came first.
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(WORST);
    all.into_iter().map(|(_, clip, number)| (clip, number)).collect()
}

/// Everything, for programs.
pub(super) fn json(results: &[Results; 2], clips: &[Clip], total: &Summary) -> Value {
    let [a, b] = results.each_ref().map(|results| json!({"name": results.name, "models": results.models}));
    let of = |clip: &Clip| {
        let mut value = Summary::of(&[clip]).json();
        value["name"] = clip.name.clone().into();
        value
    };
    let worst = worst(clips)
        .into_iter()
        .map(|(clip, number)| json!({"clip": clip.name, "frame": clip.label(number)}));
    json!({
        "a": a, "b": b, "total": total.json(),
        "clips": clips.iter().map(of).collect::<Vec<_>>(), "worst": worst.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_similarity_is_in_one_part() {
        let oks = Sorted::of([1.0, 0.5, 0.549, 0.55, 0.949, 0.95]);
        let summary = Summary { oks, ..Summary::default() };
        assert_eq!(summary.parts(), [2, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((summary.oks.quantile(0.0), summary.oks.quantile(1.0)), (Some(0.5), Some(1.0)));
        assert_eq!(Sorted::default().median(), None);
    }
}
