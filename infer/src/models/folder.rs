//! A folder of models that is written to: new files beside the others, and a manifest that names them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::manifest::{Entry, Manifest, PipelineEntry};
use super::{Error, efficientnet, movenet};

/// Models that came from elsewhere: their files, and models made of them.
#[derive(Debug, Default)]
pub struct Import {
    /// Each with what the manifest says of it.
    pub files: Vec<(Entry, Vec<u8>)>,
    /// Models made of these, and of those that are there.
    pub pipelines: Vec<PipelineEntry>,
}

/// Converts the published models that `from` holds.
///
/// # Errors
/// [`Error::Nothing`] if there are none, otherwise those of the families' imports.
pub fn convert(from: &Path) -> Result<Import, Error> {
    match (efficientnet::import::find(from), movenet::import::find(from)) {
        (Some(checkpoint), _) => efficientnet::import::convert(&checkpoint),
        (None, Some(graphs)) => movenet::import::convert(&graphs),
        (None, None) => Err(Error::Nothing { path: from.to_owned() }),
    }
}

/// A folder of models.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    manifest: Manifest,
}

impl Folder {
    /// The folder at `path`, which need not be there yet.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Manifest`] if there is a manifest that cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.join(Manifest::FILE);
        let manifest = match fs::read(&file) {
            Ok(json) => Manifest::read(&json, &file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Manifest::default(),
            Err(source) => return Err(Error::Read { path: file, source }),
        };
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What would be in it with `import`: models of the same names are replaced, where they stand.
    pub fn with(&self, import: &Import) -> Manifest {
        let mut manifest = self.manifest.clone();
        for (entry, _) in &import.files {
            match manifest.models.iter_mut().find(|known| known.name == entry.name) {
                Some(known) => known.clone_from(entry),
                None => manifest.models.push(entry.clone()),
            }
        }
        for pipeline in &import.pipelines {
            match manifest.pipelines.iter_mut().find(|known| known.name == pipeline.name) {
                Some(known) => known.clone_from(pipeline),
                None => manifest.pipelines.push(pipeline.clone()),
            }
        }
        manifest
    }

    /// Adds models. Whoever reads the folder meanwhile sees it as it was or as it will be: files come into place whole,
    /// the manifest last.
    ///
    /// # Errors
    /// [`Error::Write`] if something cannot be written. Models that were there are as they were.
    pub fn add(&mut self, import: &Import) -> Result<(), Error> {
        fs::create_dir_all(&self.path).map_err(|source| Error::Write { path: self.path.clone(), source })?;
        for (entry, bytes) in &import.files {
            self.write(&entry.file, bytes)?;
        }
        let manifest = self.with(import);
        self.write(Manifest::FILE, manifest.to_json().as_bytes())?;
        self.manifest = manifest;
        Ok(())
    }

    /// Writes a file beside its place and moves it there.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        let beside = self.path.join(format!(".{name}.{}", std::process::id()));
        let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, &path));
        written.map_err(|source| {
            fs::remove_file(&beside).ok();
            Error::Write { path, source }
        })
    }
}
