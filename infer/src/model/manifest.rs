//! `manifest.json`: the weight files of a folder, where they come from, and their checksums.

use cloudpose_wire::ModelName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use super::arch::{Architecture, INPUT_MULTIPLE, InputSize};

/// The manifest of a folder of weight files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// One entry a model.
    pub models: Vec<Entry>,
}

/// One weight file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The model.
    pub name: ModelName,
    /// What its authors call it.
    pub title: String,
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

impl Manifest {
    /// The manifest's file name within its folder.
    pub const FILE: &str = "manifest.json";

    /// The entry of `model`, if there is one.
    pub fn entry(&self, model: ModelName) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name == model)
    }

    /// The manifest as it is written to disk.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("strings and numbers always serialise");
        json + "\n"
    }
}

impl Entry {
    /// Describes `bytes`, the weight file of `model` imported from `source`.
    pub fn describe(model: ModelName, source: String, bytes: &[u8]) -> Self {
        let (title, file) = match model {
            ModelName::Lightning => ("MoveNet SinglePose Lightning", "movenet-singlepose-lightning"),
            ModelName::Thunder => ("MoveNet SinglePose Thunder", "movenet-singlepose-thunder"),
            ModelName::MultiPose => ("MoveNet MultiPose Lightning", "movenet-multipose-lightning"),
        };
        let input = match Architecture::of(model).input {
            InputSize::Square(side) => format!("{side}x{side}"),
            InputSize::Multiple { longer } => {
                format!("longer side {longer}, both sides multiples of {INPUT_MULTIPLE}")
            }
        };
        Self {
            name: model,
            title: title.to_owned(),
            file: format!("{file}.safetensors"),
            input,
            source,
            licence: "Apache-2.0".to_owned(),
            bytes: bytes.len() as u64,
            sha256: sha256_hex(bytes),
        }
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
            model: self.name,
            file: self.file.clone(),
            got: format!("{} bytes, SHA-256 {sha256}", bytes.len()),
            expected: format!("{} bytes, SHA-256 {}", self.bytes, self.sha256),
        })
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
