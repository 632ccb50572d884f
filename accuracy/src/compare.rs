//! Two results of the same frames beside each other. Neither is the truth: what is counted are differences.
//!
//! Persons of a frame are paired by their similarity (OKS), the most alike first. What pairs of consecutive frames share,
//! tracks and joints, tells how steady either result is, on the same persons and joints.

use std::collections::{HashMap, HashSet};

use crate::{Annotation, Oks};

/// From which similarity two figures are one person.
pub const ALIKE: f64 = 0.5;
/// From which score a joint counts as seen.
pub const SURE: f64 = 0.3;

/// A person that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// x, y and score of each keypoint. Pixels; the score is 0 for one that the model does not find.
    pub keypoints: Vec<[f64; 3]>,
    /// Of the person's box, in square pixels.
    pub area: f64,
    /// Who it is, in a stream.
    pub track: Option<u32>,
}

/// Two figures that are one person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index of the figure in the first result.
    pub a: usize,
    /// Index of the figure in the second.
    pub b: usize,
    /// How alike they are, [`ALIKE`] to 1.
    pub oks: f64,
}

/// A frame in both results.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Which frame.
    pub number: u64,
    /// Persons in the first result, and in the second.
    pub persons: [usize; 2],
    /// Those who are in both.
    pub pairs: Vec<Pair>,
}

impl Compared {
    /// Persons that only one of the two has: lost from the first to the second, and found by the second.
    pub fn lost_and_found(&self) -> [usize; 2] {
        self.persons.map(|persons| persons - self.pairs.len())
    }

    /// How much the two differ: a person that one does not have counts 1, one that both have what is missing to 1.
    pub fn difference(&self) -> f64 {
        let [lost, found] = self.lost_and_found();
        (lost + found) as f64 + self.pairs.iter().map(|pair| 1.0 - pair.oks).sum::<f64>()
    }

    /// How alike the least alike pair is.
    pub fn least_oks(&self) -> Option<f64> {
        self.pairs.iter().map(|pair| pair.oks).min_by(f64::total_cmp)
    }
}

/// What there is to say of one of the two results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// Persons, in all frames together.
    pub persons: u64,
    /// Joints of them that were seen.
    pub joints: u64,
    /// Persons who were told apart over time.
    pub ids: HashSet<u32>,
    /// How often a person got another id while the other result kept it.
    pub switches: u64,
    /// Second differences of joints from frame to frame, as shares of the person's size (the root of the box's area): of
    /// those that both results saw, of the same person, in three frames in a row.
    pub jitter: Vec<f64>,
}

/// Where a pair was in a frame: both figures' keypoints, and the size of each.
#[derive(Debug)]
struct Moment {
    number: u64,
    keypoints: [Vec<[f64; 3]>; 2],
    sizes: [f64; 2],
}

/// Compares frame after frame, in rising order.
#[derive(Debug)]
pub struct Comparison {
    oks: Oks,
    /// Every frame so far.
    pub frames: Vec<Compared>,
    /// The first result and the second.
    pub sides: [Side; 2],
    /// Whom each track was last in the other result, from the first to the second and back.
    known_as: [HashMap<u32, u32>; 2],
    /// The last two moments of each pair of tracks.
    moments: HashMap<[u32; 2], [Option<Moment>; 2]>,
}

impl Comparison {
    /// Compares figures whose keypoints are those of `oks`.
    pub fn new(oks: Oks) -> Self {
        Self {
            oks,
            frames: Vec::new(),
            sides: Default::default(),
            known_as: Default::default(),
            moments: HashMap::new(),
        }
    }

    /// Takes in what both results have of frame `number`.
    pub fn push(&mut self, number: u64, figures: [&[Figure]; 2]) {
        for (side, figures) in self.sides.iter_mut().zip(figures) {
            side.persons += figures.len() as u64;
            side.joints += figures.iter().flat_map(|figure| &figure.keypoints).filter(is_seen).count() as u64;
            side.ids.extend(figures.iter().filter_map(|figure| figure.track));
        }
        let pairs = pairs(&self.oks, figures);
        for pair in &pairs {
            let both = [&figures[0][pair.a], &figures[1][pair.b]];
            if let [Some(a), Some(b)] = both.map(|figure| figure.track) {
                self.followed(number, [a, b], both);
            }
        }
        self.frames.push(Compared { number, persons: figures.map(<[Figure]>::len), pairs });
    }

    /// A person of both results who is followed in both.
    fn followed(&mut self, number: u64, tracks: [u32; 2], figures: [&Figure; 2]) {
        // Of the first one's track the second may have another, which is the second's switch, and the other way round.
        for (kept, changed) in [(0, 1), (1, 0)] {
            let before = self.known_as[kept].insert(tracks[kept], tracks[changed]);
            if before.is_some_and(|before| before != tracks[changed]) {
                self.sides[changed].switches += 1;
            }
        }
        let now = Moment {
            number,
            keypoints: figures.map(|figure| figure.keypoints.clone()),
            sizes: figures.map(|figure| figure.area.sqrt()),
        };
        let [first, second] = self.moments.entry(tracks).or_default();
        if let (Some(first), Some(second)) = (&*first, &*second)
            && (first.number + 1, second.number + 1) == (second.number, number)
        {
            for joint in 0..now.keypoints[0].len() {
                let in_a_row = [first, second, &now];
                let seen = |moment: &&Moment| moment.keypoints.iter().all(|all| is_seen(&&all[joint]));
                if !in_a_row.iter().all(seen) {
                    continue;
                }
                for (which, side) in self.sides.iter_mut().enumerate() {
                    let [p, q, r] = in_a_row.map(|moment| moment.keypoints[which][joint]);
                    let bend = |axis: usize| p[axis] - 2.0 * q[axis] + r[axis];
                    let jitter = bend(0).hypot(bend(1)) / second.sizes[which];
                    side.jitter.extend(Some(jitter).filter(|jitter| jitter.is_finite()));
                }
            }
        }
        *first = second.replace(now);
    }

    /// How alike the persons are whom both have, in rising order.
    pub fn similarities(&self) -> Vec<f64> {
        let pairs = self.frames.iter().flat_map(|frame| &frame.pairs);
        let mut all: Vec<f64> = pairs.map(|pair| pair.oks).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// The frames in which the two differ most, at most `most`, the worst first. Of frames that are less than `apart` from
    /// one that differs more, which mostly show the same, none is among them.
    pub fn worst(&self, most: usize, apart: u64) -> Vec<&Compared> {
        let mut ranked: Vec<&Compared> =
            self.frames.iter().filter(|frame| frame.difference() > 0.0).collect();
        ranked.sort_by(|a, b| b.difference().total_cmp(&a.difference()).then(a.number.cmp(&b.number)));
        let mut worst: Vec<&Compared> = Vec::new();
        for frame in ranked {
            if worst.len() == most {
                break;
            }
            if worst.iter().all(|other| other.number.abs_diff(frame.number) >= apart) {
                worst.push(frame);
            }
        }
        worst
    }
}

fn is_seen(keypoint: &&[f64; 3]) -> bool {
    keypoint[2] >= SURE
}

/// How alike two figures are: the object keypoint similarity over the joints that both saw, with the mean of both areas, so
/// that it is the same either way. 0 if there is no such joint.
fn similarity(oks: &Oks, a: &Figure, b: &Figure) -> f64 {
    let both = a.keypoints.iter().zip(&b.keypoints);
    let labelled = both.clone().filter(|(a, b)| is_seen(a) && is_seen(b)).count();
    if labelled == 0 {
        return 0.0;
    }
    let person = Annotation {
        image_id: 0,
        category_id: 0,
        keypoints: both
            .flat_map(|(a, b)| [a[0], a[1], if is_seen(&a) && is_seen(&b) { 2.0 } else { 0.0 }])
            .collect(),
        num_keypoints: u32::try_from(labelled).unwrap_or(u32::MAX),
        area: f64::midpoint(a.area, b.area),
        bbox: [0.0; 4],
        iscrowd: 0,
    };
    oks.similarity(&person, &b.keypoints.concat())
}

/// Who of both results is one person: the most alike first, each once.
fn pairs(oks: &Oks, [a, b]: [&[Figure]; 2]) -> Vec<Pair> {
    let all = (0..a.len()).flat_map(|i| (0..b.len()).map(move |j| (i, j)));
    let mut alike: Vec<Pair> = all
        .map(|(i, j)| Pair { a: i, b: j, oks: similarity(oks, &a[i], &b[j]) })
        .filter(|pair| pair.oks >= ALIKE)
        .collect();
    // Stable: of equal ones those that came first, which have the higher scores.
    alike.sort_by(|x, y| y.oks.total_cmp(&x.oks));
    let (mut taken_a, mut taken_b) = (vec![false; a.len()], vec![false; b.len()]);
    alike.retain(|pair| {
        let is_free = !taken_a[pair.a] && !taken_b[pair.b];
        if is_free {
            (taken_a[pair.a], taken_b[pair.b]) = (true, true);
        }
        is_free
    });
    alike
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oks() -> Oks {
        Oks { sigmas: vec![0.05; 2] }
    }

    /// A person of 100×100 pixels with two joints, the first at `x`.
    fn figure(x: f64, track: u32) -> Figure {
        Figure { keypoints: vec![[x, 10.0, 0.9], [x + 50.0, 90.0, 0.9]], area: 1e4, track: Some(track) }
    }

    fn compare(frames: &[[&[Figure]; 2]]) -> Comparison {
        let mut comparison = Comparison::new(oks());
        frames.iter().zip(1..).for_each(|(figures, number)| comparison.push(number, *figures));
        comparison
    }

    #[test]
    fn who_is_in_one_result_only_is_lost_or_found() {
        let near = [figure(0.0, 1), figure(500.0, 2)];
        let far = [figure(504.0, 7), figure(900.0, 8), figure(-700.0, 9)];
        let comparison = compare(&[[&near, &far]]);
        let [frame] = &comparison.frames[..] else { panic!("one frame") };
        assert_eq!((frame.lost_and_found(), frame.pairs.len()), ([1, 2], 1));
        // Both joints are 4 pixels off: exp(-4² / (2 · 10⁴ · (2 · 0.05)²)) = exp(-0.08).
        assert!((frame.pairs[0].oks - (-0.08f64).exp()).abs() < 1e-9, "{frame:?}");
        assert_eq!((frame.pairs[0].a, frame.pairs[0].b), (1, 0));
        assert!((frame.difference() - (4.0 - (-0.08f64).exp())).abs() < 1e-9);
        assert_eq!(compare(&[[&far, &near]]).frames[0].lost_and_found(), [2, 1]);
    }

    #[test]
    fn only_joints_that_both_saw_are_compared() {
        let a = figure(0.0, 1);
        let mut b = figure(0.0, 1);
        b.keypoints[1] = [400.0, 400.0, 0.1];
        assert_eq!(similarity(&oks(), &a, &b), 1.0);
        b.keypoints[1][2] = 0.9;
        assert!((similarity(&oks(), &a, &b) - 0.5).abs() < 1e-9);
        b.keypoints.iter_mut().for_each(|keypoint| keypoint[2] = 0.0);
        assert_eq!(similarity(&oks(), &a, &b), 0.0);
    }

    #[test]
    fn the_most_alike_are_one_person_whoever_comes_first() {
        let a = [figure(0.0, 1), figure(6.0, 2)];
        let b = [figure(5.0, 1)];
        let comparison = compare(&[[&a, &b]]);
        assert_eq!((comparison.frames[0].pairs[0].a, comparison.frames[0].lost_and_found()), (1, [1, 0]));
    }

    #[test]
    fn an_id_that_changes_is_counted_for_who_changed_it() {
        let (steady, other) = ([figure(0.0, 1)], [figure(0.0, 5)]);
        let comparison = compare(&[[&steady, &steady], [&steady, &other], [&steady, &other]]);
        assert_eq!(comparison.sides[1].switches, 1);
        assert_eq!(comparison.sides[0].switches, 0, "it kept its id");
        assert_eq!((comparison.sides[0].ids.len(), comparison.sides[1].ids.len()), (1, 2));
        let back = compare(&[[&steady, &steady], [&steady, &other], [&steady, &steady]]);
        assert_eq!(back.sides[1].switches, 2);
    }

    #[test]
    fn jitter_is_the_second_difference_as_a_share_of_the_size() {
        let at = |x: f64| [figure(x, 1)];
        // The first moves evenly; the second is 2 pixels off in the middle: 4 of 100.
        let frames = [[at(0.0), at(0.0)], [at(1.0), at(3.0)], [at(2.0), at(2.0)]];
        let of = |numbers: [u64; 3]| {
            let mut comparison = Comparison::new(oks());
            for (number, [a, b]) in numbers.into_iter().zip(&frames) {
                comparison.push(number, [a, b]);
            }
            comparison.sides.map(|side| side.jitter)
        };
        assert_eq!(of([1, 2, 3]), [vec![0.0; 2], vec![0.04; 2]]);
        assert_eq!(of([1, 2, 4]), [vec![], vec![]], "frames that do not follow each other say nothing");
    }

    #[test]
    fn the_worst_frames_are_not_all_the_same_moment() {
        let (nobody, one, two): (&[Figure], _, _) =
            (&[], [figure(0.0, 1)], [figure(0.0, 1), figure(500.0, 2)]);
        let frames = [[nobody, &one], [nobody, &two], [nobody, &one], [&one, &one], [nobody, &one]];
        let comparison = compare(&frames);
        let numbers =
            |most, apart| comparison.worst(most, apart).iter().map(|frame| frame.number).collect::<Vec<_>>();
        assert_eq!(numbers(9, 1), [2, 1, 3, 5], "those that are alike are not among them");
        assert_eq!(numbers(9, 2), [2, 5]);
        assert_eq!(numbers(1, 1), [2]);
    }

    #[test]
    fn similarities_come_in_order() {
        let (here, near) = ([figure(0.0, 1)], [figure(3.0, 1)]);
        let all = compare(&[[&here, &here], [&here, &near]]).similarities();
        assert!(all.len() == 2 && all[0] < all[1] && all[1] == 1.0, "{all:?}");
    }
}
