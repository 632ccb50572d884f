//! Errors of the HTTP calls: RFC 9457 problem details with stable types.

use std::time::Duration;

use axum::{
    extract::rejection::QueryRejection,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cloudpose_policy::quota::Resource;
use cloudpose_wire::DropReason;
use serde::Serialize;

use crate::{doors::brief, quotas::Refused, settings::BadSetting, still::Refusal};

/// When to come again after a 503, in seconds: a full queue is worked off in about that time.
const RETRY_AFTER_S: &str = "1";

const TYPE: &str = "application/problem+json";

/// What went wrong: `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// Stable name of the kind of problem: `urn:cloudpose:problem:…`.
    #[serde(rename = "type")]
    #[schema(example = "urn:cloudpose:problem:undecodable-image")]
    kind: &'static str,
    /// The kind in words.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What was wrong this time, and what to do.
    pub(crate) detail: String,
    /// When to come again, in seconds, if that is known better than by the status.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after_s: Option<u64>,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $status:ident, $kind:literal, $title:literal;)*) => {
        impl Problem {
            /// Status, type and title of all of them, by status.
            pub(crate) fn kinds() -> Vec<(u16, &'static str, &'static str)> {
                let mut kinds =
                    vec![$((StatusCode::$status.as_u16(), concat!("urn:cloudpose:problem:", $kind), $title)),*];
                kinds.sort_unstable();
                kinds
            }

            $(
                $(#[$doc])*
                pub(crate) fn $name(detail: impl Into<String>) -> Self {
                    Self {
                        kind: concat!("urn:cloudpose:problem:", $kind),
                        title: $title,
                        status: StatusCode::$status.as_u16(),
                        detail: brief(detail.into()),
                        retry_after_s: None,
                    }
                }
            )*
        }
    };
}

problems! {
    bad_query: BAD_REQUEST, "bad-query", "The query was not understood";
    bad_body: BAD_REQUEST, "bad-body", "The body was not understood";
    bad_address: BAD_REQUEST, "bad-address", "This address is not fetched";
    bad_callback: BAD_REQUEST, "bad-callback", "This address is not called";
    bad_base64: BAD_REQUEST, "bad-base64", "The image is not valid base64";
    https_only: BAD_REQUEST, "https-only", "This port speaks HTTPS";
    unknown_model: NOT_FOUND, "unknown-model", "No worker serves this model";
    unauthorized: UNAUTHORIZED, "unauthorized", "Say who you are";
    forbidden: FORBIDDEN, "forbidden", "The key is not for this";
    foreign_origin: FORBIDDEN, "foreign-origin", "Pages of this site may not do this";
    no_stream: NOT_FOUND, "no-stream", "No stream of this name is live";
    no_camera: NOT_FOUND, "no-camera", "No camera is fetched for this stream";
    not_found: NOT_FOUND, "not-found", "There is nothing here";
    method_not_allowed: METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not for this address";
    not_acceptable: NOT_ACCEPTABLE, "not-acceptable", "None of the accepted types can be answered";
    other_skeleton: CONFLICT, "other-skeleton", "This call tells of COCO's 17 keypoints only";
    other_task: CONFLICT, "other-task", "The model finds something else";
    kept: CONFLICT, "model-kept", "Models are not unloaded by clients";
    camera_exists: CONFLICT, "camera-exists", "The stream has a camera already";
    too_many_cameras: CONFLICT, "too-many-cameras", "There are as many cameras as there may be";
    fixed_camera: CONFLICT, "fixed-camera", "The camera is from the command line";
    no_callback: CONFLICT, "no-callback", "The job has no callback to send";
    slow_head: REQUEST_TIMEOUT, "slow-head", "The request took too long to arrive";
    slow_body: REQUEST_TIMEOUT, "slow-body", "The body took too long to arrive";
    too_large: PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    unsupported_content_type: UNSUPPORTED_MEDIA_TYPE, "unsupported-content-type", "This content type is not taken";
    missing_image: UNPROCESSABLE_ENTITY, "missing-image", "The body holds no image";
    bad_id: UNPROCESSABLE_ENTITY, "bad-id", "The id is not valid";
    undecodable: UNPROCESSABLE_ENTITY, "undecodable-image", "The image cannot be read";
    upgrade_required: UPGRADE_REQUIRED, "not-a-websocket", "This address speaks WebSocket";
    over_quota: TOO_MANY_REQUESTS, "over-quota", "More is used than may be";
    crowded: TOO_MANY_REQUESTS, "too-many-connections", "One address has too many connections";
    no_job: NOT_FOUND, "no-job", "There is no such job";
    no_picture: NOT_FOUND, "no-picture", "There is no such picture";
    key_reused: UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The idempotency key is taken";
    too_many_jobs: TOO_MANY_REQUESTS, "too-many-jobs", "There are too many jobs";
    no_store: NOT_IMPLEMENTED, "no-store", "The server keeps no jobs";
    no_callbacks: NOT_IMPLEMENTED, "no-callbacks", "The server sends no callbacks";
    store_unavailable: SERVICE_UNAVAILABLE, "store-unavailable", "The store of jobs cannot be used";
    store_full: INSUFFICIENT_STORAGE, "store-full", "The store of jobs is full";
    failed: INTERNAL_SERVER_ERROR, "processing-failed", "The image could not be processed";
    unavailable: SERVICE_UNAVAILABLE, "no-room", "The server has no room now";
    queue_full: SERVICE_UNAVAILABLE, "queue-full", "Too many images are waiting";
    stopping: SERVICE_UNAVAILABLE, "shutting-down", "The server is going away";
    deadline_missed: GATEWAY_TIMEOUT, "deadline-missed", "The image was not done in time";
}

impl Problem {
    pub(crate) fn no_room() -> Self {
        Self::unavailable("all sessions are taken; try again in a moment")
    }

    pub(crate) fn no_room_to_watch() -> Self {
        Self::unavailable("as many clients watch as may; try again in a moment")
    }

    pub(crate) fn no_connections() -> Self {
        Self::unavailable("all connections are taken; try again in a moment")
    }

    pub(crate) fn too_many_connections() -> Self {
        Self::crowded("your address has as many connections as one may have; use those, or close some")
    }

    pub(crate) fn no_room_for_jobs() -> Self {
        Self::store_full("there is no room for jobs now; delete jobs that are fetched, or come again later")
    }

    /// What no client makes a server say by itself, for the description: a problem for each such status.
    pub(crate) fn of_servers_in_trouble() -> [Self; 5] {
        let refused = |reason| {
            let refusal = Refusal { reason, detail: String::new() };
            Self::from(refusal.told(Duration::from_secs(5)))
        };
        [
            Self::too_many_connections(),
            refused(DropReason::InferFailed),
            refused(DropReason::BusDown),
            refused(DropReason::Expired),
            Self::no_room_for_jobs(),
        ]
    }

    pub(crate) fn tls_wanted() -> Self {
        Self::https_only("this port speaks TLS: use https:// or wss://")
    }

    pub(crate) fn no_head() -> Self {
        Self::slow_head("the head of the request was not complete in time; send it at once")
    }

    /// The whole response, for a connection that serves no request.
    pub(crate) fn raw(&self) -> String {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = self.json();
        let again = match status {
            StatusCode::BAD_REQUEST => String::new(),
            _ => format!("retry-after: {RETRY_AFTER_S}\r\n"),
        };
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {TYPE}\r\n{again}connection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and a number are JSON")
    }

    pub(crate) fn shutting_down() -> Self {
        Self::stopping("the server is shutting down; try again")
    }

    pub(crate) fn not_a_websocket(why: &str) -> Self {
        Self::upgrade_required(format!("{why}; connect with a WebSocket client"))
    }

    /// The status and the headers that belong to the problem, around `body`.
    pub(crate) fn respond(&self, content_type: &'static str, body: String) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let extra: Option<(HeaderName, HeaderValue)> = match (status, self.retry_after_s) {
            (_, Some(seconds)) => Some((header::RETRY_AFTER, seconds.into())),
            (StatusCode::SERVICE_UNAVAILABLE, None) => {
                Some((header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S)))
            }
            (StatusCode::UPGRADE_REQUIRED, None) => {
                Some((header::UPGRADE, HeaderValue::from_static("websocket")))
            }
            _ => None,
        };
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The problem goes along, for who has to tell it in other words.
    fn into_response(self) -> Response {
        let mut response = self.respond(TYPE, self.json());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_query(rejection.body_text().replace("Failed to deserialize query string: ", ""))
    }
}

impl From<BadSetting> for Problem {
    fn from(bad: BadSetting) -> Self {
        match bad {
            BadSetting::Quality(_) | BadSetting::Draw { .. } => Self::bad_query(bad.to_string()),
            BadSetting::UnknownModel { .. } => Self::unknown_model(bad.to_string()),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        if refused.exceeded.resource == Resource::Stored {
            // No time frees what is stored, but for that after which it goes.
            return Self::over_quota(refused.to_string());
        }
        // In whole seconds, never too soon. When a session or photo ends nobody knows.
        let again = refused.exceeded.again.map_or(1, |again| again.as_millis().div_ceil(1000).max(1));
        let detail = format!("{refused}; come again in {again} s");
        Self { retry_after_s: u64::try_from(again).ok(), ..Self::over_quota(detail) }
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { reason, detail }: Refusal) -> Self {
        match reason {
            DropReason::Undecodable => Self::undecodable(detail),
            DropReason::QueueFull | DropReason::OverQuota => {
                Self::queue_full("the queue for single images is full; try again")
            }
            DropReason::TooLarge => Self::too_large(detail),
            DropReason::BusDown => {
                Self::unavailable("the workers cannot be reached now; try again in a moment")
            }
            DropReason::ShuttingDown => Self::shutting_down(),
            DropReason::Expired | DropReason::BusLost | DropReason::Superseded | DropReason::Late => {
                Self::deadline_missed(detail)
            }
            DropReason::InferFailed | DropReason::AnnotateFailed | DropReason::ClientGone => {
                Self::failed(if detail.is_empty() { "the worker did not say why".to_owned() } else { detail })
            }
        }
    }
}
