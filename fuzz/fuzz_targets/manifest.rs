//! Folders of models that an operator was given: the manifest, and a graph in ONNX.
#![no_main]

use std::fs;

use cloudpose_infer::models::{FAMILIES, Manifest, ModelStore, Models, onnx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        let folder = tempfile::tempdir().expect("there is a place for files");
        fs::write(folder.path().join(Manifest::FILE), bytes).expect("there is room");
        if let Ok(store) = ModelStore::open(folder.path()) {
            let _json = store.manifest().to_json();
            if let Ok(models) = Models::new(store, FAMILIES) {
                let _infos = models.infos();
            }
        }
    } else {
        drop(onnx::run_once(bytes, [8, 8], &[0.0; 3 * 8 * 8]));
    }
});
