//! A folder that changes while it is served.

use bytes::Bytes;
use cloudpose_infer::models::{Entry, Manifest};
use cloudpose_testing::soon;
use cloudpose_wire::{Event, Output};
use serde_json::{Value, json};

use crate::{
    folder::{Folder, skeleton_of},
    house::{House, Session},
    painting::{self, kite_at},
    pipelines::sheets,
};

/// Far more frames than are worked on until a change is noticed.
const ENOUGH: usize = 20_000;

/// The model `name`, which looks at so many pixels, made to find four joints, of another skeleton. Its file has another name,
/// as who still has to load the old one needs that.
fn smaller(folder: &Folder, name: &str, side: usize) -> Entry {
    let colours = painting::JOINTS[..4].concat();
    let config = json!({"side": side, "gap": side});
    let entry = folder.entry(&format!("{name}-4"), "blobs", config, ("skeleton", skeleton_of(4)), &colours);
    Entry { name: name.parse().unwrap(), ..entry }
}

fn replace(manifest: &mut Manifest, entry: Entry) {
    let known = manifest.models.iter_mut().find(|known| known.name == entry.name);
    *known.unwrap() = entry;
}

/// Asserts that the keypoints are those of the skeleton that the event names, and says which it is.
fn skeleton(event: &Event) -> String {
    let Output::Poses { skeleton, persons } = &event.output else { panic!("{event:?}") };
    let expected: &[&str] = match skeleton.as_str() {
        "kite-5" => &["top", "left", "right", "middle", "bottom"],
        "dots-4" => &["k0", "k1", "k2", "k3"],
        other => panic!("nobody serves {other}"),
    };
    let [person] = &persons[..] else { panic!("{event:?}") };
    let names: Vec<&str> = person.keypoints.iter().map(|keypoint| keypoint.name.as_str()).collect();
    assert_eq!(names, expected);
    skeleton.to_string()
}

/// Sends frames until one is found by the new model; each of them is answered, and drawn on if that is wanted.
async fn until_new(house: &House, query: &str, image: Bytes) {
    let mut session = Session::open(house, &format!("mode=complete&smooth=false&{query}")).await;
    // A frame that is lost is told, and waited for by nobody.
    session.text(r#"{"type": "configure", "drops": true}"#).await;
    for seq in 1..ENOUGH as u64 {
        session.image(image.clone()).await;
        let (event, picture) = session.result().await;
        let event = event.unwrap();
        assert_eq!(event.seq, seq, "no frame is lost");
        assert_eq!(picture.is_some(), query.contains("both"));
        if skeleton(&event) == "dots-4" {
            return;
        }
    }
    panic!("the change was not noticed");
}

#[tokio::test]
async fn a_model_changes_under_load_and_no_frame_is_lost_or_misnamed() {
    let house = House::start("tiny").await;
    let change = async {
        // Until the frames are under way.
        house.event("", kite_at([150, 110])).await;
        house.folder().change(|folder, manifest| {
            // Nobody has the old skeleton any more, but for frames under way.
            manifest.models.retain(|entry| entry.name.as_str() != "kites");
            replace(manifest, smaller(folder, "tiny", 64));
            replace(manifest, smaller(folder, "close", 40));
            let colours = [painting::WHITE; 3].concat();
            let config = json!({"side": 64, "gap": 2});
            let fresh = folder.entry("fresh", "blobs", config, ("skeleton", skeleton_of(3)), &colours);
            manifest.models.push(fresh);
        });
    };
    let kite = || kite_at([150, 110]);
    tokio::join!(
        until_new(&house, "want=pose", kite()),
        until_new(&house, "want=both", kite()),
        until_new(&house, "want=both&model=closer", sheets(&[240])),
        change
    );
    // Gateways hear of it.
    soon(async {
        loop {
            let models = house.models().await;
            let list = models["models"].as_array().unwrap();
            let names: Vec<&Value> = list.iter().map(|model| &model["id"]).collect();
            if names.contains(&&json!("fresh")) {
                assert!(!names.contains(&&json!("kites")));
                let of_4 = list.iter().filter(|model| model["skeleton"]["name"] == "dots-4");
                let of_4: Vec<&Value> = of_4.map(|model| &model["id"]).collect();
                assert_eq!(of_4, ["closer", "tiny", "close"]);
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let event = house.event("?model=fresh", sheets(&[240])).await;
    assert_eq!(event.model.as_str(), "fresh");
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let folder = Folder::new();
    let models = folder.models().unwrap();
    let tiny = "tiny".parse().unwrap();
    let before = models.get(&tiny).unwrap();
    assert!(!models.renew().unwrap(), "nothing has changed");
    let refused = |words: &str, change: &dyn Fn(&Folder, &mut Manifest)| {
        let kept = folder.store().manifest().clone();
        folder.change(change);
        let error = models.renew().unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        folder.change(|_, manifest| *manifest = kept);
    };
    refused("has 12 bytes", &|folder, manifest| {
        let entry = smaller(folder, "tiny", 64);
        replace(manifest, Entry { sha256: "0".repeat(64), ..entry });
    });
    refused("\"bubbles\"", &|folder, manifest| {
        replace(manifest, Entry { family: "bubbles".into(), ..smaller(folder, "tiny", 64) });
    });
    refused("kite-5 was another one before", &|_, manifest| {
        let mut other = skeleton_of(5);
        other["name"] = json!("kite-5");
        for entry in &mut manifest.models {
            if entry.name.as_str() != "sheets" && entry.name.as_str() != "hue" {
                entry.task.skeleton = Some(serde_json::from_value(other.clone()).unwrap());
            }
        }
    });
    refused("two models have this name", &|folder, manifest| {
        manifest.models.push(smaller(folder, "tiny", 64))
    });
    assert!(!models.renew().unwrap(), "the folder is as it was");
    assert!(std::sync::Arc::ptr_eq(&before, &models.get(&tiny).unwrap()));
    folder.change(|folder, manifest| replace(manifest, smaller(folder, "tiny", 64)));
    assert!(models.renew().unwrap());
    assert_eq!(models.get(&tiny).unwrap().finds().to_string(), "4 keypoints");
    let kites = "kites".parse().unwrap();
    assert_eq!(models.get(&kites).unwrap().finds().to_string(), "5 keypoints");
}
