//! Parquet files in a folder: by tenant, stream and hour, each whole or not there.
//!
//! `tenant=default/stream=door/date=2026-11-26/hour=23/000000000001-000000004711.parquet`: the numbers are those that NATS gave the
//! first event in it and the last. A file is written under another name, put on the disk, and renamed; only then are its events
//! acknowledged. What comes again is known by its key (time, session, number), which the hour's files are asked for.

mod rows;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cloudpose_bus::nats::Recorded;
use cloudpose_wire::{Event, SessionId};
use parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    errors::ParquetError,
    file::properties::WriterProperties,
};
use rustix::fs::{FlockOperation, flock};
use tokio::time::sleep;

use crate::place::Stored;

/// Pause between two looks whether another process has stopped recording.
const STAND_BY: Duration = Duration::from_secs(2);
/// Hours of streams whose keys are kept in memory.
const MOST_HOURS: usize = 1000;
/// Where files are written before they are renamed, under names that nobody takes for Parquet.
const UNFINISHED: &str = ".unfinished";
/// The end of the year 9999: what lies later is no time that a gateway has ever had.
const LATEST: u64 = 253_402_300_799_999;

/// Why a folder did not take events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something in it cannot be made, read or removed.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file in it cannot be written, or is no Parquet.
    #[error("{}: {source}; if it is damaged, move it away", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the library says.
        source: ParquetError,
    },
}

impl Error {
    /// Whether it helps to wait: for room on the disk, not for rights or a file that is whole.
    pub(crate) fn is_passing(&self) -> bool {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        let is_passing = |error: &io::Error| {
            !matches!(error.kind(), NotADirectory | PermissionDenied | ReadOnlyFilesystem)
        };
        match self {
            Self::Io { source, .. } => is_passing(source),
            Self::File { source: ParquetError::External(source), .. } => {
                source.downcast_ref::<io::Error>().is_some_and(is_passing)
            }
            Self::File { .. } => false,
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// What tells a frame from all others of its stream: time, session, number.
type Key = (u64, Arc<str>, u64);

/// A folder of Parquet files.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held while this process records there.
    lock: Option<File>,
    /// What the files of an hour have, by their folder.
    known: BTreeMap<PathBuf, HashSet<Key>>,
}

/// An event that is to be written.
struct New<'a> {
    recorded: &'a Recorded,
    event: &'a Event,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, lock: None, known: BTreeMap::new() }
    }

    /// Makes the folder, and waits until no other process records there.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        let unfinished = self.path.join(UNFINISHED);
        fs::create_dir_all(&unfinished).map_err(at(&unfinished))?;
        let path = unfinished.join("lock");
        let lock = File::create(&path).map_err(at(&path))?;
        let mut told = false;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(at(&path)(error.into()));
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("another process records there: standing by");
            }
            sleep(STAND_BY).await;
        }
        self.lock = Some(lock);
        // What was written when a process died: its events come again.
        for file in files(&unfinished, ".part")? {
            fs::remove_file(&file).map_err(at(&file))?;
        }
        Ok(())
    }

    /// Writes a file for each hour of each stream, of the events that are not in it yet.
    pub(crate) fn store(&mut self, events: &[Recorded]) -> Result<Stored, Error> {
        let mut stored = Stored::default();
        let mut hours: BTreeMap<PathBuf, Vec<New<'_>>> = BTreeMap::new();
        for recorded in events {
            match recorded.event.event() {
                Ok(event) if event.captured_at <= LATEST => {
                    hours.entry(self.hour(recorded, event)).or_default().push(New { recorded, event });
                }
                _ => stored.refused += 1,
            }
        }
        while self.known.len() > MOST_HOURS {
            self.known.pop_first();
        }
        for (folder, events) in hours {
            let known = match self.known.remove(&folder) {
                Some(known) => known,
                None => read_keys(&folder)?,
            };
            let mut keys = HashSet::new();
            let new = events.iter().filter(|new| {
                let key = key(new);
                !known.contains(&key) && keys.insert(key)
            });
            let new: Vec<&New<'_>> = new.collect();
            if !new.is_empty() {
                self.write(&folder, &new)?;
            }
            stored.new += new.len() as u64;
            stored.known += (events.len() - new.len()) as u64;
            let mut known = known;
            known.extend(keys);
            self.known.insert(folder, known);
        }
        Ok(stored)
    }

    /// The folder of an hour of a stream.
    fn hour(&self, recorded: &Recorded, event: &Event) -> PathBuf {
        let time = UNIX_EPOCH + Duration::from_millis(event.captured_at);
        let time = humantime::format_rfc3339_seconds(time).to_string();
        let (date, hour) = (&time[..10], &time[11..13]);
        let (tenant, stream) = (&recorded.tenant, &event.stream);
        self.path.join(format!("tenant={tenant}/stream={stream}/date={date}/hour={hour}"))
    }

    fn write(&self, folder: &Path, new: &[&New<'_>]) -> Result<(), Error> {
        let sequences = || new.iter().map(|new| new.recorded.sequence);
        let name = [sequences().min(), sequences().max()]
            .map(|number| format!("{:012}", number.unwrap_or_default()));
        let name = name.join("-");
        let unfinished = self.path.join(UNFINISHED).join(format!("{name}.part"));
        let failed = |source| Error::File { path: unfinished.clone(), source };
        let rows = rows::batch(new.iter().map(|new| (new.recorded, new.event)))
            .map_err(|error| failed(error.into()))?;
        let file = File::create(&unfinished).map_err(at(&unfinished))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).map_err(failed)?;
        writer.write(&rows).map_err(failed)?;
        let file = writer.into_inner().map_err(failed)?;
        file.sync_all().map_err(at(&unfinished))?;
        fs::create_dir_all(folder).map_err(at(folder))?;
        // A broker that was made anew counts from 1 again.
        let names =
            (1..).map(|n| if n == 1 { format!("{name}.parquet") } else { format!("{name}-{n}.parquet") });
        let mut targets = names.map(|name| folder.join(name));
        let target = targets.find(|target| !target.exists()).expect("there is no end of names");
        fs::rename(&unfinished, &target).map_err(at(&target))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
    }

    /// Drops the days before `until`. Says how many.
    pub(crate) fn forget(&mut self, until: SystemTime) -> Result<i64, Error> {
        let until = format!("date={}", &humantime::format_rfc3339_seconds(until).to_string()[..10]);
        let mut dropped = HashSet::new();
        for tenant in folders(&self.path, "tenant=")? {
            for stream in folders(&tenant, "stream=")? {
                for day in folders(&stream, "date=")? {
                    let name = day.file_name().unwrap_or_default().to_owned();
                    if name.as_encoded_bytes() < until.as_bytes() {
                        fs::remove_dir_all(&day).map_err(at(&day))?;
                        dropped.insert(name);
                    }
                }
            }
        }
        self.known.retain(|folder, _| folder.exists());
        Ok(dropped.len() as i64)
    }
}

fn key(new: &New<'_>) -> Key {
    let session = new.recorded.session.as_ref().map_or("", SessionId::as_str);
    (new.event.captured_at, session.into(), new.event.seq)
}

/// The keys of what the files of an hour have.
fn read_keys(folder: &Path) -> Result<HashSet<Key>, Error> {
    let mut keys = HashSet::new();
    if !folder.exists() {
        return Ok(keys);
    }
    for path in files(folder, ".parquet")? {
        let failed = |source| Error::File { path: path.clone(), source };
        let file = File::open(&path).map_err(at(&path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), rows::KEY);
        for rows in builder.with_projection(mask).build().map_err(failed)? {
            let rows = rows.map_err(|error| failed(error.into()))?;
            let found = rows::keys(&rows)
                .ok_or_else(|| failed(ParquetError::General("it is none of ours".into())))?;
            keys.extend(found);
        }
    }
    Ok(keys)
}

/// The files in a folder whose names end so.
fn files(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>, Error> {
    entries(folder, |name| name.ends_with(suffix))
}

/// The folders in a folder whose names begin so.
fn folders(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, Error> {
    entries(folder, |name| name.starts_with(prefix))
}

fn entries(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if entry.file_name().to_str().is_some_and(&fits) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
