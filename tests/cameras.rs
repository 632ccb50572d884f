//! Cameras of several gateways: real processes on a real nats-server, and a Motion JPEG server that knows who fetches what.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cloudpose_testing::{Link, NatsServer, golden::photo, soon};
use reqwest::Method;
use serde_json::{Value, json};
use server::Server;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Who fetches one camera at the same time for longer than it takes until the server sees that a connection is closed fetches
/// it twice.
const OVERLAP: Duration = Duration::from_secs(1);

/// When a camera was fetched, from its first picture on; `None`: it is still.
type Fetched = (Instant, Option<Instant>);

/// Cameras that send Motion JPEG, each under a path of its own.
struct Site {
    port: u16,
    fetched: Arc<Mutex<BTreeMap<String, Vec<Fetched>>>>,
    _serving: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fetched = Arc::<Mutex<BTreeMap<String, Vec<Fetched>>>>::default();
        let (mut serving, log) = (JoinSet::new(), Arc::clone(&fetched));
        serving.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                open.spawn(serve(socket, Arc::clone(&log)));
            }
        });
        Self { port, fetched, _serving: serving }
    }

    fn url(&self, camera: &str) -> String {
        format!("http://joe:hunter2@127.0.0.1:{}/{camera}", self.port)
    }

    /// How many fetch each camera that was ever fetched.
    fn now(&self) -> BTreeMap<String, usize> {
        let is_open = |fetched: &&Fetched| fetched.1.is_none();
        let fetched = self.fetched.lock().unwrap();
        fetched.iter().map(|(camera, all)| (camera.clone(), all.iter().filter(is_open).count())).collect()
    }

    /// Waits until each of these cameras is fetched by one, and others by nobody.
    async fn are_fetched(&self, cameras: &[&str]) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let now = self.now();
                let once = cameras.iter().all(|camera| now.get(*camera) == Some(&1));
                if once && now.values().sum::<usize>() == cameras.len() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{cameras:?} are to be fetched: {:?}", self.now()));
    }

    /// No camera was fetched twice at the same time.
    fn none_was_fetched_twice(&self) {
        for (camera, all) in &*self.fetched.lock().unwrap() {
            let mut ends = None::<Instant>;
            for (begin, end) in all {
                if let Some(earlier) = ends {
                    let overlap = earlier.saturating_duration_since(*begin);
                    assert!(overlap < OVERLAP, "{camera} was fetched twice for {overlap:?}");
                }
                ends = ends.max(Some(end.unwrap_or_else(Instant::now)));
            }
        }
    }
}

async fn serve(mut socket: TcpStream, log: Arc<Mutex<BTreeMap<String, Vec<Fetched>>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let camera = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let at = {
        let mut log = log.lock().unwrap();
        let all = log.entry(camera.clone()).or_default();
        all.push((Instant::now(), None));
        all.len() - 1
    };
    let photo = photo();
    let part = format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", photo.len());
    let begin = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cam\r\n\r\n";
    let (mut read, mut write) = socket.split();
    let send = async {
        write.write_all(begin.as_bytes()).await?;
        loop {
            write.write_all(&[part.as_bytes(), &photo, b"\r\n"].concat()).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let mut byte = [0];
    tokio::select! {
        // It says nothing more; the end says that it has gone.
        _ = read.read(&mut byte) => {}
        ended = send => drop::<std::io::Result<()>>(ended),
    }
    log.lock().unwrap().get_mut(&camera).unwrap()[at].1 = Some(Instant::now());
}

async fn ask(gateway: &Server, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, gateway.url(path));
    let request = if body.is_null() { request } else { request.body(body.to_string()) };
    let answer = soon(request.send()).await.unwrap();
    let (status, text) = (answer.status().as_u16(), soon(answer.text()).await.unwrap());
    assert!(!text.contains("hunter2"), "a password is shown: {text}");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn name(gateway: &Server, site: &Site, camera: &str) -> u16 {
    let body = json!({ "stream": camera, "url": site.url(camera), "fps": 5 });
    ask(gateway, Method::POST, "/v1/cameras", body).await.0
}

/// The cameras that a gateway lists, with one field of each.
async fn listed(gateway: &Server, field: &str) -> BTreeMap<String, Value> {
    let (status, list) = ask(gateway, Method::GET, "/v1/cameras", Value::Null).await;
    assert_eq!(status, 200);
    let cameras = list["cameras"].as_array().unwrap().iter();
    cameras.map(|camera| (camera["stream"].as_str().unwrap().to_owned(), camera[field].clone())).collect()
}

/// Waits until all that a gateway lists have this.
async fn all_are(gateway: &Server, field: &str, expected: Value) {
    soon(async {
        loop {
            let listed = listed(gateway, field).await;
            if !listed.is_empty() && listed.values().all(|value| *value == expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// How many cameras a gateway fetches itself.
async fn fetches(gateway: &Server) -> usize {
    let page = reqwest::get(gateway.url("/metrics")).await.unwrap().text().await.unwrap();
    let cameras = page.lines().filter(|line| line.starts_with("cloudpose_cameras{"));
    cameras.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// Waits until a gateway fetches so many.
async fn fetches_all(gateway: &Server, cameras: usize) {
    soon(async {
        while fetches(gateway).await != cameras {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits until each gateway fetches as many as any other, or one more.
async fn share(gateways: &[&Server]) {
    soon(async {
        loop {
            let mut each = Vec::new();
            for gateway in gateways {
                each.push(fetches(gateway).await);
            }
            if each.iter().max().unwrap() - each.iter().min().unwrap() <= 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_camera_is_fetched_by_one_gateway_whichever_dies_or_goes() {
    let (nats, site) = (NatsServer::start(), Site::start().await);
    let fixed = format!("fixed={}", site.url("fixed"));
    let options = ["--camera-allow", "127.0.0.1/32", "--camera", &fixed];
    let [one, mut two, three] = [(); 3].map(|()| Server::ingest(&nats.url(), &options));
    let mut cameras = vec!["fixed", "a", "b", "c", "d", "e"];
    for camera in &cameras[1..] {
        assert_eq!(name(&one, &site, camera).await, 201);
    }
    site.are_fetched(&cameras).await;
    share(&[&one, &two, &three]).await;
    for gateway in [&one, &two, &three] {
        all_are(gateway, "state", json!("live")).await;
        assert_eq!(listed(gateway, "stream").await.len(), 6);
        assert_eq!(name(gateway, &site, "a").await, 409);
        assert_eq!(ask(gateway, Method::DELETE, "/v1/cameras/fixed", Value::Null).await.0, 409);
    }
    // Whoever fetches it.
    for camera in &cameras[1..] {
        let path = format!("/v1/cameras/{camera}");
        assert_eq!(ask(&two, Method::PATCH, &path, json!({ "fps": 4 })).await.0, 200);
        assert_eq!(ask(&three, Method::GET, &path, Value::Null).await.1["fps"], 4.0);
    }
    assert_eq!(ask(&three, Method::DELETE, "/v1/cameras/b", Value::Null).await.0, 204);
    cameras.retain(|camera| *camera != "b");
    assert_eq!(ask(&one, Method::GET, "/v1/cameras/b", Value::Null).await.0, 404);
    site.are_fetched(&cameras).await;

    one.signal("-KILL");
    site.are_fetched(&cameras).await;
    share(&[&two, &three]).await;
    two.terminate();
    assert_eq!(two.exit_code(), Some(0));
    fetches_all(&three, 5).await;
    site.are_fetched(&cameras).await;
    all_are(&three, "state", json!("live")).await;
    // Moved to another address, by whoever is asked.
    let one = Server::ingest(&nats.url(), &options);
    share(&[&one, &three]).await;
    for camera in ["a", "c"] {
        let moved = json!({ "url": site.url(&format!("{camera}2")) });
        assert_eq!(ask(&one, Method::PATCH, &format!("/v1/cameras/{camera}"), moved).await.0, 200);
    }
    site.are_fetched(&["fixed", "a2", "c2", "d", "e"]).await;
    site.none_was_fetched_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_renew_its_lease_stops_and_says_so() {
    let (mut nats, site) = (NatsServer::start(), Site::start().await);
    let mut link = Link::to(nats.port()).await;
    let far =
        Server::ingest(&format!("nats://127.0.0.1:{}", link.port()), &["--camera-allow", "127.0.0.1/32"]);
    let near = Server::ingest(&nats.url(), &["--camera-allow", "127.0.0.1/32"]);
    let cameras = ["a", "b", "c", "d"];
    for camera in cameras {
        assert_eq!(name(&far, &site, camera).await, 201);
    }
    site.are_fetched(&cameras).await;
    share(&[&far, &near]).await;
    link.cut().await;
    fetches_all(&near, 4).await;
    site.are_fetched(&cameras).await;
    let lost = listed(&far, "error").await;
    let says = |why: &&Value| why.as_str().is_some_and(|why| why.contains("another gateway may fetch it"));
    assert_eq!(lost.values().filter(says).count(), 2, "{lost:?}");
    assert_eq!(name(&far, &site, "e").await, 503, "nobody would know of it");
    link.restore();
    share(&[&far, &near]).await;
    site.are_fetched(&cameras).await;

    // Everybody loses NATS, and finds there what was there before.
    nats.kill();
    site.are_fetched(&[]).await;
    all_are(&near, "state", json!("waiting")).await;
    nats.start_again();
    site.are_fetched(&cameras).await;
    all_are(&near, "state", json!("live")).await;
    site.none_was_fetched_twice();
}
