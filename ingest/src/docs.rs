//! The API's pages, with nothing from outside: Swagger UI over `/openapi.json`, and what stands in `docs/asyncapi.yaml`.

use std::sync::Arc;

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};

use crate::pages::{Asset, CSS, HTML, JS, TEXT, nothing};

const PAGE: Asset = Asset { name: "", kind: HTML, bytes: include_bytes!("../docs/docs.html") };
/// What is ours besides, each at `/docs/<name>`.
const FILES: [Asset; 4] = [
    Asset { name: "docs.css", kind: CSS, bytes: include_bytes!("../docs/docs.css") },
    Asset { name: "docs.js", kind: JS, bytes: include_bytes!("../docs/docs.js") },
    // Made of the other by tests/contract/messages_page.py.
    Asset { name: "messages", kind: HTML, bytes: include_bytes!("../docs/messages.html") },
    Asset { name: "asyncapi.yaml", kind: TEXT, bytes: include_bytes!("../../docs/asyncapi.yaml") },
];
/// What the page needs of Swagger UI.
const LIBRARY: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

/// The page.
pub(crate) async fn page() -> Response {
    (&PAGE).into_response()
}

/// A part of it.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    if let Some(asset) = FILES.iter().find(|asset| asset.name == name) {
        return asset.into_response();
    }
    match LIBRARY.contains(&name.as_str()).then(|| library(&name)).flatten() {
        Some(response) => response,
        None => nothing().into_response(),
    }
}

/// A file of Swagger UI. They are packed in the binary, and every browser unpacks them.
fn library(name: &str) -> Option<Response> {
    let file = utoipa_swagger_ui::serve(name, Arc::default()).ok()??;
    let headers = [(header::CONTENT_TYPE, file.content_type), (header::CACHE_CONTROL, "no-cache".to_owned())];
    let mut response = (headers, file.bytes).into_response();
    if file.gzpipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    Some(response)
}
