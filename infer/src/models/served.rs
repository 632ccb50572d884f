//! What clients can ask for, of what a manifest lists: its models, and those made of them.

use std::collections::HashMap;
use std::sync::Arc;

use cloudpose_wire::skeleton::KeypointKind;
use cloudpose_wire::{ModelId, ModelInfo, Skeleton};

use super::manifest::{CrowdEntry, DetectorEntry, PipelineEntry, StageEntry};
use super::{Error, Manifest};
use crate::scores::Calibration;

/// A model as clients ask for it.
#[derive(Debug, Clone)]
pub struct Served {
    /// What they are told of it.
    pub info: Arc<ModelInfo>,
    /// What runs, in this order; at least one.
    pub stages: Arc<[Stage]>,
    /// What the scores mean, if not what the last stage says.
    pub calibration: Option<Calibration>,
}

/// What runs on the picture, or on the persons that the stage before it found.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The model.
    pub model: ModelId,
    /// Whose keypoints it finds; none if it finds boxes alone, or no persons.
    pub skeleton: Option<Arc<Skeleton>>,
    /// What looks again where this one finds many.
    pub crowd: Option<Crowd>,
}

/// A detector for crowds.
#[derive(Debug, Clone, PartialEq)]
pub struct Crowd {
    /// How many make one.
    pub persons: usize,
    /// The model.
    pub model: ModelId,
}

/// A detector that is made of another model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detector {
    pub(super) of: ModelId,
    /// What the picture's longer side is made, in pixels.
    pub(super) longer_side: usize,
}

impl Served {
    /// Whether the persons of `stage` have the keypoints of those who are reported.
    pub(crate) fn finds_the_same(&self, stage: &Stage) -> bool {
        let name = |skeleton: &Arc<Skeleton>| skeleton.name().clone();
        stage.skeleton.as_ref().map(name) == self.info.skeleton().map(name)
    }

    /// All models that its stages run.
    pub fn models(&self) -> impl Iterator<Item = &ModelId> {
        self.stages.iter().flat_map(|stage| {
            std::iter::once(&stage.model).chain(stage.crowd.as_ref().map(|crowd| &crowd.model))
        })
    }
}

impl Stage {
    /// The keypoints of whom it finds; none of boxes.
    pub(crate) fn keypoints(&self) -> &[KeypointKind] {
        self.skeleton.as_ref().map_or(&[], |skeleton| skeleton.keypoints())
    }
}

/// What is made of a manifest.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Models made of others first, for who has them should take them.
    pub(super) served: Vec<Served>,
    /// By the names under which engines run them.
    pub(super) detectors: HashMap<ModelId, Detector>,
}

impl Offer {
    /// # Errors
    /// [`Error::Entry`] if `manifest` says something that cannot be.
    pub(super) fn of(manifest: &Manifest) -> Result<Self, Error> {
        let names = manifest.models.iter().map(|entry| &entry.name);
        let names: Vec<&ModelId> = manifest.pipelines.iter().map(|made| &made.name).chain(names).collect();
        let mut each = names.iter().enumerate();
        if let Some((_, twice)) = each.find(|&(index, name)| names[..index].contains(name)) {
            let problem = "two models have this name".into();
            return Err(Error::Entry { model: ModelId::clone(twice), problem });
        }
        let mut offer = Self::default();
        for pipeline in &manifest.pipelines {
            let made = made_of(pipeline, manifest, &mut offer.detectors)?;
            offer.served.push(made);
        }
        for entry in manifest.models.iter().filter(|entry| !entry.task.is_boxes()) {
            let info = entry.info()?;
            let stage = Stage { model: entry.name.clone(), skeleton: info.skeleton().cloned(), crowd: None };
            offer.served.push(Served { info: Arc::new(info), stages: [stage].into(), calibration: None });
        }
        Ok(offer)
    }
}

/// A model made of others that `manifest` lists, and the detectors for it.
fn made_of(
    pipeline: &PipelineEntry,
    manifest: &Manifest,
    detectors: &mut HashMap<ModelId, Detector>,
) -> Result<Served, Error> {
    let invalid = |problem: String| Error::Entry { model: pipeline.name.clone(), problem };
    let listed = |id: &ModelId| {
        let entry = manifest.entry(id);
        entry.ok_or_else(|| invalid(format!("its stage {id} is no model of this manifest")))
    };
    let mut detector = |of: &ModelId, longer_side: usize| {
        if longer_side == 0 || !longer_side.is_multiple_of(32) || longer_side > 2048 {
            return Err(invalid(format!(
                "a longer_side of {longer_side}; use a multiple of 32, at most 2048"
            )));
        }
        let name = format!("{of}-{longer_side}");
        let name: ModelId = name.parse().map_err(|_| invalid(format!("{name} is too long a name")))?;
        if manifest.entry(&name).is_some() {
            return Err(invalid(format!("a detector of it would be called {name}, as another model is")));
        }
        detectors.insert(name.clone(), Detector { of: of.clone(), longer_side });
        Ok(name)
    };
    let mut stages = Vec::new();
    for stage in &pipeline.stages {
        let of = listed(stage.model())?;
        let skeleton = if of.task.is_boxes() { None } else { of.info()?.skeleton().cloned() };
        if skeleton.is_none() && !of.task.is_boxes() && pipeline.stages.len() > 1 {
            return Err(invalid(format!("its stage {} finds no persons: let it stand alone", of.name)));
        }
        let (model, crowd) = match stage {
            StageEntry::Model(of) => (of.clone(), None),
            StageEntry::Detector(DetectorEntry { model: of, longer_side, crowd }) => {
                let crowd = match crowd {
                    Some(CrowdEntry { persons, longer_side }) => {
                        Some(Crowd { persons: *persons, model: detector(of, *longer_side)? })
                    }
                    None => None,
                };
                (detector(of, *longer_side)?, crowd)
            }
        };
        stages.push(Stage { model, skeleton, crowd });
    }
    let (Some(first), Some(last)) = (pipeline.stages.first(), pipeline.stages.last()) else {
        return Err(invalid("write at least one of `stages`".into()));
    };
    let input = match first {
        StageEntry::Model(id) => listed(id)?.input.clone(),
        StageEntry::Detector(DetectorEntry { longer_side, .. }) => {
            format!("longer side {longer_side}, both sides multiples of 32")
        }
    };
    let last = listed(last.model())?;
    if last.task.is_boxes() {
        return Err(invalid(format!("its last stage {} finds boxes and nothing in them", last.name)));
    }
    let PipelineEntry { name, title, summary, calibration, .. } = pipeline.clone();
    let info = ModelInfo { id: name, title, summary, input, ..last.info()? };
    Ok(Served { info: Arc::new(info), stages: stages.into(), calibration })
}
