//! Annotations and results, as COCO's files have them (<https://cocodataset.org/#format-data>).

use serde::{Deserialize, Serialize};

/// A file of labelled photos. Fields that measuring needs not are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Annotations {
    /// The photos.
    pub images: Vec<Photo>,
    /// The people in them.
    pub annotations: Vec<Annotation>,
    /// What is labelled.
    pub categories: Vec<Category>,
}

/// A labelled photo.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Photo {
    /// By which annotations name it.
    pub id: u64,
    /// In a folder of photos.
    pub file_name: String,
}

/// A kind of thing that is labelled.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Category {
    /// By which annotations name it.
    pub id: u64,
    /// `person`, if it has keypoints.
    pub name: String,
    /// What its keypoints are called, in the order of the annotations.
    #[serde(default)]
    pub keypoints: Vec<String>,
}

/// A labelled person, or a crowd.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Annotation {
    /// The photo.
    pub image_id: u64,
    /// The kind of thing.
    pub category_id: u64,
    /// x, y and visibility of each keypoint: 0 not labelled, 1 hidden, 2 visible. Pixels.
    #[serde(default)]
    pub keypoints: Vec<f64>,
    /// How many are labelled.
    #[serde(default)]
    pub num_keypoints: u32,
    /// Of the person's outline, in square pixels.
    pub area: f64,
    /// Left, top, width, height, in pixels.
    pub bbox: [f64; 4],
    /// 1 for a group that is not labelled one by one.
    #[serde(default)]
    pub iscrowd: u8,
}

/// A person that was found, as files of results have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The photo.
    pub image_id: u64,
    /// The kind of thing.
    pub category_id: u64,
    /// x, y and score of each keypoint. Pixels.
    pub keypoints: Vec<f64>,
    /// By which results are ranked.
    pub score: f64,
}
