//! `cloudpose capture`: keeps what somebody who watches a live stream sees, in a clip.

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use cloudpose_wire::{Event, StreamName, ws::ErrorCode};
use futures_util::StreamExt as _;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    clip::ClipWriter,
    plain::{plain, shown},
    remote::{Server, Socket, websocket},
};

#[derive(Debug, Args)]
#[command(
    after_help = "A clip is a tar archive: 000001.jpg is the first frame as it came, 000001.json what the server found in it, and so
on. It is whole when the time is over, --max-bytes are reached, the stream ends or you press Ctrl-C; what was killed meanwhile
keeps what it has. The key needs the scope watch; a server that shows no undrawn pictures (--draw-only) refuses.

Examples:
  cloudpose capture --stream door --for 10m -o door.tar
  cloudpose capture --server https://pose.example.com --key cpk-… --stream door -o door.tar
  cloudpose replay door.tar --model accurate -o accurate.jsonl
  cloudpose diff door.tar accurate.jsonl -o page.html"
)]
pub(crate) struct Capture {
    /// The stream, as GET /v1/streams names it
    #[arg(long, value_name = "STREAM")]
    stream: StreamName,
    /// How long
    #[arg(long = "for", default_value = "10m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    time: Duration,
    /// How long the file gets, at most
    #[arg(long, default_value_t = 1 << 30, value_name = "BYTES")]
    max_bytes: u64,
    /// The clip to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// What is read of a message; the event stays as it was written.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Heard {
    Hello {},
    Result { lost: u64 },
    Error { code: ErrorCode, message: String },
}

/// The event in a `result`.
#[derive(Debug, Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    pose: &'a RawValue,
}

/// Why nothing more is kept.
#[derive(Debug, PartialEq)]
enum End {
    /// The time is over.
    Time,
    /// The clip has no more room.
    Full,
    /// Somebody pressed Ctrl-C.
    Stopped,
    /// Nobody sends the stream any more.
    StreamEnded,
    /// The server went away or was not content.
    Lost(String),
}

/// Runs the command.
///
/// # Errors
/// If there is no such stream, the clip cannot be written, or the server goes away before the time is over; what came until then
/// is kept.
pub(crate) async fn run(command: &Capture) -> Result<()> {
    let Capture { stream, time, max_bytes, output, server } = command;
    let path = format!("/v1/streams/{stream}/watch?want=both&draw=frame");
    let mut socket = websocket(&server.server, server.key.as_deref(), &path).await?;
    match hear(&mut socket).await? {
        Some(Message::Text(text)) => match serde_json::from_str(&text) {
            Ok(Heard::Hello {}) => {}
            Ok(Heard::Error { message, .. }) => bail!("{} says: {}", server.server, plain(&message)),
            _ => bail!("{} does not answer as a CloudPose server does", server.server),
        },
        _ => bail!("{} hung up", server.server),
    }
    let clip = ClipWriter::create(output, *max_bytes)?;
    let mut keeping = Keeping { clip, lost: 0, bar: bar(*time) };
    let began = SystemTime::now();
    let end = keeping.keep(&mut socket, Instant::now() + *time).await;
    keeping.bar.finish_and_clear();
    let (frames, bytes, lost) = (keeping.clip.frames(), keeping.clip.bytes(), keeping.lost);
    keeping.clip.finish()?;
    let end = end?;
    if frames == 0 {
        std::fs::remove_file(output).with_context(|| format!("cannot remove {}", shown(output)))?;
    }
    let seconds = began.elapsed().unwrap_or_default().as_secs();
    let lost = if lost > 0 { format!("; {lost} more came too fast for us") } else { String::new() };
    eprintln!("{}: {frames} frames in {seconds} s, {}{lost}", shown(output), HumanBytes(bytes));
    match end {
        _ if frames == 0 => bail!("no frame of {stream} came: nothing is kept"),
        End::Time | End::Stopped => Ok(()),
        End::StreamEnded => {
            eprintln!("{stream} ended before the time was over");
            Ok(())
        }
        End::Full => {
            eprintln!("--max-bytes was reached before the time was over");
            Ok(())
        }
        End::Lost(why) => bail!("what came until then is kept: {why}"),
    }
}

struct Keeping {
    clip: ClipWriter,
    /// Frames that the server could not show us.
    lost: u64,
    bar: ProgressBar,
}

impl Keeping {
    async fn keep(&mut self, socket: &mut Socket, until: Instant) -> Result<End> {
        let mut event: Option<Event> = None;
        let mut json = String::new();
        let stopped = tokio::signal::ctrl_c();
        tokio::pin!(stopped);
        loop {
            let message = tokio::select! {
                message = hear(socket) => message,
                () = sleep_until(until) => return Ok(End::Time),
                _ = &mut stopped => return Ok(End::Stopped),
            };
            match message {
                Ok(Some(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(Heard::Result { lost }) => {
                        let found: Found<'_> =
                            serde_json::from_str(&text).context("a result has no event")?;
                        found.pose.get().clone_into(&mut json);
                        event =
                            Some(serde_json::from_str(&json).context("a result has an event that is none")?);
                        self.lost = lost;
                    }
                    Ok(Heard::Error { code: ErrorCode::NoStream, .. }) => return Ok(End::StreamEnded),
                    Ok(Heard::Error { message, .. }) => return Ok(End::Lost(plain(&message))),
                    Ok(Heard::Hello {}) | Err(_) => {}
                },
                Ok(Some(Message::Binary(frame))) => {
                    let Some(event) = event.take() else { continue };
                    if !self.clip.push(&frame, &json, event.captured_at)? {
                        return Ok(End::Full);
                    }
                    self.tell();
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(End::Lost("the server hung up".into())),
                Err(error) => return Ok(End::Lost(plain(&format!("{error:#}")))),
            }
        }
    }

    fn tell(&self) {
        let (frames, bytes) = (self.clip.frames(), HumanBytes(self.clip.bytes()));
        self.bar.set_position(self.bar.elapsed().as_secs());
        self.bar.set_message(format!("{frames} frames, {bytes}"));
    }
}

/// The next message; none at the end.
async fn hear(socket: &mut Socket) -> Result<Option<Message>> {
    match socket.next().await {
        None | Some(Ok(Message::Close(_))) => Ok(None),
        Some(message) => Ok(Some(message.context("the connection broke")?)),
    }
}

fn bar(time: Duration) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30.cyan} {eta} left  {msg}");
    ProgressBar::new(time.as_secs()).with_style(style.expect("the template is a constant"))
}
