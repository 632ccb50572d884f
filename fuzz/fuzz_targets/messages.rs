//! What others on NATS say: the JSON of each kind of message, and events drawn as an annotate worker draws them.
#![no_main]

use std::cell::RefCell;

use cloudpose_annotate::{Annotator, Style};
use cloudpose_pixels::{PlanarImage, Subsampling};
use cloudpose_wire::{
    FrameHeader, FrameResult, News, SharedEvent, Skeleton, TraceParent, View, model::Announcement,
    ws::ClientMessage,
};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde::{Serialize, de::DeserializeOwned};

thread_local! {
    static ANNOTATOR: RefCell<Annotator> = RefCell::new(Annotator::new(Style::default()).expect("there is memory"));
}

/// What is read can be written and read again.
fn there_and_back<T: DeserializeOwned + Serialize>(json: &str) -> Option<T> {
    let read = serde_json::from_str::<T>(json).ok()?;
    let written = serde_json::to_string(&read).expect("our own types are JSON");
    let again = serde_json::from_str::<T>(&written).expect("what is written can be read");
    assert_eq!(serde_json::to_string(&again).expect("our own types are JSON"), written);
    Some(read)
}

fn draw(event: &SharedEvent) {
    let Ok(event) = event.event() else { return };
    let Some((_, persons)) = event.output.poses() else { return };
    let skeleton = Skeleton::coco_17();
    if persons.iter().all(|person| person.keypoints.len() == skeleton.keypoints().len()) {
        let mut picture = PlanarImage::default();
        picture.resize(64, 48, Subsampling::S420);
        ANNOTATOR.with_borrow_mut(|annotator| {
            annotator
                .annotate_decoded(&mut picture, Some((&skeleton, persons)), 80)
                .expect("it can be drawn on");
        });
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((kind, Ok(json))) = bytes.split_first().map(|(kind, json)| (kind, str::from_utf8(json))) else {
        return Corpus::Reject;
    };
    match kind % 8 {
        0 => drop(there_and_back::<FrameHeader>(json)),
        1 => drop(there_and_back::<FrameResult>(json)),
        2 => {
            there_and_back::<SharedEvent>(json).iter().for_each(draw);
        }
        3 => drop(there_and_back::<News>(json)),
        4 => drop(there_and_back::<View>(json)),
        5 => drop(there_and_back::<Announcement>(json)),
        6 => drop(serde_json::from_str::<ClientMessage>(json)),
        _ => drop(json.parse::<TraceParent>()),
    }
    Corpus::Keep
});
