//! Manifests that say what cannot be: told when the model is loaded or before, never found out by a client.

use std::process::Command;

use cloudpose_infer::models::ModelStore;
use cloudpose_infer::task::TaskEntry;
use serde_json::{Value, json};

use crate::{
    folder::{Folder, LABELS, kite_json, pipeline, skeleton_of},
    painting,
};

/// Why `model` of a folder cannot be had, whether it is told for the folder or for the model.
fn refusal(folder: &Folder, model: &str) -> String {
    let loaded = folder.models().and_then(|models| models.get(&model.parse().unwrap()));
    loaded.expect_err("the manifest says what cannot be").to_string()
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

/// The built-in Lightning, said to find 33 keypoints.
fn lightning_of_33() -> Folder {
    Folder::changed(|folder, manifest| {
        let store = ModelStore::embedded();
        let (entry, file) = store.read(&"lightning".parse().unwrap()).unwrap();
        std::fs::write(folder.path().join(&entry.file), file).unwrap();
        let skeleton = serde_json::from_value(skeleton_of(33)).unwrap();
        let entry = cloudpose_infer::models::Entry {
            task: TaskEntry { skeleton: Some(skeleton), ..TaskEntry::default() },
            ..entry.clone()
        };
        manifest.models.insert(0, entry);
    })
}

#[test]
fn a_skeleton_has_as_many_keypoints_as_the_weights() {
    assert_says(&refusal(&lightning_of_33(), "lightning"), &["lightning", "[96, 17]", "[96, 33]"]);
    let folder = Folder::changed(|folder, manifest| {
        let colours = painting::JOINTS.concat();
        let config = json!({"side": 64, "gap": 64});
        for (name, keypoints) in [("more", 33), ("fewer", 4)] {
            let skeleton = ("skeleton", skeleton_of(keypoints));
            manifest.models.push(folder.entry(name, "blobs", config.clone(), skeleton, &colours));
        }
    });
    assert_says(&refusal(&folder, "more"), &["more", "find 5 keypoints", "names 33 keypoints"]);
    assert_says(&refusal(&folder, "fewer"), &["fewer", "find 5 keypoints", "names 4 keypoints"]);
    folder.models().unwrap().get(&"tiny".parse().unwrap()).expect("the others can be had");
}

#[test]
fn every_class_has_a_label_and_every_model_its_own_task() {
    let folder = Folder::changed(|folder, manifest| {
        let matrix = [0; 36];
        let labels = ("labels", json!(&LABELS[..2]));
        manifest.models.push(folder.entry("two", "hues", json!({}), labels, &matrix));
        let skeleton = ("skeleton", kite_json());
        manifest.models.push(folder.entry("wrong", "hues", json!({}), skeleton, &matrix));
    });
    assert_says(&refusal(&folder, "two"), &["two", "find 3 classes", "names 2 classes"]);
    assert_says(&refusal(&folder, "wrong"), &["wrong", "find 3 classes", "names 5 keypoints"]);
}

#[test]
fn the_command_line_says_it_too() {
    let folder = lightning_of_33();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpose"));
        let done = command.args(arguments).arg("--model-dir").arg(folder.path()).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    };
    let (well, said) = run(&["serve", "--listen", "127.0.0.1:0", "--device", "cpu", "--model", "lightning"]);
    assert!(!well, "{said}");
    assert_says(&said, &["lightning", "[96, 33]"]);
    // A binary without the newcomers' families names those that it has.
    let (well, said) = run(&["models", "verify"]);
    assert!(!well, "{said}");
    assert_says(&said, &["lightning  BAD", "[96, 33]", "tiny       BAD", "\"blobs\"", "movenet"]);
}

#[test]
fn an_entry_names_a_family_and_a_skeleton_that_are_there() {
    let folder = Folder::changed(|_, manifest| manifest.models[0].family = "bubbles".into());
    assert_says(&refusal(&folder, "tiny"), &["tiny", "\"bubbles\"", "movenet, blobs, hues"]);
    let folder = Folder::changed(|_, manifest| {
        manifest.models[0].task.skeleton = Some(serde_json::from_value(json!("halpe-26")).unwrap());
    });
    assert_says(&refusal(&folder, "tiny"), &["tiny", "halpe-26 is not built in"]);
    let folder = Folder::changed(|_, manifest| manifest.models[0].config = Value::Null);
    assert_says(&refusal(&folder, "tiny"), &["tiny", "Config"]);
}

#[test]
fn a_name_is_one_models() {
    let folder = Folder::changed(|_, manifest| manifest.models[0].name = "hue".parse().unwrap());
    assert_says(&refusal(&folder, "close"), &["hue", "two models have this name"]);
    let folder = Folder::changed(|_, manifest| manifest.pipelines.push(pipeline("hue", &["tiny"])));
    assert_says(&refusal(&folder, "close"), &["hue", "two models have this name"]);
}

#[test]
fn a_pipelines_stages_find_persons_and_are_there() {
    for (stages, words) in [
        (&["sheets", "giant"][..], &["giant is no model of this manifest"][..]),
        // One level is enough to look closer.
        (&["closer", "tiny"], &["closer is no model of this manifest"]),
        (&[], &["at least one"]),
        (&["sheets", "hue"], &["hue finds no persons"]),
        (&["hue", "close"], &["hue finds no persons"]),
    ] {
        let folder = Folder::changed(|_, manifest| manifest.pipelines.push(pipeline("odd", stages)));
        assert_says(&refusal(&folder, "odd"), &[&["odd"], words].concat());
    }
    let alone = Folder::changed(|_, manifest| manifest.pipelines.push(pipeline("colour", &["hue"])));
    assert!(alone.models().unwrap().served(&"colour".parse().unwrap()).is_ok());
}
