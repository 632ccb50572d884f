//! A model that changes while an engine has it.

use super::*;
use crate::models::Entry;
use crate::models::folder::{Folder, Import};
use crate::models::manifest::sha256_hex;

#[test]
fn a_model_that_changes_is_run_as_it_is_now() {
    let at = tempfile::tempdir().unwrap();
    let mut folder = Folder::begin(at.path()).unwrap();
    let store = || ModelStore::open(at.path()).unwrap();
    let models = Arc::new(Models::new(store(), FAMILIES).unwrap());
    let mut engine = GpuEngine::open(place(), Precision::F32, models.clone()).unwrap();
    let image = [noise(3 * 192 * 192, 1)];
    let poses = |engine: &mut GpuEngine, model: &str| run_rgb(engine, model, &image, [192, 192]);
    let before = poses(&mut engine, "lightning");
    assert_eq!(poses(&mut engine, "lightning"), before);

    let (entry, file) = store().read(&id("lightning")).map(|(entry, file)| (entry.clone(), file)).unwrap();
    let mut file = file.into_owned();
    // Weights are at the end: some signs are others.
    file.iter_mut().rev().step_by(2).take(4096).for_each(|byte| *byte ^= 0x80);
    let entry = Entry { sha256: sha256_hex(&file), file: "other.safetensors".into(), ..entry };
    folder.add(&Import { files: vec![(entry, file)], pipelines: Vec::new() }).unwrap();
    assert_eq!(poses(&mut engine, "lightning"), before, "nobody has taken it in");
    assert!(models.renew().unwrap());
    let after = poses(&mut engine, "lightning");
    assert_ne!(after, before);
    let fresh = Arc::new(Models::new(store(), FAMILIES).unwrap());
    let mut fresh = GpuEngine::open(place(), Precision::F32, fresh).unwrap();
    assert_eq!(after, poses(&mut fresh, "lightning"));
}
