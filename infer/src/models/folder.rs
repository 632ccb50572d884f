//! A folder of models that is written to: new files beside the others, and a manifest that names them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cloudpose_wire::ModelId;

use super::manifest::{CrowdEntry, DetectorEntry, Entry, Manifest, PipelineEntry, StageEntry};
use super::served::Offer;
use super::{Error, ModelStore, Models, efficientnet, movenet};

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

/// What detectors look at in models that are made of two: as in `accurate`, which was measured (`docs/accuracy.md`).
const LONGER_SIDE: usize = 384;
const CROWD: CrowdEntry = CrowdEntry { persons: 4, longer_side: 896 };

/// A model made of two that `manifest` lists: `detector` finds persons, as many as it can, `pose` looks at each.
///
/// # Errors
/// Those of [`Models::get`] of both.
pub fn pair(
    models: &Models,
    manifest: &Manifest,
    [detector, pose]: [&ModelId; 2],
    name: ModelId,
) -> Result<PipelineEntry, Error> {
    models.get(pose)?;
    let detects_in_any = models.get(detector)?.detector(LONGER_SIDE).is_ok();
    let first = if detects_in_any {
        let (model, longer_side, crowd) = (detector.clone(), LONGER_SIDE, Some(CROWD));
        StageEntry::Detector(DetectorEntry { model, longer_side, crowd })
    } else {
        StageEntry::Model(detector.clone())
    };
    let title = |id: &ModelId| manifest.entry(id).map_or_else(|| id.to_string(), |entry| entry.title.clone());
    Ok(PipelineEntry {
        name,
        title: format!("{}, then {}", title(detector), title(pose)),
        summary: "each person looked at again".to_owned(),
        stages: vec![first, StageEntry::Model(pose.clone())],
        calibration: None,
    })
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

    /// The folder at `path`; one that is not there yet begins with the models that are built in, so that whoever serves
    /// it serves those too.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`add`](Self::add).
    pub fn begin(path: &Path) -> Result<Self, Error> {
        let mut folder = Self::open(path)?;
        if folder.manifest == Manifest::default() {
            let built_in = ModelStore::embedded();
            let read =
                |entry: &Entry| built_in.read(&entry.name).map(|(entry, file)| (entry.clone(), file.into()));
            let files = built_in.manifest().models.iter().map(read).collect::<Result<_, _>>()?;
            folder.add(&Import { files, pipelines: built_in.manifest().pipelines.clone() })?;
        }
        Ok(folder)
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
    /// [`Error::Entry`] if the manifest would say something that cannot be, [`Error::Write`] if something cannot be
    /// written. Models that were there are as they were.
    pub fn add(&mut self, import: &Import) -> Result<(), Error> {
        Offer::of(&self.with(import))?;
        fs::create_dir_all(&self.path).map_err(|source| Error::Write { path: self.path.clone(), source })?;
        for (entry, bytes) in &import.files {
            self.write(&entry.file, bytes)?;
        }
        let manifest = self.with(import);
        self.write(Manifest::FILE, manifest.to_json().as_bytes())?;
        self.manifest = manifest;
        Ok(())
    }

    /// The files of models that were replaced: whoever still serves the folder as it was may want them.
    pub fn unused(&self) -> Vec<PathBuf> {
        let is_used =
            |name: &str| name == Manifest::FILE || self.manifest.models.iter().any(|e| e.file == name);
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let name = |path: &PathBuf| path.file_name().is_some_and(|name| !is_used(&name.to_string_lossy()));
        files.filter(|path| path.extension().is_some_and(|suffix| suffix == "onnx") && name(path)).collect()
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
