//! What was found goes to clients as workers wrote it: a gateway does not read it, so it need not know the task.

use cloudpose_ingest::Config;
use cloudpose_testing::sample::{FOREIGN, foreign};
use futures_util::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::stage::{Client, JPEG, Server, overlay, soon};

#[tokio::test]
async fn a_sessions_client_gets_the_event_as_the_worker_wrote_it() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?want=both&max_age_ms=10000").await;
    client.image(JPEG).await;
    let frame = server.frame().await;
    server.bus.reply(frame.frame.header.done(foreign(), Some(overlay(1)))).await.unwrap();
    frame.ack().await;
    let Message::Text(result) = soon(client.0.next()).await.unwrap().unwrap() else { panic!("no result") };
    assert!(result.contains(&format!(r#""pose":{FOREIGN}"#)), "{result}");
    assert_eq!(soon(client.0.next()).await.unwrap().unwrap(), Message::Binary(overlay(1)));
    server.ledger(|ledger| ledger.delivered == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stills_client_gets_the_event_as_the_worker_wrote_it() {
    let server = Server::start(Config::default()).await;
    let post = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    let work = async {
        let frame = server.frame().await;
        server.bus.reply(frame.frame.header.done(foreign(), None)).await.unwrap();
        frame.ack().await;
    };
    let (answer, ()) = tokio::join!(soon(post.body(JPEG).send()), work);
    assert_eq!(soon(answer.unwrap().text()).await.unwrap(), FOREIGN);
    server.stop().await;
}
