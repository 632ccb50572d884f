//! Damages videos for a while and looks at what becomes of them: `fuzz SECONDS SEED FILE…`.
//!
//! Files that end in `.264` are byte streams (`ffmpeg -i clip.mp4 -c copy -bsf:v h264_mp4toannexb clip.264`): their access units go
//! to a live decoder. Others are damaged as files. It ends with 1 if anything panicked, whoever caught it.
#![allow(clippy::print_stdout, reason = "the answer of a program")]

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cloudpose_pixels::PlanarImage;
use cloudpose_video::{LiveDecoder, Video};

/// Where something panicked, and how often.
static PANICS: LazyLock<Mutex<BTreeMap<String, u64>>> = LazyLock::new(Mutex::default);

struct Random(u64);

impl Random {
    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    /// Where heads stand, mostly: what is behind them is only pixels.
    fn place(&mut self, len: usize) -> usize {
        match self.below(3) {
            0 => self.below(len.min(64)),
            1 => self.below(len.min(1024)),
            _ => self.below(len),
        }
    }

    /// Changes some of `bytes`.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: [u8; 8] = [0, 1, 3, 0x67, 0x68, 0x65, 0x7f, 0xff];
        for _ in 0..=self.below(4) {
            let at = self.place(bytes.len());
            if at >= bytes.len() {
                return;
            }
            match self.below(8) {
                0..=2 => bytes[at] ^= 1 << self.below(8),
                3 => bytes[at] = TELLING[self.below(TELLING.len())],
                4 => bytes[at] = self.next() as u8,
                5 => {
                    let end = (at + 1 + self.below(8)).min(bytes.len());
                    bytes.drain(at..end);
                }
                6 => {
                    let from = self.below(bytes.len());
                    let piece = bytes[from..(from + 1 + self.below(32)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.truncate(at + 1),
            }
        }
    }
}

/// A file, and what it is.
enum Seed {
    Units(Vec<Vec<u8>>),
    File(PathBuf, Vec<u8>),
}

fn seed(path: &Path) -> Result<Seed, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|suffix| suffix == "264") {
        let units = rusty_h264_decoder::split_access_units(&bytes);
        return Ok(Seed::Units(units.into_iter().take(12).map(<[u8]>::to_vec).collect()));
    }
    let name = path.file_name().ok_or("a file without a name")?;
    Ok(Seed::File(
        std::env::temp_dir().join(format!("fuzz-{}-{}", std::process::id(), name.display())),
        bytes,
    ))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, first, files @ ..] = &arguments[..] else { return Err("say SECONDS SEED FILE…".into()) };
    let ends = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut random = Random(first.parse()?);
    let seeds = files.iter().map(|file| seed(Path::new(file))).collect::<Result<Vec<_>, _>>()?;
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        *panics.entry(format!("{place}: {}", info.payload_as_str().unwrap_or_default())).or_default() += 1;
    }));
    let (mut inputs, mut decoded, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < ends {
        let seed = &seeds[random.below(seeds.len())];
        let begun = Instant::now();
        // What escapes from here would end a session; what does not is in the list all the same.
        let run = catch_unwind(AssertUnwindSafe(|| match seed {
            Seed::Units(units) => stream(units, &mut random),
            Seed::File(path, bytes) => file(path, bytes, &mut random),
        }));
        if let Ok((these, pictures)) = run {
            (inputs, decoded) = (inputs + these, decoded + pictures);
            slowest = slowest.max(begun.elapsed() / u32::try_from(these)?.max(1));
        }
    }
    for seed in &seeds {
        if let Seed::File(path, _) = seed {
            // It is there if it was drawn.
            drop(fs::remove_file(path));
        }
    }
    let peak = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("").to_owned();
    println!("{inputs} inputs, {decoded} pictures, the slowest {slowest:?} on average of its round, {peak}");
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    for (place, times) in panics.iter() {
        println!("{times} × {place}");
    }
    if panics.is_empty() { Ok(()) } else { Err("something panicked".into()) }
}

/// Some access units, most of them damaged.
fn stream(units: &[Vec<u8>], random: &mut Random) -> (u64, u64) {
    let Ok(mut decoder) = LiveDecoder::new(1 << 24, |bytes| bytes < 1 << 30) else { return (0, 0) };
    let mut pictures = 0;
    for at in 0..units.len() {
        let mut unit = units[if random.below(8) == 0 { random.below(units.len()) } else { at }].clone();
        if random.below(4) == 0 {
            unit.extend_from_slice(&units[random.below(units.len())]);
        }
        if random.below(4) > 0 {
            random.damage(&mut unit);
        }
        pictures += u64::from(matches!(decoder.decode(&unit, true), Ok(Some(_))));
    }
    (units.len() as u64, pictures)
}

/// A damaged file.
fn file(path: &Path, bytes: &[u8], random: &mut Random) -> (u64, u64) {
    let mut bytes = bytes.to_vec();
    // The end of a file has its table of contents, often.
    let behind = if random.below(2) == 0 { 0 } else { bytes.len() - bytes.len().min(4096) };
    let mut tail = bytes.split_off(behind);
    random.damage(&mut tail);
    bytes.append(&mut tail);
    if fs::write(path, &bytes).is_err() {
        return (0, 0);
    }
    let (mut picture, mut pictures) = (PlanarImage::default(), 0);
    if let Ok(mut video) = Video::open(path) {
        while pictures < 24 && matches!(video.next_into(&mut picture), Ok(Some(_))) {
            pictures += 1;
        }
    }
    (1, pictures)
}
