//! `cloudpose models`: what models there are, whether they are whole, and where they come from.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::path::Path;

use anyhow::{Result, bail};
use cloudpose_infer::{Models as Registry, StoreConfig, models};

use crate::cli::Models;

pub(crate) fn run(command: &Models) -> Result<()> {
    match command {
        Models::List(store) => list(store),
        Models::Verify(store) => verify(store),
        Models::Import { from, to } => import(from, to),
    }
}

fn list(store: &StoreConfig) -> Result<()> {
    let store = store.open()?;
    println!("{:18} {:30} {:44} {:11} SHA-256", "NAME", "MODEL", "INPUT", "LICENCE");
    for pipeline in &store.manifest().pipelines {
        let stages = pipeline.stages.iter().map(|stage| stage.model().as_str()).collect::<Vec<_>>();
        println!("{:18} {:30} made of {}", pipeline.name.as_str(), pipeline.title, stages.join(", then "));
    }
    for entry in &store.manifest().models {
        let name = entry.name.as_str();
        println!("{name:18} {:30} {:44} {:11} {}", entry.title, entry.input, entry.licence, entry.sha256);
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

fn import(from: &Path, to: &Path) -> Result<()> {
    let import = models::folder::convert(from)?;
    models::folder::Folder::open(to)?.add(&import)?;
    for (entry, _) in &import.files {
        println!("{:10} {} ({} bytes) from {}", entry.name.as_str(), entry.file, entry.bytes, entry.source);
    }
    Ok(())
}
