//! A foreign graph: read with care, and run by our own kernels as far as they go, and by the library (`rten`).
//!
//! What comes in is a stranger's file: what it claims is checked before anything is made of it, and a library that
//! panics on it has refused it.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cloudpose_kernels::Kernels;
use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_onnx::onnx::{
    DataType, Dimension, GraphProto, ModelProto, TensorProto, TensorShapeProto, ValueInfoProto,
};
use rten_tensor::prelude::*;

use super::sizes;
use super::suppression::{self, Input, Limits, Suppression};
use super::trunk::{Memory, Trunk};
use super::wire;

/// Versions of ONNX's operators that are known.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// What a graph takes and says of itself.
pub(super) struct Declared {
    /// Its input, by name.
    pub(super) input: String,
    /// Width and height of the input, where it is not any.
    pub(super) size: [Option<usize>; 2],
    /// What its makers wrote beside it.
    pub(super) metadata: HashMap<String, String>,
    proto: ModelProto,
}

/// A tensor that a graph answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// As the graph calls it.
    pub name: String,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// A graph for one size of input. Shared by all threads that run it.
pub(super) struct Graph {
    /// The name of the picture.
    input: String,
    /// What our own kernels run of it.
    trunk: Option<Trunk>,
    /// What comes after that, if anything does.
    head: Option<Part>,
    /// What comes after a suppression of boxes, if there is one.
    tail: Option<(Suppression, Option<Part>)>,
    /// By name.
    outputs: Vec<String>,
    /// Width and height, in pixels.
    size: [usize; 2],
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph")
            .field("outputs", &self.outputs)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A graph that the library runs as a whole.
struct Part {
    model: rten::Model,
    /// By name.
    inputs: Vec<(NodeId, String)>,
    outputs: Vec<(NodeId, String)>,
}

/// What one thread runs a graph in.
pub(super) struct Workspace {
    library: Arc<ThreadPool>,
    /// Threads that share the trunk; none if the caller's does everything.
    pool: Option<Arc<rayon::ThreadPool>>,
    memory: Option<Memory>,
}

/// Tensors by name.
type Values = HashMap<String, Value>;

impl Declared {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// In words, if it is none, or one that cannot be run here.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        if file.starts_with(b"PK\x03\x04") {
            return Err("it is no ONNX file but a zip: unpack it, and add the ONNX file in it".into());
        }
        wire::check(file).map_err(|error| format!("it is no ONNX file: {error}"))?;
        let proto = caught(|| ModelProto::parse_buf(file))?
            .map_err(|error| format!("it is no ONNX file: {error}"))?;
        let Some(graph) = &proto.graph else {
            return Err("it is no ONNX file: there is no graph in it".into());
        };
        let standard =
            |domain: &Option<String>| domain.as_deref().is_none_or(|d| d.is_empty() || d == "ai.onnx");
        let opset = proto.opset_import.iter().find(|set| standard(&set.domain)).and_then(|set| set.version);
        match opset {
            Some(version) if OPSETS.contains(&version) => {}
            Some(version) => {
                let (first, last) = (OPSETS.start(), OPSETS.end());
                return Err(format!("it is of opset {version}: export it with one of {first} to {last}"));
            }
            None => return Err("it does not say of which opset it is".into()),
        }
        for tensor in &graph.initializer {
            check_tensor(tensor)?;
        }
        check_order(graph)?;
        sizes::check(graph)?;
        let input = the_input(graph)?;
        let size = size_of(input)?;
        let name = input.name.clone().unwrap_or_default();
        let metadata = proto.metadata_props.iter();
        let metadata = metadata.filter_map(|pair| Some((pair.key.clone()?, pair.value.clone()?))).collect();
        Ok(Self { input: name, size, metadata, proto })
    }

    /// Makes it ready for inputs of one width and height.
    ///
    /// # Errors
    /// In words, if the library cannot run it: of an operator that it lacks, the name and the node.
    pub(super) fn open(mut self, size: [usize; 2]) -> Result<Graph, String> {
        let graph = self.proto.graph.as_mut().expect("it was read");
        // What was written down for another size, or another number of pictures at a time, holds no more.
        graph.value_info.clear();
        for output in &mut graph.output {
            forget_shape(output);
        }
        for input in graph.input.iter_mut().filter(|input| input.name.as_ref() == Some(&self.input)) {
            set_shape(input, [1, 3, size[1], size[0]]);
        }
        let outputs = graph.output.iter().filter_map(|output| output.name.clone()).collect();
        let kernels = Kernels::detect().map_err(|error| error.to_string())?;
        let trunk = Trunk::cut(graph, &self.input, size, kernels);
        let suppression = suppression::cut(graph)?;
        let made: HashSet<&str> = trunk.iter().flat_map(Trunk::names).collect();
        graph.output.retain(|output| output.name.as_deref().is_none_or(|name| !made.contains(name)));
        let has_head = !graph.output.is_empty();
        let head = has_head.then(|| Part::load(&self.proto)).transpose()?;
        let tail = match suppression {
            Some((suppression, tail)) => {
                self.proto.graph = tail;
                let tail = self.proto.graph.as_ref().map(|_| Part::load(&self.proto)).transpose()?;
                Some((suppression, tail))
            }
            None => None,
        };
        Ok(Graph { input: self.input, trunk, head, tail, outputs, size })
    }
}

impl Graph {
    /// Width and height of its input, in pixels.
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }

    /// What to run it in, on the threads of `pool` if there is one.
    pub(super) fn workspace(&self, pool: Option<Arc<rayon::ThreadPool>>) -> Workspace {
        let threads = pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        let memory = self.trunk.as_ref().map(|trunk| trunk.memory(threads));
        Workspace { library: Arc::new(ThreadPool::with_num_threads(threads)), pool, memory }
    }

    /// Runs it on `[3, height, width]`.
    ///
    /// # Errors
    /// In words, with the node that failed.
    pub(super) fn run(&self, workspace: &mut Workspace, input: &[f32]) -> Result<Vec<Output>, String> {
        let [width, height] = self.size;
        if input.len() != 3 * width * height {
            return Err(format!("an input of {} numbers", input.len()));
        }
        let Workspace { library, pool, memory } = workspace;
        let mut values = Values::new();
        if let (Some(trunk), Some(memory)) = (&self.trunk, memory) {
            for (name, shape, map) in trunk.run(memory, pool.as_deref(), input) {
                values.insert(name, Value::from_shape(shape, map).map_err(|error| error.to_string())?);
            }
        }
        if let Some(head) = &self.head {
            if head.inputs.iter().any(|(_, name)| *name == self.input) {
                let picture = Value::from_shape([1, 3, height, width], input.to_vec());
                values.insert(self.input.clone(), picture.map_err(|error| error.to_string())?);
            }
            let made = head.run(library, &values)?;
            values.extend(made);
        }
        if let Some((suppression, tail)) = &self.tail {
            let kept = kept(suppression, &values)?;
            values.insert(suppression.output.clone(), kept);
            if let Some(tail) = tail {
                let made = tail.run(library, &values)?;
                values.extend(made);
            }
        }
        let take = |name: &String| {
            let value = values.remove(name).ok_or_else(|| format!("nothing makes its output {name}"))?;
            output(value, name)
        };
        self.outputs.iter().map(take).collect()
    }
}

impl Part {
    fn load(proto: &ModelProto) -> Result<Self, String> {
        let written = caught(|| proto.write_buf())?.map_err(|error| error.to_string())?;
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        let model = caught(|| options.load(written))?.map_err(|error| in_words(&error))?;
        let named = |ids: &[NodeId]| -> Vec<(NodeId, String)> {
            let name = |id: NodeId| model.node_info(id).and_then(|info| info.name().map(str::to_owned));
            ids.iter().map(|&id| (id, name(id).unwrap_or_default())).collect()
        };
        let (inputs, outputs) = (named(model.input_ids()), named(model.output_ids()));
        Ok(Self { model, inputs, outputs })
    }

    fn run(&self, pool: &Arc<ThreadPool>, values: &Values) -> Result<Values, String> {
        let given = self.inputs.iter().map(|(id, name)| {
            let value = values.get(name).ok_or_else(|| format!("nothing makes {name}"))?;
            Ok((*id, value.as_view().into()))
        });
        let given: Vec<(NodeId, ValueOrView<'_>)> = given.collect::<Result<_, String>>()?;
        let wanted: Vec<NodeId> = self.outputs.iter().map(|(id, _)| *id).collect();
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let made =
            caught(|| self.model.run(given, &wanted, Some(options)))?.map_err(|error| in_words(&error))?;
        Ok(self.outputs.iter().map(|(_, name)| name.clone()).zip(made).collect())
    }
}

/// What a suppression keeps of the boxes that are among `values`.
fn kept(suppression: &Suppression, values: &Values) -> Result<Value, String> {
    let floats = |input: &Option<Input>| match input {
        Some(Input::Made(name)) => match values.get(name) {
            Some(Value::FloatTensor(tensor)) => Ok(Some((tensor.to_vec(), tensor.shape().to_vec()))),
            Some(Value::Int32Tensor(tensor)) => {
                Ok(Some((tensor.iter().map(|&value| value as f32).collect(), tensor.shape().to_vec())))
            }
            _ => Err(format!("nothing makes {name}")),
        },
        Some(Input::Constant(value)) => Ok(Some((vec![*value], Vec::new()))),
        None => Ok(None),
    };
    let given = suppression.inputs.iter().map(floats).collect::<Result<Vec<_>, String>>()?;
    let number = |at: usize| given[at].as_ref().and_then(|(values, _)| values.first().copied());
    let (Some(boxes), Some(scores)) = (&given[0], &given[1]) else {
        return Err("a suppression of no boxes".into());
    };
    let limits = Limits {
        most: number(2).map_or(0, |most| most as usize),
        overlap: number(3).unwrap_or(0.0),
        least: number(4),
    };
    let kept = suppression.run((&boxes.0, &boxes.1), (&scores.0, &scores.1), limits)?;
    Value::from_shape([kept.len(), 3], kept.concat()).map_err(|error| error.to_string())
}

/// What `work` answers, or that it panicked.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        format!("the library gave up on it: {said}")
    })
}

/// An error with all its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

fn output(value: Value, name: &str) -> Result<Output, String> {
    let shape = value.shape().to_vec();
    let values = match value {
        Value::FloatTensor(tensor) => tensor.to_vec(),
        Value::Int32Tensor(tensor) => tensor.iter().map(|&value| value as f32).collect(),
        other => return Err(format!("its output {name} is {}: neither numbers nor labels", other.dtype())),
    };
    Ok(Output { name: name.to_owned(), shape, values })
}

/// Checks that a weight has as many values as its shape says, where they are in the file.
fn check_tensor(tensor: &TensorProto) -> Result<(), String> {
    let name = tensor.name.as_deref().unwrap_or("without a name");
    if !tensor.external_data.is_empty() {
        return Err(format!("the weight {name} is in another file: export the model as one file"));
    }
    let count =
        tensor.dims.iter().try_fold(1usize, |count, &size| count.checked_mul(usize::try_from(size).ok()?));
    let count = count.ok_or_else(|| format!("the weight {name} has the shape {:?}", tensor.dims))?;
    let size = match tensor.data_type {
        Some(DataType::FLOAT | DataType::INT32 | DataType::UINT32) => 4,
        Some(DataType::INT64 | DataType::UINT64 | DataType::DOUBLE) => 8,
        Some(DataType::FLOAT16 | DataType::BFLOAT16 | DataType::INT16 | DataType::UINT16) => 2,
        Some(DataType::INT8 | DataType::UINT8 | DataType::BOOL) => 1,
        _ => return Ok(()),
    };
    let Some(raw) = &tensor.raw_data else { return Ok(()) };
    let raw = raw.borrow();
    if count.checked_mul(size) != Some(raw.len()) {
        return Err(format!("the weight {name} of shape {:?} has {} bytes", tensor.dims, raw.len()));
    }
    if tensor.data_type == Some(DataType::FLOAT) {
        let (values, _) = raw.as_chunks();
        // A single one may be a bound, or what a map is padded with before its largest is taken.
        let is_number = |value: f32| value.is_finite() || count == 1 && !value.is_nan();
        if !values.iter().all(|value| is_number(f32::from_le_bytes(*value))) {
            return Err(format!("the weight {name} has values that are no numbers"));
        }
    }
    Ok(())
}

/// Checks that each node uses only what was there before: then the graph has no cycles.
fn check_order(graph: &GraphProto) -> Result<(), String> {
    let inputs = graph.input.iter().filter_map(|input| input.name.as_deref());
    let weights = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref());
    let mut known: HashSet<&str> = inputs.chain(weights).collect();
    for node in &graph.node {
        for used in node.input.iter().filter(|used| !used.is_empty()) {
            if !known.contains(used.as_str()) {
                let (name, operator) = (node.name.as_deref(), node.op_type.as_deref().unwrap_or_default());
                let name = name.unwrap_or_else(|| node.output.first().map_or("", String::as_str));
                return Err(format!("node {name} ({operator}) uses {used}, which nothing before it makes"));
            }
        }
        known.extend(node.output.iter().map(String::as_str));
    }
    match graph.output.iter().filter_map(|output| output.name.as_deref()).find(|name| !known.contains(name)) {
        Some(name) => Err(format!("nothing makes its output {name}")),
        None if graph.output.is_empty() => Err("it has no outputs".into()),
        None => Ok(()),
    }
}

/// The only input that is no weight.
fn the_input(graph: &GraphProto) -> Result<&ValueInfoProto, String> {
    let is_weight = |name: &Option<String>| graph.initializer.iter().any(|tensor| tensor.name == *name);
    let mut inputs = graph.input.iter().filter(|input| !is_weight(&input.name));
    match (inputs.next(), inputs.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(second)) => {
            let name = second.name.as_deref().unwrap_or_default();
            Err(format!("it takes more than a picture: {name} as well"))
        }
        (None, _) => Err("it takes nothing".into()),
    }
}

/// The width and height that an input of pictures, `[N, 3, height, width]`, must have.
fn size_of(input: &ValueInfoProto) -> Result<[Option<usize>; 2], String> {
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or("its input is no tensor")?;
    if tensor.elem_type != Some(DataType::FLOAT) {
        let kind = tensor.elem_type.map_or_else(String::new, |kind| format!("{kind:?}"));
        return Err(format!("its input is of type {kind}: export it with float32 inputs"));
    }
    let shape = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let fixed = |at: usize| {
        let value = shape.get(at).and_then(|dim| dim.dim_value);
        value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
    };
    if shape.len() != 4 || fixed(1).is_some_and(|channels| channels != 3) {
        let sizes: Vec<String> = shape
            .iter()
            .map(|dim| {
                dim.dim_value.map_or_else(|| dim.dim_param.clone().unwrap_or("?".into()), |v| v.to_string())
            })
            .collect();
        return Err(format!("its input is [{}], not [N, 3, height, width]", sizes.join(", ")));
    }
    Ok([fixed(3), fixed(2)])
}

fn set_shape(input: &mut ValueInfoProto, sizes: [usize; 4]) {
    let dim = |size: usize| Dimension { dim_value: Some(size as i64), dim_param: None };
    let tensor = input.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut());
    if let Some(tensor) = tensor {
        tensor.shape = Some(TensorShapeProto { dim: sizes.map(dim).into() });
    }
}

fn forget_shape(output: &mut ValueInfoProto) {
    if let Some(tensor) = output.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) {
        tensor.shape = None;
    }
}
