//! What holds in a session.

use std::time::Duration;

use cloudpose_bus::Models;
use cloudpose_wire::{Address, Caller, Draw, Kind, Mode, ModelId, StreamName, TraceParent, Want};

use crate::settings::{BadSetting, check_draw, check_model, check_quality};

/// What holds for the whole session.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) caller: Caller,
    pub(crate) address: Address,
    pub(crate) stream: StreamName,
    pub(crate) mode: Mode,
    /// Frames in flight at once.
    pub(crate) window: usize,
    /// A live frame older than this is dropped.
    pub(crate) max_age: Duration,
    /// Largest decoded image, in pixels.
    pub(crate) max_image_pixels: u64,
    pub(crate) min_score: f32,
    /// The only way in which pictures may be drawn, if there is one.
    pub(crate) draw_only: Option<Draw>,
    /// What the workers serve.
    pub(crate) models: Models,
    /// The trace that the client opened the session in.
    pub(crate) trace: Option<TraceParent>,
}

impl Terms {
    /// The lanes on which the session's frames go.
    pub(crate) fn kind(&self) -> Kind {
        match self.mode {
            Mode::Live => Kind::Live,
            Mode::Complete => Kind::Still,
        }
    }
}

/// What the client can change from frame to frame.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) want: Want,
    /// How pictures are drawn.
    pub(crate) draw: Draw,
    pub(crate) model: ModelId,
    pub(crate) quality: u8,
    /// Smooth keypoints over time.
    pub(crate) smooth: bool,
}

/// New settings; what is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) want: Option<Want>,
    pub(crate) draw: Option<Draw>,
    pub(crate) model: Option<ModelId>,
    pub(crate) quality: Option<u8>,
    pub(crate) smooth: Option<bool>,
}

impl Change {
    /// Changes `settings`, or nothing.
    pub(super) fn apply(self, settings: &mut Settings, terms: &Terms) -> Result<(), BadSetting> {
        let Self { want, draw, model, quality, smooth } = self;
        let draw = draw.map(|draw| check_draw(Some(draw), terms.draw_only)).transpose()?;
        quality.map_or(Ok(()), check_quality)?;
        model.as_ref().map_or(Ok(()), |model| check_model(model, &terms.models))?;
        settings.want = want.unwrap_or(settings.want);
        settings.draw = draw.unwrap_or(settings.draw);
        settings.quality = quality.unwrap_or(settings.quality);
        settings.smooth = smooth.unwrap_or(settings.smooth);
        if let Some(model) = model {
            settings.model = model;
        }
        Ok(())
    }
}
