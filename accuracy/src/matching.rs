//! Which result is which person of a photo.

use crate::coco::{Annotation, Scored};

/// Similarities (OKS) at which a result counts as a person: 0.50, 0.55, … 0.95.
pub const THRESHOLDS: usize = 10;
/// Results of a photo that count, those with the highest scores.
const MOST_RESULTS: usize = 20;
/// What `numpy.spacing(1)` is.
const EPSILON: f64 = f64::EPSILON;

/// The similarity at which a match of that number begins.
fn threshold(index: usize) -> f64 {
    // As numpy.linspace counts.
    if index + 1 == THRESHOLDS { 0.95 } else { 0.5 + index as f64 * ((0.95 - 0.5) / (THRESHOLDS - 1) as f64) }
}

/// How similarity is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Oks {
    /// COCO's constant of each keypoint, of which OKS takes twice as the standard deviation, in shares of the size.
    pub sigmas: Vec<f64>,
}

/// Sizes of people that are measured apart, by the area of their outline in square pixels.
pub const SIZES: [[f64; 2]; 3] = [[0.0, 1e10], [1024.0, 9216.0], [9216.0, 1e10]];

/// What became of a photo's results, for people of one size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matches {
    /// People that ought to be found.
    pub people: usize,
    /// Of each result, by falling score: its score, and by threshold whether it is a person, or does not count.
    pub results: Vec<(f64, [Verdict; THRESHOLDS])>,
}

/// What a result is at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A person who is there, and was not found by a result with a higher score.
    Right,
    /// Nobody.
    Wrong,
    /// Somebody who is not asked for: of another size, without keypoints, in a crowd.
    Ignored,
}

impl Oks {
    /// The object keypoint similarity of a result to a person: 0 to 1.
    pub fn similarity(&self, person: &Annotation, result: &[f64]) -> f64 {
        let labelled = person.keypoints.chunks_exact(3).any(|keypoint| keypoint[2] > 0.0);
        let [left, top, width, height] = person.bbox;
        let (left, right) = (left - width, left + 2.0 * width);
        let (top, bottom) = (top - height, top + 2.0 * height);
        let (mut sum, mut count) = (0.0, 0usize);
        let pairs = person.keypoints.chunks_exact(3).zip(result.chunks_exact(3)).zip(&self.sigmas);
        for ((truth, found), sigma) in pairs {
            let (dx, dy) = if labelled {
                if truth[2] <= 0.0 {
                    continue;
                }
                (found[0] - truth[0], found[1] - truth[1])
            } else {
                // How far it is from the box made three times as large.
                let outside = |x: f64, low: f64, high: f64| (low - x).max(0.0) + (x - high).max(0.0);
                (outside(found[0], left, right), outside(found[1], top, bottom))
            };
            sum += (-self.distance(dx, dy, *sigma, person.area)).exp();
            count += 1;
        }
        if count == 0 { 0.0 } else { sum / count as f64 }
    }

    /// The exponent of OKS.
    fn distance(&self, dx: f64, dy: f64, sigma: f64, area: f64) -> f64 {
        (dx * dx + dy * dy) / (2.0 * sigma).powi(2) / (area + EPSILON) / 2.0
    }

    /// How near a found keypoint is to a labelled one: 0 to 1.
    pub(crate) fn nearness(&self, person: &Annotation, result: &[f64], keypoint: usize) -> f64 {
        let (truth, found) = (&person.keypoints[3 * keypoint..], &result[3 * keypoint..]);
        let (dx, dy) = (found[0] - truth[0], found[1] - truth[1]);
        (-self.distance(dx, dy, self.sigmas[keypoint], person.area)).exp()
    }
}

/// The area that COCO takes a result to have: that of the box around all its keypoints.
fn area(result: &Scored) -> f64 {
    let side = |axis: usize| {
        let along = result.keypoints.iter().skip(axis).step_by(3);
        let (low, high) = along.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
        high - low
    };
    side(0) * side(1)
}

/// A photo's results that count, by falling score; equal ones as they came.
pub(crate) fn ranked<'a>(results: &'a [&'a Scored]) -> Vec<&'a Scored> {
    let mut ranked = results.to_vec();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    ranked.truncate(MOST_RESULTS);
    ranked
}

/// Matches the results of one photo with the people in it, for each of [`SIZES`].
pub fn match_photo(oks: &Oks, people: &[&Annotation], results: &[&Scored]) -> [Matches; SIZES.len()] {
    let results = ranked(results);
    let similarity: Vec<Vec<f64>> = results
        .iter()
        .map(|result| people.iter().map(|person| oks.similarity(person, &result.keypoints)).collect())
        .collect();
    SIZES.map(|[least, most]| {
        let ignored = |person: &Annotation| {
            person.iscrowd == 1 || person.num_keypoints == 0 || person.area < least || person.area > most
        };
        // Those that count first, else as they came.
        let mut order: Vec<usize> = (0..people.len()).collect();
        order.sort_by_key(|index| ignored(people[*index]));
        let mut verdicts = vec![[Verdict::Wrong; THRESHOLDS]; results.len()];
        for at in 0..THRESHOLDS {
            let mut taken = vec![false; people.len()];
            for (result, verdict) in verdicts.iter_mut().enumerate() {
                let mut best: Option<usize> = None;
                let mut least_similar = threshold(at).min(1.0 - 1e-10);
                for person in order.iter().copied() {
                    if taken[person] && people[person].iscrowd == 0 {
                        continue;
                    }
                    // One who counts was found, and from here on nobody does.
                    if best.is_some_and(|best| !ignored(people[best])) && ignored(people[person]) {
                        break;
                    }
                    if similarity[result][person] < least_similar {
                        continue;
                    }
                    least_similar = similarity[result][person];
                    best = Some(person);
                }
                let area = area(results[result]);
                verdict[at] = match best {
                    Some(person) => {
                        taken[person] = true;
                        if ignored(people[person]) { Verdict::Ignored } else { Verdict::Right }
                    }
                    None if area < least || area > most => Verdict::Ignored,
                    None => Verdict::Wrong,
                };
            }
        }
        Matches {
            people: people.iter().filter(|person| !ignored(person)).count(),
            results: results.iter().map(|result| result.score).zip(verdicts).collect(),
        }
    })
}
