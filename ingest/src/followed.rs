//! What files say, while they may change.

use std::{
    convert::Infallible,
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes something of what files hold, in their order, or says why it cannot be used.
pub(crate) type Parse<T> = fn(&[Vec<u8>]) -> Result<T, String>;

/// What files said last that could be used.
pub(crate) struct Followed<T> {
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    /// What was read last, good or not.
    seen: Mutex<Result<Vec<Vec<u8>>, String>>,
    current: watch::Sender<Arc<T>>,
}

impl<T> Followed<T> {
    /// The files at `paths` held `bytes`, which said `first`; `parse` says what others say.
    pub(crate) fn new(paths: Vec<PathBuf>, bytes: Vec<Vec<u8>>, first: T, parse: Parse<T>) -> Self {
        Self { paths, parse, seen: Mutex::new(Ok(bytes)), current: watch::Sender::new(Arc::new(first)) }
    }

    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Which cannot be read, or why they cannot be used.
    pub(crate) fn open(paths: Vec<PathBuf>, parse: Parse<T>) -> Result<Self, String> {
        let bytes = read(&paths)?;
        let first = parse(&bytes)?;
        Ok(Self::new(paths, bytes, first, parse))
    }

    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }

    /// To hear of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }

    /// Takes the files in anew whenever one changes. What cannot be used changes nothing, and is told once.
    pub(crate) async fn follow(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let paths = self.paths.clone();
            let read = tokio::task::spawn_blocking(move || read(&paths)).await;
            self.take_in(read.unwrap_or_else(|error| Err(error.to_string())));
        }
    }

    pub(crate) fn take_in(&self, read: Result<Vec<Vec<u8>>, String>) {
        // What is in it is whole at any time.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == read {
            return;
        }
        match read.as_deref().map_err(Clone::clone).and_then(self.parse) {
            Ok(now) => {
                self.current.send_replace(Arc::new(now));
                tracing::info!("took in what has changed in {}", self.names());
            }
            Err(error) => tracing::error!(
                "{} cannot be used, what it said before stays in force: {error}",
                self.names()
            ),
        }
        *seen = read;
    }

    fn names(&self) -> String {
        self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|error: io::Error| format!("{} cannot be read: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

impl<T: fmt::Debug> fmt::Debug for Followed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("paths", &self.paths)
            .field("current", &*self.current.borrow())
            .finish()
    }
}
