//! The queries of those who watch.

use axum::{extract::Query, http::Uri};
use cloudpose_wire::{Draw, Want};
use serde::Deserialize;

use crate::{
    settings::{BadSetting, check_draw},
    watch::Wish,
};

/// The query of `GET /v1/streams/{stream}/watch`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchQuery {
    /// What comes: `pose` (default), `overlay` or `both`.
    #[param(inline)]
    want: Want,
    /// How pictures are drawn: `overlay` (default), `skeleton` (on a plain ground), `redacted` (heads are covered) or
    /// `frame` (nothing is drawn).
    #[param(inline)]
    draw: Option<Draw>,
    /// So many frames a second at most, 0.1 to 120; all if absent.
    #[param(minimum = 0.1, maximum = 120)]
    fps: Option<f32>,
}

/// The query of `GET /v1/streams/{stream}.mjpeg`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PicturesQuery {
    /// How pictures are drawn: `overlay` (default), `skeleton` (on a plain ground), `redacted` (heads are covered) or
    /// `frame` (nothing is drawn).
    #[param(inline)]
    draw: Option<Draw>,
    /// So many pictures a second at most, 0.1 to 120; all if absent.
    #[param(minimum = 0.1, maximum = 120)]
    fps: Option<f32>,
}

impl WatchQuery {
    /// What a query asks for, or why it is not understood.
    pub(super) fn parse(uri: &Uri, draw_only: Option<Draw>) -> Result<Wish, String> {
        let Query(query) = Query::<Self>::try_from_uri(uri)
            .map_err(|rejection| rejection.body_text().replace("Failed to deserialize query string: ", ""))?;
        wish(query.want, query.fps, check_draw(query.draw, draw_only))
    }
}

impl PicturesQuery {
    pub(super) fn wish(self, draw_only: Option<Draw>) -> Result<Wish, String> {
        wish(Want::Overlay, self.fps, check_draw(self.draw, draw_only))
    }
}

fn wish(want: Want, fps: Option<f32>, draw: Result<Draw, BadSetting>) -> Result<Wish, String> {
    let draw = draw.map_err(|bad| bad.to_string())?;
    match fps {
        Some(fps) if !(0.1..=120.0).contains(&fps) => Err(format!("fps is {fps}; use 0.1 to 120")),
        _ => Ok(Wish { want, draw, fps }),
    }
}
