//! Carries out on an NVIDIA GPU what [`super::ops`] says in data. All `unsafe` of the crate is here.
//!
//! A device has one stream, which belongs to one engine and with it to one thread: what is enqueued runs in order,
//! so no operation needs to wait for another one's memory.
#![expect(unsafe_code, reason = "kernels take addresses")]

use std::{
    ops::Deref as _,
    sync::{Arc, OnceLock},
};

use candle_core::{
    CudaStorage, DType, Device, Error, Result, Storage, Tensor,
    backend::BackendStorage as _,
    bail,
    cuda::{CudaStorageSlice, WrapErr as _},
};
use cudarc::{
    cublas::{Gemm as _, GemmConfig, sys::cublasOperation_t::CUBLAS_OP_N},
    driver::{CudaContext, CudaStream, DevicePtr as _, LaunchConfig, PinnedHostSlice, PushKernelArg as _},
    nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts},
};
use half::f16;

use super::ops::{Arg, Launch, Op, Work};

/// All kernels, as one source.
const SOURCE: &str = concat!(
    include_str!("kernels/common.cuh"),
    include_str!("kernels/input.cu"),
    include_str!("kernels/layers.cu"),
    include_str!("kernels/poses.cu"),
);

/// The oldest GPUs that CUDA 13 compiles for. The driver makes code for the GPU that is there.
const ARCHITECTURE: &str = "compute_75";
const MODULE: &str = "cloudpose";

/// The kernels, compiled once a process.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compile = || {
        let options = CompileOptions { arch: Some(ARCHITECTURE), ..CompileOptions::default() };
        compile_ptx_with_opts(SOURCE, options).map(|ptx| ptx.to_src()).map_err(|error| match error {
            CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
            other => other.to_string(),
        })
    };
    match PTX.get_or_init(compile) {
        Ok(ptx) => Ok(ptx),
        Err(problem) => bail!("the kernels do not compile: {problem}"),
    }
}

/// GPU `number` with a stream of its own, and pinned memory of the host for it.
pub(super) fn open(number: usize) -> Result<(Device, Pinned)> {
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: every tensor of this device is used on its one stream, by the engine that owns both.
    unsafe { cuda.disable_event_tracking() };
    // The first launch would load them too: here a driver that refuses them is found before work begins.
    cuda.get_or_load_custom_func("score_persons", MODULE, ptx()?)?;
    let context = cuda.cuda_stream().context().clone();
    Ok((device, Pinned { context, memory: None }))
}

/// Memory of the host that the GPU reads at full speed.
#[derive(Debug)]
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    memory: Option<PinnedHostSlice<u8>>,
}

impl Pinned {
    /// The first `len` bytes, with whatever was there.
    pub(super) fn bytes(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.memory.as_ref().is_none_or(|memory| memory.len() < len) {
            self.memory = None;
            // SAFETY: every byte is a valid u8, and those that are read were written before.
            self.memory = Some(unsafe { self.context.alloc_pinned(len) }.w()?);
        }
        let memory = self.memory.as_mut().expect("it is there or was made");
        Ok(&mut memory.as_mut_slice().w()?[..len])
    }
}

/// Copies `bytes` into the beginning of `storage`, and waits until they are there.
pub(super) fn upload(bytes: &[u8], storage: &mut CudaStorage) -> Result<()> {
    let device = storage.device.clone();
    let mut to = storage.as_cuda_slice_mut::<u8>()?.slice_mut(..bytes.len());
    device.memcpy_htod(bytes, &mut to)?;
    // The host memory may be written again after this.
    device.cuda_stream().synchronize().w()
}

/// Copies the beginning of `storage` to `to`, and waits until it is there.
pub(super) fn download(storage: &CudaStorage, to: &mut Vec<f32>) -> Result<()> {
    let from = storage.as_cuda_slice::<f32>()?.slice(..to.len());
    storage.device.memcpy_dtoh(&from, to)?;
    storage.device.cuda_stream().synchronize().w()
}

/// Enqueues `op`.
pub(super) fn run(op: &dyn Op, inputs: &[&Tensor], output: &mut CudaStorage) -> Result<()> {
    let storages: Vec<_> = inputs.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let inputs = storages
        .iter()
        .map(|(storage, layout)| match (storage.deref(), layout.contiguous_offsets()) {
            (Storage::Cuda(storage), Some((0, _))) => Ok(storage),
            _ => bail!("an input of {} does not begin a buffer of the GPU", op.name()),
        })
        .collect::<Result<Vec<_>>>()?;
    for work in op.work(output.dtype())? {
        match work {
            Work::Launch(it) => launch(&it, &inputs, output)?,
            Work::Multiply { rows, depth, columns } => {
                let [map, weight] = inputs[..] else { bail!("a product has two factors") };
                multiply([rows, depth, columns], map, weight, output)?;
            }
        }
    }
    Ok(())
}

fn launch(launch: &Launch, inputs: &[&CudaStorage], output: &CudaStorage) -> Result<()> {
    /// An argument as the driver copies it.
    enum Value {
        Address(u64),
        U32(u32),
        F32(f32),
    }
    let stream = output.device.cuda_stream();
    let function = output.device.get_or_load_custom_func(&launch.kernel, MODULE, ptx()?)?;
    let value = |arg: &Arg| match *arg {
        Arg::Input(index) => address(inputs[index], &stream).map(Value::Address),
        Arg::Output => address(output, &stream).map(Value::Address),
        Arg::U32(value) => Ok(Value::U32(value)),
        Arg::F32(value) => Ok(Value::F32(value)),
    };
    let values = launch.args.iter().map(value).collect::<Result<Vec<_>>>()?;
    let mut args = function.builder();
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
    // exactly the size that they may touch. The buffers live as long as the stream, on which they are freed too.
    unsafe { args.launch(config) }.w()?;
    Ok(())
}

/// How many values the storage has.
fn len(storage: &CudaStorage) -> Result<usize> {
    Ok(match &storage.slice {
        CudaStorageSlice::F16(slice) => slice.len(),
        CudaStorageSlice::F32(slice) => slice.len(),
        _ => bail!("products are of float16 and float32"),
    })
}

/// Where the storage begins in the GPU's memory.
fn address(storage: &CudaStorage, stream: &CudaStream) -> Result<u64> {
    Ok(match &storage.slice {
        CudaStorageSlice::U8(slice) => slice.device_ptr(stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(stream).0,
        _ => bail!("kernels take bytes, float16 and float32"),
    })
}

/// Row-major `map × weight`. cuBLAS counts by columns, to which each of the three looks transposed: so it computes
/// `weightᵀ × mapᵀ`.
fn multiply(
    [rows, depth, columns]: [usize; 3],
    map: &CudaStorage,
    weight: &CudaStorage,
    output: &mut CudaStorage,
) -> Result<()> {
    let size = |size: usize| i32::try_from(size).map_err(Error::wrap);
    let sizes = [size(columns)?, size(rows)?, size(depth)?];
    let blas = output.device.cublas_handle();
    let fits = len(map)? >= rows * depth && len(weight)? >= depth * columns && len(output)? >= rows * columns;
    if !fits {
        bail!("a product of {rows}×{depth} and {depth}×{columns} does not fit its buffers");
    }
    match output.dtype() {
        DType::F32 => {
            let (weight, map) = (weight.as_cuda_slice::<f32>()?, map.as_cuda_slice::<f32>()?);
            // SAFETY: the three buffers are as long as checked above.
            unsafe { blas.gemm(gemm(sizes, 1.0, 0.0), weight, map, output.as_cuda_slice_mut::<f32>()?) }.w()
        }
        DType::F16 => {
            let (weight, map) = (weight.as_cuda_slice::<f16>()?, map.as_cuda_slice::<f16>()?);
            let config = gemm(sizes, f16::ONE, f16::ZERO);
            // SAFETY: as above. Sums are float32.
            unsafe { blas.gemm(config, weight, map, output.as_cuda_slice_mut::<f16>()?) }.w()
        }
        other => bail!("there are no products of {other:?}"),
    }
}

fn gemm<T>([m, n, k]: [i32; 3], alpha: T, beta: T) -> GemmConfig<T> {
    let (transa, transb) = (CUBLAS_OP_N, CUBLAS_OP_N);
    GemmConfig { transa, transb, m, n, k, alpha, lda: m, ldb: k, beta, ldc: m }
}
