//! Files there and back.
#![cfg(feature = "h264")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cloudpose_pixels::{PlanarImage, Subsampling};
use cloudpose_video::{Error, Video, Writer};

/// A bright square that moves over a darker ground, coloured by the frame.
fn picture(frame: usize, [width, height]: [usize; 2]) -> PlanarImage {
    let mut picture = PlanarImage::new(width, height, Subsampling::S420);
    let (mut luma, chroma) = picture.planes_mut();
    let [mut u, mut v] = chroma.unwrap();
    for y in 0..height {
        for (x, level) in luma.row_mut(y).iter_mut().enumerate() {
            let is_square = (8 * frame..8 * frame + 32).contains(&x) && (16..48).contains(&y);
            *level = if is_square { 220 } else { 60 + (x / 4) as u8 };
        }
    }
    for y in 0..u.height {
        u.row_mut(y).fill(100 + 2 * frame as u8);
        v.row_mut(y).fill(150 - 2 * frame as u8);
    }
    picture
}

const SIZE: [usize; 2] = [160, 96];

/// A clip of twelve pictures, 25 a second.
fn write(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("clip.mp4");
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), SIZE, 25.0).unwrap();
    for frame in 0..12 {
        writer.push(&picture(frame, SIZE), Duration::from_millis(40 * frame as u64)).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn a_file_that_lies_elsewhere_is_read_as_one_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(write(&folder)).unwrap();
    let length = bytes.len() as u64;
    let mut video = Video::read(std::io::Cursor::new(bytes.clone()), length).unwrap();
    let mut seen = PlanarImage::default();
    let mut frames = 0;
    while let Some(at) = video.next_into(&mut seen).unwrap() {
        assert!(at.abs_diff(Duration::from_millis(40 * frames)) < Duration::from_millis(1), "{at:?}");
        frames += 1;
    }
    assert_eq!(frames, 12);
    let error = Video::read(std::io::Cursor::new(b"no video at all".to_vec()), 15).unwrap_err();
    assert!(error.to_string().contains("another kind of file"), "{error}");
}

fn mean_off(a: &PlanarImage, b: &PlanarImage) -> f64 {
    let (a, b) = (a.luma(), b.luma());
    let rows = (0..a.height.min(b.height)).map(|y| a.row(y).iter().zip(b.row(y)));
    let sum: u64 = rows.flatten().map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / (a.width * a.height) as f64
}

#[test]
fn what_is_written_is_read_again_frame_by_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder);

    let mut video = Video::open(&path).unwrap();
    let info = video.info().clone();
    assert_eq!(([info.width, info.height], info.frames, info.has_sound), (SIZE, Some(12), false));
    assert!((info.rate - 25.0).abs() < 1.0, "{info:?}");
    let mut seen = PlanarImage::default();
    for frame in 0..12 {
        let at = video.next_into(&mut seen).unwrap().unwrap();
        assert!(at.abs_diff(Duration::from_millis(40 * frame as u64)) < Duration::from_millis(1), "{at:?}");
        let off = mean_off(&seen, &picture(frame, SIZE));
        let of_others = mean_off(&seen, &picture(frame + 1, SIZE));
        assert!(off < 2.0 && off < of_others, "frame {frame}: {off}, the next one {of_others}");
    }
    assert_eq!(video.next_into(&mut seen).unwrap(), None);
}

#[test]
fn a_file_that_is_cut_off_tells_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder);
    let whole = std::fs::read(&path).unwrap();
    // Damage anywhere is an error, or another picture; it never ends the process.
    for end in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..end]).unwrap();
        read(&path);
        let mut damaged = whole.clone();
        damaged[end] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        read(&path);
    }
}

/// The table of contents of the clip stands before its pictures.
#[test]
fn pictures_that_are_there_are_decoded_though_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let whole = include_bytes!("clips/high_b_frames.mp4");
    let count = |end: usize| -> Result<(u32, Option<String>), Error> {
        std::fs::write(&path, &whole[..end]).unwrap();
        let (mut video, mut seen, mut pictures) = (Video::open(&path)?, PlanarImage::default(), 0);
        loop {
            match video.next_into(&mut seen) {
                Ok(Some(_)) => pictures += 1,
                Ok(None) => return Ok((pictures, None)),
                Err(error) => return Ok((pictures, Some(error.to_string()))),
            }
        }
    };
    let all = count(whole.len()).unwrap();
    assert_eq!(all.1, None);
    let (some, why) = count(whole.len() * 2 / 3).unwrap();
    assert!((1..all.0).contains(&some), "{some} of {}", all.0);
    assert_eq!(why.unwrap(), "the file is not whole: some of its pictures should stand behind its end");
    // Recorders write it last: here it is missing.
    let (ftyp, mdat) = (&whole[..32], whole.windows(4).position(|name| name == b"mdat").unwrap() - 4);
    std::fs::write(&path, [ftyp, &whole[mdat..]].concat()).unwrap();
    let error: Error = Video::open(&path).unwrap_err();
    assert!(matches!(error, Error::CutOff(_)) && error.to_string().contains("moov"), "{error}");
}

fn read(path: &std::path::Path) {
    let mut seen = PlanarImage::default();
    let Ok(mut video) = Video::open(path) else { return };
    for _ in 0..20 {
        match video.next_into(&mut seen) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

#[test]
fn what_is_no_video_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    assert!(matches!(Video::open(&path), Err(Error::File { .. })));
    std::fs::write(&path, "no video").unwrap();
    let error = Video::open(&path).unwrap_err().to_string();
    assert!(error.contains("ffmpeg"), "{error}");
}
