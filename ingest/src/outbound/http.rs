//! HTTP/1.1 as a client.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
    http::request,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use url::Url;

use super::{
    Reach, Trouble,
    connect::{addresses, connect, secure},
};

/// Of an answer's head, in bytes.
const MOST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 64;

/// A connection to a server, on which requests follow one another. It ends when it is dropped.
pub(crate) struct Line {
    /// To whom it leads: scheme, host and port.
    origin: url::Origin,
    requests: SendRequest<Full<Bytes>>,
    /// Carries the bytes.
    _driver: JoinSet<()>,
}

impl Line {
    /// Connects to the server of `url`, at an address that may be reached.
    pub(crate) async fn open(url: &Url, reach: &Reach) -> Result<Self, Trouble> {
        let addresses = addresses(url, reach).await?;
        let stream = connect(&addresses).await?;
        let origin = url.origin();
        if url.scheme() == "https" {
            Self::speak(origin, TokioIo::new(secure(stream, url).await?)).await
        } else {
            Self::speak(origin, TokioIo::new(stream)).await
        }
    }

    async fn speak(
        origin: url::Origin,
        io: impl Read + Write + Send + Unpin + 'static,
    ) -> Result<Self, Trouble> {
        let spoken =
            http1::Builder::new().max_buf_size(MOST_HEAD).max_headers(MOST_HEADERS).handshake(io).await;
        let (requests, connection) =
            spoken.map_err(|error| Trouble::Gone(format!("it does not speak HTTP: {error}")))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Who waits for the answer is told.
            connection.await.ok();
        });
        Ok(Self { origin, requests, _driver: driver })
    }

    /// Whether the next request may go to `url` on it. It waits for the end of the answer before.
    pub(crate) async fn is_ready_for(&mut self, url: &Url) -> bool {
        self.origin == url.origin() && self.requests.ready().await.is_ok()
    }

    /// The head of the answer to a request. How long is waited is the caller's to say.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Trouble> {
        let answer = self.requests.send_request(request).await;
        answer.map_err(|error| Trouble::Gone(format!("it gives no answer that is HTTP: {error}")))
    }
}

/// A request to `url`, with what belongs to each of ours.
pub(crate) fn request(method: Method, url: &Url) -> request::Builder {
    Request::builder()
        .method(method)
        .uri(target(url))
        .header(header::HOST, authority(url))
        .header(header::USER_AGENT, concat!("cloudpose/", env!("CARGO_PKG_VERSION")))
}

/// What stands in the request line.
pub(crate) fn target(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// Host and port, the port only if it is another than the scheme's.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A body of at most `most` bytes.
pub(crate) async fn whole(mut body: Incoming, most: usize) -> Result<Bytes, Trouble> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Gone(format!("its connection broke: {error}")))?;
        if let Some(more) = frame.data_ref() {
            if bytes.len() + more.len() > most {
                return Err(Trouble::Wrong(format!("it sends more than {most} bytes")));
            }
            bytes.extend_from_slice(more);
        }
    }
    Ok(bytes.freeze())
}
