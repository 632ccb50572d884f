//! Parquet files in a folder or a bucket: by tenant, stream and hour, each whole or not there.
//!
//! `tenant=default/stream=door/date=2026-11-26/hour=23/000000000001-000000004711.parquet`: the numbers are those that NATS gave the
//! first event in it and the last. A file is made in memory and put in its place whole; only then are its events
//! acknowledged. What comes again is known by its key (time, session, number), which the hour's files are asked for.

mod bucket;
mod error;
mod file;
mod folder;
mod lease;
mod rows;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cloudpose_bus::nats::Recorded;
use cloudpose_store::Address;
use cloudpose_wire::{Event, SessionId};
use tokio::task::block_in_place;

pub use self::error::Error;
use self::{bucket::Bucket, folder::Folder, lease::Lease};
use crate::place::Stored;

/// Pause between two looks whether another process has stopped recording.
const STAND_BY: Duration = Duration::from_secs(2);
/// Hours of streams whose keys are kept in memory.
const MOST_HOURS: usize = 1000;
/// The end of the year 9999: what lies later is no time that a gateway has ever had.
const LATEST: u64 = 253_402_300_799_999;

/// What tells a frame from all others of its stream: time, session, number.
type Key = (u64, Arc<str>, u64);

/// Parquet files.
#[derive(Debug)]
pub(crate) struct Files {
    at: At,
    /// What the files of an hour have, by its path.
    known: BTreeMap<String, HashSet<Key>>,
}

/// Where files are.
#[derive(Debug)]
enum At {
    Folder(Folder),
    Bucket(Box<Bucket>),
}

/// An event that is to be written.
struct New<'a> {
    recorded: &'a Recorded,
    event: &'a Event,
}

impl Files {
    pub(crate) fn in_folder(path: PathBuf) -> Self {
        Self { at: At::Folder(Folder::new(path)), known: BTreeMap::new() }
    }

    /// Who records there is said in `documents`.
    pub(crate) fn in_bucket(address: Address, documents: cloudpose_bus::Bucket) -> Self {
        let bucket = Bucket::new(address, Lease::new(documents));
        Self { at: At::Bucket(Box::new(bucket)), known: BTreeMap::new() }
    }

    /// Makes the place ready, and waits until no other process records there. Keys of buckets are in `environment`.
    pub(crate) async fn open(&mut self, environment: &[(String, String)]) -> Result<(), Error> {
        match &mut self.at {
            At::Folder(folder) => folder.open().await,
            At::Bucket(bucket) => bucket.open(environment).await,
        }
    }

    /// Lets another process record there at once.
    pub(crate) async fn leave(&mut self) {
        match &mut self.at {
            // Its lock ends with the process.
            At::Folder(_) => {}
            At::Bucket(bucket) => bucket.leave().await,
        }
    }

    /// Writes a file for each hour of each stream, of the events that are not in it yet.
    pub(crate) async fn store(&mut self, events: &[Recorded]) -> Result<Stored, Error> {
        if let At::Bucket(bucket) = &mut self.at
            && bucket.hold().await?
        {
            self.known.clear();
        }
        let mut stored = Stored::default();
        let mut hours: BTreeMap<String, Vec<New<'_>>> = BTreeMap::new();
        for recorded in events {
            match recorded.event.event() {
                Ok(event) if event.captured_at <= LATEST => {
                    hours.entry(hour(recorded, event)).or_default().push(New { recorded, event });
                }
                _ => stored.refused += 1,
            }
        }
        while self.known.len() > MOST_HOURS {
            self.known.pop_first();
        }
        for (hour, events) in hours {
            let mut known = match self.known.remove(&hour) {
                Some(known) => known,
                None => self.at.keys(&hour).await?,
            };
            let mut keys = HashSet::new();
            let new = events.iter().filter(|new| {
                let key = key(new);
                !known.contains(&key) && keys.insert(key)
            });
            let new: Vec<&New<'_>> = new.collect();
            if !new.is_empty() {
                self.at.write(&hour, &new).await?;
            }
            stored.new += new.len() as u64;
            stored.known += (events.len() - new.len()) as u64;
            known.extend(keys);
            self.known.insert(hour, known);
        }
        Ok(stored)
    }

    /// Drops the days before `until`. Says how many.
    pub(crate) async fn forget(&mut self, until: SystemTime) -> Result<i64, Error> {
        let until = format!("date={}", &humantime::format_rfc3339_seconds(until).to_string()[..10]);
        let dropped = match &self.at {
            At::Folder(folder) => block_in_place(|| folder.forget(&until))?,
            At::Bucket(bucket) => bucket.forget(&until).await?,
        };
        self.known.retain(|hour, _| !hour.split('/').any(|part| dropped.contains(part)));
        Ok(dropped.len() as i64)
    }
}

impl At {
    /// The keys of what the files of an hour have.
    async fn keys(&self, hour: &str) -> Result<HashSet<Key>, Error> {
        match self {
            Self::Folder(folder) => block_in_place(|| folder.keys(hour)),
            Self::Bucket(bucket) => bucket.keys(hour).await,
        }
    }

    /// Writes a file. It takes milliseconds of processor time, and waits for the disk or the bucket.
    async fn write(&self, hour: &str, new: &[&New<'_>]) -> Result<(), Error> {
        let sequences = || new.iter().map(|new| new.recorded.sequence);
        let name = [sequences().min(), sequences().max()]
            .map(|number| format!("{:012}", number.unwrap_or_default()));
        let name = name.join("-");
        let bytes = block_in_place(|| file::of(new.iter().map(|new| (new.recorded, new.event))));
        let bytes = bytes.map_err(error::of_file(format!("{hour}/{name}")))?;
        match self {
            Self::Folder(folder) => block_in_place(|| folder.write(hour, &name, &bytes)),
            Self::Bucket(bucket) => bucket.write(hour, &name, bytes.into()).await,
        }
    }
}

/// The path of an hour of a stream.
fn hour(recorded: &Recorded, event: &Event) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(event.captured_at);
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let (date, hour) = (&time[..10], &time[11..13]);
    let (tenant, stream) = (&recorded.tenant, &event.stream);
    format!("tenant={tenant}/stream={stream}/date={date}/hour={hour}")
}

/// What a file may be called, the first that is free: a broker that was made anew counts from 1 again.
fn names(name: &str) -> impl Iterator<Item = String> {
    (1..).map(move |n| if n == 1 { format!("{name}.parquet") } else { format!("{name}-{n}.parquet") })
}

fn key(new: &New<'_>) -> Key {
    let session = new.recorded.session.as_ref().map_or("", SessionId::as_str);
    (new.event.captured_at, session.into(), new.event.seq)
}

#[cfg(test)]
mod tests;
