//! The golden files of `infer/tests/golden`, whose README says what is in them.

use std::{fmt::Display, path::PathBuf};

use serde::Deserialize;

/// One picture through one model: the input, and what TensorFlow answered.
#[derive(Debug, Clone, Deserialize)]
pub struct Golden {
    /// The photo's name: `images/<name>.jpg` beside the inputs, if we may show it.
    pub name: String,
    /// How the photo became the input: `letterbox`, `aspect` or `stretch`.
    pub mode: String,
    /// Where the input is, in the folder of the golden files.
    pub file: String,
    /// N, H, W, C of the input.
    pub shape: [usize; 4],
    /// Width and height of the picture within the input, where it was placed in it.
    #[serde(default)]
    pub nw: usize,
    /// See `nw`.
    #[serde(default)]
    pub nh: usize,
    /// Where in the input the picture begins, from the left.
    #[serde(default)]
    pub x0: usize,
    /// The same from the top.
    #[serde(default)]
    pub y0: usize,
    /// As TensorFlow gave it: SinglePose 17 × (y, x, score); MultiPose 6 rows of 17 × (y, x, score), box, score.
    output_f32: Vec<Vec<f32>>,
}

impl Golden {
    /// All of a model.
    pub fn all(model: impl Display) -> Vec<Self> {
        serde_json::from_slice(&read(&format!("{model}.json"))).unwrap()
    }

    /// The input tensor: uint8 RGB, NHWC.
    pub fn pixels(&self) -> Vec<u8> {
        let file = read(&self.file);
        // Magic, version, header length at byte 8, header.
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00", "{}", self.file);
        file[10 + usize::from(u16::from_le_bytes([file[8], file[9]]))..].to_vec()
    }

    /// The output, a row for each person: 17 × (y, x, score), for MultiPose with box and score behind.
    pub fn rows(&self) -> Vec<Vec<f32>> {
        // SinglePose has one person, and a row for each keypoint.
        if self.output_f32[0].len() == 3 { vec![self.output_f32.concat()] } else { self.output_f32.clone() }
    }
}

/// A photo as a JPEG, by its name.
pub fn jpeg(name: &str) -> Vec<u8> {
    read(&format!("images/{name}.jpg"))
}

/// A photo of people, 1088 × 1920.
pub fn photo() -> Vec<u8> {
    jpeg("multi_cam01_f000")
}

/// The folder of the JPEGs.
pub fn images() -> PathBuf {
    folder().join("images")
}

fn folder() -> PathBuf {
    crate::repository().join("infer/tests/golden")
}

fn read(file: &str) -> Vec<u8> {
    let path = folder().join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
