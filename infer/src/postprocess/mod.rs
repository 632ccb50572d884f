//! Heads → poses: the decoding part of the published MoveNet graphs, in plain Rust.
//!
//! Both executions of the network hand their heads to the same [`Decoder`], through [`Heads`]. Every
//! step, constant and tie-break is that of the published graph, so the result agrees with it to
//! rounding; the constants are read from the weight file, which has them rounded to float16.
//!
//! | module | what |
//! |---|---|
//! | `single` | SinglePose: the most central person |
//! | `multi` | MultiPose: up to six people with boxes |
//! | `search` | a keypoint's best cell, found without visiting every cell |
//! | [`persons`] | thresholds, and poses in pixels of the original image |
//!
//! Nothing here knows candle, kernels or the shape of the network.

mod multi;
pub mod persons;
mod search;
mod single;

use cloudpose_wire::ModelName;
use cloudpose_wire::pose::KEYPOINTS;

pub(crate) use multi::PERSONS;

use crate::model::Weights;
use crate::model::arch::Head;

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

    /// [`Head::Keypoints`]: `[H, W, 17]`, logits.
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
        let start = cell * head.channels() + first_channel;
        out.copy_from_slice(&self.map(head)[start..start + out.len()]);
    }
}

/// A keypoint in coordinates of the model input: 0..1 from the left and top edge to the right and bottom
/// edge, outside of that where the model sees it beyond the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelKeypoint {
    /// From the left edge.
    pub x: f32,
    /// From the top edge.
    pub y: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// A box in coordinates of the model input, 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelBox {
    /// Left edge.
    pub x_min: f32,
    /// Top edge.
    pub y_min: f32,
    /// Right edge.
    pub x_max: f32,
    /// Bottom edge.
    pub y_max: f32,
}

/// What a model reports about one person, in coordinates of the model input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelPose {
    /// Confidence, 0 to 1. SinglePose: the mean of the keypoints' scores. MultiPose: the centre's score
    /// times the mean score of the keypoints that count (see the graph's `min_keypoint_score`).
    pub score: f32,
    /// COCO-17, in order.
    pub keypoints: [ModelKeypoint; KEYPOINTS],
    /// MultiPose only: the box, clipped to the input.
    pub bounds: Option<ModelBox>,
}

/// Decodes the heads of one model.
#[derive(Clone, Debug)]
pub struct Decoder {
    family: Family,
}

#[derive(Clone, Debug)]
enum Family {
    Single(single::SinglePose),
    Multi(multi::MultiPose),
}

impl Decoder {
    /// Takes the constants of the decoder from a model's weights.
    pub fn new(weights: &Weights) -> Self {
        let family = match weights.model() {
            ModelName::Lightning | ModelName::Thunder => Family::Single(single::SinglePose::new(weights)),
            ModelName::MultiPose => Family::Multi(multi::MultiPose::new(weights)),
        };
        Self { family }
    }

    /// Finds the poses: one for SinglePose, six by falling centre score for MultiPose, whatever their
    /// scores. [`persons::in_image`] leaves out what is no person.
    ///
    /// # Panics
    /// If `heads` are of another model or grid than the weights are for.
    pub fn decode(&self, heads: &mut dyn Heads) -> Vec<ModelPose> {
        match &self.family {
            Family::Single(single) => vec![single.decode(heads)],
            Family::Multi(multi) => multi.decode(heads),
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

/// Where [`Head::Regression`] says a person's keypoints are, in cells (y, x).
fn regress(heads: &mut dyn Heads, center: usize) -> [(f32, f32); KEYPOINTS] {
    let mut offsets = [0.0; 2 * KEYPOINTS];
    heads.read(Head::Regression, center, 0, &mut offsets);
    let width = heads.grid().width;
    let (y, x) = ((center / width) as f32, (center % width) as f32);
    std::array::from_fn(|keypoint| (y + offsets[2 * keypoint], x + offsets[2 * keypoint + 1]))
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
