//! Why somebody is not let in, and how he is told.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::Scope;
use crate::doors::Problem;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("show a key: `Authorization: Bearer cpk_…`")]
    NoKey,
    #[error(
        "the `Authorization` header or the WebSocket protocol holds no key; write `Authorization: Bearer cpk_…`"
    )]
    NotAKey,
    #[error("no such key is known here, or no more; ask whoever runs this server for another")]
    UnknownKey,
    #[error("the key or token has expired; ask whoever runs this server for another")]
    Expired,
    #[error("the token is not good: {0}")]
    Token(&'static str),
    #[error(
        "the ticket is not good: it was used, is older than 30 s, is for another stream, or its gateway is gone; ask for another with POST /v1/tickets"
    )]
    Ticket,
    #[error("the key or token is not for this: it lacks the scope `{0}`")]
    Scope(Scope),
}

impl Denied {
    /// What `WWW-Authenticate` says (RFC 6750, section 3). It says nothing of an error to who has shown no key.
    fn challenge(self) -> HeaderValue {
        match self {
            Self::NoKey => HeaderValue::from_static("Bearer realm=\"cloudpose\""),
            Self::NotAKey | Self::UnknownKey | Self::Expired | Self::Token(_) | Self::Ticket => {
                HeaderValue::from_static("Bearer realm=\"cloudpose\", error=\"invalid_token\"")
            }
            Self::Scope(scope) => {
                let text =
                    format!("Bearer realm=\"cloudpose\", error=\"insufficient_scope\", scope=\"{scope}\"");
                HeaderValue::try_from(text).expect("a scope is made of letters")
            }
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let detail = self.to_string();
        let problem = match self {
            Self::Scope(_) => Problem::forbidden(detail),
            _ => Problem::unauthorized(detail),
        };
        let mut response = problem.into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, self.challenge());
        response
    }
}
