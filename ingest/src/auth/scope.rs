//! What a key may be for, and what each address asks for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One thing that a key allows. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Single images, also by the existing API.
    Photo,
    /// Streaming sessions.
    Stream,
    /// To watch what others stream.
    Watch,
    /// To say which cameras are read.
    Cameras,
    /// Work whose results are fetched later.
    Jobs,
    /// What monitors read, where it has no port of its own.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Photo, Self::Stream, Self::Watch, Self::Cameras, Self::Jobs, Self::Admin];

    /// As it stands in the file of keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Stream => "stream",
            Self::Watch => "watch",
            Self::Cameras => "cameras",
            Self::Jobs => "jobs",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Scope> for cloudpose_wire::Scope {
    fn from(scope: Scope) -> Self {
        Self::from_str(scope.as_str()).expect("small letters make a token")
    }
}

/// What an address asks of who comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// Any key.
    Key,
    /// A key for this.
    Scope(Scope),
}

impl Need {
    /// What the address with this template asks for. One that is not listed is for administrators: a new address is
    /// closed until somebody has said here whom it is for.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/" | "/{asset}" | "/client/{asset}" | "/docs" | "/docs/{file}" | "/openapi.json" | "/health"
            | "/ready" | "/v2/health/live" | "/v2/health/ready" | "/info" => Self::Nothing,
            "/v1/models"
            | "/v1/tickets"
            | "/v2"
            | "/v2/"
            | "/v2/models/stats"
            | "/v2/models/{model}"
            | "/v2/models/{model}/ready"
            | "/v2/models/{model}/config"
            | "/v2/models/{model}/stats"
            | "/v2/models/{model}/versions/{version}"
            | "/v2/models/{model}/versions/{version}/ready"
            | "/v2/models/{model}/versions/{version}/config"
            | "/v2/models/{model}/versions/{version}/stats"
            | "/v2/repository/index"
            | "/v2/repository/models/{model}/load"
            | "/v2/repository/models/{model}/unload"
            | "/model/registry"
            | "/model/add"
            | "/model/remove"
            | "/model/clear" => Self::Key,
            "/v1/pose"
            | "/v1/classify"
            | "/predict"
            | "/v2/models/{model}/infer"
            | "/v2/models/{model}/versions/{version}/infer"
            | "/infer/keypoints_detection"
            | "/infer/object_detection"
            | "/infer/classification"
            | "/api/pose_detection"
            | "/api/pose_detection_annotation" => Self::Scope(Scope::Photo),
            "/v1/jobs"
            | "/v1/jobs/{job}"
            | "/v1/jobs/{job}/callback"
            | "/v1/jobs/{job}/results"
            | "/v1/jobs/{job}/items/{item}/overlay"
            | "/v1/jobs/{job}/items/{item}/thumbnail"
            | "/upload"
            | "/status/{image_id}" => Self::Scope(Scope::Jobs),
            "/v1/stream" => Self::Scope(Scope::Stream),
            // The second is the third as the documents write it.
            "/v1/streams"
            | "/v1/streams/{stream}.mjpeg"
            | "/v1/streams/{stream}"
            | "/v1/streams/{stream}/watch" => Self::Scope(Scope::Watch),
            "/v1/cameras" | "/v1/cameras/{stream}" => Self::Scope(Scope::Cameras),
            _ => Self::Scope(Scope::Admin),
        }
    }
}
