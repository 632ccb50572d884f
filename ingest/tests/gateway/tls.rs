//! The gateway over TLS: HTTP/1.1, HTTP/2, WebSockets, and those who mean harm.

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity};
use cloudpose_ingest::{Books, Config, Error, Gateway, TlsConfig};
use cloudpose_wire::ws::ServerMessage;
use h2::client::SendRequest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};
use tokio_tungstenite::client_async;

use crate::stage::{Client, Heard, JPEG, Server, event, ops, soon};

/// Nothing that is taken takes as long.
const SHORT: Duration = Duration::from_secs(1);

/// An authority, and a folder with what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { issuer, folder };
        authority.sign("localhost");
        authority
    }

    /// Writes a certificate and its key.
    fn sign(&self, name: &str) {
        let (certificate, key) = self.signed(name);
        let path = self.folder.path();
        fs::write(path.join("key.pem"), key).unwrap();
        fs::write(path.join("cert.pem"), certificate).unwrap();
    }

    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn config(&self) -> TlsConfig {
        let path = |name: &str| Some(self.folder.path().join(name));
        TlsConfig { tls_cert: path("cert.pem"), tls_key: path("key.pem"), tls_client_ca: None }
    }

    async fn server(&self, config: Config) -> Server {
        Server::with_worker(Config { tls: self.config(), ..config }).await
    }

    /// Connects to `server` as one who believes this authority and speaks `protocols`.
    async fn connect(&self, server: &Server, protocols: &[&str]) -> TlsStream<TcpStream> {
        soon(self.try_connect(server, protocols, None)).await.unwrap()
    }

    async fn try_connect(
        &self,
        server: &Server,
        protocols: &[&str],
        shows: Option<(String, String)>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Connects by HTTP/2; what moves the connection is in the set.
    async fn many(
        &self,
        server: &Server,
        client: &h2::client::Builder,
    ) -> (SendRequest<Bytes>, JoinSet<Result<(), h2::Error>>) {
        let stream = self.connect(server, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection) = soon(client.handshake(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        (soon(requests.ready()).await.unwrap(), driver)
    }
}

/// The answer to one request on a connection of its own.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, close: bool) -> String {
    let end = if close { "connection: close\r\n" } else { "" };
    let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{end}\r\n");
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    let mut all = Vec::new();
    while !all.ends_with(b"alive") {
        if soon(stream.read_buf(&mut all)).await.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// A photo to be annotated, or what else is asked for at `path`.
fn request(method: &str, path: &str) -> hyper::Request<()> {
    let uri = format!("https://localhost{path}");
    let request = hyper::Request::builder().method(method).uri(uri).header("content-type", "image/jpeg");
    request.header("accept", "image/jpeg").body(()).unwrap()
}

/// Posts a photo, and waits for no answer.
async fn post(requests: &mut SendRequest<Bytes>) -> h2::client::ResponseFuture {
    *requests = soon(requests.clone().ready()).await.unwrap();
    let (answer, mut body) = requests.send_request(request("POST", "/v1/pose"), false).unwrap();
    body.send_data(JPEG.into(), true).unwrap();
    answer
}

async fn whole(mut body: h2::RecvStream) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        whole.extend_from_slice(&data);
    }
    whole
}

#[tokio::test]
async fn http_1_http_2_and_websockets_are_served() {
    let authority = Authority::new();
    let server = authority.server(Config::default()).await;
    let mut one = authority.connect(&server, &["http/1.1"]).await;
    assert!(ask(&mut one, true).await.starts_with("HTTP/1.1 200 "));
    // Whoever says nothing of protocols speaks this one.
    assert!(ask(&mut authority.connect(&server, &[]).await, true).await.starts_with("HTTP/1.1 200 "));

    let (mut requests, _driver) = authority.many(&server, &h2::client::Builder::new()).await;
    let answers = [post(&mut requests).await, post(&mut requests).await];
    for answer in answers {
        let answer = soon(answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(whole(answer.into_body()).await.starts_with("\u{ff}\u{d8} picture".as_bytes()));
    }
    let websocket = requests.send_request(request("GET", "/v1/stream"), true).unwrap().0;
    assert_eq!(soon(websocket).await.unwrap().status(), 426);

    let stream = authority.connect(&server, &["http/1.1"]).await;
    let (socket, _) = soon(client_async("wss://localhost/v1/stream?want=both", stream)).await.unwrap();
    let mut client = Client(socket);
    assert!(matches!(client.next().await, Heard::Message(ServerMessage::Hello { .. })));
    client.image(JPEG).await;
    assert_eq!(client.result(true).await, 1);
    server.token.cancel();
    client.error(cloudpose_wire::ws::ErrorCode::ShuttingDown).await;
    assert_eq!(client.next().await, Heard::Closed(1001));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_kept_out_of_http_2_too() {
    let authority = Authority::new();
    let server = authority.server(Config::default()).await;
    let (mut requests, _driver) = authority.many(&server, &h2::client::Builder::new()).await;
    for (origin, status) in [("https://localhost", 200), ("https://elsewhere.example.com", 403)] {
        let mut request = request("POST", "/v1/pose");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let (answer, mut body) = requests.send_request(request, false).unwrap();
        body.send_data(JPEG.into(), true).unwrap();
        assert_eq!(soon(answer).await.unwrap().status(), status, "{origin}");
    }
}

/// The status of an answer to a request that needs a key where keys are asked for, and what it says.
async fn models(requests: &mut SendRequest<Bytes>) -> (u16, String) {
    *requests = soon(requests.clone().ready()).await.unwrap();
    let answer = soon(requests.send_request(request("GET", "/v1/models"), true).unwrap().0).await.unwrap();
    let status = answer.status().as_u16();
    (status, String::from_utf8(whole(answer.into_body()).await).unwrap())
}

#[tokio::test]
async fn connections_of_a_tenant_are_counted_once_however_much_they_ask_for() {
    let authority = Authority::new();
    let quota = "connections=1".parse().unwrap();
    let server = authority.server(Config { tenant_quota: quota, ..Config::default() }).await;
    let (mut kept, kept_driver) = authority.many(&server, &h2::client::Builder::new()).await;
    for _ in 0..3 {
        assert_eq!(models(&mut kept).await.0, 200);
    }
    let (mut refused, _driver) = authority.many(&server, &h2::client::Builder::new()).await;
    let (status, problem) = models(&mut refused).await;
    assert_eq!(status, 429);
    assert!(problem.contains("over-quota") && problem.contains("your tenant"), "{problem}");
    assert_eq!(models(&mut kept).await.0, 200, "the one that is counted goes on");
    drop((kept, kept_driver));
    // It may be another tenant's too, and stays.
    soon(async {
        while models(&mut refused).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn new_certificate_is_taken_in_and_connections_stay() {
    let authority = Authority::new();
    let server = authority.server(Config::default()).await;
    let mut before = authority.connect(&server, &["http/1.1"]).await;
    assert!(ask(&mut before, false).await.contains("200 OK"));
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let first = shown(&before);
    // What cannot be used changes nothing.
    fs::write(authority.folder.path().join("cert.pem"), "nonsense").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(shown(&authority.connect(&server, &["http/1.1"]).await), first);
    authority.sign("localhost");
    soon(async {
        while shown(&authority.connect(&server, &["http/1.1"]).await) == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(ask(&mut before, false).await.contains("200 OK"));
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_authority_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = TlsConfig { tls_client_ca: Some(authority.folder.path().join("ca.pem")), ..authority.config() };
    let server = Server::start(Config { tls, ..Config::default() }).await;
    let protocols = &["http/1.1"];
    for (shows, welcome) in
        [(Some(authority.signed("camera-1")), true), (Some(other.signed("camera-1")), false), (None, false)]
    {
        let mut stream = soon(authority.try_connect(&server, protocols, shows)).await.unwrap();
        // With TLS 1.3 a client hears of it after its part of the handshake.
        let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answered = soon(async {
            stream.write_all(request).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.map(|_| answer)
        })
        .await;
        match answered {
            Ok(answer) => assert!(welcome && answer.starts_with(b"HTTP/1.1 200 ")),
            Err(error) => assert!(!welcome, "{error}"),
        }
    }
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_is_cut_off() {
    let authority = Authority::new();
    let server = authority.server(Config { head_timeout: SHORT, ..Config::default() }).await;
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = soon(TcpStream::connect(server.address)).await.unwrap();
        soon(stream.write_all(begin)).await.unwrap();
        assert_eq!(soon(stream.read_to_end(&mut Vec::new())).await.unwrap_or(0), 0);
    }
    // Nor who says nothing after it.
    for protocol in ["http/1.1", "h2"] {
        let mut stream = authority.connect(&server, &[protocol]).await;
        let _end = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    // And when it stops, nobody waits for them.
    let _silent = soon(TcpStream::connect(server.address)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_tls() {
    let authority = Authority::new();
    let server = authority.server(Config::default()).await;
    let answer = reqwest::get(server.url("/v1/models")).await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:cloudpose:problem:https-only");
    assert_eq!(problem["detail"], "this port speaks TLS: use https:// or wss://");
}

#[tokio::test]
async fn answer_that_nobody_takes_is_cut_off_and_its_seat_is_free() {
    let authority = Authority::new();
    let config =
        Config { max_sessions: 1, write_timeout: SHORT, tls: authority.config(), ..Config::default() };
    let server = Server::start(config).await;
    let mut client = h2::client::Builder::new();
    client.initial_window_size(1000);
    let (mut requests, mut driver) = authority.many(&server, &client).await;
    let answer = post(&mut requests).await;
    draw(&server, 100_000).await;
    let stuck = soon(answer).await.unwrap();
    assert_eq!(stuck.status(), 200);
    let (mut others, _other) = authority.many(&server, &h2::client::Builder::new()).await;
    assert_eq!(text(&mut others).await, 503);
    // However the client hears of it, and though its connection has carried something meanwhile.
    while soon(requests.clone().ready()).await.is_ok() && driver.try_join_next().is_none() {
        let Ok((health, _)) = requests.send_request(request("GET", "/health"), true) else { break };
        if soon(health).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    soon(async {
        while text(&mut others).await != 415 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(stuck);
}

/// The status of a request that is no photo, if it gets a seat: 415.
async fn text(requests: &mut SendRequest<Bytes>) -> u16 {
    let mut request = request("POST", "/v1/pose");
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    let (answer, mut body) = requests.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"x"), true).unwrap();
    soon(answer).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn who_gives_up_all_that_he_asks_for_is_cut_off() {
    let authority = Authority::new();
    let server = Server::start(Config { tls: authority.config(), ..Config::default() }).await;
    let (mut requests, mut driver) = authority.many(&server, &h2::client::Builder::new()).await;
    let mut asked = 0;
    let cut_off = async {
        loop {
            let Ok((answer, mut body)) = requests.send_request(request("POST", "/v1/pose"), false) else {
                break;
            };
            asked += 1;
            drop(body.send_data(JPEG.into(), true));
            tokio::select! {
                // It is being worked on.
                delivery = server.frame() => {
                    delivery.ack().await;
                    drop((answer, body));
                }
                _ = driver.join_next() => break,
            }
            let Ok(ready) = requests.ready().await else { break };
            requests = ready;
        }
    };
    soon(cut_off).await;
    assert!((100..300).contains(&asked), "{asked}");
}

#[tokio::test]
async fn files_that_cannot_be_used_say_so() {
    let authority = Authority::new();
    let key = Authority::new();
    let with = |cert: &Path, key: &Path| TlsConfig {
        tls_cert: Some(cert.into()),
        tls_key: Some(key.into()),
        tls_client_ca: None,
    };
    let cert = authority.folder.path().join("cert.pem");
    for (tls, words) in [
        (with(&authority.folder.path().join("none.pem"), &cert), "none.pem cannot be read: No such file"),
        (with(&cert, &key.folder.path().join("key.pem")), "is not that of the first certificate"),
    ] {
        let config = Config { tls, ..Config::default() };
        let bus = Bus::local(Capacity::default());
        let error = Gateway::bind(config, bus, Books::default(), ops()).await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }) && error.to_string().contains(words), "{error}");
    }
}

/// Answers the next frame with a picture of `len` bytes.
async fn draw(server: &Server, len: usize) {
    let delivery = server.frame().await;
    let header = &delivery.frame.header;
    let picture = Bytes::from(vec![0xFF; len]);
    server.bus.reply(header.done(event(header).into(), Some(picture))).await.unwrap();
    delivery.ack().await;
}
