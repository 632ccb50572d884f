//! The keys of those who sign, from where their provider publishes them.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, StatusCode, Uri, header};
use tokio::time::timeout;
use url::Url;

use crate::outbound::{
    Reach, Trouble, by_the_system,
    http::{Line, request, whole},
};

/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A key has less than 2 kB, and few are in force at once.
const MOST_BYTES: usize = 256 << 10;

/// Where a key set is published: by https, unless it is on this machine.
pub(super) struct Source(Url);

impl Source {
    /// # Errors
    /// If this system says of nobody that certificates of his are good.
    pub(super) fn new(address: &Uri) -> Result<Self, String> {
        let address = Url::parse(&address.to_string()).map_err(|error| error.to_string())?;
        if address.scheme() == "https" {
            by_the_system()?;
        }
        Ok(Self(address))
    }

    /// What is published there now.
    pub(super) async fn fetch(&self) -> Result<Bytes, String> {
        let fetched = timeout(PATIENCE, self.get()).await;
        let late = || Err(Trouble::Gone(format!("no answer within {} s", PATIENCE.as_secs())));
        fetched.unwrap_or_else(|_| late()).map_err(Trouble::why)
    }

    async fn get(&self) -> Result<Bytes, Trouble> {
        let request = request(Method::GET, &self.0).header(header::ACCEPT, "application/json");
        let request = request.body(Full::default()).map_err(|error| Trouble::Wrong(error.to_string()))?;
        let mut line = Line::open(&self.0, &Reach::Anywhere).await?;
        let answer = line.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(Trouble::Gone(format!("it answers {}", answer.status())));
        }
        whole(answer.into_body(), MOST_BYTES).await
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
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
        let source = Source::new(&address).unwrap();
        assert_eq!(source.fetch().await.as_deref(), Ok(&b"{}"[..]));
        assert!(source.fetch().await.unwrap_err().contains("302"));
        assert!(source.fetch().await.unwrap_err().contains("more than"));
        assert!(source.fetch().await.is_err());
        let asked = served.join().unwrap();
        assert!(asked[0].starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{}", asked[0]);
        assert!(source.fetch().await.is_err(), "nobody is there any more");
    }
}
