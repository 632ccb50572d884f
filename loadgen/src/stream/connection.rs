//! A WebSocket to the service, open and greeted.

use cloudpose_wire::{StreamName, ws::ServerMessage};
use futures_util::StreamExt as _;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Message, client::IntoClientRequest as _, http::header::AUTHORIZATION, protocol::WebSocketConfig,
    },
};

use super::Streams;
use crate::{failure::Failure, key};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Largest message that is taken: an annotated picture of the largest size that is allowed.
const MAX_MESSAGE: usize = 64 << 20;
/// Of each stream, as long as it lives: hundreds of idle ones must cost little.
const READ_BUFFER: usize = 16 << 10;

/// Connects as user `index` and waits for `hello`. Answers the stream's name.
///
/// # Errors
/// Why there is no stream.
pub(super) async fn open(streams: &Streams, index: u32) -> Result<(Socket, StreamName), Failure> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let greeted = async {
        let mut request = streams.url.as_str().into_client_request().map_err(|_| Failure::Connect)?;
        if let Some(key) = key::of_user(&streams.keys, u64::from(index)) {
            request.headers_mut().insert(AUTHORIZATION, key.bearer());
        }
        let connected = connect_async_with_config(request, Some(config), true).await;
        let (mut socket, _) = connected.map_err(|error| match error {
            tokio_tungstenite::tungstenite::Error::Http(response) => {
                Failure::Status(response.status().as_u16())
            }
            _ => Failure::Connect,
        })?;
        match socket.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(ServerMessage::Hello { stream, .. }) => Ok((socket, stream)),
                Ok(ServerMessage::Error { code, .. }) => Err(Failure::Refused(code)),
                _ => Err(Failure::BadAnswer),
            },
            Some(Ok(_)) => Err(Failure::BadAnswer),
            _ => Err(Failure::Closed),
        }
    };
    timeout(streams.timeout, greeted).await.unwrap_or(Err(Failure::Timeout))
}
