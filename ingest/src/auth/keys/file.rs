//! The file of keys, as `cloudpose keys` changes it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use cloudpose_wire::{KeyName, Tenant};

use super::{Error, Flaw, Key, Keys, Listed};

/// Only its owner reads and writes it.
const MODE: u32 = 0o600;

/// A file of keys. Who reads it meanwhile finds it as it was or as it is, and one change waits for the other.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The one at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The keys in it.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Flawed`].
    pub fn read(&self) -> Result<Keys, Error> {
        let json = fs::read(&self.path).map_err(|source| Error::Read { path: self.path.clone(), source })?;
        Keys::parse(&json).map_err(|flaw| self.flawed(flaw))
    }

    /// Adds a key, and makes the file if it is not there.
    ///
    /// # Errors
    /// [`Error::Taken`], and those of reading and writing.
    pub fn add(&self, key: Key) -> Result<(), Error> {
        self.change(|keys| {
            if keys.iter().any(|other| (&other.tenant, &other.name) == (&key.tenant, &key.name)) {
                return Err(Error::Taken { tenant: key.tenant, name: key.name });
            }
            keys.push(key);
            Ok(())
        })
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// [`Error::Unknown`], and those of reading and writing.
    pub fn revoke(&self, tenant: &Tenant, name: &KeyName) -> Result<(), Error> {
        self.change(|keys| {
            let before = keys.len();
            keys.retain(|key| (&key.tenant, &key.name) != (tenant, name));
            if keys.len() == before {
                return Err(Error::Unknown { tenant: tenant.clone(), name: name.clone() });
            }
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Key>) -> Result<(), Error>) -> Result<(), Error> {
        let cannot_write = |source| Error::Write { path: self.path.clone(), source };
        // A link stays one: what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder = File::open(folder).map_err(cannot_write)?;
        // Until it is closed; the file itself is another one after each change.
        folder.lock().map_err(cannot_write)?;
        let (mut keys, quotas) = match self.read() {
            Ok(keys) => (keys.list, keys.quotas),
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        change(&mut keys)?;
        let Keys { list: keys, quotas, .. } = Keys::new(keys, quotas).map_err(|flaw| self.flawed(flaw))?;
        let json =
            serde_json::to_vec_pretty(&Listed { keys, quotas }).map_err(|flaw| self.flawed(flaw.into()))?;
        replace(&path, &json).and_then(|()| folder.sync_all()).map_err(cannot_write)
    }

    fn flawed(&self, flaw: Flaw) -> Error {
        Error::Flawed { path: self.path.clone(), flaw }
    }
}

/// Writes `bytes` beside `path`, and puts them in its place once all are on the disk.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // What a process left that was killed while writing.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
