//! What people look at: the web page.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use cloudpose_wire::{ModelId, ModelInfo};
use serde::Serialize;

use crate::{
    config::{PHOTO_MODEL, STREAM_MODEL},
    doors::{Problem, oip},
    openapi::models::Model,
    shared::Shared,
};

/// A file in the binary.
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) bytes: &'static [u8],
}

macro_rules! assets {
    ($folder:literal: $($name:literal: $kind:ident;)*) => {
        [$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!($folder, "/", $name)) }),*]
    };
}

pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const CSS: &str = "text/css; charset=utf-8";
pub(crate) const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JPEG: &str = "image/jpeg";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// The page's parts, each at `/<name>`.
const PAGE: [Asset; 17] = assets! {
    "../web":
    "app.js": JS;
    "cameras.js": JS;
    "gallery.js": JS;
    "handin.js": JS;
    "jobs.css": CSS;
    "jobs.js": JS;
    "key.js": JS;
    "phrases.js": JS;
    "save.js": JS;
    "source.js": JS;
    "stats.js": JS;
    "style.css": CSS;
    "view.js": JS;
    "wall.js": JS;
    "words.js": JS;
    "favicon.svg": SVG;
    "sample.jpg": JPEG;
};
/// The client for browsers, which the page itself uses, each at `/client/<name>`; types and example to be read.
const CLIENT: [Asset; 8] = assets! {
    "../../clients/js":
    "cloudpose.d.ts": TEXT;
    "cloudpose.js": JS;
    "draw.js": JS;
    "example.html": TEXT;
    "film.js": JS;
    "key.js": JS;
    "live.js": JS;
    "session.js": JS;
};
const INDEX: Asset = Asset { name: "", kind: HTML, bytes: include_bytes!("../web/index.html") };

impl IntoResponse for &'static Asset {
    fn into_response(self) -> Response {
        // Asked for each time, so that page and server are always of one version.
        let headers = [(header::CONTENT_TYPE, self.kind), (header::CACHE_CONTROL, "no-cache")];
        (headers, self.bytes).into_response()
    }
}

/// The page for browsers, a word for programs.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = if accept.to_ascii_lowercase().contains("text/html") {
        (&INDEX).into_response()
    } else {
        let message = concat!("CloudPose ", env!("CARGO_PKG_VERSION"), ": the API is described at /docs");
        Json(serde_json::json!({ "message": message })).into_response()
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    response
}

/// A part of the page.
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    match PAGE.iter().find(|asset| asset.name == name) {
        Some(asset) => asset.into_response(),
        None => nothing().into_response(),
    }
}

/// A part of the client.
pub(crate) async fn client(Path(name): Path<String>) -> Response {
    match CLIENT.iter().find(|asset| asset.name == name) {
        Some(asset) => asset.into_response(),
        None => nothing().into_response(),
    }
}

/// Anything else.
pub(crate) async fn not_found(address: Uri) -> Problem {
    if oip::is_below(address.path()) { oip::not_found() } else { nothing() }
}

pub(crate) fn nothing() -> Problem {
    Problem::not_found("see /docs for what there is")
}

/// The right address with the wrong method.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed("see the `Allow` header, or /docs")
}

/// The models that workers serve.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ModelList {
    /// The one that is run unless a client asks for another.
    #[schema(value_type = String)]
    default: ModelId,
    /// The one for photos of clients that name none.
    #[schema(value_type = String)]
    default_photo: ModelId,
    /// All of them.
    #[schema(value_type = Vec<Model>)]
    models: Vec<Arc<ModelInfo>>,
}

/// Lists the models that workers serve.
#[utoipa::path(get, path = "/v1/models", tag = "pose",
    responses((status = 200, body = ModelList, description = "The models: what they find, and where they come from.")))]
pub(crate) async fn models(State(shared): State<Arc<Shared>>) -> Json<ModelList> {
    let (default, default_photo) = (shared.default_model(STREAM_MODEL), shared.default_model(PHOTO_MODEL));
    Json(ModelList { default, default_photo, models: shared.models.list() })
}

/// The description of the API.
pub(crate) async fn api(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], shared.api.clone())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// The names of the files in a folder that have one of `suffixes`.
    fn files(folder: &str, suffixes: &[&str]) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        files.filter(|name| suffixes.iter().any(|suffix| name.ends_with(suffix))).collect()
    }

    fn names(assets: &[Asset]) -> BTreeSet<String> {
        assets.iter().map(|asset| asset.name.to_owned()).collect()
    }

    #[test]
    fn every_file_of_the_page_and_of_the_client_is_served() {
        assert_eq!(files("web", &[".js", ".css", ".svg", ".jpg"]), names(&PAGE));
        assert_eq!(files("../clients/js", &[".html", ".js", ".ts"]), names(&CLIENT));
    }
}
