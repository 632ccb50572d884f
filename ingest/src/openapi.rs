//! The description of the HTTP calls, made from the handlers and the types of the contract.

mod callbacks;
mod examples;
pub(crate) mod models;

use std::fmt::Write as _;

use axum::http::Method;
use utoipa::{
    OpenApi,
    openapi::{
        self, Content, Ref, RefOr, Response, Schema,
        schema::{AnyOf, SchemaType},
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    auth::{Need, Scope},
    doors::{Problem, member_at},
};

/// The content type of problems.
const PROBLEM: &str = "application/problem+json";
/// That of other answers, and of problems that clients of other people's protocols are told.
const JSON: &str = "application/json";
/// Why a call is forbidden that any key may make.
const FOREIGN: &str = "A page of a site asks that is not allowed here.";

#[derive(OpenApi)]
#[openapi(
    info(title = "CloudPose", description = "Finds people and their joints in images and live video, and tells what an image shows.\n\n\
        What goes wrong is told as [problem details](https://www.rfc-editor.org/rfc/rfc9457): see `Problem` for all of them. \
        What is said on WebSockets and NATS is described at [/docs/messages](/docs/messages)."),
    servers((url = "/", description = "This server.")),
    paths(
        crate::doors::http::pose,
        crate::doors::classify::classify,
        crate::doors::jobs::hand_in,
        crate::doors::jobs::callbacks::list,
        crate::doors::jobs::callbacks::again,
        crate::doors::jobs::status,
        crate::doors::jobs::delete,
        crate::doors::jobs::results,
        crate::doors::jobs::overlay,
        crate::doors::jobs::thumbnail,
        crate::pages::models,
        crate::doors::ws::stream,
        crate::doors::watch::streams,
        crate::doors::watch::watch,
        crate::doors::watch::pictures,
        crate::doors::tickets::new,
        crate::doors::cameras::list,
        crate::doors::cameras::add,
        crate::doors::cameras::get,
        crate::doors::cameras::change,
        crate::doors::cameras::remove,
        crate::doors::legacy::pose_detection,
        crate::doors::legacy::pose_detection_annotation,
        crate::doors::classify::predict,
        crate::doors::images::upload,
        crate::doors::images::status,
        crate::doors::oip::models::server,
        crate::doors::oip::models::live,
        crate::doors::oip::models::ready,
        crate::doors::oip::models::metadata,
        crate::doors::oip::models::model_ready,
        crate::doors::oip::models::config,
        crate::doors::oip::models::stats,
        crate::doors::oip::models::all_stats,
        crate::doors::oip::models::index,
        crate::doors::oip::models::load,
        crate::doors::oip::models::unload,
        crate::doors::oip::infer,
        crate::doors::roboflow::info,
        crate::doors::roboflow::registry,
        crate::doors::roboflow::add,
        crate::doors::roboflow::remove,
        crate::doors::roboflow::clear,
        crate::doors::roboflow::keypoints,
        crate::doors::roboflow::objects,
        crate::doors::roboflow::classes,
    ),
    // What answers are described together with has to be named here.
    components(schemas(crate::doors::roboflow::Found, crate::doors::roboflow::Message, crate::jobs::CallbackMessage)),
    tags(
        (name = "pose", description = "One image"),
        (name = "classify", description = "What one image shows"),
        (name = "stream", description = "Live video"),
        (name = "watch", description = "Watching live video"),
        (name = "cameras", description = "Cameras that the server fetches"),
        (name = "jobs", description = "Many images, whose results are fetched later"),
        (name = "existing API", description = "For clients of the earlier service"),
        (name = "Open Inference Protocol", description = "For clients of KServe and Triton"),
        (name = "inference-sdk", description = "For programs on Roboflow's inference-sdk"),
        (name = "operation", description = "For monitors"),
    )
)]
struct Api;

/// OpenAPI 3.1, as JSON, with what else is answered on the same port, and the keys that each call asks for or, unless `keys`
/// are needed here, takes.
pub(crate) fn json(ops: openapi::OpenApi, keys: bool) -> String {
    let mut api = Api::openapi().merge_from(ops);
    tell_of_all(&mut api);
    if let Some(components) = &mut api.components {
        components.schemas.values_mut().for_each(only_describe);
        components.schemas.values_mut().for_each(any_of);
        if let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem") {
            list_problems(problem);
        }
    }
    ask_for_keys(&mut api, keys);
    if !keys && let Some(words) = &mut api.info.description {
        words.push_str("\n\nThis server asks for no key; where one stands at a call, others may.");
    }
    callbacks::add(&mut api);
    examples::add(&mut api);
    add_versions(&mut api);
    api.to_json().expect("a description made of strings is JSON")
}

/// Every problem that there is.
fn list_problems(schema: &mut openapi::Object) {
    let mut table = schema.description.take().unwrap_or_default();
    table += "\n\n| `status` | `type` | |\n|---|---|---|\n";
    for (status, kind, title) in Problem::kinds() {
        writeln!(table, "| {status} | `{kind}` | {title} |").expect("a string takes all");
    }
    schema.description = Some(table);
}

/// What says something of a field beside its type is made an object by utoipa, and no field is that and a word.
fn only_describe(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => object.properties.values_mut().for_each(only_describe),
        RefOr::T(Schema::AllOf(all)) => {
            for item in &mut all.items {
                if let RefOr::T(Schema::Object(words)) = item
                    && words.properties.is_empty()
                    && words.description.is_some()
                {
                    words.schema_type = SchemaType::AnyValue;
                }
            }
        }
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

/// What is told apart by trying may be several at once.
fn any_of(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::OneOf(one)) = schema {
        let mut any = AnyOf::new();
        any.items = std::mem::take(&mut one.items);
        any.description = one.description.take();
        *schema = Schema::AnyOf(any).into();
    }
}

/// What every call may answer, whatever it answers besides.
fn tell_of_all(api: &mut openapi::OpenApi) {
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            let responses = &mut operation.responses.responses;
            // Who waits for work may hear that it failed.
            if let Some(RefOr::T(mut failed)) = responses.get("504").cloned() {
                "The image could not be processed.".clone_into(&mut failed.description);
                responses.entry("500".to_owned()).or_insert_with(|| failed.into());
            }
            let mut tell = |status: &str, told: Response| {
                responses.entry(status.to_owned()).or_insert_with(|| told.into());
            };
            // Before a request is read nobody knows whose it is.
            tell("429", problem("The client's tenant or its address has too many connections."));
            if method != Method::GET {
                tell("403", problem_at(path, FOREIGN));
            }
            // Whatever a call's own answers look like.
            if let Some(RefOr::T(crowded)) = responses.get_mut("429") {
                crowded.content.entry(PROBLEM.to_owned()).or_insert_with(|| problem_content().into());
            }
        }
    }
}

/// Calls of the Open Inference Protocol may name a model's version, of which each has one.
fn add_versions(api: &mut openapi::OpenApi) {
    const MODEL: &str = "/v2/models/{model}";
    let version = openapi::path::ParameterBuilder::new()
        .name("version")
        .parameter_in(openapi::path::ParameterIn::Path)
        .required(openapi::Required::True)
        .description(Some("`1`: each model has one version."))
        .schema(Some(
            openapi::ObjectBuilder::new().schema_type(openapi::Type::String).enum_values(Some(["1"])),
        ))
        .build();
    let of_models = api.paths.paths.iter().filter_map(|(path, item)| Some((path.strip_prefix(MODEL)?, item)));
    let of_versions: Vec<_> = of_models
        .map(|(call, item)| {
            let mut item = item.clone();
            for (_, operation) in operations(&mut item) {
                operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_of_version"));
                operation.parameters.get_or_insert_default().insert(1, version.clone().into());
            }
            (format!("{MODEL}/versions/{{version}}{call}"), item)
        })
        .collect();
    api.paths.paths.extend(of_versions);
}

fn operations(item: &mut openapi::PathItem) -> impl Iterator<Item = (Method, &mut openapi::path::Operation)> {
    let each = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    each.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A problem, as the clients that make this call read it.
fn problem_at(path: &str, description: &str) -> Response {
    let schema = match member_at(path) {
        None => return problem(description),
        Some("error") => "TensorError",
        Some(_) => "InferenceMessage",
    };
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    Response::builder().description(description).content(JSON, content).build()
}

fn problem(description: &str) -> Response {
    Response::builder().description(description).content(PROBLEM, problem_content()).build()
}

fn problem_content() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

/// `needed`: without a key there is no answer. Otherwise calls may have one, as on another server they have to.
fn ask_for_keys(api: &mut openapi::OpenApi, needed: bool) {
    const KEY: &str = "key";
    const TICKET: &str = "ticket";
    let bearer = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key (`cpk_…`), or a token of the provider whom the server believes."));
    let ticket =
        ApiKeyValue::with_description(TICKET, "A ticket (`cpt_…`) of `POST /v1/tickets`: good once.");
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(KEY, SecurityScheme::Http(bearer.build()));
    components.add_security_scheme(TICKET, SecurityScheme::ApiKey(ApiKey::Query(ticket)));
    // Where a call says nothing else, anybody may make it.
    api.security = Some(Vec::new());
    for (path, item) in &mut api.paths.paths {
        let scopes = match Need::of(path) {
            Need::Nothing => continue,
            Need::Key => Vec::new(),
            Need::Scope(scope) => vec![scope.as_str()],
        };
        let for_media = matches!(Need::of(path), Need::Scope(Scope::Stream | Scope::Watch));
        for (method, operation) in operations(item) {
            let mut ways = vec![SecurityRequirement::new(KEY, scopes.clone())];
            if for_media && path != "/v1/streams" {
                ways.push(SecurityRequirement::new(TICKET, scopes.clone()));
            }
            if !needed {
                ways.insert(0, SecurityRequirement::default());
            }
            operation.security = Some(ways);
            let lacks = "The key lacks the scope.";
            let forbidden =
                if method == Method::GET { lacks.to_owned() } else { format!("{lacks} {FOREIGN}") };
            for (status, description) in [("401", "No key, or one that is not good."), ("403", &forbidden)] {
                operation.responses.responses.insert(status.to_owned(), problem_at(path, description).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn description_is_whole_and_says_what_the_types_say() {
        let api: Value = serde_json::from_str(&json(Default::default(), false)).unwrap();
        assert!(api["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        let mut found = BTreeSet::new();
        references(&api, &mut found);
        assert!(found.len() > 5, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let pose = &api["components"]["schemas"]["PoseEvent"]["properties"];
        for field in
            ["stream", "seq", "captured_at", "width", "height", "model", "device", "persons", "timings_ms"]
        {
            assert!(pose.get(field).is_some(), "PoseEvent lacks {field}");
        }
        let call = &api["paths"]["/v1/pose"]["post"];
        for kind in ["image/jpeg", "image/png", "image/webp", "multipart/form-data", "application/json"] {
            assert!(call["requestBody"]["content"].get(kind).is_some(), "{kind}");
        }
        let file = &api["components"]["schemas"]["ImageFile"];
        assert_eq!((&file["type"], &file["format"]), (&"string".into(), &"binary".into()));
        assert!(call["responses"]["200"]["content"].get("image/jpeg").is_some());
        let callback =
            &api["paths"]["/v1/jobs"]["post"]["callbacks"]["job_done"]["{$request.query.callback}"]["post"];
        let body = &callback["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(body, "#/components/schemas/JobCallback");
    }
}
