//! `cloudpose models`: what models there are, whether they are whole, and where they come from.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use cloudpose_infer::{
    Models as Registry, StoreConfig,
    models::{
        self, Manifest,
        folder::{Folder, Import},
        manifest::{CrowdEntry, DetectorEntry, PipelineEntry, StageEntry},
        onnx::{
            add::{Addition, Wishes, look_at},
            config::{Channels, Config, Fitting},
        },
    },
    task::{LabelsEntry, SkeletonEntry},
};
use cloudpose_wire::ModelId;

use crate::cli::{AddModel, Models};

pub(crate) fn run(command: &Models) -> Result<()> {
    match command {
        Models::List(store) => list(store),
        Models::Verify(store) => verify(store),
        Models::Add(command) => add(command),
        Models::Pair { detector, pose, name, model_dir } => pair([detector, pose], name.as_ref(), model_dir),
        Models::Import { from, to } => import(from, to),
    }
}

fn list(store: &StoreConfig) -> Result<()> {
    let store = store.open()?;
    let Manifest { models, pipelines } = store.manifest();
    let names = models.iter().map(|entry| &entry.name).chain(pipelines.iter().map(|pipeline| &pipeline.name));
    let titles =
        models.iter().map(|entry| &entry.title).chain(pipelines.iter().map(|pipeline| &pipeline.title));
    let wide = names.map(|name| name.as_str().len()).max().unwrap_or(0).max(18);
    let broad = titles.map(|title| title.chars().count()).max().unwrap_or(0).max(30);
    println!("{:wide$} {:broad$} {:44} {:11} SHA-256", "NAME", "MODEL", "INPUT", "LICENCE");
    for PipelineEntry { name, title, stages, .. } in pipelines {
        let stages = stages.iter().map(|stage| stage.model().as_str()).collect::<Vec<_>>();
        println!("{:wide$} {title:broad$} made of {}", name.as_str(), stages.join(", then "));
    }
    for entry in models {
        let name = entry.name.as_str();
        println!(
            "{name:wide$} {:broad$} {:44} {:11} {}",
            entry.title, entry.input, entry.licence, entry.sha256
        );
    }
    Ok(())
}

fn verify(store: &StoreConfig) -> Result<()> {
    let (store, models) = (store.open()?, Registry::open(store)?);
    let entries = &store.manifest().models;
    let mut broken = 0;
    for entry in entries {
        match models.get(&entry.name) {
            Ok(_) => println!("{:10} ok  {} bytes, {}", entry.name.as_str(), entry.bytes, entry.file),
            Err(error) => {
                broken += 1;
                println!("{:10} BAD {:#}", entry.name.as_str(), anyhow::Error::from(error));
            }
        }
    }
    if broken > 0 {
        bail!("{broken} of {} models cannot be used", entries.len());
    }
    Ok(())
}

/// Adds a foreign graph to a folder. Nothing is written unless it runs.
fn add(command: &AddModel) -> Result<()> {
    let path = &command.file;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let file = read(path)?;
    let skeleton = match &command.skeleton {
        Some(path) => {
            let skeleton = serde_json::from_slice(&read(path)?);
            let skeleton = skeleton.with_context(|| format!("{} describes no skeleton", path.display()))?;
            Some(SkeletonEntry::Described(skeleton))
        }
        None => None,
    };
    let labels = match &command.labels {
        Some(path) => {
            let text = String::from_utf8(read(path)?).with_context(|| path.display().to_string())?;
            Some(LabelsEntry::Listed(text.lines().map(str::to_owned).collect()))
        }
        None => None,
    };
    let (kind, name, input, licence) =
        (command.kind, command.name.clone(), command.input, command.licence.clone());
    let (channels, mean, deviation) = (command.channels, command.mean, command.deviation);
    let wishes = Wishes { kind, name, input, channels, mean, deviation, skeleton, labels, licence };
    let addition = look_at(path, &file, wishes)?;
    let mut folder = Folder::begin(&command.model_dir)?;
    folder.add(&Import { files: vec![(addition.entry.clone(), file)], pipelines: Vec::new() })?;
    describe(&addition, &command.model_dir);
    for unused in folder.unused() {
        println!("no longer used: {}", unused.display());
    }
    Ok(())
}

/// What a model is that was added, and what to do next.
fn describe(addition: &Addition, folder: &Path) {
    let Addition { entry, config, finds, is_guessed } = addition;
    let Config { kind, input: [width, height], .. } = config;
    let name = &entry.name;
    let how = if *is_guessed { ", by the shapes of its outputs; --as says another" } else { "" };
    let fit = match config.fit {
        Fitting::Middle => "the picture in the middle, black around it",
        Fitting::Letterbox => "the picture in the middle, grey around it",
        Fitting::Corner => "the picture top left, grey around it",
        Fitting::Crop => "the picture's middle",
    };
    let channels = match config.channels {
        Channels::Rgb => "RGB",
        Channels::Bgr => "BGR",
    };
    let (mean, deviation) = (config.mean, config.deviation);
    println!("added {name} to {}", folder.display());
    println!("  kind     {kind}{how}");
    println!("  finds    {finds}{}", named(entry));
    println!("  input    {width}×{height}, {fit}");
    println!("  pixels   {channels}, (x - {mean:?}) / {deviation:?}; config in manifest.json says so");
    match entry.licence.as_str() {
        "NOASSERTION" => println!("  licence  not in the file: ask its authors, and say it with --licence"),
        licence => println!("  licence  {licence}"),
    }
    println!("  file     {}, {} bytes", entry.file, entry.bytes);
    println!("  SHA-256  {}", entry.sha256);
    let folder = folder.display();
    if kind.is_detector() {
        println!("next: cloudpose models pair {name} thunder --model-dir {folder}");
    } else if kind.is_of_one() {
        println!("next: cloudpose models pair multipose {name} --model-dir {folder}");
    } else {
        println!("next: cloudpose detect photo.jpg --model {name} --model-dir {folder}");
    }
}

/// Whose keypoints or which classes a model finds.
fn named(entry: &models::Entry) -> String {
    match &entry.task.skeleton {
        Some(SkeletonEntry::Named(name)) => format!(" of {name}"),
        Some(SkeletonEntry::Described(skeleton)) => format!(" of {}", skeleton.name()),
        None => String::new(),
    }
}

/// Makes a model of two that a folder has.
fn pair([detector, pose]: [&ModelId; 2], name: Option<&ModelId>, folder: &Path) -> Result<()> {
    let name = match name {
        Some(name) => name.clone(),
        None => format!("{detector}-{pose}").parse().context("say a name with --name")?,
    };
    let mut folder_of_both = Folder::begin(folder)?;
    let models = Registry::open(&StoreConfig { model_dir: Some(folder.to_owned()) })?;
    let pipeline = models::folder::pair(&models, folder_of_both.manifest(), [detector, pose], name.clone())?;
    let how = match &pipeline.stages[0] {
        StageEntry::Detector(DetectorEntry { longer_side, crowd, .. }) => {
            let again = crowd.map(|CrowdEntry { persons, longer_side }| {
                format!(", and again of {longer_side} where there are {persons} or more")
            });
            format!(", {longer_side} pixels of it{}", again.unwrap_or_default())
        }
        StageEntry::Model(_) => String::new(),
    };
    folder_of_both.add(&Import { files: Vec::new(), pipelines: vec![pipeline] })?;
    println!("added {name} to {}", folder.display());
    println!("  {detector} looks at the picture{how}; {pose} looks at each of whom it finds");
    println!("next: cloudpose detect photo.jpg --model {name} --model-dir {}", folder.display());
    Ok(())
}

fn import(from: &Path, to: &Path) -> Result<()> {
    let import = models::folder::convert(from)?;
    Folder::open(to)?.add(&import)?;
    for (entry, _) in &import.files {
        println!("{:10} {} ({} bytes) from {}", entry.name.as_str(), entry.file, entry.bytes, entry.source);
    }
    Ok(())
}
