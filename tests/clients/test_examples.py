"""The examples, as they are."""

import subprocess
import sys
import threading

import nbformat
import pytest
from cloudpose import Client
from conftest import REPOSITORY
from nbclient import NotebookClient

EXAMPLES = REPOSITORY / "clients/python/examples"


@pytest.fixture
def run(tmp_path):
    def run(name, *arguments):
        command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def sending(server, sample):
    """Somebody sends the stream `door-1`, over and over."""
    done = threading.Event()
    stream = Client(server.http).stream((sample for _ in iter(done.is_set, True)), name="door-1", model="fast")
    sender = threading.Thread(target=lambda: [None for _ in stream])
    sender.start()
    while not any(live.stream == "door-1" for live in Client(server.http).streams()):
        pass
    yield
    done.set()
    sender.join()


def test_photo(server, run, sample, tmp_path):
    assert len(run("photo.py", sample, server.http).splitlines()) == 3
    assert (tmp_path / "annotated.jpg").read_bytes().startswith(b"\xff\xd8")


def test_clip(server, run, clip, tmp_path):
    assert run("clip.py", clip, server.http) == "24 frames\n"
    assert (tmp_path / "annotated.mp4").stat().st_size > 10_000


def test_camera(server, run, clip):
    assert "tracks" in run("camera.py", clip, server.http)


def test_watch(server, run, sending, tmp_path):
    assert "door-1" in run("watch.py", "door-1", 2, server.http)
    assert len(list(tmp_path.glob("door-1-*.jpg"))) == 2


def test_listen(server, run, sending, tmp_path):
    assert run("listen.py", "door-*", 2, server.nats) == "6 people in 2 events\n"
    assert (tmp_path / "poses.csv").read_text().count("nose") == 6


def test_notebook(server, monkeypatch):
    monkeypatch.setenv("CLOUDPOSE_URL", server.http)
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    kept = [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert any("left_eye" in output.get("data", {}).get("text/plain", "") for output in outputs)
    assert sum(kept) >= 5, "the notebook is kept with its pictures"
