//! A family that finds persons: a joint is the middle of all pixels of its colour. Its weight file is the colours, three
//! bytes for each joint.

use std::{borrow::Cow, sync::Arc};

use cloudpose_infer::{
    contract::{Fault, Found},
    models::{Entry, Error, Execution, Family, Finds, Model, ModelBox, ModelKeypoint, ModelPose, Processor},
    preprocess::{Fit, ModelInput},
};
use serde::Deserialize;

/// Levels by which a pixel of a JPEG may differ from the colour that was painted.
const TOLERANCE: u8 = 40;

#[derive(Debug)]
pub(crate) struct Blobs;

/// What manifests tell of a model of this family.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Of the model's square input, in pixels.
    side: usize,
    /// Persons are this many empty columns apart.
    gap: usize,
}

#[derive(Debug, Clone)]
struct Palette {
    config: Config,
    colours: Vec<[u8; 3]>,
}

impl Family for Blobs {
    fn name(&self) -> &'static str {
        "blobs"
    }

    fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error> {
        let model = entry.name.clone();
        let config = match serde_json::from_value(entry.config.clone()) {
            Ok(config) => config,
            Err(error) => return Err(Error::Entry { model, problem: error.to_string() }),
        };
        match file.as_chunks() {
            (colours, []) => Ok(Arc::new(Palette { config, colours: colours.to_vec() })),
            _ => Err(Error::Weights { model, problem: format!("{} bytes are no colours", file.len()) }),
        }
    }
}

impl Model for Palette {
    fn finds(&self) -> Finds {
        Finds::Keypoints(self.colours.len())
    }

    fn fit(&self) -> Fit {
        Fit::Letterbox { side: self.config.side }
    }

    fn on_cpu(&self, _: &Processor) -> Box<dyn Execution> {
        Box::new(self.clone())
    }

    fn reference(&self, _: &candle_core::Device) -> Result<Box<dyn Execution>, Fault> {
        Ok(Box::new(self.clone()))
    }
}

impl Execution for Palette {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        let spots = self.spots(input);
        let mut persons: Vec<Vec<Spot>> = Vec::new();
        for spot in spots {
            match persons.last_mut() {
                Some(person) if spot.x - person[person.len() - 1].x <= self.config.gap => person.push(spot),
                _ => persons.push(vec![spot]),
            }
        }
        let pose = |person: &Vec<Spot>| self.pose(person, [input.width as f32, input.height as f32]);
        Ok(Found::Poses(persons.iter().map(pose).collect()))
    }
}

/// A pixel of a joint's colour.
#[derive(Debug, Clone, Copy)]
struct Spot {
    joint: usize,
    x: usize,
    y: usize,
}

impl Palette {
    /// From left to right.
    fn spots(&self, input: &ModelInput) -> Vec<Spot> {
        let (pixels, _) = input.pixels.as_chunks::<3>();
        let is = |colour: &[u8; 3], pixel: &[u8; 3]| {
            colour.iter().zip(pixel).all(|(a, b)| a.abs_diff(*b) <= TOLERANCE)
        };
        let spot = |(place, pixel)| {
            let joint = self.colours.iter().position(|colour| is(colour, pixel))?;
            Some(Spot { joint, x: place % input.width, y: place / input.width })
        };
        let mut spots: Vec<Spot> = pixels.iter().enumerate().filter_map(spot).collect();
        spots.sort_by_key(|spot| spot.x);
        spots
    }

    fn pose(&self, person: &[Spot], [width, height]: [f32; 2]) -> ModelPose {
        let keypoint = |joint| {
            let of_joint = || person.iter().filter(|spot| spot.joint == joint);
            let count = of_joint().count() as f32;
            if count == 0.0 {
                return ModelKeypoint::default();
            }
            let x = of_joint().map(|spot| spot.x as f32 + 0.5).sum::<f32>() / count;
            let y = of_joint().map(|spot| spot.y as f32 + 0.5).sum::<f32>() / count;
            ModelKeypoint { x: x / width, y: y / height, score: 1.0 }
        };
        let keypoints: Vec<ModelKeypoint> = (0..self.colours.len()).map(keypoint).collect();
        let seen = keypoints.iter().filter(|keypoint| keypoint.score > 0.0).count();
        let least = |of: fn(&Spot) -> usize| person.iter().map(of).min().unwrap() as f32;
        let most = |of: fn(&Spot) -> usize| person.iter().map(of).max().unwrap() as f32 + 1.0;
        ModelPose {
            score: seen as f32 / keypoints.len() as f32,
            keypoints,
            bounds: Some(ModelBox {
                x_min: least(|spot| spot.x) / width,
                y_min: least(|spot| spot.y) / height,
                x_max: most(|spot| spot.x) / width,
                y_max: most(|spot| spot.y) / height,
            }),
        }
    }
}
