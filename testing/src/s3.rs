//! A real S3 service of its own for one test: [`s3s_fs`] over a folder, behind what breaks when it is told to.

use std::{
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex as Blocking,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use s3s::{
    Body,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::RwLock,
    task::JoinSet,
};

/// The bucket that is there.
const BUCKET: &str = "photos";
const KEY: &str = "key";
const SECRET: &str = "secret";

/// A service that stops when dropped.
#[derive(Debug)]
pub struct S3 {
    folder: TempDir,
    port: u16,
    gate: Arc<Gate>,
    /// Of its own: a test waits for processes, which wait for the service.
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Gate {
    /// What is answered in place of the service.
    refuses: Blocking<Option<StatusCode>>,
    refused: AtomicUsize,
    /// The next write of a key with this in it is done, and answered as if it were not.
    loses: Blocking<Option<&'static str>>,
    /// The service looks first and writes then: one at a time, so that conditions hold; and it reads what an object says
    /// and which version it is one after the other: not while one is written, or they are of two.
    writing: RwLock<()>,
    /// Conditions are not passed on.
    overwrites: bool,
    /// Where buckets are.
    root: PathBuf,
}

impl S3 {
    /// Starts one that lets in who has the keys of [`environment`](Self::environment).
    pub fn start() -> Self {
        Self::behind(Gate::default())
    }

    /// One that takes no notice of conditions, as some do that only speak as S3.
    pub fn that_overwrites() -> Self {
        Self::behind(Gate { overwrites: true, ..Gate::default() })
    }

    fn behind(gate: Gate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate { root: folder.path().to_owned(), ..gate };
        fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        if !gate.overwrites {
            service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        }
        let (service, gate) = (service.build(), Arc::new(gate));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(serve(listener, service, Arc::clone(&gate)));
        Self { folder, port, gate, runtime: Some(runtime) }
    }

    /// What a process must have in its environment that is to use it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let mut environment = vec![
            ("AWS_ENDPOINT_URL", &*endpoint),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        if self.gate.overwrites {
            // Conditions are signed too.
            environment.push(("AWS_SKIP_SIGNATURE", "true"));
        }
        environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The address of its bucket, as `--store` takes it.
    pub fn address(&self) -> String {
        format!("s3://{BUCKET}/a/b")
    }

    /// Where objects lie that have this address.
    pub fn path(&self) -> PathBuf {
        self.bucket().join("a/b")
    }

    /// Where its bucket lies.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Answers everything so from now on, until it is told otherwise.
    pub fn refuse(&self, status: Option<u16>) {
        *self.gate.refuses.lock().unwrap() = status.map(|status| StatusCode::from_u16(status).unwrap());
    }

    /// Does the next write of a key with `part` in it, and answers 503 all the same.
    pub fn lose_the_answer(&self, part: &'static str) {
        *self.gate.loses.lock().unwrap() = Some(part);
    }

    /// How many requests it has answered so.
    pub fn refused(&self) -> usize {
        self.gate.refused.load(Ordering::Relaxed)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: std::net::TcpListener, service: S3Service, gate: Arc<Gate>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (service, gate) = (service.clone(), Arc::clone(&gate));
        let answering = hyper::service::service_fn(move |request| {
            let (service, gate) = (service.clone(), Arc::clone(&gate));
            async move { Ok::<_, Infallible>(answer(&service, &gate, request).await) }
        });
        connections.spawn(async move {
            // A client that goes is none of the test's business.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), answering)
                .await
                .ok();
        });
    }
}

async fn answer(service: &S3Service, gate: &Gate, mut request: Request<Incoming>) -> Response<Body> {
    let refuses = *gate.refuses.lock().unwrap();
    if let Some(status) = refuses {
        gate.refused.fetch_add(1, Ordering::Relaxed);
        return error(status, "Refused");
    }
    // The service would make it.
    if !request.uri().path().split('/').nth(1).is_some_and(|bucket| gate.root.join(bucket).is_dir()) {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket");
    }
    let (_writes, _reads) = match *request.method() {
        Method::PUT | Method::DELETE => (Some(gate.writing.write().await), None),
        _ => (None, Some(gate.writing.read().await)),
    };
    if gate.overwrites {
        request.headers_mut().remove(header::IF_NONE_MATCH);
        request.headers_mut().remove(header::IF_MATCH);
    }
    let loses = request.method() == Method::PUT
        && gate.loses.lock().unwrap().take_if(|part| request.uri().path().contains(*part)).is_some();
    let answer = service.call(request.map(Body::from)).await.unwrap();
    if loses { error(StatusCode::SERVICE_UNAVAILABLE, "Lost") } else { answer }
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let body = Body::from(format!("<Error><Code>{code}</Code></Error>"));
    Response::builder().status(status).body(body).unwrap()
}
