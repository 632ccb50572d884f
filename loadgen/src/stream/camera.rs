//! A camera: frames go out when they are due, and what comes back is checked against the books.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use cloudpose_wire::{
    SharedEvent, StreamName, Want,
    ws::{ClientMessage, ErrorCode, ServerMessage},
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::time::timeout_at;
use tokio_tungstenite::tungstenite::Message;

use super::{
    Streams,
    connection::{self, Socket},
};
use crate::{failure::Failure, ledger::Ledger, record::UserTally, schedule::FrameClock, stage::Stage};

/// Index of frames among the recorder's calls.
const FRAME: usize = 0;
/// Frames that were due before the end, and that the service had not let us send by then.
const NOT_TAKEN: &str = "not_taken";

/// One camera's stream.
struct Camera<'a> {
    streams: &'a Streams,
    stage: &'a Stage,
    clock: FrameClock,
    name: StreamName,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    ledger: Ledger,
    sent: u64,
    delivered: u64,
    /// All frames are sent, and the service has been told.
    ended: bool,
}

/// Streams until the window ends, and until what was sent is answered or the time for it is over.
pub(super) async fn run(
    (streams, index): (&Streams, u32),
    stage: &Stage,
    fps: f64,
    mut random: fastrand::Rng,
) {
    // Cameras are not in step.
    let phase = Duration::from_secs_f64(random.f64() / fps);
    let window = stage.recorder.window();
    let (socket, name) = match connection::open(streams, index).await {
        Ok(open) => open,
        Err(failure) => {
            let due = FrameClock { first: stage.now() + phase, fps }.count(window.from, window.until);
            stage.recorder.stream(UserTally { due, ..UserTally::default() });
            return stage.recorder.failed(FRAME, failure, 1);
        }
    };
    let clock = FrameClock { first: stage.now() + phase, fps };
    let camera = Camera { streams, stage, clock, name, books: Mutex::default() };
    let (sink, source) = socket.split();
    let talk = async {
        tokio::select! {
            why = camera.listen(source) => why,
            never = async { camera.film(sink).await; std::future::pending().await } => never,
        }
    };
    let why = timeout_at(stage.instant(window.until + streams.timeout), talk).await;
    let books = camera.books();
    if let Ok(Some(failure)) = why {
        stage.recorder.failed(FRAME, failure, 1);
    }
    stage.recorder.failed(FRAME, Failure::Unanswered, books.ledger.unanswered());
    // Not sent before the end, or because the stream had ended.
    let due_in_all = clock.count(Duration::ZERO, window.until);
    for seq in books.sent + 1..=due_in_all {
        stage.recorder.dropped(clock.due(seq), NOT_TAKEN);
    }
    let due = clock.count(window.from, window.until);
    let tally = UserTally { due, delivered: books.delivered.min(due), ids_checked: books.ledger.checked() };
    stage.recorder.stream(tally);
}

impl Camera<'_> {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends each frame when it is due; later if the service does not take the one before. Returns when all are
    /// sent or the connection is gone.
    async fn film(&self, mut sink: SplitSink<Socket, Message>) {
        let (stage, until) = (self.stage, self.stage.recorder.window().until);
        let configure = ClientMessage::Configure {
            draw: None,
            want: None,
            model: None,
            quality: None,
            drops: Some(true),
            smooth: None,
        };
        if sink.send(text(&configure)).await.is_err() {
            return;
        }
        let pictures = &self.streams.pictures;
        let mut free = stage.now();
        for (seq, picture) in (1..).zip(pictures.iter().cycle()) {
            let due = self.clock.due(seq);
            if due.max(free) >= until {
                break;
            }
            stage.sleep_until(due).await;
            // What the service did not take in time is its doing, the rest ours.
            stage.recorder.sending(due, stage.now().saturating_sub(due.max(free)));
            {
                let mut books = self.books();
                books.ledger.sent();
                books.sent = seq;
            }
            if sink.send(Message::Binary(picture.clone())).await.is_err() {
                return;
            }
            free = stage.now();
        }
        self.books().ended = true;
        // If this fails the listener sees why.
        sink.send(text(&ClientMessage::End)).await.ok();
    }

    /// Reads until the connection ends. Answers why, if it should not have.
    async fn listen(&self, mut source: SplitStream<Socket>) -> Option<Failure> {
        let mut goodbye = None;
        let mut before_picture = None;
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Text(text) => {
                    self.missing_picture(before_picture.take());
                    match serde_json::from_str(&text) {
                        Ok(ServerMessage::Result { seq, event, overlay, .. }) => {
                            if !self.result(seq, event.as_ref(), overlay) {
                                continue;
                            }
                            match overlay {
                                true => before_picture = Some((seq, text.len())),
                                false => self.delivered(seq, text.len()),
                            }
                        }
                        Ok(ServerMessage::Drop { seq, reason, .. }) => match self.books().ledger.dropped(seq)
                        {
                            Ok(()) => self.stage.recorder.dropped(self.clock.due(seq), reason.as_str()),
                            Err(failure) => self.fail(failure),
                        },
                        Ok(ServerMessage::Error { code, .. }) => match code {
                            // Its `drop` says the rest.
                            ErrorCode::BadFrame => {}
                            ErrorCode::BadMessage => self.fail(Failure::Refused(code)),
                            code => goodbye = Some(Failure::Refused(code)),
                        },
                        Ok(ServerMessage::Hint { .. }) => {}
                        Ok(ServerMessage::Hello { .. } | ServerMessage::Keyframe) | Err(_) => {
                            self.fail(Failure::BadAnswer)
                        }
                    }
                }
                Message::Binary(picture) => match before_picture.take() {
                    Some((seq, bytes)) if is_jpeg(&picture) => self.delivered(seq, bytes + picture.len()),
                    _ => self.fail(Failure::BadAnswer),
                },
                _ => {}
            }
        }
        self.missing_picture(before_picture);
        let ended = self.books().ended;
        goodbye.or((!ended).then_some(Failure::Closed))
    }

    /// Whether an event is of that frame of this stream.
    fn is_of(&self, seq: u64, event: &SharedEvent) -> bool {
        event.event().is_ok_and(|event| event.seq == seq && event.stream == self.name)
    }

    /// Checks a result against the books. False if it does not count.
    fn result(&self, seq: u64, event: Option<&SharedEvent>, overlay: bool) -> bool {
        let want = self.streams.options.want;
        let checked = self.books().ledger.result(seq);
        let wrong = if let Err(failure) = checked {
            failure
        } else if event.is_some_and(|event| !self.is_of(seq, event)) {
            Failure::WrongId
        } else if overlay != want.overlay() || event.is_some() != (want != Want::Overlay) {
            Failure::BadAnswer
        } else {
            return true;
        };
        self.fail(wrong);
        false
    }

    fn missing_picture(&self, waiting: Option<(u64, usize)>) {
        if waiting.is_some() {
            self.fail(Failure::BadAnswer);
        }
    }

    fn delivered(&self, seq: u64, bytes: usize) {
        let (due, window) = (self.clock.due(seq), self.stage.recorder.window());
        self.stage.recorder.outcome(FRAME, due, self.stage.now(), Ok(bytes as u64));
        if (window.from..window.until).contains(&due) {
            self.books().delivered += 1;
        }
    }

    fn fail(&self, failure: Failure) {
        self.stage.recorder.failed(FRAME, failure, 1);
    }
}

fn is_jpeg(picture: &Bytes) -> bool {
    picture.starts_with(&[0xff, 0xd8, 0xff])
}

fn text(message: &ClientMessage) -> Message {
    Message::text(serde_json::to_string(message).expect("a plain message is JSON"))
}
