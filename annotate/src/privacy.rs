//! Pictures on which nobody can be recognised.
//!
//! [`plain`] leaves no pixel of the scene. [`cover_heads`] covers the heads of those who were found, and says so if it
//! cannot: then nothing of the picture may be shown. Both write every sample that a picture's file is made of, also
//! those that pad it to whole blocks.

use cloudpose_pixels::{PlanarImage, PlaneMut, Subsampling};
use cloudpose_wire::{Keypoint, Person, Skeleton, skeleton::Part};

/// What is left where nothing is shown: dark, so that every colour of the palette stands out.
const GROUND: u8 = 24;
/// What covers a head.
const COVER: u8 = 64;
/// Chroma that has no colour.
const NEUTRAL: u8 = 128;
/// A joint of lower score may be anywhere.
const PLACED: f32 = 0.15;
/// How much wider than a head its cover is at least: joints are off by some of it, and hair reaches beyond it.
const MARGIN: f32 = 1.2;
/// How much wider still where nothing is sure.
const UNSURE: f32 = 0.6;
/// The least radius of a cover, in pixels.
const SMALLEST: f32 = 3.0;

/// Somebody's head could not be found: nothing of the picture may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplaced;

/// Makes `image` a plain ground of a size.
pub fn plain(image: &mut PlanarImage, width: usize, height: usize) {
    image.resize(width, height, Subsampling::S420);
    let (luma, chroma) = image.planes_mut();
    luma.samples.fill(GROUND);
    chroma.into_iter().flatten().for_each(|plane| plane.samples.fill(NEUTRAL));
}

/// Covers the head of each person, wider the less sure it is where the head is.
///
/// # Errors
/// [`Unplaced`] if there is nobody, or somebody whose head cannot be found. Then the picture must not be shown.
pub fn cover_heads(image: &mut PlanarImage, skeleton: &Skeleton, persons: &[Person]) -> Result<(), Unplaced> {
    let size = [image.width() as f32, image.height() as f32];
    let heads = persons.iter().map(|person| Head::of(skeleton, person, size));
    let heads: Vec<Head> = heads.collect::<Option<_>>().ok_or(Unplaced)?;
    if heads.is_empty() {
        return Err(Unplaced);
    }
    let step = image.subsampling().step();
    let (mut luma, mut chroma) = image.planes_mut();
    for head in heads {
        head.cover(&mut luma, (1, 1), COVER);
        chroma.iter_mut().flatten().for_each(|plane| head.cover(plane, step, NEUTRAL));
    }
    Ok(())
}

/// Where a head is, and all that may belong to it: a disc, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Head {
    center: [f32; 2],
    radius: f32,
}

impl Head {
    /// Found by ears, eyes and nose, and as large as they are apart and as the rest of the body says: each tells of
    /// some views only, so the largest counts. `None` if no joint of the head is sure enough, or nothing says how large
    /// it is.
    fn of(skeleton: &Skeleton, person: &Person, image_size: [f32; 2]) -> Option<Self> {
        let joints = || skeleton.keypoints().iter().zip(&person.keypoints);
        let part = |part: Part| joints().filter(move |(kind, _)| kind.part == part).map(|(_, joint)| joint);
        let placed = |joint: &&Keypoint| joint.score >= PLACED && is_near(joint, image_size);
        let (mut center, mut weights) = ([0.0; 2], 0.0);
        for joint in part(Part::Head).filter(placed) {
            let score = joint.score.min(1.0);
            center = [center[0] + score * joint.x, center[1] + score * joint.y];
            weights += score;
        }
        if weights == 0.0 {
            return None;
        }
        let center = center.map(|sum| sum / weights);
        let spread =
            part(Part::Head).filter(placed).map(|joint| distance(center, at(joint))).fold(0.0, f32::max);
        let middle = |of: Part| {
            let [x, y, n] =
                part(of).filter(placed).fold([0.0; 3], |[x, y, n], j| [x + j.x, y + j.y, n + 1.0]);
            (n > 0.0).then(|| [x / n, y / n])
        };
        let shoulders: Vec<[f32; 2]> = part(Part::Shoulder).filter(placed).map(at).collect();
        let across = match shoulders[..] {
            [one, other, ..] => distance(one, other),
            _ => 0.0,
        };
        let torso = match (middle(Part::Shoulder), middle(Part::Hip)) {
            (Some(top), Some(bottom)) => distance(top, bottom),
            _ => 0.0,
        };
        let bounds = person.bounding_box;
        let tall =
            [bounds.width, bounds.height].into_iter().filter(|side| side.is_finite()).fold(0.0, f32::max);
        // Half a head's height, hair and chin included, is about so much of each.
        let half = [2.2 * spread, 0.42 * across, 0.3 * torso, tall / 13.0].into_iter().fold(0.0, f32::max);
        let count = part(Part::Head).count().max(1) as f32;
        let sure = (part(Part::Head).map(score_of).sum::<f32>() / count).clamp(0.0, 1.0);
        let radius = (half * MARGIN * (1.0 + UNSURE * (1.0 - sure))).max(SMALLEST);
        (half > 0.0 && radius.is_finite()).then_some(Self { center, radius })
    }

    /// Writes `value` over each sample of a plane that tells of a pixel in the disc, `step` pixels (across, down) a
    /// sample.
    fn cover(&self, plane: &mut PlaneMut<'_>, (across, down): (usize, usize), value: u8) {
        let stride = plane.stride.max(1);
        for (y, row) in plane.samples.chunks_mut(stride).enumerate() {
            let off_y = gap(self.center[1], (y * down) as f32, down as f32);
            if off_y > self.radius {
                continue;
            }
            let half = (self.radius * self.radius - off_y * off_y).sqrt();
            // Float casts saturate: what is outside becomes empty.
            let from = ((self.center[0] - half) / across as f32).floor() as usize;
            let to = ((self.center[0] + half) / across as f32).ceil().max(0.0) as usize;
            let (from, to) = (from.min(row.len()), to.min(row.len()));
            if from < to {
                row[from..to].fill(value);
            }
        }
    }
}

fn score_of(joint: &Keypoint) -> f32 {
    if joint.score.is_finite() { joint.score } else { 0.0 }
}

fn at(joint: &Keypoint) -> [f32; 2] {
    [joint.x, joint.y]
}

fn distance(one: [f32; 2], other: [f32; 2]) -> f32 {
    (one[0] - other[0]).hypot(one[1] - other[1])
}

/// How far `at` is from what begins at `from` and is `len` long.
fn gap(at: f32, from: f32, len: f32) -> f32 {
    (from - at).max(at - from - len).max(0.0)
}

/// Whether a joint lies within an image size of the image. False for what is no number.
fn is_near(joint: &Keypoint, image_size: [f32; 2]) -> bool {
    at(joint).iter().zip(image_size).all(|(&v, size)| v >= -size && v <= 2.0 * size)
}
