//! From an ONNX file to an entry of a manifest: what it is, tried out, before anything is written.

use std::path::Path;
use std::sync::Arc;

use cloudpose_wire::{ModelId, Skeleton, SkeletonName};
use serde_json::json;

use super::config::{Channels, Config, Kind};
use super::graph::{Declared, Graph, Output};
use super::{OnnxFamily, guess, kinds, try_out};
use crate::models::manifest::sha256_hex;
use crate::models::{Entry, Error, Family as _, Finds};
use crate::task::{LabelsEntry, PERSON, SkeletonEntry, TaskEntry};

/// CenterFace's input says 32×32 pixels, which are meant for no picture.
const SMALLEST: usize = 64;

/// What somebody says of a file beside the file.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// What its outputs mean; guessed if not said.
    pub kind: Option<Kind>,
    /// By which name it is asked for; its file's if not said.
    pub name: Option<ModelId>,
    /// Width and height of its input, in pixels; its own if it has them.
    pub input: Option<[usize; 2]>,
    /// In which order it wants the colours.
    pub channels: Option<Channels>,
    /// What a pixel is less of, by channel in that order.
    pub mean: Option<[f32; 3]>,
    /// What it is divided by then.
    pub deviation: Option<[f32; 3]>,
    /// Whose keypoints it finds.
    pub skeleton: Option<SkeletonEntry>,
    /// What its classes are called.
    pub labels: Option<LabelsEntry>,
    /// SPDX identifier of its licence.
    pub licence: Option<String>,
}

/// A model that can be added.
#[derive(Clone, Debug)]
pub struct Addition {
    /// What the manifest says of it.
    pub entry: Entry,
    /// What has to be known to run it.
    pub config: Config,
    /// What it finds.
    pub finds: Finds,
    /// Whether its kind was guessed.
    pub is_guessed: bool,
}

/// Looks at the file that was read from `path`, and runs it once.
///
/// # Errors
/// [`Error::Graph`] if it cannot be run here, or it is not clear what it is.
pub fn look_at(path: &Path, file: &[u8], wishes: Wishes) -> Result<Addition, Error> {
    let looked = look(path, file, wishes);
    looked.map_err(|problem| Error::Graph { path: path.to_owned(), problem })
}

fn look(path: &Path, file: &[u8], wishes: Wishes) -> Result<Addition, String> {
    let declared = Declared::read(file)?;
    let metadata = declared.metadata.clone();
    let (kind, size) = match wishes.kind {
        Some(kind) => (kind, size(&declared, wishes.input, Some(kind))?),
        None => guessed(declared, wishes.input)?,
    };
    let is_guessed = wishes.kind.is_none();
    let usual = Config::usual(kind, size);
    let config = Config {
        channels: wishes.channels.unwrap_or(usual.channels),
        mean: wishes.mean.unwrap_or(usual.mean),
        deviation: wishes.deviation.unwrap_or(usual.deviation),
        ..usual
    };
    let outputs = first_run(Declared::read(file)?, &config)?;
    kinds::decode(&config, &outputs).map_err(|problem| format!("it is no {}: {problem}", config.kind))?;
    let finds = kinds::finds(config.kind, &outputs);
    let name = match wishes.name {
        Some(name) => name,
        None => name_of(path)?,
    };
    let sha256 = sha256_hex(file);
    let stem = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let licence = wishes.licence.or_else(|| metadata.get("license").cloned());
    let [width, height] = config.input;
    let entry = Entry {
        title: format!("{name} ({})", config.kind),
        summary: String::new(),
        family: OnnxFamily.name().to_owned(),
        config: written(&config),
        task: task(finds, wishes.skeleton, wishes.labels, metadata.get("names"))?,
        // Another file of the same name has another one here: who still runs the old one finds it.
        file: format!("{name}-{}.onnx", &sha256[..8]),
        input: format!("{width}x{height}"),
        source: format!("file:{stem}"),
        licence: licence.unwrap_or_else(|| "NOASSERTION".to_owned()),
        bytes: file.len() as u64,
        sha256,
        name,
    };
    Ok(Addition { entry, config, finds, is_guessed })
}

/// Finds out the kind by the outputs, and with it the size of its input.
fn guessed(declared: Declared, input: Option<[usize; 2]>) -> Result<(Kind, [usize; 2]), String> {
    let size = size(&declared, input, None)?;
    // How pixels are normalised does not change the shapes of outputs.
    let outputs = first_run(declared, &Config::usual(Kind::Yolox, size))?;
    let Some(kind) = guess::kind(size, &outputs) else {
        let shapes: Vec<String> = outputs.iter().map(|o| format!("{} {:?}", o.name, o.shape)).collect();
        let names: Vec<String> = Kind::ALL.iter().map(Kind::to_string).collect();
        let (shapes, names) = (shapes.join(", "), names.join(", "));
        return Err(format!("it is not clear what its outputs mean ({shapes}): say --as one of {names}"));
    };
    Ok((kind, if input.is_none() { meant(kind, size) } else { size }))
}

/// As people write it: a value made at once has the digits that float32 lacks.
fn written(config: &Config) -> serde_json::Value {
    let json = serde_json::to_string(config).expect("numbers and names are JSON");
    serde_json::from_str(&json).expect("it was written")
}

fn first_run(declared: Declared, config: &Config) -> Result<Vec<Output>, String> {
    config.check()?;
    let graph: Graph = declared.open(config.input)?;
    try_out(&graph, config)
}

/// The input's width and height: as wished, as the graph has it, or as is usual for its kind.
fn size(declared: &Declared, wished: Option<[usize; 2]>, kind: Option<Kind>) -> Result<[usize; 2], String> {
    match (wished, declared.size, kind) {
        (Some(size), ..) => Ok(size),
        (None, [Some(width), Some(height)], None) => Ok([width, height]),
        (None, [Some(width), Some(height)], Some(kind)) => Ok(meant(kind, [width, height])),
        (None, _, Some(kind)) => Ok(usual_size(kind)),
        (None, _, None) => Err(format!(
            "its input {} may have any size: say which with --input WIDTHxHEIGHT, or what it is with --as",
            declared.input
        )),
    }
}

/// The size that is meant by that of a graph.
fn meant(kind: Kind, size: [usize; 2]) -> [usize; 2] {
    let is_meant = kind != Kind::Centerface || size[0].min(size[1]) >= SMALLEST;
    if is_meant { size } else { usual_size(kind) }
}

/// What models of that kind are usually trained for.
fn usual_size(kind: Kind) -> [usize; 2] {
    match kind {
        Kind::Simcc | Kind::Heatmaps => [192, 256],
        Kind::YoloPose | Kind::Rtmo | Kind::Yolox | Kind::Rtmdet | Kind::Yolo => [640, 640],
        Kind::Nanodet => [416, 416],
        Kind::Centerface => [640, 480],
        Kind::Classes => [224, 224],
    }
}

/// The file's name without its suffix, with what names cannot hold left out.
fn name_of(path: &Path) -> Result<ModelId, String> {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().to_lowercase());
    let kept: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let kept: String = kept.trim_matches('-').chars().take(48).collect();
    kept.parse()
        .map_err(|error| format!("its file's name makes no name for it ({error}): say one with --name"))
}

fn task(
    finds: Finds,
    skeleton: Option<SkeletonEntry>,
    labels: Option<LabelsEntry>,
    names: Option<&String>,
) -> Result<TaskEntry, String> {
    let entry = match finds {
        Finds::Boxes => TaskEntry { boxes: Some(PERSON.to_owned()), ..TaskEntry::default() },
        Finds::Classes(count) => {
            let listed = || names.and_then(|names| listed(names, count)).map(LabelsEntry::Listed);
            let known = || (count == 1000).then(LabelsEntry::imagenet_1k);
            let numbered = || LabelsEntry::Listed((0..count).map(|class| format!("class {class}")).collect());
            let labels = labels.or_else(listed).or_else(known).unwrap_or_else(numbered);
            TaskEntry { labels: Some(labels), ..TaskEntry::default() }
        }
        Finds::Keypoints(count) => {
            let usual = || -> Result<SkeletonEntry, String> {
                Ok(match count {
                    17 => SkeletonEntry::Named(SkeletonName::default()),
                    5 => SkeletonEntry::Described(five_of_a_face()),
                    _ => SkeletonEntry::Described(dots(count)?),
                })
            };
            let skeleton = skeleton.map_or_else(usual, Ok)?;
            TaskEntry { skeleton: Some(skeleton), ..TaskEntry::default() }
        }
    };
    let named = entry.finds()?;
    if named == finds { Ok(entry) } else { Err(format!("it finds {finds}, but {named} are named")) }
}

/// The labels that Ultralytics writes beside a graph: `{0: 'cat', 1: 'dog'}`.
fn listed(names: &str, count: usize) -> Option<Arc<[String]>> {
    let inside = names.trim().strip_prefix('{')?.strip_suffix('}')?;
    let label = |pair: &str| {
        let (_, name) = pair.split_once(": ")?;
        Some(name.trim().trim_matches(['\'', '"']).to_owned())
    };
    let labels: Option<Arc<[String]>> = inside.split(", ").map(label).collect();
    labels.filter(|labels| labels.len() == count)
}

/// The landmarks of face detectors, in their usual order.
fn five_of_a_face() -> Arc<Skeleton> {
    let keypoint = |name: &str, side: Option<&str>| {
        let mut keypoint = json!({"name": name, "sigma": 0.025, "part": "head"});
        if let Some(side) = side {
            keypoint["side"] = side.into();
        }
        keypoint
    };
    // Left and right as the person sees it; the picture shows the right eye first.
    let keypoints = [
        keypoint("right_eye", Some("right")),
        keypoint("left_eye", Some("left")),
        keypoint("nose", None),
        keypoint("right_mouth", Some("right")),
        keypoint("left_mouth", Some("left")),
    ];
    let limbs =
        [["right_eye", "nose"], ["left_eye", "nose"], ["nose", "right_mouth"], ["nose", "left_mouth"]];
    let skeleton = json!({"name": "face-5", "keypoints": keypoints, "limbs": limbs});
    Arc::new(serde_json::from_value(skeleton).expect("a test reads it"))
}

/// Keypoints of which nobody says what they are.
fn dots(count: usize) -> Result<Arc<Skeleton>, String> {
    let keypoints: Vec<_> =
        (0..count).map(|n| json!({"name": format!("keypoint_{n}"), "sigma": 0.079})).collect();
    let skeleton = json!({"name": format!("keypoints-{count}"), "keypoints": keypoints, "limbs": []});
    serde_json::from_value(skeleton).map(Arc::new).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        for (path, name) in [
            ("/x/RTMPose-s.onnx", Some("rtmpose-s")),
            ("yolov8n pose (1).onnx", Some("yolov8n-pose--1")),
            ("a.b.onnx", Some("a-b")),
            ("ü.onnx", None),
        ] {
            let found = name_of(Path::new(path)).ok();
            assert_eq!(found.as_ref().map(ModelId::as_str), name, "{path}");
        }
    }

    #[test]
    fn everything_found_has_a_name() {
        assert_eq!(task(Finds::Keypoints(17), None, None, None).unwrap().finds(), Ok(Finds::Keypoints(17)));
        assert_eq!(task(Finds::Keypoints(5), None, None, None).unwrap().finds(), Ok(Finds::Keypoints(5)));
        assert_eq!(task(Finds::Keypoints(133), None, None, None).unwrap().finds(), Ok(Finds::Keypoints(133)));
        assert_eq!(task(Finds::Boxes, None, None, None).unwrap().finds(), Ok(Finds::Boxes));
        assert_eq!(
            task(Finds::Classes(1000), None, None, None).unwrap().labels,
            Some(LabelsEntry::imagenet_1k())
        );
        let names = "{0: 'cat', 1: \"it's a dog\"}".to_owned();
        let LabelsEntry::Listed(labels) =
            task(Finds::Classes(2), None, None, Some(&names)).unwrap().labels.unwrap()
        else {
            panic!("they are listed")
        };
        assert_eq!(*labels, ["cat", "it's a dog"]);
        let coco = SkeletonEntry::Named(SkeletonName::default());
        let error = task(Finds::Keypoints(26), Some(coco), None, None).unwrap_err();
        assert!(error.contains("finds 26 keypoints, but 17 keypoints"), "{error}");
    }
}
