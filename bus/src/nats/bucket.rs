//! Buckets on NATS: JetStream's key-value (ADR-8 of nats-architecture-and-design), a stream whose last message of each
//! subject counts.
//!
//! | | |
//! |---|---|
//! | stream, subjects | `KV_<prefix>-<name>`, `$KV.<prefix>-<name>.<key>` |
//! | kept | the last message of each subject, in files |
//! | when full | discard new: the writer is told |
//!
//! All is read at once by a request that the server answers from what it keeps (ADR-31). A consumer could be told to
//! deliver anywhere, so gateways need no right to make one. A server that has no room for files keeps buckets in
//! memory, which the log says; one that must outlive its server is not kept then.

use std::{collections::BTreeMap, error::Error as _, sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, Message, StatusCode, Subscriber,
    client::{Request, RequestErrorKind},
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL},
    jetstream::{
        self, ErrorCode,
        publish::PublishAck,
        response::Response,
        stream::{Config, DiscardPolicy, InfoError, LastRawMessageErrorKind, StorageType, Stream},
    },
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream::SelectAll};
use tokio::time::timeout;

use super::{CONFIRMATION, Nats, jobs::has_no_room, set_up::SetUp};
use crate::bucket::{BucketError, Document, Over, Without};

/// Bytes of all documents of a bucket, and of one.
const BYTES: i64 = 16 << 20;
const DOCUMENT_BYTES: i32 = 256 << 10;
/// How long it is kept that a document was removed: who reads sees that it is not there.
const REMOVED: Duration = Duration::from_secs(1);
/// How often it is looked for a bucket that is not there, and the pauses between.
const LOOKS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(50);
/// Says that a message removes what came before it.
const OPERATION: &str = "KV-Operation";

/// A bucket on the NATS server. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Bucket(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Nats,
    /// The stream.
    stream: String,
    /// What subjects begin with.
    root: String,
    made: SetUp,
    without: Without,
}

impl Nats {
    pub(crate) fn bucket(&self, name: &str, without: Without) -> Bucket {
        let name = format!("{}-{name}", self.0.prefix);
        Bucket(Arc::new(Shared {
            bus: self.clone(),
            stream: format!("KV_{name}"),
            root: format!("$KV.{name}."),
            made: SetUp::default(),
            without,
        }))
    }
}

impl Bucket {
    pub(crate) async fn read(&self) -> Result<BTreeMap<String, Document>, BucketError> {
        let found = self.asked(|| self.ask_for(">")).await?;
        let there = found.into_iter().filter(|found| !found.is_removed);
        Ok(there.map(|found| (found.key, found.document)).collect())
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Document>, BucketError> {
        let found = self.asked(|| self.last(key)).await?;
        Ok(found.filter(|found| !found.is_removed).map(|found| found.document))
    }

    pub(crate) async fn keys(&self) -> Result<Vec<String>, BucketError> {
        self.asked(|| self.subjects()).await
    }

    /// The answer to a question, once the stream is there.
    async fn asked<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        question: impl Fn() -> F,
    ) -> Result<T, BucketError> {
        self.check_link()?;
        for _ in 0..LOOKS {
            let seen = self.0.made.seen();
            match within(question()).await {
                // Also for a moment after it was made.
                Err(Trouble::Missing) => {
                    self.set_up(seen).await?;
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer.map_err(Trouble::told),
            }
        }
        Err(Trouble::Missing.told())
    }

    async fn stream(&self) -> Result<Stream<()>, Trouble> {
        self.0.bus.0.jetstream.get_stream_no_info(&self.0.stream).await.map_err(Trouble::other)
    }

    /// What stands under a key, as the stream's leader knows it: other servers answer sooner, and may know less.
    async fn last(&self, key: &str) -> Result<Option<Found>, Trouble> {
        let subject = format!("{}{key}", self.0.root);
        match self.stream().await?.get_last_raw_message_by_subject(&subject).await {
            Ok(last) => Ok(Some(Found {
                key: key.to_owned(),
                is_removed: last.headers.get(OPERATION).is_some(),
                document: Document { revision: last.sequence, value: last.payload },
            })),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(said) => Err(Trouble::of_server(&said)),
                _ => Err(Trouble::other(error)),
            },
        }
    }

    async fn subjects(&self) -> Result<Vec<String>, Trouble> {
        let told = |error: InfoError| match error.source().and_then(|source| source.downcast_ref()) {
            Some(said) => Trouble::of_server(said),
            None => Trouble::other(error),
        };
        let subjects =
            self.stream().await?.info_with_subjects(format!("{}>", self.0.root)).await.map_err(told)?;
        let subjects: Vec<(String, usize)> = subjects.try_collect().await.map_err(told)?;
        let keys = subjects.iter().filter_map(|(subject, _)| subject.strip_prefix(&self.0.root));
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// What stands under the keys of `pattern`, also what says that something was removed.
    async fn ask_for(&self, pattern: &str) -> Result<Vec<Found>, Trouble> {
        let Shared { bus, stream, root, .. } = &*self.0;
        let client = &bus.0.client;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(Trouble::other)?;
        let question = format!("{}.DIRECT.GET.{stream}", bus.0.api);
        let wanted = serde_json::json!({ "multi_last": [format!("{root}{pattern}")] }).to_string();
        client.publish_with_reply(question, inbox, wanted.into()).await.map_err(Trouble::other)?;
        let mut all = Vec::new();
        while let Some(message) = answers.next().await {
            match message.status {
                None => all.extend(self.found(message)),
                // 204: that was all. 404: there is none.
                Some(status) if [204, 404].contains(&status.as_u16()) => return Ok(all),
                Some(StatusCode::NO_RESPONDERS) => return Err(Trouble::Missing),
                Some(status) => {
                    let why = message.description.unwrap_or_default();
                    return Err(Trouble::Other(format!("{} {why}", status.as_u16())));
                }
            }
        }
        Err(Trouble::Other("the connection is closed".into()))
    }

    fn found(&self, message: Message) -> Option<Found> {
        let headers = message.headers.as_ref()?;
        let is_removed = headers.get(OPERATION).is_some();
        let subject = headers.get("Nats-Subject")?.as_str();
        let key = subject.strip_prefix(&self.0.root)?.to_owned();
        let revision = headers.get("Nats-Sequence")?.as_str().parse().ok()?;
        Some(Found { key, document: Document { revision, value: message.payload }, is_removed })
    }

    pub(crate) async fn write(
        &self,
        key: &str,
        value: Bytes,
        over: Over,
        lasts: Option<Duration>,
    ) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        if let Some(lasts) = lasts {
            headers.insert(NATS_MESSAGE_TTL, lasting(lasts));
        }
        self.put(key, value, over, headers).await
    }

    pub(crate) async fn remove(&self, key: &str, over: Over) -> Result<(), BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "DEL");
        headers.insert(NATS_MESSAGE_TTL, lasting(REMOVED));
        self.put(key, Bytes::new(), over, headers).await.map(drop)
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        over: Over,
        mut headers: HeaderMap,
    ) -> Result<u64, BucketError> {
        self.check_link()?;
        let expected = match over {
            Over::Anything => None,
            Over::Nothing => Some(0),
            Over::Revision(revision) => Some(revision),
        };
        expect(&mut headers, expected);
        let seen = self.0.made.seen();
        let mut answer = within(self.send(key, &headers, &value)).await;
        if matches!(answer, Err(Trouble::Missing)) {
            self.set_up(seen).await?;
            answer = within(self.send(key, &headers, &value)).await;
        }
        if matches!(answer, Err(Trouble::Changed)) && over == Over::Nothing {
            // What was removed a moment ago is nothing too.
            let found = within(self.ask_for(key)).await.map_err(Trouble::told)?.pop();
            if let Some(Found { document, is_removed: true, .. }) = found {
                expect(&mut headers, Some(document.revision));
                answer = within(self.send(key, &headers, &value)).await;
            }
        }
        answer.map_err(Trouble::told)
    }

    async fn send(&self, key: &str, headers: &HeaderMap, value: &Bytes) -> Result<u64, Trouble> {
        let request = Request::new().headers(headers.clone()).payload(value.clone());
        let request = request.timeout(Some(CONFIRMATION));
        let answer = self.0.bus.0.client.send_request(format!("{}{key}", self.0.root), request).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Trouble::Missing,
            _ => Trouble::other(error),
        })?;
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(ack.sequence),
            Ok(Response::Err { error }) => Err(match error.error_code() {
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                    Trouble::Changed
                }
                _ => Trouble::of_server(&error),
            }),
            Err(error) => Err(Trouble::other(error)),
        }
    }

    fn check_link(&self) -> Result<(), BucketError> {
        match self.0.bus.is_there() {
            true => Ok(()),
            false => Err(BucketError::Unreachable("there is no connection".into())),
        }
    }

    /// Makes the stream, unless somebody has since `seen`.
    async fn set_up(&self, seen: u64) -> Result<(), BucketError> {
        let made = self.0.made.once(seen, self.make()).await;
        made.map_err(|error| match error.downcast_ref() {
            Some(error) if has_no_room(error) => BucketError::Full(format!(
                "{error}; raise max_file_store in the configuration of nats-server"
            )),
            _ => BucketError::Unreachable(error.to_string()),
        })
    }

    async fn make(&self) -> Result<(), async_nats::Error> {
        let bus = &self.0.bus.0;
        let there = bus.jetstream.get_stream(&self.0.stream).await;
        if let Ok(there) = there {
            if there.cached_info().config.num_replicas != bus.replicas {
                let config = Config { num_replicas: bus.replicas, ..there.cached_info().config.clone() };
                bus.jetstream.update_stream(config).await?;
            }
            return Ok(());
        }
        match bus.jetstream.create_stream(self.config(StorageType::File)).await {
            Err(error) if has_no_room(&error) && self.0.without == Without::Files => {
                bus.jetstream.create_stream(self.config(StorageType::Memory)).await?;
                tracing::warn!(
                    %error,
                    "NATS has no room for files: it keeps cameras in memory, and forgets them when it restarts; raise \
                     max_file_store in the configuration of nats-server"
                );
            }
            made => drop(made?),
        }
        Ok(())
    }

    fn config(&self, storage: StorageType) -> Config {
        Config {
            name: self.0.stream.clone(),
            description: Some("CloudPose: what gateways know together".into()),
            subjects: vec![format!("{}>", self.0.root)],
            storage,
            num_replicas: self.0.bus.0.replicas,
            max_messages_per_subject: 1,
            max_bytes: BYTES,
            max_message_size: DOCUMENT_BYTES,
            discard: DiscardPolicy::New,
            allow_direct: true,
            allow_message_ttl: true,
            allow_rollup: true,
            deny_delete: true,
            ..Config::default()
        }
    }

    pub(crate) async fn changes(&self, first: &str) -> Changes {
        Changes(self.0.bus.subscribe([format!("{}{first}.>", self.0.root)]).await)
    }
}

/// What stands under a key.
struct Found {
    key: String,
    document: Document,
    is_removed: bool,
}

fn expect(headers: &mut HeaderMap, last: Option<u64>) {
    if let Some(last) = last {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
    }
}

/// Says when something was written.
#[derive(Debug)]
pub(crate) struct Changes(SelectAll<Subscriber>);

impl Changes {
    /// False: the bus is closed.
    pub(crate) async fn next(&mut self) -> bool {
        let goes_on = self.0.next().await.is_some();
        // Many at once are one.
        while let Some(Some(_)) = self.0.next().now_or_never() {}
        goes_on
    }
}

/// Why something did not work.
#[derive(Debug)]
enum Trouble {
    /// The stream is not there.
    Missing,
    /// Something else stands there than what was expected.
    Changed,
    Full(String),
    Other(String),
}

impl Trouble {
    fn other(error: impl ToString) -> Self {
        Self::Other(error.to_string())
    }

    /// What the server says that is no more than it says.
    fn of_server(error: &jetstream::Error) -> Self {
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => Self::Missing,
            ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => Self::Full(error.to_string()),
            // It says so in words only.
            ErrorCode::STREAM_STORE_FAILED if error.to_string().contains("maximum bytes exceeded") => {
                Self::Full(error.to_string())
            }
            _ => Self::other(error),
        }
    }

    fn told(self) -> BucketError {
        match self {
            Self::Missing => BucketError::Unreachable("there is no bucket, and none can be made".into()),
            Self::Changed => BucketError::Changed,
            Self::Full(why) => BucketError::Full(why),
            Self::Other(why) => BucketError::Unreachable(why),
        }
    }
}

async fn within<T>(asking: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let answer = timeout(CONFIRMATION, asking).await;
    answer.unwrap_or_else(|_| Err(Trouble::Other("there is no answer in time".into())))
}

fn lasting(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}
