//! Every role works with the permissions that `deploy/nats` gives it, and can do no more.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cloudpose_bus::{
    BucketError, Bus, Capacity, Over,
    nats::{Config, ConnectError, Login, Role},
};
use cloudpose_testing::{
    NatsServer,
    sample::{frame, frame_of_job, news, pose, view},
    soon,
};
use cloudpose_wire::{GatewayId, Kind, Lane, Stage, StreamName, Tenant};
use futures_util::StreamExt as _;

const PASSWORD: &str = "secret";
/// The stream of the bucket that has the passwords of cameras.
const CAMERAS: &str = "KV_cloudpose-cameras";
/// The stream of the bucket that has the states of jobs.
const JOBS: &str = "KV_cloudpose-jobs";

async fn bus(config: Config) -> Bus {
    Bus::nats(&config, Capacity::default()).await.unwrap()
}

#[tokio::test]
async fn roles_with_passwords_can_work_and_strangers_cannot() {
    let server = NatsServer::with(
        "roles.conf",
        [
            ("CLOUDPOSE_GATEWAY_PASSWORD", PASSWORD),
            ("CLOUDPOSE_WORKER_PASSWORD", PASSWORD),
            ("CLOUDPOSE_LISTENER_PASSWORD", PASSWORD),
        ],
    );
    let role = |user, role| Config {
        role: Some(role),
        ..Config::at(format!("nats://{user}:{PASSWORD}@127.0.0.1:{}", server.port()))
    };
    // The gateway first: frames can wait for the first worker.
    let gateway = bus(role("gateway", Role::Gateway)).await;
    gateway.publish(Stage::Infer, frame(Kind::Still, 1)).await.unwrap();
    let waiting = gateway.depth(Lane { stage: Stage::Infer, kind: Kind::Still }).await;
    assert_eq!(waiting.frames, 1);
    let worker = bus(role("worker", Role::Worker)).await;
    soon(worker.pull(Stage::Infer, 1)).await.remove(0).ack().await;
    let listener = async_nats::ConnectOptions::with_user_and_password("listener".into(), PASSWORD.into());
    let listener = listener.connect(server.url()).await.unwrap();
    each_does_its_part_and_no_more(gateway, worker, listener).await;
    let stranger = async_nats::connect(server.url()).await;
    assert!(stranger.is_err(), "nobody comes in without a name");
}

#[tokio::test]
async fn roles_with_keys_can_work_over_tls_and_strangers_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = file("server.pem", &certified.cert.pem());
    let certificate_key = file("server-key.pem", &certified.signing_key.serialize_pem());
    let [gateway, worker, listener, stranger] = [(); 4].map(|()| nkeys::KeyPair::new_user());
    let server = NatsServer::with(
        "keys.conf",
        [
            ("CLOUDPOSE_GATEWAY_NKEY", &*gateway.public_key()),
            ("CLOUDPOSE_WORKER_NKEY", &*worker.public_key()),
            ("CLOUDPOSE_LISTENER_NKEY", &*listener.public_key()),
            ("CLOUDPOSE_NATS_CERT", certificate.to_str().unwrap()),
            ("CLOUDPOSE_NATS_CERT_KEY", certificate_key.to_str().unwrap()),
        ],
    );
    let url = format!("tls://127.0.0.1:{}", server.port());
    let role = |name, key: &nkeys::KeyPair| Config {
        role: Some(if name == "gateway.nk" { Role::Gateway } else { Role::Worker }),
        login: Login {
            servers: vec![url.clone()],
            nkey: Some(file(name, &format!("{}\n{}\n", key.seed().unwrap(), key.public_key()))),
            ca: Some(certificate.clone()),
            ..Login::default()
        },
        ..Config::default()
    };
    let worker_but = |change: &dyn Fn(&mut Login)| {
        let mut config = role("worker.nk", &worker);
        change(&mut config.login);
        config
    };
    let options = async_nats::ConnectOptions::with_nkey(listener.seed().unwrap());
    let listener = options.add_root_certificates(certificate.clone()).connect(&url).await.unwrap();
    let workers = bus(role("worker.nk", &worker)).await;
    each_does_its_part_and_no_more(bus(role("gateway.nk", &gateway)).await, workers, listener).await;

    for (config, why) in [
        (role("stranger.nk", &stranger), "nobody comes in with a key that the server does not know"),
        (worker_but(&|login| login.nkey = None), "nor without one"),
    ] {
        let answer = Bus::nats(&config, Capacity::default()).await;
        assert!(matches!(answer, Err(ConnectError::Refused { .. })), "{why}: {answer:?}");
    }
    let unknown = worker_but(&|login| login.ca = None);
    let answer = Bus::nats(&unknown, Capacity::default()).await;
    assert!(matches!(answer, Err(ConnectError::Tls { .. })), "{answer:?}");
    let empty = worker_but(&|login| login.nkey = Some(file("empty.nk", "nothing")));
    let answer = Bus::nats(&empty, Capacity::default()).await;
    assert!(matches!(answer, Err(ConnectError::Nkey { .. })), "{answer:?}");
}

#[tokio::test]
async fn who_records_takes_events_and_nothing_else() {
    let server = NatsServer::with(
        "records.conf",
        [
            ("CLOUDPOSE_GATEWAY_PASSWORD", PASSWORD),
            ("CLOUDPOSE_WORKER_PASSWORD", PASSWORD),
            ("CLOUDPOSE_LISTENER_PASSWORD", PASSWORD),
            ("CLOUDPOSE_RECORDER_PASSWORD", PASSWORD),
        ],
    );
    let role = |user, role| Config {
        role: Some(role),
        ..Config::at(format!("nats://{user}:{PASSWORD}@127.0.0.1:{}", server.port()))
    };
    let Bus::Nats(recorder) = bus(role("recorder", Role::Recorder)).await else { unreachable!() };
    let records = recorder.records("test", 1 << 20, Duration::from_secs(10)).await.unwrap();
    let worker = bus(role("worker", Role::Worker)).await;
    worker.publish_event(&pose(2), &Tenant::new("acme").unwrap(), None, None).await;
    let batch = soon(records.take(10, Duration::ZERO)).await;
    assert_eq!((batch.events[0].tenant.as_str(), batch.numbers.clone()), ("acme", vec![1]));
    records.ack(&batch).await;
    let lease = Bus::Nats(recorder).lasting_bucket("records").unwrap();
    let revision = lease.write("bucket", "me".into(), Over::Nothing, None).await.unwrap();
    assert_eq!(lease.get("bucket").await.unwrap().unwrap().revision, revision);
    lease.remove("bucket", Over::Revision(revision)).await.unwrap();
    lease.write("bucket", "me".into(), Over::Nothing, None).await.unwrap();

    let rogue = rogue(&server, "recorder").await;
    for question in ["STREAM.INFO.cloudpose-infer-live", "STREAM.DELETE.cloudpose-events", "STREAM.NAMES"] {
        assert_eq!(api(&rogue, question, "").await, None, "{question}");
    }
    let listener = async_nats::ConnectOptions::with_user_and_password("listener".into(), PASSWORD.into());
    let listener = listener.connect(server.url()).await.unwrap();
    assert!(
        !hears(&listener, "cloudpose.poses.*", &rogue, "cloudpose.poses.cam").await,
        "it says nothing itself"
    );
    let worker = self::rogue(&server, "worker").await;
    assert!(
        !hears(&rogue, "cloudpose.poses.*", &worker, "cloudpose.poses.cam").await,
        "nor does it listen to all"
    );
}

/// A client of a role that keeps to nothing of ours.
async fn rogue(server: &NatsServer, user: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), PASSWORD.into());
    let options = options.custom_inbox_prefix(format!("_INBOX.{user}"));
    options.connect(server.url()).await.unwrap()
}

/// What the broker answers to a request of its API, if it is let in.
async fn api(client: &async_nats::Client, question: &str, body: &str) -> Option<serde_json::Value> {
    let request = client.request(format!("$JS.API.{question}"), body.to_owned().into());
    let answer = tokio::time::timeout(Duration::from_millis(300), request).await.ok()?.ok()?;
    Some(serde_json::from_slice(&answer.payload).unwrap())
}

/// Whether what is published on `subject` comes to a subscription of `pattern`.
async fn hears(client: &async_nats::Client, pattern: &str, from: &async_nats::Client, subject: &str) -> bool {
    let mut heard = client.subscribe(pattern.to_owned()).await.unwrap();
    client.flush().await.unwrap();
    // More than once: the server may see the first before the subscription.
    for _ in 0..8 {
        from.publish(subject.to_owned(), "secret".into()).await.unwrap();
        from.flush().await.unwrap();
        if let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(25), heard.next()).await {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn what_a_role_does_not_need_it_may_not() {
    let server = NatsServer::with(
        "roles.conf",
        [
            ("CLOUDPOSE_GATEWAY_PASSWORD", PASSWORD),
            ("CLOUDPOSE_WORKER_PASSWORD", PASSWORD),
            ("CLOUDPOSE_LISTENER_PASSWORD", PASSWORD),
        ],
    );
    let servers = |user| vec![format!("nats://{user}:{PASSWORD}@127.0.0.1:{}", server.port())];
    let config = |user, role| Config {
        login: Login { servers: servers(user), ..Login::default() },
        role: Some(role),
        ..Config::default()
    };
    let _lanes = bus(config("worker", Role::Worker)).await;
    let [gateway, worker] = [rogue(&server, "gateway").await, rogue(&server, "worker").await];
    let listener = async_nats::ConnectOptions::with_user_and_password("listener".into(), PASSWORD.into());
    let listener = listener.connect(server.url()).await.unwrap();

    let lane = "cloudpose-infer-still";
    let info = format!("STREAM.INFO.{lane}");
    let before = api(&gateway, &info, "").await.unwrap()["config"].clone();
    let shrunk = {
        let mut shrunk = before.clone();
        shrunk["max_msgs"] = 1.into();
        shrunk.to_string()
    };
    let evil = |name: &str| {
        format!(
            r#"{{"name":"{name}","subjects":["cloudpose.poses.>","cloudpose.results.>"],"storage":"memory"}}"#
        )
    };
    let consumer = |name: &str| {
        format!(r#"{{"stream_name":"{lane}","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#)
    };
    // What changes what is there has no effect, if it is answered at all; nothing else is answered.
    let create = format!("STREAM.CREATE.{lane}");
    for (question, body) in [(&create, &shrunk), (&create, &evil(lane))] {
        let answer = api(&gateway, question, body).await.unwrap();
        assert!(!answer["error"].is_null(), "{answer}");
    }
    for (client, question, body) in [
        (&gateway, format!("STREAM.UPDATE.{lane}"), shrunk.clone()),
        (&gateway, "STREAM.CREATE.evil".into(), evil("evil")),
        (&gateway, "STREAM.CREATE.cloudpose-jobs".into(), evil("cloudpose-jobs")),
        (&gateway, format!("CONSUMER.CREATE.{lane}.evil"), consumer("evil")),
        (&gateway, format!("CONSUMER.CREATE.{lane}.workers"), consumer("workers")),
        (&gateway, format!("CONSUMER.DURABLE.CREATE.{lane}.evil"), consumer("evil")),
        (&gateway, format!("CONSUMER.MSG.NEXT.{lane}.workers"), "1".into()),
        (&worker, "STREAM.CREATE.evil".into(), evil("evil")),
        (&worker, "STREAM.UPDATE.cloudpose-jobs".into(), evil("cloudpose-jobs")),
        (&worker, format!("CONSUMER.CREATE.{lane}.evil"), consumer("evil")),
        (&worker, "CONSUMER.CREATE.cloudpose-jobs.gateways".into(), consumer("gateways")),
        (&worker, "CONSUMER.MSG.NEXT.cloudpose-jobs.gateways".into(), "1".into()),
        (&worker, format!("CONSUMER.CREATE.{CAMERAS}.workers"), consumer("workers").replace(lane, CAMERAS)),
        (&worker, format!("CONSUMER.MSG.NEXT.{CAMERAS}.workers"), "1".into()),
        (&worker, format!("DIRECT.GET.{CAMERAS}"), r#"{"seq":1}"#.into()),
        (&worker, format!("STREAM.INFO.{CAMERAS}"), String::new()),
        (&worker, format!("STREAM.CREATE.{CAMERAS}"), evil(CAMERAS)),
        (&gateway, format!("CONSUMER.CREATE.{CAMERAS}.evil"), consumer("evil").replace(lane, CAMERAS)),
        (&worker, format!("STREAM.MSG.GET.{JOBS}"), r#"{"seq":1}"#.into()),
        (&worker, format!("STREAM.CREATE.{JOBS}"), evil(JOBS)),
        (&gateway, format!("CONSUMER.CREATE.{JOBS}.evil"), consumer("evil").replace(lane, JOBS)),
        (&gateway, format!("STREAM.DELETE.{JOBS}"), String::new()),
        (&gateway, format!("STREAM.PURGE.{JOBS}"), String::new()),
    ] {
        assert_eq!(api(client, &question, &body).await, None, "{question}");
    }
    for client in [&gateway, &worker] {
        for (question, body) in [
            (format!("STREAM.DELETE.{CAMERAS}"), ""),
            (format!("STREAM.PURGE.{CAMERAS}"), ""),
            (format!("STREAM.MSG.GET.{CAMERAS}"), r#"{"seq":1}"#),
            (format!("STREAM.DELETE.{lane}"), ""),
            (format!("STREAM.PURGE.{lane}"), ""),
            (format!("STREAM.MSG.GET.{lane}"), r#"{"seq":1}"#),
            (format!("STREAM.MSG.DELETE.{lane}"), r#"{"seq":1}"#),
            (format!("STREAM.SNAPSHOT.{lane}"), r#"{"deliver_subject":"_INBOX.x"}"#),
            (format!("DIRECT.GET.{lane}"), r#"{"seq":1}"#),
            (format!("CONSUMER.DELETE.{lane}.workers"), ""),
            (format!("CONSUMER.PAUSE.{lane}.workers"), r#"{"pause_until":"2100-01-01T00:00:00Z"}"#),
            ("STREAM.NAMES".into(), ""),
            ("STREAM.LIST".into(), ""),
            ("INFO".into(), ""),
        ] {
            assert_eq!(api(client, &question, body).await, None, "{question}");
        }
    }
    assert_eq!(api(&gateway, &info, "").await.unwrap()["config"], before);

    // Each hears its own answers; frames come to workers' inboxes.
    for (client, pattern, from, subject) in [
        (&gateway, "_INBOX.>", &worker, "_INBOX.worker.x"),
        (&gateway, "_INBOX.worker.>", &worker, "_INBOX.worker.x"),
        (&gateway, "cloudpose.infer.>", &gateway, "cloudpose.infer.live.x"),
        (&gateway, "cloudpose.annotate.>", &worker, "cloudpose.annotate.live.x"),
        (&gateway, "cloudpose.poses.>", &worker, "cloudpose.poses.x"),
        (&gateway, "cloudpose.jobs.>", &worker, "cloudpose.jobs.a.1"),
        (&gateway, ">", &worker, "cloudpose.poses.x"),
        (&gateway, "$JS.>", &worker, "cloudpose.poses.x"),
        (&worker, "_INBOX.>", &gateway, "cloudpose.gateways"),
        (&worker, "cloudpose.results.>", &worker, "cloudpose.results.g.s"),
        (&worker, "cloudpose.watch.>", &gateway, "cloudpose.watch.x"),
        (&worker, "cloudpose.tickets.>", &gateway, "cloudpose.tickets.g"),
        (&worker, "cloudpose.gateways", &gateway, "cloudpose.gateways"),
        (&worker, "$KV.>", &gateway, "$KV.cloudpose-cameras.cameras.a.b"),
        (&worker, "$KV.cloudpose-cameras.>", &gateway, "$KV.cloudpose-cameras.cameras.a.b"),
        (&listener, "$KV.cloudpose-cameras.cameras.>", &gateway, "$KV.cloudpose-cameras.cameras.a.b"),
        (&worker, "cloudpose.poses.>", &worker, "cloudpose.poses.x"),
        (&worker, ">", &gateway, "cloudpose.gateways"),
        (&listener, "cloudpose.>", &worker, "cloudpose.poses.x"),
        (&listener, "cloudpose.tickets.>", &gateway, "cloudpose.tickets.g"),
        (&listener, "_INBOX.>", &gateway, "cloudpose.gateways"),
    ] {
        assert!(!hears(client, pattern, from, subject).await, "{pattern}");
    }
    // And speaks where it should.
    for (from, subject, client, pattern) in [
        (&gateway, "cloudpose.results.g.s", &gateway, "cloudpose.results.*.*"),
        (&gateway, "cloudpose.models", &gateway, "cloudpose.models"),
        (&gateway, "cloudpose.poses.x", &listener, "cloudpose.poses.>"),
        (&worker, "cloudpose.watch.x", &gateway, "cloudpose.watch.*"),
        (&worker, "cloudpose.gateways", &gateway, "cloudpose.gateways"),
        (&worker, "cloudpose.tickets.g", &gateway, "cloudpose.tickets.*"),
        (&worker, "$KV.cloudpose-cameras.cameras.a.b", &gateway, "$KV.cloudpose-cameras.cameras.>"),
        (&listener, "cloudpose.poses.x", &listener, "cloudpose.poses.>"),
    ] {
        assert!(!hears(client, pattern, from, subject).await, "{subject}");
    }
    // The test would see it.
    assert!(hears(&gateway, "cloudpose.results.*.*", &worker, "cloudpose.results.g.s").await);
    assert!(hears(&listener, "cloudpose.poses.>", &worker, "cloudpose.poses.x").await);
}

async fn each_does_its_part_and_no_more(gateway: Bus, worker: Bus, listener: async_nats::Client) {
    let mut heard = listener.subscribe("cloudpose.poses.>").await.unwrap();
    let mut overheard = listener.subscribe("cloudpose.results.>").await.unwrap();
    let mut overseen = listener.subscribe("cloudpose.watch.>").await.unwrap();
    listener.flush().await.unwrap();
    let mut results = gateway.results(&GatewayId::new("g").unwrap()).await;

    let acme = Tenant::new("acme").unwrap();
    let of = [(Tenant::default(), 1), (acme.clone(), 3)];
    let kinds = of.into_iter().flat_map(|(t, seq)| [(t.clone(), Kind::Live, seq), (t, Kind::Still, seq + 1)]);
    for (tenant, kind, seq) in kinds {
        let mut sent = frame(kind, seq);
        sent.header.caller.tenant = tenant;
        gateway.publish(Stage::Infer, sent).await.unwrap();
        // Handed back, and passed on from stage to stage, as workers do.
        soon(worker.pull(Stage::Infer, 1)).await.remove(0).hand_back().await;
        let taken = soon(worker.pull(Stage::Infer, 1)).await.remove(0);
        worker.publish_event(&pose(seq), &Default::default(), None, None).await;
        worker.publish(Stage::Annotate, taken.frame.clone()).await.unwrap();
        taken.ack().await;
        let drawn = soon(worker.pull(Stage::Annotate, 1)).await.remove(0);
        worker.reply(drawn.frame.header.done(pose(seq), None)).await.unwrap();
        drawn.ack().await;
        assert_eq!(soon(results.next()).await.unwrap().seq, seq);
        assert!(!soon(heard.next()).await.unwrap().payload.is_empty());
    }

    worker.reply(frame_of_job("a", 1).header.done(pose(1), None)).await.unwrap();
    let kept = soon(gateway.job_results(1)).await.remove(0);
    assert_eq!(kept.result.seq, 1);
    kept.ack().await;

    let watched = StreamName::new("cam").unwrap();
    for tenant in [Tenant::default(), acme] {
        let mut views = gateway.views(&tenant, &watched).await;
        gateway.show(&tenant, &watched, view(4)).await.unwrap();
        assert_eq!(soon(views.next()).await.unwrap(), view(4));
    }
    let gateways = ["g", "other"].map(|name| GatewayId::new(name).unwrap());
    let mut shown = gateway.tickets_shown(&gateways[0]).await;
    let answering = async {
        let ticket = soon(shown.next()).await.unwrap();
        assert_eq!(&ticket.ticket[..], b"ticket");
        ticket.answer("good".into()).await;
    };
    let (answer, ()) = tokio::join!(gateway.redeem(&gateways[0], "ticket".into()), answering);
    assert_eq!(answer.as_deref(), Some(&b"good"[..]));
    assert_eq!(soon(gateway.redeem(&gateways[1], "ticket".into())).await, None);

    let cameras = gateway.bucket("cameras");
    assert!(cameras.read().await.unwrap().is_empty());
    let mut changes = cameras.changes("cameras").await;
    let written =
        cameras.write("cameras.default.door", "rtsp://joe:secret@door/".into(), Over::Nothing, None);
    let revision = written.await.unwrap();
    soon(changes.next()).await;
    assert_eq!(cameras.read().await.unwrap()["cameras.default.door"].revision, revision);
    let read = soon(worker.bucket("cameras").read()).await;
    assert!(matches!(read, Err(BucketError::Unreachable(_))), "{read:?}");
    cameras.remove("cameras.default.door", Over::Revision(revision)).await.unwrap();

    let states = gateway.lasting_bucket("jobs").unwrap();
    let revision = states.write("default.job", "1".into(), Over::Nothing, None).await.unwrap();
    assert_eq!(states.get("default.job").await.unwrap().unwrap().revision, revision);
    assert_eq!(states.keys().await.unwrap(), ["default.job"]);
    let read = soon(worker.lasting_bucket("jobs").unwrap().get("default.job")).await;
    assert!(matches!(read, Err(BucketError::Unreachable(_))), "{read:?}");
    states.remove("default.job", Over::Revision(revision)).await.unwrap();

    let mut told = gateway.news().await;
    gateway.tell(news("g")).await.unwrap();
    assert_eq!(soon(told.next()).await.unwrap(), news("g"));

    let mut forged = async_nats::HeaderMap::new();
    let result = frame_of_job("a", 2).header.done(pose(2), None);
    forged.insert("Cloudpose-Result", serde_json::to_string(&result).unwrap());
    listener.publish_with_headers("cloudpose.jobs.a.2", forged, "".into()).await.unwrap();
    listener.publish("cloudpose.infer.live.x", "intruder".into()).await.unwrap();
    listener.publish("cloudpose.poses.x", "intruder".into()).await.unwrap();
    listener.flush().await.unwrap();
    worker.publish_event(&pose(3), &Default::default(), None, None).await;
    let next = soon(heard.next()).await.unwrap();
    assert_ne!(&next.payload[..], b"intruder", "listeners only listen");
    assert_eq!(gateway.depth(Lane { stage: Stage::Infer, kind: Kind::Live }).await.frames, 0);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), overheard.next()).await.is_err(),
        "results are for gateways"
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(200), overseen.next()).await.is_err(),
        "pictures are for gateways"
    );
    // A worker takes no results of jobs, and nobody else puts some there.
    worker.reply(frame_of_job("a", 3).header.done(pose(3), None)).await.unwrap();
    let stolen = tokio::time::timeout(Duration::from_secs(1), worker.job_results(1)).await;
    assert!(stolen.is_err(), "{stolen:?}");
    assert_eq!(
        soon(gateway.job_results(9)).await.iter().map(|kept| kept.result.seq).collect::<Vec<_>>(),
        [3]
    );
    // A gateway takes no work away from the workers.
    worker.publish(Stage::Annotate, frame(Kind::Still, 4)).await.unwrap();
    let stolen = tokio::time::timeout(Duration::from_secs(1), gateway.pull(Stage::Annotate, 1)).await;
    assert!(stolen.is_err(), "{stolen:?}");
}
