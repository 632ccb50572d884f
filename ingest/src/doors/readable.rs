//! Problems that are told before a call of other people's protocols is reached, with the member by which their clients read
//! them.

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use serde_json::{Value, json};

use super::{Problem, oip, roboflow};

/// Gives problems at the addresses of other people's protocols a member more.
pub(crate) async fn readable(request: Request, next: Next) -> Response {
    let address = request.uri().clone();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>()
        && let Some((member, text)) = words_of_others(&problem, address.path())
    {
        let mut told = json!(problem);
        told[member] = Value::String(text);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        // KServe's client looks into nothing else.
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = told.to_string().into();
    }
    response
}

/// By which member clients of other people's protocols read what is wrong, if one of these has the address.
pub(crate) fn member_at(path: &str) -> Option<&'static str> {
    if oip::is_below(path) {
        Some("error")
    } else if roboflow::is_below(path) {
        Some("message")
    } else {
        None
    }
}

/// What such a client is told of a problem: the member, and what it says.
pub(crate) fn words_of_others(problem: &Problem, path: &str) -> Option<(&'static str, String)> {
    let member = member_at(path)?;
    let detail = problem.detail.clone();
    let text = match StatusCode::from_u16(problem.status) {
        Ok(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => format!("{}: {detail}", problem.title),
        Ok(StatusCode::UNAUTHORIZED) if roboflow::is_below(path) => roboflow::about_keys(detail),
        _ => detail,
    };
    Some((member, text))
}
