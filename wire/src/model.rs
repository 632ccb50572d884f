//! What is said of models: their names, what they find, who serves them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ModelId, Skeleton, Task};

/// A model that somebody serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name used in queries, events, metrics and on the command line.
    pub id: ModelId,
    /// What its authors call it.
    pub title: String,
    /// What it is good for, in a few words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// What it finds.
    #[serde(flatten)]
    pub task: Task,
    /// The input sizes it takes, in words.
    pub input: String,
    /// Package, version and file that the weights come from.
    pub source: String,
    /// SPDX identifier of the weights' licence.
    pub licence: String,
}

/// A worker's word on what it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// Tells workers apart; its next word replaces this one.
    pub worker: String,
    /// All that it serves.
    pub models: Vec<ModelInfo>,
    /// Frames that it works on at once; 0 while it is not at work. Workers of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
    /// Whether it takes only what other workers leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overflow: bool,
}

impl ModelInfo {
    /// The keypoints of the persons it finds, if it finds persons.
    pub fn skeleton(&self) -> Option<&Arc<Skeleton>> {
        self.task.skeleton()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_says_its_task_beside_its_name() {
        let info = ModelInfo {
            id: "m".parse().unwrap(),
            title: "M".into(),
            summary: "finds pets".into(),
            task: Task::Classify { labels: ["cat".to_owned(), "dog".to_owned()].into() },
            input: "8x8".into(),
            source: "here".into(),
            licence: "Apache-2.0".into(),
        };
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(
            (&json["id"], &json["task"], &json["labels"][1]),
            (&"m".into(), &"classify".into(), &"dog".into())
        );
        assert_eq!(serde_json::from_value::<ModelInfo>(json).unwrap(), info);
        assert_eq!(info.skeleton(), None);
        let pose = ModelInfo { task: Task::Pose { skeleton: Skeleton::coco_17() }, ..info };
        let json = serde_json::to_string(&pose).unwrap();
        assert_eq!(serde_json::from_str::<ModelInfo>(&json).unwrap().skeleton(), Some(&Skeleton::coco_17()));
    }
}
