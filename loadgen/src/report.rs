//! What is left of a command: `results.json`, `results.csv`, `report.html`, and each plot as a file.

mod chart;
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
    let put = |name: &str, content: &[u8]| -> Result<PathBuf, Error> {
        let path = folder.join(name);
        match fs::write(&path, content) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::Write { path, source }),
        }
    };
    fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.into(), source })?;
    let file = File::new(results.to_vec());
    let json = serde_json::to_vec_pretty(&file)
        .map_err(|error| Error::Write { path: folder.join("results.json"), source: error.into() })?;
    put("results.json", &json)?;
    put("results.csv", &locust::table(results)?)?;
    let plots = plots::all(results);
    for plot in &plots {
        put(&format!("{}.svg", plot.name), plot.svg.as_bytes())?;
    }
    put("report.html", html::page(results, &plots).as_bytes())
}
