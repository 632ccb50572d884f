"""Streams with the Python client, against a running server."""

import asyncio
import itertools
import json
import socket
import threading

import numpy as np
import pytest
from cloudpose import Client, CloudPoseError, ConnectionLost, Problem, SessionError, video
from cloudpose.connection import Lost, Retries
from cloudpose.pace import Pace
from link import Link
from PIL import Image
from processes import Processes
from websockets.sync.server import serve


@pytest.fixture
def client(server):
    return Client(server.http)


def test_every_frame_of_a_video_comes_back_in_order(client, clip, tmp_path):
    stream = client.stream(clip, want="both", model="fast", name="clip")
    frames = list(stream)
    assert [frame.number for frame in frames] == list(range(1, 25)) and video.count(clip) == 24
    assert {frame.image.shape for frame in frames} == {(480, 272, 3)}
    assert all(frame.picture.startswith(b"\xff\xd8") and frame.pose.seq == frame.number for frame in frames)
    assert frames[-1].persons[0].track_id is not None
    assert (stream.name, dict(stream.dropped)) == ("clip", {})
    assert video.write(tmp_path / "out.mp4", (frame.picture for frame in frames), video.fps(clip)) == 24
    assert sum(1 for _ in video.read(tmp_path / "out.mp4")) == 24
    assert video.fps(tmp_path / "out.mp4") == pytest.approx(video.fps(clip), rel=0.01)


def test_frames_that_are_no_images_are_told_in_their_place(client, sample):
    stream = client.stream([sample, b"no image", sample], want="overlay")
    frames = {frame.number: frame for frame in stream}
    assert list(frames) == [1, 2, 3] and frames[2].dropped == "undecodable" and "JPEG" in frames[2].detail
    assert frames[2].image == b"no image" and frames[2].persons == ()
    assert frames[3].pose is None and frames[3].picture
    assert stream.dropped == {"undecodable": 1}


def test_plain_and_asynchronous_loops_take_both_kinds_of_sources(client, sample):
    async def images():
        yield sample
        yield sample

    async def over(stream):
        return [frame.number async for frame in stream]

    assert asyncio.run(over(client.stream([sample, sample]))) == [1, 2]
    assert asyncio.run(over(client.stream(images()))) == [1, 2]
    assert [frame.number for frame in client.stream(images())] == [1, 2]


def test_a_source_is_asked_for_no_more_than_may_be_on_its_way(client, sample):
    taken = itertools.count()
    stream = iter(client.stream(sample for _ in taken))
    for _ in range(5):
        next(stream)
    stream.close()
    # Those that were handed out, the window of two, and the one that waits for its turn.
    assert next(taken) <= 5 + 2 + 1


def test_what_a_source_raises_is_raised_and_leaving_early_stops_it(client, sample):
    closed = threading.Event()

    def camera():
        try:
            yield sample
            raise ValueError("unplugged")
        finally:
            closed.set()

    numbers = []
    with pytest.raises(ValueError, match="unplugged"):
        numbers.extend(frame.number for frame in client.stream(camera()))
    assert numbers == [1], "what was on its way comes back first"
    assert closed.wait(10)
    closed.clear()
    for _ in client.stream(camera()):
        break
    assert closed.wait(10)


def test_live_takes_the_newest_of_a_source_that_is_faster(client, sample):
    file = sample.read_bytes()
    stream = client.stream((file for _ in range(2000)), mode="live", max_age_ms=10_000)
    numbers = [frame.number for frame in stream]
    assert numbers == sorted(numbers) and numbers
    assert len(numbers) + sum(stream.dropped.values()) == 2000 and stream.dropped["superseded"] > 0


def test_a_lost_connection_costs_no_frame(server, sample):
    with Link(server.address) as link:
        client = Client(link.http)

        def cut_at_the_third():
            for n in range(6):
                if n == 2:
                    link.cut()
                yield sample

        stream = client.stream(cut_at_the_third(), name="cut")
        assert sorted(frame.number for frame in stream) == [1, 2, 3, 4, 5, 6]
        assert link.count == 2 and dict(stream.dropped) == {} and stream.name == "cut"

        seen = threading.Event()

        def cut_after_the_first():
            yield sample
            assert seen.wait(60)
            link.cut()
            yield sample

        stream = client.stream(cut_after_the_first(), mode="live", max_age_ms=10_000)
        count = 0
        for _ in stream:
            count += 1
            seen.set()
        assert count + sum(stream.dropped.values()) == 2


def test_what_cannot_work_is_told_at_once(client, sample):
    with pytest.raises(SessionError, match="use one of fast") as refused:
        list(client.stream([sample], model="yolo"))
    assert refused.value.code == "bad_query"
    with pytest.raises(CloudPoseError, match="http://127.0.0.1:1 cannot be reached.*`cloudpose serve`"):
        list(Client("http://127.0.0.1:1").stream([sample]))


def test_what_is_no_source_is_told_where_it_is_said(client, sample, tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    for one in (pixels, Image.fromarray(pixels), sample.read_bytes()):
        with pytest.raises(TypeError, match="one image is no stream"):
            client.stream(one)
    with pytest.raises(TypeError, match="a int is no source"):
        client.stream(0)
    with pytest.raises(TypeError, match="None is no image.*imread"):
        client.pose(None)
    with pytest.raises(TypeError, match="a list is no image"):
        client.pose([sample])
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for ask in (video.fps, video.count, lambda path: next(video.read(path))):
        with pytest.raises(CloudPoseError, match="text.mp4 is no video that can be read"):
            ask(text)
    with pytest.raises(CloudPoseError, match="no pictures to write"):
        video.write(tmp_path / "none.mp4", [None], 25)
    with pytest.raises(CloudPoseError, match="there is no folder"):
        video.write(tmp_path / "no" / "a.mp4", [pixels], 25)


def test_watching_what_another_sends(client, sample):
    done = threading.Event()
    sent = client.stream((sample for _ in iter(done.is_set, True)), name="watched", model="fast")
    sender = threading.Thread(target=lambda: [None for _ in sent])
    sender.start()
    try:
        while not any(live.stream == "watched" for live in client.streams()):
            pass
        frames = list(itertools.islice(client.watch("watched", want="both"), 3))
        assert all(frame.persons and frame.picture.startswith(b"\xff\xd8") for frame in frames)
        assert [frame.picture for frame in itertools.islice(client.watch("watched"), 1)] == [None]
    finally:
        done.set()
        sender.join()
    with pytest.raises(SessionError, match="no_stream"):
        next(iter(client.watch("nobody")))
    with pytest.raises(SessionError, match="letters"):
        next(iter(client.watch("a b/c")))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ConnectionLost, match="cannot be reached.*cloudpose serve"):
        next(iter(Client(nobody).watch("door", reconnect_for=30)))


def test_events_of_streams_by_name(server, client, sample):
    events = client.events("door-*", nats=server.nats)
    seen = []
    listener = threading.Thread(target=lambda: seen.extend(itertools.islice(events, 2)))
    listener.start()
    while listener.is_alive():
        for name in ["window-1", "door-1", "door-2"]:
            list(client.stream([sample], name=name))
    assert {event.stream for event in seen} <= {"door-1", "door-2"} and all(event.persons for event in seen)
    assert client.events("cam", tenant="acme").subjects == [
        "cloudpose.tenants.acme.poses.cam",
        "cloudpose.tenants.acme.classes.cam",
    ]
    assert client.events("cam", prefix="edge").subjects == ["edge.poses.cam", "edge.classes.cam"]


def test_events_that_cannot_come_say_why(client, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"nats://joe:secret@127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ConnectionLost, match=r"nats://127\.0\.0\.1:\d+ cannot be reached.*call failed.*--nats"):
        next(iter(client.events(nats=nobody)))
    users = tmp_path / "users.conf"
    users.write_text("""authorization { users: [
        { user: deaf, password: word, permissions: { subscribe: { deny: "cloudpose.>" } } }
    ] }""")
    with Processes() as processes:
        nats = processes.nats(tmp_path, config=users)
        for user, why in [("deaf:wrong", "asks for a user"), ("deaf:word", "does not let this user listen")]:
            with pytest.raises(CloudPoseError, match=why):
                next(iter(client.events(nats=nats.replace("//", f"//{user}@"))))


def test_sessions_that_the_server_ends_begin_anew():
    """A server that hints, and goes away with each word that it has for that."""
    words = ["shutting_down", "slow_reader", "idle_timeout", "unavailable"]
    limits = {"max_image_bytes": 1, "max_image_pixels": 1, "window": 2, "max_age_ms": 1}

    def session(socket):
        socket.send(json.dumps({"type": "hello", "stream": "s", "limits": limits}))
        seq = 0
        for data in socket:
            if data == '{"type":"end"}':
                return
            if isinstance(data, str):
                continue
            seq += 1
            socket.send('{"type":"hint","fps":1000}')
            if words:
                socket.send(json.dumps({"type": "error", "code": words.pop(), "message": "m"}))
                return
            socket.send(json.dumps({"type": "result", "seq": seq, "latency_ms": 1, "overlay": False, "dropped": {}}))

    with serve(session, "127.0.0.1", 0) as going:
        threading.Thread(target=going.serve_forever, daemon=True).start()
        client = Client("http://127.0.0.1:%d" % going.socket.getsockname()[1])
        frames = [frame.number for frame in client.stream([b"a", b"b", b"c"])]
        assert frames == [1, 2, 3] and words == []
        going.shutdown()


def test_pace_follows_hints_and_eases():
    pace = Pace()
    pace.sent(10.0)
    assert pace.wait(10.0) == 0
    pace.hint(4, 10.0)
    pace.sent(10.0)
    assert pace.wait(10.0) == 0.25 and pace.wait(10.2) == pytest.approx(0.05) and pace.wait(11) == 0
    pace.sent(16.0)
    assert pace.wait(16.0) == pytest.approx(0.225)


def test_retries_wait_longer_and_end():
    retries = Retries(patience=10)
    waits = [retries.wait(Lost("gone"), now=0, chance=1) for _ in range(4)]
    assert waits == [0.5, 1, 2, 4]
    with pytest.raises(ConnectionLost, match="gone"):
        retries.wait(Lost("gone"), now=5, chance=1)
    retries.worked()
    assert retries.wait(Problem(503, "t", "full", ""), now=99, chance=0) == 0.25
    for final in [Problem(403, "t", "no", ""), SessionError("bad_query", "")]:
        with pytest.raises(type(final)):
            retries.wait(final)
