//! Runs one stage: from regions of a picture to the inputs of a model, and from there to what an engine finds in them.

use std::{fmt, sync::Arc, time::Instant};

use cloudpose_pixels::{PlanarImage, Scale, Subsampling};
use cloudpose_wire::{ModelId, StreamName};

use crate::{
    Error,
    contract::Engine,
    gpu::{Answer, Batches},
    models::{Model, Models, catalogue::Catalogue},
    preprocess::{ModelInput, Source, Square},
    reader::{Readers, Taken},
    task::View,
};

/// Readers of pictures, and engines for what they read.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) models: Arc<Models>,
    pub(crate) readers: Readers,
    engines: Engines,
    /// Inputs whose memory is used again.
    spare: Vec<ModelInput>,
}

enum Engines {
    /// An engine of this pipeline.
    Own(Box<dyn Engine>),
    /// Engines that many pipelines share.
    Shared(Arc<Batches>),
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(engine) => f.debug_tuple("Own").field(&engine.place()).finish(),
            Self::Shared(batches) => f.debug_tuple("Shared").field(batches).finish(),
        }
    }
}

impl Runner {
    /// With an engine of its own.
    pub(crate) fn own(models: Arc<Models>, readers: Readers, engine: Box<dyn Engine>) -> Self {
        Self { models, readers, engines: Engines::Own(engine), spare: Vec::new() }
    }

    /// With engines that others use too.
    pub(crate) fn shared(models: Arc<Models>, readers: Readers, batches: Arc<Batches>) -> Self {
        Self { models, readers, engines: Engines::Shared(batches), spare: Vec::new() }
    }

    /// Loads `model` and runs it on a black picture. Engines that are shared are warm already.
    pub(crate) fn warm_up(&mut self, model: &ModelId) -> Result<(), Error> {
        let Engines::Own(engine) = &mut self.engines else { return Ok(()) };
        for stage in &*self.models.served(model)?.stages {
            let stage = &stage.model;
            let mut input = ModelInput::default();
            let mut reader = self.readers.take();
            reader.image.resize(1280, 720, Subsampling::S420);
            let source = Source { width: 1280, height: 720, scale: Scale::FULL };
            reader.fill(None, &mut input, self.models.get(stage)?.fit(), source, None);
            engine.run(stage, &[input])?;
        }
        Ok(())
    }

    /// The input of a model: of `planes`, or of the picture that the reader read last, or of a part of it.
    pub(crate) fn input(
        &mut self,
        reader: &mut Taken,
        planes: Option<&PlanarImage>,
        model: &dyn Model,
        source: Source,
        region: Option<Square>,
    ) -> ModelInput {
        let mut input = self.spare.pop().unwrap_or_default();
        reader.fill(planes, &mut input, model.fit(), source, region);
        input
    }

    /// Runs a model on its inputs.
    pub(crate) fn run(
        &mut self,
        catalogue: &Arc<Catalogue>,
        model: &ModelId,
        stream: Option<&StreamName>,
        inputs: Vec<ModelInput>,
    ) -> Result<Vec<View>, Halt> {
        let answers: Vec<Answer> = match &mut self.engines {
            Engines::Own(engine) => {
                let found = engine.run(model, &inputs).map_err(Arc::new)?;
                found.into_iter().zip(inputs).map(|(found, input)| Answer { found, input }).collect()
            }
            Engines::Shared(batches) => batches.run(model, stream, inputs)?,
        };
        // Engines run models as they are. If these have changed meanwhile, nobody knows what has run.
        if !self.models.are_still(catalogue) {
            return Err(Halt::Renewed);
        }
        let view = |Answer { found, input }| {
            let view = View { found, size: input.size(), image_from_model: input.image_from_model };
            self.spare.push(input);
            view
        };
        Ok(answers.into_iter().map(view).collect())
    }
}

/// Why a job was not done.
pub(crate) enum Halt {
    /// The models have changed since it began: it is to be done again.
    Renewed,
    /// It cannot be done.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Laps of a stopwatch.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the last lap.
    pub(crate) fn lap_ms(&mut self) -> f32 {
        let now = Instant::now();
        let lap = now - std::mem::replace(&mut self.0, now);
        lap.as_secs_f32() * 1000.0
    }
}
