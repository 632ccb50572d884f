//! Clients that hold what others need: connections, seats, memory.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_ingest::Config;
use cloudpose_wire::ws::ErrorCode;
use futures_util::SinkExt as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use crate::stage::{Client, Heard, JPEG, Server, event, soon};

const SHORT: Duration = Duration::from_secs(1);

async fn connect(server: &Server) -> TcpStream {
    soon(TcpStream::connect(server.address)).await.unwrap()
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    soon(stream.write_all(bytes)).await.unwrap();
}

/// What comes until the connection ends, however it ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _end = soon(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// A request for the annotated picture of an image.
fn request(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/pose HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\naccept: image/jpeg\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Answers the next frame with a picture of `len` bytes.
async fn draw(server: &Server, len: usize) {
    let delivery = server.frame().await;
    let header = &delivery.frame.header;
    let picture = Bytes::from(vec![0xFF; len]);
    server.bus.reply(header.done(event(header).into(), Some(picture))).await.unwrap();
    delivery.ack().await;
}

#[tokio::test]
async fn silence_and_half_a_head_are_cut_off() {
    let server = Server::with_worker(Config { head_timeout: SHORT, ..Config::default() }).await;
    let mut silent = connect(&server).await;
    let mut half = connect(&server).await;
    write(&mut half, b"POST /v1/pose HTTP/1.1\r\nhost: x\r\n").await;
    assert_eq!(rest(&mut silent).await, "");
    let told = rest(&mut half).await;
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("urn:cloudpose:problem:slow-head"), "{told}");
}

#[tokio::test]
async fn connection_that_has_asked_in_time_stays() {
    let server = Server::start(Config { head_timeout: SHORT, ..Config::default() }).await;
    let mut idle = connect(&server).await;
    let health = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    write(&mut idle, health).await;
    let mut begin = [0; 12];
    soon(idle.read_exact(&mut begin)).await.unwrap();
    let mut waiting = connect(&server).await;
    write(&mut waiting, &request(JPEG)).await;
    // When who came after them and asked for nothing is cut off, their time was over.
    assert_eq!(rest(&mut connect(&server).await).await, "");
    draw(&server, 10).await;
    soon(waiting.read_exact(&mut begin)).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    write(&mut idle, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(rest(&mut idle).await.contains("HTTP/1.1 200 "));
}

#[tokio::test]
async fn who_is_answered_before_all_is_read_is_told_that_it_was_the_last_answer() {
    let server = Server::start(Config::default()).await;
    let mut client = connect(&server).await;
    let body = vec![0; 8 << 20];
    let head = format!("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    write(&mut client, &[head.as_bytes(), &body].concat()).await;
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.expect("the connection is closed, and not reset");
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("connection: close\r\n"), "{answer}");

    // What little is unread costs no connection.
    let mut client = connect(&server).await;
    for _ in 0..3 {
        write(&mut client, b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        write(&mut client, b"body").await;
    }
    write(&mut client, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let answers = rest(&mut client).await;
    assert_eq!(answers.matches("HTTP/1.1 405 ").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
}

#[tokio::test]
async fn silent_clients_are_told_and_cut_off_while_others_are_waited_for() {
    let server = Server::start(Config::default()).await;
    let mut silent = connect(&server).await;
    let mut half = connect(&server).await;
    write(&mut half, b"POST /v1/pose HTTP/1.1\r\nhost: x\r\n").await;
    let mut body = connect(&server).await;
    let whole = request(JPEG);
    write(&mut body, &whole[..whole.len() - 10]).await;
    let mut kept = connect(&server).await;
    write(&mut kept, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = vec![0; 12];
    soon(kept.read_exact(&mut answer)).await.unwrap();
    let mut client = Client::greeted(&server, "").await;
    let mut asker = connect(&server).await;
    write(&mut asker, &whole).await;
    let delivery = server.frame().await;

    server.token.cancel();
    // Whoever is not cut off stays for a minute: the time for what is in flight.
    assert_eq!(rest(&mut silent).await + &rest(&mut half).await, "");
    assert!(!rest(&mut kept).await.contains("HTTP/1.1"));
    assert!(rest(&mut body).await.starts_with("HTTP/1.1 503 "));
    client.error(ErrorCode::ShuttingDown).await;
    assert_eq!(client.next().await, Heard::Closed(1001));
    // The one that had asked is answered.
    let header = &delivery.frame.header;
    server.bus.reply(header.done(event(header).into(), Some(Bytes::from_static(b"x")))).await.unwrap();
    delivery.ack().await;
    assert!(rest(&mut asker).await.starts_with("HTTP/1.1 200 "));
    server.stop().await;
    drop(client);
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_by_address() {
    for (config, status, kind) in [
        (Config { max_connections: 2, ..Config::default() }, "503 ", "urn:cloudpose:problem:no-room"),
        (
            Config { max_connections_per_address: 2, ..Config::default() },
            "429 ",
            "urn:cloudpose:problem:too-many-connections",
        ),
    ] {
        let server = Server::with_worker(config).await;
        // One of them a WebSocket.
        let kept = (connect(&server).await, Client::greeted(&server, "").await);
        let mut third = connect(&server).await;
        write(&mut third, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let told = rest(&mut third).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")) && told.contains(kind), "{told}");
        assert!(told.contains("\r\nretry-after: "), "{told}");
        drop(kept);
        soon(async {
            // Until the gateway has seen that they left.
            loop {
                let mut next = connect(&server).await;
                write(&mut next, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
                if rest(&mut next).await.starts_with("HTTP/1.1 200 ") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn half_a_body_takes_no_seat() {
    let server = Server::with_worker(Config { max_sessions: 1, ..Config::default() }).await;
    let whole = request(JPEG);
    let mut half = connect(&server).await;
    write(&mut half, &whole[..whole.len() - 10]).await;
    let answer = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    assert_eq!(soon(answer.body(JPEG).send()).await.unwrap().status(), 200);
    write(&mut half, &whole[whole.len() - 10..]).await;
    let mut begin = [0; 12];
    soon(half.read_exact(&mut begin)).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
}

#[tokio::test]
async fn seat_is_kept_until_the_answer_is_out_and_no_longer_than_it_is_read() {
    let config = Config { max_sessions: 1, write_timeout: SHORT, ..Config::default() };
    let server = Server::start(config).await;
    let mut deaf = connect(&server).await;
    write(&mut deaf, &request(JPEG)).await;
    draw(&server, 40 << 20).await;
    // It is being written, and not read.
    let begun = soon(deaf.read_u8()).await.unwrap();
    assert_eq!(begun, b'H');
    let other = || async {
        let request =
            reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "text/plain");
        soon(request.body("x").send()).await.unwrap().status().as_u16()
    };
    assert_eq!(other().await, 503);
    soon(async {
        while other().await != 415 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut rest = Vec::new();
    let _reset = soon(deaf.read_to_end(&mut rest)).await;
    assert!(rest.len() < 40 << 20, "it was cut off");
}

/// Reads `len` bytes steadily, for longer than a client may take nothing.
async fn read_slowly(stream: &mut TcpStream, len: usize) {
    let (mut got, mut buffer) = (0, vec![0; 256 << 10]);
    while got < len {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let most = buffer.len().min(len - got);
        got += soon(stream.read_exact(&mut buffer[..most])).await.unwrap();
    }
}

fn plain(client: &mut Client) -> &mut TcpStream {
    match client.0.get_mut() {
        MaybeTlsStream::Plain(stream) => stream,
        _ => unreachable!("no TLS here"),
    }
}

#[tokio::test]
async fn slow_but_steady_readers_get_everything() {
    const LARGE: usize = 24 << 20;
    let server = Server::start(Config { write_timeout: SHORT, ..Config::default() }).await;
    let mut http = connect(&server).await;
    write(&mut http, &request(JPEG)).await;
    draw(&server, LARGE).await;
    read_slowly(&mut http, LARGE).await;

    let mut socket = Client::greeted(&server, "?want=overlay").await;
    socket.image(JPEG).await;
    draw(&server, LARGE).await;
    read_slowly(plain(&mut socket), LARGE).await;
}

#[tokio::test]
async fn pings_whose_pongs_nobody_reads_are_not_read_either() {
    let server = Server::with_worker(Config { write_timeout: SHORT, ..Config::default() }).await;
    let mut client = Client::greeted(&server, "").await;
    // With a mask of nothing.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let many = ping.repeat(1000);
    let mut sent = 0;
    // A gateway that keeps what it cannot say takes all of it.
    while soon(plain(&mut client).write_all(&many)).await.is_ok() {
        sent += many.len();
        assert!(sent < 200 << 20, "{sent} bytes of pings were taken");
    }
}

/// Sends the first part of a message of two.
async fn begin(client: &mut Client, len: usize) {
    let part = Frame::message(vec![0xFF; len], OpCode::Data(Data::Binary), false);
    soon(client.0.send(Message::Frame(part))).await.unwrap();
}

#[tokio::test]
async fn message_that_is_never_finished_is_given_up() {
    let config = Config { receive_timeout: SHORT, ..Config::default() };
    let server = Server::with_worker(config).await;
    let mut client = Client::greeted(&server, "").await;
    // The first part of a message of two, then pongs.
    begin(&mut client, 100_000).await;
    for _ in 0..20 {
        soon(client.0.send(Message::Pong(Bytes::from_static(b"here")))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let message = client.error(ErrorCode::BadMessage).await;
    assert!(message.contains("1s"), "{message}");
    assert_eq!(client.next().await, Heard::Closed(1002));
}

#[tokio::test]
async fn unfinished_messages_share_what_room_there_is() {
    let config = Config { max_unfinished_bytes: 1 << 20, ..Config::default() };
    let server = Server::with_worker(config).await;
    let mut client = Client::greeted(&server, "").await;
    begin(&mut client, 3 << 20).await;
    client.error(ErrorCode::Unavailable).await;
    let mut other = Client::greeted(&server, "").await;
    other.image(JPEG).await;
    assert_eq!(other.result(false).await, 1);
}

#[tokio::test]
async fn those_who_ask_for_nothing_do_not_keep_a_gateway_from_stopping() {
    // Nothing of it would be over in the time of this test.
    let hour = Duration::from_secs(3600);
    let config =
        Config { head_timeout: hour, receive_timeout: hour, idle_timeout: hour, ..Config::default() };
    let server = Server::with_worker(config).await;
    let silent = connect(&server).await;
    let mut half = connect(&server).await;
    write(&mut half, b"POST /v1/pose HTTP/1.1\r\nhost: x\r\n").await;
    let mut body = connect(&server).await;
    let whole = request(JPEG);
    write(&mut body, &whole[..whole.len() - 10]).await;
    let mut session = Client::greeted(&server, "").await;
    // Until the gateway has them all.
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop().await;
    assert!(rest(&mut body).await.starts_with("HTTP/1.1 503 "));
    session.error(ErrorCode::ShuttingDown).await;
    drop((silent, half));
}
