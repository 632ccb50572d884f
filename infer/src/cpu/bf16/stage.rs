//! One pass over a feature map, as the float32 engine's stage: its rows are produced, go through a depthwise 3×3 and a
//! pointwise convolution, and leave as rows of the next feature map, a band of rows at a time.
//!
//! ```text
//! source rows ──panel──▶ ring ──depthwise──▶ middle, all panels ──pointwise──▶ output rows
//! ```

use std::ops::Range;
use std::sync::Arc;

use cloudpose_kernels::Kernels as Single;
use cloudpose_kernels::bf16::depthwise::{Taps, Window};
use cloudpose_kernels::bf16::product::{Left, Output, Tiles, Weights as Pointwise};
use cloudpose_kernels::bf16::stem::Levels;
use cloudpose_kernels::bf16::{Bf16, Kernels, PANEL, numbers, numbers_mut, padded};
use cloudpose_kernels::depthwise::{MOST_ROWS, RowShape, Stride};
use cloudpose_kernels::pointwise;
use cloudpose_kernels::upsample::source_rows;

use super::{PANEL_FLOATS, map_len};
use crate::cpu::arena::Regions;

/// Output pixels that a band should have: enough for the tiles, few enough that what belongs to it stays in the second
/// cache.
const BAND_PIXELS: usize = 256;
/// Output rows that a part should at least have: below, what is done twice at the seams outweighs.
const PART_ROWS: usize = 2;
/// Rows and columns of a window.
const SIZE: usize = 3;

/// Where the rows that enter the depthwise convolution come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A 3×3 stride 2 convolution on the pixels.
    Stem { levels: Arc<Levels>, weights: Arc<Pointwise> },
    /// A pointwise convolution of the input.
    Expand(Arc<Pointwise>),
    /// A pointwise convolution of the input, plus the coarse map upsampled ×2.
    Merge(Arc<Pointwise>),
    /// The input as it is.
    Input,
}

/// What a stage is made of.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) source: Source,
    pub(super) taps: Arc<Taps>,
    pub(super) pointwise: Arc<Pointwise>,
    /// A head's last layer, in float32: then its results are the output.
    pub(super) then: Option<Arc<pointwise::Weights>>,
    pub(super) stride: Stride,
    /// Whether the input is added to the pointwise convolution's result.
    pub(super) residual: bool,
}

/// [`Layers`] at one size of feature map.
#[derive(Debug)]
pub(crate) struct Stage {
    kernels: Kernels,
    layers: Layers,
    /// Size of the map that enters the depthwise convolution.
    height: usize,
    width: usize,
    /// Threads that share the output rows.
    parts: usize,
    /// Output rows of a band.
    band: usize,
    ring_rows: usize,
}

/// The slices behind [`Regions`]: inputs whole, of the output the rows to write, scratch for each part.
struct Memory<'a> {
    input: &'a [Bf16],
    coarse: &'a [Bf16],
    output: &'a mut [f32],
    ring: &'a mut [f32],
    middle: &'a mut [f32],
    rows: &'a mut [f32],
}

impl Stage {
    /// `size` is that of the map that enters the depthwise convolution, `threads` how many share it.
    pub(super) fn new(kernels: Kernels, layers: Layers, [height, width]: [usize; 2], threads: usize) -> Self {
        let step = layers.stride.pixels();
        let (out_height, out_width) = (height / step, width / step);
        let parts = threads.min(out_height.div_ceil(PART_ROWS));
        let part_height = out_height.div_ceil(parts);
        let bands = part_height.div_ceil((BAND_PIXELS / out_width).max(1));
        let band = part_height.div_ceil(bands);
        let ring_rows = ((band - 1) * step + SIZE).min(height);
        Self { kernels, layers, height, width, parts, band, ring_rows }
    }

    fn out_height(&self) -> usize {
        self.height / self.layers.stride.pixels()
    }

    fn out_width(&self) -> usize {
        self.width / self.layers.stride.pixels()
    }

    /// Rows of zeros above the map.
    fn pad_before(&self) -> usize {
        self.layers.stride.pad_before(SIZE)
    }

    /// Whether one band is a whole part: then no rows have to be kept, and panels share the ring.
    fn is_one_band(&self) -> bool {
        self.band >= self.out_height().div_ceil(self.parts)
    }

    fn columns(&self) -> usize {
        self.layers.then.as_ref().map_or(self.layers.pointwise.columns(), |then| then.columns())
    }

    /// Floats of the arena that an output row takes.
    fn output_row(&self) -> usize {
        match &self.layers.then {
            Some(then) => self.out_width() * then.columns(),
            None => map_len(self.out_width(), self.layers.pointwise.columns()),
        }
    }

    /// Floats of the arena that the output takes.
    pub(in crate::cpu) fn output_len(&self) -> usize {
        self.out_height() * self.output_row()
    }

    /// Multiply-adds of a run, those that the seams between parts repeat not counted.
    pub(in crate::cpu) fn multiply_adds(&self) -> usize {
        let source = self.source_weights();
        self.height * self.width * source + self.out_height() * self.out_width() * (self.weights() - source)
    }

    /// How many.
    pub(in crate::cpu) fn weights(&self) -> usize {
        let (channels, columns) = (self.layers.pointwise.depth(), self.layers.pointwise.columns());
        let then = self.layers.then.as_ref().map_or(0, |then| columns * then.columns());
        self.source_weights() + channels * (SIZE * SIZE + columns) + then
    }

    /// Of what comes before the depthwise convolution.
    fn source_weights(&self) -> usize {
        match &self.layers.source {
            Source::Stem { weights, .. } | Source::Expand(weights) | Source::Merge(weights) => {
                weights.depth() * weights.columns()
            }
            Source::Input => 0,
        }
    }

    /// Height, width and channels of the output.
    pub(in crate::cpu) fn output_shape(&self) -> [usize; 3] {
        [self.out_height(), self.out_width(), self.columns()]
    }

    /// The first output row of a part.
    fn part_top(&self, part: usize) -> usize {
        part * self.out_height() / self.parts
    }

    /// Floats of the arena that a part takes while it runs: the ring, the map in the middle, other rows.
    fn part_scratch(&self) -> [usize; 3] {
        let panels = self.layers.taps.panels();
        let ring_panels = match self.layers.source {
            Source::Input => 0,
            _ if self.is_one_band() => 1,
            _ => panels,
        };
        let pixels = self.band * self.out_width();
        let rows = match (&self.layers.source, &self.layers.then) {
            (Source::Stem { .. }, _) => {
                (2 * self.ring_rows + 1) * self.pixel_row() / 2 + self.ring_panel() / 2
            }
            (Source::Merge(_), _) => self.ring_panel() / 2,
            (_, Some(_)) => pixels * padded(self.layers.pointwise.columns()),
            _ => 0,
        };
        [ring_panels * self.ring_panel() / 2, pixels * panels * PANEL_FLOATS, rows]
    }

    /// Floats of the arena that all parts take while they run.
    pub(in crate::cpu) fn scratch(&self) -> [usize; 3] {
        self.part_scratch().map(|floats| self.parts * floats)
    }

    /// Numbers of a panel of the ring.
    fn ring_panel(&self) -> usize {
        self.ring_rows * self.width * PANEL
    }

    /// Numbers of a row of pixels: twice the stem's width, and its padding.
    fn pixel_row(&self) -> usize {
        Levels::row_len(2 * self.width)
    }

    /// Runs the stage on the regions of `arena`; `pixels` is read by a stem only.
    pub(in crate::cpu) fn run(&self, single: &Single, pixels: &[u8], regions: Regions, arena: &mut [f32]) {
        let Regions { input, coarse, output, ring, middle, rows } = regions;
        let [input, coarse, output, ring, middle, rows] = arena
            .get_disjoint_mut([input, coarse, output, ring, middle, rows])
            .expect("buffers of one step do not overlap");
        let (input, coarse) = (numbers(input), numbers(coarse));
        let memory = Memory { input, coarse, output, ring, middle, rows };
        self.run_parts(single, pixels, 0..self.parts, memory);
    }

    /// Runs `parts`, for which `memory` has the output rows and scratch, each on a thread of the pool that
    /// this is called in.
    fn run_parts(&self, single: &Single, pixels: &[u8], parts: Range<usize>, memory: Memory<'_>) {
        if parts.len() == 1 {
            return self.run_part(single, pixels, parts.start, memory);
        }
        let half = parts.start + parts.len() / 2;
        let Memory { input, coarse, output, ring, middle, rows } = memory;
        let output_at = (self.part_top(half) - self.part_top(parts.start)) * self.output_row();
        let (output, output_2) = output.split_at_mut(output_at);
        let [ring_at, middle_at, rows_at] = self.part_scratch().map(|floats| (half - parts.start) * floats);
        let (ring, ring_2) = ring.split_at_mut(ring_at);
        let (middle, middle_2) = middle.split_at_mut(middle_at);
        let (rows, rows_2) = rows.split_at_mut(rows_at);
        let first = Memory { input, coarse, output, ring, middle, rows };
        let second = Memory { input, coarse, output: output_2, ring: ring_2, middle: middle_2, rows: rows_2 };
        rayon::join(
            || self.run_parts(single, pixels, parts.start..half, first),
            || self.run_parts(single, pixels, half..parts.end, second),
        );
    }

    fn run_part(&self, single: &Single, pixels: &[u8], part: usize, mut memory: Memory<'_>) {
        let tiles = self.kernels.tiles();
        let step = self.layers.stride.pixels();
        let part = self.part_top(part)..self.part_top(part + 1);
        let mut produced = (part.start * step).saturating_sub(self.pad_before());
        for top in part.clone().step_by(self.band) {
            let band = top..(top + self.band).min(part.end);
            let needed = ((band.end - 1) * step + SIZE - self.pad_before()).min(self.height);
            let fresh = produced..needed;
            if let Source::Stem { levels, .. } = &self.layers.source {
                self.windows(levels, pixels, fresh.clone(), memory.rows);
            }
            for panel in 0..self.layers.taps.panels() {
                self.produce(&tiles, panel, fresh.clone(), &mut memory);
                self.depthwise(panel, band.clone(), &mut memory);
            }
            self.pointwise(&tiles, single, band, part.start, &mut memory);
            produced = needed;
        }
    }

    /// Writes the windows of the pixels that the stem rows `fresh` read, at the end of `rows`.
    fn windows(&self, levels: &Levels, pixels: &[u8], fresh: Range<usize>, rows: &mut [f32]) {
        let (rows, windows) = numbers_mut(rows).split_at_mut((2 * self.ring_rows + 1) * self.pixel_row());
        let bytes = 2 * self.width * 3;
        for (index, row) in rows.chunks_exact_mut(self.pixel_row()).take(2 * fresh.len() + 1).enumerate() {
            levels.row(pixels.chunks_exact(bytes).nth(2 * fresh.start + index), row);
        }
        let rows =
            |index: usize| [0, 1, 2].map(|r| &rows[(2 * index + r) * self.pixel_row()..][..self.pixel_row()]);
        for (index, windows) in windows.chunks_exact_mut(self.width * PANEL).take(fresh.len()).enumerate() {
            self.kernels.stem_row(rows(index), windows);
        }
    }

    /// The number of the ring at which row `y` of `panel` begins.
    fn ring_at(&self, panel: usize, y: usize) -> usize {
        let before = if self.is_one_band() { 0 } else { panel * self.ring_panel() };
        before + (y % self.ring_rows) * self.width * PANEL
    }

    /// Fills the ring with the rows `fresh` of a panel.
    fn produce(&self, tiles: &Tiles, panel: usize, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let mut y = fresh.start;
        while y < fresh.end {
            // As many rows as are neighbours in the ring.
            let count = (fresh.end - y).min(self.ring_rows - y % self.ring_rows);
            let rows = count * self.width;
            let to = &mut numbers_mut(memory.ring);
            let (weights, data, residual) = match &self.layers.source {
                Source::Input => return,
                Source::Stem { weights, .. } => {
                    let windows = &numbers(memory.rows)[(2 * self.ring_rows + 1) * self.pixel_row()..];
                    (weights, &windows[(y - fresh.start) * self.width * PANEL..], None)
                }
                Source::Expand(weights) => {
                    (weights, &memory.input[y * self.width * padded(weights.depth())..], None)
                }
                Source::Merge(weights) => {
                    let coarse = &mut numbers_mut(memory.rows)[..rows * PANEL];
                    self.upsample(panel, y, memory.coarse, coarse);
                    (weights, &memory.input[y * self.width * padded(weights.depth())..], Some(&*coarse))
                }
            };
            let left = Left { data, stride: padded(weights.depth()), rows };
            let data = &mut to[self.ring_at(panel, y)..];
            tiles.product(weights, panel..panel + 1, left, Output::Half { data, stride: PANEL, residual });
            y += count;
        }
    }

    /// Writes as many rows of a panel of the coarse map, upsampled, as `to` has, from row `y` on.
    fn upsample(&self, panel: usize, y: usize, coarse: &[Bf16], to: &mut [Bf16]) {
        let pitch = self.layers.taps.panels() * PANEL;
        let coarse_row = self.width / 2 * pitch;
        for (y, to) in (y..).zip(to.chunks_exact_mut(self.width * PANEL)) {
            let (near, far) = source_rows(y, self.height / 2);
            let [near, far] =
                [near, far].map(|row| &coarse[row * coarse_row..][..coarse_row][panel * PANEL..]);
            self.kernels.upsample_row(near, far, pitch, to);
        }
    }

    /// The depthwise convolution of a panel, for the output rows of a band.
    fn depthwise(&self, panel: usize, band: Range<usize>, memory: &mut Memory<'_>) {
        let pitch = self.layers.taps.panels() * PANEL;
        let is_input = matches!(self.layers.source, Source::Input);
        let input_pitch = if is_input { pitch } else { PANEL };
        let shape =
            RowShape { width: self.width, input_pitch, output_pitch: pitch, stride: self.layers.stride };
        let (step, pad) = (self.layers.stride.pixels(), self.pad_before());
        let (input, ring) = (memory.input, numbers(memory.ring));
        let input_row = |row: usize| {
            if is_input {
                &input[row * self.width * pitch + panel * PANEL..]
            } else {
                &ring[self.ring_at(panel, row)..]
            }
        };
        let middle = numbers_mut(memory.middle);
        let mut windows: [Window<'_>; MOST_ROWS] = [[None; SIZE]; MOST_ROWS];
        for top in band.clone().step_by(MOST_ROWS) {
            let count = MOST_ROWS.min(band.end - top);
            for (y, window) in (top..).zip(&mut windows[..count]) {
                for (r, row) in window.iter_mut().enumerate() {
                    let inside = (y * step + r).checked_sub(pad).filter(|&row| row < self.height);
                    *row = inside.map(input_row);
                }
            }
            let to = &mut middle[(top - band.start) * self.out_width() * pitch + panel * PANEL..];
            self.kernels.depthwise_rows(&self.layers.taps, panel, shape, &windows[..count], to);
        }
    }

    /// The pointwise convolution of a band, in a part that begins at row `top`.
    fn pointwise(
        &self,
        tiles: &Tiles,
        single: &Single,
        band: Range<usize>,
        top: usize,
        memory: &mut Memory<'_>,
    ) {
        let weights = &self.layers.pointwise;
        let rows = band.len() * self.out_width();
        let left = Left { data: numbers(memory.middle), stride: padded(weights.depth()), rows };
        let output = &mut memory.output[(band.start - top) * self.output_row()..];
        let stride = padded(weights.columns());
        let Some(then) = &self.layers.then else {
            let residual = memory.input;
            let residual = self.layers.residual.then(|| &residual[band.start * self.out_width() * stride..]);
            let output = Output::Half { data: numbers_mut(output), stride, residual };
            return tiles.product(weights, 0..weights.panels(), left, output);
        };
        let hidden = Output::Single { data: &mut *memory.rows, stride };
        tiles.product(weights, 0..weights.panels(), left, hidden);
        let segment = pointwise::Segment { offset: 0, stride, width: then.depth() };
        let left = pointwise::Left { data: memory.rows, segments: &[segment], rows, depth_from: 0 };
        let output = pointwise::Output { data: output, stride: then.columns(), residual: None };
        single.pointwise(then, 0..then.panels().len(), left, output);
    }
}
