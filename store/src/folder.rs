//! A folder as a store.
//!
//! ```text
//! <root>/documents/<name>      documents
//! <root>/new/<number>          what is being written, then moved to where it belongs
//! <root>/lock                  locked while a document is exchanged
//! <root>/<key>                 bytes
//! ```
//! A file is written under `new`, flushed to the disk, and then renamed, or linked where nothing may be overwritten:
//! who reads sees all of it or nothing. Documents are compared and renamed under a lock of the file system, which ends
//! with its process.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};

use crate::{DOCUMENTS, Error};

/// So many bytes of what comes piece by piece are written at once.
const PIECE: usize = 1 << 20;

/// Where files are written.
const NEW: &str = "new";
const LOCK: &str = "lock";
/// What was being written so long ago is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(3600);
/// How often more a folder is removed into which others write.
const TRIES: u32 = 8;

/// The folder. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Folder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Tells files apart that are written at the same time.
    written: AtomicU64,
}

impl Folder {
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        let folder = Self(Arc::new(Shared { root, written: AtomicU64::new(0) }));
        for part in ["", NEW, DOCUMENTS] {
            let path = folder.root().join(part);
            make(&path).map_err(|error| Error::at(&path, error))?;
        }
        folder.forget_abandoned();
        // Whoever cannot write is told at once.
        let probe = folder.write(b"")?;
        fs::remove_file(&probe).map_err(|error| Error::at(&probe, error))?;
        Ok(folder)
    }

    pub(crate) fn is_there(&self) -> Result<(), Error> {
        let path = self.root().join(DOCUMENTS);
        fs::metadata(&path).map(drop).map_err(|error| Error::at(&path, error))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0.root
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.clone();
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(worked) => worked,
            Err(error) => Err(Error::at(self.root(), io::Error::other(error))),
        }
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> Result<(), Error> {
        self.place(key, bytes, |from, to| fs::rename(from, to))
    }

    pub(crate) fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool, Error> {
        let mut is_new = true;
        self.place(key, bytes, |from, to| {
            match fs::hard_link(from, to) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => is_new = false,
                linked => linked?,
            }
            fs::remove_file(from)
        })?;
        Ok(is_new)
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let path = self.path(key);
        found(fs::read(&path)).map(|read| read.map(Bytes::from)).map_err(|error| Error::at(&path, error))
    }

    /// Bytes in a range, as far as there are some.
    pub(crate) fn get_part(&self, key: &str, range: &Range<u64>) -> Result<Option<Bytes>, Error> {
        let path = self.path(key);
        let read = |mut file: File| -> io::Result<Bytes> {
            file.seek(SeekFrom::Start(range.start))?;
            let mut part = Vec::new();
            file.take(range.end.saturating_sub(range.start)).read_to_end(&mut part)?;
            Ok(part.into())
        };
        let part = found(File::open(&path)).and_then(|file| file.map(read).transpose());
        part.map_err(|error| Error::at(&path, error))
    }

    /// Where bytes lie.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.path(key)
    }

    pub(crate) fn has(&self, key: &str) -> Result<bool, Error> {
        let path = self.path(key);
        path.try_exists().map_err(|error| Error::at(&path, error))
    }

    pub(crate) fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        let path = if key.is_empty() { self.root().to_owned() } else { self.path(key) };
        let read = || -> io::Result<Vec<String>> {
            let Some(entries) = found(fs::read_dir(&path))? else { return Ok(Vec::new()) };
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|error| Error::at(&path, error))
    }

    pub(crate) fn remove_all(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key);
        let mut removed = found(fs::remove_dir_all(&path));
        for _ in 0..TRIES {
            // Somebody has written there meanwhile.
            if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::DirectoryNotEmpty) {
                removed = found(fs::remove_dir_all(&path));
            }
        }
        removed.map(drop).map_err(|error| Error::at(&path, error))
    }

    /// Writes or removes a document if it says `old`, or is not there. Whether it did.
    pub(crate) fn exchange(&self, name: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let key = format!("{DOCUMENTS}/{name}");
        if self.get(&key)?.as_deref() != old {
            return Ok(false);
        }
        match new {
            Some(new) => self.put(&key, new)?,
            None => {
                let path = self.path(&key);
                fs::remove_file(&path).map_err(|error| Error::at(&path, error))?;
            }
        }
        Ok(true)
    }

    /// Held until it is dropped, or this process ends.
    fn lock(&self) -> Result<File, Error> {
        let path = self.root().join(LOCK);
        let lock = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|error| Error::at(&path, error))
    }

    fn path(&self, key: &str) -> PathBuf {
        crate::check(key);
        self.root().join(key)
    }

    /// Writes a file and has `to_its_place` put it where it belongs.
    fn place(
        &self,
        key: &str,
        bytes: &[u8],
        to_its_place: impl FnMut(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let from = self.write(bytes)?;
        self.settle(key, &from, to_its_place)
    }

    /// Puts a file that was written where it belongs.
    fn settle(
        &self,
        key: &str,
        from: &Path,
        mut to_its_place: impl FnMut(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let to = self.path(key);
        let parent = to.parent().unwrap_or(self.root());
        let mut placed = to_its_place(from, &to);
        if placed.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            placed = make(parent).and_then(|()| to_its_place(from, &to));
        }
        let placed = placed.and_then(|()| File::open(parent)?.sync_all());
        placed.map_err(|error| {
            fs::remove_file(from).ok();
            Error::at(&to, error)
        })
    }

    /// Writes a file that nobody else knows of.
    fn write(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.new_path();
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| {
            fs::remove_file(&path).ok();
            Error::at(&path, error)
        })?;
        Ok(path)
    }

    /// A name that nobody else has.
    fn new_path(&self) -> PathBuf {
        let number = self.0.written.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.root().join(NEW).join(format!("{}-{}-{number}", process::id(), since.as_nanos()))
    }

    /// Begins a file that comes piece by piece.
    pub(crate) fn begin(&self) -> Result<Writing, Error> {
        let path = self.new_path();
        let file = File::create_new(&path).map_err(|error| Error::at(&path, error))?;
        Ok(Writing { folder: self.clone(), file: Arc::new(file), path, pieces: BytesMut::new() })
    }

    /// Removes what a process was writing that has ended since.
    fn forget_abandoned(&self) {
        for entry in fs::read_dir(self.root().join(NEW)).into_iter().flatten().flatten() {
            let written = entry.metadata().and_then(|of| of.modified());
            if written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::debug!(%error, "a file that was never finished stays");
            }
        }
    }
}

/// A file that comes piece by piece, and is removed if it is not finished.
#[derive(Debug)]
pub(crate) struct Writing {
    folder: Folder,
    file: Arc<File>,
    path: PathBuf,
    /// Not written yet.
    pieces: BytesMut,
}

impl Writing {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.pieces.extend_from_slice(bytes);
        if self.pieces.len() < PIECE { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let (pieces, file, path) = (self.pieces.split().freeze(), Arc::clone(&self.file), self.path.clone());
        let write = move |_: &Folder| (&*file).write_all(&pieces).map_err(|error| Error::at(&path, error));
        self.folder.blocking(write).await
    }

    pub(crate) async fn finish(mut self, key: &str) -> Result<(), Error> {
        self.flush().await?;
        let (key, file, path) = (key.to_owned(), Arc::clone(&self.file), self.path.clone());
        self.folder
            .blocking(move |folder| {
                file.sync_all().map_err(|error| Error::at(&path, error))?;
                folder.settle(&key, &path, |from, to| fs::rename(from, to))
            })
            .await
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Not there any more if it is where it belongs.
        fs::remove_file(&self.path).ok();
    }
}

/// Makes a folder, and those above it, for this user alone.
fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
