//! 1×1 convolutions, all pixels of a batch at once; `kernels/pointwise.cu` on a GPU.

use super::{
    Arg, Clamp, Launch, Number, Op, Real, Result, Values, floats, in_either, lanes, narrow, of_type,
};

/// A tile that a block of the kernel makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    rows: usize,
    columns: usize,
    /// Slices of the depth that are under way; one suffices if there is only one.
    stages: usize,
}

/// The tiles that there are kernels for.
pub(crate) const TILES_F32: [Tile; 2] = [tile(128, 64, 3), tile(128, 32, 3)];
pub(crate) const TILES_F16: [Tile; 5] =
    [tile(128, 64, 1), tile(128, 32, 1), tile(128, 64, 3), tile(128, 32, 3), tile(64, 32, 3)];

const fn tile(rows: usize, columns: usize, stages: usize) -> Tile {
    Tile { rows, columns, stages }
}

/// A slice of the depth in float16.
const SLICE: usize = 32;
/// Two blocks for each core of a large GPU. With fewer tiles smaller ones are taken.
const FEW_TILES: usize = 264;

/// `map [rows, depth] × weight [columns, depth]ᵀ + bias`, then the activation, or another map that is added. Inputs:
/// map, weight, bias (float32), and for a residual the map to add. Sums are float32; what comes out is rounded once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointwise {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) then: Then,
}

/// What comes after the bias.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Clamp(Clamp),
    /// Another map is added.
    Residual,
}

impl Pointwise {
    fn convolve<T: Real>(
        &self,
        [map, weight]: [&[T]; 2],
        bias: &[f32],
        residual: Option<&[T]>,
        output: &mut [T],
    ) {
        let Self { rows, depth, columns, then } = *self;
        let wide = |values: &[T]| values.iter().map(|value| value.widen()).collect::<Vec<_>>();
        let weight = wide(&weight[..columns * depth]);
        for row in 0..rows {
            let pixel = wide(&map[row * depth..(row + 1) * depth]);
            for (column, weight) in weight.chunks_exact(depth).enumerate() {
                let at = row * columns + column;
                let sum = pixel.iter().zip(weight).map(|(x, w)| x * w).sum::<f32>() + bias[column];
                output[at] = T::narrow(match (then, residual) {
                    (Then::Residual, Some(residual)) => sum + residual[at].widen(),
                    (Then::Clamp(clamp), _) => clamp.apply(sum),
                    (Then::Residual, None) => sum,
                });
            }
        }
    }
}

impl Pointwise {
    fn tiles(&self, tile: Tile) -> usize {
        self.rows.div_ceil(tile.rows) * self.columns.div_ceil(tile.columns)
    }

    /// Whether a kernel that makes such tiles takes this.
    pub(crate) fn is_for(&self, tile: Tile) -> bool {
        tile.stages > 1 || self.depth <= SLICE
    }

    /// The tiles to take: the first that are many enough, without half of each empty; or the smallest.
    fn tile(&self, number: Number) -> Tile {
        let all: &[Tile] = if number == Number::F16 { &TILES_F16 } else { &TILES_F32 };
        let suits = |tile: &&Tile| {
            self.is_for(**tile)
                && (tile.columns <= 32 || self.columns > 32)
                && self.tiles(**tile) >= FEW_TILES
        };
        *all.iter().find(suits).or(all.last()).expect("there are tiles for both")
    }

    /// The kernel for tiles of that kind, of which [`is_for`](Self::is_for) is true.
    pub(crate) fn launch(&self, tile: Tile, number: Number) -> Result<Launch> {
        let Self { rows, depth, columns, then } = *self;
        lanes(depth, number)?;
        lanes(columns, number)?;
        let blocks = narrow(self.tiles(tile))?;
        let threads = if number == Number::F16 { 128 } else { 256 };
        let (kernel, args, bounds) = match then {
            Then::Residual => (
                "pointwise_add",
                &[Arg::Input(0), Arg::Input(1), Arg::Input(2), Arg::Input(3), Arg::Output][..],
                None,
            ),
            Then::Clamp(clamp) => (
                "pointwise",
                &[Arg::Input(0), Arg::Input(1), Arg::Input(2), Arg::Output][..],
                Some(clamp.bounds()),
            ),
        };
        let bounds = bounds.as_ref().map_or(&[][..], |bounds| bounds);
        let kernel = format!("{kernel}_{}x{}x{}", tile.rows, tile.columns, tile.stages);
        Launch::new(of_type(&kernel, number), (blocks, threads), args, &[rows, depth, columns], bounds)
    }
}

impl Op for Pointwise {
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()> {
        in_either!(output, output => {
            let factors = [Real::of(inputs[0])?, Real::of(inputs[1])?];
            let residual = inputs.get(3).map(|residual| Real::of(residual)).transpose()?;
            self.convolve(factors, floats(inputs[2])?, residual, output);
            Ok(())
        })
    }

    fn launches(&self, number: Number) -> Result<Vec<Launch>> {
        Ok(vec![self.launch(self.tile(number), number)?])
    }
}
