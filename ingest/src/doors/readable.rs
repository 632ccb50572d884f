//! Problems that are told before a call of other people's protocols is reached, with the member by which their clients read
//! them.

use axum::{extract::Request, http::header, middleware::Next, response::Response};
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
        *response.body_mut() = told.to_string().into();
    }
    response
}

/// A problem as clients of other people's protocols read it, if one of these has the address: the member, and what it says.
pub(crate) fn words_of_others(problem: &Problem, path: &str) -> Option<(&'static str, String)> {
    if oip::is_below(path) {
        Some(("error", problem.detail.clone()))
    } else if roboflow::is_below(path) {
        Some(("message", roboflow::words(problem)))
    } else {
        None
    }
}
