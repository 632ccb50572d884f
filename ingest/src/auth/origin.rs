//! Which sites' pages may use the gateway. A browser sends them along with whatever lets its user in: where he is in the
//! network, if nothing else. It says whose page it was (`Origin`); programs say nothing, and are let pass.

use std::{fmt, str::FromStr};

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use crate::doors::Problem;

/// A site as browsers name it: scheme, host, and port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// With the port.
    host: String,
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write it like https://app.example.com or http://192.168.1.7:8080";
        let uri: Uri = text.parse().map_err(|_| wrong)?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong) };
        let whole = matches!(scheme, "http" | "https")
            && !host.as_str().contains('@')
            // The URI's path is never empty.
            && text.len() == scheme.len() + "://".len() + host.as_str().len();
        if !whole {
            return Err(wrong);
        }
        let scheme = scheme.to_ascii_lowercase();
        let host = without_default_port(&scheme, host.as_str());
        Ok(Self { scheme, host })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}

fn without_default_port(scheme: &str, host: &str) -> String {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase()
}

/// Whose page sends a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A program, or one of our own pages.
    Ours,
    /// A page of a site that was allowed.
    Allowed(Origin),
    /// Another site's; nothing if it does not say which.
    Foreign(Option<Origin>),
}

impl Sender {
    pub(super) fn of(request: &Request, allowed: &[Origin]) -> Self {
        let Some(value) = request.headers().get(header::ORIGIN) else { return Self::Ours };
        let Some(origin): Option<Origin> = value.to_str().ok().and_then(|value| value.parse().ok()) else {
            return Self::Foreign(None);
        };
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|host| host.as_str()));
        // The scheme is not compared: TLS ends before us.
        if host.is_some_and(|host| without_default_port(&origin.scheme, host) == origin.host) {
            Self::Ours
        } else if allowed.contains(&origin) {
            Self::Allowed(origin)
        } else {
            Self::Foreign(Some(origin))
        }
    }

    /// The answer to a request that this sender may not make.
    pub(super) fn refusal(&self, request: &Request) -> Option<Problem> {
        // A page of another site cannot read the answer to any other one, which changes nothing.
        let does_something = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
            || request.headers().contains_key(header::UPGRADE);
        match self {
            Self::Foreign(Some(origin)) if does_something => Some(Problem::foreign_origin(format!(
                "pages of {origin} may not use this server; whoever runs it may allow them with --allow-origin {origin}"
            ))),
            Self::Foreign(None) if does_something => {
                Some(Problem::foreign_origin("pages of unknown origin may not use this server"))
            }
            _ => None,
        }
    }

    /// What a browser asks before a request of an allowed site's page, if `request` asks it.
    pub(super) fn preflight(&self, request: &Request) -> Option<Response> {
        let asks = *request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let Self::Allowed(_) = self else { return None };
        asks.then(|| {
            let headers = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE"),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, accept, traceparent"),
                (header::ACCESS_CONTROL_MAX_AGE, "600"),
            ];
            (StatusCode::NO_CONTENT, headers).into_response()
        })
    }

    /// Lets an allowed site's page read the answer.
    pub(super) fn reveal(&self, response: &mut Response) {
        let Self::Allowed(origin) = self else { return };
        let origin = HeaderValue::try_from(origin.to_string()).expect("it came in a header");
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("retry-after, www-authenticate");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn sender(host: &str, origin: Option<&str>) -> Sender {
        let mut request = Request::post("/v1/pose").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let allowed = ["https://app.example.com".parse().unwrap(), "http://10.0.0.7:8080".parse().unwrap()];
        Sender::of(&request.body(Body::empty()).unwrap(), &allowed)
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for (text, same) in [
            ("https://App.example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com:80", "http://app.example.com"),
            ("http://app.example.com:443", "http://app.example.com:443"),
            ("http://[::1]:60000", "http://[::1]:60000"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), same);
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/page",
            "https://app.example.com?x",
            "https://me@app.example.com",
            "ftp://app.example.com",
            "file:///tmp",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn our_own_pages_and_programs_pass() {
        for (host, origin) in [
            ("pose.example.com", None),
            ("pose.example.com", Some("https://pose.example.com")),
            ("pose.example.com:443", Some("https://pose.example.com")),
            ("Pose.example.com", Some("http://pose.example.com")),
            ("127.0.0.1:60000", Some("http://127.0.0.1:60000")),
            ("[::1]:60000", Some("http://[::1]:60000")),
        ] {
            assert_eq!(sender(host, origin), Sender::Ours, "{host} {origin:?}");
        }
    }

    #[test]
    fn other_sites_are_foreign_unless_they_are_allowed() {
        let allowed = |origin: &str| Sender::Allowed(origin.parse().unwrap());
        let host = "pose.example.com";
        assert_eq!(sender(host, Some("https://app.example.com")), allowed("https://app.example.com"));
        assert_eq!(sender(host, Some("http://10.0.0.7:8080")), allowed("http://10.0.0.7:8080"));
        for origin in [
            "https://evil.example",
            "http://app.example.com",
            "http://10.0.0.7",
            "https://pose.example.com.evil.example",
            "https://pose.example.com:8443",
            "https://example.com",
        ] {
            assert_eq!(sender(host, Some(origin)), Sender::Foreign(Some(origin.parse().unwrap())));
        }
        for origin in ["null", "", "file://", "https://pose.example.com/"] {
            assert_eq!(sender(host, Some(origin)), Sender::Foreign(None), "{origin}");
        }
    }
}
