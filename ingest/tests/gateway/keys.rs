//! Who may what, where clients show keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cloudpose_ingest::{
    AuthConfig, AuthWay, Config,
    keys::{Digest, Key, KeyFile, Scope},
};
use cloudpose_wire::ws::ErrorCode;
use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, client::IntoClientRequest as _},
};

use crate::stage::{Client, Heard, JPEG, Server, soon};

/// What an address asks for.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Nothing,
    AnyKey,
    For(Scope),
}

/// Every address, with what it asks for. One that is new must be added here.
const ROUTES: [(&str, &str, Asks); 62] = [
    ("GET", "/", Asks::Nothing),
    ("GET", "/app.js", Asks::Nothing),
    ("GET", "/client/cloudpose.js", Asks::Nothing),
    ("GET", "/docs", Asks::Nothing),
    ("GET", "/docs/swagger-ui.css", Asks::Nothing),
    ("GET", "/sample.jpg", Asks::Nothing),
    ("GET", "/openapi.json", Asks::Nothing),
    ("GET", "/health", Asks::Nothing),
    ("GET", "/v1/models", Asks::AnyKey),
    ("POST", "/v1/tickets", Asks::AnyKey),
    ("POST", "/v1/pose", Asks::For(Scope::Photo)),
    ("POST", "/v1/classify", Asks::For(Scope::Photo)),
    ("POST", "/predict", Asks::For(Scope::Photo)),
    ("POST", "/api/pose_detection", Asks::For(Scope::Photo)),
    ("POST", "/api/pose_detection_annotation", Asks::For(Scope::Photo)),
    ("GET", "/v1/stream", Asks::For(Scope::Stream)),
    ("HEAD", "/v1/stream", Asks::For(Scope::Stream)),
    ("GET", "/v1/streams", Asks::For(Scope::Watch)),
    ("GET", "/v1/streams/{stream}.mjpeg", Asks::For(Scope::Watch)),
    ("GET", "/v1/streams/{stream}/watch", Asks::For(Scope::Watch)),
    ("GET", "/v1/cameras", Asks::For(Scope::Cameras)),
    ("POST", "/v1/cameras", Asks::For(Scope::Cameras)),
    ("GET", "/v1/cameras/{stream}", Asks::For(Scope::Cameras)),
    ("PATCH", "/v1/cameras/{stream}", Asks::For(Scope::Cameras)),
    ("DELETE", "/v1/cameras/{stream}", Asks::For(Scope::Cameras)),
    ("HEAD", "/v1/models", Asks::AnyKey),
    ("GET", "/v2", Asks::AnyKey),
    ("GET", "/v2/health/live", Asks::Nothing),
    ("GET", "/v2/health/ready", Asks::Nothing),
    ("GET", "/v2/models/{model}", Asks::AnyKey),
    ("GET", "/v2/models/{model}/ready", Asks::AnyKey),
    ("GET", "/v2/models/{model}/config", Asks::AnyKey),
    ("GET", "/v2/models/stats", Asks::AnyKey),
    ("GET", "/v2/models/{model}/stats", Asks::AnyKey),
    ("POST", "/v2/models/{model}/infer", Asks::For(Scope::Photo)),
    ("GET", "/v2/models/{model}/versions/{version}", Asks::AnyKey),
    ("GET", "/v2/models/{model}/versions/{version}/ready", Asks::AnyKey),
    ("GET", "/v2/models/{model}/versions/{version}/config", Asks::AnyKey),
    ("GET", "/v2/models/{model}/versions/{version}/stats", Asks::AnyKey),
    ("POST", "/v2/models/{model}/versions/{version}/infer", Asks::For(Scope::Photo)),
    ("POST", "/v2/repository/index", Asks::AnyKey),
    ("POST", "/v2/repository/models/{model}/load", Asks::AnyKey),
    ("POST", "/v2/repository/models/{model}/unload", Asks::AnyKey),
    ("GET", "/info", Asks::Nothing),
    ("GET", "/model/registry", Asks::AnyKey),
    ("POST", "/model/add", Asks::AnyKey),
    ("POST", "/model/remove", Asks::AnyKey),
    ("POST", "/model/clear", Asks::AnyKey),
    ("POST", "/infer/keypoints_detection", Asks::For(Scope::Photo)),
    ("POST", "/infer/object_detection", Asks::For(Scope::Photo)),
    ("POST", "/infer/classification", Asks::For(Scope::Photo)),
    ("POST", "/v1/jobs", Asks::For(Scope::Jobs)),
    ("GET", "/v1/jobs", Asks::For(Scope::Jobs)),
    ("POST", "/v1/jobs/{job}/callback", Asks::For(Scope::Jobs)),
    ("GET", "/v1/jobs/{job}", Asks::For(Scope::Jobs)),
    ("DELETE", "/v1/jobs/{job}", Asks::For(Scope::Jobs)),
    ("GET", "/v1/jobs/{job}/results", Asks::For(Scope::Jobs)),
    ("GET", "/v1/jobs/{job}/items/{item}/overlay", Asks::For(Scope::Jobs)),
    ("GET", "/v1/jobs/{job}/items/{item}/thumbnail", Asks::For(Scope::Jobs)),
    ("POST", "/upload", Asks::For(Scope::Jobs)),
    ("GET", "/status/{image_id}", Asks::For(Scope::Jobs)),
    ("GET", "/metrics", Asks::For(Scope::Admin)),
];

pub(crate) struct Keyed {
    pub(crate) folder: TempDir,
    pub(crate) server: Server,
}

impl Keyed {
    /// A gateway that asks for keys: one for each scope, named and spelled as it, and one for everything that has expired.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys.json"));
        for scope in Scope::ALL {
            file.add(key(scope.as_str(), &[scope], None)).unwrap();
        }
        file.add(key("expired", &Scope::ALL, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)))).unwrap();
        let server = Server::with_worker(with_keys(&folder)).await;
        Self { folder, server }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    pub(crate) fn file(&self) -> KeyFile {
        KeyFile::new(self.path())
    }

    async fn ask(&self, method: &str, path: &str, secret: Option<&str>) -> Answer {
        let request = reqwest::Client::new().request(method.parse().unwrap(), self.server.url(path));
        let request = match secret {
            Some(secret) => request.bearer_auth(secret),
            None => request,
        };
        let request = if method == Method::POST { request.body("no image") } else { request };
        let response = soon(request.send()).await.unwrap();
        let header = |name| {
            let value: Option<&reqwest::header::HeaderValue> = response.headers().get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        Answer {
            status: response.status(),
            challenge: header("www-authenticate"),
            kind: header("content-type").unwrap_or_default(),
            text: soon(response.text()).await.unwrap(),
        }
    }

    /// Waits until a key is good for streams, or is not.
    async fn until(&self, secret: &str, status: StatusCode) {
        soon(async {
            while self.ask("GET", "/v1/stream", Some(secret)).await.status != status {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Opens a WebSocket that offers these protocols.
    async fn socket(&self, protocols: &str) -> Result<(Client, Option<String>), tungstenite::Error> {
        let mut request = format!("ws://{}/v1/stream", self.server.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        let (socket, response) = soon(connect_async(request)).await?;
        let chosen = response.headers().get("sec-websocket-protocol");
        Ok((Client(socket), chosen.map(|value| value.to_str().unwrap().to_owned())))
    }
}

/// What asks for the keys in `folder`.
pub(crate) fn with_keys(folder: &TempDir) -> Config {
    let keys = Some(folder.path().join("keys.json"));
    Config { auth: AuthConfig { keys, ..AuthConfig::default() }, ..Config::default() }
}

struct Answer {
    status: StatusCode,
    challenge: Option<String>,
    kind: String,
    text: String,
}

pub(crate) fn key(secret: &str, scopes: &[Scope], expires: Option<SystemTime>) -> Key {
    Key {
        name: secret.parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        scopes: scopes.iter().copied().collect(),
        expires,
        sha256: Digest::of(secret),
    }
}

fn offered(secret: &str) -> String {
    format!("cloudpose.v1, cloudpose.bearer.{}", URL_SAFE_NO_PAD.encode(secret))
}

#[tokio::test]
async fn every_address_lets_in_whom_it_should_and_nobody_else() {
    let keyed = Keyed::start().await;
    let realm = "Bearer realm=\"cloudpose\"";
    for (method, path, asks) in ROUTES {
        let ask = async |secret| keyed.ask(method, path, secret).await;
        let refused = |answer: Answer, status: u16, challenge: &str| {
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.challenge.as_deref(), Some(challenge), "{method} {path}");
            let of_others = ["/v2", "/model/", "/infer/"].iter().any(|folder| path.starts_with(folder));
            let kind = if of_others { "application/json" } else { "application/problem+json" };
            assert_eq!(answer.kind, kind, "{method} {path}");
            if method != "HEAD" {
                let problem: Value = serde_json::from_str(&answer.text).unwrap();
                assert_eq!(problem["status"], status, "{method} {path}");
                assert!(problem["detail"].as_str().unwrap().contains("key"), "{method} {path}: {problem}");
            }
        };
        let welcome = |answer: &Answer| {
            assert!(answer.status != 401 && answer.status != 403, "{method} {path}: {}", answer.text);
            assert_eq!(answer.challenge, None, "{method} {path}");
        };
        let strangers = [None, Some("nobody's"), Some("expired"), Some("")];
        if let Asks::Nothing = asks {
            for secret in strangers.into_iter().chain(Scope::ALL.map(|scope| Some(scope.as_str()))) {
                welcome(&ask(secret).await);
            }
            continue;
        }
        for secret in strangers {
            let error = secret.map_or("", |_| ", error=\"invalid_token\"");
            refused(ask(secret).await, 401, &format!("{realm}{error}"));
        }
        for scope in Scope::ALL {
            let answer = ask(Some(scope.as_str())).await;
            match asks {
                Asks::For(wanted) if wanted != scope => {
                    let challenge = format!("{realm}, error=\"insufficient_scope\", scope=\"{wanted}\"");
                    refused(answer, 403, &challenge);
                }
                _ => welcome(&answer),
            }
        }
    }
}

#[tokio::test]
async fn the_description_says_which_key_each_call_asks_for_and_no_call_is_forgotten_here() {
    let keyed = Keyed::start().await;
    let api: Value = serde_json::from_str(&keyed.ask("GET", "/openapi.json", None).await.text).unwrap();
    let known: BTreeMap<(String, &str), Asks> =
        ROUTES.iter().map(|&(method, path, asks)| ((method.to_lowercase(), path), asks)).collect();
    let (mut seen, mut by_ticket) = (BTreeSet::new(), BTreeSet::new());
    for (path, calls) in api["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let scopes = match known.get(&(method.clone(), path)) {
                Some(Asks::For(scope)) => serde_json::json!([scope.as_str()]),
                Some(Asks::AnyKey) => serde_json::json!([]),
                Some(Asks::Nothing) => Value::Null,
                None => panic!("{method} {path} is not in ROUTES"),
            };
            assert_eq!(call["security"][0]["key"], scopes, "{method} {path}");
            if let Some(way) = call["security"].get(1) {
                assert_eq!(way["ticket"], scopes, "{method} {path}");
                by_ticket.insert(path.clone());
            }
            assert_eq!(call["responses"].get("401").is_some(), !scopes.is_null(), "{method} {path}");
            seen.insert(path.clone());
        }
    }
    assert!(seen.len() >= 7, "{seen:?}");
    let for_media = ["/v1/stream", "/v1/streams/{stream}.mjpeg", "/v1/streams/{stream}/watch"];
    assert_eq!(by_ticket, for_media.map(str::to_owned).into());
    assert_eq!(api["components"]["securitySchemes"]["key"]["scheme"], "bearer");
}

#[tokio::test]
async fn no_key_is_taken_from_the_query() {
    let keyed = Keyed::start().await;
    for query in ["key=stream", "access_token=stream", "token=stream", "authorization=Bearer%20stream"] {
        assert_eq!(keyed.ask("GET", &format!("/v1/stream?{query}"), None).await.status, 401, "{query}");
    }
}

#[tokio::test]
async fn who_is_still_sending_sees_why_he_is_not_let_in() {
    let keyed = Keyed::start().await;
    let large = vec![0; 5 << 20];
    let request =
        reqwest::Client::new().post(keyed.server.url("/v1/pose")).header("content-type", "image/jpeg");
    assert_eq!(soon(request.body(large).send()).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_browsers_websocket_shows_its_key_as_a_protocol_and_hears_the_other_back() {
    let keyed = Keyed::start().await;
    let (mut client, chosen) = keyed.socket(&offered("stream")).await.unwrap();
    assert_eq!(chosen.as_deref(), Some("cloudpose.v1"));
    assert!(matches!(client.next().await, Heard::Message(_)));
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 1);
    for (protocols, status) in [
        ("cloudpose.v1".to_owned(), 401),
        (offered("nobody's"), 401),
        (offered("expired"), 401),
        (offered("photo"), 403),
        ("cloudpose.v1, cloudpose.bearer.!".to_owned(), 401),
    ] {
        match keyed.socket(&protocols).await {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), status, "{protocols}"),
            other => panic!("{protocols}: {:?}", other.map(|(_, chosen)| chosen)),
        }
    }
}

#[tokio::test]
async fn frames_tell_whose_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    KeyFile::new(&path).add(key("door", &[Scope::Photo], None)).unwrap();
    let auth = AuthConfig { keys: Some(path), ..AuthConfig::default() };
    let server = Server::start(Config { auth, ..Config::default() }).await;
    let request = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    let (answer, caller) = tokio::join!(soon(request.bearer_auth("door").body(JPEG).send()), async {
        let delivery = server.frame().await;
        let caller = delivery.frame.header.caller.clone();
        crate::stage::finish(&server.bus, delivery).await;
        caller
    });
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!((caller.tenant.as_str(), caller.key.as_str()), ("acme", "door"));
    assert_eq!(caller.scopes, [Scope::Photo.into()].into());
}

#[tokio::test]
async fn a_session_ends_when_its_key_is_revoked_and_others_go_on() {
    let keyed = Keyed::start().await;
    keyed.file().add(key("other", &[Scope::Stream], None)).unwrap();
    keyed.until("other", StatusCode::UPGRADE_REQUIRED).await;
    let (mut client, _) = keyed.socket(&offered("stream")).await.unwrap();
    let (mut other, _) = keyed.socket(&offered("other")).await.unwrap();
    for client in [&mut client, &mut other] {
        assert!(matches!(client.next().await, Heard::Message(_)));
    }
    keyed.file().revoke(&"acme".parse().unwrap(), &"stream".parse().unwrap()).unwrap();
    assert!(client.error(ErrorCode::Unauthorized).await.contains("no more"));
    assert_eq!(client.next().await, Heard::Closed(4401));
    keyed.until("stream", StatusCode::UNAUTHORIZED).await;
    other.image(JPEG).await;
    assert_eq!(other.result(false).await, 1);
}

#[tokio::test]
async fn watching_ends_when_its_key_is_revoked() {
    let keyed = Keyed::start().await;
    let (mut sender, _) = keyed.socket(&offered("stream")).await.unwrap();
    assert!(matches!(sender.next().await, Heard::Message(_)));
    let listed = keyed.ask("GET", "/v1/streams", Some("watch")).await.text;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let address = format!("/v1/streams/{}.mjpeg", listed["streams"][0]["stream"].as_str().unwrap());
    let request = reqwest::Client::new().get(keyed.server.url(&address)).bearer_auth("watch");
    let mut watched = soon(request.send()).await.unwrap();
    assert_eq!(watched.status(), StatusCode::OK);
    let socket = format!("ws://{}{}", keyed.server.address, address.replace(".mjpeg", "/watch"));
    let mut socket = socket.into_client_request().unwrap();
    socket.headers_mut().insert("authorization", "Bearer watch".parse().unwrap());
    let mut watching = soon(connect_async(socket)).await.unwrap().0;
    keyed.file().revoke(&"acme".parse().unwrap(), &"watch".parse().unwrap()).unwrap();
    while soon(watched.chunk()).await.unwrap().is_some() {}
    let mut told = Vec::new();
    while let Some(Ok(message)) = soon(watching.next()).await {
        told.push(message);
    }
    let [
        tungstenite::Message::Text(_),
        tungstenite::Message::Text(error),
        tungstenite::Message::Close(Some(close)),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(error.contains(r#""code":"unauthorized""#), "{error}");
    assert_eq!(u16::from(close.code), 4401);
    // The stream goes on, for those who may.
    sender.image(JPEG).await;
    assert_eq!(sender.result(false).await, 1);
}

#[tokio::test]
async fn other_machines_are_let_in_only_if_somebody_has_said_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    KeyFile::new(&path).add(key("door", &[Scope::Stream], None)).unwrap();
    let keys = AuthConfig { keys: Some(path), ..AuthConfig::default() };
    let none = AuthConfig { way: Some(AuthWay::None), ..AuthConfig::default() };
    for listen in ["127.0.0.1:0", "127.9.9.9:0", "[::ffff:127.0.0.1]:0"] {
        assert_eq!(bound(listen, AuthConfig::default()).await, Ok(()), "{listen}");
    }
    for listen in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let refused = bound(listen, AuthConfig::default()).await.unwrap_err();
        assert!(refused.contains("--keys") && refused.contains("--auth none"), "{refused}");
        assert_eq!(bound(listen, keys.clone()).await, Ok(()), "{listen}");
        assert_eq!(bound(listen, none.clone()).await, Ok(()), "{listen}");
    }
}

/// Whether a gateway starts on `listen`, or why not.
async fn bound(listen: &str, auth: AuthConfig) -> Result<(), String> {
    let bus = cloudpose_bus::Bus::local(cloudpose_bus::Capacity::default());
    let config = Config { listen: listen.parse().unwrap(), auth, ..Config::default() };
    let bound = cloudpose_ingest::Gateway::bind(config, bus, Default::default(), crate::stage::ops()).await;
    bound.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let auth = AuthConfig { keys: Some(path.clone()), ..AuthConfig::default() };
    let bind = async || bound("127.0.0.1:0", auth.clone()).await.unwrap_err();
    assert!(bind().await.contains("cloudpose keys new"));
    std::fs::write(&path, r#"{"keys":[{"name":"a"}]}"#).unwrap();
    assert!(bind().await.contains("scopes"));
    std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
    let jwks = AuthConfig { jwks: Some(path.clone().into()), ..AuthConfig::default() };
    assert!(bound("127.0.0.1:0", jwks.clone()).await.unwrap_err().contains("--jwt-audience"));
    let jwks = AuthConfig { jwt_audience: Some("cloudpose".into()), ..jwks };
    assert!(bound("127.0.0.1:0", jwks).await.unwrap_err().contains("no public key"));
}

#[tokio::test]
async fn a_token_does_as_well_as_a_key_and_beside_it() {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    let folder = tempfile::tempdir().unwrap();
    let (keys, jwks) = (folder.path().join("keys.json"), folder.path().join("jwks.json"));
    KeyFile::new(&keys).add(key("door", &[Scope::Stream], None)).unwrap();
    let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let signer = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
    let public = URL_SAFE_NO_PAD.encode(signer.public_key());
    let set = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": public}]});
    std::fs::write(&jwks, set.to_string()).unwrap();
    let auth = AuthConfig {
        keys: Some(keys),
        jwks: Some(jwks.into()),
        jwt_audience: Some("cloudpose".into()),
        ..AuthConfig::default()
    };
    let server = Server::with_worker(Config { auth, ..Config::default() }).await;
    let keyed = Keyed { folder, server };

    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600;
    let token = |scope: &str, audience: &str| {
        let claims = serde_json::json!({"aud": audience, "exp": exp, "scope": scope, "tenant": "acme"});
        let parts =
            [r#"{"alg":"EdDSA"}"#.to_owned(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = parts.join(".");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes())))
    };
    for (secret, status) in [
        ("door".to_owned(), 426),
        (token("stream", "cloudpose"), 426),
        (token("photo", "cloudpose"), 403),
        (token("stream", "another"), 401),
        ("a.b.c".to_owned(), 401),
    ] {
        let answer = keyed.ask("GET", "/v1/stream", Some(&secret)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    let (mut client, chosen) = keyed.socket(&offered(&token("stream", "cloudpose"))).await.unwrap();
    assert_eq!(chosen.as_deref(), Some("cloudpose.v1"));
    assert!(matches!(client.next().await, Heard::Message(_)));
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 1);
}
