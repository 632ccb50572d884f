//! Where events are recorded.

use std::{
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime},
};

use cloudpose_bus::nats::Recorded;

use crate::{
    Error,
    parquet::Folder,
    postgres::{Address, Postgres},
};

/// A place as people write it.
#[derive(Debug, Clone)]
pub enum Target {
    /// A PostgreSQL database.
    Postgres(Box<Address>),
    /// A folder of Parquet files.
    Folder(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None if text.is_empty() => {
                Err("write it like postgres://user:password@host/database, or name a folder".into())
            }
            None => Ok(Self::Folder(text.into())),
            Some(_) => text.parse().map(|address| Self::Postgres(Box::new(address))),
        }
    }
}

/// What became of the events that were stored together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) new: u64,
    pub(crate) known: u64,
    pub(crate) refused: u64,
}

impl std::ops::Add for Stored {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            new: self.new + other.new,
            known: self.known + other.known,
            refused: self.refused + other.refused,
        }
    }
}

/// A place that takes events.
#[derive(Debug)]
pub(crate) enum Place {
    Postgres(Box<Postgres>),
    Folder(Folder),
}

impl Place {
    pub(crate) fn new(target: Target) -> Self {
        match target {
            Target::Postgres(address) => Self::Postgres(Box::new(Postgres::new(*address))),
            Target::Folder(path) => Self::Folder(Folder::new(path)),
        }
    }

    /// The durable consumer of who records there.
    pub(crate) fn consumer(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Folder(_) => "parquet",
        }
    }

    /// Makes it ready, and waits until no other process records there.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        match self {
            Self::Postgres(postgres) => Ok(postgres.connect().await?),
            Self::Folder(folder) => Ok(folder.open().await?),
        }
    }

    /// Stores events that it does not have yet.
    pub(crate) async fn store(&mut self, events: &[Recorded]) -> Result<Stored, Error> {
        match self {
            Self::Postgres(postgres) => Ok(postgres.store(events).await?),
            // Writing files takes milliseconds of processor time and waits for the disk.
            Self::Folder(folder) => Ok(tokio::task::block_in_place(|| folder.store(events))?),
        }
    }

    /// Drops the days before `until`. Says how many.
    pub(crate) async fn forget(&mut self, until: SystemTime) -> Result<i64, Error> {
        match self {
            Self::Postgres(postgres) => Ok(postgres.forget(until).await?),
            Self::Folder(folder) => Ok(tokio::task::block_in_place(|| folder.forget(until))?),
        }
    }

    /// How long events are gathered before they are stored: a database takes them as they come, a file is the better the
    /// larger it is.
    pub(crate) fn gathers(&self, every: Duration) -> Option<Duration> {
        match self {
            Self::Postgres(_) => None,
            Self::Folder(_) => Some(every),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_database_or_a_folder() {
        assert!(matches!("postgres://u:p@h/d".parse(), Ok(Target::Postgres(_))));
        assert!(matches!("/data/poses".parse(), Ok(Target::Folder(path)) if *path == *"/data/poses"));
        for bad in ["", "s3://bucket/poses", "mysql://h/d"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
