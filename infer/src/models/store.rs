//! Where weight files come from: built into the binary, or a folder.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use cloudpose_wire::ModelId;

use super::Error;
use super::manifest::{Entry, Manifest};

/// The weight files that `models/` held when the binary was built.
const EMBEDDED: [(&str, &[u8]); 4] = {
    macro_rules! weights {
        ($name:literal) => {
            ($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $name)))
        };
    }
    [
        weights!("movenet-multipose-lightning.safetensors"),
        weights!("movenet-singlepose-lightning.safetensors"),
        weights!("movenet-singlepose-thunder.safetensors"),
        weights!("efficientnet-lite0.safetensors"),
    ]
};

const EMBEDDED_MANIFEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/manifest.json"));

#[derive(Clone, Debug)]
enum Origin {
    Embedded,
    Folder(PathBuf),
}

/// A set of weight files with their manifest.
#[derive(Clone, Debug)]
pub struct ModelStore {
    manifest: Manifest,
    origin: Origin,
}

impl ModelStore {
    /// The files built into the binary.
    pub fn embedded() -> Self {
        let manifest = serde_json::from_str(EMBEDDED_MANIFEST).expect("a test parses the embedded manifest");
        Self { manifest, origin: Origin::Embedded }
    }

    /// The files of a folder, as `cloudpose models import` writes it. A file that its manifest does not list is
    /// never loaded.
    ///
    /// # Errors
    /// [`Error::Read`] if the folder has no readable `manifest.json`, [`Error::Manifest`] if that is
    /// malformed.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(Manifest::FILE);
        let json = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let manifest = Manifest::read(&json, &path)?;
        Ok(Self { manifest, origin: Origin::Folder(folder.to_owned()) })
    }

    /// The folder as it is now, if its manifest says something else than this; nothing that is built in changes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn changed(&self) -> Result<Option<Self>, Error> {
        let Origin::Folder(folder) = &self.origin else { return Ok(None) };
        let now = Self::open(folder)?;
        Ok((now.manifest != self.manifest).then_some(now))
    }

    /// Whether it is a folder, which somebody may change.
    pub(super) fn may_change(&self) -> bool {
        matches!(self.origin, Origin::Folder(_))
    }

    /// Lists a pipeline.
    #[cfg(test)]
    pub(super) fn add(&mut self, pipeline: super::manifest::PipelineEntry) {
        self.manifest.pipelines.push(pipeline);
    }

    /// What there is in this store.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads the weight file of `model` and checks it against the manifest.
    ///
    /// # Errors
    /// [`Error::NotListed`] if the store lacks the model, [`Error::Read`] if its file cannot be read,
    /// [`Error::Checksum`] if that is not the file the manifest describes.
    pub fn read(&self, model: &ModelId) -> Result<(&Entry, Cow<'static, [u8]>), Error> {
        let entry = self.manifest.entry(model).ok_or_else(|| self.not_listed(model))?;
        let file = match &self.origin {
            Origin::Embedded => {
                let known = EMBEDDED.iter().find(|(name, _)| *name == entry.file);
                Cow::Borrowed(known.expect("a test reads all that is built in").1)
            }
            Origin::Folder(folder) => {
                let path = folder.join(&entry.file);
                Cow::Owned(std::fs::read(&path).map_err(|source| Error::Read { path, source })?)
            }
        };
        entry.verify(&file)?;
        Ok((entry, file))
    }

    /// That there is no such model, and what there is.
    pub(super) fn not_listed(&self, model: &ModelId) -> Error {
        let manifest = match &self.origin {
            Origin::Embedded => "the built-in manifest".to_owned(),
            Origin::Folder(folder) => folder.join(Manifest::FILE).display().to_string(),
        };
        let Manifest { models, pipelines } = &self.manifest;
        let names = pipelines.iter().map(|entry| &entry.name).chain(models.iter().map(|entry| &entry.name));
        let listed = names.map(ModelId::as_str).collect::<Vec<_>>().join(", ");
        Error::NotListed { model: model.clone(), manifest, listed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{FAMILIES, Models};

    const LIGHTNING: &str = "movenet-singlepose-lightning.safetensors";

    fn id(name: &str) -> ModelId {
        ModelId::new(name).unwrap()
    }

    /// A folder with the embedded Lightning and a manifest of all models.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::embedded();
        let (_, file) = store.read(&id("lightning")).unwrap();
        std::fs::write(folder.path().join(LIGHTNING), file).unwrap();
        std::fs::write(folder.path().join(Manifest::FILE), store.manifest.to_json()).unwrap();
        folder
    }

    #[test]
    fn embedded_files_match_the_manifest_and_their_architecture() {
        let models = Models::new(ModelStore::embedded(), FAMILIES).unwrap();
        let names: Vec<String> = models.infos().iter().map(|info| info.id.to_string()).collect();
        let ours =
            ["fast", "balanced", "accurate", "multipose", "lightning", "thunder", "efficientnet-lite0"];
        assert_eq!(names, ours);
        for info in models.infos() {
            for stage in models.served(&info.id).unwrap().models() {
                models.get(stage).unwrap();
            }
        }
        assert_eq!(ModelStore::embedded().manifest().models.len(), EMBEDDED.len());
    }

    #[test]
    fn a_folder_gives_the_same_weights() {
        let folder = folder();
        let store = ModelStore::open(folder.path()).unwrap();
        let (_, file) = store.read(&id("lightning")).unwrap();
        assert_eq!(file, ModelStore::embedded().read(&id("lightning")).unwrap().1);
        let error = store.read(&id("thunder")).unwrap_err().to_string();
        assert!(error.contains("movenet-singlepose-thunder.safetensors"), "{error}");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let folder = folder();
        let store = ModelStore::open(folder.path()).unwrap();
        let path = folder.path().join(LIGHTNING);
        let mut file = std::fs::read(&path).unwrap();
        *file.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &file).unwrap();
        assert!(matches!(store.read(&id("lightning")), Err(Error::Checksum { .. })));
        std::fs::write(&path, &file[..file.len() - 2]).unwrap();
        let error = store.read(&id("lightning")).unwrap_err().to_string();
        assert!(error.contains(&format!("{} bytes", file.len() - 2)), "{error}");
    }

    #[test]
    fn a_folder_is_what_its_manifest_says() {
        let folder = folder();
        let manifest = folder.path().join(Manifest::FILE);
        let mut fewer = ModelStore::embedded().manifest;
        fewer.models.retain(|entry| entry.name != id("lightning"));
        std::fs::write(&manifest, fewer.to_json()).unwrap();
        let store = ModelStore::open(folder.path()).unwrap();
        let error = store.read(&id("lightning")).unwrap_err();
        assert!(error.to_string().contains("lists fast, balanced, accurate, multipose, thunder"), "{error}");

        std::fs::write(&manifest, "{\"models\": 3}").unwrap();
        assert!(matches!(ModelStore::open(folder.path()), Err(Error::Manifest { .. })));
        std::fs::remove_file(&manifest).unwrap();
        assert!(matches!(ModelStore::open(folder.path()), Err(Error::Read { .. })));
    }
}
