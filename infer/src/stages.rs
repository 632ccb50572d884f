//! Models of several stages on one picture: each stage looks at the persons that the one before it found. In a stream the
//! last one looks where the tracks are, and a detector only when there is reason to.

use std::sync::Arc;

use cloudpose_pixels::PlanarImage;
use cloudpose_wire::{ModelId, event::TimingsMs};

use crate::{
    job::{Job, Past},
    models::{Model, Served, catalogue::Catalogue},
    preprocess::{ModelInput, Source, Square},
    regions::{self, Region},
    runner::{Clock, Halt, Runner},
    task::{self, Seen},
};

/// What the stages look at, and with what.
pub(crate) struct Stages<'a> {
    pub(crate) runner: &'a mut Runner,
    /// Persons of a stream's frame at whom the last one looks closer.
    pub(crate) most_refined: usize,
    pub(crate) job: &'a Job<'a>,
    pub(crate) catalogue: &'a Arc<Catalogue>,
    pub(crate) served: &'a Served,
    /// Of the stages.
    pub(crate) models: &'a [Arc<dyn Model>],
    pub(crate) planes: &'a PlanarImage,
    pub(crate) source: Source,
}

impl Stages<'_> {
    /// Looks, and says how long it took.
    pub(crate) fn look(mut self, clock: &mut Clock, timings_ms: &mut TimingsMs) -> Result<Seen, Halt> {
        timings_ms.refine = Some(0.0);
        let (mut tracked, are_enough) = self.tracked();
        if are_enough {
            let seen = self.closer(Seen { regions: tracked, ..Seen::default() }, clock, timings_ms)?;
            if task::is_as_expected(self.served, &seen) {
                return Ok(seen);
            }
            tracked = seen.regions;
        }
        let mut squares = vec![self.job.region(&*self.models[0], self.source)];
        let mut seen = Seen { is_everywhere: true, ..Seen::default() };
        for stage in 0..self.models.len() - 1 {
            let mut closer = self.detect(stage, &squares, &tracked, clock, timings_ms)?;
            squares = closer.regions.iter().map(|region| Some(region.square)).collect();
            seen.regions = closer.regions;
            seen.rest.append(&mut closer.rest);
        }
        self.closer(seen, clock, timings_ms)
    }

    /// Where the tracks lead, and whether that is enough.
    fn tracked(&self) -> (Vec<Region>, bool) {
        let (Some(Past { prior, at, .. }), Some(skeleton)) = (self.job.past, self.served.info.skeleton())
        else {
            return (Vec::new(), false);
        };
        let reach = self.models[self.models.len() - 1].fit().reach();
        let tracked = regions::around_tracks(skeleton, prior, at, self.source, reach);
        let must_look = regions::must_look(prior, at, &tracked, self.most_refined);
        (tracked, !must_look)
    }

    /// Runs a stage that finds persons for the next one. Who has other keypoints than those that are reported is no track's
    /// person, and cannot stay as found.
    fn detect(
        &mut self,
        stage: usize,
        squares: &[Option<Square>],
        tracked: &[Region],
        clock: &mut Clock,
        timings_ms: &mut TimingsMs,
    ) -> Result<regions::Closer, Halt> {
        let reach = self.models[stage + 1].fit().reach();
        let (stage, model) = (&self.served.stages[stage], self.models[stage].clone());
        // Where nobody knows what scores mean, those of whoever finds somebody count as they are: the next stage sees
        // somebody in everything.
        let least = match self.served.calibration {
            Some(_) => regions::LEAST_SCORE,
            None => regions::LEAST_SCORE.max(self.job.min_score),
        };
        let catalogue = self.catalogue;
        let mut views = Vec::new();
        let mut look = |name: &ModelId, model: &dyn Model| {
            let inputs = self.inputs(model, squares);
            timings_ms.preprocess += clock.lap_ms();
            views.append(&mut self.runner.run(catalogue, name, self.job.stream, inputs)?);
            timings_ms.inference += clock.lap_ms();
            Ok::<_, Halt>(task::detected(stage.keypoints(), &views, least))
        };
        let mut persons = look(&stage.model, &*model)?;
        if let Some(crowd) = stage.crowd.as_ref().filter(|crowd| persons.len() >= crowd.persons) {
            let model = catalogue.get(&crowd.model)?;
            persons = look(&crowd.model, &*model)?;
        }
        let most = self.job.past.map_or(usize::MAX, |_| self.most_refined);
        let is_same = self.served.finds_the_same(stage);
        let tracked = if is_same { tracked } else { &[] };
        let mut closer =
            regions::around_persons(stage.keypoints(), persons, tracked, self.source, reach, most);
        if !is_same {
            closer.rest.clear();
        }
        Ok(closer)
    }

    /// Runs the last stage where the regions of `seen` are.
    fn closer(&mut self, seen: Seen, clock: &mut Clock, timings_ms: &mut TimingsMs) -> Result<Seen, Halt> {
        let squares: Vec<_> = seen.regions.iter().map(|region| Some(region.square)).collect();
        let last = self.models.len() - 1;
        let inputs = self.inputs(&*self.models[last].clone(), &squares);
        timings_ms.preprocess += clock.lap_ms();
        let model = &self.served.stages[last].model;
        let views = self.runner.run(self.catalogue, model, self.job.stream, inputs)?;
        *timings_ms.refine.get_or_insert_default() += clock.lap_ms();
        Ok(Seen { views, ..seen })
    }

    fn inputs(&mut self, model: &dyn Model, squares: &[Option<Square>]) -> Vec<ModelInput> {
        let mut reader = self.runner.readers.take();
        let mut input = |square: &Option<Square>| {
            self.runner.input(&mut reader, Some(self.planes), model, self.source, *square)
        };
        squares.iter().map(&mut input).collect()
    }
}
