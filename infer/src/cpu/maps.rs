//! What the decoder reads of a plan's memory.

use std::ops::Range;

/// Where it lies in the arena once the steps have run.
#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    /// Size in cells.
    pub(super) height: usize,
    pub(super) width: usize,
    /// `[height, width, FEATURES]`.
    pub(super) features: Range<usize>,
    /// `[height, width]`, logits.
    pub(super) center: Range<usize>,
    /// `[height, width, K]`, logits.
    pub(super) keypoints: Range<usize>,
}
