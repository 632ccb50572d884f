//! The guard before every address: it lets in who may, and says who he is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;

use super::{Denied, Need, Pass, origin::Sender, tickets::Shown as Ticket};
use crate::{
    doors::{Problem, http::body::json_limit},
    listener::Line,
    quotas::Refused,
    shared::Shared,
};

/// How long who is not let in may go on sending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers who is not let in, and leaves a [`Pass`] in the request of who is.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let sender = Sender::of(&request, &shared.config.auth.allow_origin);
    if let Some(mut answer) = sender.preflight(&request) {
        sender.reveal(&mut answer);
        return answer;
    }
    let ticket = Ticket::take(&mut request, Need::of(path.as_str()));
    let admitted = match sender.refusal(&request) {
        Some(problem) => {
            tracing::debug!(path = path.as_str(), "refused: {}", problem.detail);
            Err(Box::new(problem.into_response()))
        }
        None => admit(&shared, path.as_str(), request.headers(), ticket).await,
    };
    let admitted = admitted.and_then(|pass| match of_tenant(&shared, path.as_str(), &request, &pass) {
        Ok(()) => Ok(pass),
        Err(refused) => Err(Box::new(one_too_many(&request, refused))),
    });
    let mut response = match admitted {
        Ok(pass) => {
            request.extensions_mut().insert(pass);
            next.run(request).await
        }
        Err(refusal) => {
            let waits = request.headers().contains_key(header::EXPECT);
            if !waits {
                discard(request.into_body(), json_limit(shared.config.max_image_bytes)).await;
            }
            *refusal
        }
    };
    sender.reveal(&mut response);
    response
}

/// Lets a request in, or has the answer to it.
async fn admit(
    shared: &Shared,
    path: &str,
    headers: &HeaderMap,
    ticket: Option<Ticket>,
) -> Result<Pass, Box<Response>> {
    let need = Need::of(path);
    let admitted = match (shared.auth.admit(headers, need, SystemTime::now()), ticket) {
        (Err(Denied::NoKey), Some(ticket)) => {
            shared.tickets.admit(&shared.auth, &shared.bus, &ticket, need).await
        }
        (admitted, _) => admitted,
    };
    admitted.map_err(|denied| {
        tracing::debug!(path, "refused: {denied}");
        Box::new(denied.into_response())
    })
}

/// Counts the connection of a request as one of its tenant's. Where nobody is asked who he is, nobody is counted.
fn of_tenant(shared: &Shared, path: &str, request: &Request, pass: &Pass) -> Result<(), Refused> {
    match request.extensions().get::<Line>() {
        Some(line) if Need::of(path) != Need::Nothing => {
            line.used_by(&shared.guest(&pass.caller, Some(line)))
        }
        _ => Ok(()),
    }
}

/// The answer to a request on a connection that its tenant may not have. It ends the connection, where that carries one
/// request at a time.
fn one_too_many(request: &Request, refused: Refused) -> Response {
    let mut answer = Problem::from(refused).into_response();
    if request.version() <= Version::HTTP_11 {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Reads what is still being sent, and keeps none of it: who is cut off while he sends does not see the answer.
async fn discard(body: Body, limit: usize) {
    let mut chunks = body.into_data_stream();
    let all = async {
        let mut received = 0usize;
        while let Some(Ok(chunk)) = chunks.next().await {
            received = received.saturating_add(chunk.len());
            if received > limit {
                break;
            }
        }
    };
    // Whether it ends or not, it is answered.
    tokio::time::timeout(PATIENCE, all).await.ok();
}
