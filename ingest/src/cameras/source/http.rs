//! Cameras over HTTP: Motion JPEG, or one picture an answer, which is asked for again and again.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use bytes::{Bytes, BytesMut};
use http_auth::{PasswordClient, PasswordParams};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderMap, HeaderName},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use super::{
    ANSWER, Bounds, SILENCE, Trouble,
    connect::{addresses, connect, secure},
    encoded,
    multipart::Parts,
    too_long,
};
use crate::cameras::{
    address::{Credentials, authority},
    feed::Feed,
};

/// Of an answer's head, in bytes.
const MOST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 64;
/// One after the other.
const MOST_REDIRECTS: usize = 5;
/// Single pictures a second, unless another rate is asked for, and at most.
const USUAL_RATE: f32 = 5.0;
const HIGHEST_RATE: f32 = 30.0;

pub(super) async fn fetch(
    url: &Url,
    credentials: Option<&Credentials>,
    bounds: &Bounds,
    (feed, fps): (&Feed, Option<f32>),
) -> Trouble {
    let every = Duration::from_secs_f32(1.0 / fps.unwrap_or(USUAL_RATE).min(HIGHEST_RATE));
    let mut client = Client::new(credentials, bounds);
    let pictures = async {
        loop {
            let asked = Instant::now();
            let answer = client.get(url).await?;
            match Kind::of(answer.headers())? {
                Kind::Parts(boundary) => return parts(answer.into_body(), &boundary, bounds, feed).await,
                Kind::Picture => {
                    let whole = timeout(SILENCE, whole(answer.into_body(), bounds.max_image_bytes)).await;
                    encoded(
                        feed,
                        asked.into_std(),
                        whole.map_err(|_| too_long("no picture was whole", SILENCE))??,
                    );
                }
            }
            sleep_until(asked + every).await;
        }
    };
    pictures.await.map_or_else(|trouble| trouble, |never: Infallible| match never {})
}

/// What an answer brings.
enum Kind {
    /// Pictures one after the other, with this boundary.
    Parts(String),
    Picture,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Result<Self, Trouble> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut fields = kind.split(';').map(str::trim);
        let essence = fields.next().unwrap_or_default().to_ascii_lowercase();
        if essence.starts_with("image/") {
            return Ok(Self::Picture);
        }
        if essence.starts_with("multipart/") {
            let boundary = fields.find_map(|field| {
                let (name, value) = field.split_once('=')?;
                name.trim()
                    .eq_ignore_ascii_case("boundary")
                    .then(|| value.trim().trim_matches('"').to_owned())
            });
            let boundary = boundary.filter(|boundary| (1..=200).contains(&boundary.trim_matches('-').len()));
            return boundary
                .map(Self::Parts)
                .ok_or_else(|| Trouble::Wrong("its Motion JPEG has no boundary".into()));
        }
        let named = if essence.is_empty() {
            "of no type".into()
        } else {
            essence.chars().take(60).collect::<String>()
        };
        Err(Trouble::Wrong(format!(
            "what it answers is {named:?}, no picture: look up the address of its Motion JPEG (multipart/x-mixed-replace) \
             or of a single picture (image/jpeg)"
        )))
    }
}

/// Pictures as they come, until none come.
async fn parts(
    mut body: Incoming,
    boundary: &str,
    bounds: &Bounds,
    feed: &Feed,
) -> Result<Infallible, Trouble> {
    let mut parts = Parts::new(boundary, bounds.max_image_bytes);
    let mut whole_until = Instant::now() + SILENCE;
    loop {
        while let Some(picture) = parts.next().map_err(|bad| Trouble::Gone(format!("it sends {bad}")))? {
            whole_until = Instant::now() + SILENCE;
            encoded(feed, Instant::now().into_std(), picture);
        }
        let frame = tokio::time::timeout_at(whole_until, body.frame()).await;
        match frame.map_err(|_| too_long("no picture was whole", SILENCE))? {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    parts.push(bytes);
                }
            }
            Some(Err(error)) => return Err(Trouble::Gone(format!("its connection broke: {error}"))),
            None => return Err(Trouble::Gone("it has ended its stream".into())),
        }
    }
}

/// A body of at most `most` bytes.
async fn whole(mut body: Incoming, most: usize) -> Result<Bytes, Trouble> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Gone(format!("its connection broke: {error}")))?;
        if let Some(more) = frame.data_ref() {
            if bytes.len() + more.len() > most {
                return Err(Trouble::Wrong(format!("it sends a picture of more than {most} bytes")));
            }
            bytes.extend_from_slice(more);
        }
    }
    Ok(bytes.freeze())
}

/// Asks for pictures, over a connection that is kept.
struct Client<'a> {
    credentials: Option<&'a Credentials>,
    bounds: &'a Bounds,
    /// How the camera asks who we are, once it has.
    challenge: Option<PasswordClient>,
    kept: Option<Kept>,
}

struct Kept {
    /// To whom it leads: scheme, host and port.
    origin: url::Origin,
    sender: SendRequest<Empty<Bytes>>,
    /// Carries the bytes.
    _driver: JoinSet<()>,
}

impl<'a> Client<'a> {
    fn new(credentials: Option<&'a Credentials>, bounds: &'a Bounds) -> Self {
        Self { credentials, bounds, challenge: None, kept: None }
    }

    /// The answer to which `url` leads.
    async fn get(&mut self, url: &Url) -> Result<Response<Incoming>, Trouble> {
        let (mut at, mut seen) = (url.clone(), BTreeSet::from([url.clone()]));
        loop {
            // The password is for whom it was given, and for nobody else.
            let is_own = at.origin() == url.origin();
            let answer = self.ask(&at, is_own).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            self.kept = None;
            if !status.is_redirection() {
                return Err(unwanted(status));
            }
            let target = answer.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
            let target = target.and_then(|target| at.join(target).ok());
            let mut target = target.ok_or_else(|| Trouble::Wrong("it redirects to no address".into()))?;
            if !matches!(target.scheme(), "http" | "https") {
                return Err(Trouble::Wrong("it redirects to what is not HTTP".into()));
            }
            target.set_fragment(None);
            // None of its own is sent: it could not know ours.
            let removed = target.set_username("").and_then(|()| target.set_password(None));
            removed.map_err(|()| Trouble::Wrong("it redirects to no address".into()))?;
            if !seen.insert(target.clone()) {
                return Err(Trouble::Wrong("it redirects to itself".into()));
            }
            if seen.len() > MOST_REDIRECTS + 1 {
                return Err(Trouble::Wrong(format!("it redirects more than {MOST_REDIRECTS} times")));
            }
            at = target;
        }
    }

    /// The answer to one request, and to a second one if the camera asks who we are.
    async fn ask(&mut self, url: &Url, is_own: bool) -> Result<Response<Incoming>, Trouble> {
        let credentials = self.credentials.filter(|_| is_own);
        let authorization = self.authorization(url, credentials)?;
        let answer = self.send(url, authorization).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(credentials) = credentials else {
            return Err(Trouble::Wrong("it asks for user and password: http://user:password@…".into()));
        };
        let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<&str> = challenges.iter().filter_map(|value| value.to_str().ok()).collect();
        // Also where something was said already: cameras let their questions grow old, and not all say so.
        let challenge = PasswordClient::builder().challenges(&challenges.join(", ")).build();
        self.challenge = Some(challenge.map_err(|why| {
            Trouble::Wrong(format!("it asks for a password in a way that is not known ({why})"))
        })?);
        let authorization = self.authorization(url, Some(credentials))?;
        // An answer that is not read to its end leaves a connection that is not to be used again.
        self.kept = None;
        match self.send(url, authorization).await? {
            answer if answer.status() == StatusCode::UNAUTHORIZED => Err(refused()),
            answer => Ok(answer),
        }
    }

    fn authorization(&mut self, url: &Url, who: Option<&Credentials>) -> Result<Option<String>, Trouble> {
        let (Some(challenge), Some(who)) = (&mut self.challenge, who) else { return Ok(None) };
        let said = challenge.respond(&PasswordParams {
            username: &who.user,
            password: &who.password,
            uri: &target(url),
            method: "GET",
            body: Some(&[]),
        });
        said.map(Some)
            .map_err(|why| Trouble::Wrong(format!("its question for the password is damaged ({why})")))
    }

    async fn send(
        &mut self,
        url: &Url,
        authorization: Option<String>,
    ) -> Result<Response<Incoming>, Trouble> {
        let mut request = Request::get(target(url)).header(header::HOST, authority(url));
        let own: [(HeaderName, &str); 2] = [
            (header::USER_AGENT, concat!("cloudpose/", env!("CARGO_PKG_VERSION"))),
            (header::ACCEPT, "multipart/x-mixed-replace, image/*"),
        ];
        for (name, value) in own {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new());
        let request = request.map_err(|error| Trouble::Wrong(format!("it cannot be asked: {error}")))?;
        let kept = self.kept.take().filter(|kept| kept.origin == url.origin() && !kept.sender.is_closed());
        let is_ready = async |mut kept: Kept| kept.sender.ready().await.is_ok().then_some(kept);
        let kept = match kept {
            Some(kept) => is_ready(kept).await,
            None => None,
        };
        let mut kept = match kept {
            Some(kept) => kept,
            None => self.open(url).await?,
        };
        let answer = timeout(ANSWER, kept.sender.send_request(request)).await;
        let answer = answer.map_err(|_| too_long("it did not answer", ANSWER))?;
        let answer =
            answer.map_err(|error| Trouble::Gone(format!("it gives no answer that is HTTP: {error}")))?;
        self.kept = Some(kept);
        Ok(answer)
    }

    async fn open(&self, url: &Url) -> Result<Kept, Trouble> {
        let addresses = addresses(url, &self.bounds.reach).await?;
        let stream = connect(&addresses).await?;
        let origin = url.origin();
        if url.scheme() == "https" {
            Kept::new(origin, TokioIo::new(secure(stream, url).await?)).await
        } else {
            Kept::new(origin, TokioIo::new(stream)).await
        }
    }
}

impl Kept {
    async fn new(
        origin: url::Origin,
        io: impl Read + Write + Send + Unpin + 'static,
    ) -> Result<Self, Trouble> {
        let spoken =
            http1::Builder::new().max_buf_size(MOST_HEAD).max_headers(MOST_HEADERS).handshake(io).await;
        let (sender, connection) =
            spoken.map_err(|error| Trouble::Gone(format!("it does not speak HTTP: {error}")))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Who waits for the answer is told.
            connection.await.ok();
        });
        Ok(Self { origin, sender, _driver: driver })
    }
}

/// What stands in the request line.
fn target(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

fn refused() -> Trouble {
    Trouble::Wrong("user or password are not the camera's".into())
}

/// An answer that is no picture.
fn unwanted(status: StatusCode) -> Trouble {
    let why = format!("it answers {status}");
    match status {
        StatusCode::FORBIDDEN => Trouble::Wrong(format!("{why}: the user may not see it")),
        _ => Trouble::Gone(why),
    }
}
