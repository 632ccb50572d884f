//! Asking a JetStream consumer for messages, in the protocol's own terms.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Nats, Turn, lanes};

/// How long the broker holds a request that waits.
const EXPIRES: Duration = Duration::from_secs(5);
/// How often the broker says that it still holds it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A lane that says nothing for this long is no more.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the answer to a question may take that does not wait for frames.
const ANSWER: Duration = Duration::from_millis(500);
/// How long the next of several frames may take that wait already.
const GAP: Duration = Duration::from_millis(50);

/// What is asked of one consumer, and where the answers come.
pub(super) struct Asked {
    client: Client,
    inbox: String,
    answers: Subscriber,
    /// Where to ask.
    next: String,
    /// In which turn a lane serves us; `None` for a consumer that serves all alike.
    turn: Option<Turn>,
    /// Messages asked for that have not come.
    pub(super) open: usize,
    heard: Instant,
}

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// What waits already.
    AtOnce,
    /// What waits or will come.
    Wait,
}

/// A pull request as the broker reads it; times in nanoseconds, 0 for none (ADR-13 and ADR-42 of
/// nats-architecture-and-design).
#[derive(Debug, Serialize)]
struct Request {
    batch: usize,
    no_wait: bool,
    expires: u128,
    idle_heartbeat: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
}

/// What was answered.
pub(super) enum Answer {
    Message(Message),
    /// There is nothing (more) for this request, or it is still held.
    Word,
    /// The consumer is gone, or does not answer.
    Gone(String),
}

impl Asked {
    /// Of the consumer `consumer` of `stream`.
    pub(super) async fn open(
        bus: &Nats,
        stream: &str,
        consumer: &str,
        turn: Option<Turn>,
    ) -> Result<Self, async_nats::Error> {
        let client = bus.0.client.clone();
        let inbox = client.new_inbox();
        let answers = client.subscribe(inbox.clone()).await?;
        let next = format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", bus.0.api);
        Ok(Self { client, inbox, answers, next, turn, open: 0, heard: Instant::now() })
    }

    pub(super) async fn ask(&mut self, messages: usize, how: How) -> Result<(), async_nats::Error> {
        let request = Request {
            batch: messages,
            no_wait: how == How::AtOnce,
            expires: if how == How::Wait { EXPIRES.as_nanos() } else { 0 },
            idle_heartbeat: if how == How::Wait { HEARTBEAT.as_nanos() } else { 0 },
            group: self.turn.map(|_| lanes::GROUP),
            priority: self.turn.map(Turn::priority),
        };
        let request = serde_json::to_vec(&request)?.into();
        self.client.publish_with_reply(self.next.clone(), self.inbox.clone(), request).await?;
        self.open += messages;
        self.heard = Instant::now();
        Ok(())
    }

    /// Waits for the next answer to what was asked.
    pub(super) async fn answer(&mut self) -> Answer {
        let message = tokio::select! {
            message = self.answers.next() => message,
            () = sleep_until(self.heard + SILENCE), if self.open > 0 => {
                return Answer::Gone("it fell silent".into());
            }
        };
        let Some(message) = message else { return Answer::Gone("the inbox is closed".into()) };
        self.heard = Instant::now();
        match message.status {
            None => {
                self.open = self.open.saturating_sub(1);
                Answer::Message(message)
            }
            Some(StatusCode::IDLE_HEARTBEAT) => Answer::Word,
            // 404: nothing waits. 408: waited long enough.
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
                let pending = message.headers.as_ref().and_then(|h| h.get("Nats-Pending-Messages"));
                let unmet = pending.and_then(|n| n.as_str().parse().ok()).unwrap_or(self.open);
                self.open = self.open.saturating_sub(unmet);
                Answer::Word
            }
            Some(status) => {
                let why = message.description.unwrap_or_default();
                Answer::Gone(format!("{} {why}", status.as_u16()))
            }
        }
    }

    /// Takes up to `max` messages that wait already.
    pub(super) async fn look(&mut self, max: usize, found: &mut Vec<Message>) -> Result<(), String> {
        self.ask(max, How::AtOnce).await.map_err(|error| error.to_string())?;
        while self.open > 0 {
            match timeout(if found.is_empty() { ANSWER } else { GAP }, self.answer()).await {
                Ok(Answer::Message(message)) => {
                    // If fewer wait than we asked for, they come and nothing is said at their end. The first
                    // tells how many come after it.
                    // Those that come again are not among them: they end where no more comes. A lane has few of these, and does
                    // not wait for them.
                    if found.is_empty() && (self.turn.is_some() || !comes_again(&message)) {
                        self.open = self.open.min(behind(&message));
                    }
                    found.push(message);
                }
                Ok(Answer::Word) => {}
                Ok(Answer::Gone(why)) => return Err(why),
                Err(_) if found.is_empty() => return Err("it does not answer".into()),
                Err(_) => self.open = 0,
            }
        }
        Ok(())
    }

    /// Withdraws what was asked and returns what was already on its way.
    pub(super) async fn withdraw(mut self) -> Vec<Message> {
        let mut late = Vec::new();
        if self.answers.drain().await.is_ok() {
            let rest = async {
                while let Some(message) = self.answers.next().await {
                    if message.status.is_none() {
                        late.push(message);
                    }
                }
            };
            // Without a connection the end never comes; then nothing else comes either.
            timeout(ANSWER, rest).await.ok();
        }
        late
    }
}

/// How many messages waited behind this one.
fn behind(message: &Message) -> usize {
    told(message, 8).unwrap_or(0)
}

/// Whether it was handed out before.
fn comes_again(message: &Message) -> bool {
    told(message, 4).is_some_and(|times| times > 1)
}

/// A number of `$JS.ACK.<stream>.<consumer>.<times handed out>.….<messages behind it>`, see ADR-15 of
/// nats-architecture-and-design.
fn told(message: &Message, at: usize) -> Option<usize> {
    let subject = message.reply.as_ref().map_or("", |reply| reply.as_str());
    let tokens: Vec<&str> = subject.split('.').collect();
    // Nine tokens, or more if there is a domain and an account before the stream.
    let at = if tokens.len() > 9 { at + 2 } else { at };
    tokens.get(at)?.parse().ok()
}
