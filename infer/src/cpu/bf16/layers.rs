//! Fused layers in bfloat16.

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
use crate::cpu::bands::{Band, Bands};
use crate::cpu::stage::{Fused, Memory};

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
    pub(super) kernels: Kernels,
    pub(super) source: Source,
    pub(super) taps: Arc<Taps>,
    pub(super) pointwise: Arc<Pointwise>,
    /// A head's last layer, in float32: then its results are the output.
    pub(super) then: Option<Arc<pointwise::Weights>>,
    pub(super) stride: Stride,
    /// Whether the input is added to the pointwise convolution's result.
    pub(super) residual: bool,
}

impl Fused for Layers {
    fn size(&self) -> usize {
        SIZE
    }

    fn stride(&self) -> Stride {
        self.stride
    }

    fn weights(&self) -> [usize; 3] {
        let (channels, columns) = (self.pointwise.depth(), self.pointwise.columns());
        let then = self.then.as_ref().map_or(0, |then| columns * then.columns());
        let source = match &self.source {
            Source::Stem { weights, .. } | Source::Expand(weights) | Source::Merge(weights) => {
                weights.depth() * weights.columns()
            }
            Source::Input => 0,
        };
        [source, channels * SIZE * SIZE, channels * columns + then]
    }

    fn columns(&self) -> usize {
        self.then.as_ref().map_or(self.pointwise.columns(), |then| then.columns())
    }

    fn output_len(&self, pixels: usize) -> usize {
        match &self.then {
            Some(then) => pixels * then.columns(),
            None => map_len(pixels, self.pointwise.columns()),
        }
    }

    fn scratch(&self, bands: &Bands) -> [usize; 3] {
        let panels = self.taps.panels();
        let ring_panels = match self.source {
            Source::Input => 0,
            _ if bands.overlap() => panels,
            _ => 1,
        };
        let rows = match (&self.source, &self.then) {
            (Source::Stem { .. }, _) => (pixel_rows(bands) + ring_panel(bands)) / 2,
            (Source::Merge(_), _) => ring_panel(bands) / 2,
            (_, Some(_)) => bands.pixels() * padded(self.pointwise.columns()),
            _ => 0,
        };
        [ring_panels * ring_panel(bands) / 2, bands.pixels() * panels * PANEL_FLOATS, rows]
    }

    fn run(&self, single: &Single, pixels: &[u8], bands: &Bands, part: usize, mut memory: Memory<'_>) {
        let pass = Pass { layers: self, tiles: self.kernels.tiles(), single, bands };
        for band in bands.of_part(part) {
            if let Source::Stem { levels, .. } = &self.source {
                pass.windows(levels, pixels, band.fresh.clone(), memory.rows);
            }
            for panel in 0..self.taps.panels() {
                pass.produce(panel, band.fresh.clone(), &mut memory);
                pass.depthwise(panel, band.rows.clone(), &mut memory);
            }
            pass.pointwise(&band, &mut memory);
        }
    }
}

/// Numbers of a panel of the ring.
fn ring_panel(bands: &Bands) -> usize {
    bands.ring_rows() * bands.map().width * PANEL
}

/// Numbers of a row of pixels: twice the stem's width, and its padding.
fn pixel_row(bands: &Bands) -> usize {
    Levels::row_len(2 * bands.map().width)
}

/// Numbers of the rows of pixels that the ring's rows are made of.
fn pixel_rows(bands: &Bands) -> usize {
    (2 * bands.ring_rows() + 1) * pixel_row(bands)
}

/// One walk over a map.
struct Pass<'a> {
    layers: &'a Layers,
    tiles: Tiles,
    single: &'a Single,
    bands: &'a Bands,
}

impl Pass<'_> {
    /// Writes the windows of the pixels that the stem rows `fresh` read, at the end of `rows`.
    fn windows(&self, levels: &Levels, pixels: &[u8], fresh: Range<usize>, rows: &mut [f32]) {
        let (rows, windows) = numbers_mut(rows).split_at_mut(pixel_rows(self.bands));
        let (width, len) = (self.bands.map().width, pixel_row(self.bands));
        for (index, row) in rows.chunks_exact_mut(len).take(2 * fresh.len() + 1).enumerate() {
            levels.row(pixels.chunks_exact(2 * width * 3).nth(2 * fresh.start + index), row);
        }
        let rows = |index: usize| [0, 1, 2].map(|r| &rows[(2 * index + r) * len..][..len]);
        for (index, windows) in windows.chunks_exact_mut(width * PANEL).take(fresh.len()).enumerate() {
            self.layers.kernels.stem_row(rows(index), windows);
        }
    }

    /// The number of the ring at which row `y` of `panel` begins.
    fn ring_at(&self, panel: usize, y: usize) -> usize {
        let before = if self.bands.overlap() { panel * ring_panel(self.bands) } else { 0 };
        before + (y % self.bands.ring_rows()) * self.bands.map().width * PANEL
    }

    /// Fills the ring with the rows `fresh` of a panel.
    fn produce(&self, panel: usize, fresh: Range<usize>, memory: &mut Memory<'_>) {
        let (input, width) = (numbers(memory.input), self.bands.map().width);
        let mut rest = fresh.clone();
        while !rest.is_empty() {
            let count = self.bands.neighbours(&rest);
            let (y, rows) = (rest.start, count * width);
            let (weights, data, residual) = match &self.layers.source {
                Source::Input => return,
                Source::Stem { weights, .. } => {
                    let windows = &numbers(memory.rows)[pixel_rows(self.bands)..];
                    (weights, &windows[(y - fresh.start) * width * PANEL..], None)
                }
                Source::Expand(weights) => (weights, &input[y * width * padded(weights.depth())..], None),
                Source::Merge(weights) => {
                    let coarse = &mut numbers_mut(memory.rows)[..rows * PANEL];
                    self.upsample(panel, y, numbers(memory.coarse), coarse);
                    (weights, &input[y * width * padded(weights.depth())..], Some(&*coarse))
                }
            };
            let left = Left { data, stride: padded(weights.depth()), rows };
            let data = &mut numbers_mut(memory.ring)[self.ring_at(panel, y)..];
            let output = Output::Half { data, stride: PANEL, residual };
            self.tiles.product(weights, panel..panel + 1, left, output);
            rest.start += count;
        }
    }

    /// Writes as many rows of a panel of the coarse map, upsampled, as `to` has, from row `y` on.
    fn upsample(&self, panel: usize, y: usize, coarse: &[Bf16], to: &mut [Bf16]) {
        let (height, width) = (self.bands.map().height, self.bands.map().width);
        let pitch = self.layers.taps.panels() * PANEL;
        let coarse_row = width / 2 * pitch;
        for (y, to) in (y..).zip(to.chunks_exact_mut(width * PANEL)) {
            let (near, far) = source_rows(y % height, height / 2);
            let [near, far] = [near, far].map(|row| {
                let row = y / height * (height / 2) + row;
                &coarse[row * coarse_row..][..coarse_row][panel * PANEL..]
            });
            self.layers.kernels.upsample_row(near, far, pitch, to);
        }
    }

    /// The depthwise convolution of a panel, for the output rows of a band.
    fn depthwise(&self, panel: usize, band: Range<usize>, memory: &mut Memory<'_>) {
        let (map, pitch) = (self.bands.map(), self.layers.taps.panels() * PANEL);
        let is_input = matches!(self.layers.source, Source::Input);
        let input_pitch = if is_input { pitch } else { PANEL };
        let shape = RowShape { width: map.width, input_pitch, output_pitch: pitch, stride: map.stride };
        let (input, ring) = (numbers(memory.input), numbers(memory.ring));
        let input_row = |row: usize| {
            if is_input {
                &input[row * map.width * pitch + panel * PANEL..]
            } else {
                &ring[self.ring_at(panel, row)..]
            }
        };
        let middle = numbers_mut(memory.middle);
        let mut windows: [Window<'_>; MOST_ROWS] = [[None; SIZE]; MOST_ROWS];
        for top in band.clone().step_by(MOST_ROWS) {
            let count = MOST_ROWS.min(band.end - top);
            for (y, window) in (top..).zip(&mut windows[..count]) {
                *window = self.bands.window::<SIZE>(y).map(|row| row.map(input_row));
            }
            let to = &mut middle[(top - band.start) * map.out_width() * pitch + panel * PANEL..];
            self.layers.kernels.depthwise_rows(&self.layers.taps, panel, shape, &windows[..count], to);
        }
    }

    /// The pointwise convolution of a band.
    fn pointwise(&self, band: &Band, memory: &mut Memory<'_>) {
        let weights = &self.layers.pointwise;
        let out_width = self.bands.map().out_width();
        let rows = band.rows.len() * out_width;
        let left = Left { data: numbers(memory.middle), stride: padded(weights.depth()), rows };
        let before = (band.rows.start - band.part_top) * out_width;
        let output = &mut memory.output[self.layers.output_len(before)..];
        let stride = padded(weights.columns());
        let Some(then) = &self.layers.then else {
            let residual = numbers(memory.input);
            let residual = self.layers.residual.then(|| &residual[band.rows.start * out_width * stride..]);
            let output = Output::Half { data: numbers_mut(output), stride, residual };
            return self.tiles.product(weights, 0..weights.panels(), left, output);
        };
        let hidden = Output::Single { data: &mut *memory.rows, stride };
        self.tiles.product(weights, 0..weights.panels(), left, hidden);
        let segment = pointwise::Segment { offset: 0, stride, width: then.depth() };
        let left = pointwise::Left { data: memory.rows, segments: &[segment], rows, depth_from: 0 };
        let output = pointwise::Output { data: output, stride: then.columns(), residual: None };
        self.single.pointwise(then, 0..then.panels().len(), left, output);
    }
}
