"""Cameras that the gateway fetches, of real servers: GStreamer's by RTSP, Python's by HTTP."""

import json
import re
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from exchange import SAMPLE, send
from processes import CLOUDPOSE, REPOSITORY, Processes

PATIENCE = 60
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """H.264 of our own, as cameras send it: without B-frames."""
    out = tmp_path_factory.mktemp("clip")
    source = REPOSITORY / "video/tests/clips/high_b_frames.mp4"
    subprocess.run([CLOUDPOSE, "detect", source, "-o", out, "--model", "fast"], check=True, capture_output=True)
    return out / source.name


class Rtsp:
    """A server that can be killed and started again at the same port."""

    def __init__(self, clip):
        self.clip, self.port, self.guarded, self.process = clip, "0", None, None
        self.start()

    def start(self):
        command = ["/usr/bin/python3", Path(__file__).with_name("rtsp.py"), self.clip, self.port]
        self.process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"serving RTSP on (\d+), guarded on (\d+)", line):
                self.port, self.guarded = found.groups()
                return
        raise RuntimeError("the RTSP server does not start; deploy/setup.sh test installs what it needs")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def url(self, path, user=""):
        return f"rtsp://{user}127.0.0.1:{self.guarded if user else self.port}{path}"


@pytest.fixture(scope="module")
def rtsp(clip):
    server = Rtsp(clip)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def gateway():
    with Processes() as processes:
        yield processes.gateway("serve", "--device", "cpu", "--camera-allow", "127.0.0.0/8")


def ask(gateway, method, path, body=None):
    status, _, answer = send(gateway, method, path, JSON, json.dumps(body).encode() if body is not None else b"")
    assert b"hunter" not in answer
    return status, json.loads(answer) if answer else None


def add(gateway, stream, url, **wishes):
    status, camera = ask(gateway, "POST", "/v1/cameras", {"stream": stream, "url": url} | wishes)
    assert status == 201, camera


def until(gateway, stream, is_so):
    deadline = time.monotonic() + PATIENCE
    while True:
        _, camera = ask(gateway, "GET", f"/v1/cameras/{stream}")
        if is_so(camera):
            return camera
        assert time.monotonic() < deadline, camera
        time.sleep(0.1)


def live(gateway, stream):
    until(gateway, stream, lambda camera: camera["state"] == "live" and "error" not in camera)


def trouble(gateway, stream, state, words):
    until(gateway, stream, lambda camera: camera["state"] == state and words in camera.get("error", ""))


def stream_of(gateway, name):
    """What is said of a stream once frames of it are done."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        _, listed = ask(gateway, "GET", "/v1/streams")
        for stream in listed["streams"]:
            if stream["stream"] == name and stream["fps"] > 0:
                return stream
        time.sleep(0.1)
    raise AssertionError(f"no frame of {name} was done")


@pytest.mark.parametrize(("name", "path", "user", "size"), [
    ("h264", "/h264", "", (272, 480)),
    ("guarded", "/guarded", "joe:hunter2@", (272, 480)),
    ("jpeg", "/jpeg", "", (320, 240)),
])
def test_rtsp_is_fetched_decoded_and_worked_on(gateway, rtsp, name, path, user, size):
    add(gateway, name, rtsp.url(path, user), fps=5)
    live(gateway, name)
    stream = stream_of(gateway, name)
    assert (stream["width"], stream["height"]) == size
    assert ask(gateway, "DELETE", f"/v1/cameras/{name}")[0] == 204


@pytest.mark.parametrize(("name", "path", "user", "state", "words"), [
    ("vp8", "/vp8", "", "error", "VP8, which is not decoded"),
    ("sound", "/sound", "", "error", "no video"),
    ("wrong", "/guarded", "joe:hunter3@", "error", "user or password"),
    ("nowhere", "/nowhere", "", "waiting", "404"),
])
def test_what_is_not_fetched_is_told(gateway, rtsp, name, path, user, state, words):
    add(gateway, name, rtsp.url(path, user))
    trouble(gateway, name, state, words)
    assert ask(gateway, "DELETE", f"/v1/cameras/{name}")[0] == 204


def test_a_killed_camera_is_back_when_it_is(gateway, rtsp):
    add(gateway, "back", rtsp.url("/h264"), fps=5)
    live(gateway, "back")
    rtsp.kill()
    trouble(gateway, "back", "waiting", "")
    rtsp.start()
    live(gateway, "back")
    assert ask(gateway, "DELETE", "/v1/cameras/back")[0] == 204


def test_motion_jpeg_is_watched_with_skeletons_on_it(gateway):
    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--myboundary")
            self.end_headers()
            while True:
                try:
                    self.wfile.write(b"--myboundary\r\nContent-Type: image/jpeg\r\n\r\n" + SAMPLE + b"\r\n")
                except OSError:
                    return
                time.sleep(0.1)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        add(gateway, "door", f"http://127.0.0.1:{server.server_port}/", model="fast", fps=5)
        stream_of(gateway, "door")
        host, port = gateway.address.split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as watched:
            watched.sendall(f"GET /v1/streams/door.mjpeg HTTP/1.1\r\nhost: {gateway.address}\r\n\r\n".encode())
            seen = b""
            while b"image/jpeg" not in seen or seen.count(b"\xff\xd8\xff") < 2:
                more = watched.recv(1 << 16)
                assert more, seen[:200]
                seen += more
        assert SAMPLE not in seen
        assert ask(gateway, "DELETE", "/v1/cameras/door")[0] == 204
        server.shutdown()
