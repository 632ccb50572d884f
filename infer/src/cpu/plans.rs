//! The plans of one model, one for each input size that was met.

use std::sync::Arc;

use super::heads::PlanHeads;
use super::packed::PackedModel;
use super::plan::Plan;
use super::program::StepProfile;
use crate::contract::Fault;

/// Plans that are kept: beyond it the one used longest ago is dropped. Streams have few aspect ratios.
pub(super) const MOST_PLANS: usize = 8;

/// Pictures that share each step's way through the caches. More bring hardly anything, and each takes memory.
pub(super) const MOST_PICTURES: usize = 4;
/// They do so in models of at least so many weights. Thunder, with six million, gains 2 to 3 %; Lightning, with two, loses
/// up to 3 %: its maps leave the caches before they are read.
const SHARED_WEIGHTS: usize = 6_000_000;

/// A model, and the threads that share it.
#[derive(Debug)]
pub struct Plans {
    model: Arc<PackedModel>,
    /// None if the caller's thread does everything.
    pool: Option<Arc<rayon::ThreadPool>>,
    /// By height and width, the last one used at the end.
    plans: Vec<([usize; 2], Plan)>,
    /// How many pictures it runs at once.
    most_pictures: usize,
}

impl Plans {
    /// None yet. `pool`: the threads that share the rows of each inference, if the caller's does not do everything.
    pub fn new(model: Arc<PackedModel>, pool: Option<Arc<rayon::ThreadPool>>) -> Self {
        let is_large = model.architecture.weights() >= SHARED_WEIGHTS;
        Self { model, pool, plans: Vec::new(), most_pictures: if is_large { MOST_PICTURES } else { 1 } }
    }

    /// How many pictures it runs at once.
    pub fn most_pictures(&self) -> usize {
        self.most_pictures
    }

    /// Runs the model on pictures of one size, at most [`most_pictures`](Self::most_pictures), each `[height, width, 3]` RGB. The results, one
    /// for each, borrow the plan's memory.
    ///
    /// # Errors
    /// [`Fault::Input`] if the model does not take that size, or one of the pictures is not that long.
    ///
    /// # Panics
    /// If there are more.
    pub fn run(
        &mut self,
        height: usize,
        width: usize,
        pictures: &[&[u8]],
    ) -> Result<Vec<PlanHeads<'_>>, Fault> {
        let pool = self.pool.clone();
        let plan = self.plan(height, width, pictures)?;
        Ok(match pool {
            Some(pool) => pool.install(|| plan.run(pictures)),
            None => plan.run(pictures),
        })
    }

    /// Runs the model on one picture `runs` times, and says what each step of its plan took at least.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn profile(
        &mut self,
        height: usize,
        width: usize,
        pixels: &[u8],
        runs: usize,
    ) -> Result<Vec<StepProfile>, Fault> {
        let pool = self.pool.clone();
        let plan = self.plan(height, width, &[pixels])?;
        Ok(match pool {
            Some(pool) => pool.install(|| plan.profile(pixels, runs)),
            None => plan.profile(pixels, runs),
        })
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }

    /// The plan for that many pictures of that size: made, or made anew, if there is none for so many.
    fn plan(&mut self, height: usize, width: usize, pictures: &[&[u8]]) -> Result<&mut Plan, Fault> {
        assert!(pictures.len() <= self.most_pictures(), "{} pictures at once", pictures.len());
        let is_taken = self.model.architecture.input.takes(height, width);
        let odd = pictures.iter().find(|rgb| !is_taken || rgb.len() != height * width * 3);
        if let Some(rgb) = odd {
            let what = format!("an input of {width}×{height} pixels in {} bytes", rgb.len());
            return Err(Fault::Input { model: self.model.id.clone(), what });
        }
        let known = self.plans.iter().position(|(size, _)| *size == [height, width]);
        let known = known.map(|index| self.plans.remove(index).1);
        let plan = known.filter(|plan| plan.pictures() >= pictures.len()).unwrap_or_else(|| {
            let threads = self.pool.as_ref().map_or(1, |pool| pool.current_num_threads());
            Plan::new(self.model.clone(), [height, width], pictures.len(), threads)
        });
        if self.plans.len() == MOST_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(([height, width], plan));
        Ok(&mut self.plans.last_mut().expect("it was just put there").1)
    }
}
