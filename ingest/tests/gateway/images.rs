//! Thumbnails of jobs, and the calls of the existing image service.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudpose_ingest::Config;
use cloudpose_wire::Draw;
use reqwest::multipart::Form;
use serde_json::{Value, json};

use crate::{
    jobs::{Store, accepted, done, form, get, refused, status},
    stage::{JPEG, PNG, Server, event, soon},
};

/// A picture of 300 × 100 pixels, larger than a thumbnail.
fn wide() -> Vec<u8> {
    let image = cloudpose_pixels::PlanarImage::new(300, 100, cloudpose_pixels::Subsampling::S420);
    cloudpose_pixels::Encoder::new().unwrap().encode(&image, 80).unwrap().to_vec()
}

fn size(jpeg: &[u8]) -> (u32, u32) {
    let header = cloudpose_pixels::probe(jpeg, cloudpose_pixels::Limits::default()).unwrap();
    (header.width, header.height)
}

#[tokio::test]
async fn an_image_of_a_job_has_a_thumbnail() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let wide: &'static [u8] = wide().leak();
    let job = accepted(&server, "", &[("a", wide), ("b", b"no image"), ("c", PNG)]).await;
    let thumbnail = async |item| get(&server, &format!("{job}/items/{item}/thumbnail")).await;
    let first = thumbnail(1).await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["content-type"]),
        (200, &"image/jpeg".parse().unwrap())
    );
    assert_eq!(size(&first.bytes().await.unwrap()), (200, 67));
    assert_eq!(size(&thumbnail(3).await.bytes().await.unwrap()), (16, 12));
    refused(thumbnail(2).await, 422, "undecodable-image").await;
    refused(thumbnail(4).await, 404, "no-job").await;
}

#[tokio::test]
async fn no_thumbnail_shows_what_the_gateway_may_not() {
    let store = Store::new();
    let freely = Server::with_worker(store.config()).await;
    let old = accepted(&freely, "?want=overlay", &[("a", JPEG)]).await;
    done(&freely, &old).await;
    assert_eq!(get(&freely, &format!("{old}/items/1/overlay")).await.status(), 200);
    freely.stop().await;

    let config = Config { draw_only: Some(Draw::Skeleton), ..store.config() };
    let server = Server::start(config).await;
    for picture in ["overlay", "thumbnail"] {
        // It was drawn before that was forbidden.
        refused(get(&server, &format!("{old}/items/1/{picture}")).await, 404, "no-picture").await;
    }
    let job = accepted(&server, "?want=overlay", &[("a", JPEG)]).await;
    refused(get(&server, &format!("{job}/items/1/thumbnail")).await, 404, "no-picture").await;
    let delivery = server.frame().await;
    let header = &delivery.frame.header;
    assert_eq!(header.draw, Draw::Skeleton);
    server.bus.reply(header.done(event(header).into(), Some(wide().into()))).await.unwrap();
    delivery.ack().await;
    done(&server, &job).await;
    let shown = get(&server, &format!("{job}/items/1/thumbnail")).await;
    assert_eq!(size(&shown.bytes().await.unwrap()), (200, 67), "it is of what was drawn");
}

#[tokio::test]
async fn clients_of_the_existing_image_service_are_served() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let client = reqwest::Client::new();
    let upload =
        async |form: Form| soon(client.post(server.url("/upload")).multipart(form).send()).await.unwrap();
    let wide: &'static [u8] = wide().leak();
    let taken = upload(form(&[("a.jpg", wide)])).await;
    assert_eq!(taken.status(), 200);
    let taken: Value = taken.json().await.unwrap();
    assert_eq!(taken.as_object().unwrap().keys().collect::<Vec<_>>(), ["duration", "image_id", "message"]);
    assert!(taken["duration"].as_f64().unwrap() >= 0.0);
    let address = format!("/status/{}", taken["image_id"].as_str().unwrap());
    let told = status(&server, &address).await;
    let expected =
        json!({"image_id": taken["image_id"], "status": "processing", "result": null, "processed_at": null});
    assert_eq!(told, expected);
    server.work().await;
    let told = soon(async {
        loop {
            let told = status(&server, &address).await;
            if told["status"] != "processing" {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!((&told["status"], &told["result"]["success"]), (&json!("completed"), &json!(true)), "{told}");
    assert_eq!(
        (&told["result"]["original_size"], &told["result"]["thumbnail_size"]),
        (&json!([300, 100]), &json!([200, 67]))
    );
    let jpeg = STANDARD.decode(told["result"]["thumbnail"].as_str().unwrap()).unwrap();
    assert_eq!(size(&jpeg), (200, 67));
    assert!(told["processed_at"].as_str().unwrap().ends_with('Z'), "{told}");

    for (refused, status) in [
        (upload(Form::new().text("other", "x")).await, 400),
        (upload(form(&[("a", b"no image")])).await, 400),
        (soon(client.post(server.url("/upload")).body("x").send()).await.unwrap(), 400),
        (get(&server, "/status/nobody").await, 404),
        (get(&server, "/status/no.name").await, 404),
    ] {
        assert_eq!(refused.status(), status);
        let error: Value = refused.json().await.unwrap();
        assert_eq!(error.as_object().unwrap().len(), 1);
        assert!(error["error"].is_string(), "{error}");
    }
}
