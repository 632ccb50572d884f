//! `manifest.json`: the models of a folder, what they find, where they come from, and their checksums.

use std::path::Path;

use cloudpose_wire::{ModelId, ModelInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use crate::scores::Calibration;
use crate::task::TaskEntry;

/// The manifest of a folder of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// One entry a model, in the order in which people are shown them.
    pub models: Vec<Entry>,
    /// Models made of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<PipelineEntry>,
}

/// One model and its weight file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// By this name it is asked for.
    pub name: ModelId,
    /// What its authors call it.
    pub title: String,
    /// What it is good for, in a few words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The family whose code runs it.
    pub family: String,
    /// What the family has to know of it beside the weights.
    pub config: serde_json::Value,
    /// What it finds.
    #[serde(flatten)]
    pub task: TaskEntry,
    /// File name within the folder.
    pub file: String,
    /// The input sizes it takes, in pixels, in words.
    pub input: String,
    /// Package, version and file that the weights were imported from.
    pub source: String,
    /// SPDX identifier of the weights' licence.
    pub licence: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
}

/// A model made of others: the first looks at the picture, each next one at the persons that the one before it found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineEntry {
    /// By this name it is asked for.
    pub name: ModelId,
    /// In words.
    pub title: String,
    /// What it is good for, in a few words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The models, at least one.
    pub stages: Vec<StageEntry>,
    /// What the scores mean. Absent: what the last model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// A stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StageEntry {
    /// A model as it is.
    Model(ModelId),
    /// A model made a detector: it looks for as many people as it can find.
    Detector(DetectorEntry),
}

impl StageEntry {
    /// The model that it is, or is made of.
    pub fn model(&self) -> &ModelId {
        match self {
            Self::Model(model) | Self::Detector(DetectorEntry { model, .. }) => model,
        }
    }
}

/// A detector made of a model that takes pictures of several sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorEntry {
    /// The model.
    pub model: ModelId,
    /// What the picture's longer side is made, in pixels: a multiple of 32. The larger, the smaller the people whom it
    /// finds, and the more it costs.
    pub longer_side: usize,
    /// When it looks again, and closer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<CrowdEntry>,
}

/// Where there are many, there are more that were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdEntry {
    /// From so many persons on.
    pub persons: usize,
    /// As in [`DetectorEntry`].
    pub longer_side: usize,
}

impl Manifest {
    /// The manifest's file name within its folder.
    pub const FILE: &str = "manifest.json";

    /// Reads the manifest that is at `path`.
    ///
    /// # Errors
    /// [`Error::Manifest`] if `json` is none.
    pub(super) fn read(json: &[u8], path: &Path) -> Result<Self, Error> {
        serde_json::from_slice(json).map_err(|source| Error::Manifest { path: path.to_owned(), source })
    }

    /// The entry of `model`, if there is one.
    pub fn entry(&self, model: &ModelId) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name == *model)
    }

    /// The manifest as it is written to disk.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("strings and numbers always serialise");
        json + "\n"
    }
}

impl Entry {
    /// What clients are told of the model.
    ///
    /// # Errors
    /// [`Error::Entry`] if it names no task, or two, or a skeleton that nobody knows.
    pub fn info(&self) -> Result<ModelInfo, Error> {
        let invalid = |problem: String| Error::Entry { model: self.name.clone(), problem };
        let task = self.task.task().map_err(invalid)?;
        Ok(ModelInfo {
            id: self.name.clone(),
            title: self.title.clone(),
            summary: self.summary.clone(),
            task,
            input: self.input.clone(),
            source: self.source.clone(),
            licence: self.licence.clone(),
        })
    }

    /// Checks that `bytes` are the file this entry describes.
    ///
    /// # Errors
    /// [`Error::Checksum`] if the size or the SHA-256 differ.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Error> {
        let sha256 = sha256_hex(bytes);
        if sha256 == self.sha256 && bytes.len() as u64 == self.bytes {
            return Ok(());
        }
        Err(Error::Checksum {
            model: self.name.clone(),
            file: self.file.clone(),
            got: format!("{} bytes, SHA-256 {sha256}", bytes.len()),
            expected: format!("{} bytes, SHA-256 {}", self.bytes, self.sha256),
        })
    }
}

/// The SHA-256 of a file as manifests write it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{Skeleton, Task};

    use super::*;

    fn entry(json: &str) -> Result<ModelInfo, String> {
        let json = format!(
            r#"{{"name":"m","title":"M","family":"f","config":{{}},"file":"f","input":"8x8","source":"s",
                "licence":"MIT","bytes":0,"sha256":"" {json}}}"#
        );
        serde_json::from_str::<Entry>(&json).map_err(|e| e.to_string())?.info().map_err(|e| e.to_string())
    }

    #[test]
    fn an_entry_says_what_the_model_finds() {
        assert_eq!(entry(r#","skeleton":"coco-17""#).unwrap().skeleton(), Some(&Skeleton::coco_17()));
        let one = r#","skeleton":{"name":"one","keypoints":[{"name":"top","sigma":0.1}]}"#;
        assert_eq!(entry(one).unwrap().skeleton().unwrap().keypoints().len(), 1);
        let classes = entry(r#","labels":["cat","dog"]"#).unwrap();
        assert!(matches!(classes.task, Task::Classify { labels } if labels[1] == "dog"));
        let classes = entry(r#","labels":"imagenet-1k""#).unwrap();
        assert!(matches!(classes.task, Task::Classify { labels } if labels.len() == 1000));
    }

    #[test]
    fn an_entry_that_says_nothing_or_too_much_is_refused() {
        let odd = r#","skeleton":{"name":"coco-17","keypoints":[{"name":"top","sigma":0.1}]}"#;
        for (json, why) in [
            ("", "write a `skeleton`"),
            (r#","labels":[]"#, "write a `skeleton`"),
            (r#","labels":"imagenet-22k""#, "not built in"),
            (r#","labels":["cat"],"skeleton":"coco-17""#, "write a `skeleton`"),
            (r#","skeleton":"halpe-26""#, "not built in"),
            (odd, "another one's name"),
        ] {
            let error = entry(json).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
