//! Heads → poses: the decoding part of the published MoveNet graphs, in plain Rust.
//!
//! Both executions of the network hand their heads to the same [`Decoder`], through [`Heads`]. Every
//! step, constant and tie-break is that of the published graph, so the result agrees with it to
//! rounding; the constants are read from the weight file, which has them rounded to float16.
//!
//! | module | what |
//! |---|---|
//! | `single` | SinglePose: the most central person |
//! | `multi` | MultiPose: several people with boxes |
//! | `search` | a keypoint's best cell, found without visiting every cell |
//!
//! Nothing here knows candle, kernels or the shape of the network.

mod multi;
mod search;
mod single;

pub(crate) use multi::{CROWD, PUBLISHED, People};

use super::Weights;
use super::arch::{Head, InputSize};
use crate::models::ModelPose;

/// The cells of the heads: a quarter of the model input's height and width.
///
/// The cell at row `y`, column `x` has index `y · width + x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Grid {
    /// How many cells there are.
    pub fn cells(self) -> usize {
        self.height * self.width
    }
}

/// One image's heads, as the decoder reads them.
///
/// Two heads are read whole. The others are read at a few cells only, so an execution may compute them
/// there and nowhere else.
pub trait Heads {
    /// The size of every head.
    fn grid(&self) -> Grid;

    /// [`Head::Center`]: `[H, W]`, logits.
    fn center(&self) -> &[f32];

    /// [`Head::Keypoints`]: `[H, W, K]`, logits.
    fn keypoints(&self) -> &[f32];

    /// Writes the `out.len()` channels of `head` that begin with `first_channel`, at `cell`.
    ///
    /// The decoder asks for all of [`Head::Regression`], [`Head::BoxScale`] and [`Head::BoxOffset`] at
    /// persons' centres, and for two channels of [`Head::Offset`] at keypoints' cells.
    fn read(&mut self, head: Head, cell: usize, first_channel: usize, out: &mut [f32]);
}

/// Heads computed in full.
#[derive(Clone, Debug)]
pub struct DenseHeads {
    /// The size of every head.
    pub grid: Grid,
    /// Keypoints of a person: K.
    pub keypoints: usize,
    /// Each head of the model: `[H, W, channels]`.
    pub maps: Vec<(Head, Vec<f32>)>,
}

impl DenseHeads {
    fn map(&self, head: Head) -> &[f32] {
        let found = self.maps.iter().find(|(h, _)| *h == head);
        &found.unwrap_or_else(|| panic!("the model has no head {head:?}")).1
    }
}

impl Heads for DenseHeads {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn center(&self) -> &[f32] {
        self.map(Head::Center)
    }

    fn keypoints(&self) -> &[f32] {
        self.map(Head::Keypoints)
    }

    fn read(&mut self, head: Head, cell: usize, first_channel: usize, out: &mut [f32]) {
        let start = cell * head.channels(self.keypoints) + first_channel;
        out.copy_from_slice(&self.map(head)[start..start + out.len()]);
    }
}

/// Decodes the heads of one model.
#[derive(Clone, Debug)]
pub struct Decoder {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Single(single::SinglePose),
    Multi(multi::MultiPose),
}

impl Decoder {
    /// Takes the constants of the decoder from a model's weights. It finds whom the published graph finds.
    pub fn new(weights: &Weights) -> Self {
        Self::of(weights, PUBLISHED)
    }

    /// The decoder as [`new`](Self::new) makes it, but that MultiPose reports `people`.
    pub(crate) fn of(weights: &Weights, people: People) -> Self {
        let kind = match weights.architecture().input {
            InputSize::Square(_) => Kind::Single(single::SinglePose::new(weights)),
            InputSize::Multiple { .. } => Kind::Multi(multi::MultiPose::new(weights, people)),
        };
        Self { kind }
    }

    /// The most poses that it finds.
    pub(crate) fn most(&self) -> usize {
        match &self.kind {
            Kind::Single(_) => 1,
            Kind::Multi(multi) => multi.most(),
        }
    }

    /// The least centre score of a person whom it finds.
    pub(crate) fn least_center(&self) -> f32 {
        match &self.kind {
            Kind::Single(_) => 0.0,
            Kind::Multi(multi) => multi.least_center(),
        }
    }

    /// Finds the poses: one for SinglePose, several by falling centre score for MultiPose: the published six, whatever
    /// their scores, or more. [`crate::persons::in_image`] leaves out what is no person.
    ///
    /// # Panics
    /// If `heads` are of another model or grid than the weights are for.
    pub fn decode(&self, heads: &mut dyn Heads) -> Vec<ModelPose> {
        match &self.kind {
            Kind::Single(single) => vec![single.decode(heads)],
            Kind::Multi(multi) => multi.decode(heads),
        }
    }
}

/// A keypoint's exact place, in cells: its cell plus what [`Head::Offset`] says there.
fn refine(heads: &mut dyn Heads, cell: usize, keypoint: usize) -> (f32, f32) {
    let mut offset = [0.0; 2];
    heads.read(Head::Offset, cell, 2 * keypoint, &mut offset);
    let width = heads.grid().width;
    ((cell / width) as f32 + offset[0], (cell % width) as f32 + offset[1])
}

/// Where [`Head::Regression`] says a person's `keypoints` are, in cells (y, x).
fn regress(heads: &mut dyn Heads, center: usize, keypoints: usize) -> Vec<(f32, f32)> {
    let mut offsets = vec![0.0; 2 * keypoints];
    heads.read(Head::Regression, center, 0, &mut offsets);
    let width = heads.grid().width;
    let (y, x) = ((center / width) as f32, (center % width) as f32);
    offsets.chunks_exact(2).map(|offset| (y + offset[0], x + offset[1])).collect()
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
