//! What can be asked of the work on a frame, and what cannot.

use cloudpose_bus::Models;
use cloudpose_wire::{Draw, ModelId};

/// JPEG quality of the overlay unless the client asks otherwise.
pub(crate) const DEFAULT_QUALITY: u8 = 85;

/// What was asked for and is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSetting {
    #[error("quality is {0}; use 1 to 100")]
    Quality(u8),
    #[error("this gateway shows no picture but with draw={only}; {draw} is not to be had")]
    Draw { draw: Draw, only: Draw },
    #[error("unknown model {model}; use one of {served}")]
    UnknownModel { model: ModelId, served: String },
}

/// Checks a JPEG quality.
pub(crate) fn check_quality(quality: u8) -> Result<(), BadSetting> {
    if (1..=100).contains(&quality) { Ok(()) } else { Err(BadSetting::Quality(quality)) }
}

/// How pictures are drawn for who asks for `draw`, or for nothing, where perhaps `only` one way is allowed.
pub(crate) fn check_draw(draw: Option<Draw>, only: Option<Draw>) -> Result<Draw, BadSetting> {
    match (draw, only) {
        (Some(draw), Some(only)) if draw != only => Err(BadSetting::Draw { draw, only }),
        (draw, only) => Ok(draw.or(only).unwrap_or_default()),
    }
}

/// The model for a client that names none: the one that was configured; otherwise `usual`, or the first one that workers
/// serve if none serves that.
pub(crate) fn default_model(configured: Option<&ModelId>, usual: &str, models: &Models) -> ModelId {
    if let Some(model) = configured {
        return model.clone();
    }
    let usual: ModelId = usual.parse().expect("the usual ones are names");
    match models.list().first() {
        Some(first) if !models.may_be_served(&usual) => first.id.clone(),
        _ => usual,
    }
}

/// Checks that a worker may serve `model`.
pub(crate) fn check_model(model: &ModelId, models: &Models) -> Result<(), BadSetting> {
    if models.may_be_served(model) {
        return Ok(());
    }
    let served: Vec<String> = models.list().iter().map(|model| model.id.to_string()).collect();
    Err(BadSetting::UnknownModel { model: model.clone(), served: served.join(", ") })
}
