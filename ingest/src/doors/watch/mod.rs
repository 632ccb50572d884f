//! Watching: `GET /v1/streams` lists live streams, `/v1/streams/{stream}/watch` shows one on a WebSocket,
//! `/v1/streams/{stream}.mjpeg` in an `<img>`.

mod connection;
mod multipart;
mod query;

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{
        Extension, Path, Query, State, WebSocketUpgrade, rejection::QueryRejection,
        ws::rejection::WebSocketUpgradeRejection,
    },
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use cloudpose_wire::{
    StreamName,
    watch::{LiveStream, WatchMessage},
    ws::ErrorCode,
};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::Instant;

use self::{
    connection::Connection,
    query::{PicturesQuery, WatchQuery},
};
use super::ws::{self, socket::Socket};
use crate::{
    auth::{Need, PROTOCOL, Pass, Scope},
    doors::Problem,
    listener::Line,
    shared::Shared,
    watch::{Refused, Watcher, Wish},
};

/// Largest message that is taken from one who watches: there is nothing to say.
const MOST_BYTES: usize = 4096;

/// What a key must be for.
const NEED: Need = Need::Scope(Scope::Watch);

/// The live streams.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct StreamList {
    /// By name.
    streams: Vec<LiveStream>,
}

/// Lists the live streams, of all gateways.
#[utoipa::path(get, path = "/v1/streams", tag = "watch",
    responses((status = 200, body = StreamList, description = "The streams that sessions send now.")))]
pub(crate) async fn streams(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
) -> impl IntoResponse {
    shared.watch.ask(&shared.bus).await;
    let streams = shared.watch.list(Instant::now().into_std(), &pass.caller.tenant);
    ([(header::CACHE_CONTROL, "no-store")], Json(StreamList { streams }))
}

/// Opens a WebSocket on which the frames of a stream come, as others send them.
#[utoipa::path(
    get, path = "/v1/streams/{stream}/watch", tag = "watch",
    params(("stream" = String, Path, description = "Name of the stream."), WatchQuery),
    responses(
        (status = 101, description = "A WebSocket. Text messages are JSON, binary ones annotated JPEGs."),
        (status = 426, body = Problem, content_type = "application/problem+json",
            description = "Not the handshake of a WebSocket."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "No room for another one who watches, or shutting down: come again later."),
    ),
)]
pub(crate) async fn watch(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    Path(stream): Path<String>,
    uri: Uri,
    line: Option<Extension<Line>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| Problem::not_a_websocket(&rejection.body_text()))?;
    // A browser does not show its page why an upgrade was refused: what can be said on the WebSocket is.
    let watching = match WatchQuery::parse(&uri, shared.config.draw_only) {
        Err(why) => Err((ErrorCode::BadQuery, why)),
        Ok(wish) => match begin(&shared, &pass, &stream, wish).await {
            Ok((name, watcher)) => Ok((name, wish, watcher)),
            Err(problem) if problem.status == 404 => Err((ErrorCode::NoStream, problem.detail)),
            Err(problem) => return Err(problem),
        },
    };
    let tracked = shared.sessions.token();
    let upgrade = upgrade.protocols([PROTOCOL]);
    let line = line.map(|Extension(line)| line);
    if let Some(line) = &line {
        line.upgrade();
    }
    Ok(Socket::limits(upgrade, MOST_BYTES).on_upgrade(async move |socket| {
        let socket = Socket::new(socket, MOST_BYTES, &shared, line);
        serve(shared, socket, watching, pass).await;
        drop(tracked);
    }))
}

async fn serve(
    shared: Arc<Shared>,
    mut socket: Socket,
    watching: Result<(StreamName, Wish, Watcher), (ErrorCode, String)>,
    pass: Pass,
) {
    let refused = match watching {
        Ok((stream, wish, watcher)) => {
            let connection = Connection::open(&shared, &mut socket, watcher, stream, wish);
            tokio::select! {
                refused = connection.run() => refused,
                denied = shared.auth.ended(&pass, NEED) => Some((ErrorCode::Unauthorized, denied.to_string())),
            }
        }
        Err(refused) => Some(refused),
    };
    tracing::debug!(?refused, "watching ends");
    let code = match refused {
        None => ws::code::NORMAL,
        Some((code, message)) => {
            socket.queue(connection::text(&WatchMessage::Error { code, message }), None);
            ws::close_code(code)
        }
    };
    socket.close(code).await;
}

/// Shows the pictures of a stream one after the other, for an `<img>`.
#[utoipa::path(
    get, path = "/v1/streams/{stream}.mjpeg", tag = "watch",
    params(("stream" = String, Path, description = "Name of the stream."), PicturesQuery),
    responses(
        (status = 200, content_type = "multipart/x-mixed-replace",
            description = "Annotated JPEGs, each in the place of the one before, until the stream ends."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query was not understood."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No stream of this name is live."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "No room for another one who watches, or shutting down: come again later."),
    ),
)]
pub(crate) async fn pictures(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    query: Result<Query<PicturesQuery>, QueryRejection>,
    Extension(pass): Extension<Pass>,
) -> Result<Response, Problem> {
    let stream =
        file.strip_suffix(".mjpeg").ok_or_else(|| Problem::not_found("see /docs for what there is"))?;
    let wish = query?.0.wish(shared.config.draw_only).map_err(Problem::bad_query)?;
    let (_, watcher) = begin(&shared, &pass, stream, wish).await?;
    let headers = [(header::CONTENT_TYPE, multipart::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    let parts = multipart::parts(watcher, shared.stopping.clone());
    let ended = async move { shared.auth.ended(&pass, NEED).await };
    Ok((headers, Body::from_stream(parts.take_until(Box::pin(ended)))).into_response())
}

async fn begin(
    shared: &Shared,
    pass: &Pass,
    stream: &str,
    wish: Wish,
) -> Result<(StreamName, Watcher), Problem> {
    if shared.stopping.is_cancelled() {
        return Err(Problem::shutting_down());
    }
    let name = StreamName::new(stream).map_err(|error| Problem::no_stream(error.to_string()))?;
    shared.watch.ask(&shared.bus).await;
    match shared.watch.watch(&pass.caller.tenant, &name, wish) {
        Ok(watcher) => Ok((name, watcher)),
        Err(Refused::NoStream) => {
            Err(Problem::no_stream(format!("nobody sends {name} now; GET /v1/streams lists what is live")))
        }
        Err(Refused::Full) => Err(Problem::no_room_to_watch()),
    }
}
