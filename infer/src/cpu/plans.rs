//! The plans of one model, one for each input size that was met.

use std::sync::Arc;

use rayon::prelude::*;

use super::heads::PlanHeads;
use super::packed::PackedModel;
use super::plan::Plan;
use super::program::StepProfile;
use crate::contract::Fault;

/// Sizes whose plans are kept: beyond it the one met longest ago is dropped. Streams have few aspect ratios.
pub(super) const MOST_PLANS: usize = 8;

/// Pictures that go through a plan at once. More bring hardly anything, and each takes memory.
pub(super) const MOST_PICTURES: usize = 4;

/// A model, and the threads that share it.
#[derive(Debug)]
pub struct Plans {
    model: Arc<PackedModel>,
    /// None if the caller's thread does everything.
    pool: Option<Arc<rayon::ThreadPool>>,
    /// The last one used at the end.
    plans: Vec<Planned>,
}

/// The plans for one input size.
#[derive(Debug)]
struct Planned {
    size: [usize; 2],
    /// One a thread, for pictures of which each thread has as many.
    own: Vec<Plan>,
    /// For those that are left, which the threads share.
    shared: Option<Plan>,
}

impl Plans {
    /// None yet. `pool`: the threads that share each inference, if the caller's does not do everything.
    pub fn new(model: Arc<PackedModel>, pool: Option<Arc<rayon::ThreadPool>>) -> Self {
        Self { model, pool, plans: Vec::new() }
    }

    /// How many pictures it runs at once.
    pub fn most_pictures(&self) -> usize {
        self.threads() * MOST_PICTURES
    }

    fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs the model on pictures of one size, at most [`most_pictures`](Self::most_pictures), each `[height, width, 3]` RGB. The results, one
    /// for each, borrow the plans' memory.
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
        self.check(height, width, pictures)?;
        let pool = self.pool.clone();
        let threads = self.threads();
        let each = pictures.len() / threads;
        let (even, rest) = pictures.split_at(each * threads);
        let Planned { own, shared, .. } = self.planned([height, width], each, rest.len());
        let Some(pool) = pool else {
            return Ok(own.first_mut().map_or_else(Vec::new, |plan| plan.run(even)));
        };
        Ok(pool.install(|| {
            let even = own.par_iter_mut().zip(even.par_chunks(each.max(1)));
            let mut heads: Vec<_> = even.flat_map_iter(|(plan, pictures)| plan.run(pictures)).collect();
            if let Some(plan) = shared.as_mut().filter(|_| !rest.is_empty()) {
                heads.append(&mut plan.run(rest));
            }
            heads
        }))
    }

    /// Runs the model `runs` times on pictures of one size, which all threads share, and says what each step took at least for
    /// all of them.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn profile(
        &self,
        height: usize,
        width: usize,
        pictures: &[&[u8]],
        runs: usize,
    ) -> Result<Vec<StepProfile>, Fault> {
        self.check(height, width, pictures)?;
        let mut plan = self.plan([height, width], pictures.len(), self.threads());
        let mut profile = || plan.profile(pictures, runs);
        Ok(match &self.pool {
            Some(pool) => pool.install(profile),
            None => profile(),
        })
    }

    /// How many sizes plans are kept for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }

    fn check(&self, height: usize, width: usize, pictures: &[&[u8]]) -> Result<(), Fault> {
        assert!(pictures.len() <= self.most_pictures(), "{} pictures at once", pictures.len());
        let is_taken = self.model.architecture.input.takes(height, width);
        let odd = pictures.iter().find(|rgb| !is_taken || rgb.len() != height * width * 3);
        odd.map_or(Ok(()), |rgb| {
            let what = format!("an input of {width}×{height} pixels in {} bytes", rgb.len());
            Err(Fault::Input { model: self.model.id.clone(), what })
        })
    }

    fn plan(&self, size: [usize; 2], pictures: usize, threads: usize) -> Plan {
        Plan::new(self.model.clone(), size, pictures, threads)
    }

    /// The plans for that size, with one a thread for `each` pictures, and one that they share for `rest`: made, or made
    /// anew, where there are none for so many.
    fn planned(&mut self, size: [usize; 2], each: usize, rest: usize) -> &mut Planned {
        let known = self.plans.iter().position(|planned| planned.size == size);
        let known = known.map(|index| self.plans.remove(index));
        let mut planned = known.unwrap_or_else(|| Planned { size, own: Vec::new(), shared: None });
        let threads = self.threads();
        if planned.own.first().map_or(0, Plan::pictures) < each {
            planned.own = (0..threads).map(|_| self.plan(size, each, 1)).collect();
        }
        if planned.shared.as_ref().map_or(0, Plan::pictures) < rest {
            planned.shared = Some(self.plan(size, rest, threads));
        }
        if self.plans.len() == MOST_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(planned);
        self.plans.last_mut().expect("it was just put there")
    }
}
