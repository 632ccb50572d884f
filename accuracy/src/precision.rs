//! From the matches of many photos to average precision and recall.

use crate::coco::{Annotation, Scored};
use crate::matching::{Matches, Oks, SIZES, THRESHOLDS, Verdict, ranked};

/// Recalls at which precision is read: 0.00, 0.01, … 1.00.
const RECALLS: usize = 101;

/// COCO's numbers, 0 to 1; none where nobody is there to be found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Average precision over all thresholds, and at 0.5 and 0.75.
    pub ap: Option<f64>,
    /// See `ap`.
    pub ap_50: Option<f64>,
    /// See `ap`.
    pub ap_75: Option<f64>,
    /// Of people of 32² to 96² square pixels.
    pub ap_medium: Option<f64>,
    /// Of larger ones.
    pub ap_large: Option<f64>,
    /// Average recall, likewise.
    pub ar: Option<f64>,
    /// See `ar`.
    pub ar_50: Option<f64>,
    /// See `ar`.
    pub ar_75: Option<f64>,
    /// See `ap_medium`.
    pub ar_medium: Option<f64>,
    /// See `ap_large`.
    pub ar_large: Option<f64>,
}

/// Precision and recall at a threshold, over some photos.
fn at_threshold(photos: &[&Matches], threshold: usize) -> Option<[f64; 2]> {
    let people: usize = photos.iter().map(|matches| matches.people).sum();
    if people == 0 {
        return None;
    }
    let mut results: Vec<(f64, Verdict)> = photos
        .iter()
        .flat_map(|matches| matches.results.iter().map(|(score, verdicts)| (*score, verdicts[threshold])))
        .collect();
    results.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut wrong) = (0.0, 0.0);
    let mut curve = Vec::with_capacity(results.len());
    for (_, verdict) in results {
        match verdict {
            Verdict::Right => right += 1.0,
            Verdict::Wrong => wrong += 1.0,
            Verdict::Ignored => {}
        }
        curve.push((right / people as f64, right / (wrong + right + f64::EPSILON)));
    }
    // The best precision at this recall or a higher one.
    let mut best: f64 = 0.0;
    for (_, precision) in curve.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let read = |index: usize| {
        // As numpy.linspace counts.
        let wanted = index as f64 * (1.0 / (RECALLS - 1) as f64);
        let found = curve.partition_point(|(recall, _)| *recall < wanted);
        curve.get(found).map_or(0.0, |(_, precision)| *precision)
    };
    let precision = (0..RECALLS).map(read).sum::<f64>() / RECALLS as f64;
    Some([precision, curve.last().map_or(0.0, |(recall, _)| *recall)])
}

/// Average precision and recall of people of one size.
fn of_size(photos: &[&Matches], thresholds: std::ops::Range<usize>) -> [Option<f64>; 2] {
    let (first, count) = (thresholds.start, thresholds.len() as f64);
    let all: Option<Vec<_>> = (first..first + thresholds.len()).map(|t| at_threshold(photos, t)).collect();
    [0, 1].map(|which| all.as_ref().map(|all| all.iter().map(|both| both[which]).sum::<f64>() / count))
}

/// COCO's numbers over `photos`, in the order in which the photos are numbered.
pub fn summary(photos: &[[Matches; SIZES.len()]]) -> Summary {
    let of = |size: usize| photos.iter().map(|photo| &photo[size]).collect::<Vec<_>>();
    let (all, medium, large) = (of(0), of(1), of(2));
    let [ap, ar] = of_size(&all, 0..THRESHOLDS);
    let [ap_50, ar_50] = of_size(&all, 0..1);
    let [ap_75, ar_75] = of_size(&all, 5..6);
    let [ap_medium, ar_medium] = of_size(&medium, 0..THRESHOLDS);
    let [ap_large, ar_large] = of_size(&large, 0..THRESHOLDS);
    Summary { ap, ap_50, ap_75, ap_medium, ap_large, ar, ar_50, ar_75, ar_medium, ar_large }
}

/// Between what the average precision would lie in 95 of 100 sets of so many photos like these: the bootstrap's
/// percentiles (Efron, 1979), over `rounds` sets drawn with `seed`.
pub fn interval(photos: &[[Matches; SIZES.len()]], rounds: usize, seed: u64) -> Option<[f64; 2]> {
    if photos.is_empty() {
        return None;
    }
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut drawn: Vec<f64> = (0..rounds)
        .filter_map(|_| {
            let draw = |_| &photos[dice.usize(..photos.len())][0];
            let photos: Vec<_> = (0..photos.len()).map(draw).collect();
            let [ap, _] = of_size(&photos, 0..THRESHOLDS);
            ap
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * (drawn.len() as f64 - 1.0)).round() as usize).copied();
    Some([at(0.025)?, at(0.975)?])
}

/// How often a keypoint is found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Joint {
    /// People of whom it is labelled.
    pub labelled: usize,
    /// Of those, how many are found with it in its place: the person by an OKS of at least 0.5, the keypoint by its own
    /// part of that.
    pub found: usize,
}

/// How often each keypoint is found in the people of a photo; adds to `joints`.
pub fn joints(oks: &Oks, people: &[&Annotation], results: &[&Scored], joints: &mut [Joint]) {
    let results = ranked(results);
    let mut taken = vec![false; results.len()];
    for person in people.iter().filter(|person| person.iscrowd == 0 && person.num_keypoints > 0) {
        let similar = |index: &usize| oks.similarity(person, &results[*index].keypoints);
        let free = (0..results.len()).filter(|index| !taken[*index]);
        let best =
            free.max_by(|a, b| similar(a).total_cmp(&similar(b))).filter(|index| similar(index) >= 0.5);
        if let Some(best) = best {
            taken[best] = true;
        }
        for (keypoint, joint) in joints.iter_mut().enumerate() {
            if person.keypoints[3 * keypoint + 2] > 0.0 {
                joint.labelled += 1;
                let is_near = |index: usize| oks.nearness(person, &results[index].keypoints, keypoint) >= 0.5;
                joint.found += usize::from(best.is_some_and(is_near));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::match_photo;

    fn oks() -> Oks {
        Oks { sigmas: vec![0.05; 2] }
    }

    fn person(keypoints: [f64; 6]) -> Annotation {
        Annotation {
            image_id: 1,
            category_id: 1,
            num_keypoints: keypoints.iter().skip(2).step_by(3).filter(|v| **v > 0.0).count() as u32,
            keypoints: keypoints.to_vec(),
            area: 10_000.0,
            bbox: [0.0, 0.0, 100.0, 100.0],
            iscrowd: 0,
        }
    }

    fn result(score: f64, [x, y, u, v]: [f64; 4]) -> Scored {
        Scored { image_id: 1, category_id: 1, keypoints: vec![x, y, 1.0, u, v, 1.0], score }
    }

    #[test]
    fn a_joint_is_found_where_its_person_is_and_it_lies_where_it_should() {
        let people =
            [person([10.0, 10.0, 2.0, 90.0, 90.0, 2.0]), person([500.0, 10.0, 2.0, 500.0, 90.0, 0.0])];
        let far = result(0.9, [10.0, 10.0, 60.0, 90.0]);
        let near = result(0.1, [501.0, 10.0, 0.0, 0.0]);
        let mut found = [Joint::default(); 2];
        joints(&oks(), &people.each_ref(), &[&far, &near], &mut found);
        assert_eq!(found, [Joint { labelled: 2, found: 2 }, Joint { labelled: 1, found: 0 }]);
        joints(&oks(), &people.each_ref(), &[], &mut found);
        assert_eq!(found, [Joint { labelled: 4, found: 2 }, Joint { labelled: 2, found: 0 }]);
    }

    #[test]
    fn the_interval_is_a_point_where_all_photos_are_alike_and_wide_where_they_are_not() {
        let people = [person([10.0, 10.0, 2.0, 90.0, 90.0, 2.0])];
        let right = result(0.9, [10.0, 10.0, 90.0, 90.0]);
        let seen = match_photo(&oks(), &people.each_ref(), &[&right]);
        let unseen = match_photo(&oks(), &people.each_ref(), &[]);
        let alike = vec![seen.clone(); 8];
        let [low, high] = interval(&alike, 200, 1).unwrap();
        assert!((low - 1.0).abs() < 1e-9 && (high - 1.0).abs() < 1e-9, "{low} to {high}");
        let mixed: Vec<_> = (0..8).map(|i| if i % 2 == 0 { seen.clone() } else { unseen.clone() }).collect();
        let [low, high] = interval(&mixed, 200, 1).unwrap();
        let ap = summary(&mixed).ap.unwrap();
        assert!(low < ap && ap < high && high <= 1.0, "{low} to {high} around {ap}");
        assert_eq!(interval(&mixed, 200, 1), Some([low, high]), "the same every time");
        assert_eq!(interval(&[], 10, 1), None);
    }
}
