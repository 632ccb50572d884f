//! Videos and folders of pictures that stand for cameras, in a loop: for demonstrations and tests.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use cloudpose_pixels::PlanarImage;
use cloudpose_video::Video;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::{Trouble, decoded, encoded};
use crate::cameras::feed::{Cost, Feed};

/// Pictures of a folder a second, unless another rate is asked for.
const USUAL_RATE: f32 = 5.0;

pub(super) async fn fetch(path: &Path, feed: &Feed, fps: Option<f32>) -> Trouble {
    let path = path.to_owned();
    let listed = blocking({
        let path = path.clone();
        move || if path.is_dir() { pictures(&path).map(Some) } else { Ok(None) }
    });
    let ended = match listed.await {
        Ok(Some(pictures)) if pictures.is_empty() => Err("there is no picture in the folder".into()),
        Ok(Some(pictures)) => folder(&pictures, feed, fps.unwrap_or(USUAL_RATE)).await,
        Ok(None) => video(&path, feed).await,
        Err(why) => Err(why),
    };
    Trouble::Wrong(format!("{}: {}", path.display(), ended.err().unwrap_or_default()))
}

fn pictures(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_picture = |path: &PathBuf| {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        ["jpg", "jpeg", "png", "webp"].contains(&kind.to_ascii_lowercase().as_str())
    };
    let listed: io::Result<Vec<_>> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut found: Vec<PathBuf> = listed.map_err(|error| error.to_string())?;
    found.retain(is_picture);
    found.sort();
    Ok(found)
}

async fn folder(pictures: &[PathBuf], feed: &Feed, fps: f32) -> Result<(), String> {
    let (begun, every) = (Instant::now(), Duration::from_secs_f32(1.0 / fps));
    for (count, path) in (0..).zip(pictures.iter().cycle()) {
        sleep_until(begun + every * count).await;
        let path = path.clone();
        let bytes = blocking(move || fs::read(path).map_err(|error| error.to_string())).await?;
        encoded(feed, Instant::now().into_std(), Bytes::from(bytes));
    }
    Ok(())
}

async fn video(path: &Path, feed: &Feed) -> Result<(), String> {
    loop {
        let path = path.to_owned();
        let mut video = blocking(move || Video::open(&path).map_err(|error| error.to_string())).await?;
        let begun = Instant::now();
        let mut shown = 0u64;
        loop {
            let next = blocking(move || {
                let mut picture = PlanarImage::default();
                let next = video.next_into(&mut picture).map_err(|error| error.to_string())?;
                Ok((video, next.map(|at| (at, picture))))
            });
            let (same, next) = next.await?;
            video = same;
            let Some((at, picture)) = next else { break };
            shown += 1;
            sleep_until(begun + at).await;
            let now = Instant::now().into_std();
            // It is decoded by now: the pictures between are needed for those after them.
            if feed.takes(now, Cost::Nothing) {
                feed.put(now, decoded(picture));
            }
        }
        if shown == 0 {
            return Err("there is no picture in it".into());
        }
        // The last one is shown as long as the others.
        sleep_until(Instant::now() + Duration::from_secs_f64(1.0 / video.info().rate)).await;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|panic| panic.to_string()).flatten()
}
