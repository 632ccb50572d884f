//! Which address leads where.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, header},
    middleware,
    routing::{get, post},
};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    auth, docs,
    doors::{cameras, classify, http, images, jobs, legacy, oip, readable, roboflow, tickets, watch, ws},
    pages,
    shared::Shared,
};

/// The page takes everything from this server, and may use the camera.
const SECURITY: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' ws: wss:; \
         object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(), geolocation=()"),
];

/// `ops` is answered beside the gateway's own addresses.
pub(crate) fn new(shared: Arc<Shared>, ops: Router) -> Router {
    let router = Router::new()
        .route("/v1/stream", get(ws::stream))
        .route("/v1/streams", get(watch::streams))
        .route("/v1/streams/{stream}", get(watch::pictures))
        .route("/v1/streams/{stream}/watch", get(watch::watch))
        .route("/v1/cameras", get(cameras::list).post(cameras::add))
        .route("/v1/cameras/{stream}", get(cameras::get).patch(cameras::change).delete(cameras::remove))
        .route("/v1/pose", post(http::pose))
        .route("/v1/classify", post(classify::classify))
        .route("/v1/tickets", post(tickets::new))
        .route("/v1/jobs", get(jobs::callbacks::list).post(jobs::hand_in))
        .route("/v1/jobs/{job}", get(jobs::status).delete(jobs::delete))
        .route("/v1/jobs/{job}/callback", post(jobs::callbacks::again))
        .route("/v1/jobs/{job}/results", get(jobs::results))
        .route("/v1/jobs/{job}/items/{item}/overlay", get(jobs::overlay))
        .route("/v1/jobs/{job}/items/{item}/thumbnail", get(jobs::thumbnail))
        .route("/upload", post(images::upload))
        .route("/status/{image_id}", get(images::status))
        .route("/v1/models", get(pages::models))
        .route("/api/pose_detection", post(legacy::pose_detection))
        .route("/api/pose_detection_annotation", post(legacy::pose_detection_annotation))
        .route("/predict", post(classify::predict))
        .merge(oip::routes())
        .merge(roboflow::routes())
        .route("/openapi.json", get(pages::api))
        .route("/", get(pages::index))
        .route("/docs", get(docs::page))
        .route("/docs/{file}", get(docs::file))
        .route("/{asset}", get(pages::asset))
        .route("/client/{asset}", get(pages::client))
        .merge(ops.with_state(()))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::guard))
        // `body` has its own limits, which answer with a problem.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(readable))
        .with_state(shared);
    SECURITY.into_iter().fold(router, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value)))
    })
}
