"""Streams with the Python client, against a running server."""

import asyncio
import itertools
import json
import pickle
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager

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


@contextmanager
def going(session, **options):
    """A server of ours, by its port; `session` is called with each connection."""
    with serve(session, "127.0.0.1", 0, **options) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


def hello(socket):
    limits = {"max_image_bytes": 1, "max_image_pixels": 1, "window": 2, "max_age_ms": 1}
    socket.send(json.dumps({"type": "hello", "stream": "s", "limits": limits}))


def result(socket, seq):
    socket.send(json.dumps({"type": "result", "seq": seq, "latency_ms": 1, "overlay": False, "dropped": {}, "lost": 0}))


def error(socket, code):
    socket.send(json.dumps({"type": "error", "code": code, "message": "m"}))


def answer(socket):
    """A session of somebody who sends, without anybody in the frames."""
    hello(socket)
    seq = 0
    for data in socket:
        if data == '{"type":"end"}':
            return
        if isinstance(data, bytes):
            result(socket, seq := seq + 1)


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


@pytest.mark.parametrize("way_out", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_would_end_a_loop_comes_to_the_caller_too(way_out):
    def camera():
        yield b"a"
        raise way_out("enough") from OSError("unplugged")

    async def asynchronous():
        for image in camera():
            yield image

    async def over(source):
        [seen.append(frame.number) async for frame in Client(url).stream(source)]

    loops = [
        lambda: [seen.append(frame.number) for frame in Client(url).stream(camera())],
        lambda: [seen.append(frame.number) for frame in Client(url).stream(asynchronous())],
        lambda: asyncio.run(over(camera())),
        lambda: asyncio.run(over(asynchronous())),
    ]

    def call(loop):
        try:
            loop()
        except BaseException as raised:
            seen.append(raised)

    with going(answer) as port:
        url = f"http://127.0.0.1:{port}"
        for loop in loops:
            seen = []
            thread = threading.Thread(target=call, args=(loop,), daemon=True)
            thread.start()
            thread.join(20)
            number, raised = seen
            assert number == 1 and type(raised) is way_out
            if way_out is not asyncio.CancelledError:
                assert isinstance(raised.__cause__, OSError)


def test_a_thread_streams_on_when_the_main_one_has_come_to_its_end():
    program = """
import sys, threading, time
from cloudpose import Client
begun = threading.Event()
def camera():
    yield b"a"
    begun.set()
    threading.main_thread().join()
    time.sleep(0.2)
    yield b"b"
def stream():
    client = Client(sys.argv[1])
    print([frame.number for frame in client.stream(camera())], flush=True)
    # Python 3.12 began no thread any more until 3.12.3.
    if not (3, 12) <= sys.version_info < (3, 12, 3):
        print([frame.number for frame in client.stream([b"a", b"b"])])
threading.Thread(target=stream).start()
begun.wait()
"""
    with going(answer) as port:
        # A name, which is looked up on a thread.
        command = [sys.executable, "-c", program, f"http://localhost:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.splitlines()) == {"[1, 2]"} and done.stderr == ""


def test_ending_a_plain_loop_leaves_no_thread(client, sample):
    before = set(threading.enumerate())
    list(client.stream([sample]))
    for _ in client.stream([sample, sample]):
        break
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert left <= {"cloudpose-source"}


def test_streams_and_watchers_come_by_https(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key, "-out", certificate]
    subprocess.run(made, check=True, capture_output=True)

    def session(socket):
        if not socket.request.path.startswith("/v1/streams/"):
            return answer(socket)
        result(socket, 7)
        error(socket, "no_stream")

    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(certificate, key)
    with going(session, ssl=secure) as port:
        url = f"https://localhost:{port}"
        with pytest.raises(ConnectionLost, match="certificate"):
            list(Client(url).stream([b"a"]))
        own = Client(url, ssl=ssl.create_default_context(cafile=certificate))
        assert [frame.number for frame in own.stream([b"a"])] == [1]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert [frame.number for frame in Client(url).stream([b"a", b"b"])] == [1, 2]
        assert [frame.seq for frame in Client(url).watch("door")] == [7]


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
    for fps in (0, -5, float("nan")):
        with pytest.raises(ValueError, match="more than 0 frames a second"):
            video.write(tmp_path / "a.mp4", [pixels], fps)
    for name in ("a.gif", "a.webm", "a", "a.txt"):
        with pytest.raises(CloudPoseError, match="cannot hold H.264.*suffix .mp4"):
            video.write(tmp_path / name, itertools.repeat(pixels), 25)
    with pytest.raises(TypeError, match=r"a Frame is no picture.*frame\.picture for frame"):
        video.write(tmp_path / "a.mp4", client.stream([sample], model="fast"), 25)
    missing = tmp_path / "missing.mp4"
    for ask in (video.fps, video.count, lambda path: next(video.read(path)), lambda path: list(client.stream(path))):
        with pytest.raises(FileNotFoundError, match="No such file.*missing.mp4"):
            ask(missing)


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


def test_watchers_wait_for_a_sender_who_comes_back_after_the_server():
    visits = itertools.count(1)

    def session(socket):
        visit = next(visits)
        if visit != 2:
            result(socket, visit)
        error(socket, "shutting_down" if visit == 1 else "no_stream")

    with going(session) as port:
        watch = Client(f"http://127.0.0.1:{port}").watch("door", reconnect_for=20)
        assert [frame.seq for frame in watch] == [1, 3] and next(visits) == 4


def test_watchers_of_a_sender_who_does_not_come_back_are_done():
    visits = itertools.count(1)

    def session(socket):
        if next(visits) == 1:
            result(socket, 1)
            error(socket, "shutting_down")
        else:
            error(socket, "no_stream")

    with going(session) as port:
        watch = Client(f"http://127.0.0.1:{port}").watch("door", reconnect_for=3)
        assert [frame.seq for frame in watch] == [1] and next(visits) > 3


def test_errors_go_from_one_process_to_another():
    for error in (Problem(404, "urn:t", "No", "use another"), SessionError("bad_query", "m"), ConnectionLost("gone")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


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
    for wrong in (None, "127.0.0.1:4222", "http://joe:secret@127.0.0.1:4222", "nats://a:4222,b:4222"):
        with pytest.raises(ValueError, match="write nats://host:4222") as refused:
            client.events(nats=wrong)
        assert "secret" not in str(refused.value)
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
