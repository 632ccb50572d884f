//! Where weight files come from: built into the binary, or a folder.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use cloudpose_wire::ModelName;

use super::manifest::{Entry, Manifest};
use super::{Error, Weights};

/// The weight files that `models/` held when the binary was built.
fn embedded_file(model: ModelName) -> &'static [u8] {
    macro_rules! weights {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $name, ".safetensors"))
        };
    }
    match model {
        ModelName::Lightning => weights!("movenet-singlepose-lightning"),
        ModelName::Thunder => weights!("movenet-singlepose-thunder"),
        ModelName::MultiPose => weights!("movenet-multipose-lightning"),
    }
}

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
    /// The files built into the binary: all three models.
    pub fn embedded() -> Self {
        let manifest = serde_json::from_str(EMBEDDED_MANIFEST).expect("a test parses the embedded manifest");
        Self { manifest, origin: Origin::Embedded }
    }

    /// The files of a folder, as `cloudpose models import` writes it. The folder may hold fewer than
    /// three models; a file that its manifest does not list is never loaded.
    ///
    /// # Errors
    /// [`Error::Read`] if the folder has no readable `manifest.json`, [`Error::Manifest`] if that is
    /// malformed.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(Manifest::FILE);
        let json = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let manifest = serde_json::from_slice(&json).map_err(|source| Error::Manifest { path, source })?;
        Ok(Self { manifest, origin: Origin::Folder(folder.to_owned()) })
    }

    /// The models of this store.
    pub fn list(&self) -> &[Entry] {
        &self.manifest.models
    }

    /// Reads the weights of `model` and checks them against the manifest and the architecture.
    ///
    /// # Errors
    /// [`Error::NotListed`] if the store lacks the model, [`Error::Read`] if its file cannot be read,
    /// [`Error::Checksum`] if that is not the file the manifest describes, [`Error::Weights`] if it does
    /// not fit the architecture.
    pub fn load(&self, model: ModelName) -> Result<Weights, Error> {
        let entry = self
            .manifest
            .entry(model)
            .ok_or_else(|| Error::NotListed { manifest: self.manifest_path(), model })?;
        let file = match &self.origin {
            Origin::Embedded => Cow::Borrowed(embedded_file(model)),
            Origin::Folder(folder) => {
                let path = folder.join(&entry.file);
                Cow::Owned(std::fs::read(&path).map_err(|source| Error::Read { path, source })?)
            }
        };
        entry.verify(&file)?;
        Weights::parse(model, file)
    }

    fn manifest_path(&self) -> PathBuf {
        match &self.origin {
            Origin::Embedded => PathBuf::from("the built-in manifest"),
            Origin::Folder(folder) => folder.join(Manifest::FILE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the embedded Lightning and a manifest of all three.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::embedded();
        let entry = store.manifest.entry(ModelName::Lightning).unwrap();
        std::fs::write(folder.path().join(&entry.file), embedded_file(ModelName::Lightning)).unwrap();
        std::fs::write(folder.path().join(Manifest::FILE), store.manifest.to_json()).unwrap();
        folder
    }

    #[test]
    fn embedded_files_match_the_manifest_and_their_architecture() {
        let store = ModelStore::embedded();
        assert_eq!(store.list().len(), ModelName::ALL.len());
        for model in ModelName::ALL {
            store.load(model).unwrap();
            let entry = store.manifest.entry(model).unwrap();
            assert_eq!(*entry, Entry::describe(model, entry.source.clone(), embedded_file(model)));
        }
    }

    #[test]
    fn a_folder_gives_the_same_weights() {
        let folder = folder();
        let store = ModelStore::open(folder.path()).unwrap();
        let weights = store.load(ModelName::Lightning).unwrap();
        assert_eq!(weights.file(), embedded_file(ModelName::Lightning));
        let error = store.load(ModelName::Thunder).unwrap_err().to_string();
        assert!(error.contains("movenet-singlepose-thunder.safetensors"), "{error}");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let folder = folder();
        let store = ModelStore::open(folder.path()).unwrap();
        let path = folder.path().join(&store.manifest.entry(ModelName::Lightning).unwrap().file);
        let mut file = std::fs::read(&path).unwrap();
        *file.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &file).unwrap();
        assert!(matches!(store.load(ModelName::Lightning), Err(Error::Checksum { .. })));
        std::fs::write(&path, &file[..file.len() - 2]).unwrap();
        let error = store.load(ModelName::Lightning).unwrap_err().to_string();
        assert!(error.contains(&format!("{} bytes", file.len() - 2)), "{error}");
    }

    #[test]
    fn a_folder_is_what_its_manifest_says() {
        let folder = folder();
        let manifest = folder.path().join(Manifest::FILE);
        let mut fewer = ModelStore::embedded().manifest;
        fewer.models.retain(|entry| entry.name != ModelName::Lightning);
        std::fs::write(&manifest, fewer.to_json()).unwrap();
        let store = ModelStore::open(folder.path()).unwrap();
        assert!(matches!(store.load(ModelName::Lightning), Err(Error::NotListed { .. })));

        std::fs::write(&manifest, "{\"models\": 3}").unwrap();
        assert!(matches!(ModelStore::open(folder.path()), Err(Error::Manifest { .. })));
        std::fs::remove_file(&manifest).unwrap();
        assert!(matches!(ModelStore::open(folder.path()), Err(Error::Read { .. })));
    }
}
