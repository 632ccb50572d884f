use cloudpose_testing::sample::{address, pose};
use cloudpose_wire::{
    Address,
    watch::{StreamState, WantedPicture},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);
const ALL: Wish = Wish { want: Want::Overlay, draw: Draw::Overlay, fps: None };
const EVENTS: Wish = Wish { want: Want::Pose, draw: Draw::Overlay, fps: None };

fn cam() -> StreamName {
    StreamName::new("cam").unwrap()
}

fn hub(gateway: &str) -> (Hub, Exchange) {
    Hub::new(GatewayId::new(gateway).unwrap(), Bounds { watchers: 3, patience: PATIENCE, draw_only: None })
}

fn open(hub: &Hub, session: &str) -> Source {
    open_if(hub, session, IfTaken::Share).unwrap()
}

fn open_if(hub: &Hub, session: &str, if_taken: IfTaken) -> Result<Source, Taken> {
    let stream = (Tenant::default(), cam());
    hub.open(stream, SessionId::new(session).unwrap(), (ModelId::new("fast").unwrap(), 7), if_taken)
}

fn watch(hub: &Hub, wish: Wish) -> Watcher {
    hub.watch(&Tenant::default(), &cam(), wish).unwrap()
}

fn goes(source: &Source, now: Instant, own: Option<Draw>) -> Vec<Draw> {
    source.goes(now, Going { model: &ModelId::new("fast").unwrap(), size: [640, 480], own })
}

fn jpeg(seq: u64) -> Bytes {
    Bytes::from(format!("picture {seq}"))
}

/// What comes back of the copy of frame `seq` of session `s`.
fn drawn(seq: u64) -> FrameResult {
    let mut header = cloudpose_testing::sample::header(cloudpose_wire::Kind::Live, seq);
    header.watched = vec![Draw::Overlay];
    header.asides(PATIENCE).remove(0).done(pose(seq), Some(jpeg(seq)))
}

/// What waits for `watcher` now.
fn waiting(watcher: &mut Watcher) -> Vec<Seen> {
    use futures_util::FutureExt as _;
    std::iter::from_fn(|| watcher.next().now_or_never()?.ok()).collect()
}

fn seqs(watcher: &mut Watcher) -> Vec<u64> {
    waiting(watcher).iter().map(|seen| seen.view.seq).collect()
}

#[test]
fn pictures_are_drawn_while_somebody_watches_them_and_only_then() {
    let (hub, _exchange) = hub("g");
    let (source, now) = (open(&hub, "s"), Instant::now());
    assert!(goes(&source, now, None).is_empty(), "nobody watches");
    let events = watch(&hub, EVENTS);
    assert!(goes(&source, now, None).is_empty(), "nobody watches pictures");
    let [one, other] = [watch(&hub, ALL), watch(&hub, ALL)];
    assert_eq!(goes(&source, now, None), [Draw::Overlay], "once for both");
    assert!(goes(&source, now, Some(Draw::Overlay)).is_empty(), "the session has it drawn for itself");
    drop((one, events));
    assert_eq!(goes(&source, now, None), [Draw::Overlay]);
    drop(other);
    assert!(goes(&source, now, None).is_empty());
}

#[test]
fn no_more_is_drawn_than_the_fastest_takes_and_each_takes_what_it_asked_for() {
    let (hub, _exchange) = hub("g");
    let (source, start) = (open(&hub, "s"), Instant::now());
    let mut watchers = [2.0, 10.0].map(|fps| watch(&hub, Wish { fps: Some(fps), ..ALL }));
    let mut seen = [0, 0];
    let mut asked = 0;
    for seq in 1..=300 {
        let now = start + Duration::from_millis(seq * 1000 / 30);
        if !goes(&source, now, None).is_empty() {
            asked += 1;
            hub.drawn(now, drawn(seq));
        }
        for (seen, watcher) in seen.iter_mut().zip(&mut watchers) {
            *seen += waiting(watcher).len();
        }
    }
    assert!((99..=102).contains(&asked), "{asked} of 300 frames in ten seconds");
    assert!((19..=22).contains(&seen[0]) && (99..=102).contains(&seen[1]), "{seen:?}");
}

#[test]
fn who_watches_events_sees_each_frame_once_and_pictures_reach_who_wants_them() {
    let (hub, _exchange) = hub("g");
    let (source, now) = (open(&hub, "s"), Instant::now());
    let (mut events, mut pictures) = (watch(&hub, EVENTS), watch(&hub, ALL));
    source.found(now, 1, &pose(1), (Draw::Overlay, None));
    hub.drawn(now, drawn(1));
    source.found(now, 2, &pose(2), (Draw::Overlay, Some(&jpeg(2))));
    let seen = waiting(&mut events);
    assert_eq!(seen.iter().map(|seen| seen.view.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(seen.iter().all(|seen| seen.view.picture.is_none()));
    let seen = waiting(&mut pictures);
    assert_eq!(
        seen.iter().map(|seen| seen.view.picture.clone()).collect::<Vec<_>>(),
        [1, 2].map(|n| Some(jpeg(n)))
    );
}

#[test]
fn a_picture_that_comes_behind_a_later_one_is_not_shown() {
    let (hub, _exchange) = hub("g");
    let (source, now) = (open(&hub, "s"), Instant::now());
    let mut watcher = watch(&hub, ALL);
    for seq in [2, 1, 2, 3] {
        hub.drawn(now, drawn(seq));
    }
    assert_eq!(seqs(&mut watcher), [2, 3]);
    drop(source);
    hub.drawn(now, drawn(4));
    assert!(seqs(&mut watcher).is_empty(), "its session is gone");
}

#[test]
fn a_slow_watcher_loses_the_oldest_frames_and_others_lose_none() {
    let (hub, _exchange) = hub("g");
    let (source, now) = (open(&hub, "s"), Instant::now());
    let [mut slow, mut fast] = [watch(&hub, EVENTS), watch(&hub, EVENTS)];
    let mut all = Vec::new();
    for seq in 1..=9 {
        source.found(now, seq, &pose(seq), (Draw::Overlay, None));
        all.extend(seqs(&mut fast));
    }
    assert_eq!(all, (1..=9).collect::<Vec<_>>());
    let seen = waiting(&mut slow);
    assert_eq!(
        seen.iter().map(|seen| (seen.view.seq, seen.lost)).collect::<Vec<_>>(),
        [6, 7, 8, 9].map(|seq| (seq, 5))
    );
}

#[tokio::test]
async fn who_takes_nothing_for_long_watches_no_more() {
    let (hub, _exchange) = hub("g");
    let (source, now) = (open(&hub, "s"), Instant::now());
    let mut watcher = watch(&hub, ALL);
    hub.drawn(now, drawn(1));
    hub.drawn(now + PATIENCE, drawn(2));
    assert_eq!(goes(&source, now + PATIENCE, None), [Draw::Overlay]);
    hub.drawn(now + PATIENCE + Duration::from_millis(1), drawn(3));
    assert!(goes(&source, now + PATIENCE * 2, None).is_empty(), "nothing is drawn for it any more");
    assert_eq!(watcher.next().await, Err(End::Slow));
    drop(watcher);
    let places = [(); 3].map(|()| watch(&hub, ALL));
    assert_eq!(hub.watch(&Tenant::default(), &cam(), ALL).err(), Some(Refused::Full));
    drop(places);
    watch(&hub, ALL);
}

#[tokio::test]
async fn those_who_watch_wait_for_a_stream_to_come_back_but_not_for_ever() {
    let (hub, _exchange) = hub("g");
    let (source, start) = (open(&hub, "s"), Instant::now());
    let mut watcher = watch(&hub, EVENTS);
    drop(source);
    hub.news(start);
    let back = open(&hub, "t");
    hub.news(start + Duration::from_secs(9));
    back.found(start, 1, &pose(1), (Draw::Overlay, None));
    assert_eq!(seqs(&mut watcher), [1]);
    drop(back);
    hub.news(start + Duration::from_secs(18));
    hub.news(start + Duration::from_secs(27));
    assert!(seqs(&mut watcher).is_empty());
    hub.news(start + Duration::from_secs(28));
    assert_eq!(watcher.next().await, Err(End::Ended));
    drop(watcher);
    assert_eq!(hub.watch(&Tenant::default(), &cam(), ALL).err(), Some(Refused::NoStream));
}

#[test]
fn tenants_see_their_own_streams() {
    let (hub, _exchange) = hub("g");
    let (_source, now) = (open(&hub, "s"), Instant::now());
    let acme = Tenant::new("acme").unwrap();
    assert!(hub.list(now, &acme).is_empty());
    assert_eq!(hub.watch(&acme, &cam(), ALL).err(), Some(Refused::NoStream));
}

#[test]
fn a_stream_is_listed_with_what_is_known_of_it() {
    let (hub, _exchange) = hub("g");
    let (source, start) = (open(&hub, "s"), Instant::now());
    let list = |now| hub.list(now, &Tenant::default());
    let [silent] = <[_; 1]>::try_from(list(start)).unwrap();
    assert_eq!((silent.state, silent.width, silent.fps), (StreamState::Silent, 0, 0.0));
    let mut watcher = watch(&hub, EVENTS);
    let mut now = start;
    for seq in 1..=100 {
        now = start + Duration::from_millis(100 * seq);
        goes(&source, now, None);
        source.found(now, seq, &pose(seq), (Draw::Overlay, None));
        assert_eq!(seqs(&mut watcher), [seq]);
    }
    let [live] = <[_; 1]>::try_from(list(now)).unwrap();
    assert_eq!((live.state, live.width, live.height), (StreamState::Live, 640, 480));
    assert_eq!((live.stream, live.since, live.sessions, live.watchers), (cam(), 7, 1, 1));
    assert!((9.5..10.5).contains(&live.fps), "{}", live.fps);
    let [silent] = <[_; 1]>::try_from(list(now + Duration::from_secs(3))).unwrap();
    assert_eq!((silent.state, silent.fps), (StreamState::Silent, 0.0));
}

#[test]
fn what_another_gateway_holds_can_be_watched_here_and_what_it_watches_is_shown_to_it() {
    let ((here, mut to_there), (there, mut to_here)) = (hub("a"), hub("b"));
    let (source, now) = (open(&here, "s"), Instant::now());
    assert_eq!(here.news(now), None, "nobody wants to know");
    assert!(there.list(now, &Tenant::default()).is_empty());
    there.streams().ask(now);
    tells(&there, &here, now);
    tells(&here, &there, now);
    assert_eq!(there.list(now, &Tenant::default())[0].stream, cam());
    let mut watcher = watch(&there, Wish { fps: Some(5.0), ..ALL });
    assert!(goes(&source, now, None).is_empty(), "it has not said so");
    tells(&there, &here, now);
    assert_eq!(here.list(now, &Tenant::default())[0].watchers, 1);
    assert_eq!(there.list(now, &Tenant::default())[0].watchers, 1, "each is counted once");
    let wanted = &there.news(now).unwrap().watched[0];
    assert!(!wanted.events);
    assert_eq!(wanted.pictures, [WantedPicture { draw: Draw::Overlay, fps: Some(5.0) }]);

    source.found(now, 1, &pose(1), (Draw::Overlay, None));
    assert!(to_there.outgoing.try_recv().is_err(), "events without pictures are not asked for");
    assert_eq!(goes(&source, now, None), [Draw::Overlay]);
    hub_shows(&here, &mut to_there, &there, now, drawn(1));
    assert_eq!(seqs(&mut watcher), [1]);
    assert!(to_here.outgoing.try_recv().is_err(), "it does not come back");

    drop(watcher);
    tells(&there, &here, now);
    assert!(goes(&source, now, None).is_empty(), "nobody watches any more");
    let _watcher = watch(&there, ALL);
    tells(&there, &here, now);
    here.news(now + Duration::from_secs(4));
    assert!(goes(&source, now, None).is_empty(), "it has said nothing for long");
}

fn tells(one: &Hub, other: &Hub, now: Instant) {
    other.heard(now, one.news(now).unwrap());
}

#[test]
fn nothing_is_said_when_nobody_has_asked_for_long() {
    let ((here, _), (there, _)) = (hub("a"), hub("b"));
    let now = Instant::now();
    let later = |seconds| now + Duration::from_secs(seconds);
    assert!(!there.streams().ask(now));
    assert!(there.streams().ask(now), "it asks already");
    assert!(here.streams().heard(now, there.news(now).unwrap()), "it wants to know at once");
    assert!(!here.streams().heard(now, there.news(now).unwrap()), "it has been told");
    assert!(here.news(later(3)).is_some_and(|news| !news.asks));
    assert_eq!(here.news(later(4)), None);
    assert_eq!(there.news(later(11)), None);
}

#[test]
fn where_one_way_of_drawing_is_allowed_no_other_is_shown_whoever_wants_it() {
    let bounds = Bounds { watchers: 3, patience: PATIENCE, draw_only: Some(Draw::Redacted) };
    let (hub, _exchange) = Hub::new(GatewayId::new("g").unwrap(), bounds);
    let (source, now) = (open(&hub, "s"), Instant::now());
    let mut news = cloudpose_testing::sample::news("other");
    hub.heard(now, news.clone());
    assert!(goes(&source, now, None).is_empty(), "another gateway wants what may not leave this one");
    news.watched[0].pictures[0].draw = Draw::Redacted;
    hub.heard(now, news);
    assert_eq!(goes(&source, now, None), [Draw::Redacted]);
    let mut watcher = watch(&hub, ALL);
    hub.drawn(now, drawn(1));
    assert!(seqs(&mut watcher).is_empty(), "a worker drew it as it may not be shown");
}

fn hub_shows(here: &Hub, out: &mut Exchange, there: &Hub, now: Instant, result: FrameResult) {
    let Reply::Session(Address { session, .. }) = &result.reply else { panic!("{result:?}") };
    assert_eq!(*session, address("g").session);
    here.drawn(now, result);
    let (key, view) = out.outgoing.try_recv().unwrap();
    here.shown(now, &key, &view);
    there.shown(now, &key, &view);
}

fn has_ended(source: &Source) -> bool {
    source.ended().is_cancelled()
}

/// What `from` has to say reaches the others.
fn says(from: &Hub, to: &Hub, now: Instant) -> bool {
    let news = from.news(now);
    let said = news.is_some();
    news.into_iter().for_each(|news| to.heard(now, news));
    said
}

#[test]
fn a_stream_is_shared_unless_a_session_is_to_have_it_alone() {
    let (hub, _exchange) = hub("g");
    let first = open(&hub, "s1");
    let second = open(&hub, "s2");
    assert_eq!(open_if(&hub, "s3", IfTaken::Refuse).err(), Some(Taken));
    let third = open_if(&hub, "s4", IfTaken::TakeOver).unwrap();
    assert!(has_ended(&first) && has_ended(&second) && !has_ended(&third));
    assert_eq!(open_if(&hub, "s5", IfTaken::Share).err(), Some(Taken), "it has it to itself");
    let fourth = open_if(&hub, "s6", IfTaken::TakeOver).unwrap();
    assert!(has_ended(&third));
    drop((first, second, third, fourth));
    let only = open_if(&hub, "s7", IfTaken::Refuse).unwrap();
    assert_eq!(open_if(&hub, "s8", IfTaken::Share).err(), Some(Taken));
    drop(only);
    open(&hub, "s9");
}

#[test]
fn a_cameras_stream_is_shared_or_not_and_never_taken_over() {
    let (hub, _exchange) = hub("g");
    let stream = (Tenant::default(), cam());
    let camera = hub.open_camera(stream, SessionId::new("s1").unwrap(), (ModelId::new("fast").unwrap(), 7));
    for if_taken in [IfTaken::Refuse, IfTaken::TakeOver] {
        assert_eq!(open_if(&hub, "s2", if_taken).err(), Some(Taken));
    }
    open(&hub, "s2");
    assert!(!has_ended(&camera));
}

#[test]
fn what_a_session_has_to_itself_is_taken_from_those_at_other_gateways_and_kept_from_them() {
    let (here, _exchange) = hub("here");
    let (there, _exchange) = hub("there");
    let now = Instant::now();
    let theirs = open(&there, "s1");
    assert!(!says(&there, &here, now), "nobody wants to know");
    let ours = open_if(&here, "s2", IfTaken::TakeOver).unwrap();
    assert!(says(&here, &there, now));
    assert!(has_ended(&theirs));
    assert_eq!(open_if(&there, "s3", IfTaken::Share).err(), Some(Taken));
    let later = open_if(&there, "s4", IfTaken::TakeOver).unwrap();
    assert!(says(&here, &there, now) && !has_ended(&later), "the later one has it");
    assert!(says(&there, &here, now) && has_ended(&ours));
    drop((ours, later));
    assert!(says(&there, &here, now), "that it is free again is said once");
    assert!(!says(&there, &here, now));
    open(&here, "s5");
}

#[test]
fn a_session_that_is_not_to_share_its_stream_is_refused_where_others_send_it_elsewhere() {
    let (here, _exchange) = hub("here");
    let (there, _exchange) = hub("there");
    let now = Instant::now();
    let _theirs = open(&there, "s1");
    here.streams().ask(now);
    says(&here, &there, now);
    says(&there, &here, now);
    assert_eq!(open_if(&here, "s2", IfTaken::Refuse).err(), Some(Taken));
    open(&here, "s3");
}
