//! Who was found in which frame.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use cloudpose_wire::{Class, ModelId, Output, Person};
use serde::Deserialize;

use crate::{
    clip::{self, CLIP_SUFFIXES, Ended},
    detect::has_suffix,
    plain::shown,
};

/// Longest line that is read.
const MOST_BYTES: u64 = 16 << 20;

/// Which frame of a clip, or which photo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(u64),
    Photo(String),
}

/// What was found in a frame.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) persons: Vec<Person>,
    /// Where the frame is, if that is said.
    pub(super) source: Option<Arc<Path>>,
}

/// Frames by their clip or stream.
pub(super) type Groups = BTreeMap<String, BTreeMap<Key, Seen>>;

/// Everything that was found.
#[derive(Debug)]
pub(super) struct Results {
    /// As the command line has it.
    pub(super) name: String,
    /// What found it.
    pub(super) models: BTreeSet<ModelId>,
    pub(super) groups: Groups,
}

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Line {
    file: Option<PathBuf>,
    frame: Option<u64>,
    stream: Option<String>,
    seq: Option<u64>,
    model: ModelId,
    persons: Option<Vec<Person>>,
    classes: Option<Vec<Class>>,
}

impl Results {
    /// Reads a clip, or lines of JSON.
    ///
    /// # Errors
    /// If it cannot be read, or nothing was found in it.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut results = Self { name, models: BTreeSet::new(), groups: Groups::new() };
        if has_suffix(path, &CLIP_SUFFIXES) { results.read_clip(path) } else { results.read_lines(path) }
            .with_context(|| shown(path))?;
        ensure!(!results.groups.is_empty(), "{}: there is no result in it", shown(path));
        Ok(results)
    }

    /// The models, as people read them.
    pub(super) fn models(&self) -> String {
        self.models.iter().map(ModelId::as_str).collect::<Vec<_>>().join(", ")
    }

    fn read_clip(&mut self, path: &Path) -> Result<()> {
        let source: Arc<Path> = path.into();
        let ended = clip::read(path, |frame| {
            let Some(event) = frame.event else { return Ok(true) };
            let Output::Poses { persons, .. } = event.output else {
                bail!("frame {} has no persons: {} finds none", frame.number, event.model);
            };
            self.models.insert(event.model);
            let seen = Seen { persons, source: Some(source.clone()) };
            self.take(file_name(path), Key::Number(frame.number), seen);
            Ok(true)
        })?;
        if ended == Ended::CutOff {
            eprintln!("{} was cut off while it was written: what came before is compared", shown(path));
        }
        Ok(())
    }

    fn read_lines(&mut self, path: &Path) -> Result<()> {
        let mut lines = BufReader::new(File::open(path).context("cannot read it")?);
        let mut source: Option<Arc<Path>> = None;
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            let length =
                (&mut lines).take(MOST_BYTES).read_until(b'\n', &mut text).context("cannot read it")?;
            if length == 0 {
                break;
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(&text).with_context(|| {
                format!("line {number} is none of `cloudpose replay`, `cloudpose detect --json` or of events")
            })?;
            let (None, Some(persons)) = (line.classes, line.persons) else {
                bail!("line {number} has no persons: {} finds none", line.model);
            };
            self.models.insert(line.model);
            if source.as_deref() != line.file.as_deref() {
                source = line.file.as_deref().map(Arc::from);
            }
            let seen = Seen { persons, source: source.clone() };
            match (line.file, line.frame, line.stream, line.seq) {
                (Some(file), Some(frame), ..) => self.take(file_name(&file), Key::Number(frame), seen),
                (Some(file), None, ..) => self.take("photos".into(), Key::Photo(file_name(&file)), seen),
                (None, _, Some(stream), Some(seq)) => self.take(stream, Key::Number(seq), seen),
                _ => bail!("line {number} does not say which frame it is of"),
            }
        }
        Ok(())
    }

    fn take(&mut self, group: String, key: Key, seen: Seen) {
        self.groups.entry(group).or_default().insert(key, seen);
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Results> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        std::fs::write(&path, text).unwrap();
        Results::read(&path)
    }

    #[test]
    fn lines_say_of_which_frame_they_are() {
        let lines = r#"{"file":"a/x.tar","frame":1,"captured_at":5,"model":"fast","persons":[]}

{"file":"a/x.tar","frame":2,"model":"fast","persons":[]}
{"file":"a/photo.jpg","model":"accurate","persons":[],"timings_ms":{}}
{"stream":"door","seq":7,"model":"fast","persons":[]}"#;
        let results = read(lines).unwrap();
        let keys = |group: &str| results.groups[group].keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("x.tar"), [Key::Number(1), Key::Number(2)]);
        assert_eq!(keys("photos"), [Key::Photo("photo.jpg".into())]);
        assert_eq!(keys("door"), [Key::Number(7)]);
        assert_eq!(results.models(), "accurate, fast");
        let seen = &results.groups["x.tar"][&Key::Number(2)];
        assert_eq!(seen.source.as_deref(), Some(Path::new("a/x.tar")));
        assert!(results.groups["door"][&Key::Number(7)].source.is_none());
    }

    #[test]
    fn what_is_no_result_is_named() {
        for (text, why) in [
            ("", "no result"),
            ("{\"model\":", "line 1 is none of"),
            ("{\"model\":\"m\",\"stream\":\"s\",\"seq\":1,\"persons\":[]}\n[]", "line 2 is none of"),
            (r#"{"model":"m","file":"f","classes":[]}"#, "finds none"),
            (r#"{"model":"m","persons":[]}"#, "which frame"),
            (r#"{"model":"m","stream":"s","persons":[]}"#, "which frame"),
        ] {
            let refused = format!("{:#}", read(text).unwrap_err());
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
