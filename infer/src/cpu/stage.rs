//! One pass over a feature map: its rows are produced, go through a depthwise 3×3 or 5×5 and a pointwise
//! convolution, and leave as rows of the next feature map, a band of rows at a time.
//!
//! The map in the middle, six times as wide as what comes in and goes out, never exists as a whole: for
//! each panel of channels the band's new rows are produced and go through the depthwise convolution at
//! once, while they are in the first cache; a group of panels then adds its share to the pointwise sums.
//! The rows that the next band's windows still need stay in a ring.
//!
//! Threads that share an inference each take a run of output rows, with a ring of their own: the few rows at
//! the seams are produced twice, and every sum stays the same whatever the number of threads.
//!
//! ```text
//! source rows ──panel──▶ ring ──depthwise──▶ middle ──pointwise, per group──▶ output rows
//! ```

use std::ops::Range;
use std::sync::Arc;

use cloudpose_kernels::Kernels;
use cloudpose_kernels::depthwise::{MOST_ROWS, RowShape, Stride, Window};
use cloudpose_kernels::normalise::Pattern;
use cloudpose_kernels::pointwise::{Left, Output, Panel, Segment, Weights as Pointwise};
use cloudpose_kernels::upsample::{self, source_rows};

use super::arena::Regions;
use super::separable::Separable;

/// Output pixels that a band should have: enough rows for the register tiles, few enough that a panel of
/// a band stays in the first cache.
const BAND_PIXELS: usize = 256;
/// Output rows that a part should at least have: below, what is done twice at the seams outweighs.
const PART_ROWS: usize = 2;
/// Floats of `middle` that a group of panels may fill: a share of the second cache.
const MIDDLE_FLOATS: usize = 32 * 1024;

/// Floats of input rows that a call of the depthwise kernel may read: most of the first cache.
const ROWS_FLOATS: usize = 6 * 1024;

/// Where the rows that enter the depthwise convolution come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A 3×3 stride 2 convolution on the normalised pixels, as a product with a depth of 3 × 9.
    Stem { pattern: Arc<Pattern>, weights: Arc<Pointwise> },
    /// A pointwise convolution of the input.
    Expand(Arc<Pointwise>),
    /// A pointwise convolution of the input, plus the coarse map upsampled ×2.
    Merge { lateral: Arc<Pointwise> },
    /// The input as it is.
    Input,
}

/// What a stage is made of.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) source: Source,
    pub(crate) separable: Arc<Separable>,
    /// A second pointwise convolution, on the first one's result.
    pub(crate) then: Option<Arc<Pointwise>>,
    pub(crate) stride: Stride,
    /// Whether the input is added to the pointwise convolution's result.
    pub(crate) residual: bool,
}

/// Floats that each part of a stage needs while it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scratch {
    pub(super) ring: usize,
    pub(super) middle: usize,
    pub(super) rows: usize,
}

/// Panels whose depthwise results are in `middle` together, `[pixels, channels]`.
#[derive(Debug)]
struct Group {
    panels: Range<usize>,
    channels: Range<usize>,
}

/// [`Layers`] at one size of feature map.
#[derive(Debug)]
pub(crate) struct Stage {
    layers: Layers,
    /// Size of the map that enters the depthwise convolution.
    height: usize,
    width: usize,
    /// Threads that share the output rows.
    parts: usize,
    /// Output rows of a band.
    band: usize,
    ring_rows: usize,
    groups: Vec<Group>,
}

/// The slices behind [`Regions`]: inputs whole, of the output the rows to write, scratch for each part.
struct Memory<'a> {
    input: &'a [f32],
    coarse: &'a [f32],
    output: &'a mut [f32],
    ring: &'a mut [f32],
    middle: &'a mut [f32],
    rows: &'a mut [f32],
}

impl Stage {
    /// `height` × `width` is the size of the map that enters the depthwise convolution, `threads` how many
    /// share it.
    pub(crate) fn new(layers: Layers, height: usize, width: usize, threads: usize) -> Self {
        let (out_height, out_width) = (height / layers.stride.pixels(), width / layers.stride.pixels());
        let parts = threads.min(out_height.div_ceil(PART_ROWS));
        let part_height = out_height.div_ceil(parts);
        let bands = part_height.div_ceil((BAND_PIXELS / out_width).max(1));
        let band = part_height.div_ceil(bands);
        let ring_rows = ((band - 1) * layers.stride.pixels() + layers.separable.size).min(height);
        let groups = groups(&layers.separable.panels, band * out_width);
        Self { layers, height, width, parts, band, ring_rows, groups }
    }

    /// Rows of zeros above the map.
    fn pad_before(&self) -> usize {
        self.layers.stride.pad_before(self.layers.separable.size)
    }

    fn out_height(&self) -> usize {
        self.height / self.layers.stride.pixels()
    }

    fn out_width(&self) -> usize {
        self.width / self.layers.stride.pixels()
    }

    /// Whether one band is a whole part: then no rows have to be kept, and panels share the ring.
    fn is_one_band(&self) -> bool {
        self.band >= self.out_height().div_ceil(self.parts)
    }

    /// Floats of an output row.
    fn output_row(&self) -> usize {
        let weights = self.layers.then.as_ref().unwrap_or(&self.layers.separable.pointwise);
        self.out_width() * weights.columns()
    }

    /// The size of the output.
    pub(super) fn output_len(&self) -> usize {
        self.out_height() * self.output_row()
    }

    /// Multiply-adds of a run, those that the seams between parts repeat not counted.
    pub(super) fn multiply_adds(&self) -> usize {
        let source = self.source_weights();
        self.height * self.width * source + self.out_height() * self.out_width() * (self.weights() - source)
    }

    /// How many.
    pub(super) fn weights(&self) -> usize {
        let separable = &self.layers.separable;
        let (channels, columns) = (separable.pointwise.depth(), separable.pointwise.columns());
        let then = self.layers.then.as_ref().map_or(0, |then| columns * then.columns());
        self.source_weights() + channels * (separable.size * separable.size + columns) + then
    }

    /// Of what comes before the depthwise convolution.
    fn source_weights(&self) -> usize {
        match &self.layers.source {
            Source::Stem { weights, .. } | Source::Expand(weights) | Source::Merge { lateral: weights } => {
                weights.depth() * self.layers.separable.pointwise.depth()
            }
            Source::Input => 0,
        }
    }

    /// Height, width and channels of the output.
    pub(super) fn output_shape(&self) -> [usize; 3] {
        [self.out_height(), self.out_width(), self.output_row() / self.out_width()]
    }

    /// How many [`Stage::scratch`] the regions hold.
    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// The first output row of a part.
    fn part_top(&self, part: usize) -> usize {
        part * self.out_height() / self.parts
    }

    pub(super) fn scratch(&self) -> Scratch {
        let panels = &self.layers.separable.panels;
        let pixels = self.band * self.out_width();
        let ring_width = match self.layers.source {
            Source::Input => 0,
            _ if self.is_one_band() => panels.iter().map(|p| p.width).max().unwrap_or(0),
            _ => panels.iter().map(|p| p.width).sum(),
        };
        let rows = match (&self.layers.source, &self.layers.then) {
            (Source::Stem { .. }, _) => (2 * self.ring_rows + 1) * self.pixel_row(),
            (_, Some(_)) => pixels * self.layers.separable.pointwise.columns(),
            _ => 0,
        };
        Scratch {
            ring: ring_width * self.ring_rows * self.width,
            middle: self.groups.iter().map(|g| g.channels.len()).max().unwrap_or(0) * pixels,
            rows,
        }
    }

    /// Floats of a row of normalised pixels: twice the stem's width, and one pixel of padding.
    fn pixel_row(&self) -> usize {
        (2 * self.width + 1) * 3
    }

    /// Runs the stage on the regions of `arena`; `pixels` is read by a stem only.
    pub(super) fn run(&self, kernels: &Kernels, pixels: &[u8], regions: Regions, arena: &mut [f32]) {
        let Regions { input, coarse, output, ring, middle, rows } = regions;
        let [input, coarse, output, ring, middle, rows] = arena
            .get_disjoint_mut([input, coarse, output, ring, middle, rows])
            .expect("buffers of one step do not overlap");
        let memory = Memory { input, coarse, output, ring, middle, rows };
        self.run_parts(kernels, pixels, 0..self.parts, memory);
    }

    /// Runs `parts`, for which `memory` has the output rows and scratch, each on a thread of the pool that
    /// this is called in.
    fn run_parts(&self, kernels: &Kernels, pixels: &[u8], parts: Range<usize>, memory: Memory<'_>) {
        if parts.len() == 1 {
            return self.run_part(kernels, pixels, parts.start, memory);
        }
        let half = parts.start + parts.len() / 2;
        let Memory { input, coarse, output, ring, middle, rows } = memory;
        let output_at = (self.part_top(half) - self.part_top(parts.start)) * self.output_row();
        let (output, output_2) = output.split_at_mut(output_at);
        let (count, scratch) = (half - parts.start, self.scratch());
        let (ring, ring_2) = ring.split_at_mut(count * scratch.ring);
        let (middle, middle_2) = middle.split_at_mut(count * scratch.middle);
        let (rows, rows_2) = rows.split_at_mut(count * scratch.rows);
        let first = Memory { input, coarse, output, ring, middle, rows };
        let second = Memory { input, coarse, output: output_2, ring: ring_2, middle: middle_2, rows: rows_2 };
        rayon::join(
            || self.run_parts(kernels, pixels, parts.start..half, first),
            || self.run_parts(kernels, pixels, half..parts.end, second),
        );
    }

    fn run_part(&self, kernels: &Kernels, pixels: &[u8], part: usize, mut memory: Memory<'_>) {
        let step = self.layers.stride.pixels();
        let part = self.part_top(part)..self.part_top(part + 1);
        let (size, pad) = (self.layers.separable.size, self.pad_before());
        let mut produced = (part.start * step).saturating_sub(pad);
        for top in part.clone().step_by(self.band) {
            let band = top..(top + self.band).min(part.end);
            let needed = ((band.end - 1) * step + size - pad).min(self.height);
            let fresh = produced..needed;
            if let Source::Stem { pattern, .. } = &self.layers.source {
                self.normalise(kernels, pattern, pixels, fresh.clone(), memory.rows);
            }
            for group in &self.groups {
                for panel in group.panels.clone() {
                    self.produce(kernels, panel, fresh.clone(), &mut memory);
                    match size {
                        3 => self.depthwise::<3>(kernels, panel, group, band.clone(), &mut memory),
                        _ => self.depthwise::<5>(kernels, panel, group, band.clone(), &mut memory),
                    }
                }
                self.pointwise(kernels, group, band.clone(), part.start, &mut memory);
            }
            if let Some(then) = &self.layers.then {
                self.second_pointwise(kernels, then, band, part.start, &mut memory);
            }
            produced = needed;
        }
    }

    /// Writes the rows of normalised pixels that the stem rows `fresh` read, with the padding that
    /// TensorFlow's `SAME` has at stride 2: a column on the right and a row at the bottom.
    fn normalise(
        &self,
        kernels: &Kernels,
        pattern: &Pattern,
        pixels: &[u8],
        fresh: Range<usize>,
        rows: &mut [f32],
    ) {
        let bytes = 2 * self.width * 3;
        for (index, row) in rows.chunks_exact_mut(self.pixel_row()).take(2 * fresh.len() + 1).enumerate() {
            let (row, padding) = row.split_at_mut(bytes);
            padding.fill(0.0);
            match pixels.chunks_exact(bytes).nth(2 * fresh.start + index) {
                Some(pixels) => kernels.normalise(pattern, pixels, row),
                None => row.fill(0.0),
            }
        }
    }

    /// The floats of `ring` that hold row `y` of `panel`, and everything behind them.
    fn ring_from(&self, panel: &Panel, y: usize) -> usize {
        let before = if self.is_one_band() { 0 } else { panel.offset * self.ring_rows * self.width };
        before + (y % self.ring_rows) * self.width * panel.width
    }

    /// Fills the ring with the rows `fresh` of a panel.
    fn produce(&self, kernels: &Kernels, panel: usize, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let channels = self.layers.separable.panels[panel];
        let (weights, input) = match &self.layers.source {
            Source::Input => return,
            Source::Stem { weights, .. } => {
                return self.stem(kernels, weights, panel, fresh, memory);
            }
            Source::Expand(weights) | Source::Merge { lateral: weights } => (weights, memory.input),
        };
        let depth = weights.depth();
        let segment = Segment { offset: 0, stride: depth, width: depth };
        let mut y = fresh.start;
        while y < fresh.end {
            // As many rows as are neighbours in the ring.
            let count = (fresh.end - y).min(self.ring_rows - y % self.ring_rows);
            let left = Left {
                data: &input[y * self.width * depth..],
                segments: &[segment],
                rows: count * self.width,
                depth_from: 0,
            };
            let data = &mut memory.ring[self.ring_from(&channels, y)..];
            let output = Output { data, stride: channels.width, residual: None };
            kernels.pointwise(weights, panel..panel + 1, left, output);
            y += count;
        }
        if matches!(self.layers.source, Source::Merge { .. }) {
            self.add_coarse(kernels, &channels, fresh, memory);
        }
    }

    /// The stem's rows `fresh`, from the normalised pixels that were prepared for them.
    fn stem(
        &self,
        kernels: &Kernels,
        weights: &Pointwise,
        panel: usize,
        fresh: Range<usize>,
        memory: &mut Memory<'_>,
    ) {
        let channels = self.layers.separable.panels[panel];
        let pitch = self.pixel_row();
        for (index, y) in fresh.enumerate() {
            // Three pixels of each of three rows, and two pixels on for the next output.
            let segments =
                [0, 1, 2].map(|r| Segment { offset: (2 * index + r) * pitch, stride: 6, width: 9 });
            let left = Left { data: memory.rows, segments: &segments, rows: self.width, depth_from: 0 };
            let data = &mut memory.ring[self.ring_from(&channels, y)..];
            let output = Output { data, stride: channels.width, residual: None };
            kernels.pointwise(weights, panel..panel + 1, left, output);
        }
    }

    /// Adds the upsampled coarse map to the rows `fresh` of a panel.
    fn add_coarse(&self, kernels: &Kernels, channels: &Panel, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let total = self.layers.separable.pointwise.depth();
        let coarse_row = self.width / 2 * total;
        let shape = upsample::RowShape {
            width: self.width / 2,
            channels: channels.columns,
            input_pitch: total,
            output_pitch: channels.width,
        };
        for y in fresh {
            let (near, far) = source_rows(y, self.height / 2);
            let [near, far] =
                [near, far].map(|row| &memory.coarse[row * coarse_row..][..coarse_row][channels.first..]);
            let to = &mut memory.ring[self.ring_from(channels, y)..];
            kernels.upsample_add_row(shape, near, far, to);
        }
    }

    /// The depthwise convolution of a panel, `K` × `K`, for the output rows of a band.
    fn depthwise<const K: usize>(
        &self,
        kernels: &Kernels,
        panel: usize,
        group: &Group,
        band: Range<usize>,
        memory: &mut Memory<'_>,
    ) {
        let separable = &self.layers.separable;
        let channels = separable.panels[panel];
        let is_input = matches!(self.layers.source, Source::Input);
        let input_pitch = if is_input { separable.pointwise.depth() } else { channels.width };
        let shape = RowShape {
            width: self.width,
            input_pitch,
            output_pitch: group.channels.len(),
            stride: self.layers.stride,
        };
        let out_row = self.out_width() * group.channels.len();
        let start = channels.first - group.channels.start;
        let (step, pad) = (self.layers.stride.pixels(), self.pad_before());
        let input_row = |row: usize| {
            if is_input {
                &memory.input[row * self.width * input_pitch..][channels.first..]
            } else {
                &memory.ring[self.ring_from(&channels, row)..]
            }
        };
        let mut windows: [Window<'_, K>; MOST_ROWS] = [[None; K]; MOST_ROWS];
        // For each vector of channels the kernel walks along all rows, which should stay in the first cache.
        let cached = ROWS_FLOATS / (self.width * channels.width);
        let most = (cached.saturating_sub(K - 1) / step).clamp(1, MOST_ROWS);
        for top in band.clone().step_by(most) {
            let count = most.min(band.end - top);
            for (y, window) in (top..).zip(&mut windows[..count]) {
                for (r, row) in window.iter_mut().enumerate() {
                    let inside = (y * step + r).checked_sub(pad).filter(|&row| row < self.height);
                    *row = inside.map(input_row);
                }
            }
            let to = &mut memory.middle[start + (top - band.start) * out_row..];
            kernels.depthwise_rows(&separable.taps[panel], shape, &windows[..count], to);
        }
    }

    /// Adds a group's share to the pointwise sums of a band, in a part that begins at row `top`.
    fn pointwise(
        &self,
        kernels: &Kernels,
        group: &Group,
        band: Range<usize>,
        top: usize,
        memory: &mut Memory<'_>,
    ) {
        let weights = &self.layers.separable.pointwise;
        let pixels = band.len() * self.out_width();
        let width = group.channels.len();
        let left = Left {
            data: memory.middle,
            segments: &[Segment { offset: 0, stride: width, width }],
            rows: pixels,
            depth_from: group.channels.start,
        };
        let stride = weights.columns();
        let output = if self.layers.then.is_some() {
            Output { data: memory.rows, stride, residual: None }
        } else {
            let row = self.output_row();
            let residual = self.layers.residual.then(|| &memory.input[band.start * row..]);
            Output { data: &mut memory.output[(band.start - top) * row..], stride, residual }
        };
        kernels.pointwise(weights, 0..weights.panels().len(), left, output);
    }

    fn second_pointwise(
        &self,
        kernels: &Kernels,
        weights: &Pointwise,
        band: Range<usize>,
        top: usize,
        memory: &mut Memory<'_>,
    ) {
        let (depth, stride) = (weights.depth(), weights.columns());
        let left = Left {
            data: memory.rows,
            segments: &[Segment { offset: 0, stride: depth, width: depth }],
            rows: band.len() * self.out_width(),
            depth_from: 0,
        };
        let data = &mut memory.output[(band.start - top) * self.output_row()..];
        let output = Output { data, stride, residual: None };
        kernels.pointwise(weights, 0..weights.panels().len(), left, output);
    }
}

/// Cuts `panels` so that each group's depthwise results, of `pixels` pixels, fit in [`MIDDLE_FLOATS`].
fn groups(panels: &[Panel], pixels: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, panel) in panels.iter().enumerate() {
        let end = panel.first + panel.columns;
        match groups.last_mut() {
            Some(group) if (end - group.channels.start) * pixels <= MIDDLE_FLOATS => {
                group.panels.end = index + 1;
                group.channels.end = end;
            }
            _ => groups.push(Group { panels: index..index + 1, channels: panel.first..end }),
        }
    }
    groups
}
