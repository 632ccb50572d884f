//! Heads to poses for a whole batch; `gpu/kernels/poses.cu` on a GPU.
//!
//! Centre and keypoint logits are there for every cell; the other heads are evaluated at the cells that are read.
//! On the CPU this is [`Decoder`] itself: what the kernels have to agree with.

use std::sync::Arc;

use super::super::Weights;
use super::super::arch::{FEATURES, HEAD_HIDDEN, Head, InputSize};
use super::super::decoder::{Decoder, Grid, Heads};
use crate::gpu::{Arg, Device, Launch, Maps, Number, Op, Result, Slot, Values, each, floats, narrow, says};
use crate::models::{ModelBox, ModelKeypoint, ModelPose};

/// Channels of the centre map as they lie in memory, a multiple of four.
pub(crate) const CENTER_PITCH: usize = 4;

/// Channels of the keypoint map as they lie in memory, a multiple of four.
pub(crate) const fn keypoint_pitch(keypoints: usize) -> usize {
    keypoints.next_multiple_of(4)
}

/// Numbers of a pose: score; box; y, x and score of each keypoint.
const fn record_len(keypoints: usize) -> usize {
    5 + 3 * keypoints
}

/// Numbers that the kernels keep about a person meanwhile: score; box; y and x of each keypoint.
const fn candidate_len(keypoints: usize) -> usize {
    5 + 2 * keypoints
}

/// Threads of a block that work on one image, or one keypoint, together: a power of two.
const TOGETHER: u32 = 256;

/// What the decoder of one model knows.
#[derive(Debug)]
pub(crate) struct PoseDecoder {
    decoder: Decoder,
    constants: Constants,
    /// Keypoints of a person.
    keypoints: usize,
    /// Heads that are evaluated where they are read, in the order of the kernels' buffer.
    sparse: Vec<SparseHead>,
    /// The layers of `sparse`, one after another.
    pub(crate) heads: Slot,
    /// SinglePose: how much a centre counts in each cell. MultiPose: nothing.
    pub(crate) center_weight: Slot,
}

#[derive(Clone, Copy, Debug)]
enum Constants {
    Single { distance_offset: f32, cell_height: f32, cell_width: f32 },
    Multi { peak_tolerance: f32, falloff: f32, min_keypoint_score: f32 },
}

/// The layers of a head, row-major: depthwise `[9, FEATURES]`, hidden `[FEATURES, HEAD_HIDDEN]` and bias, out
/// `[HEAD_HIDDEN, channels]` and bias.
#[derive(Debug)]
struct SparseHead {
    head: Head,
    depthwise: Vec<f32>,
    hidden: (Vec<f32>, Vec<f32>),
    out: (Vec<f32>, Vec<f32>),
}

impl SparseHead {
    fn load(weights: &Weights, head: Head) -> Self {
        let values = |layer: &str| weights.values(&format!("{}.{layer}", head.name()));
        Self {
            head,
            depthwise: values("depthwise.weight"),
            hidden: (values("hidden.weight"), values("hidden.bias")),
            out: (values("out.weight"), values("out.bias")),
        }
    }

    fn layers(&self) -> Vec<f32> {
        [&self.depthwise, &self.hidden.0, &self.hidden.1, &self.out.0, &self.out.1]
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    fn evaluate(&self, features: &[f32], grid: Grid, cell: usize, first: usize, out: &mut [f32]) {
        let (row, column) = (cell / grid.width, cell % grid.width);
        let mut spatial = [0.0; FEATURES];
        for tap in 0..9 {
            let (y, x) = (row + tap / 3, column + tap % 3);
            if y == 0 || y > grid.height || x == 0 || x > grid.width {
                continue;
            }
            let pixel = &features[((y - 1) * grid.width + x - 1) * FEATURES..];
            for ((sum, value), weight) in spatial.iter_mut().zip(pixel).zip(&self.depthwise[tap * FEATURES..])
            {
                *sum += value * weight;
            }
        }
        let layer = |input: &[f32], (weight, bias): &(Vec<f32>, Vec<f32>), channel: usize| {
            let columns = bias.len();
            let products = input.iter().enumerate().map(|(i, x)| x * weight[i * columns + channel]);
            products.sum::<f32>() + bias[channel]
        };
        let hidden: [f32; HEAD_HIDDEN] =
            std::array::from_fn(|channel| layer(&spatial, &self.hidden, channel).max(0.0));
        for (channel, out) in (first..).zip(out) {
            *out = layer(&hidden, &self.out, channel);
        }
    }
}

impl PoseDecoder {
    pub(crate) fn load(weights: &Weights, decoder: Decoder, device: &mut dyn Device) -> Result<Self> {
        let sparse = match weights.architecture().input {
            InputSize::Square(_) => &[Head::Regression, Head::Offset][..],
            InputSize::Multiple { .. } => {
                &[Head::Regression, Head::Offset, Head::BoxScale, Head::BoxOffset][..]
            }
        };
        let sparse: Vec<_> = sparse.iter().map(|head| SparseHead::load(weights, *head)).collect();
        let layers: Vec<f32> = sparse.iter().flat_map(SparseHead::layers).collect();
        let (constants, center_weight) = match weights.architecture().input {
            InputSize::Square(_) => {
                let cell = weights.values("decode.cell_size");
                let distance_offset = weights.scalar("decode.distance_offset");
                let constants =
                    Constants::Single { distance_offset, cell_height: cell[0], cell_width: cell[1] };
                (constants, weights.values("decode.center_weight"))
            }
            InputSize::Multiple { .. } => {
                let constants = Constants::Multi {
                    peak_tolerance: weights.scalar("decode.peak_tolerance"),
                    falloff: weights.scalar("decode.falloff"),
                    min_keypoint_score: weights.scalar("decode.min_keypoint_score"),
                };
                (constants, vec![0.0])
            }
        };
        Ok(Self {
            decoder,
            constants,
            keypoints: weights.architecture().keypoints,
            sparse,
            heads: device.put(&Values::F32(layers))?,
            center_weight: device.put(&Values::F32(center_weight))?,
        })
    }

    /// Persons that there is room for of each image.
    pub(crate) fn persons(&self) -> usize {
        self.decoder.most()
    }

    /// Numbers that [`Poses`] writes, of which the first [`records_len`](Self::records_len) are the poses.
    pub(crate) fn buffer_len(&self, grid: Maps) -> usize {
        let of_a_person = record_len(self.keypoints) + candidate_len(self.keypoints);
        grid.images * self.persons() * of_a_person + grid.pixels()
    }

    pub(crate) fn records_len(&self, images: usize) -> usize {
        images * self.persons() * record_len(self.keypoints)
    }

    /// The poses of each image in the beginning of what [`Poses`] has written, little-endian.
    pub(crate) fn read(&self, bytes: &[u8]) -> Vec<Vec<ModelPose>> {
        let records: Vec<_> = bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
        let with_box = matches!(self.constants, Constants::Multi { .. });
        let pose = |record: &[f32]| {
            let keypoint = |k: usize| {
                let place = &record[5 + 3 * k..];
                ModelKeypoint { y: place[0], x: place[1], score: place[2] }
            };
            let bounds = ModelBox { y_min: record[1], x_min: record[2], y_max: record[3], x_max: record[4] };
            ModelPose {
                score: record[0],
                keypoints: (0..self.keypoints).map(keypoint).collect(),
                bounds: with_box.then_some(bounds),
            }
        };
        let len = record_len(self.keypoints);
        let images = records.chunks_exact(self.persons() * len);
        images.map(|image| image.chunks_exact(len).map(pose).collect()).collect()
    }
}

fn write_record(pose: &ModelPose, record: &mut [f32]) {
    record[0] = pose.score;
    if let Some(bounds) = pose.bounds {
        record[1..5].copy_from_slice(&[bounds.y_min, bounds.x_min, bounds.y_max, bounds.x_max]);
    }
    for (place, keypoint) in record[5..].chunks_exact_mut(3).zip(&pose.keypoints) {
        place.copy_from_slice(&[keypoint.y, keypoint.x, keypoint.score]);
    }
}

/// Decodes a batch. Inputs, all float32: centre logits `[images, height, width, CENTER_PITCH]`, keypoint logits
/// `[…, KEYPOINT_PITCH]`, features `[…, FEATURES]`, the decoder's `heads`, its `center_weight`. The output is
/// [`PoseDecoder::buffer_len`] long.
#[derive(Debug)]
pub(crate) struct Poses {
    pub(crate) decoder: Arc<PoseDecoder>,
    pub(crate) grid: Maps,
}

/// One image's heads on the host.
struct HostHeads<'a> {
    grid: Grid,
    center: Vec<f32>,
    keypoints: Vec<f32>,
    features: &'a [f32],
    sparse: &'a [SparseHead],
}

impl Heads for HostHeads<'_> {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn center(&self) -> &[f32] {
        &self.center
    }

    fn keypoints(&self) -> &[f32] {
        &self.keypoints
    }

    fn read(&mut self, head: Head, cell: usize, first_channel: usize, out: &mut [f32]) {
        let layers = self.sparse.iter().find(|layers| layers.head == head);
        let layers = layers.expect("the decoder reads no other heads");
        layers.evaluate(self.features, self.grid, cell, first_channel, out);
    }
}

impl Op for Poses {
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()> {
        let Values::F32(output) = output else { return Err(says("poses are float32")) };
        let [center, keypoints, features] = [0, 1, 2].map(|input| floats(inputs[input]));
        let (center, keypoints, features) = (center?, keypoints?, features?);
        let grid = Grid { height: self.grid.height, width: self.grid.width };
        let without_padding = |map: &[f32], pitch: usize, channels: usize| -> Vec<f32> {
            map.chunks_exact(pitch).flat_map(|cell| &cell[..channels]).copied().collect()
        };
        let count = self.decoder.keypoints;
        let (len, pitch) = (record_len(count), keypoint_pitch(count));
        let poses = self.decoder.persons() * len;
        for (image, records) in output.chunks_exact_mut(poses).take(self.grid.images).enumerate() {
            let of = |channels: usize| image * grid.cells() * channels..(image + 1) * grid.cells() * channels;
            let mut heads = HostHeads {
                grid,
                center: without_padding(&center[of(CENTER_PITCH)], CENTER_PITCH, 1),
                keypoints: without_padding(&keypoints[of(pitch)], pitch, count),
                features: &features[of(FEATURES)],
                sparse: &self.decoder.sparse,
            };
            let poses = self.decoder.decoder.decode(&mut heads);
            records.fill(0.0);
            for (slot, pose) in records.chunks_exact_mut(len).zip(&poses) {
                write_record(pose, slot);
            }
        }
        Ok(())
    }

    fn launches(&self, _: Number) -> Result<Vec<Launch>> {
        let (grid, persons, count) = (self.grid, self.decoder.persons(), self.decoder.keypoints);
        let [images, height, width] = grid.sizes();
        let is_single = matches!(self.decoder.constants, Constants::Single { .. });
        let (falloff, cell, peak_tolerance, min_keypoint_score) = match self.decoder.constants {
            Constants::Single { distance_offset, cell_height, cell_width } => {
                (distance_offset, [cell_height, cell_width], 0.0, 0.0)
            }
            Constants::Multi { peak_tolerance, falloff, min_keypoint_score } => {
                let spread = height.min(width) as f32 * falloff;
                (spread, [0.0; 2], peak_tolerance, min_keypoint_score)
            }
        };
        let (center, keypoints, features, heads, weight) =
            (Arg::Input(0), Arg::Input(1), Arg::Input(2), Arg::Input(3), Arg::Input(4));
        let kind = usize::from(is_single);
        let least_center = self.decoder.decoder.least_center();
        Ok(vec![
            Launch::new(
                "score_centers",
                each(grid.pixels())?,
                &[center, weight, Arg::Output],
                &[images, height, width, CENTER_PITCH, persons, count, kind],
                &[peak_tolerance],
            )?,
            Launch::new(
                "choose_centers",
                (narrow(images)?, TOGETHER),
                &[Arg::Output],
                &[images, height, width, persons, count],
                &[],
            )?,
            Launch::new(
                "describe_persons",
                (narrow(images * persons)?, TOGETHER),
                &[features, heads, Arg::Output],
                &[images, height, width, persons, count, kind],
                &[],
            )?,
            Launch::new(
                "place_keypoints",
                (narrow(images * persons * count)?, TOGETHER),
                &[keypoints, features, heads, Arg::Output],
                &[images, height, width, keypoint_pitch(count), persons, count, kind],
                &[falloff, cell[0], cell[1], least_center],
            )?,
            Launch::new(
                "score_persons",
                each(images * persons)?,
                &[Arg::Output],
                &[images, height, width, persons, count, kind],
                &[min_keypoint_score, least_center],
            )?,
        ])
    }
}
