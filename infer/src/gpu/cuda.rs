//! Carries programs out on an NVIDIA GPU. All `unsafe` of the crate is here.
//!
//! The driver is loaded when a GPU is asked for (`libcuda.so.1`): nothing of CUDA is needed to build or to start. A
//! device has one stream, which belongs to one engine and with it to one thread: what is enqueued runs in order, so no
//! step needs to wait for another one's memory. A program's launches are captured as a CUDA graph, with the addresses
//! of its memory in it, and from then on started at once.
#![expect(unsafe_code, reason = "kernels take addresses")]

use std::{
    collections::HashMap,
    fmt,
    io::Read as _,
    sync::Arc,
    time::{Duration, Instant},
};

use cudarc::{
    driver::{
        CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr as _,
        LaunchConfig, PinnedHostSlice, PushKernelArg as _, sys,
    },
    nvrtc::Ptx,
};

use super::memory::{Number, Problem, Result, Slot, Values};
use super::ops::{Arg, Launch};
use super::program::{Captured, Device, Program, Spent, Step};

/// The kernels in NVIDIA's intermediate code, of which the driver makes code for the GPU that is there; for the oldest
/// compute capability that they run on. `make cuda-kernels` writes them.
const KERNELS: [((i32, i32), &[u8]); 2] = [
    ((8, 0), include_bytes!("kernels/compute_80.ptx.gz")),
    ((7, 5), include_bytes!("kernels/compute_75.ptx.gz")),
];

/// A GPU with a stream of its own.
pub(super) struct Gpu {
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    functions: HashMap<String, CudaFunction>,
    memory: Vec<(Number, CudaSlice<u8>)>,
    /// Memory of the host that the GPU reads at full speed.
    pinned: Option<PinnedHostSlice<u8>>,
    packing: Duration,
    /// Before the upload, after it, after the program, after the download.
    marks: [CudaEvent; 4],
}

/// A program's launches as the GPU keeps them.
struct Graph(CudaGraph);

// SAFETY: a graph belongs to one engine, which one thread at a time uses; nothing in it belongs to a thread.
unsafe impl Send for Graph {}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph")
    }
}

impl Captured for Graph {
    fn launch(&self) -> Result<()> {
        Ok(self.0.launch()?)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Gpu {
    /// GPU `number`, with kernels that it takes.
    pub(super) fn open(number: usize) -> Result<Self> {
        // SAFETY: loading NVIDIA's library runs its initialisers, as every program that uses it does.
        if !unsafe { sys::is_culib_present() } {
            return Err(Problem::Says("there is no NVIDIA driver: libcuda.so.1 is not found".to_owned()));
        }
        let context = CudaContext::new(number)?;
        // SAFETY: all memory of this context is used on its one stream, by the engine that owns both.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        let capability = context.compute_capability()?;
        let kernels = KERNELS.iter().find(|(least, _)| capability >= *least);
        let Some((_, packed)) = kernels else {
            let (major, minor) = capability;
            return Err(Problem::Says(format!(
                "its compute capability is {major}.{minor}, the kernels need 7.5"
            )));
        };
        let module = context.load_module(Ptx::from_src(unpack(packed)?))?;
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let mark = || context.new_event(flags);
        let marks = [mark()?, mark()?, mark()?, mark()?];
        Ok(Self {
            stream,
            module,
            functions: HashMap::new(),
            memory: Vec::new(),
            pinned: None,
            packing: Duration::ZERO,
            marks,
        })
    }

    fn bytes(&self, number: Number, len: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: every byte is a valid u8, and kernels read what was written before, as the tests show on the host.
        Ok(unsafe { self.stream.alloc(len * number.bytes()) }?)
    }

    fn capture(&mut self, steps: &[Step]) -> Result<Graph> {
        // What else the process does on this GPU meanwhile is none of this graph's.
        self.stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = self.launch_all(steps);
        // Also after a failure, or the stream would be of no more use.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        launched?;
        graph?.map(Graph).ok_or_else(|| Problem::Says("a program without launches".to_owned()))
    }

    fn launch_all(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            let (number, _) = self.memory[step.output.0];
            for launch in step.op.launches(number)? {
                self.launch(&launch, step)?;
            }
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch, step: &Step) -> Result<()> {
        /// An argument as the driver copies it.
        enum Value {
            Address(u64),
            U32(u32),
            F32(f32),
        }
        let address = |slot: Slot| Value::Address(self.memory[slot.0].1.device_ptr(&self.stream).0);
        let value = |arg: &Arg| match *arg {
            Arg::Input(index) => address(step.inputs[index]),
            Arg::Output => address(step.output),
            Arg::U32(value) => Value::U32(value),
            Arg::F32(value) => Value::F32(value),
        };
        let values: Vec<_> = launch.args.iter().map(value).collect();
        if !self.functions.contains_key(&launch.kernel) {
            let function = self.module.load_function(&launch.kernel)?;
            self.functions.insert(launch.kernel.clone(), function);
        }
        let mut args = self.stream.launch_builder(&self.functions[&launch.kernel]);
        for value in &values {
            match value {
                Value::Address(value) => args.arg(value),
                Value::U32(value) => args.arg(value),
                Value::F32(value) => args.arg(value),
            };
        }
        let config = LaunchConfig {
            grid_dim: (launch.blocks, 1, 1),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the tests start the same launches on the host, with the same kernels and arguments, in memory of
        // exactly the size that they may touch. The memory lives until the engine replaces it, which drops the programs
        // that use it, and is freed on the same stream.
        unsafe { args.launch(config) }?;
        Ok(())
    }

    /// The first `len` bytes of the pinned memory, with whatever was there.
    fn pinned(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.pinned.as_ref().is_none_or(|memory| memory.len() < len) {
            self.pinned = None;
            // SAFETY: every byte is a valid u8, and those that are read were written before.
            self.pinned = Some(unsafe { self.stream.context().alloc_pinned_with_flags(len, 0) }?);
        }
        let memory = self.pinned.as_mut().expect("it is there or was made");
        Ok(&mut memory.as_mut_slice()?[..len])
    }
}

impl Device for Gpu {
    fn put(&mut self, values: &Values) -> Result<Slot> {
        let mut slice = self.bytes(values.number(), values.len())?;
        self.stream.memcpy_htod(&values.bytes(), &mut slice)?;
        self.memory.push((values.number(), slice));
        Ok(Slot(self.memory.len() - 1))
    }

    fn take(&mut self, number: Number, len: usize) -> Result<Slot> {
        let slice = self.bytes(number, len)?;
        self.memory.push((number, slice));
        Ok(Slot(self.memory.len() - 1))
    }

    fn replace(&mut self, slot: Slot, len: usize) -> Result<()> {
        let (number, _) = self.memory[slot.0];
        // First, so that old and new need not fit side by side.
        self.memory[slot.0].1 = self.bytes(number, 0)?;
        self.memory[slot.0].1 = self.bytes(number, len)?;
        Ok(())
    }

    fn len(&self, slot: Slot) -> usize {
        let (number, slice) = &self.memory[slot.0];
        slice.len() / number.bytes()
    }

    fn upload(&mut self, slot: Slot, len: usize, write: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let begun = Instant::now();
        write(self.pinned(len)?);
        self.packing = begun.elapsed();
        self.marks[0].record(&self.stream)?;
        let mut to = self.memory[slot.0].1.slice_mut(..len);
        let from = &self.pinned.as_ref().expect("it was written").as_slice()?[..len];
        // It is written again after a download, which waits for this.
        self.stream.memcpy_htod(from, &mut to)?;
        Ok(self.marks[1].record(&self.stream)?)
    }

    fn run(&mut self, program: &mut Program) -> Result<()> {
        let graph = match &mut program.graph {
            Some(graph) => graph,
            none => none.insert(Box::new(self.capture(&program.steps)?)),
        };
        graph.launch()?;
        Ok(self.marks[2].record(&self.stream)?)
    }

    fn download(&mut self, slot: Slot, to: &mut [u8]) -> Result<Spent> {
        let from = self.memory[slot.0].1.slice(..to.len());
        self.stream.memcpy_dtoh(&from, to)?;
        self.marks[3].record(&self.stream)?;
        self.stream.synchronize()?;
        let [begun, uploaded, computed, downloaded] = &self.marks;
        let between = |from: &CudaEvent, to: &CudaEvent| -> Result<Duration> {
            Ok(Duration::from_secs_f32(from.elapsed_ms(to)? / 1e3))
        };
        Ok(Spent {
            upload: self.packing + between(begun, uploaded)?,
            compute: between(uploaded, computed)?,
            download: between(computed, downloaded)?,
        })
    }
}

/// The kernels' text.
fn unpack(packed: &[u8]) -> Result<String> {
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(packed).read_to_string(&mut text);
    read.map_err(|error| Problem::Says(format!("the kernels cannot be read: {error}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_kernels_that_are_carried_were_made_of_the_sources() {
        let sources = concat!(
            include_str!("kernels/common.cuh"),
            include_str!("kernels/layers.cu"),
            include_str!("kernels/pointwise.cu"),
            include_str!("kernels/poses.cu"),
        );
        let digest: String = Sha256::digest(sources).iter().map(|byte| format!("{byte:02x}")).collect();
        for (capability, packed) in KERNELS {
            let text = unpack(packed).unwrap();
            assert!(text.lines().next().unwrap().ends_with(&digest), "{capability:?}: make cuda-kernels");
        }
    }
}
