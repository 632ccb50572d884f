//! Every model of a store, loaded once, when it is first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cloudpose_wire::{ModelId, ModelInfo};

use super::manifest::PipelineEntry;
use super::{Entry, Error, Family, Finds, Manifest, Model, ModelStore};

/// The models that this process can run. All engines and pipelines share it.
#[derive(Debug)]
pub struct Models {
    store: ModelStore,
    families: &'static [&'static dyn Family],
    served: Vec<Served>,
    /// Each in a lock of its own: who asks for a model while it loads waits, for others nobody does.
    loaded: HashMap<ModelId, Mutex<Option<Arc<dyn Model>>>>,
}

/// A model as clients ask for it.
#[derive(Debug, Clone)]
pub struct Served {
    /// What they are told of it.
    pub info: Arc<ModelInfo>,
    /// What runs, in this order; at least one.
    pub stages: Arc<[ModelId]>,
}

impl Models {
    /// The models of a store, run by `families`. Nothing is loaded yet.
    ///
    /// # Errors
    /// [`Error::Entry`] if the manifest says something that cannot be.
    pub fn new(store: ModelStore, families: &'static [&'static dyn Family]) -> Result<Self, Error> {
        let manifest = store.manifest();
        let mut served: Vec<Served> = Vec::new();
        for entry in &manifest.models {
            served.push(Served { info: Arc::new(entry.info()?), stages: [entry.name.clone()].into() });
        }
        for pipeline in &manifest.pipelines {
            served.push(made_of(pipeline, manifest)?);
        }
        if let Some(twice) = served.iter().enumerate().find_map(|(index, one)| {
            let id = &one.info.id;
            served[..index].iter().any(|other| other.info.id == *id).then(|| id.clone())
        }) {
            return Err(Error::Entry { model: twice, problem: "two models have this name".into() });
        }
        let loaded = manifest.models.iter().map(|entry| (entry.name.clone(), Mutex::default())).collect();
        Ok(Self { families, served, loaded, store })
    }

    /// What clients can ask for.
    pub fn infos(&self) -> Vec<ModelInfo> {
        self.served.iter().map(|served| ModelInfo::clone(&served.info)).collect()
    }

    /// All models with weights of their own, in the order of the manifest.
    pub fn ids(&self) -> impl Iterator<Item = &ModelId> {
        self.store.manifest().models.iter().map(|entry| &entry.name)
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
        let (entry, file) = self.store.read(id)?;
        let model = self.family(entry.family.as_str(), id)?.open(entry, file)?;
        has_its_names(&*model, entry)?;
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

/// A model made of others that `manifest` lists.
fn made_of(pipeline: &PipelineEntry, manifest: &Manifest) -> Result<Served, Error> {
    let invalid = |problem: String| Error::Entry { model: pipeline.name.clone(), problem };
    let stage = |id: &ModelId| {
        let entry = manifest.entry(id);
        entry.ok_or_else(|| invalid(format!("its stage {id} is no model of this manifest")))?.info()
    };
    let mut stages = pipeline.stages.iter().map(stage).collect::<Result<Vec<_>, _>>()?;
    if stages.len() > 1
        && let Some(other) = stages.iter().find(|stage| stage.skeleton().is_none())
    {
        return Err(invalid(format!("its stage {} finds no persons: let it stand alone", other.id)));
    }
    let last = stages.pop().ok_or_else(|| invalid("write at least one of `stages`".into()))?;
    let input = stages.first().unwrap_or(&last).input.clone();
    let PipelineEntry { name, title, summary, .. } = pipeline.clone();
    let info = ModelInfo { id: name, title, summary, input, ..last };
    Ok(Served { info: Arc::new(info), stages: pipeline.stages.clone().into() })
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
        assert!(
            error.contains("lists multipose, lightning, thunder, efficientnet-lite0, balanced, accurate"),
            "{error}"
        );
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
            let stages = stages.iter().map(|stage| id(stage)).collect();
            store.add(PipelineEntry { name: id(name), title: "Both".into(), summary: String::new(), stages });
            Models::new(store, &[&Counted]).map_err(|error| error.to_string())
        };
        let models = with("both", &["multipose", "thunder"]).unwrap();
        let both = models.served(&id("both")).unwrap();
        assert_eq!(*both.stages, [id("multipose"), id("thunder")]);
        assert_eq!((both.info.id.as_str(), both.info.title.as_str()), ("both", "Both"));
        assert_eq!(both.info.skeleton().unwrap().keypoints().len(), 17);
        assert!(both.info.input.contains("longer side 256"), "what it takes is what its first stage takes");
        for (name, stages, why) in [
            ("both", &["multipose", "yolo"][..], "yolo is no model"),
            ("both", &[], "at least one"),
            ("thunder", &["multipose"], "two models have this name"),
        ] {
            let error = with(name, stages).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
