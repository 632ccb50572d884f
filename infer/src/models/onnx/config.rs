//! What has to be known of a foreign graph to run it: the `config` of its manifest entry.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::preprocess::{Fit, Place};

/// The longest side of an input: beyond it a picture's inference takes seconds.
const LONGEST: usize = 4096;

/// What a graph's outputs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One person, a row of scores along each axis for each keypoint: RTMPose, RTMW.
    Simcc,
    /// One person, a map of scores for each keypoint: ViTPose, HRNet, SimpleBaseline.
    Heatmaps,
    /// Persons and their keypoints, one column or row each: YOLOv8-, YOLO11- and YOLO26-pose.
    YoloPose,
    /// Persons and their keypoints, `dets` and `keypoints`: RTMO.
    Rtmo,
    /// Boxes by cells that are not decoded yet: YOLOX.
    Yolox,
    /// Boxes by cells, the distances of their sides not decoded yet: NanoDet-Plus.
    Nanodet,
    /// Boxes, `dets` and `labels`: RTMDet and others as MMDeploy exports them.
    Rtmdet,
    /// Boxes, one column or row each: YOLOv8, YOLO11, YOLO26.
    Yolo,
    /// Faces and their five landmarks.
    Centerface,
    /// What the picture shows.
    Classes,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Simcc,
        Self::Heatmaps,
        Self::YoloPose,
        Self::Rtmo,
        Self::Yolox,
        Self::Nanodet,
        Self::Rtmdet,
        Self::Yolo,
        Self::Centerface,
        Self::Classes,
    ];

    /// Whether it takes the picture for one person.
    pub fn is_of_one(self) -> bool {
        matches!(self, Self::Simcc | Self::Heatmaps)
    }

    /// Whether it finds boxes and nothing in them.
    pub fn is_detector(self) -> bool {
        matches!(self, Self::Yolox | Self::Nanodet | Self::Rtmdet | Self::Yolo)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            format!("use one of {}", names.join(", "))
        })
    }
}

impl std::str::FromStr for Channels {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "rgb" => Ok(Self::Rgb),
            "bgr" => Ok(Self::Bgr),
            _ => Err("use rgb or bgr"),
        }
    }
}

/// In which order a graph wants the colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first: as OpenCV reads pictures.
    Bgr,
}

/// How a picture gets into the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fitting {
    /// As a whole, in the middle, with black around it. Of a later stage: a person fills it.
    Middle,
    /// As a whole, in the middle, with grey around it.
    Letterbox,
    /// As a whole, top left, with grey around it.
    Corner,
    /// The square in its middle: 7/8 of the shorter side.
    Crop,
}

/// What has to be known of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What its outputs mean.
    pub kind: Kind,
    /// Width and height of its input, in pixels.
    pub input: [usize; 2],
    /// How a picture gets into it.
    pub fit: Fitting,
    /// In which order it wants the colours.
    pub channels: Channels,
    /// What a pixel, 0 to 255, is less of, by channel in that order.
    pub mean: [f32; 3],
    /// What it is divided by then.
    pub deviation: [f32; 3],
    /// The class of persons, of a detector of several classes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub person: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Config {
    /// The configuration of models of `kind`, as their authors publish them.
    pub fn usual(kind: Kind, input: [usize; 2]) -> Self {
        // ImageNet's, by red, green and blue.
        const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
        const DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];
        let reversed = |[red, green, blue]: [f32; 3]| [blue, green, red];
        let (fit, channels, mean, deviation) = match kind {
            Kind::Simcc | Kind::Heatmaps => (Fitting::Middle, Channels::Rgb, MEAN, DEVIATION),
            Kind::YoloPose | Kind::Yolo => (Fitting::Letterbox, Channels::Rgb, [0.0; 3], [255.0; 3]),
            Kind::Rtmo | Kind::Yolox => (Fitting::Corner, Channels::Bgr, [0.0; 3], [1.0; 3]),
            Kind::Nanodet => (Fitting::Letterbox, Channels::Bgr, reversed(MEAN), reversed(DEVIATION)),
            Kind::Rtmdet => (Fitting::Corner, Channels::Bgr, reversed(MEAN), reversed(DEVIATION)),
            Kind::Centerface => (Fitting::Middle, Channels::Rgb, [0.0; 3], [1.0; 3]),
            Kind::Classes => (Fitting::Crop, Channels::Rgb, MEAN, DEVIATION),
        };
        Self { kind, input, fit, channels, mean, deviation, person: 0 }
    }

    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// In words, for who wrote it.
    pub fn check(&self) -> Result<(), String> {
        let [width, height] = self.input;
        if !(1..=LONGEST).contains(&width) || !(1..=LONGEST).contains(&height) {
            return Err(format!("an input of {width}×{height} pixels; use sides of 1 to {LONGEST}"));
        }
        if self.fit == Fitting::Crop && width != height {
            return Err(format!("an input of {width}×{height} pixels that shows a square"));
        }
        let is_usable = |deviation: &f32| deviation.is_finite() && *deviation != 0.0;
        if !self.deviation.iter().all(is_usable) || !self.mean.iter().all(|mean| mean.is_finite()) {
            return Err("a mean or deviation by which no pixel can be normalised".into());
        }
        Ok(())
    }

    /// How the preprocessor fits a picture.
    pub(super) fn fit(&self) -> Fit {
        /// What most detectors were trained with around the picture.
        const GREY: u8 = 114;
        let [width, height] = self.input;
        let (place, around) = match self.fit {
            Fitting::Middle => (Place::Middle, 0),
            Fitting::Letterbox => (Place::Middle, GREY),
            Fitting::Corner => (Place::Corner, GREY),
            Fitting::Crop => return Fit::Middle { side: width, shorter: width * 8 / 7 },
        };
        Fit::Frame { width, height, place, around }
    }

    /// Writes the pixels of an input, `[height, width, 3]` RGB, as the graph wants them: `[3, height, width]`.
    pub(super) fn normalise(&self, pixels: &[u8], into: &mut Vec<f32>) {
        into.clear();
        let (pixels, _) = pixels.as_chunks::<3>();
        for channel in 0..3 {
            let from = match self.channels {
                Channels::Rgb => channel,
                Channels::Bgr => 2 - channel,
            };
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            into.extend(pixels.iter().map(|pixel| (f32::from(pixel[from]) - mean) / deviation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_that_manifests_and_people_use() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
        assert!("yolov5".parse::<Kind>().unwrap_err().contains("simcc, heatmaps, yolo-pose"));
    }

    #[test]
    fn pixels_are_planes_in_the_order_and_range_that_is_wanted() {
        let pixels = [10, 20, 30, 40, 50, 60];
        let normalised = |channels| {
            let mean = [1.0, 2.0, 3.0];
            let config = Config { channels, mean, deviation: [2.0; 3], ..Config::usual(Kind::Simcc, [2, 1]) };
            let mut into = vec![f32::NAN; 3];
            config.normalise(&pixels, &mut into);
            into
        };
        assert_eq!(normalised(Channels::Rgb), [4.5, 19.5, 9.0, 24.0, 13.5, 28.5]);
        assert_eq!(normalised(Channels::Bgr), [14.5, 29.5, 9.0, 24.0, 3.5, 18.5]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let usual = Config::usual(Kind::Classes, [224, 224]);
        assert_eq!(usual.check(), Ok(()));
        for bad in [
            Config { input: [0, 224], ..usual },
            Config { input: [224, 1 << 40], ..usual },
            Config { input: [224, 192], ..usual },
            Config { deviation: [1.0, 0.0, 1.0], ..usual },
            Config { mean: [f32::NAN, 0.0, 0.0], ..usual },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
