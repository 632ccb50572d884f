//! Fused layers in float32.

use std::ops::Range;
use std::sync::Arc;

use cloudpose_kernels::Kernels;
use cloudpose_kernels::depthwise::{MOST_ROWS, RowShape, Stride, Window};
use cloudpose_kernels::normalise::Pattern;
use cloudpose_kernels::pointwise::{Left, Output, Panel, Segment, Weights as Pointwise};
use cloudpose_kernels::upsample::{self, source_rows};

use super::bands::{Band, Bands};
use super::chain::Pair;
use super::separable::Separable;
use super::stage::{Fused, Memory};

/// Floats of the map in the middle that a group of panels may fill: a share of the second cache.
const MIDDLE_FLOATS: usize = 32 * 1024;
/// Floats of input rows that a call of the depthwise kernel may read: most of the first cache.
const ROWS_FLOATS: usize = 6 * 1024;
/// Channels of the map in the middle of a pair that exist at once: with its share of the weights it should fit in
/// the second cache.
const GROUP_CHANNELS: usize = 192;

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

impl Fused for Layers {
    fn size(&self) -> usize {
        self.separable.size
    }

    fn stride(&self) -> Stride {
        self.stride
    }

    fn weights(&self) -> [usize; 3] {
        let Separable { size, pointwise, .. } = &*self.separable;
        let (channels, columns) = (pointwise.depth(), pointwise.columns());
        let then = self.then.as_ref().map_or(0, |then| columns * then.columns());
        let source = match &self.source {
            Source::Stem { weights, .. } | Source::Expand(weights) | Source::Merge { lateral: weights } => {
                weights.depth() * channels
            }
            Source::Input => 0,
        };
        [source, channels * size * size, channels * columns + then]
    }

    fn columns(&self) -> usize {
        self.then.as_ref().unwrap_or(&self.separable.pointwise).columns()
    }

    fn output_len(&self, pixels: usize) -> usize {
        pixels * self.columns()
    }

    fn scratch(&self, bands: &Bands) -> [usize; 3] {
        let widths = self.separable.panels.iter().map(|panel| panel.width);
        let ring_width = match self.source {
            Source::Input => 0,
            _ if bands.overlap() => widths.sum(),
            _ => widths.max().unwrap_or(0),
        };
        let rows = match (&self.source, &self.then) {
            (Source::Stem { .. }, _) => (2 * bands.ring_rows() + 1) * pixel_row(bands),
            (_, Some(_)) => bands.pixels() * self.separable.pointwise.columns(),
            _ => 0,
        };
        let group = groups(&self.separable.panels, bands.pixels()).map(|group| group.channels.len()).max();
        let ring = ring_width * bands.ring_rows() * bands.map().width;
        [ring, group.unwrap_or(0) * bands.pixels(), rows]
    }

    fn run(&self, kernels: &Kernels, pixels: &[u8], bands: &Bands, part: usize, mut memory: Memory<'_>) {
        let pass = Pass { layers: self, kernels, bands };
        for band in bands.of_part(part) {
            if let Source::Stem { pattern, .. } = &self.source {
                pass.normalise(pattern, pixels, band.fresh.clone(), memory.rows);
            }
            for group in groups(&self.separable.panels, bands.pixels()) {
                for panel in group.panels.clone() {
                    pass.produce(panel, band.fresh.clone(), &mut memory);
                    match self.separable.size {
                        3 => pass.depthwise::<3>(panel, &group, band.rows.clone(), &mut memory),
                        _ => pass.depthwise::<5>(panel, &group, band.rows.clone(), &mut memory),
                    }
                }
                pass.pointwise(&group, &band, &mut memory);
            }
            if let Some(then) = &self.then {
                pass.second_pointwise(then, &band, &mut memory);
            }
        }
    }
}

/// Panels whose depthwise results are in the middle together, `[pixels, channels]`.
struct Group {
    panels: Range<usize>,
    channels: Range<usize>,
}

/// Cuts `panels` so that each group's depthwise results, of `pixels` pixels, fit in [`MIDDLE_FLOATS`].
fn groups(panels: &[Panel], pixels: usize) -> impl Iterator<Item = Group> {
    let mut rest = 0..panels.len();
    std::iter::from_fn(move || {
        let first = panels.get(rest.start)?.first;
        let end = |panel: &Panel| panel.first + panel.columns;
        let fits = |panel: &&Panel| (end(panel) - first) * pixels <= MIDDLE_FLOATS;
        let count = panels[rest.clone()].iter().take_while(fits).count().max(1);
        let group = rest.start..rest.start + count;
        rest.start = group.end;
        Some(Group { channels: first..end(&panels[group.end - 1]), panels: group })
    })
}

/// Floats of a row of normalised pixels: twice the stem's width, and one pixel of padding.
fn pixel_row(bands: &Bands) -> usize {
    (2 * bands.map().width + 1) * 3
}

/// One walk over a map.
struct Pass<'a> {
    layers: &'a Layers,
    kernels: &'a Kernels,
    bands: &'a Bands,
}

impl Pass<'_> {
    /// Writes the rows of normalised pixels that the stem rows `fresh` read, with the padding that
    /// TensorFlow's `SAME` has at stride 2: a column on the right and a row at the bottom.
    fn normalise(&self, pattern: &Pattern, pixels: &[u8], fresh: Range<usize>, rows: &mut [f32]) {
        let (floats, bytes) = (pixel_row(self.bands), 2 * self.bands.map().width * 3);
        for (index, row) in rows.chunks_exact_mut(floats).take(2 * fresh.len() + 1).enumerate() {
            let (row, padding) = row.split_at_mut(bytes);
            padding.fill(0.0);
            match pixels.chunks_exact(bytes).nth(2 * fresh.start + index) {
                Some(pixels) => self.kernels.normalise(pattern, pixels, row),
                None => row.fill(0.0),
            }
        }
    }

    /// The floats of the ring that hold row `y` of `panel`, and everything behind them.
    fn ring_from(&self, panel: &Panel, y: usize) -> usize {
        let (rows, width) = (self.bands.ring_rows(), self.bands.map().width);
        let before = if self.bands.overlap() { panel.offset * rows * width } else { 0 };
        before + (y % rows) * width * panel.width
    }

    /// Fills the ring with the rows `fresh` of a panel.
    fn produce(&self, panel: usize, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let channels = self.layers.separable.panels[panel];
        let (weights, input) = match &self.layers.source {
            Source::Input => return,
            Source::Stem { weights, .. } => return self.stem(weights, panel, fresh, memory),
            Source::Expand(weights) | Source::Merge { lateral: weights } => (weights, memory.input),
        };
        let (depth, width) = (weights.depth(), self.bands.map().width);
        let segment = Segment { offset: 0, stride: depth, width: depth };
        let mut rest = fresh.clone();
        while !rest.is_empty() {
            let count = self.bands.neighbours(&rest);
            let left = Left {
                data: &input[rest.start * width * depth..],
                segments: &[segment],
                rows: count * width,
                depth_from: 0,
            };
            let data = &mut memory.ring[self.ring_from(&channels, rest.start)..];
            let output = Output { data, stride: channels.width, residual: None };
            self.kernels.pointwise(weights, panel..panel + 1, left, output);
            rest.start += count;
        }
        if matches!(self.layers.source, Source::Merge { .. }) {
            self.add_coarse(&channels, fresh, memory);
        }
    }

    /// The stem's rows `fresh`, from the normalised pixels that were prepared for them.
    fn stem(&self, weights: &Pointwise, panel: usize, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let channels = self.layers.separable.panels[panel];
        let pitch = pixel_row(self.bands);
        for (index, y) in fresh.enumerate() {
            // Three pixels of each of three rows, and two pixels on for the next output.
            let segments =
                [0, 1, 2].map(|r| Segment { offset: (2 * index + r) * pitch, stride: 6, width: 9 });
            let rows = self.bands.map().width;
            let left = Left { data: memory.rows, segments: &segments, rows, depth_from: 0 };
            let data = &mut memory.ring[self.ring_from(&channels, y)..];
            let output = Output { data, stride: channels.width, residual: None };
            self.kernels.pointwise(weights, panel..panel + 1, left, output);
        }
    }

    /// Adds the upsampled coarse map to the rows `fresh` of a panel.
    fn add_coarse(&self, channels: &Panel, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let (height, width) = (self.bands.map().height, self.bands.map().width / 2);
        let total = self.layers.separable.pointwise.depth();
        let shape = upsample::RowShape {
            width,
            channels: channels.columns,
            input_pitch: total,
            output_pitch: channels.width,
        };
        for y in fresh {
            let (near, far) = source_rows(y % height, height / 2);
            let [near, far] = [near, far].map(|row| {
                let row = y / height * (height / 2) + row;
                &memory.coarse[row * width * total..][..width * total][channels.first..]
            });
            let to = &mut memory.ring[self.ring_from(channels, y)..];
            self.kernels.upsample_add_row(shape, near, far, to);
        }
    }

    /// The depthwise convolution of a panel, `K` × `K`, for the output rows of a band.
    fn depthwise<const K: usize>(
        &self,
        panel: usize,
        group: &Group,
        band: Range<usize>,
        memory: &mut Memory<'_>,
    ) {
        let Separable { panels, taps, pointwise, .. } = &*self.layers.separable;
        let (channels, map) = (panels[panel], self.bands.map());
        let is_input = matches!(self.layers.source, Source::Input);
        let input_pitch = if is_input { pointwise.depth() } else { channels.width };
        let output_pitch = group.channels.len();
        let shape = RowShape { width: map.width, input_pitch, output_pitch, stride: map.stride };
        let out_row = map.out_width() * output_pitch;
        let start = channels.first - group.channels.start;
        let input_row = |row: usize| {
            if is_input {
                &memory.input[row * map.width * input_pitch..][channels.first..]
            } else {
                &memory.ring[self.ring_from(&channels, row)..]
            }
        };
        let mut windows: [Window<'_, K>; MOST_ROWS] = [[None; K]; MOST_ROWS];
        // For each vector of channels the kernel walks along all rows, which should stay in the first cache.
        let cached = ROWS_FLOATS / (map.width * channels.width);
        let most = (cached.saturating_sub(K - 1) / map.stride.pixels()).clamp(1, MOST_ROWS);
        for top in band.clone().step_by(most) {
            let count = most.min(band.end - top);
            for (y, window) in (top..).zip(&mut windows[..count]) {
                *window = self.bands.window::<K>(y).map(|row| row.map(input_row));
            }
            let to = &mut memory.middle[start + (top - band.start) * out_row..];
            self.kernels.depthwise_rows(&taps[panel], shape, &windows[..count], to);
        }
    }

    /// Adds a group's share to the pointwise sums of a band.
    fn pointwise(&self, group: &Group, band: &Band, memory: &mut Memory<'_>) {
        let weights = &self.layers.separable.pointwise;
        let width = group.channels.len();
        let out_width = self.bands.map().out_width();
        let left = Left {
            data: memory.middle,
            segments: &[Segment { offset: 0, stride: width, width }],
            rows: band.rows.len() * out_width,
            depth_from: group.channels.start,
        };
        let stride = weights.columns();
        let output = if self.layers.then.is_some() {
            Output { data: memory.rows, stride, residual: None }
        } else {
            let residual =
                self.layers.residual.then(|| &memory.input[band.rows.start * out_width * stride..]);
            let at = (band.rows.start - band.part_top) * out_width * stride;
            Output { data: &mut memory.output[at..], stride, residual }
        };
        self.kernels.pointwise(weights, 0..weights.panels().len(), left, output);
    }

    fn second_pointwise(&self, weights: &Pointwise, band: &Band, memory: &mut Memory<'_>) {
        let (depth, stride) = (weights.depth(), weights.columns());
        let out_width = self.bands.map().out_width();
        let left = Left {
            data: memory.rows,
            segments: &[Segment { offset: 0, stride: depth, width: depth }],
            rows: band.rows.len() * out_width,
            depth_from: 0,
        };
        let data = &mut memory.output[(band.rows.start - band.part_top) * out_width * stride..];
        let output = Output { data, stride, residual: None };
        self.kernels.pointwise(weights, 0..weights.panels().len(), left, output);
    }
}

/// Two pointwise convolutions in a row, the wide map between them a group of channels at a time.
#[derive(Debug)]
pub(super) struct Pointwises {
    pub(super) first: Arc<Pointwise>,
    pub(super) second: Arc<Pointwise>,
}

impl Pair for Pointwises {
    fn weights(&self) -> usize {
        self.first.columns() * (self.first.depth() + self.second.columns())
    }

    fn columns(&self) -> usize {
        self.second.columns()
    }

    fn floats(&self) -> [usize; 3] {
        [self.first.depth(), GROUP_CHANNELS, self.second.columns()]
    }

    fn run(&self, kernels: &Kernels, input: &[f32], middle: &mut [f32], output: &mut [f32]) {
        let (depth, columns) = (self.first.depth(), self.second.columns());
        let rows = output.len() / columns;
        let panels = self.first.panels();
        let mut start = 0;
        while start < panels.len() {
            let first = panels[start].first;
            let fits = |panel: &&Panel| panel.first + panel.columns - first <= GROUP_CHANNELS;
            let end = start + panels[start..].iter().take_while(fits).count();
            let width = panels[end - 1].first + panels[end - 1].columns - first;

            let segment = Segment { offset: 0, stride: depth, width: depth };
            let left = Left { data: input, segments: &[segment], rows, depth_from: 0 };
            let to = Output { data: &mut *middle, stride: width, residual: None };
            kernels.pointwise(&self.first, start..end, left, to);

            let segment = Segment { offset: 0, stride: width, width };
            let left = Left { data: middle, segments: &[segment], rows, depth_from: first };
            let to = Output { data: &mut *output, stride: columns, residual: None };
            kernels.pointwise(&self.second, 0..self.second.panels().len(), left, to);
            start = end;
        }
    }
}
