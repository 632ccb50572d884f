//! Streams that are there beside the cameras: some send nothing, some hardly read.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{sleep, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::{Streams, connection};
use crate::{failure::Failure, schedule::FrameClock, stage::Stage};

/// How long a slow reader rests after each message.
const REST: Duration = Duration::from_secs(1);

/// A stream that sends nothing, until the window ends. It must not be cut off.
pub(super) async fn idle((streams, index): (&Streams, u32), stage: &Stage) {
    let (mut socket, _) = match connection::open(streams, index).await {
        Ok(open) => open,
        Err(failure) => return stage.recorder.failed(0, failure, 1),
    };
    // Reading answers pings.
    let read = async { while let Some(Ok(_)) = socket.next().await {} };
    if timeout_at(stage.instant(stage.recorder.window().until), read).await.is_ok() {
        stage.recorder.failed(0, Failure::Closed, 1);
    }
}

/// A stream that sends as a camera does, and takes one message a second. The service may cut it off.
pub(super) async fn slow_reader((streams, index): (&Streams, u32), stage: &Stage, fps: f64) {
    let (socket, _) = match connection::open(streams, index).await {
        Ok(open) => open,
        Err(failure) => return stage.recorder.failed(0, failure, 1),
    };
    let (mut sink, mut source) = socket.split();
    let clock = FrameClock { first: stage.now(), fps };
    let film = async {
        for (seq, picture) in (1..).zip(streams.pictures.iter().cycle()) {
            stage.sleep_until(clock.due(seq)).await;
            if sink.send(Message::Binary(picture.clone())).await.is_err() {
                break;
            }
        }
    };
    let read = async {
        while let Some(Ok(_)) = source.next().await {
            sleep(REST).await;
        }
    };
    let talk = async {
        tokio::select! {
            () = film => {}
            () = read => {}
        }
    };
    if timeout_at(stage.instant(stage.recorder.window().until), talk).await.is_ok() {
        stage.recorder.cut_off();
    }
}
