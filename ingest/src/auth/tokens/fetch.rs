//! The keys of those who sign, from where their provider publishes them.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use hyper::{Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::trusted::by_the_system;

/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A key has less than 2 kB, and few are in force at once.
const MOST_BYTES: usize = 256 << 10;

/// Where a key set is published.
pub(super) struct Source {
    address: Uri,
    /// Unless it is on this machine, in the clear.
    tls: Option<TlsConnector>,
}

impl Source {
    /// # Errors
    /// If this system says of nobody that certificates of his are good.
    pub(super) fn new(address: Uri) -> Result<Self, String> {
        let is_secure = address.scheme_str() == Some("https");
        let tls = is_secure.then(|| by_the_system().map(TlsConnector::from)).transpose()?;
        Ok(Self { address, tls })
    }

    /// What is published there now.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, String> {
        timeout(PATIENCE, self.get())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
    }

    async fn get(&self) -> Result<Vec<u8>, String> {
        let host = self.address.host().ok_or("the address names no host")?;
        let port = self.address.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.ask(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
                self.ask(tls.connect(name, stream).await.map_err(|error| error.to_string())?).await
            }
        }
    }

    async fn ask(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Vec<u8>, String> {
        let said = |error: hyper::Error| error.to_string();
        let (mut requests, connection) = http1::handshake(TokioIo::new(io)).await.map_err(said)?;
        let authority = self.address.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(self.address.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("cloudpose/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let answer = async {
            let answer = requests.send_request(request).await.map_err(said)?;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answers {}", answer.status()));
            }
            let mut chunks = Body::new(answer.into_body()).into_data_stream();
            let mut whole = Vec::new();
            while let Some(chunk) = chunks.next().await {
                whole.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
                if whole.len() > MOST_BYTES {
                    return Err(format!("it is larger than {MOST_BYTES} bytes"));
                }
            }
            Ok(whole)
        };
        let drive = async {
            connection.await.ok();
            std::future::pending().await
        };
        tokio::select! {
            answer = answer => answer,
            never = drive => never,
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// A server that answers so, once each; what it was asked.
    fn serving(answers: Vec<Vec<u8>>) -> (Uri, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/keys?v=1", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            answers
                .into_iter()
                .map(|answer| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut asked = [0; 4096];
                    let len = stream.read(&mut asked).unwrap();
                    // One that does not read to the end is answered all the same.
                    stream.write_all(&answer).ok();
                    String::from_utf8_lossy(&asked[..len]).into_owned()
                })
                .collect()
        });
        (address.parse().unwrap(), served)
    }

    #[tokio::test]
    async fn what_is_published_is_fetched_within_bounds() {
        let large =
            [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec(), vec![b' '; MOST_BYTES + 1]].concat();
        let (address, served) = serving(vec![
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            large,
            b"nonsense".to_vec(),
        ]);
        let source = Source::new(address.clone()).unwrap();
        assert_eq!(source.fetch().await.as_deref(), Ok(&b"{}"[..]));
        assert!(source.fetch().await.unwrap_err().contains("302"));
        assert!(source.fetch().await.unwrap_err().contains("larger than"));
        assert!(source.fetch().await.is_err());
        let asked = served.join().unwrap();
        assert!(asked[0].starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{}", asked[0]);
        assert!(source.fetch().await.is_err(), "nobody is there any more");
    }
}
