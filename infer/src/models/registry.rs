//! Every model of a store, loaded once, when it is first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cloudpose_wire::{ModelId, ModelInfo};

use super::manifest::PipelineEntry;
use super::{Entry, Error, Family, Manifest, ModelStore};
use crate::contract::{Finds, Model};

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
