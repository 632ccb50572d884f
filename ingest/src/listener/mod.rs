//! The socket that clients connect to: how many may, how long they may take to ask, and how they are served.
//!
//! `line` is a connection as its requests see it, `lent` what a request brings, `watched` the bytes, `tls` what they are wrapped in,
//! `many` HTTP/2. What is decided is in `cloudpose-policy`.

mod lent;
mod line;
mod many;
mod tls;
mod watched;

use std::{
    convert::Infallible,
    fs::File,
    io::{self, ErrorKind},
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use cloudpose_policy::guests::{Full, Guests};
use hyper::{
    Request,
    body::Incoming,
    header::{CONNECTION, EXPECT, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use lent::Lent;
pub(crate) use line::Line;
pub use tls::Config as TlsConfig;
pub(crate) use tls::Tls;
use watched::Watched;

use crate::{Config, doors::Problem, metrics};

/// How long a connection stays whose client has been answered and asks for nothing else. Load balancers keep theirs for
/// a minute, and must be the first to close them: a request that crosses a close is lost.
const KEPT: Duration = Duration::from_secs(75);
/// Of what is being written, the kernel takes no more than this beyond what is on its way: so we see a slow client
/// read, and no answer waits in the kernel's memory.
const UNSENT: u32 = 128 << 10;
/// When stopping, those who have asked for nothing may finish a request for this long.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Those who are turned away, and those who are answered before all was read, may be read for this long; of the former
/// so many at once.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELLS: usize = 64;
/// Pause after an accept that failed, if nothing better can be done.
const PAUSE: Duration = Duration::from_millis(100);
/// At most one warning in this time says that there is no room.
const WARNINGS: Duration = Duration::from_secs(10);

/// Serves until `stop`, then lets those who have asked be answered. With `tls` nothing else is spoken.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: &Config,
    tls: Option<&Tls>,
    stop: CancellationToken,
) {
    let guests = Guests::new(config.max_connections, config.max_connections_per_address);
    let guests = Arc::new(Mutex::new(guests));
    let mut door = Doorkeeper::new(tls.is_some());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                door.failed(&listener, error).await;
                continue;
            }
        };
        match Place::take(&guests, peer.ip()) {
            Ok(place) => {
                let line = Line::new(Instant::now().into_std(), place);
                let times = Times::new(config);
                let acceptor = tls.map(Tls::acceptor);
                connections.spawn(connection(stream, line, router.clone(), times, acceptor, stop.clone()));
            }
            Err(full) => {
                metrics::connection_refused(match full {
                    Full::All => "connections",
                    Full::Address => "address_connections",
                });
                door.warn(match full {
                    Full::All => "all connections are taken: see --max-connections",
                    Full::Address => {
                        "an address has all connections that one may have: see --max-connections-per-address"
                    }
                });
                if let Some(farewell) = door.farewell(stream, full) {
                    connections.spawn(farewell);
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One of the connections that there may be, until it is dropped.
#[derive(Debug)]
struct Place {
    guests: Arc<Mutex<Guests>>,
    address: IpAddr,
}

impl Place {
    fn take(guests: &Arc<Mutex<Guests>>, address: IpAddr) -> Result<Self, Full> {
        guests.lock().unwrap_or_else(PoisonError::into_inner).admit(address)?;
        Ok(Self { guests: Arc::clone(guests), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).leave(self.address);
    }
}

/// What a connection has time for.
#[derive(Debug, Clone, Copy)]
struct Times {
    accepted: Instant,
    /// To ask, from then on.
    head: Duration,
    /// To take something of what is written.
    write: Duration,
}

impl Times {
    fn new(config: &Config) -> Self {
        Self { accepted: Instant::now(), head: config.head_timeout, write: config.write_timeout }
    }

    fn first_head(&self) -> Instant {
        self.accepted + self.head
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    line: Line,
    router: Router,
    times: Times,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    // Results are small and wait for nothing.
    let set = stream.set_nodelay(true);
    if let Err(error) = set.and_then(|()| socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)) {
        tracing::debug!(%error, "cannot set an option of a socket");
    }
    let Some(acceptor) = acceptor else {
        let io = Watched::new(stream, line.clone(), times.write);
        return one_by_one(io, line, router, times, stop).await;
    };
    let handshake = async {
        if !tls::spoken(&stream).await? {
            say(stream, &Problem::tls_wanted().raw()).await;
            return Ok(None);
        }
        acceptor.accept(Watched::mute(stream, line.clone(), times.write)).await.map(Some)
    };
    let last_call = async {
        stop.cancelled().await;
        sleep(LAST_CALL).await;
    };
    let shaken = tokio::select! {
        shaken = timeout_at(times.first_head(), handshake) => shaken.unwrap_or_else(|late| Err(late.into())),
        () = last_call => return,
    };
    match shaken {
        Ok(Some(io)) if io.get_ref().1.alpn_protocol() == Some(tls::HTTP_2) => {
            many::serve(io, line.address(), router, times, stop).await;
        }
        Ok(Some(io)) => one_by_one(io, line, router, times, stop).await,
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "no TLS with a client"),
    }
}

/// Serves HTTP/1.1, and what becomes a WebSocket.
async fn one_by_one<I>(io: I, line: Line, router: Router, times: Times, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let of_requests = line.clone();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        of_requests.asked();
        let (head, body) = request.into_parts();
        // Who waits for a go-ahead sends no more than was asked for.
        let more_comes = !head.headers.contains_key(EXPECT);
        let (body, rest) = Lent::new(body);
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(of_requests.clone());
        let answer = hyper::service::Service::call(&router, request);
        let line = of_requests.clone();
        async move {
            let mut answer = answer.await?;
            if !rest.is_read(more_comes).await {
                // Nobody reads the rest, so nothing can follow it.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                line.leaves_unread();
            }
            line.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut serving = http1::Builder::new();
    serving.timer(TokioTimer::new()).header_read_timeout(KEPT.max(times.head));
    let mut served = pin!(serving.serve_connection(TokioIo::new(io), service).with_upgrades());
    // The first head must come sooner than those that follow on a connection that is known.
    let mut wake = Some(times.first_head());
    let mut last_call = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "a connection ends");
                }
                return;
            }
            () = stop.cancelled(), if !last_call => {
                served.as_mut().graceful_shutdown();
                last_call = true;
                wake = Some(Instant::now() + LAST_CALL);
            }
            () = until(wake) => {
                // What a client has asked for may have come since the wait began.
                let cut_off = if last_call { line.is_idle() } else { !line.has_asked() };
                if cut_off {
                    tracing::debug!("a client that asks for nothing is cut off");
                    if !last_call {
                        line.is_late();
                        metrics::connection_cut(if line.is_to_be_told() { "half_head" } else { "silence" });
                    }
                    return;
                }
                wake = last_call.then(|| Instant::now() + LAST_CALL);
            }
        }
    }
}

/// Waits for ever if there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Turns away those for whom there is no room.
struct Doorkeeper {
    /// Over TLS nothing can be said for less than a handshake.
    mute: bool,
    farewells: Arc<()>,
    warned: Option<Instant>,
    /// Kept open to be closed when the process may open no more files.
    spare: Option<File>,
}

impl Doorkeeper {
    fn new(mute: bool) -> Self {
        Self { mute, farewells: Arc::default(), warned: None, spare: spare() }
    }

    fn warn(&mut self, what: &str) {
        let now = Instant::now();
        if self.warned.is_none_or(|at| now >= at + WARNINGS) {
            self.warned = Some(now);
            tracing::warn!("{what}");
        }
    }

    /// Tells a client why it is turned away. What it has sent meanwhile is read, since a connection that is closed
    /// with bytes unread is reset, and a reset can overtake what was said; unless there are too many of them.
    fn farewell(&self, stream: TcpStream, full: Full) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.mute {
            return None;
        }
        let answer = match full {
            Full::All => Problem::no_connections(),
            Full::Address => Problem::too_many_connections(),
        };
        let answer = answer.raw();
        if Arc::strong_count(&self.farewells) > FAREWELLS {
            tell(&stream, &answer);
            return None;
        }
        let one_of_them = Arc::clone(&self.farewells);
        Some(async move {
            say(stream, &answer).await;
            drop(one_of_them);
        })
    }

    /// No connection could be accepted. If that is because the process may open no more files, one that is kept for
    /// this makes room to tell a client so.
    async fn failed(&mut self, listener: &TcpListener, error: io::Error) {
        // EMFILE and ENFILE: std has no kind for them.
        if !matches!(error.raw_os_error(), Some(23 | 24)) {
            if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
                self.warn(&format!("cannot accept a connection: {error}"));
                sleep(PAUSE).await;
            }
            return;
        }
        metrics::connection_refused("files");
        self.warn(
            "cannot accept a connection: the process may open no more files; raise its limit (ulimit -n)",
        );
        let had = self.spare.take().is_some();
        if had
            && let Ok(Ok((stream, _))) = timeout(PAUSE, listener.accept()).await
            && !self.mute
        {
            tell(&stream, &Problem::no_connections().raw());
        }
        self.spare = spare();
        if !had || self.spare.is_none() {
            sleep(PAUSE).await;
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Tells a client why it goes, and reads what it has sent meanwhile, for a moment.
async fn say(mut stream: TcpStream, answer: &str) {
    let told = timeout(FAREWELL, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    });
    drop(told.await);
}

/// Writes what the kernel takes at once.
fn tell(stream: &TcpStream, answer: &str) {
    if let Err(error) = stream.try_write(answer.as_bytes()) {
        tracing::trace!(%error, "a client was not told that there is no room");
    }
}
