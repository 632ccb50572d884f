//! Bodies of the protocol, as the description of the API has them.

use serde_json::Value;
use utoipa::ToSchema;

/// Images, and what is wanted of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads")]
pub(super) struct TensorRequest {
    /// Comes back.
    id: Option<String>,
    parameters: Option<TensorParameters>,
    /// The one tensor `image`.
    #[schema(min_items = 1, max_items = 1)]
    inputs: Vec<TensorInput>,
    /// Which outputs come back; all if absent.
    outputs: Option<Vec<TensorOutput>>,
}

/// What is wanted of a model.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads")]
pub(super) struct TensorParameters {
    /// Whether outputs come behind the JSON, unless they say otherwise.
    binary_data_output: Option<bool>,
    /// Persons below this score are not reported.
    #[schema(minimum = 0, maximum = 1)]
    min_score: Option<f32>,
    /// How many classes to tell.
    #[schema(minimum = 1, maximum = 1000)]
    top: Option<u16>,
    /// Within how many microseconds each image must be done: the server's `--still-deadline` if absent or 0, at most a minute.
    timeout: Option<u64>,
}

/// An input.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads")]
pub(super) struct TensorInput {
    /// `image`.
    name: String,
    /// [n] of BYTES, [n, height, width, 3] of UINT8.
    shape: Vec<u64>,
    /// `BYTES` or `UINT8`.
    datatype: String,
    /// `binary_data_size` where the tensor stands behind the JSON: of so many bytes.
    parameters: Option<TensorSize>,
    /// Image files (JPEG, PNG or WebP) in base64, or the pixels, row by row.
    data: Option<Vec<Value>>,
}

/// How long a tensor behind the JSON is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads and `answer` writes")]
pub(super) struct TensorSize {
    /// In bytes.
    binary_data_size: Option<usize>,
}

/// An output that is wanted.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads")]
pub(super) struct TensorOutput {
    /// `keypoints`, `boxes`, `scores` or `count`; `classes` or `scores`.
    name: String,
    parameters: Option<TensorOutputParameters>,
}

/// How an output comes back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads")]
pub(super) struct TensorOutputParameters {
    /// Whether it comes behind the JSON.
    binary_data: Option<bool>,
}

/// What was found in the images.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `answer` writes")]
pub(super) struct TensorAnswer {
    model_name: String,
    model_version: String,
    /// As it was sent.
    #[schema(nullable = false)]
    id: Option<String>,
    outputs: Vec<Tensor>,
}

/// An output.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `answer` writes")]
pub(super) struct Tensor {
    name: String,
    /// `FP32`, `INT32` or `BYTES`.
    datatype: String,
    shape: Vec<usize>,
    /// Where it stands behind the JSON.
    #[schema(nullable = false)]
    parameters: Option<TensorSize>,
    /// Row by row, where it does not.
    #[schema(nullable = false)]
    data: Option<Vec<Value>>,
}

/// A model's inputs and outputs.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `models` answers")]
pub(super) struct TensorModel {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<TensorKind>,
    outputs: Vec<TensorKind>,
}

/// What an input or output is like.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `models` answers")]
pub(super) struct TensorKind {
    name: String,
    datatype: String,
    /// -1 is any number.
    shape: Vec<i64>,
}

/// A model that is served.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `models` answers")]
pub(super) struct TensorModelState {
    name: String,
    version: String,
    state: String,
    reason: String,
}

/// What was wrong, and what to do.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Refused` answers")]
pub(super) struct TensorError {
    error: String,
}
