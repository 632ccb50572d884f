//! A model folder of the newcomers.

use std::{path::Path, sync::Arc};

use cloudpose_infer::{
    Models,
    models::{
        Entry, Error, Family, Manifest, ModelStore,
        manifest::{PipelineEntry, StageEntry, sha256_hex},
        movenet::MoveNetFamily,
    },
};
use cloudpose_wire::Skeleton;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{blobs::Blobs, hues::Hues, painting};

/// The newcomers beside one that was there before.
static FAMILIES: &[&dyn Family] = &[&MoveNetFamily, &Blobs, &Hues];

/// What the classifier tells.
pub(crate) const LABELS: [&str; 3] = ["red", "green", "blue"];

/// How much the classifier makes of a colour.
pub(crate) const WEIGHT: f32 = 4.0;

/// The newcomers' persons: five joints, none of which is a head, a shoulder or a hip.
pub(crate) fn kite() -> Arc<Skeleton> {
    serde_json::from_value(kite_json()).unwrap()
}

pub(crate) fn kite_json() -> Value {
    let keypoints =
        ["top", "left", "right", "middle", "bottom"].map(|name| json!({"name": name, "sigma": 0.125}));
    json!({
        "name": "kite-5",
        "keypoints": keypoints,
        "limbs": [["top", "middle"], ["left", "middle"], ["right", "middle"], ["middle", "bottom"]],
    })
}

/// A skeleton of so many keypoints.
pub(crate) fn skeleton_of(count: usize) -> Value {
    let keypoints: Vec<Value> = (0..count).map(|n| json!({"name": format!("k{n}"), "sigma": 0.1})).collect();
    json!({"name": format!("dots-{count}"), "keypoints": keypoints})
}

/// A folder with a manifest and weight files, for as long as it lives.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// `tiny` finds a kite, `kites` several, `sheets` finds white sheets, `closer` first sheets and then the kites on them, `hue` tells
    /// colours.
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let colours = painting::JOINTS.concat();
        let diagonal = |place| if place % 4 == 0 { WEIGHT } else { 0.0 };
        let matrix: Vec<u8> = (0..9).flat_map(|place| f32::to_le_bytes(diagonal(place))).collect();
        let kite = ("skeleton", kite_json());
        let models = vec![
            folder.entry("tiny", "blobs", json!({"side": 64, "gap": 64}), kite.clone(), &colours),
            folder.entry("kites", "blobs", json!({"side": 128, "gap": 12}), kite.clone(), &colours),
            folder.entry(
                "sheets",
                "blobs",
                json!({"side": 64, "gap": 2}),
                ("skeleton", skeleton_of(1)),
                &painting::WHITE,
            ),
            folder.entry("close", "blobs", json!({"side": 40, "gap": 40}), kite, &colours),
            folder.entry("hue", "hues", json!({}), ("labels", json!(LABELS)), &matrix),
        ];
        let pipelines = vec![pipeline("closer", &["sheets", "close"])];
        folder.write(&Manifest { models, pipelines });
        folder
    }

    /// Writes a weight file, and the entry that describes it.
    pub(crate) fn entry(
        &self,
        name: &str,
        family: &str,
        config: Value,
        (names, what): (&str, Value),
        file: &[u8],
    ) -> Entry {
        std::fs::write(self.path().join(format!("{name}.bin")), file).unwrap();
        let entry = json!({
            "name": name, "title": format!("The {name} one"), "family": family, "config": config, names: what,
            "file": format!("{name}.bin"), "input": "any", "source": "a test", "licence": "CC0-1.0",
            "bytes": file.len(), "sha256": sha256_hex(file),
        });
        serde_json::from_value(entry).unwrap()
    }

    /// The folder with another manifest.
    pub(crate) fn changed(change: impl FnOnce(&Self, &mut Manifest)) -> Self {
        let folder = Self::new();
        folder.change(change);
        folder
    }

    /// Changes it, whoever serves it.
    pub(crate) fn change(&self, change: impl FnOnce(&Self, &mut Manifest)) {
        let mut manifest = self.store().manifest().clone();
        change(self, &mut manifest);
        self.write(&manifest);
    }

    fn write(&self, manifest: &Manifest) {
        let beside = self.path().join("manifest.new");
        std::fs::write(&beside, manifest.to_json()).unwrap();
        std::fs::rename(beside, self.path().join(Manifest::FILE)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self) -> ModelStore {
        ModelStore::open(self.path()).unwrap()
    }

    pub(crate) fn models(&self) -> Result<Arc<Models>, Error> {
        Models::new(self.store(), FAMILIES).map(Arc::new)
    }
}

pub(crate) fn pipeline(name: &str, stages: &[&str]) -> PipelineEntry {
    let stages = stages.iter().map(|stage| StageEntry::Model(stage.parse().unwrap())).collect();
    PipelineEntry {
        name: name.parse().unwrap(),
        title: format!("The {name} one"),
        summary: String::new(),
        stages,
        calibration: None,
    }
}
