//! A running server, as commands ask it.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use tokio::{net::TcpStream, time::sleep};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};

use crate::plain::plain;

/// A WebSocket to a server.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How often a request is sent that a server does not answer, or not now.
const TRIES: u32 = 6;
/// Pause before the second; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// Largest message that is taken: a picture of the largest size that is allowed.
const MOST_BYTES: usize = 64 << 20;

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The server
    #[arg(long, env = "CLOUDPOSE_SERVER", default_value = "http://127.0.0.1:60000", value_name = "URL")]
    pub(crate) server: String,
    /// The key to show it
    #[arg(long, env = "CLOUDPOSE_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// What is read of a problem.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
}

impl Server {
    pub(crate) async fn get(&self, path: &str) -> Result<Response> {
        self.send(Method::GET, path, |request| request).await
    }

    /// Sends a request, again if the server is not there or has no room.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let url = format!("{}{path}", self.server.trim_end_matches('/'));
        let client = reqwest::Client::new();
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let mut request = client.request(method.clone(), &url);
            if let Some(key) = &self.key {
                request = request.bearer_auth(key);
            }
            match with(request).send().await {
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE && left > 0 => {}
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let why = response.json::<Problem>().await.map(|problem| plain(&problem.detail));
                    bail!("{} says {status}: {}", self.server, why.unwrap_or_else(|_| "no reason".into()));
                }
                Err(error) if left == 0 || error.is_builder() => {
                    return Err(error).with_context(|| format!("cannot ask {}", self.server));
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause *= 2;
        }
        bail!("{} has no room now; try again later", self.server)
    }
}

/// Opens a WebSocket.
///
/// # Errors
/// Why there is none.
pub(crate) async fn websocket(server: &str, key: Option<&str>, path: &str) -> Result<Socket> {
    let server = server.trim_end_matches('/');
    let url = server.strip_prefix("http").map_or(server.to_owned(), |rest| format!("ws{rest}"));
    let mut request =
        format!("{url}{path}").into_client_request().context("this is no address of a server")?;
    if let Some(key) = key {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).context("this can be no key")?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let config =
        WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
    match connect_async_with_config(request, Some(config), true).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let why = serde_json::from_slice::<Problem>(body).map(|problem| plain(&problem.detail));
            let why = why.unwrap_or_else(|_| "no reason".into());
            Err(anyhow!("{server} says {}: {why}", response.status()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot ask {server}")),
    }
}
