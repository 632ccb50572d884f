//! What a file says, while the file may change.

use std::{
    convert::Infallible,
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a file said last that could be used.
pub(super) struct Followed<T> {
    path: PathBuf,
    parse: fn(&[u8]) -> Result<T, String>,
    /// What was read last, good or not.
    seen: Mutex<Result<Vec<u8>, String>>,
    current: watch::Sender<Arc<T>>,
}

impl<T> Followed<T> {
    /// The file at `path` had these bytes, which said `first`; `parse` says what others say, or why they cannot be used.
    pub(super) fn new(
        path: PathBuf,
        (bytes, first): (Vec<u8>, T),
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Self {
        Self { path, parse, seen: Mutex::new(Ok(bytes)), current: watch::Sender::new(Arc::new(first)) }
    }

    pub(super) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }

    /// To hear of changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }

    /// Takes the file in anew whenever it changes. One that cannot be used changes nothing, and is told once.
    pub(super) async fn follow(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || fs::read(path)).await;
            let read = read.map_err(io::Error::from).and_then(|read| read);
            self.take_in(read.map_err(|error| error.to_string()));
        }
    }

    pub(super) fn take_in(&self, read: Result<Vec<u8>, String>) {
        // What is in it is whole at any time.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == read {
            return;
        }
        match read.as_deref().map_err(Clone::clone).and_then(self.parse) {
            Ok(now) => {
                self.current.send_replace(Arc::new(now));
                tracing::info!("took in what has changed in {}", self.path.display());
            }
            Err(error) => tracing::error!(
                "{} cannot be used, what it said before stays in force: {error}",
                self.path.display()
            ),
        }
        *seen = read;
    }
}

impl<T: fmt::Debug> fmt::Debug for Followed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("path", &self.path)
            .field("current", &*self.current.borrow())
            .finish()
    }
}
