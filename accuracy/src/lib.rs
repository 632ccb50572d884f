//! How right poses are: COCO's keypoint average precision, computed as COCO's own program does
//! (`PythonAPI/pycocotools/cocoeval.py` of cocodataset/cocoapi, revision 8c9bcc3; <https://cocodataset.org/#keypoints-eval>).
//!
//! - [`coco`]: annotations and results, as COCO's files have them
//! - [`matching`]: which result is which person, at each similarity
//! - [`precision`]: from matches to average precision and recall, with what other photos might have given
//! - [`compare`]: two results of the same frames beside each other
//!
//! Numbers only: nothing here reads files or runs models.

pub mod coco;
pub mod compare;
pub mod matching;
pub mod precision;

pub use coco::{Annotation, Annotations, Photo, Scored};
pub use matching::{Matches, Oks, match_photo};
pub use precision::{Joint, Summary, interval, joints, summary};
