//! How [`object_store`] speaks HTTP here: over the TLS that the rest of the process has. Its own client would bring another
//! implementation of it.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector as Tcp},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpService,
    },
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::timeout;

/// How long a connection, and a request with its whole answer, may take.
const CONNECTING: Duration = Duration::from_secs(5);
const ANSWERING: Duration = Duration::from_secs(20);
/// How long a connection is kept that nobody uses: less than servers do.
const IDLE: Duration = Duration::from_secs(15);

/// The service has no room left.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {body}")]
pub(super) struct NoRoom {
    status: StatusCode,
    body: String,
}

/// There was no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer in {} s", ANSWERING.as_secs())]
struct Late;

/// Whether an error has come of one of this kind.
pub(super) fn caused_by<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    error.is::<E>() || error.source().is_some_and(caused_by::<E>)
}

/// Makes clients.
#[derive(Debug, Default)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| object_store::Error::Generic { store: "TLS", source: error.into() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECTING));
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(tls);
        Ok(HttpClient::new(Https(client)))
    }
}

/// A client with its connections.
struct Https(Client<HttpsConnector<Tcp>, HttpRequestBody>);

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Https")
    }
}

#[async_trait::async_trait]
impl HttpService for Https {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = timeout(ANSWERING, self.answer(request)).await;
        answer.unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, Late)))
    }
}

impl Https {
    /// The answer, whole.
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.0.request(request).await.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, error)
        })?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
        let body: Bytes = body.to_bytes();
        if parts.status == StatusCode::INSUFFICIENT_STORAGE {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Err(HttpError::new(HttpErrorKind::Unknown, NoRoom { status: parts.status, body }));
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}
