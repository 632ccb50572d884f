//! Cameras that the gateway fetches: real servers on one side, a stub worker on the other.

use std::{convert::Infallible, net::SocketAddr, path::Path, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudpose_ingest::{CamerasConfig, Config};
use cloudpose_wire::Payload;
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::stage::{JPEG, Server, finish, soon};

/// A camera, until it is dropped.
pub(crate) struct Camera {
    address: SocketAddr,
    _on: DropGuard,
    _serving: JoinSet<()>,
}

impl Camera {
    pub(crate) async fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = format!("http://127.0.0.2:{}/video", address.port());
        let on = CancellationToken::new();
        let ends = on.clone();
        let router = Router::new()
            .route("/video", get(async move || video(ends.clone().cancelled_owned())))
            .route("/snapshot", get(async || ([(header::CONTENT_TYPE, "image/jpeg")], JPEG)))
            .route("/page", get(async || ([(header::CONTENT_TYPE, "text/html")], "<h1>camera</h1>")))
            .route("/basic", get(async |request| guarded(request, "Basic realm=\"cam\"", is_basic)))
            .route("/digest", get(async |request| guarded(request, DIGEST, is_digest)))
            .route("/moved", get(async || Redirect::temporary("/digest")))
            .route("/circle", get(async || Redirect::temporary("/circle")))
            .route("/elsewhere", get(async move || Redirect::temporary(&elsewhere)))
            .route(
                "/further/{n}",
                get(async |axum::extract::Path(n): axum::extract::Path<u32>| {
                    Redirect::temporary(&format!("/further/{}", n + 1))
                }),
            )
            .route("/nonsense", get(async || parts([b"no picture".as_slice()])))
            .route("/huge", get(async || parts([&[0xff; 2000][..]])));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, _on: on.drop_guard(), _serving: serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Motion JPEG, fifty pictures a second.
fn video(until: impl Future<Output = ()> + Send + 'static) -> Response {
    let body = stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, Infallible>(part(JPEG)), ()))
    });
    let body = Body::from_stream(body.take_until(Box::pin(until)));
    ([(header::CONTENT_TYPE, "multipart/x-mixed-replace; boundary=cam")], body).into_response()
}

/// These, and then silence.
fn parts<const N: usize>(pictures: [&[u8]; N]) -> Response {
    let all: Bytes = pictures.map(part).concat().into();
    let body = stream::unfold(Some(all), async |all| match all {
        Some(all) => Some((Ok::<_, Infallible>(all), None)),
        None => std::future::pending().await,
    });
    ([(header::CONTENT_TYPE, "multipart/x-mixed-replace; boundary=cam")], Body::from_stream(body))
        .into_response()
}

fn part(picture: &[u8]) -> Bytes {
    let head = format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
    [head.as_bytes(), picture, b"\r\n"].concat().into()
}

const DIGEST: &str = "Digest realm=\"cam\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256";

fn guarded(request: Request, challenge: &'static str, is_good: fn(&str, &str) -> bool) -> Response {
    let said = request.headers().get(header::AUTHORIZATION).and_then(|said| said.to_str().ok());
    match said {
        Some(said) if is_good(said, request.uri().path()) => video(std::future::pending()),
        _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response(),
    }
}

fn is_basic(said: &str, _: &str) -> bool {
    said == format!("Basic {}", STANDARD.encode("joe:hunter2"))
}

/// RFC 7616, section 3.4.1.
fn is_digest(said: &str, path: &str) -> bool {
    use sha2::{Digest as _, Sha256};
    let hash =
        |text: String| -> String { Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect() };
    let field = |name: &str| {
        let start = said.find(&format!("{name}="))? + name.len() + 1;
        Some(said[start..].split(',').next()?.trim().trim_matches('"').to_owned())
    };
    let answer = || {
        let (one, two) = (hash("joe:cam:hunter2".into()), hash(format!("GET:{path}")));
        Some(hash(format!("{one}:n1:{}:{}:auth:{two}", field("nc")?, field("cnonce")?)))
    };
    field("response").is_some_and(|said| Some(said) == answer()) && field("uri").as_deref() == Some(path)
}

pub(crate) fn config() -> Config {
    let camera_allow = vec!["127.0.0.1".parse().unwrap()];
    Config { cameras: CamerasConfig { camera_allow, ..Default::default() }, ..Config::default() }
}

pub(crate) async fn ask(server: &Server, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, server.url(path));
    let request = if body.is_null() { request } else { request.body(body.to_string()) };
    let answer = soon(request.send()).await.unwrap();
    let (status, text) = (answer.status().as_u16(), soon(answer.text()).await.unwrap());
    assert!(!text.contains("hunter"), "a password is shown: {text}");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

pub(crate) async fn add(server: &Server, stream: &str, url: &str) -> Value {
    let (status, camera) =
        ask(server, Method::POST, "/v1/cameras", json!({ "stream": stream, "url": url })).await;
    assert_eq!(status, 201, "{camera}");
    camera
}

/// Waits until the camera is as `expected` says.
pub(crate) async fn until(server: &Server, stream: &str, expected: impl Fn(&Value) -> bool) -> Value {
    let last = std::cell::RefCell::new(Value::Null);
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let (_, camera) = ask(server, Method::GET, &format!("/v1/cameras/{stream}"), Value::Null).await;
            if expected(&camera) {
                return camera;
            }
            last.replace(camera);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{}", last.borrow()))
}

pub(crate) async fn live(server: &Server, stream: &str) -> Value {
    until(server, stream, |camera| camera["state"] == "live" && camera["error"].is_null()).await
}

/// Why a camera is not live.
pub(crate) async fn trouble(server: &Server, stream: &str, state: &str, words: &str) {
    let is_so = |camera: &Value| {
        camera["state"] == state && camera["error"].as_str().is_some_and(|error| error.contains(words))
    };
    until(server, stream, is_so).await;
}

#[tokio::test]
async fn motion_jpeg_is_fetched_worked_on_listed_and_watched() {
    let (server, camera) = (Server::with_worker(config()).await, Camera::start().await);
    let made = add(&server, "door", &camera.url("/video")).await;
    assert_eq!(made["state"], "connecting");
    assert_eq!(
        (&made["stream"], &made["model"], &made["want"]),
        (&json!("door"), &json!("fast"), &json!("pose"))
    );
    live(&server, "door").await;
    let (_, streams) = ask(&server, Method::GET, "/v1/streams", Value::Null).await;
    assert_eq!(streams["streams"][0]["stream"], "door");
    until(&server, "door", |camera| camera["received_fps"].as_f64().is_some_and(|fps| fps > 5.0)).await;
    server.ledger(|ledger| ledger.delivered > 3).await;
    let mut watched = soon(reqwest::get(server.url("/v1/streams/door/watch"))).await.unwrap();
    assert_eq!(watched.status(), 426, "it can be watched, by WebSocket");
    watched = soon(reqwest::get(server.url("/v1/streams/door.mjpeg"))).await.unwrap();
    assert_eq!(watched.status(), 200);
    let (status, _) = ask(&server, Method::DELETE, "/v1/cameras/door", Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(ask(&server, Method::GET, "/v1/cameras/door", Value::Null).await.0, 404);
    assert_eq!(ask(&server, Method::GET, "/v1/cameras", Value::Null).await.1, json!({ "cameras": [] }));
    server.stop().await;
}

#[tokio::test]
async fn single_pictures_are_asked_for_again_and_again() {
    let (server, camera) = (Server::with_worker(config()).await, Camera::start().await);
    let body = json!({ "stream": "door", "url": camera.url("/snapshot"), "fps": 25 });
    assert_eq!(ask(&server, Method::POST, "/v1/cameras", body).await.0, 201);
    live(&server, "door").await;
    server.ledger(|ledger| ledger.delivered >= 5).await;
    server.stop().await;
}

#[tokio::test]
async fn passwords_are_said_in_both_ways_and_shown_in_none() {
    let (server, camera) = (Server::with_worker(config()).await, Camera::start().await);
    let with = |user: &str, path: &str| camera.url(path).replace("http://", &format!("http://{user}@"));
    for (stream, path) in [("basic", "/basic"), ("digest", "/digest"), ("moved", "/moved")] {
        let made = add(&server, stream, &with("joe:hunter2", path)).await;
        assert!(made["url"].as_str().unwrap().starts_with("http://joe:***@127.0.0.1:"), "{made}");
        live(&server, stream).await;
    }
    add(&server, "wrong", &with("joe:hunter3", "/digest")).await;
    trouble(&server, "wrong", "error", "user or password").await;
    add(&server, "none", &camera.url("/basic")).await;
    trouble(&server, "none", "error", "asks for user and password").await;
    ask(&server, Method::GET, "/v1/cameras", Value::Null).await;
    server.stop().await;
}

#[tokio::test]
async fn a_camera_that_goes_is_waited_for_and_is_back_when_it_is() {
    let (server, camera) = (Server::with_worker(config()).await, Camera::start().await);
    add(&server, "door", &camera.url("/video")).await;
    live(&server, "door").await;
    let address = camera.address;
    drop(camera);
    trouble(&server, "door", "waiting", "").await;
    let (_, streams) = ask(&server, Method::GET, "/v1/streams", Value::Null).await;
    assert_eq!(streams["streams"][0]["stream"], "door", "its stream is there, and silent");
    trouble(&server, "door", "waiting", "cannot be reached").await;
    let _again = Camera::at(address).await;
    live(&server, "door").await;
    server.stop().await;
}

#[tokio::test]
async fn clients_reach_nothing_that_is_not_public_or_allowed() {
    let (server, camera) = (Server::with_worker(config()).await, Camera::start().await);
    for url in [
        "http://127.0.0.2/video",
        "http://[::1]/video",
        "http://[::ffff:10.0.0.1]/video",
        "http://192.168.0.1/video",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706434/video",
        "rtsp://10.0.0.7/ch1",
        "file:/etc/passwd",
    ] {
        let body = json!({ "stream": "door", "url": url });
        let (status, problem) = ask(&server, Method::POST, "/v1/cameras", body).await;
        assert_eq!((status, &problem["type"]), (400, &json!("urn:cloudpose:problem:bad-address")), "{url}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("--camera"), "it says what to do: {detail}");
    }
    add(&server, "elsewhere", &camera.url("/elsewhere")).await;
    trouble(&server, "elsewhere", "error", "--camera-allow").await;
    add(&server, "circle", &camera.url("/circle")).await;
    trouble(&server, "circle", "error", "redirects to itself").await;
    add(&server, "further", &camera.url("/further/0")).await;
    trouble(&server, "further", "error", "more than 5 times").await;
    // `localhost` is a name: it is looked up, and then refused where only 127.0.0.1 of this machine is allowed.
    let strict = Server::with_worker(Config::default()).await;
    add(&strict, "name", &camera.url("/video").replace("127.0.0.1", "localhost")).await;
    trouble(&strict, "name", "error", "this machine's own").await;
    strict.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_camera_is_told_and_bounded() {
    let config = Config { max_image_bytes: 1000, ..config() };
    let (server, camera) = (Server::with_worker(config).await, Camera::start().await);
    for (path, state, words) in [
        ("/page", "error", "text/html"),
        ("/gone", "waiting", "404"),
        ("/huge", "waiting", "more than 1000 bytes"),
        ("/nonsense", "live", "no picture"),
    ] {
        let stream = &path[1..];
        add(&server, stream, &camera.url(path)).await;
        trouble(&server, stream, state, words).await;
    }
    server.stop().await;
}

/// A peer that answers each connection with these bytes, over and over if it is `endless`, and never closes it.
async fn peer(bytes: &'static [u8], endless: bool) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/video", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                while stream.write_all(bytes).await.is_ok() && endless {}
                std::future::pending::<()>().await;
            });
        }
    });
    (url, serving)
}

#[tokio::test]
async fn peers_that_mean_harm_are_left_and_others_are_fetched_all_the_same() {
    let config = Config { max_image_bytes: 100_000, ..config() };
    let (server, camera) = (Server::with_worker(config).await, Camera::start().await);
    let (silent, _silent) = peer(b"", false).await;
    let (head, _head) = peer(b"HTTP/1.1 200 OK\r\nX-Long: ", false).await;
    let (headers, _headers) = peer(b"X-Endless: yes\r\n", true).await;
    let (body, _body) = peer(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\nxxxxx", true).await;
    let (garbage, _garbage) = peer(b"SSH-2.0-OpenSSH_9.2p1\r\n", false).await;
    for (stream, url) in
        [("silent", silent), ("head", head), ("headers", headers), ("body", body), ("garbage", garbage)]
    {
        add(&server, stream, &url).await;
    }
    add(&server, "good", &camera.url("/video")).await;
    live(&server, "good").await;
    trouble(&server, "headers", "waiting", "no answer that is HTTP").await;
    trouble(&server, "garbage", "waiting", "no answer that is HTTP").await;
    trouble(&server, "body", "error", "more than 100000 bytes").await;
    trouble(&server, "silent", "waiting", "did not answer within 5s").await;
    trouble(&server, "head", "waiting", "did not answer within 5s").await;
    live(&server, "good").await;
    server.stop().await;
}

#[tokio::test]
async fn rtsp_peers_that_mean_harm_are_left() {
    let server = Server::with_worker(config()).await;
    let (silent, _silent) = peer(b"", false).await;
    let (circle, _circle) =
        peer(b"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.1/video\r\n\r\n", false).await;
    let (endless, _endless) = peer(ENDLESS, true).await;
    let (headers, _headers) = peer(b"X-Endless: yes\r\n", true).await;
    let (other, _other) = peer(b"HTTP/1.1 200 OK\r\n\r\n", false).await;
    for (stream, url) in
        [("silent", silent), ("circle", circle), ("endless", endless), ("headers", headers), ("other", other)]
    {
        add(&server, stream, &url.replace("http://", "rtsp://")).await;
    }
    trouble(&server, "circle", "error", "redirects elsewhere").await;
    trouble(&server, "endless", "waiting", "without end").await;
    trouble(&server, "headers", "waiting", "").await;
    trouble(&server, "other", "waiting", "").await;
    trouble(&server, "silent", "waiting", "did not answer within 5s").await;
    server.stop().await;
}

/// A description of four gigabytes.
const ENDLESS: &[u8] =
    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: 4000000000\r\n\r\nv=0";

#[tokio::test]
async fn the_command_line_may_name_files_and_nobody_changes_its_cameras() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = format!("pictures=file:{}", root.join("tests/images").display());
    let clip = format!("clip=file:{}", root.join("../video/tests/clips/high_b_frames.mp4").display());
    let camera = [folder, clip].map(|camera| camera.parse().unwrap()).into();
    let cameras = CamerasConfig { camera, ..Default::default() };
    let server = Server::start(Config { cameras, ..Config::default() }).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let delivery = server.frame().await;
        let is_decoded = matches!(delivery.frame.image, Payload::Decoded(_));
        assert_eq!(is_decoded, delivery.frame.header.stream.as_str() == "clip");
        seen.insert(delivery.frame.header.stream.to_string());
        finish(&server.bus, delivery).await;
    }
    let (_, all) = ask(&server, Method::GET, "/v1/cameras", Value::Null).await;
    assert_eq!(all["cameras"][0]["stream"], "clip");
    assert_eq!(all["cameras"][0]["fixed"], true);
    for (method, body) in [(Method::DELETE, Value::Null), (Method::PATCH, json!({ "fps": 1 }))] {
        let (status, problem) = ask(&server, method, "/v1/cameras/clip", body).await;
        assert_eq!((status, &problem["type"]), (409, &json!("urn:cloudpose:problem:fixed-camera")));
    }
    server.stop().await;
}

#[tokio::test]
async fn cameras_are_changed_as_asked_and_refused_in_words() {
    let mut config = config();
    (config.cameras.max_cameras, config.cameras.max_cameras_per_tenant) = (5, 2);
    let (server, camera) = (Server::with_worker(config).await, Camera::start().await);
    add(&server, "door", &camera.url("/video")).await;
    live(&server, "door").await;
    let changed =
        ask(&server, Method::PATCH, "/v1/cameras/door", json!({ "fps": 2.5, "want": "both" })).await;
    assert_eq!((changed.0, &changed.1["fps"], &changed.1["want"]), (200, &json!(2.5), &json!("both")));
    assert_eq!(changed.1["state"], "live", "it goes on");
    let (_, changed) = ask(&server, Method::PATCH, "/v1/cameras/door", json!({ "fps": null })).await;
    assert_eq!((&changed["fps"], &changed["want"]), (&Value::Null, &json!("both")));
    let other = json!({ "url": camera.url("/page") });
    assert_eq!(ask(&server, Method::PATCH, "/v1/cameras/door", other).await.0, 200);
    trouble(&server, "door", "error", "text/html").await;
    let url = camera.url("/video");
    for (body, status, kind) in [
        (json!({ "stream": "door", "url": url }), 409, "camera-exists"),
        (json!({ "stream": "no name", "url": url }), 400, "bad-body"),
        (json!({ "stream": "a" }), 400, "bad-body"),
        (json!({ "stream": "a", "url": url, "colour": "red" }), 400, "bad-body"),
        (json!({ "stream": "a", "url": url, "fps": 0 }), 400, "bad-body"),
        (json!({ "stream": "a", "url": "joe:hunter2@cam" }), 400, "bad-address"),
    ] {
        let (got, problem) = ask(&server, Method::POST, "/v1/cameras", body.clone()).await;
        let expected = json!(format!("urn:cloudpose:problem:{kind}"));
        assert_eq!((got, &problem["type"]), (status, &expected), "{body}");
    }
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(ask(&server, method, "/v1/cameras/nobody", Value::Null).await.0, 404);
    }
    assert_eq!(ask(&server, Method::PATCH, "/v1/cameras/nobody", json!({})).await.0, 404);
    assert_eq!(ask(&server, Method::PATCH, "/v1/cameras/door", json!({ "fps": 1000 })).await.0, 400);
    add(&server, "second", &url).await;
    let third = json!({ "stream": "third", "url": url });
    let (status, problem) = ask(&server, Method::POST, "/v1/cameras", third).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:cloudpose:problem:too-many-cameras")));
    server.stop().await;
}
