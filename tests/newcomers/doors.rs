//! Newcomers through the gateway's doors, all roles in one process.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use cloudpose_testing::soon;
use cloudpose_wire::{Class, Event, Output, ws::ErrorCode};
use serde_json::{Value, json};

use crate::{
    folder::{LABELS, WEIGHT, kite_json},
    house::{House, Session},
    painting::{DARK, Painting, Seen, joints, joints_at, kite_at},
};

const MIDDLE: [i32; 2] = [150, 110];

/// Asserts that the picture shows one kite, around `middle`.
fn finds_kite(event: &Event, middle: [i32; 2]) {
    let Output::Poses { skeleton, persons } = &event.output else { panic!("{event:?}") };
    assert_eq!((skeleton.as_str(), persons.len()), ("kite-5", 1));
    let names: Vec<&str> = persons[0].keypoints.iter().map(|keypoint| keypoint.name.as_str()).collect();
    assert_eq!(names, ["top", "left", "right", "middle", "bottom"]);
    assert_eq!(joints(&persons[0]), joints_at(middle));
}

#[tokio::test]
async fn models_are_listed_with_what_they_find() {
    let house = House::start("tiny").await;
    let list = house.models().await;
    assert_eq!(list["default"], "tiny");
    let of = |field: &str| -> Vec<Value> {
        list["models"].as_array().unwrap().iter().map(|model| model[field].clone()).collect()
    };
    assert_eq!(of("id"), ["closer", "tiny", "kites", "sheets", "close", "hue"]);
    assert_eq!(of("task"), ["pose", "pose", "pose", "pose", "pose", "classify"]);
    assert_eq!([&of("skeleton")[0], &of("skeleton")[1]], [&kite_json(), &kite_json()]);
    assert_eq!(of("labels")[5], json!(LABELS));
}

#[tokio::test]
async fn a_still_tells_the_joints_where_they_were_painted() {
    let house = House::start("tiny").await;
    let event = house.event("", kite_at(MIDDLE)).await;
    assert_eq!((event.model.as_str(), event.width, event.height), ("tiny", 320, 240));
    finds_kite(&event, MIDDLE);
    let bare = house.event("", Painting::new(320, 240, DARK).jpeg()).await;
    assert_eq!(bare.output.persons(), []);
}

#[tokio::test]
async fn a_still_comes_back_with_the_limbs_of_its_skeleton() {
    let house = House::start("tiny").await;
    let jpeg = house.picture("?quality=100", kite_at(MIDDLE)).await;
    Seen::new(&jpeg).shows_kite(MIDDLE);
}

#[tokio::test]
async fn a_stream_has_ids_poses_and_pictures() {
    let house = House::start("tiny").await;
    let mut session = Session::open(&house, "want=both&mode=complete&smooth=false&quality=100").await;
    let way: Vec<[i32; 2]> = (0..8).map(|n| [150 + 5 * n, 110 - 5 * (n % 3)]).collect();
    for &middle in &way {
        session.image(kite_at(middle)).await;
        let (event, picture) = session.result().await;
        let event = event.unwrap();
        finds_kite(&event, middle);
        Seen::new(&picture.unwrap()).shows_kite(middle);
        let known = event.seq > 3;
        assert_eq!(event.output.persons()[0].track_id, known.then_some(1), "frame {}", event.seq);
    }
}

#[tokio::test]
async fn a_stream_of_poses_alone_changes_its_model_underway() {
    let house = House::start("tiny").await;
    let mut session = Session::open(&house, "want=pose&mode=complete").await;
    for (model, is_kite) in [("tiny", true), ("hue", false), ("tiny", true)] {
        session.text(&json!({"type": "configure", "model": model}).to_string()).await;
        session.image(kite_at(MIDDLE)).await;
        let (event, picture) = session.result().await;
        let event = event.unwrap();
        assert_eq!((event.model.as_str(), picture), (model, None));
        match event.output {
            Output::Poses { .. } if is_kite => finds_kite(&event, MIDDLE),
            Output::Classes(classes) if !is_kite => assert_eq!(classes.len(), LABELS.len()),
            other => panic!("{model} found {other:?}"),
        }
    }
}

#[tokio::test]
async fn classes_come_by_their_score_and_leave_the_picture_as_it_is() {
    let house = House::start("tiny").await;
    let green = || Painting::new(64, 64, [0, 255, 0]).jpeg();
    let event = house.event("?model=hue", green()).await;
    let Output::Classes(classes) = &event.output else { panic!("{event:?}") };
    let sure = WEIGHT.exp() / (WEIGHT.exp() + 2.0);
    assert_eq!(classes[0].label, "green");
    assert!((classes[0].score - sure).abs() < 0.005, "{classes:?}, not {sure}");
    assert!((classes.iter().map(|class: &Class| class.score).sum::<f32>() - 1.0).abs() < 1e-5, "{classes:?}");
    let drawn = house.picture("?model=hue", kite_at(MIDDLE)).await;
    let seen = Seen::new(&drawn);
    assert_eq!(seen.size(), [320, 240]);
    assert!(seen.is_bare([150, 80]), "a classifier draws no limbs");
}

#[tokio::test]
async fn an_image_is_classified_by_the_model_that_can() {
    let house = House::start("tiny").await;
    let green = || Painting::new(64, 64, [0, 255, 0]).jpeg();
    let post = async |path: &str, image: Bytes| {
        let request = reqwest::Client::new().post(house.url(path)).header("content-type", "image/jpeg");
        let answer = soon(request.body(image).send()).await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for (query, labels) in [
        ("", vec!["green", "red", "blue"]),
        ("?model=hue&top=1", vec!["green"]),
        ("?top=1000", vec!["green", "red", "blue"]),
    ] {
        let (status, event) = post(&format!("/v1/classify{query}"), green()).await;
        assert_eq!((status, &event["model"]), (200, &json!("hue")), "{query}: {event}");
        let classes = event["classes"].as_array().unwrap();
        let told: Vec<&str> = classes.iter().map(|class| class["label"].as_str().unwrap()).collect();
        assert_eq!((told[0], told.len()), (labels[0], labels.len()), "{query}");
        assert!(classes[0]["score"].as_f64().unwrap() > 0.9, "{query}: {event}");
        assert!(event.get("persons").is_none());
    }
    for (query, status, kind) in [
        ("?model=tiny", 409, "other-task"),
        ("?model=giant", 404, "unknown-model"),
        ("?top=0", 400, "bad-query"),
        ("?top=1001", 400, "bad-query"),
        ("?quality=3", 400, "bad-query"),
    ] {
        let (got, problem) = post(&format!("/v1/classify{query}"), green()).await;
        assert_eq!(
            (got, &problem["type"]),
            (status, &json!(format!("urn:cloudpose:problem:{kind}"))),
            "{query}"
        );
    }
}

#[tokio::test]
async fn the_existing_call_is_told_one_class() {
    let house = House::start("hue").await;
    let form = |name: &'static str| {
        let image = Painting::new(64, 64, [0, 0, 255]).jpeg().to_vec();
        reqwest::multipart::Form::new().part(name, reqwest::multipart::Part::bytes(image))
    };
    let predict = async |name| {
        let request = reqwest::Client::new().post(house.url("/predict")).multipart(form(name));
        let answer = soon(request.send()).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(predict("file").await, (200, r#"{"predict":"blue"}"#.to_owned()));
    let (status, problem) = predict("picture").await;
    assert_eq!(status, 422);
    assert!(problem.contains("no field `file`"), "{problem}");
}

#[tokio::test]
async fn a_model_that_nobody_serves_is_told_with_those_that_are() {
    let house = House::start("tiny").await;
    let served = "use one of closer, tiny, kites, sheets, close, hue";
    let answer = house.post("?model=giant", "*/*", kite_at(MIDDLE)).await;
    assert_eq!(answer.status(), 404);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:cloudpose:problem:unknown-model");
    assert!(problem["detail"].as_str().unwrap().contains(served), "{problem}");
    let message = Session::open(&house, "model=giant").await.error(ErrorCode::BadQuery).await;
    assert!(message.contains(served), "{message}");
    let mut session = Session::open(&house, "mode=complete").await;
    session.text(r#"{"type":"configure","model":"giant"}"#).await;
    let message = session.error(ErrorCode::BadMessage).await;
    assert!(message.contains(served), "{message}");
    session.image(kite_at(MIDDLE)).await;
    finds_kite(&session.result().await.0.unwrap(), MIDDLE);
}

#[tokio::test]
async fn the_existing_api_does_not_pass_other_findings_off_as_cocos() {
    for (model, found) in [("tiny", "keypoints of the skeleton kite-5"), ("hue", "classes")] {
        let house = House::start(model).await;
        for path in ["/api/pose_detection", "/api/pose_detection_annotation"] {
            let image = BASE64_STANDARD.encode(kite_at(MIDDLE));
            let request = reqwest::Client::new().post(house.url(path));
            let answer = soon(request.json(&json!({"id": "7", "image": image})).send()).await.unwrap();
            assert_eq!(answer.status(), 409, "{model} {path}");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["type"], "urn:cloudpose:problem:other-skeleton");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(found) && detail.contains(model), "{detail}");
        }
    }
}
