//! Foreign graphs: models that somebody brings as an ONNX file.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what has to be known of one: its kind, input, normalisation |
//! | `wire` | the file's bytes: whether what they claim can be |
//! | `graph` | the file, checked, and what runs it |
//! | `nodes` | a graph's constants and attributes, in words |
//! | `sizes` | what a file may ask for |
//! | `trunk` | the part of it, from the picture on, that our own kernels run |
//! | `suppression` | ONNX's suppression of boxes that overlap, where a graph has one |
//! | `kinds` | outputs → what was found, one file a kind |
//! | `guess` | which kind a graph is of |
//! | [`add`] | from a file to an entry of a manifest |
//!
//! They run on the processor only.

pub mod add;
pub mod config;
mod graph;
mod guess;
mod kinds;
mod nodes;
mod sizes;
mod suppression;
#[cfg(test)]
mod tests;
mod trunk;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;

use cloudpose_wire::ModelId;

use super::{Entry, Error, Execution, Family, Finds, Model, Processor};
use crate::contract::{Fault, Found};
use crate::preprocess::{Fit, ModelInput};
use config::Config;
pub use graph::Output;
use graph::{Declared, Graph, Workspace};

/// Foreign graphs in the table of families.
#[derive(Debug)]
pub struct OnnxFamily;

impl Family for OnnxFamily {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error> {
        let model = entry.name.clone();
        let config: Config = match serde_json::from_value(entry.config.clone()) {
            Ok(config) => config,
            Err(error) => {
                let problem = format!("its config is not that of an ONNX graph: {error}");
                return Err(Error::Entry { model, problem });
            }
        };
        config.check().map_err(|problem| Error::Entry { model: model.clone(), problem })?;
        let opened = Opened::new(&file, config);
        match opened {
            Ok(opened) => Ok(Arc::new(OnnxModel { model, opened: Arc::new(opened) })),
            Err(problem) => Err(Error::Weights { model, problem }),
        }
    }
}

/// A graph that was run once.
#[derive(Debug)]
struct Opened {
    config: Config,
    graph: Graph,
    finds: Finds,
}

impl Opened {
    fn new(file: &[u8], config: Config) -> Result<Self, String> {
        let graph = Declared::read(file)?.open(config.input)?;
        let outputs = try_out(&graph, &config)?;
        kinds::decode(&config, &outputs)?;
        let finds = kinds::finds(config.kind, &outputs);
        Ok(Self { config, graph, finds })
    }
}

/// Runs a graph once on a picture of no meaning, and checks that it answers numbers.
fn try_out(graph: &Graph, config: &Config) -> Result<Vec<Output>, String> {
    let [width, height] = graph.size();
    let pixels: Vec<u8> = (0..3 * width * height).map(|at| (at * 7919 % 251) as u8).collect();
    let mut input = Vec::new();
    config.normalise(&pixels, &mut input);
    let outputs = graph.run(&mut graph.workspace(None), &input)?;
    match outputs.iter().find(|output| output.values.iter().any(|value| value.is_nan())) {
        Some(output) => Err(format!("its output {} is not a number on a picture of noise", output.name)),
        None => Ok(outputs),
    }
}

/// Runs a graph once, on one thread, on `[3, height, width]` for an input of that width and height: for those who
/// compare its outputs with another library's.
///
/// # Errors
/// In words, if it cannot be run here.
pub fn run_once(file: &[u8], size: [usize; 2], input: &[f32]) -> Result<Vec<Output>, String> {
    let graph = Declared::read(file)?.open(size)?;
    graph.run(&mut graph.workspace(None), input)
}

/// One graph.
#[derive(Debug)]
struct OnnxModel {
    model: ModelId,
    opened: Arc<Opened>,
}

impl OnnxModel {
    fn on(&self, pool: Option<Arc<rayon::ThreadPool>>) -> Box<dyn Execution> {
        let workspace = self.opened.graph.workspace(pool);
        let (model, opened) = (self.model.clone(), self.opened.clone());
        Box::new(Running { model, opened, workspace, input: Vec::new() })
    }
}

impl Model for OnnxModel {
    fn finds(&self) -> Finds {
        self.opened.finds
    }

    fn fit(&self) -> Fit {
        self.opened.config.fit()
    }

    fn takes_reduced(&self) -> bool {
        self.opened.finds.are_classes()
    }

    fn on_cpu(&self, processor: &Processor) -> Box<dyn Execution> {
        self.on(processor.pool.clone())
    }

    /// The same: `tests/models` holds it to ONNX Runtime.
    fn reference(&self, _: &candle_core::Device) -> Result<Box<dyn Execution>, Fault> {
        Ok(self.on(None))
    }
}

/// A graph for one frame at a time.
struct Running {
    model: ModelId,
    opened: Arc<Opened>,
    /// Memory that is used again, as `input` is.
    workspace: Workspace,
    input: Vec<f32>,
}

impl Execution for Running {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        let Opened { config, graph, .. } = &*self.opened;
        let fault = |what| Fault::Input { model: self.model.clone(), what };
        if input.size() != graph.size() {
            return Err(fault(format!("an input of {}×{} pixels", input.width, input.height)));
        }
        config.normalise(&input.pixels, &mut self.input);
        let outputs = graph.run(&mut self.workspace, &self.input).map_err(fault)?;
        kinds::decode(config, &outputs).map_err(fault)
    }
}
