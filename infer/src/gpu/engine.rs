//! One device's batches: models on it, memory that is used again, pictures in, poses out.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Tensor};
use cloudpose_pixels::{PlanarImage, Subsampling};
use cloudpose_wire::ModelId;

use super::buffers::{Buffers, Part};
use super::device::Place;
use super::network::DeviceModel;
use super::ops::Maps;
use super::picture::{MOST_UPLOAD, Picture, cut, upload_len, write_upload};
use super::staging::Staging;
use super::{DeviceError, Precision};
use crate::GpuConfig;
use crate::contract::{Engine, Fault, Form, Found, Input};
use crate::models::{ModelPose, Models};

/// Runs batches on one device, one at a time. Belongs to one thread, and has a stream of its own: two engines
/// on one device overlap, so that one uploads while the other computes.
#[derive(Debug)]
pub struct GpuEngine {
    place: Place,
    dtype: DType,
    models: Arc<Models>,
    device: candle_core::Device,
    loaded: HashMap<ModelId, DeviceModel>,
    buffers: Buffers,
    staging: Staging,
    records: Vec<f32>,
}

/// A batch that was run.
#[derive(Debug, Clone)]
pub struct Done {
    /// The poses in each picture, in coordinates of the model input.
    pub poses: Vec<Vec<ModelPose>>,
    /// Where the time went.
    pub spent: Spent,
}

/// What a batch took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Packing into pinned memory, and copying to the device.
    pub upload: Duration,
    /// The network and the decoding of its heads.
    pub compute: Duration,
    /// Copying the poses back.
    pub download: Duration,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.upload += other.upload;
        self.compute += other.compute;
        self.download += other.download;
    }
}

/// Copies bytes from the host into the beginning of a buffer of the device, and waits for it.
struct Upload<'a>(&'a [u8]);

impl InplaceOp1 for Upload<'_> {
    fn name(&self) -> &'static str {
        "upload"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let CpuStorage::U8(bytes) = storage else { candle_core::bail!("uploads are bytes") };
        bytes[..self.0.len()].copy_from_slice(self.0);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        super::cuda::upload(self.0, storage)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_fwd(&self, _: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("built without CUDA")
    }
}

/// Copies the first `len` numbers of a tensor of the device to `to`, and waits for it.
fn download(tensor: &Tensor, len: usize, to: &mut Vec<f32>) -> candle_core::Result<()> {
    to.resize(len, 0.0);
    let (storage, _) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => to.copy_from_slice(&storage.as_slice::<f32>()?[..len]),
        #[cfg(feature = "cuda")]
        candle_core::Storage::Cuda(storage) => super::cuda::download(storage, to)?,
        _ => candle_core::bail!("there is no such device"),
    }
    Ok(())
}

impl GpuEngine {
    /// An engine without models, with all the memory that pictures are uploaded by.
    ///
    /// # Errors
    /// If the device is not there or does not work.
    pub fn open(place: Place, precision: Precision, models: Arc<Models>) -> Result<Self, DeviceError> {
        let failed = |error| DeviceError::new(place, &error);
        let (device, mut staging) = place.open().map_err(failed)?;
        let mut buffers = Buffers::new(device.clone());
        staging.bytes(MOST_UPLOAD).map_err(failed)?;
        buffers.get(Part::Upload, DType::U8, MOST_UPLOAD).map_err(failed)?;
        Ok(Self {
            place,
            dtype: precision.dtype(),
            models,
            loaded: HashMap::new(),
            buffers,
            device,
            staging,
            records: Vec::new(),
        })
    }

    /// Runs `model` on a batch of pictures that all have the same size of model input. Takes memory from the
    /// device only if the batch has more pictures, or their model inputs more pixels, than any before; how large
    /// the pictures themselves are does not matter.
    ///
    /// # Errors
    /// Those of [`Engine::run`]; after [`Fault::Device`] the engine is of no use.
    pub fn run_pictures(&mut self, model: &ModelId, pictures: &[&Picture]) -> Result<Done, Fault> {
        let Some(first) = pictures.first() else {
            return Ok(Done { poses: Vec::new(), spent: Spent::default() });
        };
        let (height, width) = (first.height, first.width);
        self.load(model)?;
        let is_taken = self.loaded[model].takes(height, width);
        if !is_taken || pictures.iter().any(|p| (p.height, p.width) != (height, width)) {
            let what = format!("a batch of inputs of {width}×{height} pixels and others");
            return Err(Fault::Input { model: model.clone(), what });
        }
        let mut all = Done { poses: Vec::with_capacity(pictures.len()), spent: Spent::default() };
        for part in cut(pictures, MOST_UPLOAD) {
            let done = self.run_loaded(model, part, Maps { images: part.len(), height, width });
            let done = done.map_err(|error| Fault::Device(DeviceError::new(self.place, &error)))?;
            all.poses.extend(done.poses);
            all.spent += done.spent;
        }
        Ok(all)
    }

    fn run_loaded(
        &mut self,
        model: &ModelId,
        pictures: &[&Picture],
        maps: Maps,
    ) -> candle_core::Result<Done> {
        let model = &self.loaded[model];
        let begun = Instant::now();
        let len = upload_len(pictures);
        let staged = self.staging.bytes(len)?;
        write_upload(pictures, staged);
        let upload = self.buffers.get(Part::Upload, DType::U8, len)?;
        upload.inplace_op1(&Upload(staged))?;
        let uploaded = Instant::now();

        let poses = model.forward(&upload, maps, &mut self.buffers)?;
        self.device.synchronize()?;
        let computed = Instant::now();

        download(&poses, model.decoder().records_len(maps.images), &mut self.records)?;
        let poses = model.decoder().read(&self.records);
        let spent =
            Spent { upload: uploaded - begun, compute: computed - uploaded, download: computed.elapsed() };
        Ok(Done { poses, spent })
    }

    /// How often this engine has taken memory from the device, for weights or for batches.
    pub fn allocations(&self) -> usize {
        self.buffers.allocations() + self.loaded.len()
    }

    /// Runs `model` on RGB images of the host, as the golden inputs are.
    #[cfg(test)]
    pub(super) fn run_rgb(
        &mut self,
        model: &ModelId,
        rgb: &Tensor,
        maps: Maps,
    ) -> Result<Vec<Vec<ModelPose>>, Fault> {
        self.load(model)?;
        let network = &self.loaded[model];
        let mut infer = || {
            let poses = network.forward_rgb(rgb, maps, &mut self.buffers)?;
            download(&poses, network.decoder().records_len(maps.images), &mut self.records)?;
            Ok(network.decoder().read(&self.records))
        };
        infer().map_err(|error| Fault::Device(DeviceError::new(self.place, &error)))
    }

    /// The normalised input that `model` makes of pictures.
    #[cfg(test)]
    pub(super) fn normalised(&mut self, model: &ModelId, pictures: &[&Picture]) -> Result<Vec<f32>, Fault> {
        self.load(model)?;
        let network = &self.loaded[model];
        let maps = Maps { images: pictures.len(), height: pictures[0].height, width: pictures[0].width };
        let mut upload = vec![0; upload_len(pictures)];
        write_upload(pictures, &mut upload);
        let run = || {
            let upload = Tensor::new(upload, &self.device)?;
            network.input(&upload, maps, &mut self.buffers)?.to_dtype(DType::F32)?.to_vec1()
        };
        run().map_err(|error| Fault::Device(DeviceError::new(self.place, &error)))
    }
}

impl Engine for GpuEngine {
    fn place(&self) -> Place {
        self.place
    }

    fn form(&self) -> Form {
        Form::Planes
    }

    fn load(&mut self, model: &ModelId) -> Result<(), Fault> {
        if !self.loaded.contains_key(model) {
            let read = self.models.get(model)?;
            let Some(weights) = read.on_gpu() else {
                return Err(Fault::Input {
                    model: model.clone(),
                    what: "pictures on a GPU: use --device cpu".into(),
                });
            };
            let loaded = DeviceModel::load(weights, &self.device, self.dtype);
            let loaded = loaded.map_err(|error| DeviceError::new(self.place, &error))?;
            self.loaded.insert(model.clone(), loaded);
        }
        Ok(())
    }

    fn run(&mut self, model: &ModelId, batch: &[Input]) -> Result<Vec<Found>, Fault> {
        let pictures = batch.iter().map(|input| match input {
            Input::Planes(picture) => Ok(picture),
            Input::Rgb(_) => Err(Fault::Input { model: model.clone(), what: "RGB on a GPU".into() }),
        });
        let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
        let Done { poses, .. } = self.run_pictures(model, &pictures)?;
        Ok(poses.into_iter().map(Found::Poses).collect())
    }
}

/// Engines on one GPU: one uploads while the other computes.
const ENGINES: usize = 2;

/// Opens the engines of GPU `number`, and runs `model` and the others that are served once in the largest batch there
/// can be, so that the GPU has all the memory that it will need, or says so now. Models that cannot run there are left
/// out, but for `model`.
pub(crate) fn open(
    number: usize,
    config: &GpuConfig,
    models: &Arc<Models>,
    model: &ModelId,
) -> Result<Vec<Box<dyn Engine>>, Fault> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::with_capacity(ENGINES);
    for _ in 0..ENGINES {
        let mut engine = GpuEngine::open(Place::Cuda(number), config.precision, models.clone())?;
        for stage in &*models.served(model)?.stages {
            warm_up(&mut engine, models, stage, config.max_batch.into())?;
        }
        for other in models.ids() {
            if models.get(other)?.on_gpu().is_some() {
                warm_up(&mut engine, models, other, config.max_batch.into())?;
            }
        }
        engines.push(Box::new(engine));
    }
    Ok(engines)
}

/// Runs `model` on grey pictures, `size` of them. They are square: no shape has more pixels in a model's input.
pub(super) fn warm_up(
    engine: &mut GpuEngine,
    models: &Models,
    model: &ModelId,
    size: usize,
) -> Result<(), Fault> {
    let grey = PlanarImage::new(32, 32, Subsampling::S420);
    let fit = models.get(model)?.fit();
    let pictures: Vec<_> = (0..size).map(|_| Picture::whole(&grey, fit)).collect();
    engine.run_pictures(model, &pictures.iter().collect::<Vec<_>>())?;
    Ok(())
}
