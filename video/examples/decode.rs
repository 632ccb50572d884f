//! How long a video takes to decode: `decode FILE`. Beside it: `time ffmpeg -threads 1 -i FILE -an -f null -`.
#![allow(clippy::print_stdout, reason = "the answer of a program")]

use std::{error::Error, path::Path, time::Instant};

use cloudpose_pixels::PlanarImage;
use cloudpose_video::Video;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, file] = &std::env::args().collect::<Vec<_>>()[..] else {
        return Err("say FILE".into());
    };
    let begun = Instant::now();
    let mut video = Video::open(Path::new(file))?;
    let (mut picture, mut pictures) = (PlanarImage::default(), 0u32);
    while video.next_into(&mut picture)?.is_some() {
        pictures += 1;
    }
    let each = 1e3 * begun.elapsed().as_secs_f64() / f64::from(pictures.max(1));
    println!("{pictures} pictures of {}×{}, {each:.2} ms each", picture.width(), picture.height());
    Ok(())
}
