//! The models that this process can run, and their renewal.

use std::sync::{Arc, PoisonError, RwLock};

use cloudpose_wire::{ModelId, ModelInfo};

use super::catalogue::Catalogue;
use super::served::Served;
use super::{Error, Family, Model, ModelStore};
use crate::cpu::Half;

/// The models that this process can run. All engines and pipelines share it.
#[derive(Debug)]
pub struct Models {
    /// Replaced as a whole.
    current: RwLock<Arc<Catalogue>>,
}

impl Models {
    /// The models of a store, run by `families`. Nothing is loaded yet.
    ///
    /// # Errors
    /// [`Error::Entry`] if the manifest says something that cannot be.
    pub fn new(store: ModelStore, families: &'static [&'static dyn Family]) -> Result<Self, Error> {
        Ok(Self { current: RwLock::new(Arc::new(Catalogue::new(store, families)?)) })
    }

    /// The models as they are now. Whoever asks for several things of one frame asks this.
    pub(crate) fn now(&self) -> Arc<Catalogue> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the models are still those.
    pub(crate) fn are_still(&self, before: &Arc<Catalogue>) -> bool {
        Arc::ptr_eq(&self.now(), before)
    }

    /// What clients can ask for: models made of others first, for who has them should take them.
    pub fn infos(&self) -> Vec<ModelInfo> {
        self.now().infos()
    }

    /// What clients can ask for where it runs on GPUs: models whose families have a program for them.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), by which all are read.
    pub(crate) fn infos_on_gpu(&self) -> Result<Vec<ModelInfo>, Error> {
        self.now().infos_on_gpu()
    }

    /// All models that engines may be asked to run.
    pub fn ids(&self) -> Vec<ModelId> {
        self.now().ids()
    }

    /// A model that clients can ask for.
    ///
    /// # Errors
    /// [`Error::NotListed`] if there is none of that name, [`Error::Entry`] if it is no more than a stage of others.
    pub fn served(&self, id: &ModelId) -> Result<Served, Error> {
        self.now().served(id).cloned()
    }

    /// The model `id`, read and checked, once in this process while its entry stays the same.
    ///
    /// # Errors
    /// [`Error::NotListed`] if the store lacks it, otherwise those of [`ModelStore::read`] and [`Family::open`].
    pub fn get(&self, id: &ModelId) -> Result<Arc<dyn Model>, Error> {
        self.now().get(id)
    }

    /// Whether any stage of `id`, or the model itself, is computed in bfloat16 by who has `half`.
    pub(crate) fn is_half(&self, id: &ModelId, half: Half) -> bool {
        let now = self.now();
        let is_half = |id: &ModelId| now.get(id).is_ok_and(|model| model.in_half(half));
        now.served(id).map_or_else(|_| is_half(id), |served| served.models().any(is_half))
    }

    /// Takes in what has changed in the folder since: new and changed models are loaded and checked before anybody gets
    /// them. Says whether there was anything.
    ///
    /// # Errors
    /// [`Error`] if what is there now cannot be used: then everything stays as it was.
    pub fn renew(&self) -> Result<bool, Error> {
        let Some(renewed) = self.now().renewed()? else { return Ok(false) };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::models::Entry;
    use crate::models::manifest::PipelineEntry;
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
