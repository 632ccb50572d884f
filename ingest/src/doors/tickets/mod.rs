//! `POST /v1/tickets`: a ticket for what can send no key.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, Request, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use cloudpose_wire::StreamName;
use serde::{Deserialize, Serialize};

use crate::{
    auth::{Pass, TICKETS_ARE_GOOD_FOR, TicketError},
    doors::{
        Problem,
        http::body::{self, Bounds},
    },
    shared::Shared,
};

/// Most bytes that say what a ticket is for.
const MOST_BYTES: usize = 4096;

/// What a ticket is for.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TicketRequest {
    /// It is for this stream alone, to send it or to watch it; for all if absent.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    stream: Option<StreamName>,
}

/// A ticket.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Ticket {
    /// For the query of `/v1/stream`, `/v1/streams/{stream}/watch` or `.mjpeg`: `?ticket=…`.
    #[schema(example = "cpt_gw-0199c0ffee.mP0…")]
    ticket: String,
    /// So many seconds it is good, once.
    expires_in: u64,
}

/// Gives out a ticket: good once, for 30 seconds, where a browser can send no key.
#[utoipa::path(
    post, path = "/v1/tickets", tag = "watch",
    request_body(content = Option<TicketRequest>, description = "Nothing, or the stream that it is for."),
    responses(
        (status = 201, body = Ticket, description = "It lets in once, with the scopes of the key that was shown."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The body was not understood."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too large."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "As many tickets are out as there may be: come again later."),
    ),
)]
pub(crate) async fn new(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    let (parts, body) = request.into_parts();
    let whole = body::read(&parts.headers, body, MOST_BYTES, &Bounds::of(&shared)).await?;
    let wish = match &whole[..] {
        [] => TicketRequest::default(),
        json => serde_json::from_slice::<Option<_>>(json)
            .map_err(|error| Problem::bad_body(error.to_string()))?
            .unwrap_or_default(),
    };
    let ticket = shared.tickets.issue(&pass, wish.stream).map_err(|error| match error {
        TicketError::Full => Problem::unavailable(error.to_string()),
        TicketError::Random(_) => Problem::failed(error.to_string()),
    })?;
    let ticket = Ticket { ticket, expires_in: TICKETS_ARE_GOOD_FOR.as_secs() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(ticket)))
}
