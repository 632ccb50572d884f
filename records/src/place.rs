//! Where events are recorded.

use std::{
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime},
};

use cloudpose_bus::{Bucket, nats::Recorded};
use cloudpose_store::Address as StoreAddress;

use crate::{
    Error,
    parquet::Files,
    postgres::{Address, Postgres},
};

/// A place as people write it.
#[derive(Debug, Clone)]
pub enum Target {
    /// A PostgreSQL database.
    Postgres(Box<Address>),
    /// A folder of Parquet files.
    Folder(PathBuf),
    /// A bucket of them.
    Bucket(StoreAddress),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None if text.is_empty() => {
                Err("write it like postgres://user:password@host/database or s3://bucket/prefix, or name a folder".into())
            }
            None => Ok(Self::Folder(text.into())),
            Some(("s3" | "gs" | "az", _)) => text.parse().map(Self::Bucket),
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
    Files(Files),
}

impl Target {
    /// The durable consumer of who records there.
    pub(crate) fn consumer(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Folder(_) => "parquet",
            Self::Bucket(_) => "bucket",
        }
    }
}

impl Place {
    /// The place, where `documents` say who records to a bucket.
    pub(crate) fn new(target: Target, documents: Bucket) -> Self {
        match target {
            Target::Postgres(address) => Self::Postgres(Box::new(Postgres::new(*address))),
            Target::Folder(path) => Self::Files(Files::in_folder(path)),
            Target::Bucket(address) => Self::Files(Files::in_bucket(address, documents)),
        }
    }

    /// Makes it ready, and waits until no other process records there.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        match self {
            Self::Postgres(postgres) => Ok(postgres.connect().await?),
            Self::Files(files) => Ok(files.open(&cloudpose_store::environment()).await?),
        }
    }

    /// Lets another process record there, as far as that is not said by the end of this one.
    pub(crate) async fn leave(&mut self) {
        match self {
            Self::Postgres(_) => {}
            Self::Files(files) => files.leave().await,
        }
    }

    /// Stores events that it does not have yet.
    pub(crate) async fn store(&mut self, events: &[Recorded]) -> Result<Stored, Error> {
        match self {
            Self::Postgres(postgres) => Ok(postgres.store(events).await?),
            Self::Files(files) => Ok(files.store(events).await?),
        }
    }

    /// Drops the days before `until`. Says how many.
    pub(crate) async fn forget(&mut self, until: SystemTime) -> Result<i64, Error> {
        match self {
            Self::Postgres(postgres) => Ok(postgres.forget(until).await?),
            Self::Files(files) => Ok(files.forget(until).await?),
        }
    }

    /// How long events are gathered before they are stored: a database takes them as they come, a file is the better the
    /// larger it is.
    pub(crate) fn gathers(&self, every: Duration) -> Option<Duration> {
        match self {
            Self::Postgres(_) => None,
            Self::Files(_) => Some(every),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_database_a_folder_or_a_bucket() {
        assert!(matches!("postgres://u:p@h/d".parse(), Ok(Target::Postgres(_))));
        assert!(matches!("/data/poses".parse(), Ok(Target::Folder(path)) if *path == *"/data/poses"));
        for bucket in ["s3://bucket/poses", "gs://bucket", "az://container/a/b"] {
            assert!(matches!(bucket.parse(), Ok(Target::Bucket(address)) if address.to_string() == bucket));
        }
        for bad in ["", "s3://key:secret@bucket/poses", "mysql://h/d"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
