//! Files in a folder.
//!
//! A file is written under another name, put on the disk, and renamed. A lock of the file system says who records there.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use tokio::time::sleep;

use super::{
    Error, Key, STAND_BY,
    error::{at, of_file},
    file, names,
};

/// Where files are written before they are renamed, under names that nobody takes for Parquet.
pub(super) const UNFINISHED: &str = ".unfinished";

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held while this process records there.
    lock: Option<File>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, lock: None }
    }

    /// Makes the folder, and waits until no other process records there.
    pub(super) async fn open(&mut self) -> Result<(), Error> {
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
        for file in entries(&unfinished, |name| name.ends_with(".part"))? {
            fs::remove_file(&file).map_err(at(&file))?;
        }
        Ok(())
    }

    /// The keys of what the files of an hour have.
    pub(super) fn keys(&self, hour: &str) -> Result<HashSet<Key>, Error> {
        let folder = self.path.join(hour);
        let mut keys = HashSet::new();
        if !folder.exists() {
            return Ok(keys);
        }
        for path in entries(&folder, |name| name.ends_with(".parquet"))? {
            let file = File::open(&path).map_err(at(&path))?;
            keys.extend(file::keys(file).map_err(of_file(path.display()))?);
        }
        Ok(keys)
    }

    /// Writes a file of an hour.
    pub(super) fn write(&self, hour: &str, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let unfinished = self.path.join(UNFINISHED).join(format!("{name}.part"));
        let folder = self.path.join(hour);
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        let moved = write().map_err(at(&unfinished)).and_then(|()| {
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            let mut targets = names(name).map(|name| folder.join(name));
            let target = targets.find(|target| !target.exists()).expect("there is no end of names");
            fs::rename(&unfinished, &target).map_err(at(&target))
        });
        if moved.is_err() {
            // Half a file takes room that may be what is missing.
            fs::remove_file(&unfinished).ok();
        }
        moved?;
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(at(&folder))
    }

    /// Drops the days before `until`, and says which.
    pub(super) fn forget(&self, until: &str) -> Result<HashSet<String>, Error> {
        let mut dropped = HashSet::new();
        for tenant in folders(&self.path, "tenant=")? {
            for stream in folders(&tenant, "stream=")? {
                for day in folders(&stream, "date=")? {
                    let name = day.file_name().unwrap_or_default().to_string_lossy();
                    if *name < *until {
                        fs::remove_dir_all(&day).map_err(at(&day))?;
                        dropped.insert(name.into_owned());
                    }
                }
            }
        }
        Ok(dropped)
    }
}

/// The folders in a folder whose names begin so.
fn folders(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, Error> {
    entries(folder, |name| name.starts_with(prefix))
}

pub(super) fn entries(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if entry.file_name().to_str().is_some_and(&fits) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
