//! One device's batches: models on it, memory that is used again, pictures in, poses out.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use candle_core::{CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Tensor};
use cloudpose_wire::ModelName;

use super::buffers::{Buffers, Part};
use super::device::Place;
use super::network::Network;
use super::ops::Maps;
use super::picture::{MOST_UPLOAD, Picture, cut, upload_len, write_upload};
use super::staging::Staging;
use super::{DeviceError, Error, Precision};
use crate::model::ModelStore;
use crate::model::arch::takes;
use crate::postprocess::ModelPose;

/// Runs batches on one device, one at a time. Belongs to one thread, and has a stream of its own: two engines
/// on one device overlap, so that one uploads while the other computes.
#[derive(Debug)]
pub struct Engine {
    place: Place,
    dtype: DType,
    store: ModelStore,
    device: candle_core::Device,
    networks: [Option<Network>; ModelName::ALL.len()],
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

impl Engine {
    /// An engine without models, with all the memory that pictures are uploaded by.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is not there or does not work.
    pub fn open(place: Place, precision: Precision, store: ModelStore) -> Result<Self, Error> {
        let failed = |error| Error::Device(DeviceError::new(place, &error));
        let (device, mut staging) = place.open().map_err(failed)?;
        let mut buffers = Buffers::new(device.clone());
        staging.bytes(MOST_UPLOAD).map_err(failed)?;
        buffers.get(Part::Upload, DType::U8, MOST_UPLOAD).map_err(failed)?;
        Ok(Self {
            place,
            dtype: precision.dtype(),
            store,
            networks: Default::default(),
            buffers,
            device,
            staging,
            records: Vec::new(),
        })
    }

    /// Loads `model`, if that was not done yet.
    ///
    /// # Errors
    /// [`Error::Model`] if its weights cannot be read, [`Error::Device`] if the device cannot hold them.
    pub fn load(&mut self, model: ModelName) -> Result<(), Error> {
        if self.networks[model as usize].is_none() {
            let weights = self.store.load(model)?;
            let network = Network::load(&weights, &self.device, self.dtype);
            let network = network.map_err(|error| Error::Device(DeviceError::new(self.place, &error)))?;
            self.networks[model as usize] = Some(network);
        }
        Ok(())
    }

    /// Runs `model` on a batch of pictures that all have the same size of model input. Takes memory from the
    /// device only if the batch has more pictures, or their model inputs more pixels, than any before; how large
    /// the pictures themselves are does not matter.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`Error::Batch`] if the pictures do not fit together or the model;
    /// [`Error::Device`] if the device fails, after which the engine is of no use.
    pub fn run(&mut self, model: ModelName, pictures: &[Picture]) -> Result<Done, Error> {
        let Some(first) = pictures.first() else {
            return Ok(Done { poses: Vec::new(), spent: Spent::default() });
        };
        let (height, width) = (first.height, first.width);
        if !takes(model, height, width) || pictures.iter().any(|p| (p.height, p.width) != (height, width)) {
            return Err(Error::Batch { model, height, width });
        }
        self.load(model)?;
        let mut all = Done { poses: Vec::with_capacity(pictures.len()), spent: Spent::default() };
        for part in cut(pictures, MOST_UPLOAD) {
            let done = self.run_loaded(model, part, Maps { images: part.len(), height, width });
            let done = done.map_err(|error| Error::Device(DeviceError::new(self.place, &error)))?;
            all.poses.extend(done.poses);
            all.spent += done.spent;
        }
        Ok(all)
    }

    fn run_loaded(
        &mut self,
        model: ModelName,
        pictures: &[Picture],
        maps: Maps,
    ) -> candle_core::Result<Done> {
        let network = self.networks[model as usize].as_ref().expect("it was loaded");
        let begun = Instant::now();
        let len = upload_len(pictures);
        let staged = self.staging.bytes(len)?;
        write_upload(pictures, staged);
        let upload = self.buffers.get(Part::Upload, DType::U8, len)?;
        upload.inplace_op1(&Upload(staged))?;
        let uploaded = Instant::now();

        let poses = network.forward(&upload, maps, &mut self.buffers)?;
        self.device.synchronize()?;
        let computed = Instant::now();

        download(&poses, network.decoder().records_len(maps.images), &mut self.records)?;
        let poses = network.decoder().read(&self.records);
        let spent =
            Spent { upload: uploaded - begun, compute: computed - uploaded, download: computed.elapsed() };
        Ok(Done { poses, spent })
    }

    /// Where this engine runs.
    pub fn place(&self) -> Place {
        self.place
    }

    /// How often this engine has taken memory from the device, for weights or for batches.
    pub fn allocations(&self) -> usize {
        self.buffers.allocations() + self.networks.iter().flatten().count()
    }

    /// Runs `model` on RGB images of the host, as the golden inputs are.
    #[cfg(test)]
    pub(super) fn run_rgb(
        &mut self,
        model: ModelName,
        rgb: &Tensor,
        maps: Maps,
    ) -> Result<Vec<Vec<ModelPose>>, Error> {
        self.load(model)?;
        let network = self.networks[model as usize].as_ref().expect("it was loaded");
        let mut infer = || {
            let poses = network.forward_rgb(rgb, maps, &mut self.buffers)?;
            download(&poses, network.decoder().records_len(maps.images), &mut self.records)?;
            Ok(network.decoder().read(&self.records))
        };
        infer().map_err(|error| Error::Device(DeviceError::new(self.place, &error)))
    }

    /// The normalised input that `model` makes of pictures.
    #[cfg(test)]
    pub(super) fn normalised(&mut self, model: ModelName, pictures: &[Picture]) -> Result<Vec<f32>, Error> {
        self.load(model)?;
        let network = self.networks[model as usize].as_ref().expect("it was loaded");
        let maps = Maps { images: pictures.len(), height: pictures[0].height, width: pictures[0].width };
        let mut upload = vec![0; upload_len(pictures)];
        write_upload(pictures, &mut upload);
        let run = || {
            let upload = Tensor::new(upload, &self.device)?;
            network.input(&upload, maps, &mut self.buffers)?.to_dtype(DType::F32)?.to_vec1()
        };
        run().map_err(|error| Error::Device(DeviceError::new(self.place, &error)))
    }
}
