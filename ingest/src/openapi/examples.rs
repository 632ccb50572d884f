//! Examples of bodies, as a running server has taken and answered them. `tests/contract/examples.py` writes them. What no client
//! makes a server say is as it would say it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::openapi::{Content, OpenApi, RefOr, Schema, path::ParameterIn};

use super::{JSON, PROBLEM, operations};
use crate::doors::{Problem, member_at, words_of_others};

const EXAMPLES: &str = include_str!("examples.json");
/// What stands in paths, of that name: something that many servers have.
const IN_PATHS: [(&str, &str); 2] = [("model", "fast"), ("stream", "door")];
/// Stands for all calls.
const ANY: &str = "*";

/// Bodies by their content type.
type Bodies = BTreeMap<String, Value>;

/// What was said in a call.
#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    request: Bodies,
    /// By status.
    responses: BTreeMap<String, Bodies>,
}

/// Adds them to the calls that they are of: a call's own before those of all.
pub(super) fn add(api: &mut OpenApi) {
    let calls: BTreeMap<String, Call> =
        serde_json::from_str(EXAMPLES).expect("examples.json holds calls, as a test sees");
    let troubles = Problem::of_servers_in_trouble();
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                let RefOr::T(parameter) = parameter else { continue };
                let named = IN_PATHS.iter().find(|(name, _)| *name == parameter.name);
                if let (ParameterIn::Path, Some((_, value)), Some(RefOr::T(Schema::Object(schema)))) =
                    (&parameter.parameter_in, named, &mut parameter.schema)
                {
                    schema.examples = vec![Value::from(*value)];
                }
            }
            let own = calls.get(&format!("{method} {path}"));
            for call in own.into_iter().chain(calls.get(ANY)) {
                if let Some(RefOr::T(request)) = &mut operation.request_body {
                    put(&call.request, &mut request.content);
                }
                for (status, bodies) in &call.responses {
                    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
                        put(bodies, &mut response.content);
                        put(&of_others(bodies, path), &mut response.content);
                    }
                }
            }
            for trouble in &troubles {
                if let Some(RefOr::T(response)) =
                    operation.responses.responses.get_mut(&trouble.status.to_string())
                {
                    let mut bodies = Bodies::from([(PROBLEM.to_owned(), json!(trouble))]);
                    bodies.extend(in_other_words(trouble, path).map(|words| (JSON.to_owned(), words)));
                    put(&bodies, &mut response.content);
                }
            }
        }
    }
}

/// A problem of all calls, at an address of other people's protocols.
fn of_others(bodies: &Bodies, path: &str) -> Bodies {
    let told = member_at(path).zip(bodies.get(PROBLEM));
    told.map(|(member, problem)| (JSON.to_owned(), json!({ member: problem["detail"] })))
        .into_iter()
        .collect()
}

/// As JSON that is no problem, at addresses that speak so.
fn in_other_words(problem: &Problem, path: &str) -> Option<Value> {
    if path == "/upload" || path.starts_with("/status/") {
        return Some(json!({ "error": problem.detail }));
    }
    words_of_others(problem, path).map(|(member, text)| json!({ member: text }))
}

fn put<'a>(bodies: &Bodies, contents: impl IntoIterator<Item = (&'a String, &'a mut RefOr<Content>)>) {
    for (kind, content) in contents {
        match content {
            RefOr::T(content) if content.example.is_none() => content.example = bodies.get(kind).cloned(),
            RefOr::T(_) | RefOr::Ref(_) => {}
        }
    }
}
