//! The annotate role: frames with what was found in them in, pictures with skeletons out.
//!
//! | module | what |
//! |---|---|
//! | [`overlay`] | draws skeletons on the planes of an image, pure |
//! | [`privacy`] | pictures on which nobody can be recognised, pure |
//! | `worker` | [`run`], the loop; [`Annotator`], one frame decoded, drawn and encoded |
//!
//! It knows no sessions, and of models only their skeletons.

pub mod metrics;
pub mod overlay;
pub mod privacy;
mod worker;

pub use overlay::Style;
pub use worker::{Annotator, Config, Figures, run};

/// Why a frame could not be annotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be decoded or encoded.
    #[error(transparent)]
    Pixels(#[from] cloudpose_pixels::Error),
}
