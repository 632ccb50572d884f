//! The models of a store as it was at one time, each loaded once, when it is first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cloudpose_wire::{ModelId, ModelInfo};

use super::served::{Detector, Offer, Served};
use super::{Entry, Error, Family, Model, ModelStore};

/// The models of a store as it was at one time.
#[derive(Debug)]
pub(crate) struct Catalogue {
    store: ModelStore,
    families: &'static [&'static dyn Family],
    offer: Offer,
    /// Each in a lock of its own: who asks for a model while it loads waits, for others nobody does.
    loaded: HashMap<ModelId, Mutex<Option<Arc<dyn Model>>>>,
}

impl Catalogue {
    /// The models of a store, run by `families`. Nothing is loaded yet.
    ///
    /// # Errors
    /// [`Error::Entry`] if the manifest says something that cannot be.
    pub(super) fn new(store: ModelStore, families: &'static [&'static dyn Family]) -> Result<Self, Error> {
        let manifest = store.manifest();
        let offer = Offer::of(manifest)?;
        let names = manifest.models.iter().map(|entry| &entry.name).chain(offer.detectors.keys());
        let loaded = names.map(|name| (name.clone(), Mutex::default())).collect();
        Ok(Self { families, offer, loaded, store })
    }

    /// Whether the store may change.
    pub(crate) fn may_change(&self) -> bool {
        self.store.may_change()
    }

    /// As of [`Models::infos`](super::Models::infos).
    pub(super) fn infos(&self) -> Vec<ModelInfo> {
        self.offer.served.iter().map(|served| ModelInfo::clone(&served.info)).collect()
    }

    /// As of [`Models::infos_on_gpu`](super::Models::infos_on_gpu).
    pub(super) fn infos_on_gpu(&self) -> Result<Vec<ModelInfo>, Error> {
        let mut infos = Vec::with_capacity(self.offer.served.len());
        for served in &self.offer.served {
            let models = served.models().map(|model| self.get(model)).collect::<Result<Vec<_>, _>>()?;
            if models.iter().all(|model| model.on_gpu().is_some()) {
                infos.push(ModelInfo::clone(&served.info));
            }
        }
        Ok(infos)
    }

    /// All models that engines may be asked to run.
    pub(super) fn ids(&self) -> Vec<ModelId> {
        self.loaded.keys().cloned().collect()
    }

    /// As of [`Models::served`](super::Models::served).
    pub(crate) fn served(&self, id: &ModelId) -> Result<&Served, Error> {
        let served = self.offer.served.iter().find(|served| served.info.id == *id);
        served.ok_or_else(|| match self.store.manifest().entry(id).map(Entry::info) {
            // A stage alone, which says so.
            Some(Err(why)) => why,
            Some(Ok(_)) | None => self.store.not_listed(id),
        })
    }

    /// The model `id`, read and checked, once.
    ///
    /// # Errors
    /// [`Error::NotListed`] if the store lacks it, otherwise those of [`ModelStore::read`] and [`Family::open`].
    pub(crate) fn get(&self, id: &ModelId) -> Result<Arc<dyn Model>, Error> {
        let slot = self.loaded.get(id).ok_or_else(|| self.store.not_listed(id))?;
        // Set when everything has gone well: what panicked has changed nothing.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*slot {
            return Ok(model.clone());
        }
        let model = match self.offer.detectors.get(id) {
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

    /// The folder as it is now, if it is another than this; models that are the same are not loaded again, all others are,
    /// and checked.
    ///
    /// # Errors
    /// Those of [`ModelStore::open`], [`new`](Self::new) and [`get`](Self::get), and [`Error::Entry`] if a skeleton of a
    /// name that is known has become another one: frames under way would be drawn by it.
    pub(super) fn renewed(&self) -> Result<Option<Self>, Error> {
        let Some(store) = self.store.changed()? else { return Ok(None) };
        let new = Self::new(store, self.families)?;
        for served in &new.offer.served {
            let Some(skeleton) = served.info.skeleton() else { continue };
            let mut known = self.offer.served.iter().filter_map(|known| known.info.skeleton());
            if known.any(|known| known.name() == skeleton.name() && known != skeleton) {
                let problem =
                    format!("its skeleton {} was another one before: give it another name", skeleton.name());
                return Err(Error::Entry { model: served.info.id.clone(), problem });
            }
        }
        for (id, slot) in &new.loaded {
            if new.made_of(id) == self.made_of(id) {
                let known = self.loaded[id].lock().unwrap_or_else(PoisonError::into_inner).clone();
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = known;
            } else {
                new.get(id)?;
            }
        }
        Ok(Some(new))
    }

    /// All that makes a model what it is.
    fn made_of(&self, id: &ModelId) -> Option<(&Entry, Option<&Detector>)> {
        let detector = self.offer.detectors.get(id);
        let entry = self.store.manifest().entry(detector.map_or(id, |detector| &detector.of))?;
        Some((entry, detector))
    }

    fn family(&self, name: &str, id: &ModelId) -> Result<&'static dyn Family, Error> {
        self.families.iter().copied().find(|family| family.name() == name).ok_or_else(|| {
            let names: Vec<&str> = self.families.iter().map(|family| family.name()).collect();
            let problem = format!("nothing here runs the family {name:?}; there is {}", names.join(", "));
            Error::Entry { model: id.clone(), problem }
        })
    }
}

/// Checks that `entry` has a name for each thing that the model finds.
fn has_its_names(model: &dyn Model, entry: &Entry) -> Result<(), Error> {
    let invalid = |problem: String| Error::Entry { model: entry.name.clone(), problem };
    let named = entry.task.finds().map_err(invalid)?;
    if model.finds() == named {
        return Ok(());
    }
    let problem = format!("they find {}, the manifest names {named}", model.finds());
    Err(Error::Weights { model: entry.name.clone(), problem })
}
