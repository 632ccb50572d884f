//! Where `cloudpose detect -o` writes, and that it overwrites nothing that it should not.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::{fs::OFlags, io::Errno};

use crate::detect::{MJPEG_SUFFIXES, VIDEO_SUFFIXES, has_suffix};

/// The file in `folder` that is written for `input`, with another suffix if one is given.
pub(crate) fn target(folder: &Path, input: &Path, suffix: Option<&str>) -> Option<PathBuf> {
    let mut target = folder.join(input.file_name()?);
    if let Some(suffix) = suffix {
        target.set_extension(suffix);
    }
    Some(target)
}

/// Checks that no two inputs would be written to one file. They are refused rather than numbered: whoever reads the
/// folder could not tell which number is which input's.
///
/// # Errors
/// Which two, and what to do.
pub(crate) fn check(folder: &Path, inputs: &[PathBuf]) -> Result<()> {
    let mut taken: HashMap<PathBuf, &Path> = HashMap::new();
    for input in inputs {
        let suffixes: &[Option<&str>] = if has_suffix(input, &MJPEG_SUFFIXES) {
            &[None, Some("jsonl")]
        } else if has_suffix(input, &VIDEO_SUFFIXES) {
            &[Some("mp4"), Some("jsonl")]
        } else {
            &[Some("jpg")]
        };
        for target in suffixes.iter().filter_map(|suffix| target(folder, input, *suffix)) {
            if let Some(other) = taken.insert(target.clone(), input) {
                bail!(
                    "{} and {} would both be written to {}: do them one after the other, with a folder for each",
                    other.display(),
                    input.display(),
                    target.display()
                );
            }
        }
    }
    Ok(())
}

/// Creates a file to write to, or empties the one that is there. A symbolic link is not followed: whoever may write in
/// the folder would choose another file of ours to be overwritten.
///
/// # Errors
/// What is in the way.
pub(crate) fn create(target: &Path) -> Result<File> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("flags of the system are of its type");
    let opened =
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(nofollow).open(target);
    opened
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => {
                anyhow!("it is a symbolic link, which is not followed: remove it, or choose another folder with -o")
            }
            _ => io::Error::into(error),
        })
        .with_context(|| format!("cannot write {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_would_be_written_to_one_file_are_refused() {
        let check =
            |inputs: &[&str]| check(Path::new("out"), &inputs.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert!(check(&["a/x.jpg", "a/y.jpg", "a/z.mjpeg", "a/x.mov"]).is_ok());
        for inputs in [
            ["a/x.jpg", "b/x.jpg"],
            ["x.png", "x.jpg"],
            ["a/x.mjpeg", "b/x.mjpg"],
            ["x.jpg", "x.jpg"],
            ["a/x.mp4", "a/x.mov"],
            ["x.mp4", "x.mjpeg"],
        ] {
            let refused = check(&inputs).unwrap_err().to_string();
            assert!(refused.contains(inputs[0]) && refused.contains("would both"), "{refused}");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [precious, link] = ["precious", "x.jpg"].map(|name| folder.path().join(name));
        std::fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        let refused = format!("{:#}", create(&link).unwrap_err());
        assert!(refused.contains("symbolic link"), "{refused}");
        assert_eq!(std::fs::read(&precious).unwrap(), b"kept");
        // What an earlier run wrote is written anew.
        assert!(create(&precious).is_ok());
        assert_eq!(std::fs::read(&precious).unwrap(), b"");
    }
}
