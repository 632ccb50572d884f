//! What is said of models: metadata, configuration, repository.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Path, Request, State},
};
use cloudpose_wire::{ModelInfo, Task};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{
    Refused,
    described::{TensorError, TensorModel, TensorModelState},
    request::IMAGE,
    statistics::Statistics,
};
use crate::{
    doors::{Problem, find_model, http::body},
    shared::Shared,
};

/// Models have no versions here: what changes its weights has another name.
pub(super) const VERSION: &str = "1";

/// What is there beyond the protocol's minimum, as Triton calls it.
pub(super) const EXTENSIONS: [&str; 4] =
    ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];

/// Of a body that asks for a model and has no files, in bytes.
const SHORT_BODY: usize = 16 << 10;

/// What the address says.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    model: String,
    version: Option<String>,
}

impl Named {
    /// The model of that name and version.
    pub(super) fn find(&self, shared: &Shared) -> Result<Arc<ModelInfo>, Problem> {
        let model = find_model(shared, &self.model)?;
        if self.version.as_deref().is_some_and(|version| version != VERSION) {
            return Err(Problem::unknown_model(format!("models have one version here, {VERSION}")));
        }
        Ok(model)
    }
}

/// Name, datatype (with Triton's name for it) and shape of each output; -1 is any number.
fn outputs(task: &Task) -> Vec<(&'static str, [&'static str; 2], Vec<i64>)> {
    const FP32: [&str; 2] = ["FP32", "TYPE_FP32"];
    match task {
        Task::Pose { skeleton } => {
            let keypoints = i64::try_from(skeleton.keypoints().len()).unwrap_or(i64::MAX);
            vec![
                ("keypoints", FP32, vec![-1, -1, keypoints, 3]),
                ("boxes", FP32, vec![-1, -1, 4]),
                ("scores", FP32, vec![-1, -1]),
                ("count", ["INT32", "TYPE_INT32"], vec![-1]),
            ]
        }
        Task::Classify { .. } => {
            vec![("classes", ["BYTES", "TYPE_STRING"], vec![-1, -1]), ("scores", FP32, vec![-1, -1])]
        }
    }
}

/// The names of a model's outputs.
pub(super) fn output_names(task: &Task) -> Vec<&'static str> {
    outputs(task).into_iter().map(|(name, ..)| name).collect()
}

/// What else Triton's configuration may say: which keypoint is which, and which of them are joined, by their places.
fn parameters(task: &Task) -> Value {
    let Task::Pose { skeleton } = task else { return json!({}) };
    let names: Vec<&str> = skeleton.keypoints().iter().map(|keypoint| keypoint.name.as_str()).collect();
    let limbs: Vec<String> = skeleton.limbs().iter().map(|[a, b]| format!("{a}-{b}")).collect();
    json!({
        "keypoints": { "string_value": names.join(",") },
        "limbs": { "string_value": limbs.join(",") },
    })
}

/// Describes the server (Open Inference Protocol).
#[utoipa::path(get, path = "/v2", tag = "Open Inference Protocol",
    responses((status = 200, body = Object, description = "Name, version and extensions.")))]
pub(crate) async fn server() -> Json<Value> {
    Json(json!({
        "name": "cloudpose",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    }))
}

/// Whether the gateway lives (Open Inference Protocol).
#[utoipa::path(get, path = "/v2/health/live", tag = "Open Inference Protocol",
    responses((status = 200, body = Object, description = "It does.")))]
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// Whether a worker serves models (Open Inference Protocol).
#[utoipa::path(get, path = "/v2/health/ready", operation_id = "server_ready", tag = "Open Inference Protocol",
    responses(
        (status = 200, body = Object, description = "One does."),
        (status = 503, body = TensorError, description = "None does, or not now."),
    ))]
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Refused> {
    if shared.stopping.is_cancelled() {
        return Err(Problem::shutting_down().into());
    }
    if !shared.bus.is_there() || shared.models.list().is_empty() {
        return Err(Problem::unavailable("no worker is there; try again in a moment").into());
    }
    Ok(Json(json!({ "ready": true })))
}

/// Describes a model's inputs and outputs (Open Inference Protocol).
#[utoipa::path(get, path = "/v2/models/{model}", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "One of `GET /v1/models`.")),
    responses(
        (status = 200, body = TensorModel, description = "Inputs and outputs, their datatypes and shapes."),
        (status = 404, body = TensorError, description = "No worker serves the model."),
    ))]
pub(crate) async fn metadata(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refused> {
    let model = named.find(&shared)?;
    let outputs: Vec<Value> = outputs(&model.task)
        .into_iter()
        .map(|(name, [datatype, _], shape)| json!({ "name": name, "datatype": datatype, "shape": shape }))
        .collect();
    Ok(Json(json!({
        "name": model.id,
        "versions": [VERSION],
        "platform": "cloudpose",
        "inputs": [{ "name": IMAGE, "datatype": "BYTES", "shape": [-1] }],
        "outputs": outputs,
    })))
}

/// Whether a worker serves the model (Open Inference Protocol).
#[utoipa::path(get, path = "/v2/models/{model}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "One of `GET /v1/models`.")),
    responses(
        (status = 200, body = Object, description = "One does."),
        (status = 404, body = TensorError, description = "None does."),
    ))]
pub(crate) async fn model_ready(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refused> {
    let model = named.find(&shared)?;
    Ok(Json(json!({ "name": model.id, "ready": true })))
}

/// Describes a model as Triton's configuration does.
#[utoipa::path(get, path = "/v2/models/{model}/config", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "One of `GET /v1/models`.")),
    responses(
        (status = 200, body = Object, description = "Inputs and outputs; `keypoints` (their names, in order) and `limbs` in `parameters`. Batches are the input's first dimension."),
        (status = 404, body = TensorError, description = "No worker serves the model."),
    ))]
pub(crate) async fn config(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refused> {
    let model = named.find(&shared)?;
    let outputs: Vec<Value> = outputs(&model.task)
        .into_iter()
        .map(|(name, [_, datatype], dims)| json!({ "name": name, "data_type": datatype, "dims": dims }))
        .collect();
    Ok(Json(json!({
        "name": model.id,
        "platform": "cloudpose",
        "backend": "cloudpose",
        // Triton counts the first dimension apart where this is not 0.
        "max_batch_size": 0,
        "input": [{ "name": IMAGE, "data_type": "TYPE_STRING", "dims": [-1] }],
        "output": outputs,
        "parameters": parameters(&model.task),
    })))
}

/// Tells what this gateway's clients of the protocol have had worked on by a model, as Triton's statistics do.
#[utoipa::path(get, path = "/v2/models/{model}/stats", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "One of `GET /v1/models`.")),
    responses(
        (status = 200, body = Object, description = "How many requests and images, and where their time went."),
        (status = 404, body = TensorError, description = "No worker serves the model."),
    ))]
pub(crate) async fn stats(
    State(shared): State<Arc<Shared>>,
    Extension(statistics): Extension<Arc<Statistics>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refused> {
    let model = named.find(&shared)?;
    Ok(Json(statistics.of(std::iter::once(&model.id))))
}

/// Tells what this gateway's clients of the protocol have had worked on, as Triton's statistics do.
#[utoipa::path(get, path = "/v2/models/stats", tag = "Open Inference Protocol",
    responses((status = 200, body = Object, description = "Of each model that workers serve.")))]
pub(crate) async fn all_stats(
    State(shared): State<Arc<Shared>>,
    Extension(statistics): Extension<Arc<Statistics>>,
) -> Json<Value> {
    let models = shared.models.list();
    Json(statistics.of(models.iter().map(|model| &model.id)))
}

/// Lists the models that workers serve (Open Inference Protocol).
#[utoipa::path(post, path = "/v2/repository/index", tag = "Open Inference Protocol",
    responses((status = 200, body = Vec<TensorModelState>, description = "Names, versions and states.")))]
pub(crate) async fn index(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let entry = |model: Arc<ModelInfo>| json!({ "name": model.id, "version": VERSION, "state": "READY", "reason": "" });
    Json(shared.models.list().into_iter().map(entry).collect())
}

/// Asks for a model to be there (Open Inference Protocol).
///
/// Workers load what their folder of models has, by themselves; nothing is loaded by this call.
#[utoipa::path(post, path = "/v2/repository/models/{model}/load", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "One of `GET /v1/models`.")),
    responses(
        (status = 200, body = Object, description = "It is there."),
        (status = 400, body = TensorError, description = "A configuration or files came with it."),
        (status = 404, body = TensorError, description = "It is not: put it into the workers' folder of models."),
    ))]
pub(crate) async fn load(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Json<Value>, Refused> {
    named.find(&shared)?;
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, SHORT_BODY, &body::Bounds::of(&shared)).await;
    let asked = match body {
        Ok(body) if body.is_empty() => Load::default(),
        Ok(body) => serde_json::from_slice(&body)
            .map_err(|error| Problem::bad_body(format!("the JSON is not understood: {error}")))?,
        // Files of a model.
        Err(problem) if problem.status == 413 => return Err(nothing_taken()),
        Err(problem) => return Err(problem.into()),
    };
    if asked.parameters.is_some_and(|parameters| !parameters.is_empty()) {
        return Err(nothing_taken());
    }
    Ok(Json(json!({})))
}

/// What Triton loads a model with.
#[derive(Default, Deserialize)]
struct Load {
    parameters: Option<BTreeMap<String, IgnoredAny>>,
}

fn nothing_taken() -> Refused {
    Problem::bad_body(
        "neither a configuration nor files are taken: put the model into the folder of the workers' --model-dir",
    )
    .into()
}

/// Refuses to unload a model (Open Inference Protocol): other clients may use it.
#[utoipa::path(post, path = "/v2/repository/models/{model}/unload", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "One of `GET /v1/models`.")),
    responses(
        (status = 404, body = TensorError, description = "No worker serves the model."),
        (status = 409, body = TensorError, description = "Take it out of the workers' folder of models instead."),
    ))]
pub(crate) async fn unload(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refused> {
    let model = named.find(&shared)?;
    Err(Problem::kept(format!(
        "{} stays until it is taken out of the folder of the workers' --model-dir",
        model.id
    ))
    .into())
}
