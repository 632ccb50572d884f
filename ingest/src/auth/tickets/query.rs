//! A ticket in the address of a request.

use axum::http::{Method, Request, Uri};

use crate::auth::{Need, Scope};

const NAME: &str = "ticket=";

/// A ticket that a request shows.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::auth) struct Shown {
    pub(super) ticket: String,
    /// The stream that is asked for, if there is one name for it.
    pub(super) stream: Option<String>,
}

impl Shown {
    /// Takes the ticket out of the address of a request that may show one: a browser's WebSocket, or an `<img>`.
    pub(in crate::auth) fn take<B>(request: &mut Request<B>, need: Need) -> Option<Self> {
        let for_media = matches!(need, Need::Scope(Scope::Stream | Scope::Watch));
        if !for_media || *request.method() != Method::GET || request.uri().path() == "/v1/streams" {
            return None;
        }
        let query = request.uri().query()?;
        let mut tickets = query.split('&').filter_map(|pair| pair.strip_prefix(NAME));
        let (Some(ticket), None) = (tickets.next(), tickets.next()) else { return None };
        let shown = Self { ticket: ticket.to_owned(), stream: stream(request.uri(), query) };
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(NAME)).collect();
        let path = request.uri().path();
        let without = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(without.parse().ok()?);
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        Some(shown)
    }
}

/// The stream in an address, as it stands there: names need no encoding.
fn stream(uri: &Uri, query: &str) -> Option<String> {
    let name = match uri.path().strip_prefix("/v1/streams/") {
        Some(path) => path.strip_suffix("/watch").or_else(|| path.strip_suffix(".mjpeg"))?,
        None => {
            let mut named = query.split('&').filter_map(|pair| pair.strip_prefix("stream="));
            let (Some(name), None) = (named.next(), named.next()) else { return None };
            name
        }
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Need = Need::Scope(Scope::Stream);
    const WATCH: Need = Need::Scope(Scope::Watch);

    fn taken(uri: &str, need: Need) -> (Option<Shown>, String) {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        let shown = Shown::take(&mut request, need);
        (shown, request.uri().to_string())
    }

    #[test]
    fn a_ticket_is_taken_out_of_the_address() {
        let shown = |stream: Option<&str>| {
            Some(Shown { ticket: "cpt_g.x".into(), stream: stream.map(str::to_owned) })
        };
        for (uri, need, stream, rest) in [
            ("/v1/stream?ticket=cpt_g.x", STREAM, None, "/v1/stream"),
            (
                "/v1/stream?want=both&ticket=cpt_g.x&stream=a",
                STREAM,
                Some("a"),
                "/v1/stream?want=both&stream=a",
            ),
            // Which of the two will be believed is not for us to guess.
            ("/v1/stream?stream=b&ticket=cpt_g.x&stream=a", STREAM, None, "/v1/stream?stream=b&stream=a"),
            ("/v1/streams/a.mjpeg?ticket=cpt_g.x&fps=3", WATCH, Some("a"), "/v1/streams/a.mjpeg?fps=3"),
            ("/v1/streams/a/watch?ticket=cpt_g.x", WATCH, Some("a"), "/v1/streams/a/watch"),
            (
                "https://h:1/v1/streams/a/watch?ticket=cpt_g.x",
                WATCH,
                Some("a"),
                "https://h:1/v1/streams/a/watch",
            ),
        ] {
            assert_eq!(taken(uri, need), (shown(stream), rest.to_owned()), "{uri}");
        }
    }

    #[test]
    fn others_show_none() {
        for (uri, need) in [
            ("/v1/stream", STREAM),
            ("/v1/stream?want=both", STREAM),
            ("/v1/stream?ticket=a&ticket=b", STREAM),
            ("/v1/streams?ticket=a", WATCH),
            ("/v1/models?ticket=a", Need::Key),
            ("/v1/pose?ticket=a", Need::Scope(Scope::Photo)),
            ("/metrics?ticket=a", Need::Scope(Scope::Admin)),
        ] {
            assert_eq!(taken(uri, need), (None, uri.to_owned()));
        }
    }
}
