//! The ways to say who one is. A new one is a file here and a variant of [`Auth`].

use axum::http::HeaderMap;
use cloudpose_wire::Caller;

/// How clients say who they are.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    /// Not at all: all are one caller.
    None,
    /// All are this one.
    #[cfg(test)]
    Fixed(Caller),
}

impl Auth {
    /// Who sends a request with these headers.
    pub(crate) fn caller(&self, _headers: &HeaderMap) -> Caller {
        match self {
            Self::None => Caller::default(),
            #[cfg(test)]
            Self::Fixed(caller) => caller.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
