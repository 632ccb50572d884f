//! The existing API: the shapes its clients know, byte for byte.

use base64::{Engine, prelude::BASE64_STANDARD};
use cloudpose_ingest::Config;
use cloudpose_wire::{Event, Output};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::stage::{JPEG, Server, event, overlay, soon};

const DETECT: &str = "/api/pose_detection";
const ANNOTATE: &str = "/api/pose_detection_annotation";

async fn send(request: RequestBuilder) -> (u16, String) {
    let response = soon(request.send()).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn post(server: &Server, path: &str, body: &Value) -> (u16, String) {
    send(Client::new().post(server.url(path)).json(body)).await
}

async fn post_text(server: &Server, kind: &str, body: &str) -> (u16, Value) {
    let request = Client::new().post(server.url(DETECT)).header("content-type", kind).body(body.to_owned());
    let (status, text) = send(request).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn detection_has_the_fields_in_their_order() {
    let server = Server::with_worker(Config::default()).await;
    let body = json!({ "id": "any id/\u{e9}", "image": BASE64_STANDARD.encode(JPEG) });
    let (status, text) = post(&server, DETECT, &body).await;
    assert_eq!(status, 200, "{text}");
    let head = "{\"id\":\"any id/\u{e9}\",\"count\":1,\
        \"boxes\":[{\"x\":1.0,\"y\":2.0,\"width\":3.5,\"height\":4.0,\"probability\":0.75}],\
        \"keypoints\":[[[0.0,0.0,0.5],[0.0625,0.16666667,0.5],[0.125,0.33333334,0.5],";
    let tail = "[1.0,2.6666667,0.5]]],\
        \"speed_preprocess\":2.5,\"speed_inference\":10.0,\"speed_postprocess\":0.25}";
    assert!(text.starts_with(head), "{text}");
    assert!(text.ends_with(tail), "{text}");
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["keypoints"][0].as_array().unwrap().len(), 17);
}

#[tokio::test]
async fn annotation_has_the_fields_in_their_order() {
    let server = Server::with_worker(Config::default()).await;
    let body = json!({ "id": "7", "image": BASE64_STANDARD.encode(JPEG) });
    let (status, text) = post(&server, ANNOTATE, &body).await;
    let expected = format!("{{\"id\":\"7\",\"image\":\"{}\"}}", BASE64_STANDARD.encode(overlay(1)));
    assert_eq!((status, text), (200, expected));
}

#[tokio::test]
async fn what_is_not_cocos_is_not_passed_off_as_it() {
    let server = Server::start(Config::default()).await;
    let body = json!({ "id": "7", "image": BASE64_STANDARD.encode(JPEG) });
    for (output, found) in [
        (Output::Poses { skeleton: "kite-5".parse().unwrap(), persons: Vec::new() }, "kite-5"),
        (Output::Classes(Vec::new()), "classes"),
    ] {
        for path in [DETECT, ANNOTATE] {
            let work = async {
                let delivery = server.frame().await;
                let header = &delivery.frame.header;
                let event = Event { output: output.clone(), ..event(header) };
                server.bus.reply(header.done(event.into(), Some(overlay(1)))).await.unwrap();
                delivery.ack().await;
            };
            let ((status, text), ()) = tokio::join!(post(&server, path, &body), work);
            let problem: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((status, &problem["type"]), (409, &json!("urn:cloudpose:problem:other-skeleton")));
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(found)), "{text}");
        }
    }
}

#[tokio::test]
async fn any_string_is_an_id() {
    let server = Server::with_worker(Config::default()).await;
    for id in ["", " ", "a.b/c?d", "\u{0}\n\"\\", "\u{1f9cd}", &"x".repeat(1000)] {
        let body = json!({ "id": id, "image": BASE64_STANDARD.encode(JPEG) });
        for path in [DETECT, ANNOTATE] {
            let (status, text) = post(&server, path, &body).await;
            assert_eq!(status, 200, "{id:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], id);
        }
    }
}

#[tokio::test]
async fn what_is_no_image_is_refused_in_the_old_words() {
    let server = Server::with_worker(Config::default()).await;
    let cut = BASE64_STANDARD.encode(&JPEG[..JPEG.len() - 30]);
    for image in ["", "!!!", "aGVsbG8=", &cut] {
        let (status, text) = post(&server, DETECT, &json!({ "id": "a", "image": image })).await;
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &problem["detail"]), (400, &json!("Invalid base64 image")), "{image}");
        assert_eq!(problem["status"], 400);
        assert!(problem["type"].is_string() && problem["title"].is_string());
    }
}

#[tokio::test]
async fn body_of_the_wrong_shape_is_refused_as_fastapi_does() {
    let server = Server::with_worker(Config::default()).await;
    let missing = |field: &str| json!({ "type": "missing", "loc": ["body", field], "msg": "Field required" });
    let no_string = |field: &str| json!({ "type": "string_type", "loc": ["body", field], "msg": "Input should be a valid string" });
    let no_object = json!([{
        "type": "model_attributes_type",
        "loc": ["body"],
        "msg": "Input should be a valid dictionary or object to extract fields from",
    }]);
    for (body, detail) in [
        (r#"{"id":"a"}"#, json!([missing("image")])),
        ("{}", json!([missing("id"), missing("image")])),
        (r#"{"id":1,"image":null}"#, json!([no_string("id"), no_string("image")])),
        ("[1]", no_object.clone()),
        ("null", no_object.clone()),
        ("", json!([{ "type": "missing", "loc": ["body"], "msg": "Field required" }])),
    ] {
        assert_eq!(
            post_text(&server, "application/json", body).await,
            (422, json!({ "detail": detail })),
            "{body}"
        );
    }
    let whole = r#"{"id":"a","image":"x"}"#;
    assert_eq!(post_text(&server, "text/plain", whole).await, (422, json!({ "detail": no_object })));
    let (status, invalid) = post_text(&server, "application/json", "{\n  bad").await;
    assert_eq!((status, &invalid["detail"][0]["type"]), (422, &json!("json_invalid")));
    assert_eq!(invalid["detail"][0]["loc"], json!(["body", 4]));
    assert!(invalid["detail"][0]["ctx"]["error"].is_string());
}

#[tokio::test]
async fn other_troubles_have_a_detail_too() {
    const LIMIT: usize = 10_000;
    let server = Server::with_worker(Config { max_image_bytes: LIMIT, ..Config::default() }).await;
    let body = json!({ "id": "a", "image": BASE64_STANDARD.encode(vec![0; 100 * LIMIT]) });
    let (status, text) = post(&server, DETECT, &body).await;
    assert_eq!(status, 413);
    assert!(serde_json::from_str::<Value>(&text).unwrap()["detail"].is_string());
    let (status, text) = send(Client::new().get(server.url(DETECT))).await;
    assert_eq!(status, 405);
    assert!(serde_json::from_str::<Value>(&text).unwrap()["detail"].is_string());
}
