//! Problems that are told before a call of other people's protocols is reached, with the member by which their clients read
//! them.

use axum::{extract::Request, http::header, middleware::Next, response::Response};
use serde_json::{Value, json};

use super::{Problem, oip, roboflow};

/// Gives problems at the addresses of other people's protocols a member more.
pub(crate) async fn readable(request: Request, next: Next) -> Response {
    let words: Option<fn(&Problem) -> (&'static str, String)> = match request.uri() {
        uri if oip::is_below(uri) => Some(oip::words),
        uri if roboflow::is_below(uri) => Some(roboflow::words),
        _ => None,
    };
    let mut response = next.run(request).await;
    if let Some(words) = words
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
    {
        let (member, text) = words(&problem);
        let mut told = json!(problem);
        told[member] = Value::String(text);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = told.to_string().into();
    }
    response
}
