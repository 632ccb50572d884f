//! Tickets, in the place of keys.

use cloudpose_bus::Bus;
use cloudpose_ingest::keys::Scope;
use cloudpose_testing::{NatsServer, sample::bus};
use cloudpose_wire::ws::ErrorCode;
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite};

use crate::{
    keys::{Keyed, key, with_keys},
    stage::{Client, Heard, JPEG, Server, soon},
};

const BOTH: &str = "both";

/// A gateway with a key for streams and for watching them, besides those of each scope.
async fn start() -> Keyed {
    let keyed = Keyed::start().await;
    keyed.file().add(key(BOTH, &[Scope::Stream, Scope::Watch], None)).unwrap();
    soon(async {
        while ask(&keyed.server, BOTH, "").await.0 == 401 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    keyed
}

/// Asks for a ticket.
async fn ask(server: &Server, secret: &str, body: impl Into<String>) -> (u16, Value) {
    let request = reqwest::Client::new().post(server.url("/v1/tickets")).bearer_auth(secret);
    let answer = soon(request.body(body.into()).send()).await.unwrap();
    let status = answer.status().as_u16();
    assert!(status != 201 || answer.headers()["cache-control"] == "no-store");
    (status, soon(answer.json()).await.unwrap())
}

async fn ticket(server: &Server, secret: &str, stream: Option<&str>) -> String {
    let body = stream.map_or(String::new(), |stream| json!({ "stream": stream }).to_string());
    let (status, answer) = ask(server, secret, body).await;
    assert_eq!((status, &answer["expires_in"]), (201, &json!(30)), "{answer}");
    answer["ticket"].as_str().unwrap().to_owned()
}

/// Opens a WebSocket, or says with which status it was refused.
async fn open(server: &Server, path: &str) -> Result<Client, u16> {
    match soon(connect_async(format!("ws://{}{path}", server.address))).await {
        Ok((socket, _)) => Ok(Client(socket)),
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The status with which pictures of a stream that is not live are refused.
async fn pictures(server: &Server, ticket: &str) -> u16 {
    let url = server.url(&format!("/v1/streams/none.mjpeg?fps=2&ticket={ticket}"));
    soon(reqwest::get(url)).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_ticket_lets_in_once_for_what_its_key_is_for() {
    let keyed = start().await;
    let server = &keyed.server;
    let good = ticket(server, BOTH, None).await;
    let address = format!("/v1/stream?want=pose&ticket={good}");
    let mut client = open(server, &address).await.unwrap();
    assert!(matches!(client.next().await, Heard::Message(_)));
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 1);
    assert_eq!(open(server, &address).await.err(), Some(401), "it was used");

    // 404: it was let in, and there is no such stream.
    let good = ticket(server, BOTH, None).await;
    assert_eq!([pictures(server, &good).await, pictures(server, &good).await], [404, 401]);
    assert_eq!(pictures(server, &ticket(server, "stream", None).await).await, 403);
    assert_eq!(
        open(server, &format!("/v1/stream?ticket={}", ticket(server, "photo", None).await)).await.err(),
        Some(403)
    );
    for wrong in ["", BOTH, "cpt_x", "cpt_x.y", "cpt_.", "cpt_%00.y"] {
        assert_eq!(pictures(server, wrong).await, 401, "{wrong}");
    }
    // Where keys can be sent, a ticket counts for nothing.
    let good = ticket(server, BOTH, None).await;
    let listed = soon(reqwest::get(server.url(&format!("/v1/streams?ticket={good}")))).await.unwrap();
    assert_eq!(listed.status(), 401);
}

#[tokio::test]
async fn a_ticket_for_one_stream_is_for_no_other() {
    let keyed = start().await;
    let server = &keyed.server;
    for (path, status) in
        [("?stream=door&ticket=", None), ("?stream=gate&ticket=", Some(401)), ("?ticket=", Some(401))]
    {
        let good = ticket(server, BOTH, Some("door")).await;
        let opened = open(server, &format!("/v1/stream{path}{good}")).await;
        assert_eq!(opened.err(), status, "{path}");
    }
    let good = ticket(server, BOTH, Some("door")).await;
    assert_eq!(pictures(server, &good).await, 401);
    for (body, status) in [("{", 400), (r#"{"stream":"a b"}"#, 400), (r#"{"for":"x"}"#, 400), ("{}", 201)] {
        assert_eq!(ask(server, BOTH, body).await.0, status, "{body}");
    }
    assert_eq!(ask(server, BOTH, " ".repeat(5000)).await.0, 413);
}

#[tokio::test]
async fn a_session_by_ticket_ends_with_its_key() {
    let keyed = start().await;
    let good = ticket(&keyed.server, BOTH, None).await;
    let unused = ticket(&keyed.server, BOTH, None).await;
    let mut client = open(&keyed.server, &format!("/v1/stream?ticket={good}")).await.unwrap();
    assert!(matches!(client.next().await, Heard::Message(_)));
    keyed.file().revoke(&"acme".parse().unwrap(), &BOTH.parse().unwrap()).unwrap();
    client.error(ErrorCode::Unauthorized).await;
    assert_eq!(client.next().await, Heard::Closed(4401));
    assert_eq!(open(&keyed.server, &format!("/v1/stream?ticket={unused}")).await.err(), Some(401));
}

/// Two gateways of one deployment.
async fn at_another(here: Bus, there: Bus) {
    let keyed = start().await;
    let [here, there] = [here, there].map(|bus| Server::with_bus(with_keys(&keyed.folder), bus));
    let (here, there) = (here.await, there.await);
    let good = ticket(&here, BOTH, None).await;
    // It may not listen yet to others.
    soon(async { while pictures(&there, &ticket(&here, BOTH, None).await).await != 404 {} }).await;
    assert_eq!(pictures(&there, &good).await, 404);
    for gateway in [&here, &there] {
        assert_eq!(pictures(gateway, &good).await, 401, "it was used");
    }
    let good = ticket(&here, BOTH, None).await;
    here.stop().await;
    assert_eq!(pictures(&there, &good).await, 401, "its gateway is gone");
}

#[tokio::test]
async fn a_ticket_is_good_at_another_gateway_of_a_process() {
    let bus = Bus::local(Default::default());
    at_another(bus.clone(), bus).await;
}

#[tokio::test]
async fn a_ticket_is_good_at_another_gateway_over_nats() {
    let nats = NatsServer::start();
    let bus = async || bus(&nats, Default::default()).await;
    at_another(bus().await, bus().await).await;
}

#[tokio::test]
async fn where_nobody_is_asked_a_ticket_changes_nothing() {
    let server = Server::with_worker(Default::default()).await;
    let given = ticket(&server, "whatever", None).await;
    for shown in [&given[..], &given, "nonsense"] {
        assert!(open(&server, &format!("/v1/stream?ticket={shown}")).await.is_ok());
    }
}
