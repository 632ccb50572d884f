"""Photos with the Python client, against a running server."""

import asyncio
import contextlib
import http.server
import io
import json
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from cloudpose import AsyncClient, Client, ConnectionLost, Problem, draw, images
from PIL import Image


@pytest.fixture
def client(server):
    with Client(server.http) as client:
        yield client


def test_paths_bytes_and_pixels_find_the_same_people(client, sample):
    pixels = np.asarray(Image.open(sample))
    forms = [
        client.pose(str(sample), model="fast"),
        client.pose(sample, model="fast"),
        client.pose(sample.read_bytes(), model="fast"),
        client.pose(images._png(pixels), model="fast"),
        client.pose(pixels, model="fast"),
        client.pose(pixels[:, :, ::-1], model="fast", order="bgr"),
        client.pose(Image.open(sample), model="fast"),
    ]
    first = forms[0]
    assert (first.width, first.height, first.model, len(first.persons)) == (804, 1072, "fast", 3)
    for event in forms[1:]:
        assert len(event.persons) == 3
        for a, b in zip(first.persons, event.persons):
            assert np.hypot(a["left_hip"].x - b["left_hip"].x, a["left_hip"].y - b["left_hip"].y) < 8


def test_pixels_without_pillow_become_a_png_that_loses_nothing(sample):
    pixels = np.asarray(Image.open(sample))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(images._png(pixels)))), pixels)


def test_pixels_that_are_none_are_refused():
    for wrong in [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)]:
        with pytest.raises((TypeError, ValueError), match="make"):
            images.encode(wrong)
    with pytest.raises(ValueError, match="'bgr'"):
        images.encode(np.zeros((4, 4, 3), np.uint8), "gbr")
    grey = Image.open(io.BytesIO(images.encode(np.full((4, 5), 77, np.uint8))))
    assert grey.size == (5, 4) and grey.getpixel((0, 0)) == (77, 77, 77)


def test_other_calls(client, sample):
    picture = Image.open(io.BytesIO(client.annotate(sample, model="fast", draw="skeleton")))
    assert (picture.format, picture.size) == ("JPEG", (804, 1072))
    told = client.classify(sample, top=2)
    assert [told.classes[0].label, len(told.classes), told.persons] == ["balance beam, beam", 2, ()]
    models = {model.id: model for model in client.models()}
    assert models["fast"].skeleton.limbs[0] == ("nose", "left_eye")
    assert models["efficientnet-lite0"].skeleton is None and len(models["efficientnet-lite0"].labels) == 1000
    assert all(stream.stream for stream in client.streams())


def test_drawing_is_where_the_joints_are(client, sample):
    pixels = np.asarray(Image.open(sample))
    event = client.pose(pixels, model="fast")
    drawn = draw(pixels, event)
    assert drawn.shape == pixels.shape and not np.array_equal(drawn, pixels)
    hip = event.persons[0]["left_hip"]
    assert tuple(drawn[round(hip.y), round(hip.x)]) == (86, 180, 233)
    half = draw(np.ascontiguousarray(pixels[::2, ::2]), event, order="bgr")
    assert tuple(half[round(hip.y / 2), round(hip.x / 2)]) == (233, 180, 86)
    assert np.array_equal(draw(pixels, event, min_score=1.1), pixels)


def test_drawing_takes_what_pose_takes(client, sample):
    opened = Image.open(sample)
    event = client.pose(opened, model="fast")
    expected = draw(np.asarray(opened), event)
    for image in (sample, str(sample), sample.read_bytes(), opened):
        assert np.array_equal(draw(image, event), expected)
    assert np.array_equal(draw(sample, event, order="bgr"), expected[:, :, ::-1])
    assert np.array_equal(draw(sample, None), np.asarray(opened)), "of a frame that was dropped"
    grey = draw(np.zeros((1072, 804), np.uint8), event)
    assert grey.shape == (1072, 804, 3) and grey.any()


def test_drawing_turns_files_as_the_server_does(client, sample):
    upright = Image.open(sample)
    lying = io.BytesIO()
    exif = Image.Exif()
    # To be turned by a quarter, clockwise.
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(lying, "JPEG", quality=95, exif=exif)
    event = client.pose(lying.getvalue(), model="fast")
    drawn = draw(lying.getvalue(), event)
    assert (event.width, event.height) == (804, 1072) == drawn.shape[1::-1]
    assert np.abs(drawn - draw(upright, event).astype(int)).mean() < 4


def test_drawing_says_what_is_wrong(client, sample):
    [frame] = client.stream([sample], model="fast")
    with pytest.raises(TypeError, match=r"a Frame is no event; write draw\(frame.image, frame.pose\)"):
        draw(frame.image, frame)
    with pytest.raises(TypeError, match="a list is no image"):
        draw([sample], frame.pose)
    program = """
import sys
sys.modules[sys.argv[1]] = None
from cloudpose import PoseEvent, draw
said = {"stream": "s", "seq": 1, "captured_at": 0, "width": 1, "height": 1, "model": "m", "device": "d"}
try: draw(sys.argv[2], PoseEvent.read(said))
except Exception as error: print(type(error).__name__, error)
"""
    for missing, needs in [("numpy", "drawing needs NumPy"), ("PIL", "reading image files needs Pillow")]:
        command = [sys.executable, "-c", program, missing, sample]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout == f"CloudPoseError {needs}: pip install 'cloudpose[video]'\n", done.stderr


@contextlib.contextmanager
def server_of(serve):
    """A server that leaves each connection to `serve`, and closes it then. Gives its address."""

    def work():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=work, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_kept_connection_that_the_server_has_closed_is_no_failure():
    """The server closes each connection when a second request comes on it."""

    def serve(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"models\":[]}")
        connection.recv(65536)

    async def asynchronous(url):
        async with AsyncClient(url) as client:
            return [await client.models() for _ in range(3)]

    with server_of(serve) as url:
        with Client(url) as client:
            assert [client.models() for _ in range(3)] == [[], [], []]
        assert asyncio.run(asynchronous(url)) == [[], [], []]


def test_what_changes_something_is_asked_once():
    """The server reads each request, and closes the connection."""
    asked = []

    def serve(connection):
        asked.append(connection.recv(65536).split(b" HTTP")[0].decode())

    with server_of(serve) as url, Client(url) as client:
        changing = [
            lambda: client.cameras.add("door", "rtsp://camera"),
            lambda: client.cameras.delete("door"),
            lambda: client.jobs.call_again("j1"),
            lambda: client.jobs.delete("j1"),
        ]
        for call in changing:
            with pytest.raises(ConnectionLost, match="may be done"):
                call()
        assert asked == ["POST /v1/cameras", "DELETE /v1/cameras/door", "POST /v1/jobs/j1/callback", "DELETE /v1/jobs/j1"]
        with pytest.raises(ConnectionLost):
            client.cameras.list()
        assert asked[4:] == ["GET /v1/cameras"] * 2


def test_problems_say_what_to_do(client, sample):
    with pytest.raises(Problem, match="use one of fast, balanced") as refused:
        client.pose(sample, model="yolo")
    assert (refused.value.status, refused.value.type) == (404, "urn:cloudpose:problem:unknown-model")
    with pytest.raises(Problem, match="cannot be read"):
        client.pose(b"no image")
    with pytest.raises(ConnectionLost, match="cannot be reached"):
        Client("http://127.0.0.1:1").models()
    with pytest.raises(ValueError, match="http://host:port"):
        Client("127.0.0.1:60000")
    with pytest.raises(TypeError, match="a NoneType is no address.*http://host:port"):
        Client(None)


def test_keys(locked, sample):
    with pytest.raises(Problem) as refused:
        Client(locked.http).pose(sample)
    assert refused.value.status == 401
    assert Client(locked.http, key=locked.keys["photo"]).pose(sample, model="fast").persons
    with pytest.raises(Problem) as refused:
        list(Client(locked.http, key=locked.keys["photo"]).stream([sample]))
    assert (refused.value.status, refused.value.type) == (403, "urn:cloudpose:problem:forbidden")
    assert [f.persons != () for f in Client(locked.http, key=locked.keys["stream"]).stream([sample])] == [True]


def test_keys_from_files_work_and_broken_ones_are_not_shown(locked, sample):
    key = locked.keys["photo"]
    assert Client(locked.http, key=f" {key}\r\n").pose(sample, model="fast").persons
    for wrong in ["", " \n", "cpk_sec\nret", "cpk_sécret", "cpk_sec\x7fret"]:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match="the key") as refused:
                kind(locked.http, key=wrong)
            assert "cpk_" not in str(refused.value)
    with pytest.raises(ValueError, match="http://host:port") as refused:
        Client(key)
    assert key not in str(refused.value) and key not in repr(Client(locked.http, key=key)._server)


def test_asynchronous_calls(server, sample):
    async def calls():
        async with AsyncClient(server.http) as client:
            events = await asyncio.gather(*(client.pose(sample, model="fast") for _ in range(3)))
            picture = await client.annotate(sample, model="fast")
            told = await client.classify(sample, top=1)
            return events, picture, told, await client.models(), await client.streams()

    events, picture, told, models, _ = asyncio.run(calls())
    assert [len(event.persons) for event in events] == [3, 3, 3]
    assert picture.startswith(b"\xff\xd8") and len(told.classes) == 1 and len(models) == 7


class Full(http.server.BaseHTTPRequestHandler):
    """A server that has room at the third attempt."""

    calls = 0

    def do_GET(self):
        Full.calls += 1
        full = Full.calls < 3
        # No room, then no time.
        status = 200 if not full else 503 if Full.calls == 1 else 504
        body = json.dumps({"type": "t", "title": "full", "status": status} if full else {"models": []}).encode()
        self.send_response(status)
        self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_calls_are_made_again_when_the_server_says():
    with http.server.HTTPServer(("127.0.0.1", 0), Full) as full:
        threading.Thread(target=full.serve_forever, daemon=True).start()
        url = "http://127.0.0.1:%d" % full.server_port
        with pytest.raises(Problem, match="full"):
            Client(url, retries=0).models()
        assert Client(url).models() == [] and Full.calls == 3
        Full.calls = 0
        assert asyncio.run(AsyncClient(url).models()) == []
        full.shutdown()


def test_nothing_but_httpx_and_websockets_is_needed(server, sample):
    without = "numpy PIL av nats supervision pandas".split()
    program = f"""
import sys
for name in {without!r}: sys.modules[name] = None
from cloudpose import Client
client = Client({server.http!r})
photo = {str(sample)!r}
print(len(client.pose(photo, model="fast").persons), len(next(iter(client.stream([photo]))).persons))
try: next(iter(client.stream("clip.mp4")))
except Exception as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "3 3\nvideos need PyAV, NumPy and Pillow: pip install 'cloudpose[video]'\n", done.stderr
