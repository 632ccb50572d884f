//! The two layers that every stage ends in, packed.

use std::sync::Arc;

use cloudpose_kernels::depthwise::{Layer, Taps};
use cloudpose_kernels::pointwise::{Panel, Weights as Pointwise};
use cloudpose_kernels::{Clamp, Kernels, Slab};

/// A depthwise convolution and the pointwise one behind it.
#[derive(Debug)]
pub(crate) struct Separable {
    /// Rows and columns of the depthwise convolution's windows.
    pub(super) size: usize,
    /// How its channels are cut.
    pub(super) panels: Vec<Panel>,
    /// Its weights, one entry a panel.
    pub(super) taps: Vec<Taps>,
    /// The 1×1 convolution.
    pub(super) pointwise: Arc<Pointwise>,
}

impl Separable {
    /// Packs a depthwise convolution, whose results are clamped, for the kernels that `pointwise` was packed for.
    pub(crate) fn pack(
        kernels: &Kernels,
        slab: &mut Slab,
        depthwise: Layer<'_>,
        clamp: Clamp,
        pointwise: Arc<Pointwise>,
    ) -> Self {
        let panels = kernels.panels(pointwise.depth());
        let taps = panels
            .iter()
            .map(|p| Taps::pack(kernels, slab, depthwise, p.first..p.first + p.columns, clamp))
            .collect();
        Self { size: depthwise.size, panels, taps, pointwise }
    }
}
