//! `GET /v1/stream`: a streaming session on a WebSocket.
//!
//! A query that we do not understand is answered on the open WebSocket, because a browser does not show its page why
//! an upgrade was refused.

mod connection;
mod messages;
mod query;
pub(super) mod socket;
mod units;

use std::sync::Arc;

use axum::{
    extract::{Extension, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, Uri},
    response::Response,
};
use cloudpose_policy::quota::Resource;
use cloudpose_wire::{
    TraceParent,
    ws::{ErrorCode, IfTaken, ServerMessage},
};

use self::{
    connection::{Connection, End, queue},
    query::StreamQuery,
    socket::Socket,
};
use crate::{
    auth::{Need, PROTOCOL, Pass, Scope},
    doors::{Problem, brief, trace_of},
    listener::Line,
    quotas::Guest,
    shared::Shared,
};

/// Close codes of RFC 6455, section 7.4.1.
pub(super) mod code {
    pub(in crate::doors) const NORMAL: u16 = 1000;
    pub(in crate::doors) const GOING_AWAY: u16 = 1001;
    pub(in crate::doors) const PROTOCOL_ERROR: u16 = 1002;
    pub(in crate::doors) const POLICY: u16 = 1008;
    pub(in crate::doors) const TOO_BIG: u16 = 1009;
    /// In IANA's registry of close codes.
    pub(in crate::doors) const TRY_AGAIN_LATER: u16 = 1013;
    /// Ours, after HTTP's 401.
    pub(in crate::doors) const UNAUTHORIZED: u16 = 4401;
}

/// The code of the close that follows an error.
pub(super) fn close_code(error: ErrorCode) -> u16 {
    match error {
        ErrorCode::TooLarge => code::TOO_BIG,
        ErrorCode::ShuttingDown => code::GOING_AWAY,
        ErrorCode::BadMessage => code::PROTOCOL_ERROR,
        ErrorCode::Unavailable => code::TRY_AGAIN_LATER,
        ErrorCode::Unauthorized => code::UNAUTHORIZED,
        _ => code::POLICY,
    }
}

/// Opens a WebSocket on which images go in and results come out.
#[utoipa::path(
    get, path = "/v1/stream", tag = "stream", params(StreamQuery),
    responses(
        (status = 101, description = "A WebSocket. Binary messages are images, or access units of `codec`; text messages are JSON."),
        (status = 426, body = Problem, content_type = "application/problem+json",
            description = "The request does not ask for a WebSocket."),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "A quota is used up, as the problem says: come again after `Retry-After` seconds. Or the \
                client's address has too many connections."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "No room for another session, or shutting down: come again later."),
    ),
)]
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    uri: Uri,
    headers: HeaderMap,
    line: Option<Extension<Line>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| Problem::not_a_websocket(&rejection.body_text()))?;
    if shared.stopping.is_cancelled() {
        return Err(Problem::shutting_down());
    }
    let line = line.map(|Extension(line)| line);
    let guest = shared.guest(&pass.caller, line.as_ref());
    let counted = guest.begin(Resource::Sessions)?;
    let seat = shared.seats.take(&pass.caller).ok_or_else(Problem::no_room)?.counting(counted);
    let query = StreamQuery::parse(&uri);
    let asker = (pass, trace_of(&headers));
    let tracked = shared.sessions.token();
    // The key that a browser offers beside it is never said back.
    let upgrade = upgrade.protocols([PROTOCOL]);
    if let Some(line) = &line {
        line.upgrade();
    }
    Ok(Socket::limits(upgrade, shared.config.max_image_bytes).on_upgrade(async move |socket| {
        let socket = Socket::new(socket, shared.config.max_image_bytes, &shared, line);
        serve(shared, socket, query, (asker.0, guest, asker.1)).await;
        drop((seat, tracked));
    }))
}

async fn serve(
    shared: Arc<Shared>,
    mut socket: Socket,
    query: Result<StreamQuery, String>,
    (pass, guest, trace): (Pass, Guest, Option<TraceParent>),
) {
    let end = match query.and_then(|query| query.served(&shared)) {
        Err(message) => End::Refused(ErrorCode::BadQuery, message),
        Ok(query) => {
            let asker = (pass.caller.clone(), guest, trace);
            if query.if_taken() == IfTaken::Refuse {
                shared.watch.ask_again(&shared.bus).await;
            }
            match Connection::open(Arc::clone(&shared), &mut socket, query, asker) {
                Err(end) => end,
                Ok(connection) => tokio::select! {
                    end = connection.run() => end,
                    denied = shared.auth.ended(&pass, Need::Scope(Scope::Stream)) => {
                        End::Refused(ErrorCode::Unauthorized, denied.to_string())
                    }
                },
            }
        }
    };
    tracing::debug!(?end, "session ends");
    let close_code = match end {
        End::Left | End::Finished => code::NORMAL,
        End::Refused(error, message) => {
            queue(&mut socket, &ServerMessage::Error { code: error, message: brief(message) });
            close_code(error)
        }
    };
    socket.close(close_code).await;
}
