//! A family that tells classes: the softmax of a matrix times the picture's mean colour. Its weight file is the matrix,
//! three little-endian float32 for each class.

use std::{borrow::Cow, sync::Arc};

use cloudpose_infer::{
    contract::{Fault, Found},
    models::{Entry, Error, Execution, Family, Finds, Model, Processor},
    preprocess::{Fit, ModelInput},
};

#[derive(Debug)]
pub(crate) struct Hues;

#[derive(Debug, Clone)]
struct Matrix(Vec<[f32; 3]>);

impl Family for Hues {
    fn name(&self) -> &'static str {
        "hues"
    }

    fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error> {
        let (rows, rest) = file.as_chunks::<12>();
        if !rest.is_empty() {
            let problem = format!("{} bytes are no matrix", file.len());
            return Err(Error::Weights { model: entry.name.clone(), problem });
        }
        let row = |row: &[u8; 12]| std::array::from_fn(|c| f32::from_le_bytes(row.as_chunks().0[c]));
        Ok(Arc::new(Matrix(rows.iter().map(row).collect())))
    }
}

impl Model for Matrix {
    fn finds(&self) -> Finds {
        Finds::Classes(self.0.len())
    }

    fn fit(&self) -> Fit {
        Fit::Letterbox { side: 16 }
    }

    fn takes_reduced(&self) -> bool {
        true
    }

    fn on_cpu(&self, _: &Processor) -> Box<dyn Execution> {
        Box::new(self.clone())
    }

    fn reference(&self, _: &candle_core::Device) -> Result<Box<dyn Execution>, Fault> {
        Ok(Box::new(self.clone()))
    }
}

impl Execution for Matrix {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        let (pixels, _) = input.pixels.as_chunks::<3>();
        let mean: [f32; 3] = std::array::from_fn(|channel| {
            let sum: u32 = pixels.iter().map(|pixel| u32::from(pixel[channel])).sum();
            sum as f32 / pixels.len() as f32 / 255.0
        });
        let logit = |row: &[f32; 3]| row.iter().zip(mean).map(|(weight, value)| weight * value).sum::<f32>();
        let powers: Vec<f32> = self.0.iter().map(|row| logit(row).exp()).collect();
        let sum: f32 = powers.iter().sum();
        Ok(Found::Classes(powers.iter().map(|power| power / sum).collect()))
    }
}
