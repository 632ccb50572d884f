//! Several images of one request, on their ways as single images go.

use std::{sync::Arc, time::Duration};

use axum::extract::Request;
use bytes::Bytes;
use cloudpose_policy::quota::Resource;
use cloudpose_wire::{
    Caller, ModelId, ModelInfo, SharedEvent, TraceParent, Want,
    frame::{MOST_TOP, USUAL_TOP},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use crate::{
    auth::Pass,
    doors::{
        Problem,
        http::{Seated, body, seated},
        trace_of,
    },
    quotas::Guest,
    seats::Occupied,
    settings::{DEFAULT_QUALITY, check_model},
    shared::{Shared, token_of},
    still::Still,
};

/// Images of one request: what comes back of them is written at once.
pub(crate) const MOST_IMAGES: usize = 32;
/// Images of one request that are worked on at once: enough for a GPU's batch, and others get their turn.
const AT_ONCE: usize = 8;

/// A body may be as large as so many of the largest images.
const IMAGES_OF_A_BODY: usize = 4;

/// How long a body of several images may be, in bytes.
pub(crate) fn body_limit(shared: &Shared) -> usize {
    body::json_limit(shared.config.max_image_bytes.saturating_mul(IMAGES_OF_A_BODY))
}

/// A request that is here whole, and has its seat.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) whose: Whose,
    /// Held until the answer is with the client.
    pub(crate) seat: Occupied,
}

/// Reads a request of several images.
///
/// # Errors
/// It is too large or too slow, or there is no room for it.
pub(crate) async fn receive(shared: &Shared, request: Request) -> Result<Received, Problem> {
    let Pass { caller, .. } = Pass::of(request.extensions());
    let trace = trace_of(request.headers());
    let line = request.extensions().get().cloned();
    let (parts, body) = request.into_parts();
    let bounds = body::Bounds::of(shared);
    let body = body::read(&parts.headers, body, body_limit(shared), &bounds);
    let Seated { guest, seat, body } = seated(shared, &caller, line, body, Bytes::len).await?;
    Ok(Received { body, whose: Whose { caller, guest, trace }, seat })
}

/// The model of that name, if it is served.
pub(crate) fn find_model(shared: &Shared, name: &str) -> Result<Arc<ModelInfo>, Problem> {
    let id: ModelId = name.parse().map_err(|_| {
        Problem::unknown_model(format!("{name:?} is no model's name; GET /v1/models lists them"))
    })?;
    check_model(&id, &shared.models)?;
    let nobody = || Problem::unavailable("no worker is there yet; try again in a moment");
    shared.models.get(&id).ok_or_else(nobody)
}

/// Whose images they are.
pub(crate) struct Whose {
    caller: Caller,
    guest: Guest,
    trace: Option<TraceParent>,
}

/// How they are worked on.
pub(crate) struct Terms {
    model: Arc<ModelInfo>,
    min_score: f32,
    top: u16,
    deadline: Duration,
}

impl Terms {
    /// By `model`, with what is usual for what is not asked for.
    pub(crate) fn of(
        shared: &Shared,
        model: &Arc<ModelInfo>,
        min_score: Option<f32>,
        top: Option<u16>,
    ) -> Result<Self, Problem> {
        let min_score = min_score.unwrap_or(shared.config.min_score);
        if !(0.0..=1.0).contains(&min_score) {
            return Err(Problem::bad_body(format!("min_score is {min_score}; use 0 to 1")));
        }
        let top = top.unwrap_or(USUAL_TOP);
        if !(1..=MOST_TOP).contains(&top) {
            return Err(Problem::bad_body(format!("top is {top}; use 1 to {MOST_TOP}")));
        }
        Ok(Self { model: Arc::clone(model), min_score, top, deadline: shared.config.still_deadline })
    }

    /// Each image within `deadline`.
    pub(crate) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Has all images worked on, one at least, and answers what was found in each. The first that fails ends the others.
    pub(crate) async fn run(
        &self,
        shared: &Shared,
        files: Vec<Bytes>,
        Whose { caller, guest, trace }: Whose,
    ) -> Result<Vec<SharedEvent>, Problem> {
        let many = files.len() > 1;
        // The request counts as one image, which has its place already.
        let more = guest.begin_at_most(files.len().min(AT_ONCE).saturating_sub(1));
        guest.used(Instant::now().into_std(), Resource::Frames, files.len().saturating_sub(1) as f64);
        let at_once = 1 + more.len();
        let stills: Vec<Still> = files
            .into_iter()
            .map(|image| Still {
                id: token_of("still"),
                image,
                want: Want::Pose,
                draw: shared.config.draw_only.unwrap_or_default(),
                model: self.model.id.clone(),
                quality: DEFAULT_QUALITY,
                min_score: self.min_score,
                top: self.top,
                deadline: self.deadline,
                caller: caller.clone(),
                guest: guest.clone(),
                trace,
            })
            .collect();
        let runs = stills.into_iter().enumerate().map(|(n, still)| async move {
            still.run(shared).await.map(|done| done.event).map_err(|refusal| {
                let mut problem = Problem::from(refusal);
                if many {
                    problem.detail = format!("image {n}: {}", problem.detail);
                }
                problem
            })
        });
        stream::iter(runs).buffered(at_once).try_collect().await
    }
}
