//! Every model of a store, loaded once, when it is first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cloudpose_wire::{ModelId, ModelInfo, Skeleton};

use super::manifest::{CrowdEntry, DetectorEntry, PipelineEntry, StageEntry};
use super::{Entry, Error, Family, Finds, Manifest, Model, ModelStore};
use crate::scores::Calibration;

/// The models that this process can run. All engines and pipelines share it.
#[derive(Debug)]
pub struct Models {
    store: ModelStore,
    families: &'static [&'static dyn Family],
    served: Vec<Served>,
    detectors: HashMap<ModelId, Detector>,
    /// Each in a lock of its own: who asks for a model while it loads waits, for others nobody does.
    loaded: HashMap<ModelId, Mutex<Option<Arc<dyn Model>>>>,
}

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
    /// Whose keypoints it finds; none if it finds no persons.
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
struct Detector {
    of: ModelId,
    longer_side: usize,
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

impl Models {
    /// The models of a store, run by `families`. Nothing is loaded yet.
    ///
    /// # Errors
    /// [`Error::Entry`] if the manifest says something that cannot be.
    pub fn new(store: ModelStore, families: &'static [&'static dyn Family]) -> Result<Self, Error> {
        let manifest = store.manifest();
        let mut served: Vec<Served> = Vec::new();
        let mut detectors = HashMap::new();
        for pipeline in &manifest.pipelines {
            served.push(made_of(pipeline, manifest, &mut detectors)?);
        }
        for entry in &manifest.models {
            let info = entry.info()?;
            let stage = Stage { model: entry.name.clone(), skeleton: info.skeleton().cloned(), crowd: None };
            served.push(Served { info: Arc::new(info), stages: [stage].into(), calibration: None });
        }
        if let Some(twice) = served.iter().enumerate().find_map(|(index, one)| {
            let id = &one.info.id;
            served[..index].iter().any(|other| other.info.id == *id).then(|| id.clone())
        }) {
            return Err(Error::Entry { model: twice, problem: "two models have this name".into() });
        }
        let names = manifest.models.iter().map(|entry| &entry.name).chain(detectors.keys());
        let loaded = names.map(|name| (name.clone(), Mutex::default())).collect();
        Ok(Self { families, served, detectors, loaded, store })
    }

    /// What clients can ask for: models made of others first, for who has them should take them.
    pub fn infos(&self) -> Vec<ModelInfo> {
        self.served.iter().map(|served| ModelInfo::clone(&served.info)).collect()
    }

    /// What clients can ask for where it runs on GPUs: models whose families have a program for them.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), by which all are read.
    pub(crate) fn infos_on_gpu(&self) -> Result<Vec<ModelInfo>, Error> {
        let mut infos = Vec::with_capacity(self.served.len());
        for served in &self.served {
            let models = served.models().map(|model| self.get(model)).collect::<Result<Vec<_>, _>>()?;
            if models.iter().all(|model| model.on_gpu().is_some()) {
                infos.push(ModelInfo::clone(&served.info));
            }
        }
        Ok(infos)
    }

    /// All models that engines may be asked to run.
    pub fn ids(&self) -> impl Iterator<Item = &ModelId> {
        self.loaded.keys()
    }

    /// A model that clients can ask for.
    ///
    /// # Errors
    /// [`Error::NotListed`] if there is none of that name.
    pub fn served(&self, id: &ModelId) -> Result<&Served, Error> {
        self.served.iter().find(|served| served.info.id == *id).ok_or_else(|| self.store.not_listed(id))
    }

    /// The model `id`, read and checked, once in this process.
    ///
    /// # Errors
    /// [`Error::NotListed`] if the store lacks it, otherwise those of [`ModelStore::read`] and [`Family::open`].
    pub fn get(&self, id: &ModelId) -> Result<Arc<dyn Model>, Error> {
        let slot = self.loaded.get(id).ok_or_else(|| self.store.not_listed(id))?;
        // Set when everything has gone well: what panicked has changed nothing.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*slot {
            return Ok(model.clone());
        }
        let model = match self.detectors.get(id) {
            Some(Detector { of, longer_side }) => {
                let cannot = |problem| Error::Entry { model: of.clone(), problem };
                self.get(of)?.detector(*longer_side).map_err(cannot)?
            }
            None => {
                let (entry, file) = self.store.read(id)?;
                let model = self.family(entry.family.as_str(), id)?.open(entry, file)?;
                has_its_names(&*model, entry)?;
                model
            }
        };
        Ok(slot.insert(model).clone())
    }

    fn family(&self, name: &str, id: &ModelId) -> Result<&'static dyn Family, Error> {
        self.families.iter().copied().find(|family| family.name() == name).ok_or_else(|| {
            let names: Vec<&str> = self.families.iter().map(|family| family.name()).collect();
            let problem = format!("nothing here runs the family {name:?}; there is {}", names.join(", "));
            Error::Entry { model: id.clone(), problem }
        })
    }
}

/// A model made of others that `manifest` lists, and the detectors for it.
fn made_of(
    pipeline: &PipelineEntry,
    manifest: &Manifest,
    detectors: &mut HashMap<ModelId, Detector>,
) -> Result<Served, Error> {
    let invalid = |problem: String| Error::Entry { model: pipeline.name.clone(), problem };
    let info = |id: &ModelId| {
        let entry = manifest.entry(id);
        entry.ok_or_else(|| invalid(format!("its stage {id} is no model of this manifest")))?.info()
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
    let (mut stages, mut infos) = (Vec::new(), Vec::new());
    for entry in &pipeline.stages {
        let (of, model, crowd) = match entry {
            StageEntry::Model(of) => (of, of.clone(), None),
            StageEntry::Detector(DetectorEntry { model: of, longer_side, crowd }) => {
                let crowd = match crowd {
                    Some(CrowdEntry { persons, longer_side }) => {
                        Some(Crowd { persons: *persons, model: detector(of, *longer_side)? })
                    }
                    None => None,
                };
                (of, detector(of, *longer_side)?, crowd)
            }
        };
        let mut info = info(of)?;
        if let StageEntry::Detector(DetectorEntry { longer_side, .. }) = entry {
            info.input = format!("longer side {longer_side}, both sides multiples of 32");
        }
        stages.push(Stage { model, skeleton: info.skeleton().cloned(), crowd });
        infos.push(info);
    }
    if stages.len() > 1
        && let Some(other) = infos.iter().find(|info| info.skeleton().is_none())
    {
        return Err(invalid(format!("its stage {} finds no persons: let it stand alone", other.id)));
    }
    let input = infos.first().map(|info| info.input.clone()).unwrap_or_default();
    let last = infos.pop().ok_or_else(|| invalid("write at least one of `stages`".into()))?;
    let PipelineEntry { name, title, summary, calibration, .. } = pipeline.clone();
    let info = ModelInfo { id: name, title, summary, input, ..last };
    Ok(Served { info: Arc::new(info), stages: stages.into(), calibration })
}

/// Checks that `entry` has a name for each thing that the model finds.
fn has_its_names(model: &dyn Model, entry: &Entry) -> Result<(), Error> {
    let named = Finds::from(&entry.info()?.task);
    if model.finds() == named {
        return Ok(());
    }
    let problem = format!("they find {}, the manifest names {named}", model.finds());
    Err(Error::Weights { model: entry.name.clone(), problem })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::models::movenet::MoveNetFamily;
    use crate::preprocess::Fit;

    static OPENED: AtomicUsize = AtomicUsize::new(0);

    /// MoveNet, counted.
    #[derive(Debug)]
    struct Counted;

    impl Family for Counted {
        fn name(&self) -> &'static str {
            MoveNetFamily.name()
        }

        fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error> {
            OPENED.fetch_add(1, Relaxed);
            MoveNetFamily.open(entry, file)
        }
    }

    fn id(name: &str) -> ModelId {
        name.parse().unwrap()
    }

    #[test]
    fn a_model_is_read_once_however_many_ask_for_it_at_once() {
        let models = Models::new(ModelStore::embedded(), &[&Counted]).unwrap();
        let at_once = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    at_once.wait();
                    models.get(&id("lightning")).unwrap();
                });
            }
        });
        assert_eq!(OPENED.load(Relaxed), 1);
        let error = models.get(&id("yolo")).unwrap_err().to_string();
        let names = "fast, balanced, accurate, multipose, lightning, thunder, efficientnet-lite0";
        assert!(error.contains(&format!("lists {names}")), "{error}");
    }

    #[test]
    fn what_no_family_runs_is_said() {
        let error = Models::new(ModelStore::embedded(), &[]).unwrap().get(&id("thunder")).unwrap_err();
        assert!(error.to_string().contains("movenet"), "{error}");
    }

    #[test]
    fn pipelines_are_models_made_of_others() {
        let with = |name: &str, stages: &[&str]| {
            let mut store = ModelStore::embedded();
            let stages = stages.iter().map(|stage| serde_json::from_str(stage).unwrap()).collect();
            let (title, summary) = ("Both".into(), String::new());
            store.add(PipelineEntry { name: id(name), title, summary, stages, calibration: None });
            Models::new(store, &[&Counted]).map_err(|error| error.to_string())
        };
        let detector = r#"{"model":"multipose","longer_side":128,"crowd":{"persons":4,"longer_side":512}}"#;
        let models = with("both", &[r#""multipose""#, r#""thunder""#]).unwrap();
        let both = models.served(&id("both")).unwrap();
        assert_eq!(both.models().collect::<Vec<_>>(), [&id("multipose"), &id("thunder")]);
        assert_eq!((both.info.id.as_str(), both.info.title.as_str()), ("both", "Both"));
        assert_eq!(both.info.skeleton().unwrap().keypoints().len(), 17);
        assert!(both.info.input.contains("longer side 256"), "what it takes is what its first stage takes");
        let models = with("both", &[detector, r#""thunder""#]).unwrap();
        let both = models.served(&id("both")).unwrap();
        let names: Vec<&str> = both.models().map(ModelId::as_str).collect();
        assert_eq!(names, ["multipose-128", "multipose-512", "thunder"]);
        assert!(both.info.input.contains("longer side 128"), "{}", both.info.input);
        for (name, longer_side) in [("multipose-128", 128), ("multipose-512", 512)] {
            assert_eq!(models.get(&id(name)).unwrap().fit(), Fit::Aspect { longer_side });
        }
        for (name, stages, why) in [
            ("both", &[r#""multipose""#, r#""yolo""#][..], "yolo is no model"),
            ("both", &[], "at least one"),
            ("thunder", &[r#""multipose""#], "two models have this name"),
            ("both", &[r#"{"model":"multipose","longer_side":100}"#], "use a multiple of 32"),
            ("both", &[r#"{"model":"yolo","longer_side":128}"#], "yolo is no model"),
        ] {
            let error = with(name, stages).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
        let models = with("both", &[r#"{"model":"thunder","longer_side":128}"#]).unwrap();
        let error = models.get(&id("thunder-128")).unwrap_err().to_string();
        assert!(error.contains("one size"), "{error}");
    }
}
