//! Cameras over HTTP: Motion JPEG, or one picture an answer, which is asked for again and again.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use http_auth::{PasswordClient, PasswordParams};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap},
};
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use super::{Bounds, SILENCE, encoded, multipart::Parts};
use crate::{
    cameras::{address::Credentials, feed::Feed},
    outbound::{
        ANSWER, Trouble,
        http::{Line, request, target, whole},
        too_long,
    },
};

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

/// Asks for pictures, over a connection that is kept.
struct Client<'a> {
    credentials: Option<&'a Credentials>,
    bounds: &'a Bounds,
    /// How the camera asks who we are, once it has.
    challenge: Option<PasswordClient>,
    kept: Option<Line>,
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
        let request = request(Method::GET, url).header(header::ACCEPT, "multipart/x-mixed-replace, image/*");
        let request = match authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        };
        let request = request.body(Full::default());
        let request = request.map_err(|error| Trouble::Wrong(format!("it cannot be asked: {error}")))?;
        let mut kept = self.kept.take();
        if let Some(line) = &mut kept
            && !line.is_ready_for(url).await
        {
            kept = None;
        }
        let mut line = match kept {
            Some(line) => line,
            None => Line::open(url, &self.bounds.reach).await?,
        };
        let answer = timeout(ANSWER, line.send(request)).await;
        let answer = answer.map_err(|_| too_long("it did not answer", ANSWER))??;
        self.kept = Some(line);
        Ok(answer)
    }
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
