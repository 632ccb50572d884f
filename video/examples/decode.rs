//! How long a video takes to decode, and to encode again if a file is named for that: `decode FILE [COPY]`. Beside it:
//! `time ffmpeg -threads 1 -i FILE -an -f null -`.
#![allow(clippy::print_stdout, reason = "the answer of a program")]

use std::{
    error::Error,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use cloudpose_pixels::PlanarImage;
use cloudpose_video::{Video, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, copy) = match &arguments[..] {
        [file] => (file, None),
        [file, copy] => (file, Some(copy)),
        _ => return Err("say FILE, and COPY if it is to be encoded again".into()),
    };
    let mut begun = Instant::now();
    let (mut decoding, mut encoding) = (Duration::ZERO, Duration::ZERO);
    let mut video = Video::open(Path::new(file))?;
    let info = video.info().clone();
    let writer = |copy| {
        Writer::new(File::create(copy)?, [info.width, info.height], info.rate).map_err(Box::<dyn Error>::from)
    };
    let mut writer = copy.map(writer).transpose()?;
    let (mut picture, mut pictures) = (PlanarImage::default(), 0u32);
    while let Some(at) = video.next_into(&mut picture)? {
        pictures += 1;
        decoding += begun.elapsed();
        begun = Instant::now();
        if let Some(writer) = &mut writer {
            writer.push(&picture, at)?;
        }
        encoding += begun.elapsed();
        begun = Instant::now();
    }
    if let Some(writer) = writer {
        writer.finish()?;
    }
    let each = |time: Duration| 1e3 * time.as_secs_f64() / f64::from(pictures.max(1));
    let (width, height) = (picture.width(), picture.height());
    println!("{pictures} pictures of {width}×{height}, {:.2} ms each", each(decoding));
    if copy.is_some() {
        println!("and {:.2} ms to encode each", each(encoding));
    }
    Ok(())
}
