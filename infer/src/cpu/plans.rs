//! The plans of one model, one for each input size that was met.

use std::sync::Arc;

use super::heads::PlanHeads;
use super::packed::PackedModel;
use super::plan::Plan;
use super::program::StepProfile;
use crate::contract::Fault;

/// Plans that are kept: beyond it the one used longest ago is dropped. Streams have few aspect ratios.
pub(super) const MOST_PLANS: usize = 8;

/// A model for one frame at a time, and the threads that share it.
#[derive(Debug)]
pub struct Plans {
    model: Arc<PackedModel>,
    /// None if the caller's thread does everything.
    pool: Option<Arc<rayon::ThreadPool>>,
    /// By height and width, the last one used at the end.
    plans: Vec<([usize; 2], Plan)>,
}

impl Plans {
    /// None yet. `pool`: the threads that share the rows of each inference, if the caller's does not do everything.
    pub fn new(model: Arc<PackedModel>, pool: Option<Arc<rayon::ThreadPool>>) -> Self {
        Self { model, pool, plans: Vec::new() }
    }

    /// Runs the model on `rgb`, `[height, width, 3]` RGB. The result borrows the plan's memory.
    ///
    /// # Errors
    /// [`Fault::Input`] if the model does not take that size, or `rgb` is not that long.
    pub fn run(&mut self, height: usize, width: usize, rgb: &[u8]) -> Result<PlanHeads<'_>, Fault> {
        self.prepare(height, width, rgb)?;
        let (_, plan) = self.plans.last_mut().expect("it was prepared");
        Ok(match &self.pool {
            Some(pool) => pool.install(|| plan.run(rgb)),
            None => plan.run(rgb),
        })
    }

    /// Runs the model on `rgb` as [`run`](Self::run) does, `runs` times, and says what each step of its plan took
    /// at least.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn profile(
        &mut self,
        height: usize,
        width: usize,
        rgb: &[u8],
        runs: usize,
    ) -> Result<Vec<StepProfile>, Fault> {
        self.prepare(height, width, rgb)?;
        let (_, plan) = self.plans.last_mut().expect("it was prepared");
        Ok(match &self.pool {
            Some(pool) => pool.install(|| plan.profile(rgb, runs)),
            None => plan.profile(rgb, runs),
        })
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }

    /// Makes the plan for an input the last of `plans`.
    fn prepare(&mut self, height: usize, width: usize, rgb: &[u8]) -> Result<(), Fault> {
        let is_taken = self.model.architecture.input.takes(height, width);
        if !is_taken || rgb.len() != height * width * 3 {
            let what = format!("an input of {width}×{height} pixels in {} bytes", rgb.len());
            return Err(Fault::Input { model: self.model.id.clone(), what });
        }
        if let Some(index) = self.plans.iter().position(|(size, _)| *size == [height, width]) {
            self.plans[index..].rotate_left(1);
            return Ok(());
        }
        let threads = self.pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        let plan = Plan::new(self.model.clone(), height, width, threads);
        if self.plans.len() == MOST_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(([height, width], plan));
        Ok(())
    }
}
