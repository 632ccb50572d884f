//! The calls of Roboflow's inference-sdk, on the wire.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudpose_ingest::Config;
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    oip,
    stage::{JPEG, soon},
};

#[tokio::test]
async fn persons_are_predictions_with_boxes_by_their_centre() {
    let server = oip::server(Config::default()).await;
    let ask = async |path: &str, body: Value| -> (u16, Value) {
        let answer = soon(Client::new().post(server.url(path)).json(&body).send()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let image = json!({ "type": "base64", "value": STANDARD.encode(JPEG) });
    let body =
        json!({ "model_id": "fast", "image": image, "api_key": "cpk_secret", "keypoint_confidence": 0.9 });
    let (status, told) = ask("/infer/object_detection", body.clone()).await;
    assert_eq!((status, &told["image"]), (200, &json!({ "width": 16, "height": 12 })));
    let found = &told["predictions"][0];
    assert_eq!((&found["x"], &found["y"]), (&json!(2.75), &json!(4.0)));
    assert_eq!(
        (&found["width"], &found["class"], &found["class_id"]),
        (&json!(3.5), &json!("person"), &json!(0))
    );
    assert!(found.get("keypoints").is_none());

    let two = json!({ "model_id": "fast", "image": [image, image], "confidence": "best" });
    let (status, told) = ask("/infer/keypoints_detection", two).await;
    assert_eq!((status, told.as_array().unwrap().len()), (200, 2));
    let points = told[1]["predictions"][0]["keypoints"].as_array().unwrap();
    assert_eq!(
        (points.len(), &points[0]["class"], &points[16]["class_id"]),
        (17, &json!("nose"), &json!(16))
    );
    let (_, told) = ask("/infer/keypoints_detection", body).await;
    assert_eq!(told["predictions"][0]["keypoints"], json!([]), "those below are left out");

    let nobody = json!({ "model_id": "fast", "image": image, "class_filter": ["dog"] });
    assert_eq!(ask("/infer/keypoints_detection", nobody).await.1["predictions"], json!([]));
    for (path, body, status, word) in [
        ("/infer/classification", json!({ "model_id": "fast", "image": image }), 409, "finds poses"),
        ("/infer/object_detection", json!({ "model_id": "yolo/1", "image": image }), 404, "no model's name"),
        (
            "/infer/object_detection",
            json!({ "model_id": "fast", "image": { "type": "url", "value": "http://a" } }),
            400,
            "base64",
        ),
        (
            "/infer/object_detection",
            json!({ "model_id": "fast", "image": image, "confidence": 2 }),
            400,
            "0 to 1",
        ),
        ("/model/add", json!({ "model_id": "yolo" }), 404, "use one of fast"),
        ("/model/remove", json!({ "model_id": "fast" }), 409, "stay"),
        ("/model/clear", json!({}), 409, "stay"),
    ] {
        let (told, problem) = ask(path, body).await;
        assert_eq!(told, status, "{path}: {problem}");
        assert!(problem["message"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
    let (status, models) = ask("/model/add", json!({ "model_id": "fast", "api_key": null })).await;
    assert_eq!((status, &models["models"][0]["task_type"]), (200, &json!("keypoint-detection")));
    server.stop().await;
}
