//! Replay in real time, through a running server.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use cloudpose_infer::Image;
use cloudpose_pixels::Encoder;
use cloudpose_wire::{
    DropReason,
    ws::{ClientMessage, ErrorCode, ServerMessage},
};
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::Message;

use super::{Found, Lines, Replay, frames, frames::Moment, warn};
use crate::{
    clip::Ended,
    plain::plain,
    remote::{Socket, websocket},
};

/// Frames that are read before it is their time.
const AHEAD: usize = 4;
/// JPEG quality of frames of videos.
const QUALITY: u8 = 95;

/// A frame that is to be sent.
type Due = (Moment, Bytes);

/// Runs the command.
///
/// # Errors
/// If there are no frames, or the server does not do it.
pub(super) async fn run(command: &Replay, server: &str) -> Result<()> {
    let path = format!("/v1/stream?model={}", command.model);
    let mut socket = websocket(server, command.key.as_deref(), &path).await?;
    match heard(&mut socket).await? {
        Some(ServerMessage::Hello { .. }) => {}
        Some(ServerMessage::Error { message, .. }) => bail!("{server} says: {}", plain(&message)),
        _ => bail!("{server} does not answer as a CloudPose server does"),
    }
    let mut lines = Lines::create(command)?;
    let (due, frames) = mpsc::channel(AHEAD);
    let clip = command.clip.clone();
    let reader = tokio::task::spawn_blocking(move || read(&clip, &due));
    let ended = exchange(socket, frames, &mut lines).await;
    lines.finish()?;
    let Played { sent, done, dropped } = ended?;
    warn(&command.clip, reader.await.context("the clip could not be read")??);
    let of = |(reason, frames): (&DropReason, &u64)| format!("{} {frames}", reason.as_str());
    let why: Vec<String> = dropped.iter().map(of).collect();
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
    eprintln!("{sent} frames sent, {done} done, {} not{why}", sent - done);
    Ok(())
}

/// Reads frames until nobody wants more.
fn read(clip: &Path, due: &Sender<Due>) -> Result<Ended> {
    let mut encoder = Encoder::new()?;
    frames::play(clip, |moment, image| {
        let image = match image {
            Image::Encoded(image) => Bytes::copy_from_slice(image),
            Image::Planes(planes) => encoder.encode(planes, QUALITY)?,
        };
        Ok(due.blocking_send((moment, image)).is_ok())
    })
}

/// What became of the frames.
#[derive(Debug, Default)]
struct Played {
    sent: u64,
    done: u64,
    dropped: BTreeMap<DropReason, u64>,
}

/// Sends each frame when it is its time, and writes what comes back.
async fn exchange(socket: Socket, mut frames: Receiver<Due>, lines: &mut Lines) -> Result<Played> {
    let (mut to, mut from) = socket.split();
    let mut played = Played::default();
    // By their `seq` less 1.
    let mut moments: Vec<Moment> = Vec::new();
    let mut began: Option<(Instant, u64)> = None;
    let mut next = frames.recv().await;
    ensure!(next.is_some(), "there is no frame in it");
    let tell = ClientMessage::Configure {
        want: None,
        draw: None,
        model: None,
        quality: None,
        drops: Some(true),
        smooth: None,
    };
    say(&mut to, &tell).await?;
    loop {
        let now = Instant::now();
        let at = next.as_ref().map(|(moment, _)| {
            let (began, first) = *began.get_or_insert((now, moment.at));
            began + Duration::from_millis(moment.at.saturating_sub(first))
        });
        tokio::select! {
            message = from.next() => match message {
                None | Some(Ok(Message::Close(_))) => break,
                Some(Ok(Message::Text(text))) => {
                    let message = serde_json::from_str(&text).context("the server's answer is none")?;
                    take(message, &moments, &mut played, lines)?;
                }
                Some(message) => _ = message.context("the connection broke")?,
            },
            () = sleep_until(at.unwrap_or(now)), if at.is_some() => {
                if let Some((moment, image)) = next.take() {
                    to.send(Message::Binary(image)).await.context("the connection broke")?;
                    moments.push(moment);
                    played.sent += 1;
                }
                next = frames.recv().await;
                if next.is_none() {
                    say(&mut to, &ClientMessage::End).await?;
                }
            }
        }
    }
    ensure!(next.is_none(), "the server hung up after {} frames", played.sent);
    Ok(played)
}

async fn say(to: &mut SplitSink<Socket, Message>, message: &ClientMessage) -> Result<()> {
    let text = serde_json::to_string(message)?;
    to.send(Message::text(text)).await.context("the connection broke")
}

fn take(message: ServerMessage, moments: &[Moment], played: &mut Played, lines: &mut Lines) -> Result<()> {
    match message {
        ServerMessage::Result { seq, event: Some(event), .. } => {
            let moment = seq.checked_sub(1).and_then(|index| moments.get(index as usize));
            let moment =
                moment.ok_or_else(|| anyhow!("the server answers to a frame {seq} that was not sent"))?;
            let event = event.event().context("the server's event is none")?;
            let size = [event.width, event.height];
            lines.write(*moment, &Found { size, model: &event.model, output: &event.output })?;
            played.done += 1;
        }
        ServerMessage::Drop { reason, .. } => *played.dropped.entry(reason).or_default() += 1,
        // It is followed by its drop.
        ServerMessage::Error { code: ErrorCode::BadFrame, .. } => {}
        ServerMessage::Error { message, .. } => bail!("the server says: {}", plain(&message)),
        _ => {}
    }
    Ok(())
}

async fn heard(socket: &mut Socket) -> Result<Option<ServerMessage>> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text).ok()),
        Some(Err(error)) => Err(error).context("the connection broke"),
        _ => Ok(None),
    }
}
