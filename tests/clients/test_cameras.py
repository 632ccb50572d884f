"""Cameras with the Python client, against a running server that fetches one of ours."""

import asyncio
import http.server
import threading
import time

import pytest
from cloudpose import AsyncClient, Client, Problem
from conftest import REPOSITORY
from processes import Processes

SAMPLE = (REPOSITORY / "ingest/web/sample.jpg").read_bytes()


class Pictures(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(SAMPLE)))
        self.end_headers()
        self.wfile.write(SAMPLE)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    """Of a camera that gives single pictures, with a password."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as camera:
        threading.Thread(target=camera.serve_forever, daemon=True).start()
        yield f"http://joe:secret@127.0.0.1:{camera.server_port}/now.jpg"
        camera.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`cloudpose serve` that asks for keys, and has a camera of its command line."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    fixed = ["--camera", f"gate=file:{REPOSITORY / 'ingest/tests/images'}"]
    with Processes() as processes:
        made = {scope: processes.key(scope, keys) for scope in ["cameras,watch", "photo"]}
        options = ["--camera-allow", "127.0.0.1", *fixed]
        gateway = processes.gateway("serve", "--device", "cpu", "--keys", keys, *options)
        gateway.keys = made
        yield gateway


@pytest.fixture
def client(server):
    with Client(server.http, key=server.keys["cameras,watch"]) as client:
        yield client


def until(wanted, ask):
    end = time.monotonic() + 20
    while not wanted(told := ask()):
        assert time.monotonic() < end, told
        time.sleep(0.05)
    return told


def test_a_camera_is_fetched_watched_changed_and_deleted(client, url):
    added = client.cameras.add("door", url, model="lightning", fps=10)
    assert (added.stream, added.model, added.fps, added.want) == ("door", "lightning", 10, "pose")
    assert "joe:***@" in added.url and "secret" not in repr(added)
    live = until(lambda camera: camera.state == "live" and camera.received_fps > 0, lambda: client.cameras.status(added))
    assert live.error is None and not live.is_fixed
    for frame in client.watch("door", want="both"):
        assert (frame.pose.stream, frame.pose.width, frame.picture[:2]) == ("door", 804, b"\xff\xd8")
        break
    assert client.cameras.change("door", want="both").want == "both"
    assert client.cameras.change("door", model="fast").fps == 10
    changed = client.cameras.change("door", fps="all")
    assert (changed.fps, changed.model, changed.want) == (None, "fast", "both")
    assert [camera.stream for camera in client.cameras.list()][:1] == ["door"]
    client.cameras.delete(changed)
    assert "door" not in [camera.stream for camera in client.cameras.list()]


def test_asynchronous_programs_have_the_same(server, url):
    async def use():
        async with AsyncClient(server.http, key=server.keys["cameras,watch"]) as client:
            yard = await client.cameras.add("yard", url, fps=5, want="overlay")
            assert (await client.cameras.status("yard")).want == yard.want == "overlay"
            assert (await client.cameras.change(yard, fps=2)).fps == 2
            assert "yard" in [camera.stream for camera in await client.cameras.list()]
            await client.cameras.delete(yard)
            with pytest.raises(Problem) as gone:
                await client.cameras.status(yard)
            assert gone.value.status == 404

    asyncio.run(use())


def test_what_cannot_be_says_why(server, client, url):
    [gate] = [camera for camera in client.cameras.list() if camera.stream == "gate"]
    assert gate.is_fixed
    with pytest.raises(Problem, match="command line"):
        client.cameras.delete(gate)
    with pytest.raises(Problem, match="--camera-allow"):
        client.cameras.add("cellar", "http://10.0.0.1/")
    with pytest.raises(Problem) as unknown:
        client.cameras.status("a/b")
    assert unknown.value.status == 404
    with Client(server.http, key=server.keys["photo"]) as other, pytest.raises(Problem, match="cameras"):
        other.cameras.list()
