//! The doors: each speaks one protocol with clients, and translates.
//!
//! | door | speaks |
//! |---|---|
//! | `ws` | `GET /v1/stream`: images and messages on a WebSocket |
//! | `http` | `POST /v1/pose`: one image, its poses or the annotated picture |
//! | `classify` | `POST /v1/classify`: one image, what it shows; `POST /predict`, the existing call |
//! | `watch` | `GET /v1/streams`: what is live; watching it on a WebSocket or in an `<img>` |
//! | `tickets` | `POST /v1/tickets`: what to show where no key can be sent |
//! | `cameras` | `/v1/cameras`: which cameras the gateway fetches |
//! | `jobs` | `/v1/jobs`: many images, whose results are fetched later |
//! | `images` | the calls of the existing image service |
//! | `legacy` | the existing API |
//! | `oip` | the Open Inference Protocol v2 over HTTP, as KServe's and Triton's clients speak it |
//! | `roboflow` | the calls of programs on Roboflow's inference-sdk |
//!
//! A new one is a folder here and its addresses in `router`.

mod batch;
mod brief;
pub(crate) mod cameras;
pub(crate) mod classify;
mod few;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod legacy;
pub(crate) mod oip;
mod problem;
mod readable;
pub(crate) mod roboflow;
pub(crate) mod tickets;
pub(crate) mod watch;
pub(crate) mod ws;

use axum::http::HeaderMap;
use cloudpose_wire::{TraceParent, trace::TRACEPARENT};

pub(crate) use batch::{MOST_IMAGES, Received, Terms, body_limit, find_model, receive};
pub(crate) use brief::brief;
pub(crate) use few::Few;
pub(crate) use problem::Problem;
pub(crate) use readable::{member_at, readable, words_of_others};

/// The trace that a request belongs to, if it says so, and says it once.
fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.parse().ok()
}
