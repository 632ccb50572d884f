//! The query of `GET /v1/stream`.

use std::time::Duration;

use axum::{extract::Query, http::Uri};
use cloudpose_wire::{
    Address, Caller, Draw, Mode, ModelId, StreamName, TraceParent, Want,
    ws::{Codec, IfTaken},
};
use serde::Deserialize;

use crate::{
    config::{LONGEST_AGE, STREAM_MODEL},
    session::{Settings, Terms},
    settings::{DEFAULT_QUALITY, check_draw, check_model, check_quality},
    shared::{Shared, token_of},
};

/// The query of `GET /v1/stream`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Name of the stream; made up if absent.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    stream: Option<StreamName>,
    /// What comes back: `pose` (default), `overlay` or `both`.
    #[param(inline)]
    want: Want,
    /// How pictures are drawn: `overlay` (default), `skeleton` (on a plain ground), `redacted` (heads are covered) or
    /// `frame` (nothing is drawn).
    #[param(inline)]
    draw: Option<Draw>,
    /// The model to run, one of `GET /v1/models`.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    model: Option<ModelId>,
    /// `live` (default): the newest frame wins. `complete`: every frame is processed.
    #[param(inline)]
    mode: Mode,
    /// A live frame older than this is dropped, 1 to 10000.
    #[param(minimum = 1, maximum = 10000)]
    max_age_ms: Option<u32>,
    /// JPEG quality of the overlay, 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    /// Whether keypoints are smoothed over time (default), or left as found in each frame.
    smooth: Option<bool>,
    /// How frames come: `h264`, or as images if absent.
    #[param(inline)]
    codec: Option<Codec>,
    /// If another session sends the stream already: `share` (default) it, `refuse` this session, or `take_over`, which
    /// ends the other. Who asks for one of the latter two has the stream to itself as long as it sends it.
    #[param(inline)]
    if_taken: IfTaken,
}

impl StreamQuery {
    pub(super) fn parse(uri: &Uri) -> Result<Self, String> {
        let Query(query) = Query::<Self>::try_from_uri(uri)
            .map_err(|rejection| rejection.body_text().replace("Failed to deserialize query string: ", ""))?;
        query.quality.map_or(Ok(()), check_quality).map_err(|bad| bad.to_string())?;
        let longest = LONGEST_AGE.as_millis();
        match query.max_age_ms {
            Some(ms) if ms == 0 || u128::from(ms) > longest => {
                Err(format!("max_age_ms is {ms}; use 1 to {longest}"))
            }
            _ => Ok(query),
        }
    }

    /// How frames come, if not as images.
    pub(super) fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// What becomes of it if its stream has a session already.
    pub(super) fn if_taken(&self) -> IfTaken {
        self.if_taken
    }

    /// Checks that a worker may serve the model, and that pictures may be drawn so.
    pub(super) fn served(self, shared: &Shared) -> Result<Self, String> {
        let checked = self.model.as_ref().map_or(Ok(()), |model| check_model(model, &shared.models));
        let checked = checked.and_then(|()| check_draw(self.draw, shared.config.draw_only));
        checked.map(|draw| Self { draw: Some(draw), ..self }).map_err(|bad| bad.to_string())
    }

    pub(super) fn into_terms(
        self,
        shared: &Shared,
        address: Address,
        (caller, trace): (Caller, Option<TraceParent>),
    ) -> (Terms, Settings) {
        let config = &shared.config;
        let terms = Terms {
            caller,
            address,
            stream: self.stream.unwrap_or_else(|| token_of("stream")),
            mode: self.mode,
            window: config.window,
            max_age: self.max_age_ms.map_or(config.max_age, |ms| Duration::from_millis(ms.into())),
            max_image_pixels: cloudpose_pixels::Limits::default().max_pixels,
            min_score: config.min_score,
            draw_only: config.draw_only,
            models: shared.models.clone(),
            trace,
        };
        let settings = Settings {
            want: self.want,
            draw: self.draw.unwrap_or_default(),
            model: self.model.unwrap_or_else(|| shared.default_model(STREAM_MODEL)),
            quality: self.quality.unwrap_or(DEFAULT_QUALITY),
            smooth: self.smooth.unwrap_or(true),
        };
        (terms, settings)
    }
}
