//! What a receiver is sent, and what it makes of it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, header};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Outcome, secret::CallbackSecret};
use crate::{
    doors::jobs::JobStatus,
    jobs::document::{About, State},
    outbound::{
        Reach, Trouble,
        http::{Line, request, whole},
        too_long,
    },
};

/// From looking its name up until it has answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer, which nobody reads: so much lets most receivers end theirs in peace.
const MOST_BYTES: usize = 16 << 10;

/// The body, in the form of Standard Webhooks.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = JobCallback)]
pub(crate) struct Message {
    /// `job.done`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the job was done, as RFC 3339.
    timestamp: String,
    /// As `GET /v1/jobs/{job}` tells of it.
    data: JobStatus,
    #[schema(inline)]
    links: Links,
}

/// Where more of it is, at whoever took the job.
#[derive(Serialize, utoipa::ToSchema)]
struct Links {
    /// How far the job is.
    job: String,
    /// What became of each image.
    results: String,
}

fn body(state: &State, about: &About) -> Bytes {
    let finished_at = Duration::from_millis(state.finished_at.unwrap_or_default());
    let job = format!("/v1/jobs/{}", about.job);
    // How it is with the callback its receiver sees.
    let state = State { callback: None, ..state.clone() };
    let message = Message {
        kind: "job.done",
        timestamp: humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + finished_at).to_string(),
        data: JobStatus::new(&state, about),
        links: Links { results: format!("{job}/results"), job },
    };
    serde_json::to_vec(&message).expect("strings and numbers are JSON").into()
}

/// Sends a job's callback, `now` in milliseconds since 1970. It takes ten seconds at most.
pub(super) async fn send(
    (url, state, about): (&str, &State, &About),
    secret: &CallbackSecret,
    reach: &Reach,
    now: u64,
) -> Outcome {
    let (id, timestamp) = (state.upload.as_str(), now / 1000);
    let body = body(state, about);
    let signature = secret.sign(&about.caller.tenant, id, timestamp, &body);
    let posted = async {
        let url = Url::parse(url).map_err(|error| Trouble::Wrong(error.to_string()))?;
        let request = request(Method::POST, &url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(body));
        post(&url, reach, request.map_err(|error| Trouble::Wrong(error.to_string()))?).await
    };
    match posted.await {
        Ok(status) if status.is_success() => Outcome::Delivered,
        Ok(status @ StatusCode::GONE) => Outcome::Unwanted(format!("it answers {status}")),
        Ok(status) => Outcome::Failed(format!("it answers {status}")),
        Err(trouble) => Outcome::Failed(trouble.why()),
    }
}

/// What the receiver answers. Where it leads to another it is not followed.
async fn post(url: &Url, reach: &Reach, request: Request<Full<Bytes>>) -> Result<StatusCode, Trouble> {
    let end = Instant::now() + PATIENCE;
    let answered = timeout_at(end, async {
        let mut line = Line::open(url, reach).await?;
        let answer = line.send(request).await?;
        Ok((line, answer))
    });
    let (_line, answer) = answered.await.map_err(|_| too_long("it did not answer", PATIENCE))??;
    let status = answer.status();
    timeout_at(end, whole(answer.into_body(), MOST_BYTES)).await.ok();
    Ok(status)
}
