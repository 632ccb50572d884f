//! The arithmetic of `vdpbf16ps`, in float32.

use super::{BLOCK, PANEL, Product, TILE, To};
use crate::bf16::Bf16;

/// Computes `task`.
///
/// # Safety
/// Needs a [`Product`] that [`super::Tiles::product`] has checked.
pub(in crate::bf16) unsafe fn product(task: &Product<'_>) {
    for panel in 0..task.panels {
        for row in 0..task.rows {
            // SAFETY: the caller's contract: these weights, biases and rows exist.
            unsafe {
                let mut sums = sums(task, panel, row);
                let at = row * task.stride + panel * PANEL;
                match task.to {
                    To::Single(to) => {
                        if let Some(clamp) = task.clamp {
                            sums.iter_mut().for_each(|sum| *sum = sum.max(clamp.low).min(clamp.high));
                        }
                        to.add(at).cast::<[f32; PANEL]>().write_unaligned(sums);
                    }
                    To::Half(to, residual) => {
                        if !residual.is_null() {
                            let residual = residual.add(at).cast::<[Bf16; PANEL]>().read_unaligned();
                            sums.iter_mut().zip(residual).for_each(|(sum, add)| *sum += add.to_f32());
                        }
                        let round = |sum: f32| {
                            let sum = Bf16::from_f32(sum);
                            task.clamp.map_or(sum, |clamp| {
                                Bf16::from_f32(sum.to_f32().max(clamp.low).min(clamp.high))
                            })
                        };
                        to.add(at).cast::<[Bf16; PANEL]>().write_unaligned(sums.map(round));
                    }
                }
            }
        }
    }
}

/// A row's sums in a panel.
unsafe fn sums(task: &Product<'_>, panel: usize, row: usize) -> [f32; PANEL] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = task.bias.add(panel * PANEL).cast::<[f32; PANEL]>().read_unaligned();
        let left = task.left.add(row * task.left_stride);
        let mut weights = task.weights.add(panel * task.panel_len());
        for block in 0..task.blocks {
            for half in 0..2 {
                for pair in 0..TILE {
                    let even = (*left.add(block * BLOCK + 2 * pair)).to_f32();
                    let odd = (*left.add(block * BLOCK + 2 * pair + 1)).to_f32();
                    let weights = weights.add(pair * BLOCK).cast::<[[Bf16; 2]; TILE]>().read_unaligned();
                    for (sum, weight) in sums[half * TILE..][..TILE].iter_mut().zip(weights) {
                        *sum += odd * weight[1].to_f32();
                        *sum += even * weight[0].to_f32();
                    }
                }
                weights = weights.add(TILE * BLOCK);
            }
        }
        sums
    }
}

/// Nobody takes it for its speed.
///
/// # Safety
/// None needed.
pub(in crate::bf16) unsafe fn peak() -> f64 {
    0.0
}
