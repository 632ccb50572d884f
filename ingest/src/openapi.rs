//! The description of the HTTP calls, made from the handlers and the types of the contract.

use utoipa::{
    OpenApi,
    openapi::{
        self, Content, Ref, RefOr, Response, Schema,
        schema::SchemaType,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use crate::auth::Need;

#[derive(OpenApi)]
#[openapi(
    info(title = "CloudPose", description = "Finds people and their joints in images and live video, and tells what an image shows."),
    paths(
        crate::doors::http::pose,
        crate::doors::classify::classify,
        crate::doors::jobs::hand_in,
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
    components(schemas(crate::doors::roboflow::Found, crate::doors::roboflow::Message)),
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

/// OpenAPI 3.1, as JSON, with what else is answered on the same port, and with the keys that each call asks for if
/// anybody asks.
pub(crate) fn json(ops: openapi::OpenApi, keys: bool) -> String {
    let mut api = Api::openapi().merge_from(ops);
    tell_of_connections(&mut api);
    if let Some(components) = &mut api.components {
        components.schemas.values_mut().for_each(only_describe);
    }
    if keys {
        ask_for_keys(&mut api);
    }
    api.to_json().expect("a description made of strings is JSON")
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

/// Every call may be one too many, whatever else it answers.
fn tell_of_connections(api: &mut openapi::OpenApi) {
    for item in api.paths.paths.values_mut() {
        for operation in operations(item) {
            let responses = &mut operation.responses.responses;
            let answer = || problem("The client's tenant or its address has too many connections.").into();
            responses.entry("429".to_owned()).or_insert_with(answer);
        }
    }
}

fn operations(item: &mut openapi::PathItem) -> impl Iterator<Item = &mut openapi::path::Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    Response::builder().description(description).content("application/problem+json", content).build()
}

fn ask_for_keys(api: &mut openapi::OpenApi) {
    const KEY: &str = "key";
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("An API key."));
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(KEY, SecurityScheme::Http(bearer.build()));
    for (path, item) in &mut api.paths.paths {
        let scopes = match Need::of(path) {
            Need::Nothing => continue,
            Need::Key => Vec::new(),
            Need::Scope(scope) => vec![scope.as_str()],
        };
        for operation in operations(item) {
            operation.security = Some(vec![SecurityRequirement::new(KEY, scopes.clone())]);
            for (status, description) in
                [("401", "No key, or one that is not good."), ("403", "The key lacks the scope.")]
            {
                operation.responses.responses.insert(status.to_owned(), problem(description).into());
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
    }
}
