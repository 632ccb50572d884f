//! PostgreSQL 12 or newer: tables by day in the schema `cloudpose`, batches by `COPY`.
//!
//! A batch is copied into temporary tables and moved from there in one transaction: frames that the table has already are
//! left out by its key, and their persons with them.

mod address;
mod rows;
mod schema;

use std::{
    collections::HashSet,
    error::Error as _,
    time::{Duration, SystemTime},
};

use cloudpose_bus::nats::Recorded;
use cloudpose_wire::{Keypoint, SkeletonName};
use futures_util::pin_mut;
use tokio::{
    task::JoinSet,
    time::{error::Elapsed, sleep, timeout},
};
use tokio_postgres::{
    Client, Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::address::Address;
use self::rows::{Key, Row};
use crate::place::Stored;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the database may take for a batch before the connection counts as dead.
const ANSWER: Duration = Duration::from_secs(60);
/// Pause between two looks whether another process has stopped recording.
const STAND_BY: Duration = Duration::from_secs(2);

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be reached, or says no.
    #[error("PostgreSQL at {place}: {}", words(.source))]
    Database {
        /// Host and database.
        place: String,
        /// What the client says.
        source: tokio_postgres::Error,
    },
    /// It does not answer.
    #[error("PostgreSQL at {place} does not answer")]
    Silent {
        /// Host and database.
        place: String,
    },
    /// Its tables were made by a later version of this program.
    #[error(
        "the tables in {place} are of version {found}, made by a later CloudPose: use that one, or another database"
    )]
    Newer {
        /// Host and database.
        place: String,
        /// Of the tables.
        found: i32,
    },
}

/// What the server says, without the client's own words before it.
fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
        |said| said.message().to_owned(),
    )
}

impl Error {
    /// Whether the database will never take what it was offered, whoever asks and when: SQLSTATE class 22, "data exception".
    fn is_of_the_data(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        source.code().is_some_and(|code| code.code().starts_with("22"))
    }

    /// Whether it helps to wait: not where a person has to do something.
    pub(crate) fn is_passing(&self) -> bool {
        let Self::Database { source, .. } = self else { return matches!(self, Self::Silent { .. }) };
        // Authorisation, a database or a right that is missing. Without a code the server was not reached.
        !source
            .code()
            .is_some_and(|code| ["28", "3D", "42"].iter().any(|class| code.code().starts_with(class)))
    }
}

/// The database, connected again whenever the connection is gone.
pub(crate) struct Postgres {
    address: Address,
    tls: MakeRustlsConnect,
    connection: Option<Connection>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Connection {
    client: Client,
    /// Reads and writes the socket; ends with it.
    _socket: JoinSet<()>,
    /// Days whose tables are there, in days since 1970.
    days: HashSet<u64>,
    skeletons: HashSet<SkeletonName>,
}

impl Postgres {
    pub(crate) fn new(address: Address) -> Self {
        let tls = MakeRustlsConnect::new(address::tls());
        Self { address, tls, connection: None }
    }

    /// Connects, brings the tables up to date, and waits until no other process records there.
    pub(crate) async fn connect(&mut self) -> Result<(), Error> {
        self.connection().await.map(drop)
    }

    /// Stores what is not there yet.
    pub(crate) async fn store(&mut self, events: &[Recorded]) -> Result<Stored, Error> {
        let rows: Vec<Row<'_>> = events.iter().filter_map(Row::of).collect();
        let unreadable = Stored { refused: (events.len() - rows.len()) as u64, ..Stored::default() };
        let mut seen = HashSet::<Key<'_>>::new();
        let (rows, twice): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| seen.insert(row.key()));
        let twice = Stored { known: twice.len() as u64, ..Stored::default() };
        Ok(self.store_rows(&rows).await? + unreadable + twice)
    }

    /// Stores in halves what is not taken whole, so that one event that is not taken keeps nothing else out.
    async fn store_rows(&mut self, rows: &[Row<'_>]) -> Result<Stored, Error> {
        match self.try_store(rows).await {
            Err(error) if error.is_of_the_data() => {
                if let [row] = rows {
                    tracing::warn!(stream = %row.stream, seq = row.seq, %error, "an event is not recorded");
                    return Ok(Stored { refused: 1, ..Stored::default() });
                }
                let (first, second) = rows.split_at(rows.len() / 2);
                Ok(Box::pin(self.store_rows(first)).await? + Box::pin(self.store_rows(second)).await?)
            }
            other => other,
        }
    }

    async fn try_store(&mut self, rows: &[Row<'_>]) -> Result<Stored, Error> {
        let connection = self.connection().await?;
        let answer = timeout(ANSWER, connection.store(rows)).await;
        let stored = self.settle(answer)?;
        Ok(Stored { new: stored, known: rows.len() as u64 - stored, refused: 0 })
    }

    /// Drops the days that ended before `time`. Says how many.
    pub(crate) async fn forget(&mut self, time: SystemTime) -> Result<i64, Error> {
        let connection = self.connection().await?;
        connection.days.clear();
        let answer = timeout(ANSWER, connection.client.query_one("SELECT drop_days($1)", &[&time])).await;
        let answer = answer.map(|row| row.and_then(|row| row.try_get(0)));
        self.settle(answer)
    }

    /// What the database answered, or that it did not. A connection on which that happened is not used again.
    fn settle<T>(&mut self, answer: Result<Result<T, tokio_postgres::Error>, Elapsed>) -> Result<T, Error> {
        let place = || self.address.to_string();
        match answer {
            Ok(answer) => answer.map_err(|source| Error::Database { place: place(), source }),
            Err(_) => {
                let place = place();
                self.connection = None;
                Err(Error::Silent { place })
            }
        }
    }

    async fn connection(&mut self) -> Result<&mut Connection, Error> {
        if self.connection.as_ref().is_none_or(|connection| connection.client.is_closed()) {
            self.connection = None;
            let opened = Connection::open(&self.address, self.tls.clone()).await?;
            self.connection = Some(opened);
        }
        Ok(self.connection.as_mut().expect("it has just been made"))
    }
}

impl Connection {
    async fn open(address: &Address, tls: MakeRustlsConnect) -> Result<Self, Error> {
        let place = || address.to_string();
        let database = |source| Error::Database { place: place(), source };
        let connecting = timeout(CONNECT, address.config().connect(tls)).await;
        let (mut client, socket) =
            connecting.map_err(|_| Error::Silent { place: place() })?.map_err(database)?;
        let mut running = JoinSet::new();
        running.spawn(async move {
            if let Err(error) = socket.await {
                tracing::debug!(%error, "the connection to PostgreSQL is gone");
            }
        });
        let mut told = false;
        while !schema::is_ours(&client).await.map_err(database)? {
            if !std::mem::replace(&mut told, true) {
                tracing::info!("another process records there: standing by");
            }
            sleep(STAND_BY).await;
        }
        if let Some(found) = schema::bring_up_to_date(&mut client).await.map_err(database)? {
            return Err(Error::Newer { place: place(), found });
        }
        client.batch_execute(rows::STAGES).await.map_err(database)?;
        Ok(Self { client, _socket: running, days: HashSet::new(), skeletons: HashSet::new() })
    }

    /// Says how many of them were new.
    async fn store(&mut self, rows: &[Row<'_>]) -> Result<u64, tokio_postgres::Error> {
        for row in rows {
            if !self.days.contains(&row.day()) {
                self.client.execute("SELECT make_day($1)", &[&row.captured_at]).await?;
                self.days.insert(row.day());
            }
            if let Some((name, joints)) = row.skeleton()
                && !self.skeletons.contains(name)
            {
                self.keep_skeleton(name, joints).await?;
            }
        }
        let frames: Vec<_> = rows.iter().map(Row::frame).collect();
        let persons: Vec<_> =
            rows.iter().flat_map(|row| row.persons.iter().map(|person| row.person(person))).collect();
        let transaction = self.client.transaction().await?;
        copy(&transaction, rows::STAGE_FRAMES, rows::FRAME_TYPES, frames).await?;
        copy(&transaction, rows::STAGE_PERSONS, rows::PERSON_TYPES, persons).await?;
        let new = transaction.query_one(rows::MOVE, &[]).await?.try_get::<_, i64>(0)?;
        transaction.commit().await?;
        Ok(u64::try_from(new).unwrap_or(0))
    }

    async fn keep_skeleton(
        &mut self,
        name: &SkeletonName,
        joints: &[Keypoint],
    ) -> Result<(), tokio_postgres::Error> {
        let joints: Vec<&str> = joints.iter().map(|joint| joint.name.as_str()).collect();
        let keep = "INSERT INTO skeletons VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.client.execute(keep, &[&name.as_str(), &joints]).await?;
        self.skeletons.insert(name.clone());
        Ok(())
    }
}

/// Copies rows into a table, in PostgreSQL's binary format.
async fn copy<const N: usize>(
    transaction: &Transaction<'_>,
    statement: &str,
    types: [Type; N],
    rows: Vec<[&(dyn ToSql + Sync); N]>,
) -> Result<(), tokio_postgres::Error> {
    let sink = transaction.copy_in(statement).await?;
    let writer = BinaryCopyInWriter::new(sink, &types);
    pin_mut!(writer);
    for values in rows {
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}
