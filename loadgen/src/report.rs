//! What is left of a command: `results.json`, `results.csv`, `report.html`, and each plot as a file.

pub mod chart;
mod html;
mod locust;
mod plots;
pub(crate) mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    summary::{File, Results},
};

/// Writes everything into `folder`, and answers where the page is.
///
/// # Errors
/// If anything could not be written whole: half a report must not look like one.
pub(crate) fn write(folder: &Path, results: &[Results]) -> Result<PathBuf, Error> {
    let put = |name: &str, content: &[u8]| put(folder, name, content);
    let file = File::new(results.to_vec());
    let json = serde_json::to_vec_pretty(&file)
        .map_err(|error| Error::Write { path: folder.join("results.json"), source: error.into() })?;
    put("results.json", &json)?;
    put("results.csv", &locust::table(results)?)?;
    let plots = plots::all(results);
    for plot in &plots {
        put(&format!("{}.svg", plot.name), plot.svg.as_bytes())?;
    }
    put("report.html", html::page(results, &plots).as_bytes())?;
    Ok(folder.join("report.html"))
}

/// Writes one file into `folder`, which is made if it is missing.
///
/// # Errors
/// If either cannot be written.
pub(crate) fn put(folder: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let path = folder.join(name);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, content));
    written.map_err(|source| Error::Write { path, source })
}
